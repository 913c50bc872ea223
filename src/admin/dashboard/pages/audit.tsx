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
            cell: (row) => (
              <span class="mono" title={actionOf(row)}>
                {actionOf(row)}
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

/** With the names that the path had, where the target is not too long to tell. */
function actionOf({ action, target }: AuditRow): string {
  let given: Readonly<Record<string, unknown>>;
  try {
    given = JSON.parse(target) as typeof given;
  } catch {
    return action;
  }
  return action.replaceAll(/\{(\w+)\}/g, (all, name: string) =>
    typeof given[name] === "string" ? encodeURIComponent(given[name]) : all,
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
        [t("action"), <span class="mono">{actionOf(row)}</span>],
        [t("target"), <span class="mono">{row.target}</span>],
        [t("outcome"), row.outcome],
      ]}
    />,
  );
}
