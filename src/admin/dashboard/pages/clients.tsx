/** Connected clients, filtered by the broker. */
import type { Client } from "#admin/dashboard/answers.ts";
import { ask, at, may } from "#admin/dashboard/api.ts";
import { useCell } from "#admin/dashboard/cell.ts";
import { askSure } from "#admin/dashboard/dialogs.tsx";
import { latest } from "#admin/dashboard/feed.ts";
import { askSorted, type Column, List, sortField, useFilters, useRows } from "#admin/dashboard/list.tsx";
import { act, Button, PageHead } from "#admin/dashboard/parts.tsx";
import { hrefOf } from "#admin/dashboard/route.ts";
import { duration, number, t } from "#admin/dashboard/words.ts";

const VERSIONS: Readonly<Record<number, string>> = { 3: "3.1", 4: "3.1.1", 5: "5.0" };

export function versionOf(version: number): string {
  return VERSIONS[version] ?? String(version);
}

export function ClientLink({ clientId }: { clientId: string }) {
  return (
    <a class="id" href={hrefOf("clients", clientId)} title={clientId}>
      {clientId}
    </a>
  );
}

export function askKick(clientId: string, then: () => unknown): void {
  askSure(t("kickTitle"), t("kickText", { clientId }), t("kick"), async () => {
    if (await act(ask("DELETE", at("clients", clientId)), t("kicked", { clientId }))) await then();
  });
}

export function ClientsPage() {
  const connections = useCell(latest)?.stats.connections.value;
  const { values, bar, key } = useFilters([
    { name: "clientIdContains", label: t("clientIdContains") },
    { name: "username", label: t("username") },
    { name: "address", label: t("address") },
    { name: "version", label: t("anyVersion"), options: Object.entries(VERSIONS) },
    sortField("queuedCount", "unsentBytes", "droppedCount", "subscriptionCount", "connectedAtSec"),
  ]);
  const rows = useRows((page) => askSorted<Client>("clients", values, page), key);
  const columns: Column<Client>[] = [
    { title: t("clientId"), cell: ({ clientId }) => <ClientLink clientId={clientId} />, share: 5 },
    {
      title: t("username"),
      cell: ({ username }) => <span title={username}>{username ?? "–"}</span>,
      share: 3,
      isWide: true,
    },
    {
      title: t("address"),
      cell: ({ address, port }) => <span class="mono">{address ? `${address}:${port}` : "–"}</span>,
      share: 3,
      isWide: true,
    },
    { title: t("listener"), cell: ({ listener }) => listener, isWide: true },
    { title: "MQTT", cell: ({ version }) => versionOf(version), share: 1.5, isWide: true },
    { title: t("connectedFor"), cell: (row) => sinceOf(row.connectedAtSec), share: 2.5, isNumber: true, isWide: true },
    { title: t("queued"), cell: ({ queuedCount }) => number(queuedCount), isNumber: true },
  ];
  if (may("operator"))
    columns.push({
      title: t("actions"),
      share: 3,
      cell: ({ clientId }) => (
        <Button kind="quiet" label={t("kickOne", { clientId })} onClick={() => askKick(clientId, () => rows.reload())}>
          {t("kick")}
        </Button>
      ),
    });
  return (
    <>
      <PageHead
        title={t("clients")}
        about={connections === undefined ? undefined : t("connectedNow", { count: number(connections) })}
      >
        <Button onClick={() => rows.reload()}>{t("refresh")}</Button>
      </PageHead>
      {bar}
      <List
        label={t("clients")}
        of={rows}
        columns={columns}
        keyOf={({ clientId }) => clientId}
        empty={{ title: t("noClients"), text: t("noClientsText") }}
      />
    </>
  );
}

/** By the broker's clock as the last overview told it: the browser's may differ. */
export function sinceOf(sec: number): string {
  return duration(Math.max(0, (latest.value?.info.nowSec ?? Date.now() / 1000) - sec));
}
