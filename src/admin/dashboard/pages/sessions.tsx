/** Sessions, of clients connected or away, with what waits for them. */
import type { SessionRow } from "#admin/dashboard/answers.ts";
import { useCell } from "#admin/dashboard/cell.ts";
import { latest } from "#admin/dashboard/feed.ts";
import { askSorted, List, sortField, useFilters, useRows } from "#admin/dashboard/list.tsx";
import { Badge, Button, PageHead } from "#admin/dashboard/parts.tsx";
import { bytes, number, t } from "#admin/dashboard/words.ts";
import { ClientLink } from "./clients.tsx";

export function SessionsPage() {
  const count = useCell(latest)?.stats.sessions.value;
  const { values, bar, key } = useFilters([
    { name: "clientIdContains", label: t("clientIdContains") },
    {
      name: "isConnected",
      label: t("anyState"),
      options: [
        ["true", t("connected")],
        ["false", t("away")],
      ],
    },
    {
      name: "queuedCountMin",
      label: t("anyQueue"),
      options: [1, 100, 10_000].map((least) => [String(least), t("queueAtLeast", { count: number(least) })]),
    },
    sortField("queuedCount", "queuedBytes", "inflightCount", "droppedCount", "subscriptionCount", "createdAtSec"),
  ]);
  const rows = useRows((page) => askSorted<SessionRow>("sessions", values, page), key);
  return (
    <>
      <PageHead
        title={t("sessions")}
        about={count === undefined ? undefined : t("sessionsNow", { count: number(count) })}
      >
        <Button onClick={() => rows.reload()}>{t("refresh")}</Button>
      </PageHead>
      {bar}
      <List
        label={t("sessions")}
        of={rows}
        keyOf={({ clientId }) => clientId}
        empty={{ title: t("noSessions"), text: t("noSessionsText") }}
        columns={[
          { title: t("clientId"), cell: ({ clientId }) => <ClientLink clientId={clientId} />, share: 4 },
          {
            title: t("state"),
            cell: ({ isConnected }) => (
              <Badge tone={isConnected ? "good" : "calm"}>{t(isConnected ? "connected" : "away")}</Badge>
            ),
          },
          { title: t("subscriptions"), cell: (row) => number(row.subscriptionCount), isNumber: true, isWide: true },
          {
            title: t("inflight"),
            cell: ({ inflightCount }) => number(inflightCount),
            share: 1.5,
            isNumber: true,
            isWide: true,
          },
          { title: t("queued"), cell: ({ queuedCount }) => number(queuedCount), share: 1.5, isNumber: true },
          { title: t("queuedBytes"), cell: ({ queuedBytes }) => bytes(queuedBytes), isNumber: true, isWide: true },
          {
            title: t("dropped"),
            cell: ({ droppedCount }) => number(droppedCount),
            share: 1.5,
            isNumber: true,
            isWide: true,
          },
          { title: t("stored"), cell: ({ isStored }) => t(isStored ? "yes" : "no"), share: 1.5, isWide: true },
        ]}
      />
    </>
  );
}
