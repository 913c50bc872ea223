/**
 * The broker as a library: sessions, subscriptions, routing, retained messages, wills. No I/O, no clock, no chance, no
 * await: the caller moves time with `tick`, hands in the seed, and implements the ports (ports.ts).
 *
 *   connection ──► open ─ attach ─ subscribe ─ publish ─ acknowledge… ─ detach        engine ──► Sink.deliver
 *
 * A protocol (mqtt/, a gateway) drives it; so can an application, see docs/embedding.md. Every request that another process or a
 * disk may have to answer completes by callback, possibly before the call returns.
 */
import { BlockPool } from "#base/block-pool.ts";
import { Random } from "#base/random.ts";
import { TimerWheel } from "#base/timer-wheel.ts";
import { Delivery } from "./delivery.ts";
import { runPublishHook } from "./hook-message.ts";
import { Hooks } from "./hooks.ts";
import { Leavings } from "./leavings.ts";
import { Lifecycle, type Opened, type OpenRequest } from "./lifecycle.ts";
import { type LimitOverrides, type Limits, makeLimits } from "./limits.ts";
import { LocalFabric, OpenAccess, VolatileStore } from "./local-ports.ts";
import { MatchCache } from "./match-cache.ts";
import { isSystemTopic, MessagePool, MessageView } from "./message.ts";
import { Metrics } from "./metrics.ts";
import type { ValueStamps } from "./peer-mark.ts";
import { Peers } from "./peers.ts";
import { Priorities, type TopicPriority } from "./priorities.ts";
import type { Access, Fabric, Retained, Sink, Store } from "./ports.ts";
import { RetainedIndex } from "./retained.ts";
import { RetainedKeeper } from "./retained-keeper.ts";
import { Router } from "./router.ts";
import { Sender } from "./sender.ts";
import { SessionTable } from "./session-table.ts";
import { ShareGroups } from "./share-group.ts";
import { type SubscribeItem, Subscriptions } from "./subscriptions.ts";
import { TopicIndex } from "./topic-index.ts";
import type { Will } from "./will.ts";

export type { Limits, LimitOverrides, Opened, OpenRequest, Sink, SubscribeItem, Will };
export { MessageView };

export interface EngineOptions {
  readonly limits?: LimitOverrides;
  /** Any 32-bit integer; hashes and random choices follow from it. A broker on a network takes a secret one. */
  readonly seed: number;
  readonly nowMs: number; // monotonic, at the start
  readonly nowSec: number; // of the wall clock
  readonly access?: Access;
  readonly store?: Store;
  readonly fabric?: Fabric;
  /** For one of several processes that are peers of each other. */
  readonly stamps?: ValueStamps;
  /** Topics whose messages are sent before others that wait; see priorities.ts. */
  readonly priorities?: readonly TopicPriority[];
  /** Called when `turn` should be called soon: after the present event, before the next wait. */
  readonly onWork?: () => void;
  /** Called with what a deadline's or a put-off task's handler threw: a bug, counted in `bugs`. */
  readonly onBug?: (error: unknown) => void;
}

/** 5.0 reason codes the engine itself gives to a sink. */
const QUOTA_EXCEEDED = 0x97;

export class Engine {
  readonly limits: Limits;
  readonly metrics: Metrics = new Metrics();
  readonly hooks: Hooks = new Hooks();
  readonly access: Access;
  readonly store: Store;
  readonly fabric: Fabric;
  readonly timers: TimerWheel;
  readonly pool: BlockPool = new BlockPool();
  readonly messages: MessagePool;
  readonly index: TopicIndex;
  readonly cache: MatchCache;
  readonly sessions: SessionTable;
  readonly groups: ShareGroups;
  readonly retainedIndex: RetainedIndex;
  readonly random: Random;
  /** Monotonic milliseconds and wall-clock seconds of the last tick; the seconds rounded up, from which lives count: none ends early. */
  nowMs: number;
  nowSec: number;
  lifeFromSec: number;
  /** What the acknowledgement of the last request waits for in the fabric; `storeSeq` says the same of the store. */
  forwardSeq = 0;

  readonly delivery: Delivery;
  readonly sender: Sender;
  readonly priorities: Priorities | null;
  readonly router: Router;
  readonly leavings: Leavings;
  readonly subscriptions: Subscriptions;
  readonly keeper: RetainedKeeper;
  readonly lifecycle: Lifecycle;
  /** With several processes: the others. */
  readonly peers: Peers | null;
  /** Called when acknowledgements that wait may have become safe. */
  onSafe: () => void = () => {};
  private readonly retained: Retained;
  private readonly onWork: () => void;
  private readonly onBug: (error: unknown) => void;
  private readonly timerOwners: ((owner: number) => void)[] = [];
  private readonly work: (() => void)[] = [];
  /** Messages are being routed, or may not be yet: publishes wait for a later turn. */
  routingDepth = 0;
  private lastForwardSeq = 0;

  constructor(options: EngineOptions) {
    this.limits = makeLimits(options.limits);
    this.access = options.access ?? new OpenAccess();
    this.store = options.store ?? new VolatileStore();
    this.fabric = options.fabric ?? new LocalFabric();
    this.onWork = options.onWork ?? (() => {});
    this.onBug = options.onBug ?? (() => {});
    this.nowMs = options.nowMs;
    this.nowSec = this.lifeFromSec = options.nowSec;
    this.random = new Random(options.seed);
    const hashSeed = this.random.next();
    this.timers = new TimerWheel(options.nowMs, (kind, owner) => this.contain(() => this.timerOwners[kind](owner)));
    this.messages = new MessagePool(this.pool, this.limits.messages.bytesMax);
    this.index = new TopicIndex(this.pool, hashSeed);
    this.cache = new MatchCache(this.pool, this.index, this.limits.cache.matchCountMax);
    this.sessions = new SessionTable(this.pool, hashSeed);
    this.groups = new ShareGroups(this.index, this.limits.shared.strategy, this.random);
    this.retained = this.retainedIndex = new RetainedIndex(this.pool, this.messages, hashSeed);
    this.delivery = new Delivery(this);
    this.delivery.nowSec = options.nowSec;
    this.priorities = options.priorities?.length ? new Priorities(this.pool, hashSeed, options.priorities) : null;
    this.sender = new Sender(this, this.delivery);
    this.router = new Router(this);
    this.leavings = new Leavings(this, (task) => this.later(() => this.routed(task)));
    this.delivery.onOverflow = (session) => {
      const sink = this.sessions.sinks[session];
      this.later(() => sink?.end(QUOTA_EXCEEDED));
    };
    this.router.onMore = (session) => this.later(() => this.pump(session));
    this.store.onDurable = () => {
      this.routed(() => this.sender.pumpCommitted((session) => this.router.pump(session)));
      this.onSafe();
    };
    if (this.fabric.forwarding !== null) this.fabric.forwarding.onForwarded = () => this.onSafe();
    this.subscriptions = new Subscriptions(this);
    this.keeper = new RetainedKeeper(this);
    this.lifecycle = new Lifecycle(this);
    this.peers = options.stamps ? new Peers(this, options.stamps) : null;
  }

  /** What the acknowledgement of the last `open`, `publish`, `subscribe`, … waits for in the store. */
  get storeSeq(): number {
    return this.delivery.storeSeq;
  }

  /** What `forwardSeq` must not be above. */
  get forwardedSeq(): number {
    return this.fabric.forwarding === null ? 0 : this.fabric.forwarding.forwardedSeq;
  }

  /** Moves time on: fires what is due. Call it at least every 100 ms, and `turn` after it. `wallSec` may have a fraction. */
  tick(nowMs: number, wallSec: number): void {
    this.nowMs = nowMs;
    this.nowSec = this.delivery.nowSec = Math.floor(wallSec);
    this.lifeFromSec = Math.ceil(wallSec);
    this.timers.tick(nowMs);
    this.peers?.catchUp();
    this.turn();
  }

  /** Does what was put off: the next part of long replays, publishes made by hooks. */
  turn(): void {
    for (const task of this.work.splice(0)) this.contain(task);
  }

  /** A change got this number from the store: the acknowledgement of the present request waits for it. */
  noteSeq(seq: number): void {
    this.delivery.noteSeq(seq);
  }

  /** A timer kind of the caller's own; arm with `timers.arm(deadlineMs, kind, owner)`. */
  addTimerKind(fire: (owner: number) => void): number {
    return this.timerOwners.push(fire) - 1;
  }

  // ---- sessions: see lifecycle.ts

  /**
   * Gives a client its session: an existing one, or a new one. A connection that holds it is ended first. `sink` holds it
   * from then on, but must not be writable before CONNACK is out: then call `attach`. CONNACK waits for `storeSeq`.
   */
  open(request: OpenRequest, sink: Sink, complete: (opened: Opened) => void): void {
    this.lifecycle.request(request, sink, (opened) => {
      this.forwardSeq = 0;
      complete(opened);
    });
  }

  /** CONNACK is out: the session's packets flow to its sink, what waits first. */
  attach(session: number): void {
    this.pump(session, true);
    this.lifecycle.armRetry(session);
  }

  /** The expiry that DISCONNECT asks for. Only for a session whose expiry is not 0. */
  changeExpiry(session: number, expirySec: number): void {
    this.lifecycle.changeExpiry(session, expirySec);
  }

  /** The will is not to be published when the connection ends. */
  discardWill(session: number): void {
    this.lifecycle.dropWill(session); // [MQTT-3.14.4-3]
  }

  /** The session's connection has ended: its will goes out or waits, the session ends or waits. */
  detach(session: number): void {
    this.lifecycle.detach(session);
  }

  /** Removes a session with all it holds; its connection must be gone. */
  endSession(session: number): void {
    this.lifecycle.end(session);
  }

  /**
   * Subscribes; `complete` gets one 5.0 reason code an item, and must send SUBACK, since retained messages follow it.
   * Filters are copied.
   */
  subscribe(session: number, items: readonly SubscribeItem[], complete: (codes: Uint8Array) => void): void {
    this.begin();
    let seq = -1; // until `add` has returned
    this.subscriptions.add(session, items, this.retained, (codes) => {
      if (seq >= 0) {
        this.begin(); // others have been served since
        this.delivery.noteSeq(seq);
      }
      complete(codes);
      this.pump(session);
    });
    seq = this.storeSeq;
  }

  /** One 5.0 reason code a filter. */
  unsubscribe(session: number, filters: readonly Buffer[]): Uint8Array {
    this.begin();
    return this.routed(() => this.subscriptions.remove(session, filters));
  }

  /** True when the topic is remembered, and so known to be a valid topic name; `publish` then need not look it up again. */
  findTopic(view: MessageView): boolean {
    const hash = this.index.hash(view.bytes, view.topicStart, view.topicEnd);
    view.slot = this.cache.find(view.bytes, view.topicStart, view.topicEnd, hash);
    return view.slot >= 0;
  }

  /**
   * Routes a message whose topic the caller has checked, and keeps it if it is retained. Returns how many sessions get it;
   * `storeSeq` and `forwardSeq` then say what its acknowledgement waits for. The view is borrowed during the call.
   */
  publish(view: MessageView): number {
    if (this.routingDepth > 0) return this.publishLater(view);
    const isHooked = this.hooks.messagePublish.isUsed && !view.isForwarded;
    const isStopped = isHooked && !runPublishHook(view, this.hooks, this.delivery);
    this.begin(); // after the hooks, which may publish
    this.router.isWanted = isStopped; // by somebody perhaps
    if (isStopped) return 0;
    if (view.slot < 0) this.findTopic(view);
    if (view.isRetain && this.peers !== null) this.peers.stamp(view);
    const kept = view.isRetain ? this.keeper.retain(view) : -1;
    this.routingDepth++;
    try {
      const reached = this.router.route(view, kept);
      if (view.isRetain && this.peers !== null && !view.isForwarded) this.router.replicate(view, kept);
      if (this.fabric.forwarding !== null) {
        this.forwardSeq = this.fabric.forwarding.forward(view);
        this.lastForwardSeq = Math.max(this.lastForwardSeq, this.forwardSeq);
      }
      if (!this.router.isWanted && view.publisher >= 0) this.delivery.drop("no_subscriber", -1, view);
      return reached;
    } finally {
      this.routingDepth--;
      if (kept >= 0) this.messages.release(kept);
    }
  }

  /**
   * The store cannot write, and would have to, or may have to by what hooks make of it: the message must be refused before it
   * is routed.
   */
  isRefused(view: MessageView): boolean {
    if (this.store.isWritable) return false;
    return view.isRetain || this.hooks.messagePublish.isUsed || this.router.reachesStored(view);
  }

  /** Publishes on behalf of the broker or of the application that embeds it. The topic must be a valid topic name. */
  publishText(topic: string, payload: Uint8Array, options: { qos?: 0 | 1 | 2; isRetain?: boolean } = {}): number {
    const topicBytes = Buffer.from(topic);
    const view = new MessageView();
    view.reset(Buffer.concat([topicBytes, payload]), topicBytes.length);
    view.qos = options.qos ?? 0;
    view.isRetain = options.isRetain ?? false;
    return this.publishOwn(view);
  }

  /** What the broker says about itself is not counted among the messages. */
  publishOwn(view: MessageView): number {
    const isCounted = view.publisher >= 0 || this.routingDepth > 0 || !isSystemTopic(view);
    return isCounted ? this.publish(view) : this.metrics.withoutMessages(() => this.publish(view));
  }

  /** PUBACK (QoS 1), or PUBREC with an error (QoS 2): the message is done. False when the id was not awaited. */
  acknowledge(session: number, packetId: number, reasonCode: number, qos: number): boolean {
    const queue = this.sessions.queueOf(session);
    this.begin();
    const position = queue === null ? -1 : this.sender.positionOf(queue, packetId, qos);
    if (queue === null || position < 0) return false;
    this.sender.acknowledge(session, queue, position, reasonCode);
    if (queue.hasWaiting || this.router.hasReplays) this.pump(session);
    return true;
  }

  /** PUBREC: the message is delivered, its id is kept until PUBCOMP. False when the id was not awaited. */
  receive(session: number, packetId: number): boolean {
    const queue = this.sessions.queueOf(session);
    this.begin();
    return queue !== null && (queue.inflight.isReleased(packetId) || this.sender.receive(session, queue, packetId));
  }

  /** PUBCOMP: the id is free. False when the id was not awaited. */
  complete(session: number, packetId: number): boolean {
    const queue = this.sessions.queueOf(session);
    this.begin();
    if (!queue?.inflight.complete(packetId)) return false;
    this.noteChange("completed", session, packetId);
    if (queue.hasWaiting || this.router.hasReplays) this.pump(session);
    return true;
  }

  /** Acknowledging a packet again waits for all that was noted so far, its original among it. */
  awaitAll(): void {
    this.begin();
    this.delivery.storeSeq = this.delivery.lastSeq;
    this.forwardSeq = this.lastForwardSeq;
  }

  /** Notes the id of a QoS 2 PUBLISH; false when it was noted before, so that the message must not be routed again. */
  addReceipt(session: number, packetId: number): boolean {
    if (!this.sessions.receiptsFor(session).add(packetId)) return false;
    this.noteChange("receipt-added", session, packetId);
    return true;
  }

  /** PUBREL: forgets the id. False when it was not noted. */
  removeReceipt(session: number, packetId: number): boolean {
    const receipts = this.sessions.queueOf(session)?.receipts;
    this.begin();
    if (!receipts?.delete(packetId)) return false;
    this.noteChange("receipt-removed", session, packetId);
    return true;
  }

  /** The sink of the session can take more. */
  resumeDelivery(session: number): void {
    this.pump(session);
  }

  /** Counts a message that its publisher was not allowed to publish, or that was dropped before routing. */
  dropUnrouted(reason: "not_authorized" | "store_full" | "overloaded" | "stopped_by_hook", view: MessageView): void {
    this.begin();
    this.delivery.drop(reason, view.publisher, view);
  }

  /** A hook published while a message is being routed: it goes out in the next turn. */
  private publishLater(view: MessageView): number {
    const message = this.messages.keep(view);
    if (message < 0) {
      this.delivery.drop("memory_full", view.publisher, view);
      return 0;
    }
    const { publisher, publisherKey, isForwarded, valueStamp } = view;
    const publish = (): void => {
      const later = new MessageView();
      this.messages.load(message, later);
      later.publisher = publisher;
      later.publisherKey = publisherKey;
      later.isForwarded = isForwarded;
      later.valueStamp = valueStamp;
      this.publishOwn(later);
      this.messages.release(message);
    };
    if (this.peers === null || this.peers.isSynced) this.later(publish);
    else this.peers.whenSynced(publish);
    return 0;
  }

  /**
   * Does at once what changes sessions or subscriptions, or in the next turn when a message is being routed: for hooks,
   * which are called while that may be so.
   */
  whenQuiet(task: () => void): void {
    if (this.routingDepth > 0) this.later(task);
    else task();
  }

  later(task: () => void): void {
    this.work.push(task);
    if (this.work.length === 1) this.onWork();
  }

  /** Runs what routes messages: publishes made by hooks meanwhile wait for the next turn. */
  routed<T>(action: () => T): T {
    this.routingDepth++;
    try {
      return action();
    } finally {
      this.routingDepth--;
    }
  }

  /** Sends what waits; `routed` without a closure. */
  pump(session: number, isResuming = false): void {
    this.routingDepth++;
    try {
      if (isResuming) this.sender.resume(session);
      this.router.pump(session);
    } finally {
      this.routingDepth--;
    }
  }

  /** A new request: its acknowledgement waits for nothing yet. */
  begin(): void {
    this.delivery.storeSeq = 0;
    this.forwardSeq = 0;
  }

  private noteChange(
    record: "receipt-added" | "receipt-removed" | "completed",
    session: number,
    packetId: number,
  ): void {
    if (this.sessions.isStored[session] === 0) return;
    this.noteSeq(this.store.append(record, session, packetId));
  }

  /** One deadline's or task's bug must not keep the others from theirs. */
  private contain(action: () => void): void {
    try {
      action();
    } catch (error) {
      this.metrics.add("bugs");
      this.onBug(error);
    }
  }
}
