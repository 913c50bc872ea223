/** Modules and plugins, and how they fare. */
import type { Plugin } from "#admin/dashboard/answers.ts";
import { ask, at, may } from "#admin/dashboard/api.ts";
import { askForm } from "#admin/dashboard/dialogs.tsx";
import { notify } from "#admin/dashboard/notices.tsx";
import { act, Badge, Button, Empty, PageHead, Show, type Tone, useLoaded } from "#admin/dashboard/parts.tsx";
import { number, t, type TextKey } from "#admin/dashboard/words.ts";

const tones: Readonly<Record<Plugin["state"], Tone>> = { running: "good", stopped: "calm", failed: "bad" };

export function PluginsPage() {
  const plugins = useLoaded(() => ask<Plugin[]>("GET", "/plugins"));
  const order = async (name: string, what: "load" | "unload" | "reload", done: TextKey): Promise<void> => {
    await act(ask("POST", at("plugins", name, what)), t(done, { name }));
    await plugins.reload();
  };
  const load = (): void =>
    askForm({
      title: t("loadPlugin"),
      text: t("loadPluginText"),
      fields: [{ name: "name", label: t("name") }],
      action: t("load"),
      async run({ name = "" }) {
        await ask("POST", at("plugins", name, "load"));
        notify(t("pluginLoaded", { name }));
        await plugins.reload();
      },
    });
  return (
    <>
      <PageHead title={t("plugins")} about={t("pluginsAbout")}>
        <Button onClick={plugins.reload}>{t("refresh")}</Button>
        {may("administrator") && <Button onClick={load}>{t("loadPlugin")}</Button>}
      </PageHead>
      <Show of={plugins}>
        {(rows) =>
          rows.length === 0 ? (
            <Empty title={t("noPlugins")}>{t("noPluginsText")}</Empty>
          ) : (
            <ul class="entries">
              {rows.map((plugin) => (
                <li key={plugin.name}>
                  <div>
                    <h2>
                      {plugin.name} <Badge tone={tones[plugin.state]}>{t(plugin.state)}</Badge>
                    </h2>
                    <p>{plugin.description}</p>
                    <p class="about">
                      {t(plugin.kind)} · {plugin.version} · {plugin.from}
                      {plugin.faultCount > 0 && ` · ${t("faults", { count: number(plugin.faultCount) })}`}
                    </p>
                    {plugin.lastFault !== "" && <pre class="payload">{plugin.lastFault}</pre>}
                  </div>
                  {may("administrator") && <PluginActions plugin={plugin} order={order} />}
                </li>
              ))}
            </ul>
          )
        }
      </Show>
    </>
  );
}

function PluginActions({
  plugin: { name, state, kind },
  order,
}: {
  plugin: Plugin;
  order: (name: string, what: "load" | "unload" | "reload", done: TextKey) => Promise<void>;
}) {
  if (state !== "running")
    return (
      <div class="actions">
        <Button label={t("loadOne", { name })} onClick={() => order(name, "load", "pluginLoaded")}>
          {t("load")}
        </Button>
      </div>
    );
  return (
    <div class="actions">
      {kind === "plugin" && (
        <Button label={t("reloadOne", { name })} onClick={() => order(name, "reload", "pluginReloaded")}>
          {t("reload")}
        </Button>
      )}
      <Button label={t("unloadOne", { name })} onClick={() => order(name, "unload", "pluginUnloaded")}>
        {t("unload")}
      </Button>
    </div>
  );
}
