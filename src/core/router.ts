/**
 * From a published message to the sessions that get it: stops 5 and 6 of the way of a PUBLISH (src/README.md).
 *
 *   route(view) ─ match-cache ─► targets ─┬─ session ──────► delivery.ts
 *                                         └─ share group ─► dispatch: one member ─► delivery.ts
 *
 * Besides what is published it routes retained messages for new subscriptions; what those leave who go is in leavings.ts.
 * Nothing is allocated while a message is routed.
 */
import { type BlockPool, offsetOf, pageOf } from "#base/block-pool.ts";
import { addId, type Delivery, NOT_KEPT } from "./delivery.ts";
import type { Limits } from "./limits.ts";
import { MERGED, type MatchCache } from "./match-cache.ts";
import { type MessagePool, MessageView } from "./message.ts";
import type { RetainedCursor, Sink } from "./ports.ts";
import type { Priorities } from "./priorities.ts";
import type { Sender } from "./sender.ts";
import type { SessionTable } from "./session-table.ts";
import type { ShareGroups } from "./share-group.ts";
import { markRetained, markShared } from "./peer-mark.ts";
import { HAS_ID, NO_LOCAL, PEER, QOS_MASK, RETAIN_AS_PUBLISHED, type TopicIndex } from "./topic-index.ts";

/** A retained look-up that is being delivered. */
interface Replay {
  readonly cursor: RetainedCursor;
  readonly subscription: number;
  readonly options: number;
  readonly id: number;
}

/** How ready a share group's member is: it takes the message now, or it will wait there, or not at all. */
const TAKES_NOW = 0;
export const CONNECTED = 1;
const AWAY = 2;
const CANNOT = 3;
export const ANY_MEMBER = AWAY;

/** So many messages wait for another process while its queue is being committed: its members are no less ready than those here. */
const PEER_BACKLOG = 1024;

export interface RouterParts {
  readonly pool: BlockPool;
  readonly limits: Limits;
  readonly index: TopicIndex;
  readonly cache: MatchCache;
  readonly messages: MessagePool;
  readonly sessions: SessionTable;
  readonly groups: ShareGroups;
  readonly delivery: Delivery;
  readonly sender: Sender;
  /** Null when all messages are alike. */
  readonly priorities: Priorities | null;
}

export class Router {
  /** Called when a session could be sent more retained messages in a later turn. */
  onMore: (session: number) => void = () => {};

  private readonly pool: BlockPool;
  private readonly limits: Limits;
  private readonly index: TopicIndex;
  private readonly cache: MatchCache;
  private readonly messages: MessagePool;
  private readonly sessions: SessionTable;
  private readonly groups: ShareGroups;
  private readonly delivery: Delivery;
  private readonly sender: Sender;
  private readonly priorities: Priorities | null;
  private readonly stored = new MessageView();
  private readonly replays = new Map<number, Replay[]>();
  /** Somebody subscribed to the topic of the last `route`, whether or not it could be delivered. */
  isWanted = false;
  /** Sessions of the other processes of this broker. */
  readonly peers: number[] = [];
  private stamp = 0;
  private wasTried = false;
  /** Only members that the store has may get the message: its acknowledgement meant that it is on disk. */
  isForStored = false;
  private wasAbsent = false;

  constructor(parts: RouterParts) {
    this.pool = parts.pool;
    this.limits = parts.limits;
    this.index = parts.index;
    this.cache = parts.cache;
    this.messages = parts.messages;
    this.sessions = parts.sessions;
    this.groups = parts.groups;
    this.delivery = parts.delivery;
    this.sender = parts.sender;
    this.priorities = parts.priorities;
  }

  /**
   * Gives a message to all who want it; returns how many do. `keep` is a reference to the same message in the pool, which
   * stays the caller's, or −1.
   */
  route(view: MessageView, keep: number): number {
    const { bytes, topicStart, topicEnd } = view;
    let { slot } = view;
    if (slot < 0) slot = this.cache.fill(bytes, topicStart, topicEnd, this.index.hash(bytes, topicStart, topicEnd));
    const count = this.cache.targetCount[slot];
    this.isWanted = count > 0;
    if (count === 0) return 0;
    const block = this.cache.listBlock[slot];
    const words = this.pool.words[pageOf(block)];
    const start = offsetOf(block) >>> 2;
    view.stamp = ++this.stamp;
    this.delivery.kept = keep < 0 ? NOT_KEPT : keep;
    this.delivery.lane = this.priorities === null ? 0 : this.priorities.laneOf(view);
    let reached = 0;
    for (let i = 0, at = start; i < count; i++, at += 3) {
      const target = words[at];
      if (target < 0) {
        if (view.isForwarded) continue; // where it was published a member was chosen, of all processes
        if (this.dispatch(view, -1 - target, -1, ANY_MEMBER)) reached++;
        else if (!this.wasTried) this.delivery.drop(this.wasAbsent ? "absent" : "slow_subscriber", -1, view);
        continue;
      }
      let options = words[at + 1];
      view.idCount = 0;
      if ((options & (MERGED | HAS_ID | NO_LOCAL | PEER)) !== 0) {
        options = this.settle(view, target, options, words, start, words[at + 2]);
        if (options < 0) continue;
      }
      if (this.delivery.deliver(view, target, options, -1)) reached++;
    }
    if (this.delivery.kept >= 0 && keep < 0) this.messages.release(this.delivery.kept);
    return reached;
  }

  /** Options of a delivery that is more than a plain subscription; fills `view.ids`. −1: not to this session (no-local). */
  private settle(
    view: MessageView,
    session: number,
    options: number,
    words: Int32Array,
    start: number,
    ref: number,
  ): number {
    const isOwn = session === view.publisher;
    if ((options & PEER) !== 0) return view.isForwarded || view.isRetain ? -1 : options & ~MERGED;
    if ((options & MERGED) === 0) {
      if (isOwn && (options & NO_LOCAL) !== 0) return -1; // [MQTT-3.8.3-3]
      if ((options & HAS_ID) !== 0) view.ids[view.idCount++] = this.index.id[ref];
      return options;
    }
    let merged = -1;
    const list = start - ref;
    for (let i = 1; i <= words[list]; i++) {
      const sub = words[list + i];
      const own = this.index.options[sub];
      if (isOwn && (own & NO_LOCAL) !== 0) continue;
      if ((own & HAS_ID) !== 0) addId(view, this.index.id[sub]); // [MQTT-3.3.4-4]
      merged = merged < 0 ? own : ((merged | own) & ~QOS_MASK) | Math.max(merged & QOS_MASK, own & QOS_MASK);
    }
    return merged;
  }

  /** A retained message goes to every other process, which keeps it too, and serves those who want it there. */
  replicate(view: MessageView, keep: number): void {
    const { qos } = view;
    markRetained(view);
    view.qos = Math.max(qos, 1); // it must arrive, or their values would differ
    this.delivery.kept = keep < 0 ? NOT_KEPT : keep;
    this.delivery.lane = 0;
    for (const session of this.peers) this.delivery.deliver(view, session, PEER | RETAIN_AS_PUBLISHED | 2, -1);
    if (this.delivery.kept >= 0 && keep < 0) this.messages.release(this.delivery.kept);
    view.qos = qos;
    view.idCount = 0;
  }

  /** Sends another process a retained value, to be kept there and sent to nobody. */
  sendValue(view: MessageView, session: number): void {
    markRetained(view, true);
    view.qos = 1;
    this.delivery.kept = view.message < 0 ? NOT_KEPT : view.message;
    this.delivery.lane = 0;
    this.delivery.deliver(view, session, PEER | RETAIN_AS_PUBLISHED | 2, -1);
    if (view.message < 0 && this.delivery.kept >= 0) this.messages.release(this.delivery.kept);
  }

  /**
   * Gives a message that another process has chosen this one for to a member of a share group here. Those here may all be away
   * meanwhile: then it goes on to one who is connected elsewhere, else it waits here. Or they have left: then it goes to anybody.
   * The process that it goes on to was told before how things are here, and does not send it back.
   */
  routeShared(view: MessageView, group: number): boolean {
    view.stamp = ++this.stamp;
    this.delivery.kept = NOT_KEPT;
    this.delivery.lane = this.priorities === null ? 0 : this.priorities.laneOf(view);
    let isTaken = this.dispatch(view, group, -1, CONNECTED);
    if (!isTaken && !this.wasTried) {
      const isDeserted = this.groups.get(group).localCount === 0;
      view.isForwarded = false;
      isTaken = this.dispatch(view, group, -1, isDeserted ? ANY_MEMBER : CONNECTED);
      view.isForwarded = true;
      if (!isTaken && !this.wasTried && !isDeserted) isTaken = this.dispatch(view, group, -1, ANY_MEMBER);
    }
    if (!isTaken && !this.wasTried) this.delivery.drop(this.wasAbsent ? "absent" : "slow_subscriber", -1, view);
    if (this.delivery.kept >= 0) this.messages.release(this.delivery.kept);
    return isTaken;
  }

  /** A session that the store has would get the message. */
  reachesStored(view: MessageView): boolean {
    const { bytes, topicStart, topicEnd } = view;
    let { slot } = view;
    if (slot < 0) slot = this.cache.fill(bytes, topicStart, topicEnd, this.index.hash(bytes, topicStart, topicEnd));
    const count = this.cache.targetCount[slot];
    if (count === 0) return false;
    const block = this.cache.listBlock[slot];
    const words = this.pool.words[pageOf(block)];
    const isStored = (session: number): boolean => this.sessions.isStored[session] !== 0;
    for (let i = 0, at = offsetOf(block) >>> 2; i < count; i++, at += 3) {
      const target = words[at];
      if (
        target >= 0
          ? isStored(target)
          : this.groups.get(-1 - target).members.some((sub) => isStored(this.index.target[sub]))
      )
        return true;
    }
    return false;
  }

  /** Somebody is being sent retained messages. */
  get hasReplays(): boolean {
    return this.replays.size > 0;
  }

  /** A new subscription wants retained messages. */
  addReplay(session: number, replay: Replay): void {
    const list = this.replays.get(session);
    if (list) list.push(replay);
    else this.replays.set(session, [replay]);
  }

  /** A subscription, or with −1 the whole session, has gone: its retained messages are not wanted any more. */
  dropReplays(session: number, subscription: number): void {
    if (this.replays.size === 0) return;
    const list = this.replays.get(session) ?? [];
    const isDropped = (replay: Replay): boolean => subscription < 0 || replay.subscription === subscription;
    for (const replay of list) if (isDropped(replay)) replay.cursor.close();
    this.setReplays(
      session,
      list.filter((replay) => !isDropped(replay)),
    );
  }

  /** Sends what a session has waiting, then retained messages as far as they fit; the rest follows in later turns. */
  pump(session: number): void {
    this.sender.pump(session);
    if (this.replays.size === 0) return;
    const list = this.replays.get(session);
    const sink = this.sessions.sinks[session];
    if (!list || sink === null) return;
    let left = this.limits.retained.replayBatch;
    while (list.length > 0 && left > 0 && this.canReplay(session, sink, list[0])) {
      if (!list[0].cursor.next(this.stored)) list.shift();
      else this.replayOne(session, this.stored, list[0]);
      left--;
    }
    this.setReplays(session, list);
    if (left === 0 && list.length > 0) this.onMore(session);
  }

  /** A retained message is read when it is sent, never to wait in the outbox: a newer value could pass it there. */
  private canReplay(session: number, sink: Sink, replay: Replay): boolean {
    const queue = this.sessions.queueOf(session);
    if (queue === null) return sink.isWritable;
    if ((replay.options & QOS_MASK) === 0) return sink.isWritable && !this.delivery.isBehindQueue(session);
    return this.delivery.canSend(queue, sink);
  }

  private setReplays(session: number, list: Replay[]): void {
    if (list.length > 0) this.replays.set(session, list);
    else this.replays.delete(session);
  }

  private replayOne(session: number, view: MessageView, replay: Replay): void {
    if (view.expiryAtSec <= this.delivery.nowSec) return;
    if ((replay.options & NO_LOCAL) !== 0 && view.publisherKey === this.sessions.keyOf(session)) return;
    view.idCount = 0;
    if (replay.id !== 0) view.ids[view.idCount++] = replay.id;
    view.isRetain = true;
    const isOwn = view.message < 0;
    this.delivery.lane = 0; // it never waits
    this.delivery.kept = isOwn ? NOT_KEPT : view.message;
    this.delivery.deliver(view, session, (replay.options & QOS_MASK) | RETAIN_AS_PUBLISHED, -1); // [MQTT-3.3.1-9]
    if (isOwn && this.delivery.kept >= 0) this.messages.release(this.delivery.kept);
  }

  /**
   * Gives the message to one member of a share group, the readiest first, down to `leastReady`; `except` is a session that
   * is leaving. False: `wasTried` says whether somebody was offered it, which counted why not, else `wasAbsent` why not.
   */
  dispatch(view: MessageView, group: number, except: number, leastReady: number): boolean {
    const entry = this.groups.get(group);
    const { isForwarded } = view;
    const n = isForwarded ? entry.localCount : entry.members.length;
    const start = this.groups.start(
      entry,
      isForwarded,
      view.publisherKey,
      this.index.hash(view.bytes, view.topicStart, view.topicEnd),
    );
    this.wasTried = false;
    this.wasAbsent = true;
    for (let readiness = TAKES_NOW; readiness <= leastReady; readiness++) {
      for (let i = 0; i < n; i++) {
        const position = start + i < n ? start + i : start + i - n;
        const sub = entry.members[position];
        const session = this.index.target[sub];
        const qos = Math.min(view.qos, this.index.options[sub] & QOS_MASK);
        if (!this.isAway(session, sub)) this.wasAbsent = false;
        if (session === except || this.readiness(session, qos, sub) !== readiness) continue;
        if (this.isForStored && this.sessions.isStored[session] === 0) continue;
        const isPeer = (this.index.options[sub] & PEER) !== 0;
        view.idCount = 0;
        if (isPeer) markShared(view, entry.token);
        else if (this.index.id[sub] !== 0) view.ids[view.idCount++] = this.index.id[sub];
        this.wasTried = true;
        if (!this.delivery.deliver(view, session, this.index.options[sub], group)) continue;
        this.groups.chose(entry, isForwarded, position);
        return true;
      }
    }
    return false;
  }

  /** A member's client is away, or, of a member that stands for those of another process, all of them. */
  private isAway(session: number, sub: number): boolean {
    if (this.sessions.sinks[session] === null) return true;
    return (this.index.options[sub] & PEER) !== 0 && this.index.id[sub] === 0;
  }

  private readiness(session: number, qos: number, sub: number): number {
    const sink = this.sessions.sinks[session];
    if (sink === null) return qos > 0 || this.limits.session.queueQos0 ? AWAY : CANNOT;
    if (this.isAway(session, sub)) return AWAY; // at QoS 0 too: whoever comes back there meanwhile gets it
    const queue = this.sessions.queueOf(session);
    const isPeer = (this.index.options[sub] & PEER) !== 0;
    if (isPeer && sink.isWritable && (queue === null || queue.outbox.count < PEER_BACKLOG)) return TAKES_NOW;
    if (sink.isWritable && (qos === 0 || queue === null || this.delivery.canSend(queue, sink))) return TAKES_NOW;
    return qos === 0 ? CANNOT : CONNECTED;
  }
}
