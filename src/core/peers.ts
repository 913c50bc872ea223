/**
 * The other processes of this broker, each a session of the engine whose subscriptions are what that process wants: so routing,
 * queues, windows and the store serve forwards as they serve clients.
 *
 *   publish here ─► router ─► session of a peer ─► its connection (mqtt/peer-connection.ts) ─► the other process: `publishForwarded`
 *
 * What came from a peer goes to no other: it was sent to all who want it. Retained messages go to every peer, and each keeps them.
 */
import type { Delivery } from "./delivery.ts";
import type { MessageView } from "./message.ts";
import { readRetained, readShared, RETAINED_MARKS, SHARED_MARKS, type ValueStamps } from "./peer-mark.ts";
import type { RetainedKeeper } from "./retained-keeper.ts";
import type { Router } from "./router.ts";
import type { SessionTable } from "./session-table.ts";
import type { ShareGroups } from "./share-group.ts";

/** Client ids of processes begin so; no client may have such a one. */
export const PEER_PREFIX = "$worker/";

interface PeerParts {
  readonly sessions: SessionTable;
  readonly router: Router;
  readonly groups: ShareGroups;
  readonly delivery: Delivery;
  readonly keeper: RetainedKeeper;
  readonly nowMs: number;
  readonly nowSec: number;
  routingDepth: number;
  begin(): void;
  later(task: () => void): void;
  publishOwn(view: MessageView): number;
  routed<T>(action: () => T): T;
}

/** What a process is sent again of the values that it may lack: some each tick, while nothing waits for it. */
interface CatchUp {
  /** Place in the table of values. */
  at: number;
  /** Topics whose value was removed; all of them when it begins. */
  removed: readonly (readonly [topic: string, stamp: number])[] | null;
  notBeforeMs: number;
}

const CATCH_UP_COUNT = 1000;
/** After a loss: what it was lost for may last. */
const CATCH_UP_PAUSE_MS = 1000;

export class Peers {
  /** What waits until all other processes have said what they want; null when they have. */
  private held: (() => void)[] | null = [];
  private startMark: number | undefined;
  private readonly answered = new Set<number>();
  /** By session, the processes that have not got each retained value. */
  private readonly behind = new Map<number, CatchUp>();

  constructor(
    private readonly parts: PeerParts,
    private readonly stamps: ValueStamps,
  ) {
    parts.routingDepth++; // until `releasePublishes`
    parts.delivery.onValueLost = (session) =>
      this.behind.set(session, { at: 0, removed: null, notBeforeMs: parts.nowMs + CATCH_UP_PAUSE_MS });
  }

  /** A session stands for another process from now on; see `Subscriptions.addPeer`. */
  add(session: number): void {
    const { sessions, router } = this.parts;
    sessions.isPeer[session] = 1;
    if (!router.peers.includes(session)) router.peers.push(session);
  }

  /** Runs what may publish once all other processes have said what they want. */
  whenSynced(task: () => void): void {
    if (this.held === null) task();
    else this.held.push(task);
  }

  get isSynced(): boolean {
    return this.held === null;
  }

  /** What this process may lack since it started, as a mark for `sendValues` in process `node`; 0 when that one has answered. */
  valuesMark(node: number): number {
    this.startMark ??= this.stamps.mark;
    return this.answered.has(node) ? 0 : this.startMark;
  }

  noteAnswered(node: number): void {
    this.answered.add(node);
  }

  /** Sends a process the retained values that it asks for. */
  sendValues(session: number, mark: number, node: number): void {
    const { router, keeper } = this.parts;
    this.parts.begin();
    this.parts.routed(() => keeper.visitValues(mark, node, (view) => router.sendValue(view, session)));
  }

  /** To be called each tick: goes on sending values to processes that have lost some. */
  catchUp(): void {
    for (const [session, state] of this.behind) {
      if (state.notBeforeMs > this.parts.nowMs || !this.hasRoom(session)) continue;
      this.parts.begin();
      if (this.parts.routed(() => this.sendSome(session, state))) this.behind.delete(session);
    }
  }

  private hasRoom(session: number): boolean {
    const { sessions } = this.parts;
    const queue = sessions.queueOf(session);
    if (sessions.sinks[session]?.isWritable !== true) return false;
    return queue === null || (queue.outbox.count === 0 && queue.inflight.total < CATCH_UP_COUNT);
  }

  /** True: that was all. A loss meanwhile lets it begin anew. */
  private sendSome(session: number, state: CatchUp): boolean {
    const { keeper, router } = this.parts;
    state.removed ??= keeper.removals();
    const isSame = (): boolean => this.behind.get(session) === state;
    let left = CATCH_UP_COUNT;
    state.at = keeper.visitFrom(state.at, (view) => {
      router.sendValue(view, session);
      return --left > 0 && isSame();
    });
    if (left <= 0 || !isSame()) return false;
    const removed = state.removed.slice(0, left);
    state.removed = state.removed.slice(left);
    for (const each of removed) if (isSame()) keeper.visitRemoval(each, (view) => router.sendValue(view, session));
    return state.removed.length === 0 && isSame();
  }

  /** Something is on its way to another process that is there to take it. */
  get hasForwards(): boolean {
    const { sessions, router } = this.parts;
    return router.peers.some((session) => {
      const queue = sessions.queueOf(session);
      if (!queue || sessions.sinks[session] === null) return false;
      return queue.isOnDisk || queue.outbox.count > 0 || queue.inflight.count > 0;
    });
  }

  /** A value that a store had: those to come are newer. */
  seeStamp(stamp: number): void {
    this.stamps.see(stamp);
  }

  /** Says where a retained value stands among those of all processes. */
  stamp(view: MessageView): void {
    if (view.isForwarded) this.stamps.see(view.valueStamp);
    else view.valueStamp = this.stamps.next();
  }

  /**
   * Routes a message that another process sent here, its marks (peer-mark.ts) in `view.ids`: to those who want it, or to one
   * member of the share group that two tokens name.
   */
  publishForwarded(view: MessageView): void {
    const { parts } = this;
    const isShared = view.idCount === SHARED_MARKS;
    if (isShared) readShared(view);
    else if (view.idCount === RETAINED_MARKS) {
      const isValueOnly = readRetained(view);
      const isExpired = view.expiryAtSec <= parts.nowSec;
      if (isExpired) view.payloadStart = view.payloadEnd; // it has taken another's place, and there is none now
      if (isValueOnly || isExpired) return this.keepValue(view);
    }
    const { routingDepth } = parts;
    parts.routingDepth = 0; // it goes to sessions that are here: other processes need not be there yet
    view.isForwarded = true;
    try {
      if (isShared) this.publishShared(view);
      else parts.publishOwn(view);
    } finally {
      parts.routingDepth = routingDepth;
      view.isForwarded = false;
      view.valueStamp = 0;
    }
  }

  /** A value that this process has lost, or one that has expired on its way: no subscriber is sent it. */
  private keepValue(view: MessageView): void {
    const { parts } = this;
    parts.begin();
    this.stamps.see(view.valueStamp);
    if (!parts.keeper.isKnown(view)) {
      const message = parts.keeper.retain(view);
      if (message >= 0) parts.keeper.release(message);
      if (this.stamps.isOwn(view.valueStamp)) this.spread(view);
    }
    view.valueStamp = 0;
  }

  /** A value of its own that it had lost is gone from its queues too, and not every other process may have got it. */
  private spread(view: MessageView): void {
    const { parts } = this;
    view.message = -1;
    parts.routed(() => parts.router.peers.forEach((session) => parts.router.sendValue(view, session)));
  }

  private publishShared(view: MessageView): void {
    const { parts } = this;
    parts.begin();
    const group = parts.groups.findToken(view.ids[0], view.ids[1]);
    if (group < 0)
      parts.delivery.drop("session_ended", -1, view); // that of its last member
    else parts.routed(() => parts.router.routeShared(view, group));
  }

  /** All other processes have said what they want: what was published here until now goes out. */
  releasePublishes(): void {
    this.parts.routingDepth--;
    for (const task of this.held ?? []) this.parts.later(task);
    this.held = null;
  }
}
