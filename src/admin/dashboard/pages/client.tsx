/** One client: its connection, its session with queue and inflight window, its subscriptions, and what can be done to it. */
import type { Client, Page, SessionRow, Subscription } from "#admin/dashboard/answers.ts";
import { ApiError, ask, at, may } from "#admin/dashboard/api.ts";
import { askForm, askSure } from "#admin/dashboard/dialogs.tsx";
import { type Column, List, useRows } from "#admin/dashboard/list.tsx";
import { notify } from "#admin/dashboard/notices.tsx";
import { act, Badge, Button, Empty, Facts, PageHead, Section, Show, useLoaded } from "#admin/dashboard/parts.tsx";
import { go, hrefOf } from "#admin/dashboard/route.ts";
import { bytes, duration, number, t, time } from "#admin/dashboard/words.ts";
import { useState } from "preact/hooks";
import { askBan } from "./access.tsx";
import { askKick, sinceOf, versionOf } from "./clients.tsx";
import { qosOptions } from "./subscriptions.tsx";

interface Known {
  readonly client: Client | undefined;
  readonly session: SessionRow | undefined;
}

function orNothing(error: ApiError): undefined {
  if (error.status === 404) return undefined;
  throw error;
}

async function find(clientId: string): Promise<Known> {
  const session = await ask<SessionRow>("GET", at("sessions", clientId)).catch(orNothing);
  const isHere = session?.isConnected === true;
  const client = isHere ? await ask<Client>("GET", at("clients", clientId)).catch(orNothing) : undefined;
  return { client, session };
}

export function ClientPage({ clientId }: { clientId: string }) {
  const known = useLoaded(() => find(clientId));
  const [version, setVersion] = useState(0);
  const reload = async (): Promise<void> => {
    setVersion((before) => before + 1);
    await known.reload();
  };
  return (
    <>
      <p class="crumbs">
        <a href={hrefOf("clients")}>{t("clients")}</a> / <a href={hrefOf("sessions")}>{t("sessions")}</a>
      </p>
      <PageHead title={clientId}>
        <Button onClick={reload}>{t("refresh")}</Button>
        {may("operator") && known.value && <Actions clientId={clientId} known={known.value} reload={reload} />}
      </PageHead>
      <Show of={known}>
        {({ client, session }) =>
          session ? (
            <>
              <div class="columns">
                <Section title={t("connection")}>
                  {client ? <Connection client={client} /> : <Empty title={t("away")}>{t("awayText")}</Empty>}
                </Section>
                <Section title={t("session")}>
                  <SessionFacts session={session} />
                </Section>
              </div>
              <Subscriptions clientId={clientId} version={version} reload={reload} />
            </>
          ) : (
            <Empty title={t("clientUnknown")}>{t("clientUnknownText")}</Empty>
          )
        }
      </Show>
    </>
  );
}

function Subscriptions({
  clientId,
  version,
  reload,
}: {
  clientId: string;
  version: number;
  reload: () => Promise<void>;
}) {
  const rows = useRows(
    (page) => ask<Page<Subscription>>("GET", at("clients", clientId, "subscriptions"), page),
    String(version),
  );
  const unsubscribe = async (filter: string): Promise<void> => {
    const work = ask("POST", at("clients", clientId, "unsubscribe"), { filters: [filter] });
    if (await act(work, t("unsubscribed", { filter }))) await reload();
  };
  const columns: Column<Subscription>[] = [
    { title: t("filter"), cell: ({ filter }) => <span class="id">{filter}</span>, share: 4 },
    { title: "QoS", cell: ({ qos }) => qos, isNumber: true, share: 1 },
    { title: t("options"), cell: optionsOf, isWide: true, share: 3 },
  ];
  if (may("operator"))
    columns.push({
      title: t("actions"),
      share: 3,
      cell: ({ filter }) => (
        <Button kind="quiet" label={t("unsubscribeOne", { filter })} onClick={() => unsubscribe(filter)}>
          {t("unsubscribe")}
        </Button>
      ),
    });
  return (
    <Section title={t("subscriptions")}>
      <List
        label={t("subscriptions")}
        of={rows}
        keyOf={({ filter }) => filter}
        empty={{ title: t("noSubscriptions") }}
        columns={columns}
      />
    </Section>
  );
}

function optionsOf({ noLocal, retainAsPublished, retainHandling, id }: Subscription): string {
  const words = [
    noLocal && t("noLocal"),
    retainAsPublished && t("retainAsPublished"),
    retainHandling > 0 && `${t("retainHandling")} ${retainHandling}`,
    id !== undefined && `${t("identifier")} ${id}`,
  ];
  return words.filter(Boolean).join(", ") || "–";
}

function expiryOf(sec: number | null): string {
  if (sec === null) return t("never");
  return sec === 0 ? t("withConnection") : duration(sec);
}

function Connection({ client }: { client: Client }) {
  return (
    <Facts
      rows={[
        [t("state"), <Badge tone="good">{t("connected")}</Badge>],
        [t("address"), <span class="mono">{client.address ? `${client.address}:${client.port}` : "–"}</span>],
        [t("listener"), client.listener],
        [t("username"), client.username ?? "–"],
        ["MQTT", versionOf(client.version)],
        [t("connectedFor"), sinceOf(client.connectedAtSec)],
        [t("keepAlive"), client.keepAliveSec === 0 ? t("none") : duration(client.keepAliveSec)],
        [t("cleanStart"), t(client.isCleanStart ? "yes" : "no")],
        [t("unsent"), bytes(client.unsentBytes)],
      ]}
    />
  );
}

function SessionFacts({ session }: { session: SessionRow }) {
  return (
    <Facts
      rows={[
        [t("created"), time(session.createdAtSec * 1000)],
        [t("expires"), expiryOf(session.expirySec)],
        [t("stored"), t(session.isStored ? "yes" : "no")],
        [t("inflight"), number(session.inflightCount)],
        [t("queued"), `${number(session.queuedCount)} (${bytes(session.queuedBytes)})`],
        [t("dropped"), number(session.droppedCount)],
        [t("awaitingRelease"), number(session.awaitingReleaseCount)],
        [t("awaitingComplete"), number(session.awaitingCompleteCount)],
      ]}
    />
  );
}

function Actions({ clientId, known, reload }: { clientId: string; known: Known; reload: () => Promise<void> }) {
  const { session } = known;
  if (!session) return null;
  /** A session that ends with its connection is no more. */
  const afterEnd = (): unknown => (session.expirySec === 0 ? go("clients") : reload());
  const subscribe = (): void =>
    askForm({
      title: t("subscribeFor"),
      text: t("subscribeForText", { clientId }),
      fields: [
        { name: "filter", label: t("filter"), hint: t("filterHint") },
        { name: "qos", label: "QoS", type: "select", options: qosOptions, value: "0" },
      ],
      action: t("subscribe"),
      async run({ filter = "", qos }) {
        const { results } = await ask<{ results: { reasonCode: number }[] }>(
          "POST",
          at("clients", clientId, "subscribe"),
          {
            subscriptions: [{ filter, qos: Number(qos) }],
          },
        );
        const { reasonCode } = results[0]!;
        if (reasonCode >= 0x80) throw new ApiError("refused", t("subscribeRefused", { code: reasonCode }), 400);
        notify(t("subscribedFor", { filter }));
        await reload();
      },
    });
  const end = (): void =>
    askSure(t("endSession"), t("endSessionText", { clientId }), t("endSession"), async () => {
      if (await act(ask("DELETE", at("sessions", clientId)), t("sessionEnded"))) go("sessions");
    });
  return (
    <>
      <Button onClick={subscribe}>{t("subscribeFor")}</Button>
      <Button onClick={() => go("trace", "client", clientId)}>{t("trace")}</Button>
      <Button onClick={() => askBan({ kind: "clientId", value: clientId }, afterEnd)}>{t("ban")}</Button>
      {known.client && (
        <Button kind="danger" onClick={() => askKick(clientId, afterEnd)}>
          {t("kick")}
        </Button>
      )}
      <Button kind="danger" onClick={end}>
        {t("endSession")}
      </Button>
    </>
  );
}
