/**
 * The durable store: notes what happens to stored sessions, hands it to the disk in batches, and says when it is safe.
 *
 *   engine ─ append, enqueue, … ─► pending ring ─ cut, at the end of a tick ─► batch ─► disk ─► committed ─► acknowledgements
 *                                      ▲
 *                        settle: acknowledged before it was cut: elided, never written
 *
 * A batch is cut at once when somebody waits for what only the disk can give (a message for an absent client, exactly
 * once, a session, a subscription, a retained message), else when its oldest change has waited `AGE_MS` for its receiver's
 * acknowledgement. While two batches are under way what comes gathers for the next: group commit.
 *
 * On disk a session is a snapshot and the changes of later batches; see session-log.ts for the bytes, log-backend.ts for
 * what a batch may hold, checkpoint.ts for when snapshots are written, paging.ts for queues that are larger than memory.
 * Pure: time and the disk are given.
 */
import { ByteWriter } from "#base/byte-writer.ts";
import type { Engine } from "#core/engine.ts";
import type { MessageView } from "#core/message.ts";
import { DELIVERY_QOS } from "#core/outbox.ts";
import type { Store, StoreRecord } from "#core/ports.ts";
import { Checkpoint } from "./checkpoint.ts";
import { type CommitInfo, type LogBackend, META, OPS, QUEUE, RETAINED } from "./log-backend.ts";
import { Paging } from "./paging.ts";
import { ELIDED, MOVED, Pending, WRITTEN_OUT } from "./pending.ts";
import { Restore, type RestoreInfo } from "./restore.ts";
import { Change } from "./session-log.ts";
import { type MetaRecord, putEntry, writeMetaChange } from "./snapshot.ts";
import { type StoreLimits, StoreParts } from "./store-parts.ts";
import { StoreStats } from "./store-stats.ts";

/** What an on-line receiver is given to acknowledge before its message is written. */
const AGE_MS = 2;
/** How long what nobody waits for, such as that a message was acknowledged, may go unwritten. */
const IDLE_MS = 50;
const BATCHES_UNDER_WAY = 2;
const LOW_31 = 0x7fff_ffff;

/** Of the changes that are written out: those of a queue. */
const queueChanges: ReadonlySet<number> = new Set([Change.enqueued, Change.loaded, Change.pageDropped]);

export const defaultStoreLimits: StoreLimits = {
  pageCount: 256,
  pageBytes: 256 * 1024,
  logBytesMax: 8 * 1024 * 1024,
  checkpointSec: 10,
};

export interface DurableStoreOptions {
  readonly backend: LogBackend;
  /** Monotonic milliseconds. */
  readonly nowMs: () => number;
  /** `tick` should be called after so many milliseconds at the latest. */
  readonly wakeAfter: (ms: number) => void;
  readonly limits?: Partial<StoreLimits>;
  /** Writing fails, for this reason, or (undefined) works again. */
  readonly onTrouble?: (reason: string | undefined) => void;
}

/** A batch under way. */
interface Cut {
  readonly batch: number;
  readonly seq: number;
}

export class DurableStore implements Store {
  readonly isVolatile = false;
  isWritable = true;
  durableSeq = 0;
  onDurable = (): void => {};
  readonly stats: StoreStats = new StoreStats();

  private readonly pending = new Pending();
  private readonly parts: StoreParts;
  private readonly checkpoint: Checkpoint;
  private readonly paging: Paging;
  /** Retained values to write, by topic. */
  private readonly retained = new Map<string, Buffer | null>();
  private readonly underWay: Cut[] = [];
  private committedSeq = 0;
  /** Something waits that no receiver's acknowledgement can make unnecessary. */
  private isUrgent = false;
  /** When the oldest came of what somebody waits for, or −1. */
  private waitingSinceMs = -1;
  private lastCutMs = 0;
  /** The last change by which something went in flight, or out of it. */
  private lastFlightSeq = 0;
  private hasMoved = false;
  private isReady = false;
  private readonly whenReadyActions: (() => void)[] = [];
  private readonly encoder = new ByteWriter();
  private readonly nowMs: () => number;
  private readonly wakeAfter: (ms: number) => void;
  private readonly onTrouble: (reason: string | undefined) => void;
  private idleActions: (() => void)[] = [];

  constructor(options: DurableStoreOptions) {
    this.parts = new StoreParts(options.backend, { ...defaultStoreLimits, ...options.limits });
    this.checkpoint = new Checkpoint(this.parts);
    this.paging = new Paging(this.parts, this.checkpoint, (...change) => this.noteDisk(...change));
    this.nowMs = options.nowMs;
    this.wakeAfter = options.wakeAfter;
    this.onTrouble = options.onTrouble ?? (() => {});
    options.backend.onCommitted = (info) => this.handleCommitted(info);
    options.backend.onFailed = (reason) => {
      this.isWritable = false;
      this.stats.troubleCount++;
      this.onTrouble(reason);
    };
  }

  /** Restores what the disk has into a new engine, which was made with this store; clients that come meanwhile wait. */
  attach(engine: Engine, onReady: (info: RestoreInfo) => void = () => {}): void {
    this.parts.engine = engine;
    const noteClosed = (session: number): void => void this.append("session-closed", session, 0);
    const restore = new Restore(this.parts, this.paging, noteClosed, (info) => {
      this.isReady = true;
      for (const action of this.whenReadyActions.splice(0)) action();
      onReady(info);
      this.tick();
    });
    this.parts.backend.recover(restore);
  }

  /** Changes that wait to be written, and batches that are being written. */
  get backlog(): { readonly changeCount: number; readonly batchCount: number } {
    return { changeCount: this.pending.liveCount, batchCount: this.underWay.length };
  }

  whenReady(action: () => void): void {
    if (this.isReady) action();
    else this.whenReadyActions.push(action);
  }

  // ---- changes

  append(record: StoreRecord, session: number, item: number): number {
    switch (record) {
      case "received":
        return this.noteId(Change.received, session, item, true);
      case "completed":
        return this.noteId(Change.completed, session, item, false);
      case "receipt-added":
        return this.noteId(Change.receiptAdded, session, item, true);
      case "receipt-removed":
        return this.noteId(Change.receiptRemoved, session, item, true);
      case "session-ended":
        return this.noteEnded(session);
      default:
        return this.noteMeta(record, session, item);
    }
  }

  enqueue(session: number, message: number, delivery: number, ids: number, group: number, packetId: number): number {
    const { pending } = this;
    const place = this.note(Change.enqueued, session, true);
    pending.message[place] = message;
    pending.delivery[place] = delivery;
    pending.ids[place] = ids;
    pending.group[place] = group;
    pending.packetId[place] = packetId;
    if (packetId === 0 || (delivery & DELIVERY_QOS) === 2) this.isUrgent = true;
    return pending.next - 1;
  }

  assign(session: number, lane: number, seq: number, packetId: number, message: number, qos: number): number {
    const { pending } = this;
    const known = pending.find(seq, message);
    const number = pending.first + ((seq - pending.first) & LOW_31);
    // Entered and sent in one, unless that would put it before what went in flight, or out of it, since.
    if (known >= 0 && number > this.lastFlightSeq) {
      pending.packetId[known] = packetId;
      return number;
    }
    if (known >= 0) this.settleEntry(known);
    const place = this.note(Change.sent, session, qos === 2);
    pending.delivery[place] = lane;
    pending.packetId[place] = packetId;
    if (qos === 2) this.isUrgent = true;
    return (this.lastFlightSeq = pending.next - 1);
  }

  settle(session: number, packetId: number, seq: number, message: number): void {
    if (!this.elide(seq, message)) this.noteGone(Change.acknowledged, session, packetId, 0);
  }

  shift(session: number, lane: number, seq: number, message: number): void {
    if (!this.elide(seq, message)) this.noteGone(Change.shifted, session, 0, lane);
  }

  withdraw(session: number, seq: number, message: number): void {
    if (this.move(seq, message)) return;
    // The entry cannot be named: its body may have another number by now. So the queue is written anew with the batch.
    this.parts.releasedCount++;
    this.checkpoint.touchNow(this.parts.numberOf(session), session);
    this.note(MOVED, session, false);
  }

  forget(seq: number, message: number): void {
    if (!this.move(seq, message)) this.parts.releasedCount++;
  }

  isDurable(seq: number): boolean {
    const after = (seq - this.durableSeq) & LOW_31;
    return seq === 0 || after === 0 || after >= this.pending.next - this.durableSeq;
  }

  retain(view: MessageView, message: number, deadlineSec: number): number {
    const topic = view.bytes.toString("latin1", view.topicStart, view.topicEnd);
    this.retained.set(topic, message < 0 ? null : this.encodeRetained(view, message, deadlineSec));
    if (view.qos > 0) this.isUrgent = true;
    this.note(Change.retained, -1, view.qos > 0);
    return this.pending.next - 1;
  }

  refill(session: number, lane: number): void {
    this.paging.refill(session, lane);
  }

  dropPage(session: number, lane: number): boolean {
    return this.paging.dropFirst(session, lane);
  }

  fetch(session: number, complete: () => void): void {
    this.paging.fetchInflight(session, complete);
  }

  // ---- noting

  private note(kind: number, session: number, isAwaited: boolean): number {
    if (isAwaited && this.waitingSinceMs < 0) {
      this.waitingSinceMs = this.nowMs();
      this.wakeAfter(AGE_MS);
    }
    return this.pending.take(kind, session, this.parts.numberOf(session), isAwaited);
  }

  private noteId(kind: number, session: number, packetId: number, isAwaited: boolean): number {
    const place = this.note(kind, session, isAwaited);
    this.pending.packetId[place] = packetId;
    if (isAwaited) this.isUrgent = true;
    return (this.lastFlightSeq = this.pending.next - 1);
  }

  /** A message that was, or is being, written is not needed any more. Nobody waits for that. */
  private noteGone(kind: number, session: number, packetId: number, lane: number): void {
    this.parts.releasedCount++;
    const place = this.note(kind, session, false);
    this.pending.packetId[place] = packetId;
    this.pending.delivery[place] = lane;
    this.lastFlightSeq = this.pending.next - 1;
  }

  /** A change that can no longer be elided is written out now: its message may be gone when the batch is cut. */
  private settleEntry(place: number): void {
    const { pending, encoder } = this;
    encoder.clear();
    const { message, delivery, ids, group } = pending;
    putEntry(this.parts, encoder, 0, message[place], delivery[place], ids[place], group[place], true);
    pending.encoded[place] = encoder.take();
    pending.kind[place] = WRITTEN_OUT;
    pending.delivery[place] = Change.enqueued;
  }

  private move(seq: number, message: number): boolean {
    const place = this.pending.find(seq, message);
    if (place >= 0) this.pending.kind[place] = MOVED;
    return place >= 0;
  }

  /** A change of what a session, or one that is leaving, has on disk: a page is back in memory or dropped; all is gone. */
  private noteDisk(kind: number, number: number, session: number, page?: { lane: number; page: number }): void {
    const { encoder } = this;
    encoder.clear();
    if (page) {
      encoder.u8(page.lane);
      encoder.u32(page.page);
    }
    this.noteEncoded(kind, session, false);
    this.pending.stored[this.pending.placeOf(this.pending.next - 1)] = number;
  }

  private elide(seq: number, message: number): boolean {
    const place = this.pending.find(seq, message);
    if (place < 0) return false;
    this.pending.elide(place);
    this.stats.elidedCount++;
    this.hasMoved = true;
    return true;
  }

  /** A change whose fields stand in `encoder`. */
  private noteEncoded(kind: number, session: number, isAwaited: boolean): number {
    const place = this.note(WRITTEN_OUT, session, isAwaited);
    this.pending.delivery[place] = kind;
    this.pending.encoded[place] = this.encoder.take();
    if (isAwaited) this.isUrgent = true;
    return this.pending.next - 1;
  }

  private noteMeta(record: MetaRecord, session: number, item: number): number {
    const { parts, encoder } = this;
    if (record === "session-opened" && parts.numberOf(session) === 0) parts.setNumber(session, ++parts.lastSession);
    if (record === "session-closed") parts.setClosedAt(session, parts.engine.nowSec);
    encoder.clear();
    const kind = writeMetaChange(parts, encoder, record, record.endsWith("subscribed") ? item : session);
    return this.noteEncoded(kind, session, record !== "session-closed");
  }

  /** What it has on disk is given to others, or goes with it. */
  private noteEnded(session: number): number {
    const { parts } = this;
    const leaver = this.paging.takeLeaver(session);
    this.encoder.clear();
    const seq = this.noteEncoded(leaver ? Change.ending : Change.gone, session, true);
    parts.setNumber(session, 0);
    if (leaver) this.paging.adopt(leaver);
    return seq;
  }

  private encodeRetained(view: MessageView, message: number, deadlineSec: number): Buffer {
    const { encoder, parts } = this;
    encoder.clear();
    encoder.u32(view.publisherKey);
    encoder.u32(deadlineSec);
    parts.engine.messages.write(message, encoder);
    return encoder.take();
  }

  // ---- batches

  /** The tick is over: says what has become safe, and cuts a batch if it is time. Cheap when there is nothing to do. */
  tick(): void {
    if (this.hasMoved) this.advance();
    if (!this.isReady || this.underWay.length >= BATCHES_UNDER_WAY) return;
    const nowMs = this.nowMs();
    if (this.pending.liveCount === 0) {
      this.waitingSinceMs = -1;
      this.isUrgent = false;
      this.pending.clear();
    }
    const awaitedMs = this.waitingSinceMs < 0 ? Infinity : this.waitingSinceMs + AGE_MS - nowMs;
    const unawaitedMs = this.pending.unawaitedCount === 0 ? Infinity : this.lastCutMs + IDLE_MS - nowMs;
    const leftMs = Math.min(awaitedMs, unawaitedMs);
    if (this.isUrgent || leftMs <= 0 || this.checkpoint.isDue(nowMs)) this.cut(nowMs);
    else if (leftMs !== Infinity) this.wakeAfter(leftMs);
  }

  private cut(nowMs: number): void {
    const { pending, parts } = this;
    this.lastCutMs = nowMs;
    const { items, ops } = parts;
    ops.clear();
    const batch = ++parts.lastBatch;
    for (let seq = pending.first; seq < pending.next; seq++) {
      const place = pending.placeOf(seq);
      if (pending.kind[place] !== ELIDED) this.writeChange(place);
    }
    const seq = pending.next - 1;
    pending.clear();
    this.waitingSinceMs = -1;
    this.isUrgent = false;
    this.writeRetained();
    this.paging.write();
    this.checkpoint.write(nowMs);
    if (ops.length > 0) {
      items.u8(OPS);
      items.u32(ops.length);
      items.bytes(ops.buffer, 0, ops.length);
    }
    this.underWay.push({ batch, seq });
    this.stats.batchCount++;
    this.stats.batchBytes += items.length;
    parts.backend.write(batch, items.take());
    items.clear();
  }

  private writeChange(place: number): void {
    const { pending, parts } = this;
    const { ops } = parts;
    const kind = pending.kind[place];
    const number = pending.stored[place];
    const session = pending.session[place];
    if (kind === Change.retained || kind === MOVED) return;
    this.stats.writtenCount++;
    if (kind === WRITTEN_OUT) {
      const change = pending.delivery[place];
      parts.putChange(change, number);
      ops.bytes(pending.encoded[place]!);
      pending.encoded[place] = null;
      if (change === Change.gone || change === Change.ending) this.checkpoint.end(number, change === Change.gone);
      else this.checkpoint.touch(number, session, queueChanges.has(change) ? QUEUE : META);
      return;
    }
    parts.putChange(kind, number);
    this.checkpoint.touch(number, session, QUEUE);
    switch (kind) {
      case Change.enqueued: {
        const packetId = pending.packetId[place];
        const { message, delivery, ids, group } = pending;
        putEntry(parts, ops, packetId, message[place], delivery[place], ids[place], group[place], true);
        if (packetId === 0) this.paging.noteGrown(session);
        return;
      }
      case Change.sent:
        ops.u8(pending.delivery[place]);
        ops.u16(pending.packetId[place]);
        return;
      case Change.shifted:
        return ops.u8(pending.delivery[place]);
      default:
        ops.u16(pending.packetId[place]);
    }
  }

  private writeRetained(): void {
    const { items } = this.parts;
    for (const [topic, bytes] of this.retained) {
      items.u8(RETAINED);
      items.u16(topic.length);
      items.u32(bytes?.length ?? 0);
      items.bytes(Buffer.from(topic, "latin1"));
      if (bytes) items.bytes(bytes);
    }
    this.retained.clear();
  }

  private handleCommitted({ batch, commitMs }: CommitInfo): void {
    this.stats.addCommit(commitMs);
    if (!this.isWritable) {
      this.isWritable = true;
      this.onTrouble(undefined);
    }
    while (this.underWay.length > 0 && this.underWay[0].batch <= batch) this.committedSeq = this.underWay.shift()!.seq;
    this.advance();
    this.tick();
    if (this.isIdle) for (const action of this.idleActions.splice(0)) action();
  }

  /** What is committed is safe; after it, while nothing is under way, what was elided or nobody waits for. */
  private advance(): void {
    const { pending } = this;
    this.hasMoved = false;
    let safe = Math.max(this.durableSeq, this.committedSeq);
    if (this.underWay.length === 0) {
      while (safe + 1 < pending.next && this.isPassable(safe + 1)) safe++;
      pending.trim();
    }
    if (safe === this.durableSeq) return;
    if (this.waitingSinceMs >= 0) this.waitingSinceMs = this.nowMs(); // what is oldest now is not older
    this.durableSeq = safe;
    this.onDurable();
  }

  private isPassable(seq: number): boolean {
    const { pending } = this;
    if (seq < pending.first) return true;
    const place = pending.placeOf(seq);
    return pending.kind[place] === ELIDED || pending.isAwaited[place] === 0;
  }

  // ---- the end

  private get isIdle(): boolean {
    return this.underWay.length === 0 && this.pending.liveCount === 0;
  }

  /** Writes all that waits, and every session that changed; `complete` is called when it is safe. */
  flush(complete: () => void): void {
    this.checkpoint.request();
    this.idleActions.push(complete);
    if (this.underWay.length < BATCHES_UNDER_WAY) this.cut(this.nowMs());
  }
}
