/** Who did what, when, from where, with what outcome. */
import type { Page } from "#admin/dashboard/answers.ts";
import { ask } from "#admin/dashboard/api.ts";
import { showText } from "#admin/dashboard/dialogs.tsx";
import { List, useRows } from "#admin/dashboard/list.tsx";
import { Badge, Button, Facts, PageHead } from "#admin/dashboard/parts.tsx";
import { t, time } from "#admin/dashboard/words.ts";

interface AuditRow {
  readonly seq: number;
  readonly atMs: number;
  readonly who: string;
  readonly way: string;
  readonly address: string;
  readonly action: string;
  readonly target: string;
  readonly outcome: number;
}

const OK = 200;

export function AuditPage() {
  const rows = useRows((page) => ask<Page<AuditRow>>("GET", "/audit", page), "");
  return (
    <>
      <PageHead title={t("audit")} about={t("auditAbout")}>
        <Button onClick={() => rows.reload()}>{t("refresh")}</Button>
      </PageHead>
      <List
        label={t("audit")}
        isSideways
        of={rows}
        keyOf={({ seq }) => String(seq)}
        empty={{ title: t("noAudit") }}
        columns={[
          {
            title: t("when"),
            share: 3.5,
            cell: (row) => (
              <button type="button" class="link" onClick={() => show(row)}>
                {time(row.atMs)}
              </button>
            ),
          },
          { title: t("who"), cell: ({ who }) => who || "–" },
          { title: t("address"), cell: ({ address }) => <span class="mono">{address || "–"}</span> },
          {
            title: t("action"),
            cell: ({ action }) => (
              <span class="mono" title={action}>
                {action}
              </span>
            ),
            share: 5,
          },
          {
            title: t("outcome"),
            share: 1.5,
            cell: ({ outcome }) => <Badge tone={outcome === OK ? "good" : "bad"}>{outcome}</Badge>,
          },
        ]}
      />
    </>
  );
}

function show(row: AuditRow): void {
  showText(
    t("audit"),
    <Facts
      rows={[
        [t("when"), time(row.atMs)],
        [t("who"), `${row.who || "–"} (${row.way})`],
        [t("address"), row.address || "–"],
        [t("action"), <span class="mono">{row.action}</span>],
        [t("target"), <span class="mono">{row.target}</span>],
        [t("outcome"), row.outcome],
      ]}
    />,
  );
}
