/** Subscriptions of all clients. */
import type { Page, Subscription } from "#admin/dashboard/answers.ts";
import { ask } from "#admin/dashboard/api.ts";
import { List, useFilters, useRows } from "#admin/dashboard/list.tsx";
import { Button, PageHead } from "#admin/dashboard/parts.tsx";
import { t } from "#admin/dashboard/words.ts";
import { ClientLink } from "./clients.tsx";

export const qosOptions: readonly (readonly [string, string])[] = ["0", "1", "2"].map((qos) => [qos, `QoS ${qos}`]);

export function SubscriptionsPage() {
  const { values, bar, key } = useFilters([
    { name: "filterContains", label: t("filterContains") },
    { name: "clientIdPrefix", label: t("clientIdPrefix") },
    { name: "qos", label: t("anyQos"), options: qosOptions },
  ]);
  const rows = useRows((page) => ask<Page<Subscription>>("GET", "/subscriptions", { ...values, ...page }), key);
  return (
    <>
      <PageHead title={t("subscriptions")} about={t("subscriptionsAbout")}>
        <Button onClick={() => rows.reload()}>{t("refresh")}</Button>
      </PageHead>
      {bar}
      <List
        label={t("subscriptions")}
        of={rows}
        keyOf={({ clientId, filter }) => `${clientId}\n${filter}`}
        empty={{ title: t("noSubscriptions"), text: t("noSubscriptionsText") }}
        columns={[
          {
            title: t("filter"),
            cell: ({ filter }) => (
              <span class="id" title={filter}>
                {filter}
              </span>
            ),
            share: 4,
          },
          { title: t("clientId"), cell: ({ clientId }) => <ClientLink clientId={clientId} />, share: 3 },
          { title: "QoS", cell: ({ qos }) => qos, isNumber: true, share: 1 },
          { title: t("noLocal"), cell: ({ noLocal }) => t(noLocal ? "yes" : "no"), isWide: true },
          { title: t("retainAsPublished"), cell: (row) => t(row.retainAsPublished ? "yes" : "no"), isWide: true },
          { title: t("retainHandling"), cell: ({ retainHandling }) => retainHandling, isNumber: true, isWide: true },
        ]}
      />
    </>
  );
}
