/** Listeners: open or stopped, started and stopped here until the broker restarts. */
import type { Listener } from "#admin/dashboard/answers.ts";
import { ask, at, may } from "#admin/dashboard/api.ts";
import { askSure } from "#admin/dashboard/dialogs.tsx";
import { Table } from "#admin/dashboard/list.tsx";
import { act, Badge, Button, Empty, PageHead, Show, useLoaded } from "#admin/dashboard/parts.tsx";
import { number, t } from "#admin/dashboard/words.ts";

export function ListenersPage() {
  const listeners = useLoaded(() => ask<Listener[]>("GET", "/listeners"));
  const start = async (name: string): Promise<void> => {
    await act(ask("POST", at("listeners", name, "start")), t("listenerStarted", { name }));
    await listeners.reload();
  };
  const stop = (name: string): void =>
    askSure(t("stopListener"), t("stopListenerText", { name }), t("stop"), async () => {
      await act(ask("POST", at("listeners", name, "stop")), t("listenerStopped", { name }));
      await listeners.reload();
    });
  const actions = ({ name, isOpen }: Listener) =>
    isOpen ? (
      <Button kind="quiet" label={t("stopOne", { name })} onClick={() => stop(name)}>
        {t("stop")}
      </Button>
    ) : (
      <Button kind="quiet" label={t("startOne", { name })} onClick={() => start(name)}>
        {t("start")}
      </Button>
    );
  return (
    <>
      <PageHead title={t("listeners")} about={t("listenersAbout")}>
        <Button onClick={listeners.reload}>{t("refresh")}</Button>
        {may("operator") && (
          <Button onClick={() => act(ask("POST", "/listeners/reload"), t("certificatesRead"))}>
            {t("readCertificates")}
          </Button>
        )}
      </PageHead>
      <Show of={listeners}>
        {(rows) =>
          rows.length === 0 ? (
            <Empty title={t("noListeners")} />
          ) : (
            <Table
              label={t("listeners")}
              rows={rows}
              keyOf={({ name }) => name}
              columns={[
                { title: t("name"), cell: ({ name }) => name },
                { title: t("type"), cell: ({ type }) => type, share: 1, isWide: true },
                { title: t("address"), cell: (row) => <span class="mono">{row.address}</span>, share: 4, isWide: true },
                {
                  title: t("state"),
                  cell: ({ isOpen }) => <Badge tone={isOpen ? "good" : "warn"}>{t(isOpen ? "open" : "stopped")}</Badge>,
                },
                { title: t("connections"), cell: connectionsOf, isNumber: true, share: 2.5 },
                ...(may("operator") ? [{ title: t("actions"), cell: actions }] : []),
              ]}
            />
          )
        }
      </Show>
    </>
  );
}

function connectionsOf({ connectionCount, connectionsMax }: Listener): string {
  return connectionsMax === undefined
    ? number(connectionCount)
    : `${number(connectionCount)} / ${number(connectionsMax)}`;
}
