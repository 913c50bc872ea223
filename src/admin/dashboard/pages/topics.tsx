/** Topics and filters that somebody is subscribed to: where messages would go. */
import type { Page, Topic } from "#admin/dashboard/answers.ts";
import { ask } from "#admin/dashboard/api.ts";
import { List, useFilters, useRows } from "#admin/dashboard/list.tsx";
import { Button, PageHead } from "#admin/dashboard/parts.tsx";
import { number, t } from "#admin/dashboard/words.ts";

export function TopicsPage() {
  const { values, bar, key } = useFilters([{ name: "filterContains", label: t("filterContains") }]);
  const rows = useRows((page) => ask<Page<Topic>>("GET", "/topics", { ...values, ...page }), key);
  return (
    <>
      <PageHead title={t("topics")} about={t("topicsAbout")}>
        <Button onClick={() => rows.reload()}>{t("refresh")}</Button>
      </PageHead>
      {bar}
      <List
        label={t("topics")}
        of={rows}
        keyOf={({ filter, node }) => `${node}\n${filter}`}
        empty={{ title: t("noTopics"), text: t("noTopicsText") }}
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
          { title: t("node"), cell: ({ node }) => <span class="mono">{node}</span>, isWide: true },
          { title: t("subscribers"), cell: (row) => number(row.subscriberCount), isNumber: true, share: 1.5 },
        ]}
      />
    </>
  );
}
