/** The configuration in effect: each value with where it comes from; what can change while the broker runs is changed here. */
import { useState } from "preact/hooks";
import type { ConfigValue, Reloaded } from "#admin/dashboard/answers.ts";
import { ApiError, ask } from "#admin/dashboard/api.ts";
import { askForm } from "#admin/dashboard/dialogs.tsx";
import { type Column, Table } from "#admin/dashboard/list.tsx";
import { notify } from "#admin/dashboard/notices.tsx";
import { Badge, Button, Empty, PageHead, Show, useLoaded } from "#admin/dashboard/parts.tsx";
import { originOf, t } from "#admin/dashboard/words.ts";

type Choice = "all" | "live" | "set";

export function ConfigPage() {
  const config = useLoaded(() => ask<ConfigValue[]>("GET", "/config"));
  const [search, setSearch] = useState("");
  const [only, setOnly] = useState<Choice>("all");
  const isMeant = ({ path, isLive, origin }: ConfigValue): boolean =>
    path.toLowerCase().includes(search.toLowerCase()) &&
    (only === "all" || (only === "live" ? isLive : origin !== "default"));
  return (
    <>
      <PageHead title={t("configuration")} about={t("configurationAbout")}>
        <Button onClick={config.reload}>{t("refresh")}</Button>
        <Button onClick={checkText}>{t("checkFile")}</Button>
        <Button onClick={() => askReload(config.reload)}>{t("readFile")}</Button>
      </PageHead>
      <form class="filters" role="search" onSubmit={(event) => event.preventDefault()}>
        <input
          type="search"
          aria-label={t("searchKeys")}
          placeholder={t("searchKeys")}
          spellcheck={false}
          onInput={(event) => setSearch(event.currentTarget.value.trim())}
        />
        <select aria-label={t("show")} value={only} onChange={(event) => setOnly(event.currentTarget.value as Choice)}>
          <option value="all">{t("showAll")}</option>
          <option value="live">{t("showLive")}</option>
          <option value="set">{t("showSet")}</option>
        </select>
      </form>
      <Show of={config}>{(values) => <ValueTable rows={values.filter(isMeant)} reload={config.reload} />}</Show>
    </>
  );
}

function ValueTable({ rows, reload }: { rows: readonly ConfigValue[]; reload: () => Promise<void> }) {
  if (rows.length === 0) return <Empty title={t("noKeys")} />;
  const columns: Column<ConfigValue>[] = [
    { title: t("key"), cell: ({ path }) => <Word text={path} />, share: 3 },
    { title: t("value"), cell: ({ value }) => <Word text={shown(value) || "–"} />, share: 3 },
    {
      title: t("origin"),
      cell: ({ origin }) => (
        <span class={origin === "default" ? "faint" : ""} title={origin}>
          {originOf(origin)}
        </span>
      ),
      share: 3,
      isWide: true,
    },
    {
      title: t("actions"),
      cell: (row) =>
        row.isLive ? (
          <Button kind="quiet" label={t("changeOne", { name: row.path })} onClick={() => change(row, reload)}>
            {t("change")}
          </Button>
        ) : (
          <Badge>{t(row.isReloaded ? "readAgain" : "restart")}</Badge>
        ),
    },
  ];
  return <Table label={t("configuration")} rows={rows} keyOf={({ path }) => path} columns={columns} />;
}

function Word({ text }: { text: string }) {
  return (
    <span class="mono" title={text}>
      {text}
    </span>
  );
}

function change({ path, value }: ConfigValue, then: () => Promise<void>): void {
  askForm({
    title: path,
    text: t("changeText"),
    fields: [{ name: "value", label: t("value"), value: shown(value), hint: t("valueHint") }],
    action: t("save"),
    async run({ value: entered = "" }) {
      await ask("PATCH", "/config", { values: { [path]: parsed(entered, value) } });
      notify(t("saved", { name: path }));
      await then();
    },
  });
}

function shown(value: unknown): string {
  return typeof value === "string" ? value : value === null ? "" : JSON.stringify(value);
}

/** What was a word stays one, also when it looks like a number. */
function parsed(entered: string, before: unknown): unknown {
  if (typeof before === "string") return entered;
  try {
    return JSON.parse(entered) as unknown;
  } catch {
    return entered;
  }
}

function askReload(then: () => Promise<void>): void {
  askForm({
    title: t("readFile"),
    text: t("readFileText"),
    fields: [],
    action: t("readFile"),
    async run() {
      const { changed, waiting, failed } = await ask<Reloaded>("POST", "/config/reload");
      if (failed.length > 0) notify(failed.join("\n"), "bad");
      if (waiting.length > 0) notify(t("reloadWaiting", { keys: waiting.join(", ") }), "bad");
      notify(changed.length > 0 ? t("reloadChanged", { keys: changed.join(", ") }) : t("reloadSame"));
      await then();
    },
  });
}

function checkText(): void {
  askForm({
    title: t("checkFile"),
    text: t("checkFileText"),
    fields: [{ name: "text", label: "mantou.yaml", type: "textarea" }],
    action: t("check"),
    async run({ text = "" }) {
      const { problems } = await ask<{ problems: string[] }>("POST", "/config/check", { text });
      if (problems.length > 0) throw new ApiError("config_invalid", problems.join("\n"), 400);
      notify(t("fileIsFine"));
    },
  });
}
