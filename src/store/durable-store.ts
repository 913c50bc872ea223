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
import type { Engine } from "#core/engine.ts";
import type { Store } from "#core/ports.ts";
import { ChangeNotes } from "./change-notes.ts";
import { type CommitInfo, type LogBackend, META, OPS, QUEUE, RETAINED } from "./log-backend.ts";
import { ELIDED, MOVED, WRITTEN_OUT } from "./pending.ts";
import { Restore, type RestoreInfo } from "./restore.ts";
import { Change } from "./session-log.ts";
import { putEntry } from "./snapshot.ts";
import type { StoreLimits } from "./store-parts.ts";

/** What an on-line receiver is given to acknowledge before its message is written. */
const AGE_MS = 2;
/** How long what nobody waits for, such as that a message was acknowledged, may go unwritten. */
const IDLE_MS = 50;
const BATCHES_UNDER_WAY = 2;

/** Of the changes that are written out: those of a queue. */
const queueChanges: ReadonlySet<number> = new Set([Change.enqueued, Change.loaded, Change.pageDropped]);

const defaultStoreLimits: StoreLimits = {
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

export class DurableStore extends ChangeNotes implements Store {
  readonly isVolatile = false;
  isWritable = true;
  durableSeq = 0;
  onDurable = (): void => {};

  private readonly underWay: Cut[] = [];
  private committedSeq = 0;
  /** When the oldest came of what somebody waits for, or −1. */
  private waitingSinceMs = -1;
  private lastCutMs = 0;
  private isReady = false;
  private readonly whenReadyActions: (() => void)[] = [];
  private readonly nowMs: () => number;
  private readonly wakeAfter: (ms: number) => void;
  private readonly onTrouble: (reason: string | undefined) => void;
  private idleActions: (() => void)[] = [];

  constructor(options: DurableStoreOptions) {
    super(options.backend, { ...defaultStoreLimits, ...options.limits });
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

  // ---- batches

  protected note(kind: number, session: number, isAwaited: boolean): number {
    if (isAwaited && this.waitingSinceMs < 0) {
      this.waitingSinceMs = this.nowMs();
      this.wakeAfter(AGE_MS);
    }
    return this.pending.take(kind, session, this.parts.numberOf(session), isAwaited);
  }

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
    }
    pending.trim();
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
    if (!this.isReady) return complete(); // nothing has been noted yet
    this.checkpoint.request();
    this.idleActions.push(complete);
    if (this.underWay.length < BATCHES_UNDER_WAY) this.cut(this.nowMs());
  }
}
