/**
 * Keeps the log short: sessions that changed are written anew, those first that changed first, a few with each batch, and
 * what the log says of batches before the oldest change that is not in a snapshot is dropped.
 *
 *   dirty   session, session, session …      in the order of their first change since their last snapshot
 *           └ trim: log rows of earlier batches than its first change are not needed
 *
 * So recovery replays at most about `logBytesMax` of changes, and no batch carries more than `SLICE_BYTES` of snapshots.
 * When it is through, and enough messages have gone, bodies that nothing names may be collected.
 */
import { ByteWriter } from "#base/byte-writer.ts";
import { COLLECT, META, QUEUE, TRIM } from "./log-backend.ts";
import { writeSessionMeta, writeSessionQueue } from "./snapshot.ts";
import type { StoreParts } from "./store-parts.ts";

const SLICE_COUNT = 256;
const SLICE_BYTES = 512 * 1024;
/** Fewer messages gone are not worth a collection, unless it is quiet. */
const COLLECT_COUNT = 20_000;
const COLLECT_EVERY_MS = 1000;

/** What a session writes of itself when it is not one of the engine's any more. */
export interface SnapshotSource {
  writeMeta(out: ByteWriter): void;
  writeQueue(out: ByteWriter): void;
}

interface Dirty {
  readonly session: number;
  /** Bits `1 << META` and `1 << QUEUE`. */
  sides: number;
  /** Batch of the first change that its snapshots do not have. */
  readonly since: number;
}

export class Checkpoint {
  private readonly dirty = new Map<number, Dirty>();
  /** Sessions that are leaving: they write themselves. */
  readonly leaving: Map<number, SnapshotSource> = new Map();
  /** Sessions that gave messages to others: they are written with the batch that says so, or these would be there twice. */
  private readonly now: number[] = [];
  /** Sessions that are gone, and the batch that said so. */
  private readonly gone: { number: number; batch: number }[] = [];
  /** Pages whose messages are in memory again, or dropped, by session. */
  private readonly deadPages = new Map<number, number[]>();
  private logBytes = 0;
  /** Everything dirty up to this batch is to be written; 0 when nothing is. */
  private goal = 0;
  private lastMs = 0;
  private collectedMs = 0;
  private readonly out = new ByteWriter();

  constructor(private readonly parts: StoreParts) {}

  touch(number: number, session: number, side: typeof META | typeof QUEUE): void {
    const known = this.dirty.get(number);
    if (known) known.sides |= 1 << side;
    else this.dirty.set(number, { session, sides: 1 << side, since: this.parts.lastBatch });
  }

  /** The session's queue is to be written with the next batch. */
  touchNow(number: number, session: number): void {
    this.touch(number, session, QUEUE);
    this.now.push(number);
  }

  /** The session has ended; when it is not yet gone, `leaving` has it. */
  end(number: number, isGone: boolean): void {
    this.dirty.delete(number);
    if (isGone) {
      this.leaving.delete(number);
      this.deadPages.delete(number);
      this.gone.push({ number, batch: this.parts.lastBatch });
    } else {
      this.now.push(number);
      this.dirty.set(number, { session: -1, sides: (1 << META) | (1 << QUEUE), since: this.parts.lastBatch });
    }
  }

  /** The page's row is kept until a snapshot no longer names it. */
  addDeadPage(number: number, page: number): void {
    const pages = this.deadPages.get(number);
    if (pages) pages.push(page);
    else this.deadPages.set(number, [page]);
  }

  /** Everything that has changed up to now is to be written. */
  request(): void {
    this.goal = this.parts.lastBatch + 1;
  }

  get isRunning(): boolean {
    return this.goal > 0;
  }

  /** A batch should be cut for what is to be written here. */
  isDue(nowMs: number): boolean {
    if (this.isRunning) return true;
    const { limits, releasedCount } = this.parts;
    const isQuiet = nowMs - this.lastMs >= limits.checkpointSec * 1000;
    if (this.logBytes >= limits.logBytesMax) return true;
    if (isQuiet && (this.dirty.size > 0 || this.gone.length > 0 || releasedCount > 0)) return true;
    return releasedCount >= COLLECT_COUNT && nowMs - this.collectedMs >= COLLECT_EVERY_MS;
  }

  /** Adds to the batch what is to be written now. */
  write(nowMs: number): void {
    const { parts } = this;
    this.logBytes += parts.ops.length;
    for (const number of this.now.splice(0)) this.writeDirty(number);
    if (!this.isRunning && this.isDue(nowMs)) this.request();
    if (!this.isRunning) return;
    let count = 0;
    const limit = parts.items.length + SLICE_BYTES;
    for (const [number, { since }] of this.dirty) {
      if (since > this.goal || count++ === SLICE_COUNT || parts.items.length > limit) break;
      this.writeDirty(number);
    }
    const oldest = this.dirty.values().next().value?.since ?? parts.lastBatch + 1;
    this.trim(oldest);
    if (oldest <= this.goal) return; // the rest with the next batches
    this.goal = 0;
    this.logBytes = 0;
    this.lastMs = nowMs;
    if (parts.releasedCount > 0) this.collect(nowMs);
  }

  private writeDirty(number: number): void {
    const { parts, out } = this;
    const entry = this.dirty.get(number);
    if (!entry) return;
    const { session, sides } = entry;
    this.dirty.delete(number);
    const source = this.leaving.get(number);
    if (!source && parts.numberOf(session) !== number) return;
    if (sides & (1 << META)) {
      out.clear();
      if (source) source.writeMeta(out);
      else writeSessionMeta(parts, session, out);
      parts.putSnapshot(number, META, out);
    }
    if ((sides & (1 << QUEUE)) === 0) return;
    const queue = source ? null : parts.engine.sessions.queueOf(session);
    if (!source && queue === null) return;
    out.clear();
    if (source) source.writeQueue(out);
    else writeSessionQueue(parts, queue!, out);
    parts.putSnapshot(number, QUEUE, out);
    for (const page of this.deadPages.get(number) ?? []) parts.putDropPage(number, page);
    this.deadPages.delete(number);
  }

  private trim(batch: number): void {
    const { parts, gone } = this;
    parts.items.u8(TRIM);
    parts.items.u48(batch);
    while (gone.length > 0 && gone[0].batch < batch) parts.putRemove(gone.shift()!.number);
  }

  private collect(nowMs: number): void {
    const { parts } = this;
    parts.collectFloor = parts.lastBody + 1;
    parts.releasedCount = parts.ops.length > 0 ? 1 : 0; // this batch's own changes still name some
    this.collectedMs = nowMs;
    parts.items.u8(COLLECT);
    parts.items.u48(parts.collectFloor);
  }
}
