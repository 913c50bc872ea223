/**
 * Publishing and subscribing from the page itself: a client of the broker as any other, over WebSocket. The connection lasts while
 * the page is open, also when one looks elsewhere meanwhile.
 */
import { useEffect } from "preact/hooks";
import type { Listener } from "#admin/dashboard/answers.ts";
import { ask } from "#admin/dashboard/api.ts";
import { Cell, useCell } from "#admin/dashboard/cell.ts";
import { FieldRow, valuesOf } from "#admin/dashboard/dialogs.tsx";
import { MqttClient, Refused } from "#admin/dashboard/mqtt-client.ts";
import { notify } from "#admin/dashboard/notices.tsx";
import { Badge, Button, Empty, PageHead, Section, Show, useLoaded } from "#admin/dashboard/parts.tsx";
import { clock, t } from "#admin/dashboard/words.ts";
import { qosOptions } from "./subscriptions.tsx";

const SHOWN_COUNT = 200;
const KEEP_ALIVE_SEC = 60;

interface Line {
  readonly id: number;
  readonly atMs: number;
  readonly direction: "in" | "out";
  readonly topic: string;
  readonly text: string;
  readonly note: string;
}

interface State {
  readonly client: MqttClient | undefined;
  readonly filters: readonly (readonly [string, number])[];
  readonly lines: readonly Line[];
}

const nothing: State = { client: undefined, filters: [], lines: [] };
const state = new Cell<State>(nothing);
let lastId = 0;

function change(part: Partial<State>): void {
  state.set({ ...state.value, ...part });
}

function addLine(line: Omit<Line, "id" | "atMs">): void {
  const lines = [{ ...line, id: ++lastId, atMs: Date.now() }, ...state.value.lines];
  change({ lines: lines.slice(0, SHOWN_COUNT) });
}

function tell(error: unknown): void {
  const code = error instanceof Refused ? error.code : undefined;
  notify(code === undefined ? t("connectionBroke") : t("refusedWith", { code: `0x${code.toString(16)}` }), "bad");
}

export function WebSocketPage() {
  const { client } = useCell(state);
  const listeners = useLoaded(() => ask<Listener[]>("GET", "/listeners"));
  return (
    <>
      <PageHead title={t("tryOut")} about={t("tryOutAbout")}>
        {client && <Badge tone="good">{t("connectedAs", { clientId: client.clientId })}</Badge>}
        {client && <Button onClick={() => client.disconnect()}>{t("disconnect")}</Button>}
      </PageHead>
      {client ? <Desk client={client} /> : <Show of={listeners}>{(rows) => <Connect url={urlOf(rows)} />}</Show>}
    </>
  );
}

/** Of a listener that a page of this scheme may reach, on the host that this page came from. */
function urlOf(listeners: readonly Listener[]): string | undefined {
  const type = location.protocol === "https:" ? "wss" : "ws";
  const found = listeners.find((listener) => listener.type === type && listener.isOpen);
  if (!found) return undefined;
  const [, port = "", path = ""] = /:(\d+)(\/.*)?$/.exec(found.address) ?? [];
  return `${type}://${location.hostname}:${port}${path}`;
}

async function connect(form: HTMLFormElement): Promise<void> {
  const { url = "", clientId = "", username = "", password = "", isCleanStart } = valuesOf(form);
  const client = new MqttClient({
    onMessage({ topic, payload, qos, isRetained }) {
      const note = `QoS ${qos}${isRetained ? `, ${t("isRetained")}` : ""}`;
      addLine({ direction: "in", topic, text: textOf(payload), note });
    },
    onEnd(code) {
      change({ client: undefined, filters: [] });
      if (code !== 0) tell(new Refused(code));
    },
  });
  const wish = { clientId, username, password, keepAliveSec: KEEP_ALIVE_SEC, isCleanStart: isCleanStart === "true" };
  try {
    await client.connect(url, wish);
    change({ client, filters: [], lines: [] });
  } catch (error) {
    tell(error);
  }
}

/** As text if it is UTF-8, else as hexadecimal digits. */
function textOf(payload: Uint8Array): string {
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(payload);
  } catch {
    return Array.from(payload, (byte) => byte.toString(16).padStart(2, "0")).join(" ");
  }
}

function Connect({ url }: { url: string | undefined }) {
  return (
    <Section title={t("connect")}>
      {url === undefined && <p class="banner warn">{t("noWebSocket")}</p>}
      <form
        class="form"
        onSubmit={(event) => {
          event.preventDefault();
          void connect(event.currentTarget);
        }}
      >
        <div class="form-grid">
          <FieldRow field={{ name: "url", label: t("url"), value: url ?? "" }} />
          <FieldRow field={{ name: "clientId", label: t("clientId"), isOptional: true, hint: t("clientIdAssigned") }} />
          <FieldRow field={{ name: "username", label: t("username"), isOptional: true, autocomplete: "off" }} />
          <FieldRow
            field={{ name: "password", label: t("password"), type: "password", isOptional: true, autocomplete: "off" }}
          />
        </div>
        <FieldRow field={{ name: "isCleanStart", label: t("cleanStart"), type: "checkbox", value: "true" }} />
        <button type="submit" class="button primary">
          {t("connect")}
        </button>
      </form>
    </Section>
  );
}

function handled(work: (form: HTMLFormElement) => Promise<void>) {
  return (event: Event & { currentTarget: HTMLFormElement }): void => {
    event.preventDefault();
    work(event.currentTarget).catch(tell);
  };
}

function Desk({ client }: { client: MqttClient }) {
  return (
    <>
      <div class="columns">
        <Subscribe client={client} />
        <Publish client={client} />
      </div>
      <Messages />
    </>
  );
}

function Subscribe({ client }: { client: MqttClient }) {
  const { filters } = useCell(state);
  useEffect(() => document.querySelector<HTMLElement>("[name=filter]")?.focus(), []);
  const subscribe = async (form: HTMLFormElement): Promise<void> => {
    const { filter = "", qos } = valuesOf(form);
    const granted = await client.subscribe(filter, Number(qos));
    change({ filters: [...state.value.filters.filter(([known]) => known !== filter), [filter, granted]] });
    form.reset();
  };
  const leave = async (filter: string): Promise<void> => {
    await client.unsubscribe(filter);
    change({ filters: state.value.filters.filter(([known]) => known !== filter) });
  };
  return (
    <Section title={t("subscribe")}>
      <form class="form" onSubmit={handled(subscribe)}>
        <FieldRow field={{ name: "filter", label: t("filter"), hint: t("filterHint") }} />
        <FieldRow field={{ name: "qos", label: "QoS", type: "select", options: qosOptions, value: "0" }} />
        <button type="submit" class="button primary">
          {t("subscribe")}
        </button>
      </form>
      <ul class="chips" aria-label={t("subscriptions")}>
        {filters.map(([filter, qos]) => (
          <li key={filter}>
            <span class="mono">{filter}</span> QoS {qos}
            <Button kind="quiet" label={t("unsubscribeOne", { filter })} onClick={() => leave(filter).catch(tell)}>
              ×
            </Button>
          </li>
        ))}
      </ul>
    </Section>
  );
}

function Publish({ client }: { client: MqttClient }) {
  const publish = async (form: HTMLFormElement): Promise<void> => {
    const { topic = "", payload = "", qos, isRetain } = valuesOf(form);
    await client.publish({ topic, payload, qos: Number(qos), isRetain: isRetain === "true" });
    addLine({ direction: "out", topic, text: payload, note: `QoS ${qos}` });
  };
  return (
    <Section title={t("publish")}>
      <form class="form" onSubmit={handled(publish)}>
        <FieldRow field={{ name: "topic", label: t("topic") }} />
        <FieldRow field={{ name: "payload", label: t("payload"), type: "textarea", isOptional: true }} />
        <FieldRow field={{ name: "qos", label: "QoS", type: "select", options: qosOptions, value: "0" }} />
        <FieldRow field={{ name: "isRetain", label: t("retain"), type: "checkbox" }} />
        <button type="submit" class="button primary">
          {t("publish")}
        </button>
      </form>
    </Section>
  );
}

function Messages() {
  const { lines } = useCell(state);
  return (
    <Section
      title={t("messages")}
      actions={lines.length > 0 && <Button onClick={() => change({ lines: [] })}>{t("clear")}</Button>}
    >
      {lines.length === 0 ? (
        <Empty title={t("noMessages")}>{t("noMessagesText")}</Empty>
      ) : (
        <div class="log" role="log" aria-label={t("messages")} tabIndex={0}>
          <ol>
            {lines.map(({ id, atMs, direction, topic, text, note }) => (
              <li key={id} class={direction}>
                <span class="log-time">{clock(atMs)}</span>
                <Badge tone={direction === "in" ? "good" : "calm"}>{t(direction === "in" ? "received" : "sent")}</Badge>
                <span class="mono">{topic}</span>
                <span class="faint">{note}</span>
                <pre>{text}</pre>
              </li>
            ))}
          </ol>
        </div>
      )}
    </Section>
  );
}
