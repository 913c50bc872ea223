/**
 * Into a session's queue: send now, take a packet id, let wait, or drop with a reason. Stop 7 of the way of a PUBLISH.
 *
 *   deliver ─┬─ QoS 0 ─────────────────────► sink, or drop
 *            └─ QoS 1/2 ─┬─ room in window ─► inflight ─► sink ─► acknowledge
 *                        └─ else ──────────► outbox ─ sender.ts ┘
 *
 * Each message that is not delivered leaves through `drop`. A body is copied to the pool once, for the first subscriber
 * that needs it beyond this call. Nothing is allocated for a QoS 0 delivery.
 */
import { HookMessage } from "./hook-message.ts";
import type { Hooks } from "./hooks.ts";
import type { Limits } from "./limits.ts";
import type { MatchCache } from "./match-cache.ts";
import { FOLLOW_NEXT, FOLLOW_NONE, type MessagePool, MessageView } from "./message.ts";
import { type DropReason, Metric, type Metrics } from "./metrics.ts";
import { DELIVERY_RETAIN, IDS, IdLists, type Lane, MESSAGE, SEQ } from "./outbox.ts";
import type { Sink, Store } from "./ports.ts";
import type { SessionQueue, SessionTable } from "./session-table.ts";
import { QOS_MASK, RETAIN_AS_PUBLISHED } from "./topic-index.ts";
import { TopicTexts } from "./topic-texts.ts";

/** Bits of a PUBLISH's first byte. */
export const FLAG_RETAIN = 1;
export const FLAG_DUP = 8;

export const SENT = [Metric["messages.qos0.sent"], Metric["messages.qos1.sent"], Metric["messages.qos2.sent"]];

const DROPPED = dropSlots();

function dropSlots(): Record<DropReason, number> {
  const prefix = "messages.dropped.";
  const entries = Object.entries(Metric).filter(([name]) => name.startsWith(prefix));
  return Object.fromEntries(entries.map(([name, slot]) => [name.slice(prefix.length), slot])) as Record<
    DropReason,
    number
  >;
}

/** What a queue entry remembers of its number in the store. */
export const SEQ_MASK = 0x7fff_ffff;
/** Values of `kept`. */
export const NOT_KEPT = -1;
const NO_MEMORY = -2;

export interface DeliveryParts {
  readonly limits: Limits;
  readonly messages: MessagePool;
  readonly sessions: SessionTable;
  readonly cache: MatchCache;
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
  /** Called when another process does not get a retained message. */
  onValueLost: (session: number) => void = () => {};
  /** Called when a session's outbox grows to so many messages, or bytes. It must only take note. */
  onQueueHigh: (session: number) => void = () => {};
  /** Called when the message that the pool follows begins to wait, and when it is sent. */
  onFollowed: (isSent: boolean) => void = () => {};
  queueHighCount = Infinity;
  queueHighBytes = Infinity;

  readonly limits: Limits;
  private readonly messages: MessagePool;
  readonly sessions: SessionTable;
  readonly topicTexts: TopicTexts;
  private readonly counts: Float64Array;
  private readonly hooks: Hooks;
  private readonly store: Store;
  readonly idLists: IdLists = new IdLists();
  private readonly stored = new MessageView();
  /** What waits for a commit: number in the store, session, and the id of a PUBREL or 0 for PUBLISH; ascending. */
  readonly held: number[] = [];
  /** For each of these the connection that was to be sent a PUBREL, or null. */
  readonly heldSinks: (Sink | null)[] = [];
  /** The lane of the message being routed, as bits of `delivery`. */
  lane = 0;
  /** The pool's copy of the message at hand, or NOT_KEPT, or NO_MEMORY. */
  kept = NOT_KEPT;

  constructor(parts: DeliveryParts) {
    this.limits = parts.limits;
    this.messages = parts.messages;
    this.sessions = parts.sessions;
    this.counts = parts.metrics.counts;
    this.hooks = parts.hooks;
    this.store = parts.store;
    this.topicTexts = new TopicTexts(parts.cache);
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
    const isStored = this.sessions.isStored[session] !== 0;
    const qos = flags >> 1;
    const delivery = qos | (flags & FLAG_RETAIN ? DELIVERY_RETAIN : 0) | this.lane;
    const ids = this.idLists.keep(view.ids, view.idCount);
    if (isStored && qos === 2 ? this.canHold(queue, sink) : this.canSend(queue, sink)) {
      this.messages.addReference(message);
      if (isStored && qos === 2) {
        this.hold(session, queue, message, delivery, ids, group);
        return true;
      }
      const packetId = queue.inflight.push(message, delivery, ids, group);
      if (!sink!.deliver(view, flags, packetId)) {
        queue.inflight.remove(queue.inflight.find(packetId));
        this.free(message, ids);
        return this.drop("packet_too_large", session, view); // [MQTT-3.1.2-25]
      }
      this.counts[SENT[qos]]++;
      if (this.sessions.queueOf(session) !== queue) return true; // it ended with that, and freed what it had
      if (isStored) this.enqueued(session, queue, message, delivery, ids, group, packetId);
      if (this.hooks.messageDelivered.isUsed) this.noteDelivered(session, view);
      return true;
    }
    if (!this.makeRoom(session, queue, this.messages.bytesOf(message))) {
      this.idLists.release(ids);
      return this.drop("queue_full", session, view);
    }
    this.messages.addReference(message);
    const seq = isStored ? this.store.enqueue(session, message, delivery, ids, group, 0) : 0;
    const size = this.messages.bytesOf(message);
    const { outbox } = queue;
    outbox.push(message, delivery, ids, group, size, seq & SEQ_MASK);
    this.noteSeq(seq);
    if (sink !== null && this.messages.followed === FOLLOW_NEXT) this.follow(message);
    const hasNewHeight = outbox.bytes >= this.queueHighBytes && outbox.bytes - size < this.queueHighBytes;
    if (hasNewHeight || outbox.count === this.queueHighCount) this.onQueueHigh(session);
    return true;
  }

  private enqueued(
    session: number,
    queue: SessionQueue,
    message: number,
    delivery: number,
    ids: number,
    group: number,
    packetId: number,
  ): void {
    const seq = this.store.enqueue(session, message, delivery, ids, group, packetId);
    queue.inflight.setLastSeq(seq & SEQ_MASK);
    this.noteSeq(seq);
  }

  /** Exactly once: message and packet id must be safe before the client sees them. `pumpCommitted` sends it. */
  private hold(
    session: number,
    queue: SessionQueue,
    message: number,
    delivery: number,
    ids: number,
    group: number,
  ): void {
    if (this.messages.followed === FOLLOW_NEXT) this.follow(message);
    const packetId = queue.inflight.hold(message, delivery, ids, group);
    this.enqueued(session, queue, message, delivery, ids, group, packetId);
    this.holdBack(session, 0);
  }

  private follow(message: number): void {
    this.messages.followed = message;
    this.onFollowed(false);
  }

  /** A message that had waited was sent. */
  noteLeft(message: number): void {
    if (message !== this.messages.followed) return;
    this.messages.followed = FOLLOW_NONE;
    this.onFollowed(true);
  }

  /** The PUBLISH, or the PUBREL of a packet id, that the last change stands for waits for its commit. */
  holdBack(session: number, packetId: number): void {
    this.held.push(this.lastSeq, session, packetId);
    this.heldSinks.push(packetId === 0 ? null : this.sessions.sinks[session]);
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
    if (!this.store.isWritable && this.sessions.isStored[session] !== 0) return this.drop("store_full", session, view);
    return this.deliverAcked(view, session, null, retain, group);
  }

  private canHold({ outbox, inflight }: SessionQueue, sink: Sink | null): boolean {
    return sink !== null && sink.isWritable && outbox.count === 0 && inflight.total < sink.windowMax; // [MQTT-3.3.4-9]
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
      if (dropPolicy !== "oldest" || !this.dropOldest(session, queue)) return false;
    }
    return true;
  }

  /** The oldest of the lowest priority gives way. */
  private dropOldest(session: number, queue: SessionQueue): boolean {
    const { lanes } = queue.outbox;
    for (let i = lanes.length - 1; i >= 0; i--) {
      const lane = lanes[i];
      if (lane.head.count > 0) {
        this.dropHead(session, queue, lane, "queue_full");
        return true;
      }
      if (lane.pages.length > 0) return this.store.dropPage(session, lane.number);
    }
    return false;
  }

  dropHead(session: number, queue: SessionQueue, lane: Lane, reason: DropReason): void {
    const message = lane.head.at(0, MESSAGE);
    const ids = lane.head.at(0, IDS);
    const seq = lane.head.at(0, SEQ);
    queue.outbox.shift(lane, this.messages.bytesOf(message));
    this.messages.load(message, this.stored);
    this.drop(reason, session, this.stored);
    if (this.sessions.isStored[session] !== 0) this.store.shift(session, lane.number, seq, message);
    else if (seq !== 0) this.store.forget(seq, message); // the session is ending, and its own will comes to it
    this.free(message, ids);
  }

  /** Counts and reports a message that was not delivered. Always false, to be returned. */
  drop(reason: DropReason, session: number, view: MessageView): false {
    if (session >= 0) {
      const queue = this.sessions.queueOf(session);
      if (queue !== null) queue.droppedCount++;
      if (view.isRetain && this.sessions.isPeer[session] !== 0) this.onValueLost(session);
    }
    return this.dropFor(this.clientOf(session), reason, view);
  }

  /** As `drop`, for a session that may be gone; `client` is what `clientOf` said of it. */
  dropFor(client: string | undefined, reason: DropReason, view: MessageView): false {
    this.counts[DROPPED[reason]]++;
    if (this.hooks.messageDropped.isUsed) {
      const message = this.describe(view);
      this.hooks.messageDropped.run(client, reason, message);
      message.close();
    }
    return false;
  }

  /** The client as `messageDropped` names it, when that is used; undefined for none, and for another process of the broker. */
  clientOf(session: number): string | undefined {
    const isTold = this.hooks.messageDropped.isUsed && session >= 0 && this.sessions.isPeer[session] === 0;
    return isTold ? this.sessions.clientId(session) : undefined;
  }

  /** The message as hooks see it. */
  describe(view: MessageView): HookMessage {
    return new HookMessage(view, this);
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

  noteSeq(seq: number): void {
    if (seq > this.storeSeq) this.storeSeq = seq;
    if (seq > this.lastSeq) this.lastSeq = seq;
  }

  /** A message in flight is the client's now. */
  noteAcked(session: number, message: number, packetId: number): void {
    if (this.sessions.isPeer[session] !== 0) return;
    this.messages.load(message, this.stored);
    const described = this.describe(this.stored);
    this.hooks.messageAcked.run(this.sessions.clientId(session), described, packetId);
    described.close();
  }

  noteDelivered(session: number, view: MessageView): void {
    if (this.sessions.isPeer[session] !== 0) return;
    const message = this.describe(view);
    this.hooks.messageDelivered.run(this.sessions.clientId(session), message);
    message.close();
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
