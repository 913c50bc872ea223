/** Access rules: the list of the built-in table, which is edited as a whole, and what the configuration says besides. */
import type { Access, ConfigValue, Rule, Rules } from "#admin/dashboard/answers.ts";
import { ask } from "#admin/dashboard/api.ts";
import { askForm, askSure, type Field, type Values } from "#admin/dashboard/dialogs.tsx";
import { Table } from "#admin/dashboard/list.tsx";
import { notify } from "#admin/dashboard/notices.tsx";
import { Badge, Button, Empty, messageOf, Section, Show, useLoaded } from "#admin/dashboard/parts.tsx";
import { named, originOf, t, type TextKey } from "#admin/dashboard/words.ts";

const BACKEND = "rule-table";
const conditions = ["user", "client", "address"] as const;
const labels = { user: "username", client: "clientId", address: "address" } as const satisfies Record<string, TextKey>;

export function RulesPage() {
  return (
    <>
      <RuleTable />
      <Configured />
    </>
  );
}

function RuleTable() {
  const list = useLoaded(() => ask<Rules>("GET", "/rules"));
  const access = useLoaded(() => ask<Access>("GET", "/access"));
  const rules = list.value?.rules ?? [];
  const isAsked = access.value?.backends.some(({ type }) => type === BACKEND) ?? true;
  const save = async (next: readonly Rule[]): Promise<void> => {
    await ask("PUT", "/rules", { rules: next, revision: list.value!.revision });
    notify(t("rulesSaved"));
    await list.reload();
  };
  const edit = (at: number): void =>
    askForm({
      title: t(at < rules.length ? "editRule" : "addRule"),
      text: t("ruleText"),
      fields: fieldsOf(rules[at] ?? { allow: "all" }),
      action: t("save"),
      run: (values) => save(rules.toSpliced(at, 1, ruleOf(values))),
    });
  const remove = (at: number): void =>
    askSure(t("deleteRule"), t("deleteRuleText", { number: at + 1 }), t("delete"), () => save(rules.toSpliced(at, 1)));
  const move = (at: number, to: number): Promise<void> => save(rules.toSpliced(at, 1).toSpliced(to, 0, rules[at]!));
  return (
    <Section
      title={t("ruleTable")}
      about={t("ruleTableAbout")}
      actions={
        <Button kind="primary" isDisabled={list.value === undefined} onClick={() => edit(rules.length)}>
          {t("addRule")}
        </Button>
      }
    >
      {!isAsked && (
        <div class="banner warn" role="note">
          <p>
            {t("rulesNotAsked")} <code>{`{ type: ${BACKEND} }`}</code>
          </p>
        </div>
      )}
      <Show of={list}>
        {() =>
          rules.length === 0 ? (
            <Empty title={t("noRules")}>{t("noRulesText")}</Empty>
          ) : (
            <Table
              label={t("ruleTable")}
              isSideways
              rows={rules.map((rule, at) => ({ rule, at }))}
              keyOf={({ at }) => String(at)}
              columns={[
                { title: t("number"), cell: ({ at }) => at + 1, isNumber: true, share: 1 },
                { title: t("rule"), cell: ({ rule }) => <Effect rule={rule} />, share: 4 },
                { title: t("forWhom"), cell: ({ rule }) => <Words text={whoOf(rule)} />, share: 4 },
                { title: t("topics"), cell: ({ rule }) => <Words text={topicsOf(rule)} />, share: 4 },
                {
                  title: t("actions"),
                  share: 5,
                  cell: ({ at }) => (
                    <RowActions at={at} count={rules.length} onEdit={edit} onMove={move} onRemove={remove} />
                  ),
                },
              ]}
            />
          )
        }
      </Show>
    </Section>
  );
}

function Words({ text }: { text: string }) {
  return (
    <span class="id" title={text}>
      {text}
    </span>
  );
}

function Effect({ rule }: { rule: Rule }) {
  const isAllow = rule.allow !== undefined;
  return (
    <>
      <Badge tone={isAllow ? "good" : "bad"}>{t(isAllow ? "allow" : "deny")}</Badge>{" "}
      {named("ruleAction", rule.allow ?? rule.deny ?? "")}
    </>
  );
}

interface RowActionsProps {
  readonly at: number;
  readonly count: number;
  onEdit(at: number): void;
  onMove(at: number, to: number): Promise<void>;
  onRemove(at: number): void;
}

function RowActions({ at, count, onEdit, onMove, onRemove }: RowActionsProps) {
  const number = at + 1;
  const shift = (to: number): Promise<void> =>
    onMove(at, to).catch((fault: unknown) => notify(messageOf(fault), "bad"));
  return (
    <>
      <Button kind="quiet" label={t("editOne", { number })} onClick={() => onEdit(at)}>
        {t("edit")}
      </Button>
      <Button kind="quiet" label={t("moveUp", { number })} isDisabled={at === 0} onClick={() => shift(at - 1)}>
        ↑
      </Button>
      <Button
        kind="quiet"
        label={t("moveDown", { number })}
        isDisabled={number === count}
        onClick={() => shift(number)}
      >
        ↓
      </Button>
      <Button kind="quiet" label={t("deleteRuleOne", { number })} onClick={() => onRemove(at)}>
        {t("delete")}
      </Button>
    </>
  );
}

function listOf(texts: string | readonly string[] | undefined): readonly string[] {
  return texts === undefined ? [] : typeof texts === "string" ? [texts] : texts;
}

function whoOf(rule: Rule): string {
  const given = conditions.filter((key) => rule[key] !== undefined);
  return given.map((key) => `${t(labels[key])}: ${listOf(rule[key]).join(", ")}`).join(" · ") || t("everybody");
}

const EQ = "eq ";

function linesOf({ topics = [] }: Rule): string[] {
  return topics.map((topic) => (typeof topic === "string" ? topic : EQ + topic.eq));
}

function topicsOf(rule: Rule): string {
  return linesOf(rule).join(", ") || t("everyTopic");
}

function fieldsOf(rule: Rule): Field[] {
  const choices = (keys: readonly string[], prefix: string) => keys.map((key) => [key, named(prefix, key)] as const);
  return [
    {
      name: "effect",
      label: t("rule"),
      type: "select",
      value: rule.deny === undefined ? "allow" : "deny",
      options: [
        ["allow", t("allow")],
        ["deny", t("deny")],
      ],
    },
    {
      name: "action",
      label: t("action"),
      type: "select",
      value: rule.allow ?? rule.deny ?? "all",
      options: choices(["publish", "subscribe", "all"], "ruleAction"),
    },
    ...conditions.map((key): Field => ({
      name: key,
      label: t(labels[key]),
      type: "textarea",
      rows: 1,
      isOptional: true,
      value: listOf(rule[key]).join("\n"),
      hint: t(`${key}Hint`),
    })),
    {
      name: "topics",
      label: t("topicFilters"),
      type: "textarea",
      rows: 3,
      isOptional: true,
      value: linesOf(rule).join("\n"),
      hint: t("topicsHint"),
    },
  ];
}

function ruleOf({ effect = "allow", action = "all", topics = "", ...who }: Values): Rule {
  const lines = (text: string): string[] => text.split("\n").filter((line) => line.trim() !== "");
  const given = conditions.map((key) => [key, lines(who[key] ?? "")] as const).filter(([, texts]) => texts.length > 0);
  const filters = lines(topics).map((line) => (line.startsWith(EQ) ? { eq: line.slice(EQ.length) } : line));
  return { [effect]: action, ...Object.fromEntries(given), ...(filters.length > 0 && { topics: filters }) };
}

/** What stands in the configuration is shown as it stands there. */
function Configured() {
  const config = useLoaded(() => ask<ConfigValue[]>("GET", "/config"));
  return (
    <Section title={t("configuration")} about={t("rulesAbout")}>
      <Show of={config}>{(values) => <Values rows={values.filter(({ path }) => path.startsWith("access."))} />}</Show>
    </Section>
  );
}

function Values({ rows }: { rows: readonly ConfigValue[] }) {
  const isList = ({ value }: ConfigValue): boolean => typeof value === "object" && value !== null;
  return (
    <>
      <ul class="entries">
        {rows.filter(isList).map(({ path, value, origin }) => (
          <li key={path}>
            <div>
              <h3 class="mono">{path}</h3>
              <p class="about">{originOf(origin)}</p>
              <pre class="payload" tabIndex={0}>
                {JSON.stringify(value, null, 2)}
              </pre>
            </div>
          </li>
        ))}
      </ul>
      <Table
        label={t("configuration")}
        rows={rows.filter((row) => !isList(row))}
        keyOf={({ path }) => path}
        columns={[
          { title: t("key"), cell: ({ path }) => <Words text={path} />, share: 4 },
          { title: t("value"), cell: ({ value }) => <span class="mono">{String(value ?? "–")}</span> },
          { title: t("origin"), cell: ({ origin }) => originOf(origin), share: 4, isWide: true },
        ]}
      />
    </>
  );
}
