/**
 * Live traces: the packets of a client, a topic or an address, both ways, and what happens to them, to a file or to be read.
 *
 *   connection ─ MqttContext.tap ─► is it wanted? ─► decoded ─► each trace that wants it: rate ─► file, or buffer
 *   hooks (connected, disconnected, denied, dropped) ──────────┘
 *
 * While there is no trace the tap is null and no hook is used. Traces are bounded in number, events a second, bytes and time; what a
 * limit leaves out is counted and told in the trace itself. Events are plain JSON: several processes trace the same under one name, and
 * what they tell is put together by its time.
 */
import { MantouError } from "#base/error.ts";
import type { HookMessage } from "#core/hook-message.ts";
import type { MessageView } from "#core/message.ts";
import type { ClientInfo } from "#core/ports.ts";
import { CONNECT, PUBLISH, SUBSCRIBE, UNSUBSCRIBE } from "#mqtt/codec/frame.ts";
import { describePacket, describePublish, type PacketRecord } from "#mqtt/codec/packet-record.ts";
import type { Connection } from "#mqtt/connection.ts";
import type { MqttContext, PacketTap } from "#mqtt/context.ts";
import { packetEvent, showPayload, type TraceEvent } from "./trace-event.ts";
import { type TraceRequest, Trace, type TraceInfo } from "./trace-run.ts";

export interface TracerOptions {
  /** Where trace files are written: a folder of the data directory. */
  readonly dir: string;
  /** Wall clock, milliseconds. */
  readonly nowMs: () => number;
  /** A bug of the tracer: no client notices, and all traces end. */
  readonly onBug: (error: unknown) => void;
}

const COUNT_MAX = 8;
const NO_TRACES: readonly Trace[] = [];

/** What is known of a connection: asked again when its session or the traces have changed. */
interface Known {
  readonly session: number;
  readonly generation: number;
  readonly clientId: string;
  readonly address: string;
  readonly traces: readonly Trace[];
}

export class Tracer implements PacketTap {
  private traces: readonly Trace[] = NO_TRACES;
  private topicTraces: readonly Trace[] = NO_TRACES;
  private known = new WeakMap<Connection, Known>();
  private readonly again = new WeakSet<Connection>();
  /** Traces whose last events nobody has read. */
  private readonly ended = new Map<string, Trace>();
  private generation = 0;
  private unhook: (() => void)[] = [];

  constructor(
    private readonly context: MqttContext,
    private readonly options: TracerOptions,
  ) {}

  /**
   * Follows from now on; returns what `list` shows of it. Throws MantouError `trace_invalid`, `trace_exists` (its name or its file is
   * taken), `trace_limit` or `trace_not_writable`.
   */
  start(request: TraceRequest): TraceInfo {
    if (this.traces.length >= COUNT_MAX) {
      throw new MantouError("trace_limit", `${COUNT_MAX} traces are running; stop one first`, {});
    }
    const trace = new Trace(request, { ...this.options, traces: this.traces });
    this.ended.delete(trace.name);
    this.use([...this.traces, trace]);
    return trace.info();
  }

  /** False when there is none. */
  stop(name: string): boolean {
    const trace = this.find(name);
    if (trace) this.end(trace, "stopped");
    return trace !== undefined;
  }

  /** Takes the events that wait, oldest first; undefined when there is no such trace, or no more. One reader a trace. */
  read(name: string): TraceEvent[] | undefined {
    const trace = this.find(name) ?? this.ended.get(name);
    this.ended.delete(name);
    return trace?.read(this.options.nowMs());
  }

  private find(name: string): Trace | undefined {
    return this.traces.find((each) => each.name === name);
  }

  list(): TraceInfo[] {
    return this.traces.map((trace) => trace.info());
  }

  stopAll(): void {
    for (const trace of this.traces) this.end(trace, "stopped");
  }

  /** About once a second. */
  tick(): void {
    const nowMs = this.options.nowMs();
    for (const trace of this.traces) {
      const reason = trace.dueReason(nowMs);
      if (reason === undefined) trace.tellLost(nowMs);
      else this.end(trace, reason);
    }
  }

  // ---- the tap

  received(connection: Connection, bytes: Buffer, start: number, end: number): void {
    if (this.again.delete(connection)) return;
    try {
      if (bytes[start] >> 4 === PUBLISH) this.lookAtPublish(connection, bytes, start, end);
      else this.lookAtOther(connection, bytes, start, end);
    } catch (error) {
      this.fail(error);
    }
  }

  postponed(connection: Connection): void {
    this.again.add(connection);
  }

  sent(connection: Connection, bytes: Buffer, start: number, end: number): void {
    try {
      const { traces, clientId, address } = this.knownOf(connection);
      const wanting = this.admitting(traces);
      if (wanting.length === 0) return;
      const record = describePacket(bytes, start, end, connection.version);
      this.tell(wanting, record, { direction: "out", clientId, address });
    } catch (error) {
      this.fail(error);
    }
  }

  delivered(connection: Connection, view: MessageView, flags: number, packetId: number): void {
    try {
      const { traces, clientId, address } = this.knownOf(connection);
      const wanting = this.admitting(traces, this.topical(view.bytes, view.topicStart, view.topicEnd));
      if (wanting.length === 0) return;
      const record = { type: "PUBLISH", ...describePublish(view, packetId, flags) };
      this.tell(wanting, record, { direction: "out", clientId, address });
    } catch (error) {
      this.fail(error);
    }
  }

  private lookAtOther(connection: Connection, bytes: Buffer, start: number, end: number): void {
    const type = bytes[start] >> 4;
    const { traces, clientId, address } = this.knownOf(connection);
    const isTopical = this.topicTraces.length > 0 && (type === SUBSCRIBE || type === UNSUBSCRIBE);
    if (traces.length === 0 && !isTopical && type !== CONNECT) return;
    const record = describePacket(bytes, start, end, connection.version);
    const { clientId: ownId = clientId, filters = [] } = record;
    const more = this.traces.filter(
      ({ target }) =>
        (type === CONNECT && target.hasClient(ownId, address)) || filters.some((filter) => target.hasFilter(filter)),
    );
    this.tell(this.admitting(traces, more), record, { direction: "in", clientId: ownId, address });
  }

  private lookAtPublish(connection: Connection, bytes: Buffer, start: number, end: number): void {
    const { traces, clientId, address } = this.knownOf(connection);
    let topical = NO_TRACES;
    let record: PacketRecord | undefined;
    if (this.topicTraces.length > 0) {
      let body = start + 1;
      while (body < end && bytes[body++] >= 0x80);
      const topicEnd = Math.min(end, body + 2 + ((bytes[body] << 8) | bytes[body + 1]));
      topical = this.topical(bytes, body + 2, topicEnd);
      if (topicEnd === body + 2) {
        record = withAlias(connection, describePacket(bytes, start, end, connection.version));
        const topic = Buffer.from(record.topic ?? "");
        topical = this.topical(topic, 0, topic.length);
      }
    }
    const wanting = this.admitting(traces, topical);
    if (wanting.length === 0) return;
    record ??= withAlias(connection, describePacket(bytes, start, end, connection.version));
    this.tell(wanting, record, { direction: "in", clientId, address });
  }

  /** Those of two lists that take one more event now, each once. */
  private admitting(some: readonly Trace[], more: readonly Trace[] = NO_TRACES): readonly Trace[] {
    if (some.length === 0 && more.length === 0) return NO_TRACES;
    const atMs = this.options.nowMs();
    const all = more.length === 0 ? some : [...new Set([...some, ...more])];
    return all.filter((trace) => trace.admits(atMs));
  }

  /** Traces that want a topic. */
  private topical(bytes: Buffer, start: number, end: number): readonly Trace[] {
    let found = NO_TRACES;
    for (const trace of this.topicTraces) {
      if (start < end && trace.target.hasTopic(bytes, start, end)) found = [...found, trace];
    }
    return found;
  }

  private knownOf(connection: Connection): Known {
    const before = this.known.get(connection);
    const { session } = connection;
    if (before && before.generation === this.generation && before.session === session) return before;
    const info = connection.info();
    // A link that is closing has lost its address, and a session that was taken over its client id.
    const address = info.address || before?.address || "";
    const clientId = info.clientId || before?.clientId || "";
    const traces = this.traces.filter(({ target }) => target.hasClient(clientId, address));
    const known = { session, generation: this.generation, clientId, address, traces };
    this.known.set(connection, known);
    return known;
  }

  // ---- hooks

  private hook(): void {
    const { clientConnected, clientDisconnected, clientDenied, messageDropped } = this.context.engine.hooks;
    this.unhook = [
      clientConnected.add((client) => {
        const { listener, version, username } = client;
        this.note(client, "connected", { listener, version, ...(username !== undefined && { username }) });
      }),
      clientDisconnected.add((client, reasonCode) => this.note(client, "disconnected", { reasonCode })),
      clientDenied.add((client, action, topic, reasonCode) =>
        this.note(client, "denied", { action, reasonCode }, topic),
      ),
      messageDropped.add((clientId, reason, message) => this.noteDrop(clientId, reason, message)),
    ];
  }

  private note(client: ClientInfo, type: string, fields: TraceEvent["fields"], topic?: string): void {
    this.contain(() => {
      const { clientId, address } = client;
      const about = { atMs: this.options.nowMs(), direction: "note", clientId, address, type, fields } as const;
      const isWanted = ({ target }: Trace): boolean =>
        target.hasClient(clientId, address) || (topic !== undefined && target.hasFilter(topic));
      for (const trace of this.traces) {
        if (isWanted(trace) && trace.admits(about.atMs))
          this.put(trace, topic === undefined ? about : { ...about, topic });
      }
    });
  }

  private noteDrop(
    subscriber: string | undefined,
    reason: string,
    { topic, payload, publisher, qos }: HookMessage,
  ): void {
    this.contain(() => {
      const bytes = Buffer.from(topic);
      const clientId = subscriber ?? publisher ?? "";
      const fields = { reason, ...(publisher !== undefined && { publisher }), qos };
      const about = { atMs: this.options.nowMs(), direction: "note", clientId, address: "", type: "dropped" } as const;
      for (const trace of this.traces) {
        const { target } = trace;
        const isMine = [subscriber, publisher].some((id) => id !== undefined && target.hasClient(id, ""));
        if (!isMine && !target.hasTopic(bytes, 0, bytes.length)) continue;
        if (!trace.admits(about.atMs)) continue;
        this.put(trace, { ...about, topic, fields, payload: showPayload(payload, trace) });
      }
    });
  }

  // ---- out

  private tell(
    traces: readonly Trace[],
    record: PacketRecord,
    about: Pick<TraceEvent, "direction" | "clientId" | "address">,
  ): void {
    const atMs = this.options.nowMs();
    for (const trace of traces) this.put(trace, packetEvent(record, { ...about, atMs }, trace));
  }

  private put(trace: Trace, event: TraceEvent): void {
    if (!trace.put(event)) this.end(trace, "it has written as much as it may");
  }

  private end(trace: Trace, reason: string): void {
    this.use(this.traces.filter((each) => each !== trace));
    trace.end(this.options.nowMs(), reason);
    if (trace.isFile) return;
    this.ended.set(trace.name, trace);
    if (this.ended.size > COUNT_MAX) this.ended.delete(this.ended.keys().next().value!);
  }

  private use(traces: readonly Trace[]): void {
    this.traces = traces;
    this.topicTraces = traces.filter(({ target }) => target.kind === "topic");
    this.generation++;
    this.context.tap = traces.length > 0 ? this : null;
    if (traces.length > 0 && this.unhook.length === 0) this.hook();
    if (traces.length > 0) return;
    for (const off of this.unhook) off();
    this.unhook = [];
  }

  /** A bug here is no client's business. */
  private contain(look: () => void): void {
    try {
      look();
    } catch (error) {
      this.fail(error);
    }
  }

  private fail(error: unknown): void {
    this.options.onBug(error);
    this.stopAll();
  }
}

/** The topic that an alias stands for. */
function withAlias(connection: Connection, record: PacketRecord): PacketRecord {
  const alias = record.fields["topicAlias"];
  if (record.topic !== "" || typeof alias !== "number") return record;
  const topic = connection.rare?.inboundAliases?.get(alias);
  return topic ? { ...record, topic: topic.toString() } : record;
}
