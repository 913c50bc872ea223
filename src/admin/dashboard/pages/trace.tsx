/**
 * Follows a client, a topic or an address live. Events are fetched once a second while the page can be seen; the broker keeps them
 * for half a minute and then ends the trace.
 */
import { useEffect, useRef, useState } from "preact/hooks";
import type { TraceEvent, TraceInfo } from "#admin/dashboard/answers.ts";
import { ApiError, ask, at, may } from "#admin/dashboard/api.ts";
import { askForm } from "#admin/dashboard/dialogs.tsx";
import { Table } from "#admin/dashboard/list.tsx";
import { act, Badge, Button, Empty, PageHead, Section, Show, useLoaded } from "#admin/dashboard/parts.tsx";
import { go, hrefOf, type Route } from "#admin/dashboard/route.ts";
import { bytes, clock, number, t } from "#admin/dashboard/words.ts";

const READ_MS = 1000;
const SHOWN_COUNT = 500;
const kinds = ["client", "topic", "address"] as const;

/** `#/trace` lists, `#/trace/live/NAME` follows, `#/trace/client/ID` offers a trace of a client. */
export function TracePage({ route: [, view, name] }: { route: Route }) {
  if (view === "live" && name !== undefined) return <Live key={name} name={name} />;
  return <Traces first={{ kind: view ?? "client", value: name ?? "" }} />;
}

function Traces({ first }: { first: { kind: string; value: string } }) {
  const traces = useLoaded(() => ask<TraceInfo[]>("GET", "/traces"));
  const start = (): void =>
    askForm({
      title: t("startTrace"),
      text: t("startTraceText"),
      fields: [
        {
          name: "kind",
          label: t("kind"),
          type: "select",
          value: first.kind,
          options: kinds.map((kind) => [kind, t(`trace.${kind}`)]),
        },
        { name: "value", label: t("value"), value: first.value, hint: t("traceHint") },
        {
          name: "payload",
          label: t("payload"),
          type: "select",
          value: "none",
          options: [
            ["none", t("payloadNone")],
            ["text", t("payloadText")],
            ["hex", t("payloadHex")],
          ],
        },
      ],
      action: t("start"),
      async run(wish) {
        const trace = await ask<TraceInfo>("POST", "/traces", wish);
        go("trace", "live", trace.name);
      },
    });
  useEffect(() => {
    if (first.value !== "" && may("operator")) start();
  }, [first.kind, first.value]);
  return (
    <>
      <PageHead title={t("trace")} about={t("traceAbout")}>
        <Button onClick={traces.reload}>{t("refresh")}</Button>
        {may("operator") && (
          <Button kind="primary" onClick={start}>
            {t("startTrace")}
          </Button>
        )}
      </PageHead>
      <Show of={traces}>
        {(rows) =>
          rows.length === 0 ? (
            <Empty title={t("noTraces")}>{t("noTracesText")}</Empty>
          ) : (
            <Table label={t("trace")} rows={rows} keyOf={({ name }) => name} columns={columnsOf(traces.reload)} />
          )
        }
      </Show>
    </>
  );
}

function columnsOf(reload: () => Promise<void>) {
  const stop = async (name: string): Promise<void> => {
    await act(ask("DELETE", at("traces", name)), t("traceEnded"));
    await reload();
  };
  return [
    {
      title: t("name"),
      share: 4,
      cell: ({ name, file }: TraceInfo) =>
        file === undefined && may("operator") ? <a href={hrefOf("trace", "live", name)}>{name}</a> : name,
    },
    {
      title: t("file"),
      share: 3,
      isWide: true,
      cell: ({ file }: TraceInfo) => <span class="mono">{file ?? "–"}</span>,
    },
    { title: t("events"), isNumber: true, cell: ({ eventCount }: TraceInfo) => number(eventCount) },
    { title: t("lostEvents"), isNumber: true, isWide: true, cell: ({ lostCount }: TraceInfo) => number(lostCount) },
    {
      title: t("actions"),
      cell: ({ name }: TraceInfo) =>
        may("operator") && (
          <Button kind="quiet" label={t("stopOne", { name })} onClick={() => stop(name)}>
            {t("stop")}
          </Button>
        ),
    },
  ];
}

interface Following {
  readonly events: readonly (TraceEvent & { id: number })[];
  readonly isEnded: boolean;
  clear(): void;
  /** Resolves when nothing is being fetched any more. */
  stop(): Promise<void>;
}

function useEvents(name: string): Following {
  const [events, setEvents] = useState<Following["events"]>([]);
  const [isEnded, setEnded] = useState(false);
  const reading = useRef<Promise<void>>(undefined);
  const timer = useRef<ReturnType<typeof setInterval>>(undefined);
  useEffect(() => {
    let lastId = 0;
    const read = async (): Promise<void> => {
      try {
        const { events: fresh } = await ask<{ events: TraceEvent[] }>("POST", at("traces", name, "read"));
        const numbered = fresh.map((event) => ({ ...event, id: ++lastId })).toReversed();
        if (numbered.length > 0) setEvents((before) => [...numbered, ...before].slice(0, SHOWN_COUNT));
      } catch (error) {
        if (!(error instanceof ApiError) || error.code !== "not_found") return;
        setEnded(true);
        clearInterval(timer.current);
      }
    };
    const look = (): void => {
      if (document.hidden) return;
      reading.current ??= read().finally(() => (reading.current = undefined));
    };
    timer.current = setInterval(look, READ_MS);
    look();
    return () => clearInterval(timer.current);
  }, [name]);
  const stop = async (): Promise<void> => {
    clearInterval(timer.current);
    await reading.current;
  };
  return { events, isEnded, clear: () => setEvents([]), stop };
}

function Live({ name }: { name: string }) {
  const { events, isEnded, clear, stop: stopReading } = useEvents(name);
  const [isHeld, setHeld] = useState(false);
  const held = useRef(events);
  if (!isHeld) held.current = events;
  const stop = async (): Promise<void> => {
    await stopReading();
    if (await act(ask("DELETE", at("traces", name)), t("traceEnded"))) go("trace");
  };
  return (
    <>
      <p class="crumbs">
        <a href={hrefOf("trace")}>{t("trace")}</a>
      </p>
      <PageHead title={name}>
        <Badge tone={isEnded ? "calm" : "good"}>{t(isEnded ? "ended" : "running")}</Badge>
        <Button isPressed={isHeld} onClick={() => setHeld(!isHeld)}>
          {t("hold")}
        </Button>
        <Button onClick={clear}>{t("clear")}</Button>
        {events.length > 0 && <Download name={name} events={events} />}
        {!isEnded && (
          <Button kind="danger" onClick={stop}>
            {t("endTrace")}
          </Button>
        )}
      </PageHead>
      <Section title={t("events")}>
        {held.current.length === 0 ? (
          <Empty title={t("noEvents")}>{t("noEventsText")}</Empty>
        ) : (
          <div class="log" role="log" aria-live="off" aria-label={t("events")} tabIndex={0}>
            <ol>
              {held.current.map((event) => (
                <EventLine key={event.id} event={event} />
              ))}
            </ol>
          </div>
        )}
      </Section>
    </>
  );
}

function Download({ name, events }: { name: string; events: readonly TraceEvent[] }) {
  const save = (): void => {
    const lines = events.toReversed().map((event) => `${JSON.stringify(event)}\n`);
    const url = URL.createObjectURL(new Blob(lines, { type: "application/x-ndjson" }));
    const link = document.createElement("a");
    link.href = url;
    link.download = `${name.replaceAll(/[^\w.-]+/g, "-")}.jsonl`;
    link.click();
    URL.revokeObjectURL(url);
  };
  return <Button onClick={save}>{t("download")}</Button>;
}

const arrows = { in: "→", out: "←", note: "·" } as const;

function EventLine({
  event: { atMs, direction, clientId, type, bytes: size, topic, fields, payload },
}: {
  event: TraceEvent;
}) {
  const shown = payload?.text ?? payload?.hex;
  return (
    <li class={direction}>
      <span class="log-time">{clock(atMs)}</span>
      <span class="arrow" title={t(`direction.${direction}`)}>
        {arrows[direction]}
      </span>
      <b>{type}</b>
      <a class="id" href={hrefOf("clients", clientId)}>
        {clientId}
      </a>
      {topic !== undefined && <span class="mono">{topic}</span>}
      <span class="faint">
        {size !== undefined && `${bytes(size)} `}
        {Object.entries(fields)
          .map(([key, value]) => `${key}=${typeof value === "string" ? value : JSON.stringify(value)}`)
          .join(" ")}
      </span>
      {shown !== undefined && <pre>{shown}</pre>}
    </li>
  );
}
