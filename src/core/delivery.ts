/**
 * One session's deliveries: send now, take a packet id, let wait, or drop with a reason. Stop 7 of the way of a PUBLISH.
 *
 *   deliver ─┬─ QoS 0 ─────────────────────► sink, or drop
 *            └─ QoS 1/2 ─┬─ room in window ─► inflight ─► sink ─► acknowledge
 *                        └─ else ──────────► outbox ──── pump ──┘
 *
 * Each message that is not delivered leaves through `drop`. A body is copied to the pool once, for the first subscriber
 * that needs it beyond this call. Nothing is allocated for a QoS 0 delivery.
 */
import type { HookMessage, Hooks } from "./hooks.ts";
import type { Inflight } from "./inflight.ts";
import type { Limits } from "./limits.ts";
import { type MessagePool, MessageView } from "./message.ts";
import { type DropReason, Metric, type Metrics } from "./metrics.ts";
import { DELIVERY, DELIVERY_QOS, DELIVERY_RETAIN, GROUP, IDS, IdLists, MESSAGE } from "./outbox.ts";
import type { Sink, Store } from "./ports.ts";
import type { SessionQueue, SessionTable } from "./session-table.ts";
import { QOS_MASK, RETAIN_AS_PUBLISHED } from "./topic-index.ts";

/** Bits of a PUBLISH's first byte. */
const FLAG_RETAIN = 1;
const FLAG_DUP = 8;

const SENT = [Metric["messages.qos0.sent"], Metric["messages.qos1.sent"], Metric["messages.qos2.sent"]];

const DROPPED = dropSlots();

function dropSlots(): Record<DropReason, number> {
  const prefix = "messages.dropped.";
  const entries = Object.entries(Metric).filter(([name]) => name.startsWith(prefix));
  return Object.fromEntries(entries.map(([name, slot]) => [name.slice(prefix.length), slot])) as Record<
    DropReason,
    number
  >;
}

/** Values of `kept`. */
export const NOT_KEPT = -1;
const NO_MEMORY = -2;

export interface DeliveryParts {
  readonly limits: Limits;
  readonly messages: MessagePool;
  readonly sessions: SessionTable;
  readonly metrics: Metrics;
  readonly hooks: Hooks;
  readonly store: Store;
}

export class Delivery {
  /** Wall clock, seconds; the engine moves it. */
  nowSec = 0;
  /** Greatest store number among the changes since it was last reset. */
  storeSeq = 0;
  /** Greatest store number ever noted. */
  lastSeq = 0;
  /** Called when a session's outbox is full and its policy is to disconnect. */
  onOverflow: (session: number) => void = () => {};

  private readonly limits: Limits;
  private readonly messages: MessagePool;
  private readonly sessions: SessionTable;
  private readonly counts: Float64Array;
  private readonly hooks: Hooks;
  private readonly store: Store;
  readonly idLists: IdLists = new IdLists();
  private readonly stored = new MessageView();
  /** The pool's copy of the message at hand, or NOT_KEPT, or NO_MEMORY. */
  kept = NOT_KEPT;

  constructor(parts: DeliveryParts) {
    this.limits = parts.limits;
    this.messages = parts.messages;
    this.sessions = parts.sessions;
    this.counts = parts.metrics.counts;
    this.hooks = parts.hooks;
    this.store = parts.store;
  }

  /** Gives the message to one session; false when it was dropped. */
  deliver(view: MessageView, session: number, options: number, group: number): boolean {
    const sink = this.sessions.sinks[session];
    const granted = options & QOS_MASK;
    const qos = view.qos < granted ? view.qos : granted; // [MQTT-3.8.4-8]
    const retain = view.isRetain && (options & RETAIN_AS_PUBLISHED) !== 0 ? FLAG_RETAIN : 0; // [MQTT-3.3.1-12] [MQTT-3.3.1-13]
    if (qos !== 0) return this.deliverAcked(view, session, sink, (qos << 1) | retain, group);
    if (sink === null || this.isBehindQueue(session)) return this.deliverAbsent(view, session, retain, group);
    if (!sink.isWritable) return this.drop("slow_subscriber", session, view);
    if (!sink.deliver(view, retain, 0)) return this.drop("packet_too_large", session, view);
    this.counts[SENT[0]]++;
    if (this.hooks.messageDelivered.isUsed) this.noteDelivered(session, view);
    return true;
  }

  private deliverAcked(view: MessageView, session: number, sink: Sink | null, flags: number, group: number): boolean {
    if (!this.keep(view)) return this.drop("memory_full", session, view);
    const message = this.kept;
    const queue = this.sessions.queueFor(session);
    const { inflight, outbox } = queue;
    const delivery = (flags >> 1) | (flags & FLAG_RETAIN ? DELIVERY_RETAIN : 0);
    const ids = this.idLists.keep(view.ids, view.idCount);
    if (this.canSend(queue, sink)) {
      this.messages.addReference(message);
      const packetId = inflight.push(message, delivery, ids, group);
      if (!sink!.deliver(view, flags, packetId)) {
        inflight.remove(inflight.find(packetId));
        this.free(message, ids);
        return this.drop("packet_too_large", session, view); // [MQTT-3.1.2-25]
      }
      this.counts[SENT[flags >> 1]]++;
      if (this.hooks.messageDelivered.isUsed) this.noteDelivered(session, view);
      this.note("enqueued", session, message);
      return true;
    }
    if (!this.makeRoom(session, queue, this.messages.bytesOf(message))) {
      this.idLists.release(ids);
      return this.drop("queue_full", session, view);
    }
    this.messages.addReference(message);
    outbox.push(message, delivery, ids, group, this.messages.bytesOf(message));
    this.note("enqueued", session, message);
    return true;
  }

  /** Where QoS 0 is queued for the absent, what comes later must not pass it. */
  isBehindQueue(session: number): boolean {
    if (!this.limits.session.queueQos0) return false;
    const queue = this.sessions.queueOf(session);
    return queue !== null && queue.outbox.count > 0;
  }

  /** QoS 0 for a session whose client is away. */
  private deliverAbsent(view: MessageView, session: number, retain: number, group: number): boolean {
    if (!this.limits.session.queueQos0) return this.drop("absent", session, view);
    return this.deliverAcked(view, session, null, retain, group);
  }

  canSend(queue: SessionQueue, sink: Sink | null): boolean {
    return (
      sink !== null &&
      sink.isWritable &&
      queue.outbox.count === 0 &&
      queue.inflight.used < sink.windowMax && // [MQTT-3.3.4-9]
      queue.inflight.sentCount === queue.inflight.count
    );
  }

  /** Room for one more waiting message, by the session's policy. */
  private makeRoom(session: number, queue: SessionQueue, size: number): boolean {
    const { outboxCountMax, outboxBytesMax, dropPolicy } = this.limits.session;
    const { outbox } = queue;
    while (outbox.count >= outboxCountMax || outbox.bytes + size > outboxBytesMax) {
      if (dropPolicy === "disconnect") this.onOverflow(session);
      if (dropPolicy !== "oldest" || outbox.count === 0) return false;
      this.dropOldest(session, queue, "queue_full");
    }
    return true;
  }

  private dropOldest(session: number, queue: SessionQueue, reason: DropReason): void {
    const message = queue.outbox.at(0, MESSAGE);
    const ids = queue.outbox.at(0, IDS);
    queue.outbox.shift(this.messages.bytesOf(message));
    this.messages.load(message, this.stored);
    this.drop(reason, session, this.stored);
    this.note("acknowledged", session, message);
    this.free(message, ids);
  }

  /** Sends what a session has waiting, as far as its window and its link allow. */
  pump(session: number): void {
    const queue = this.sessions.queueOf(session);
    const sink = this.sessions.sinks[session];
    if (queue === null || sink === null) return;
    if (queue.inflight.sentCount !== queue.inflight.count) this.resend(session, queue, sink);
    const { outbox, inflight } = queue;
    while (outbox.count > 0 && sink.isWritable && this.sessions.sinks[session] === sink) {
      const delivery = outbox.at(0, DELIVERY);
      const isAcked = (delivery & DELIVERY_QOS) !== 0;
      if (isAcked && inflight.used >= sink.windowMax) return; // [MQTT-3.3.4-9]
      this.sendOldest(session, queue, sink, delivery);
    }
  }

  private sendOldest(session: number, queue: SessionQueue, sink: Sink, delivery: number): void {
    const { outbox, inflight } = queue;
    const message = outbox.at(0, MESSAGE);
    const ids = outbox.at(0, IDS);
    const view = this.stored;
    if (this.messages.expiryAtSec[message] <= this.nowSec) {
      return this.dropOldest(session, queue, "expired"); // [MQTT-3.3.2-5]
    }
    this.messages.load(message, view);
    this.loadIds(view, ids);
    const group = outbox.at(0, GROUP);
    outbox.shift(this.messages.bytesOf(message));
    const qos = delivery & DELIVERY_QOS;
    const flags = (qos << 1) | (delivery & DELIVERY_RETAIN ? FLAG_RETAIN : 0);
    const packetId = qos === 0 ? 0 : inflight.push(message, delivery, ids, group);
    if (sink.deliver(view, flags, packetId)) {
      this.counts[SENT[qos]]++;
      if (this.hooks.messageDelivered.isUsed) this.noteDelivered(session, view);
      if (qos !== 0) return;
    } else {
      this.drop("packet_too_large", session, view);
      this.note("acknowledged", session, message);
      if (qos !== 0) inflight.remove(inflight.find(packetId));
    }
    this.free(message, ids);
  }

  /** After a reconnect: what was sent before and is not acknowledged goes out again, in the order of then. */
  private resend(session: number, queue: SessionQueue, sink: Sink): void {
    const { inflight } = queue;
    while (inflight.used < sink.windowMax && sink.isWritable) {
      const position = inflight.resendNext(); // [MQTT-4.4.0-1]
      if (position < 0) return;
      if (this.sendAgain(queue, sink, position)) continue;
      this.drop("packet_too_large", session, this.stored); // [MQTT-3.1.2-25]
      const isExactlyOnce = (inflight.field(position, DELIVERY) & DELIVERY_QOS) === 2;
      const packetId = inflight.packetIdAt(position);
      this.takeOut(session, inflight, position);
      if (!isExactlyOnce) continue;
      inflight.release(packetId); // the client may have had it before: its id comes free by PUBREL only
      sink.release(packetId);
    }
  }

  private sendAgain(queue: SessionQueue, sink: Sink, position: number): boolean {
    const { inflight } = queue;
    const delivery = inflight.field(position, DELIVERY);
    const flags = ((delivery & DELIVERY_QOS) << 1) | (delivery & DELIVERY_RETAIN ? FLAG_RETAIN : 0) | FLAG_DUP;
    this.messages.load(inflight.field(position, MESSAGE), this.stored);
    this.loadIds(this.stored, inflight.field(position, IDS));
    return sink.deliver(this.stored, flags, inflight.packetIdAt(position)); // [MQTT-3.3.1-1] [MQTT-4.4.0-1]
  }

  /** A new connection has the session: PUBREL first; `pump` then sends PUBLISH, and what waited. */
  resume(session: number): void {
    const queue = this.sessions.queueOf(session);
    const sink = this.sessions.sinks[session];
    if (queue === null || sink === null) return;
    const { inflight } = queue;
    for (let i = 0; i < inflight.releasedCount; i++) sink.release(inflight.releasedAt(i)); // [MQTT-4.4.0-1]
  }

  /** 3.x by configuration: everything unacknowledged once more on the same connection. */
  retry(session: number): void {
    const queue = this.sessions.queueOf(session);
    const sink = this.sessions.sinks[session];
    if (queue === null || sink === null || !sink.isWritable || sink.isAwaitingCommit) return;
    const { inflight } = queue;
    for (let i = 0; i < inflight.releasedCount; i++) sink.release(inflight.releasedAt(i));
    for (let i = 0; i < inflight.sentPositions; i++) {
      if (inflight.packetIdAt(i) !== 0) this.sendAgain(queue, sink, i);
    }
  }

  /** Takes an acknowledged message of a QoS out of the window; false when the id is not awaited at it. */
  acknowledge(session: number, queue: SessionQueue, packetId: number, qos: number): boolean {
    const { inflight } = queue;
    const position = inflight.find(packetId);
    if (position < 0 || (inflight.field(position, DELIVERY) & DELIVERY_QOS) !== qos) return false;
    this.takeOut(session, inflight, position);
    return true;
  }

  private takeOut(session: number, inflight: Inflight, position: number): void {
    const message = inflight.field(position, MESSAGE);
    const ids = inflight.field(position, IDS);
    const packetId = inflight.packetIdAt(position);
    inflight.remove(position);
    this.free(message, ids);
    this.note("acknowledged", session, packetId);
  }

  /** Counts and reports a message that was not delivered. Always false, to be returned. */
  drop(reason: DropReason, session: number, view: MessageView): false {
    this.counts[DROPPED[reason]]++;
    if (session >= 0) {
      const queue = this.sessions.queueOf(session);
      if (queue !== null) queue.droppedCount++;
    }
    if (this.hooks.messageDropped.isUsed) {
      const clientId = session < 0 ? undefined : this.sessions.clientId(session);
      this.hooks.messageDropped.run(clientId, reason, this.describe(view));
    }
    return false;
  }

  /** The message as hooks see it. */
  describe(view: MessageView): HookMessage {
    return {
      topic: view.topicText(),
      payload: view.payload(),
      qos: view.qos as 0 | 1 | 2,
      isRetain: view.isRetain,
      publisher: view.publisher < 0 ? undefined : this.sessions.clientId(view.publisher),
    };
  }

  /** Sees to it that the pool holds the message being routed. */
  private keep(view: MessageView): boolean {
    if (this.kept === NOT_KEPT) {
      const message = this.messages.keep(view);
      this.kept = message < 0 ? NO_MEMORY : message;
    }
    return this.kept >= 0;
  }

  free(message: number, ids: number): void {
    this.messages.release(message);
    if (ids < 0) this.idLists.release(ids);
  }

  private loadIds(view: MessageView, ids: number): void {
    view.idCount = 0;
    if (ids > 0) view.ids[view.idCount++] = ids;
    else if (ids < 0) for (const id of this.idLists.get(ids)) addId(view, id);
  }

  note(record: "enqueued" | "acknowledged", session: number, item: number): void {
    if (this.store.isVolatile || !this.sessions.isPersistent(session)) return;
    this.noteSeq(this.store.append(record, session, item));
  }

  noteSeq(seq: number): void {
    if (seq > this.storeSeq) this.storeSeq = seq;
    if (seq > this.lastSeq) this.lastSeq = seq;
  }

  private noteDelivered(session: number, view: MessageView): void {
    this.hooks.messageDelivered.run(this.sessions.clientId(session), this.describe(view));
  }
}

/** Adds a subscription identifier to the delivery at hand. */
export function addId(view: MessageView, id: number): void {
  if (view.idCount === view.ids.length) {
    const next = new Int32Array(view.ids.length * 2);
    next.set(view.ids);
    view.ids = next;
  }
  view.ids[view.idCount++] = id;
}
