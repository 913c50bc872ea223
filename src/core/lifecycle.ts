/**
 * The life of a session: opened by a connection, left, taken over, expired, ended; and its will on the way.
 *
 *            open                 detach, expiry > 0                expiry reached, clean start
 *   (none) ────────► connected ────────────────────► away ──────────────────────────────────────► ended
 *                        │  ▲                          │
 *              take-over ▼  └────────── open ──────────┘          expiry 0: detach ends it at once
 *
 * A will goes out when its connection ends without DISCONNECT 0x00: after its delay, or when the session ends, whichever
 * comes first; a new connection to the session before that cancels it (MQTT 5.0 §3.1.2.5, §3.1.3.2.2).
 */
import type { TimerWheel } from "#base/timer-wheel.ts";
import type { Delivery } from "./delivery.ts";
import type { Hooks } from "./hooks.ts";
import type { Leavings } from "./leavings.ts";
import type { Limits } from "./limits.ts";
import { expiryAt, type MessagePool, type MessageView, NEVER } from "./message.ts";
import type { Metrics } from "./metrics.ts";
import { PEER_PREFIX, type Peers } from "./peers.ts";
import type { Fabric, Sink, Store, StoreRecord } from "./ports.ts";
import type { Router } from "./router.ts";
import type { Sender } from "./sender.ts";
import type { SessionTable } from "./session-table.ts";
import type { ShareGroups } from "./share-group.ts";
import type { Subscriptions } from "./subscriptions.ts";
import type { TopicIndex } from "./topic-index.ts";
import { type KeptWill, type Will, Wills } from "./will.ts";

export interface OpenRequest {
  readonly clientId: Buffer;
  readonly isCleanStart: boolean;
  readonly expirySec: number;
  readonly will: Will | undefined;
  /** The session of another process of this broker: no client's. */
  readonly isPeer?: boolean;
}

/** What `open` completes with. `session` is −1 when there is no room for one. */
export interface Opened {
  readonly session: number;
  readonly isPresent: boolean;
}

/** 5.0 reason code. */
const SESSION_TAKEN_OVER = 0x8e;

export interface LifecycleParts {
  readonly limits: Limits;
  readonly sessions: SessionTable;
  readonly subscriptions: Subscriptions;
  readonly messages: MessagePool;
  readonly index: TopicIndex;
  readonly groups: ShareGroups;
  readonly delivery: Delivery;
  readonly sender: Sender;
  readonly router: Router;
  readonly leavings: Leavings;
  readonly hooks: Hooks;
  readonly metrics: Metrics;
  readonly timers: TimerWheel;
  readonly store: Store;
  readonly fabric: Fabric;
  readonly peers: Peers | null;
  readonly nowMs: number;
  readonly nowSec: number;
  readonly lifeFromSec: number;
  addTimerKind(fire: (owner: number) => void): number;
  publish(view: MessageView): number;
  /** Runs what routes messages, so that publishes made by hooks meanwhile wait. */
  routed<T>(action: () => T): T;
}

/** Each time so many ended sessions are noted, those that are safe are forgotten. */
const ENDED_COUNT = 1024;

export class Lifecycle {
  private readonly wills: Wills;
  /** Stored sessions that ended and may not be safe yet: the store's number by the key of the client id. */
  private readonly ended = new Map<number, number>();
  private readonly expiryKind: number;
  private readonly willKind: number;
  private readonly retryKind: number;

  constructor(private readonly parts: LifecycleParts) {
    this.wills = new Wills(parts.messages);
    this.expiryKind = parts.addTimerKind((session) => this.expireSession(session));
    this.willKind = parts.addTimerKind((session) => this.publishDelayedWill(session));
    this.retryKind = parts.addTimerKind((session) => this.retryAll(session));
  }

  /** See `Engine.open`. */
  request(request: OpenRequest, sink: Sink, complete: (opened: Opened) => void): void {
    const { store, fabric } = this.parts;
    store.whenReady(() => {
      fabric.claim(request.clientId, (epoch) => this.openFetched(request, sink, epoch, complete));
    });
  }

  /** A session that goes on has its messages in flight at hand first. */
  private openFetched(request: OpenRequest, sink: Sink, epoch: number, complete: (opened: Opened) => void): void {
    const { sessions, store } = this.parts;
    const known = sessions.find(request.clientId);
    if (known >= 0 && sessions.epoch[known] > epoch) return sink.end(SESSION_TAKEN_OVER); // by one that came later
    if (known >= 0 && !request.isCleanStart && sessions.queueOf(known)?.isOnDisk) {
      this.await(known);
      return store.fetch(known, () => this.openFetched(request, sink, epoch, complete));
    }
    complete(this.open(request, sink, epoch));
  }

  private open(request: OpenRequest, sink: Sink, epoch: number): Opened {
    const { sessions, delivery, limits, metrics, hooks, store } = this.parts;
    let session = sessions.find(request.clientId);
    const expirySec = Math.min(request.expirySec, limits.session.expirySecMax);
    const isKept = !store.isVolatile && expirySec > 0;
    const wasKept = session >= 0 && sessions.isStored[session] !== 0;
    if (!store.isWritable && (isKept || wasKept)) return { session: -1, isPresent: false };
    if (session >= 0) session = this.takeOver(session, request.isCleanStart);
    const isPresent = session >= 0;
    if (!isPresent) {
      if (sessions.count >= limits.session.countMax) return { session: -1, isPresent: false };
      session = sessions.create(request.clientId, this.parts.nowSec);
    }
    // The end of the client's old session must be safe too, however it came.
    delivery.storeSeq = isKept || wasKept ? delivery.lastSeq : (this.ended.get(sessions.keyOf(session)) ?? 0);
    this.setSink(session, sink);
    sessions.epoch[session] = epoch;
    sessions.expirySec[session] = expirySec;
    if (isKept) sessions.isStored[session] = 1;
    if (!this.wills.set(session, request.will)) delivery.drop("memory_full", session, request.will!.view);
    this.note("session-opened", session);
    if (request.isPeer) {
      sessions.isPeer[session] = 1;
      return { session, isPresent };
    }
    metrics.add(isPresent ? "sessions.resumed" : "sessions.created");
    const hook = isPresent ? hooks.sessionResumed : hooks.sessionCreated;
    if (hook.isUsed) hook.run(sessions.clientId(session));
    return { session, isPresent };
  }

  private setSink(session: number, sink: Sink | null): void {
    const { sessions, subscriptions } = this.parts;
    const wasConnected = sessions.sinks[session] !== null;
    sessions.sinks[session] = sink;
    if ((sink !== null) !== wasConnected) subscriptions.noteLink(session, sink !== null);
  }

  /** See `Engine.changeExpiry`. */
  changeExpiry(session: number, expirySec: number): void {
    this.parts.sessions.expirySec[session] = Math.min(expirySec, this.parts.limits.session.expirySecMax); // [MQTT-3.1.2-23]
    this.note("expiry-changed", session);
  }

  /** The session's connection has ended: its will goes out or waits, the session ends or waits. */
  detach(session: number): void {
    this.setSink(session, null);
    this.parts.sessions.queueOf(session)?.inflight.rewind();
    this.stopRetry(session);
    const expirySec = this.parts.sessions.expirySec[session];
    if (expirySec === 0) return this.end(session);
    if (expirySec !== NEVER) {
      const deadline = this.parts.nowMs + expirySec * 1000;
      this.parts.sessions.expiryTimer[session] = this.parts.timers.arm(deadline, this.expiryKind, session);
    }
    const will = this.wills.get(session);
    if (will?.delaySec === 0)
      this.publishWill(session); // [MQTT-3.1.2-8]
    else if (will) will.timer = this.parts.timers.arm(this.parts.nowMs + will.delaySec * 1000, this.willKind, session);
    this.parts.routed(() =>
      this.parts.leavings.handOver(session, (group) => this.hasOtherMember(group, session, true)),
    );
    this.note("session-closed", session);
  }

  /** Removes a session with all it holds; its connection must be gone. */
  end(session: number): void {
    if (this.parts.sessions.isStored[session] !== 0) {
      this.note("session-ended", session);
      this.noteEnd(this.parts.sessions.keyOf(session), this.parts.delivery.lastSeq);
      this.parts.sessions.isStored[session] = 0;
    }
    this.publishWill(session); // [MQTT-3.1.2-8]
    this.disarmExpiry(session);
    this.stopRetry(session);
    this.parts.routed(() => {
      this.parts.subscriptions.removeAll(session);
      this.parts.router.dropReplays(session, -1);
      this.parts.leavings.discard(session, (group) => this.hasOtherMember(group, session, false));
    });
    this.parts.metrics.add("sessions.ended");
    if (this.parts.hooks.sessionEnded.isUsed) this.parts.hooks.sessionEnded.run(this.parts.sessions.clientId(session));
    this.parts.sessions.remove(session);
  }

  /** Ends the connection that holds the session. Returns the session if it goes on, else −1. */
  private takeOver(session: number, isCleanStart: boolean): number {
    const sink = this.parts.sessions.sinks[session];
    const isEnding = isCleanStart || !this.parts.sessions.isPersistent(session);
    if (sink !== null) {
      const { sessionTakenOver } = this.parts.hooks;
      const isClients = this.parts.sessions.isPeer[session] === 0;
      if (isClients && sessionTakenOver.isUsed) sessionTakenOver.run(this.parts.sessions.clientId(session));
      this.setSink(session, null);
      sink.end(SESSION_TAKEN_OVER); // [MQTT-3.1.4-3]
      this.parts.sessions.queueOf(session)?.inflight.rewind();
      this.stopRetry(session);
      if (!isEnding && this.wills.get(session)?.delaySec === 0) this.publishWill(session);
    }
    if (isEnding) {
      this.end(session); // [MQTT-3.1.2-4] [MQTT-3.1.4-4]
      return -1;
    }
    this.disarmExpiry(session);
    this.dropWill(session); // [MQTT-3.1.3-9]
    return session;
  }

  /** The session's client is back, and waits for what the session has: its deadlines are not to come between. */
  private await(session: number): void {
    this.disarmExpiry(session);
    const will = this.wills.get(session);
    if (!will || will.timer < 0) return;
    this.parts.timers.cancel(will.timer);
    will.timer = -1;
  }

  private expireSession(session: number): void {
    this.parts.sessions.expiryTimer[session] = -1;
    this.parts.metrics.add("sessions.expired");
    const { sessionExpired } = this.parts.hooks;
    if (sessionExpired.isUsed) sessionExpired.run(this.parts.sessions.clientId(session));
    this.end(session); // [MQTT-3.1.2-23]
  }

  private disarmExpiry(session: number): void {
    const timer = this.parts.sessions.expiryTimer[session];
    if (timer < 0) return;
    this.parts.timers.cancel(timer);
    this.parts.sessions.expiryTimer[session] = -1;
  }

  private publishWill(session: number): void {
    const will = this.wills.get(session);
    if (!will) return;
    const view = this.wills.load(will, expiryAt(this.parts.lifeFromSec, will.expirySec));
    view.publisher = session;
    view.publisherKey = this.parts.sessions.keyOf(session);
    if (will.expirySec === NEVER) view.expiryAtSec = NEVER;
    this.parts.metrics.add("wills.published");
    if (this.parts.hooks.willPublished.isUsed) this.notePublished(session, view);
    this.parts.publish(view);
    this.forgetWill(session); // [MQTT-3.1.2-10]
  }

  private publishDelayedWill(session: number): void {
    this.wills.get(session)!.timer = -1;
    this.publishWill(session);
  }

  private notePublished(session: number, view: MessageView): void {
    const message = this.parts.delivery.describe(view);
    this.parts.hooks.willPublished.run(this.parts.sessions.clientId(session), message);
    message.close();
  }

  /** The session's will is not to be published. */
  dropWill(session: number): void {
    if (!this.wills.get(session)) return;
    this.forgetWill(session);
    if (this.parts.hooks.willDropped.isUsed) this.parts.hooks.willDropped.run(this.parts.sessions.clientId(session));
  }

  private forgetWill(session: number): void {
    const timer = this.wills.remove(session);
    if (timer >= 0) this.parts.timers.cancel(timer);
    this.note("will-gone", session);
  }

  /** Undefined where the session has no will. */
  willTopicOf(session: number): string | undefined {
    return this.wills.topicOf(session);
  }

  /** What the store keeps of a session's will. */
  willOf(session: number): KeptWill | undefined {
    return this.wills.get(session);
  }

  /** A session as the store had it; its client is away. Then come its subscriptions and messages, last `armRestored`. */
  restore(clientId: Buffer, expirySec: number, will: Will | undefined): number {
    const { sessions, nowSec } = this.parts;
    const session = sessions.create(clientId, nowSec);
    sessions.isStored[session] = 1;
    sessions.expirySec[session] = expirySec;
    if (clientId.toString().startsWith(PEER_PREFIX)) this.parts.peers?.add(session);
    this.wills.set(session, will);
    return session;
  }

  /**
   * Everything is restored: the session's deadlines run. `closedAtSec` is when its client left, undefined when it was
   * connected as the broker stopped: then it gets the time to come back before its will says that it is gone.
   */
  armRestored(session: number, closedAtSec: number | undefined): void {
    const { sessions, limits, timers, nowSec, nowMs } = this.parts;
    const expirySec = sessions.expirySec[session];
    const sinceSec = closedAtSec ?? nowSec;
    // It ended with its connection, or while the broker was down.
    if (expirySec === 0 || (expirySec !== NEVER && sinceSec + expirySec <= nowSec)) return this.end(session);
    const msUntil = (sec: number): number => nowMs + Math.max(0, sec - nowSec) * 1000;
    if (expirySec !== NEVER) {
      sessions.expiryTimer[session] = timers.arm(msUntil(sinceSec + expirySec), this.expiryKind, session);
    }
    const will = this.wills.get(session);
    const graceSec = closedAtSec === undefined ? limits.session.willGraceSec : 0;
    if (will) will.timer = timers.arm(msUntil(sinceSec + Math.max(will.delaySec, graceSec)), this.willKind, session);
  }

  /** 3.x by configuration: what stays unacknowledged is sent again on the same connection. */
  armRetry(session: number): void {
    const { retrySec } = this.parts.limits.mqtt;
    if (retrySec === 0 || !this.parts.sessions.sinks[session]?.isRetryAllowed) return; // [MQTT-4.4.0-1]
    const queue = this.parts.sessions.queueFor(session);
    queue.retryTimer = this.parts.timers.arm(this.parts.nowMs + retrySec * 1000, this.retryKind, session);
    queue.retryId = queue.inflight.oldestId;
  }

  private stopRetry(session: number): void {
    const queue = this.parts.sessions.queueOf(session);
    if (queue === null || queue.retryTimer < 0) return;
    this.parts.timers.cancel(queue.retryTimer);
    queue.retryTimer = -1;
  }

  private retryAll(session: number): void {
    const queue = this.parts.sessions.queueOf(session);
    const sink = this.parts.sessions.sinks[session];
    if (queue === null) return;
    queue.retryTimer = -1;
    if (sink === null) return;
    const oldest = queue.inflight.oldestId;
    if (oldest !== 0 && oldest === queue.retryId) this.parts.sender.retry(session);
    this.armRetry(session);
  }

  private hasOtherMember(group: number, session: number, isConnected: boolean): boolean {
    if (group < 0 || !this.parts.groups.has(group)) return false;
    return this.parts.groups.get(group).members.some((sub) => {
      const member = this.parts.index.target[sub];
      return member !== session && (!isConnected || this.parts.sessions.sinks[member] !== null);
    });
  }

  private noteEnd(key: number, seq: number): void {
    this.ended.set(key, seq);
    if (this.ended.size % ENDED_COUNT !== 0) return;
    for (const [each, number] of this.ended) if (number <= this.parts.store.durableSeq) this.ended.delete(each);
  }

  private note(record: StoreRecord, session: number): void {
    const { store, delivery, sessions } = this.parts;
    if (sessions.isStored[session] !== 0) delivery.noteSeq(store.append(record, session, 0));
  }
}
