/**
 * What the log says of the sessions: their snapshots, and the changes that came after.
 *
 *   snapshot ─ meta as of batch m ──┐          rows of the log, in order
 *            └ queue as of batch q ─┴─► state ◄── a change counts when its batch is later than its part's snapshot
 *
 *   meta    opened closed ending gone subscribed unsubscribed willGone expiryChanged
 *   queue   all others
 *
 * A session is read when the log first names it, so the cost goes with the log, not with the sessions. In the end each
 * state is brought to rest: waiting messages in memory (head, tail) become pages, so that starting needs no bodies.
 * A change that does not fit is skipped and counted as damage. What happened to a session that is gone by the end of the
 * log does not matter, so neither does its damage.
 */
import { ByteWriter } from "#base/byte-writer.ts";
import { ChangeReader, isResting } from "./change-reader.ts";
import { Change, IS_CONNECTED, IS_ENDING, LANE_MASK, LANE_SHIFT, SPILL_FRONT } from "./session-log.ts";
import { readEntries, readMeta, readQueue, writeEntry, writeMeta, writeQueue } from "./session-log.ts";
import type { Entry, Meta, Queue, StoredLane, StoredPage } from "./session-log.ts";

export const PAGE_ENTRIES_MAX = 256;
/** Of the entries' sizes together; a page holds at least one entry. */
export const PAGE_BYTES_MAX = 256 * 1024;

/** Null where there is none. The batch is that whose end the snapshot shows. */
export interface Snapshots {
  readonly meta: Buffer | null;
  readonly metaBatch: number;
  readonly queue: Buffer | null;
  readonly queueBatch: number;
}

export interface ReplaySource {
  readSnapshots(session: number): Snapshots | null;
  /** The entries of a page (session-log.ts); null when it is not there. */
  readPage(session: number, page: number): Buffer | null;
}

/** A session with all that waits in pages. */
export interface RestingSession {
  readonly meta: Buffer;
  readonly queue: Buffer;
  /** To be written before the snapshots count. */
  readonly newPages: readonly { readonly page: number; readonly entries: Buffer }[];
  /** All pages that it has; others of its number are left over. */
  readonly pages: ReadonlySet<number>;
}

class LaneState {
  nextPage = 0;
  pages: StoredPage[] = [];
  head = new EntryRun();
  tail = new EntryRun();

  /** Without pages there is no tail. */
  joinTail(): void {
    if (this.pages.length > 0) return;
    for (const entry of this.tail.take(this.tail.count)) this.head.push(entry);
  }
}

/** First in, first out, without moving all at each step. */
class EntryRun {
  private entries: Entry[] = [];
  private first = 0;

  get count(): number {
    return this.entries.length - this.first;
  }

  push(entry: Entry): void {
    this.entries.push(entry);
  }

  /** Takes the first off; undefined when empty. */
  shift(): Entry | undefined {
    if (this.count === 0) return undefined;
    const entry = this.entries[this.first++];
    if (this.first * 2 > this.entries.length) this.compact();
    return entry;
  }

  take(count: number): Entry[] {
    const taken = this.entries.slice(this.first, this.first + count);
    this.first += count;
    this.compact();
    return taken;
  }

  private compact(): void {
    this.entries = this.entries.slice(this.first);
    this.first = 0;
  }
}

class SessionState {
  meta: Meta | undefined;
  metaBatch = -1;
  queueBatch = -1;
  isGone = false;
  damageCount = 0;
  lastPacketId = 0;
  readonly released = new Set<number>();
  readonly receipts = new Set<number>();
  readonly inflight = new Map<number, Entry>();
  readonly lanes = new Map<number, LaneState>();

  load({ meta, metaBatch, queue, queueBatch }: Snapshots): void {
    if (meta) this.meta = readMeta(meta);
    if (meta) this.metaBatch = metaBatch;
    if (!queue) return;
    this.queueBatch = queueBatch;
    const { lastPacketId, released, receipts, inflight, lanes } = readQueue(queue);
    this.lastPacketId = lastPacketId;
    for (const id of released) this.released.add(id);
    for (const id of receipts) this.receipts.add(id);
    for (const entry of inflight) this.inflight.set(entry.packetId, entry);
    for (const { lane, nextPage, pages, head, tail } of lanes) {
      const state = this.lane(lane);
      state.nextPage = nextPage;
      state.pages = [...pages];
      for (const entry of head) state.head.push(entry);
      for (const entry of tail) state.tail.push(entry);
    }
  }

  lane(number: number): LaneState {
    let lane = this.lanes.get(number);
    if (!lane) this.lanes.set(number, (lane = new LaneState()));
    return lane;
  }
}

export class Replayer {
  private readonly states = new Map<number, SessionState>();
  private unreadableRows = 0;

  constructor(private readonly source: ReplaySource) {}

  /** Applies the changes of a log row; rows come in the order of their batches. */
  apply(batch: number, ops: Buffer): void {
    const change = new ChangeReader(ops);
    try {
      while (change.next()) this.applyOne(batch, change);
    } catch (error) {
      if (!(error instanceof RangeError)) throw error;
      this.unreadableRows++; // the rest of the row is lost
    }
  }

  /** Numbers of the sessions that the log names, those that are gone among them. */
  get sessions(): IterableIterator<number> {
    return this.states.keys();
  }

  isTouched(session: number): boolean {
    return this.states.has(session);
  }

  /** Changes that did not fit and rows that ended too early. */
  get damageCount(): number {
    let count = this.unreadableRows;
    for (const state of this.states.values()) if (!state.isGone) count += state.damageCount;
    return count;
  }

  /** The state of a session that the log names, at rest; null when nothing of it is left. */
  rest(session: number): RestingSession | null {
    const state = this.states.get(session);
    return !state || state.isGone || !state.meta ? null : restState(state, state.meta);
  }

  private applyOne(batch: number, change: ChangeReader): void {
    const state = this.state(change.session);
    if (state.isGone) return;
    const isOfMeta = isMetaChange(change.kind);
    if (batch <= (isOfMeta ? state.metaBatch : state.queueBatch)) return;
    const fits = isOfMeta ? applyToMeta(state, change) : state.meta && this.applyToQueue(state, change);
    if (!fits) state.damageCount++;
  }

  private applyToQueue(state: SessionState, change: ChangeReader): boolean {
    if (change.kind !== Change.loaded) return applyToQueue(state, change);
    const lane = state.lanes.get(change.lane);
    if (lane?.pages[0]?.page !== change.page) return false;
    lane.pages.shift();
    const entries = this.source.readPage(change.session, change.page);
    for (const entry of entries ? readEntries(entries) : []) lane.head.push(entry);
    lane.joinTail();
    return entries !== null;
  }

  private state(session: number): SessionState {
    const known = this.states.get(session);
    if (known) return known;
    const state = new SessionState();
    this.states.set(session, state);
    const snapshots = this.source.readSnapshots(session);
    try {
      if (snapshots) state.load(snapshots);
    } catch (error) {
      if (!(error instanceof RangeError)) throw error;
      state.damageCount++;
    }
    return state;
  }
}

/**
 * Brings a session that the log does not name to rest. Null when nothing of it is left.
 * @throws RangeError when the bytes are no snapshots.
 */
export function restSnapshots(snapshots: Snapshots): RestingSession | null {
  const state = new SessionState();
  state.load(snapshots);
  return state.meta ? restState(state, state.meta) : null;
}

/** True when both parts are there and can be handed on as they are: the way of nearly all sessions. */
export function isAtRest({ meta, queue }: Snapshots): boolean {
  return meta !== null && queue !== null && isResting(queue) && !(meta[1] & IS_ENDING);
}

function isMetaChange(kind: number): boolean {
  switch (kind) {
    case Change.opened:
    case Change.closed:
    case Change.ending:
    case Change.gone:
    case Change.subscribed:
    case Change.unsubscribed:
    case Change.willGone:
    case Change.expiryChanged:
      return true;
    default:
      return false;
  }
}

/** False when the change does not fit. */
function applyToMeta(state: SessionState, change: ChangeReader): boolean {
  const { kind, expirySec } = change;
  if (kind === Change.gone) {
    state.isGone = true;
    return true;
  }
  if (kind === Change.opened) {
    const { clientId, will } = change;
    const subscriptions = state.meta?.subscriptions ?? [];
    state.meta = { flags: IS_CONNECTED, expirySec, closedAtSec: 0, clientId, will, subscriptions };
    return true;
  }
  const { meta } = state;
  if (!meta) return false;
  switch (kind) {
    case Change.closed:
      meta.flags &= ~IS_CONNECTED;
      meta.closedAtSec = change.atSec;
      return true;
    case Change.ending:
      meta.flags |= IS_ENDING;
      meta.subscriptions = [];
      return true;
    case Change.willGone:
      meta.will = undefined;
      return true;
    case Change.expiryChanged:
      meta.expirySec = expirySec;
      return true;
    case Change.subscribed: {
      const subscription = change.subscription!;
      const at = meta.subscriptions.findIndex(({ filter }) => filter.equals(subscription.filter));
      if (at < 0) meta.subscriptions.push(subscription);
      else meta.subscriptions[at] = subscription;
      return true;
    }
    default: {
      const at = meta.subscriptions.findIndex(({ filter }) => filter.equals(change.filter));
      if (at >= 0) meta.subscriptions.splice(at, 1);
      return at >= 0;
    }
  }
}

/** False when the change does not fit. All kinds but `loaded`. */
function applyToQueue(state: SessionState, change: ChangeReader): boolean {
  const { kind, packetId } = change;
  const { inflight, released, receipts } = state;
  const lane = state.lanes.get(change.lane);
  switch (kind) {
    case Change.enqueued: {
      const entry = change.entry!;
      if (entry.packetId > 0) return addInflight(state, entry, entry.packetId);
      const { pages, head, tail } = state.lane((entry.delivery >> LANE_SHIFT) & LANE_MASK);
      (pages.length > 0 ? tail : head).push(entry);
      return true;
    }
    case Change.sent: {
      const entry = lane?.head.shift();
      return entry !== undefined && addInflight(state, entry, packetId);
    }
    case Change.acknowledged:
      return inflight.delete(packetId);
    case Change.shifted:
      return lane?.head.shift() !== undefined;
    case Change.received: {
      const isInflight = inflight.delete(packetId);
      if (isInflight) released.add(packetId);
      return isInflight;
    }
    case Change.completed:
      return released.delete(packetId);
    case Change.receiptAdded: {
      const isNew = !receipts.has(packetId);
      receipts.add(packetId);
      return isNew;
    }
    case Change.receiptRemoved:
      return receipts.delete(packetId);
    case Change.spilled:
      return lane !== undefined && spill(lane, change);
    default: {
      const isFirst = lane?.pages[0]?.page === change.page;
      if (isFirst) lane.pages.shift();
      if (isFirst) lane.joinTail();
      return isFirst;
    }
  }
}

function addInflight(state: SessionState, entry: Entry, packetId: number): boolean {
  if (state.inflight.has(packetId)) return false;
  entry.packetId = packetId;
  state.inflight.set(packetId, entry);
  state.lastPacketId = packetId;
  return true;
}

function spill(lane: LaneState, { page, keep, count, bytes }: ChangeReader): boolean {
  const { pages, head, tail } = lane;
  if (keep === SPILL_FRONT) {
    if (count !== head.count) return false;
    head.take(count);
    pages.unshift({ page, count, bytes });
  } else if (pages.length > 0) {
    if (count > tail.count) return false;
    tail.take(count);
    pages.push({ page, count, bytes });
  } else {
    if (keep + count > head.count) return false;
    const kept = head.take(keep);
    head.take(count);
    const rest = head.take(head.count);
    for (const entry of kept) head.push(entry);
    for (const entry of rest) tail.push(entry);
    pages.push({ page, count, bytes });
  }
  lane.nextPage = Math.max(lane.nextPage, page + 1);
  return true;
}

/** Page numbers are taken from one counter for all lanes: a page is stored by session and number alone. */
function restState(state: SessionState, meta: Meta): RestingSession | null {
  let nextPage = 0;
  for (const lane of state.lanes.values()) {
    nextPage = Math.max(nextPage, lane.nextPage);
    for (const { page } of lane.pages) nextPage = Math.max(nextPage, page + 1);
  }
  const newPages: { page: number; entries: Buffer }[] = [];
  const out = new ByteWriter();
  const toPages = (entries: readonly Entry[]): StoredPage[] =>
    cutPages(entries).map((run) => {
      const page = nextPage++;
      out.clear();
      for (const entry of run) writeEntry(out, entry);
      newPages.push({ page, entries: out.take() });
      return { page, count: run.length, bytes: run.reduce((sum, { size }) => sum + size, 0) };
    });

  const lanes: { lane: number; pages: StoredPage[] }[] = [];
  for (const [lane, { pages, head, tail }] of state.lanes) {
    const front = toPages(head.take(head.count));
    lanes.push({ lane, pages: [...front, ...pages, ...toPages(tail.take(tail.count))] });
  }
  const pages = new Set(lanes.flatMap((lane) => lane.pages.map(({ page }) => page)));
  if (meta.flags & IS_ENDING && pages.size === 0 && state.inflight.size === 0) return null;

  const kept = lanes
    .sort((a, b) => a.lane - b.lane)
    .map((lane): StoredLane => ({ ...lane, nextPage, head: [], tail: [] }));
  const queue: Queue = {
    lastPacketId: state.lastPacketId,
    released: [...state.released],
    receipts: [...state.receipts],
    inflight: [...state.inflight.values()],
    lanes: kept,
  };
  out.clear();
  writeMeta(out, meta);
  const metaBytes = out.take();
  out.clear();
  writeQueue(out, queue);
  return { meta: metaBytes, queue: out.take(), newPages, pages };
}

function cutPages(entries: readonly Entry[]): Entry[][] {
  const runs: Entry[][] = [];
  let run: Entry[] = [];
  let bytes = 0;
  for (const entry of entries) {
    if (run.length === PAGE_ENTRIES_MAX || (run.length > 0 && bytes + entry.size > PAGE_BYTES_MAX)) {
      runs.push(run);
      run = [];
      bytes = 0;
    }
    run.push(entry);
    bytes += entry.size;
  }
  if (run.length > 0) runs.push(run);
  return runs;
}
