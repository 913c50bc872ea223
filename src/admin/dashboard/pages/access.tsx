/** Who may come in and what they may do: backends with their health, users, client ids, rules, bans. */
import type { Access, Ban, Page } from "#admin/dashboard/answers.ts";
import { ask, may } from "#admin/dashboard/api.ts";
import { askForm, askSure } from "#admin/dashboard/dialogs.tsx";
import { type Column, List, useRows } from "#admin/dashboard/list.tsx";
import { notify } from "#admin/dashboard/notices.tsx";
import {
  act,
  Badge,
  Button,
  Empty,
  PageHead,
  Section,
  Show,
  Tabs,
  type Tone,
  useLoaded,
} from "#admin/dashboard/parts.tsx";
import { hrefOf, type Route } from "#admin/dashboard/route.ts";
import { named, number, t, time } from "#admin/dashboard/words.ts";
import { RulesPage } from "./access-rules.tsx";
import { ClientIds, Users } from "./access-table.tsx";

const views = {
  backends: { title: "backends", role: "viewer", view: Backends },
  users: { title: "users", role: "administrator", view: Users },
  "client-ids": { title: "clientIds", role: "administrator", view: ClientIds },
  rules: { title: "rules", role: "administrator", view: RulesPage },
  bans: { title: "bans", role: "viewer", view: Bans },
} as const;

export function AccessPage({ route: [, name = "backends"] }: { route: Route }) {
  const chosen = Object.entries(views).find(([each, { role }]) => each === name && may(role))?.[1] ?? views.backends;
  const tabs = Object.entries(views)
    .filter(([, { role }]) => may(role))
    .map(([each, view]) => ({ href: hrefOf("access", each), title: t(view.title), isHere: view === chosen }));
  return (
    <>
      <PageHead title={t("access")} about={t("accessAbout")} />
      <Tabs label={t("access")} tabs={tabs} />
      <chosen.view key={chosen.title} />
    </>
  );
}

const tones: Readonly<Record<string, Tone>> = { up: "good", degraded: "warn", down: "bad" };

function Backends() {
  const access = useLoaded(() => ask<Access>("GET", "/access"));
  return (
    <>
      <Section title={t("backends")} actions={<Button onClick={access.reload}>{t("refresh")}</Button>}>
        <Show of={access}>
          {({ backends, counts }) => (
            <>
              {backends.length === 0 ? (
                <Empty title={t("noBackends")}>{t("noBackendsText")}</Empty>
              ) : (
                <ul class="entries">
                  {backends.map(({ name, type, state, detail, counts: own }) => (
                    <li key={name}>
                      <div>
                        <h3>
                          {name}{" "}
                          <Badge tone={tones[state ?? "up"] ?? "warn"}>
                            {state ? named("state", state) : t("cannotFail")}
                          </Badge>
                        </h3>
                        <p class="about">{[type === name ? "" : type, detail].filter(Boolean).join(" · ")}</p>
                      </div>
                      <Counts of={own} />
                    </li>
                  ))}
                </ul>
              )}
              <Section title={t("counted")}>
                <Counts of={counts} />
              </Section>
            </>
          )}
        </Show>
      </Section>
    </>
  );
}

function Counts({ of }: { of: Readonly<Record<string, number>> }) {
  return (
    <dl class="counts">
      {Object.entries(of).map(([name, count]) => (
        <div key={name}>
          <dt>{named("count", name)}</dt>
          <dd>{number(count)}</dd>
        </div>
      ))}
    </dl>
  );
}

const kinds = ["clientId", "username", "address"] as const;

export function askBan(first: { kind: string; value: string }, then: () => unknown): void {
  askForm({
    title: t("ban"),
    text: t("banText"),
    fields: [
      {
        name: "kind",
        label: t("kind"),
        type: "select",
        value: first.kind,
        options: kinds.map((kind) => [kind, t(kind)]),
      },
      { name: "value", label: t("value"), value: first.value, hint: t("banValueHint") },
      { name: "until", label: t("until"), type: "datetime-local", isOptional: true, hint: t("untilHint") },
      { name: "reason", label: t("reason"), isOptional: true },
    ],
    action: t("ban"),
    isDanger: true,
    async run({ until = "", ...wish }) {
      const untilSec = until === "" ? undefined : Math.floor(Date.parse(until) / 1000);
      await ask("PUT", "/bans", { ...wish, untilSec });
      notify(t("banned", { value: wish["value"] ?? "" }));
      await then();
    },
  });
}

function Bans() {
  const rows = useRows((page) => ask<Page<Ban>>("GET", "/bans", page), "");
  const lift = ({ kind, value }: Ban): void =>
    askSure(t("liftBan"), t("liftBanText", { value }), t("lift"), async () => {
      if (await act(ask("DELETE", "/bans", { kind, value }), t("lifted", { value }))) await rows.reload();
    });
  const columns: Column<Ban>[] = [
    { title: t("kind"), cell: ({ kind }) => t(kind) },
    { title: t("value"), cell: ({ value }) => <span class="id">{value}</span>, share: 4 },
    {
      title: t("until"),
      cell: ({ untilSec }) => (untilSec === undefined ? t("forGood") : time(untilSec * 1000)),
      isWide: true,
      share: 2.5,
    },
    { title: t("reason"), cell: ({ reason }) => <span title={reason}>{reason || "–"}</span>, isWide: true, share: 4 },
  ];
  if (may("operator"))
    columns.push({
      title: t("actions"),
      share: 1.5,
      cell: (ban) => (
        <Button kind="quiet" label={t("liftOne", { value: ban.value })} onClick={() => lift(ban)}>
          {t("lift")}
        </Button>
      ),
    });
  return (
    <Section
      title={t("bans")}
      actions={
        may("operator") && (
          <Button kind="primary" onClick={() => askBan({ kind: "clientId", value: "" }, rows.reload)}>
            {t("addBan")}
          </Button>
        )
      }
    >
      <List
        label={t("bans")}
        of={rows}
        keyOf={({ kind, value }) => `${kind} ${value}`}
        empty={{ title: t("noBans"), text: t("noBansText") }}
        columns={columns}
      />
    </Section>
  );
}
