/**
 * What is to go to a receiver that may be slow, away, or gone for days: in order, in batches, at least once, and never waited for by
 * those who put it in.
 *
 *   put ─► memory ─► batch ─► send ─► done                            while the receiver answers
 *             │ older than spillMs, or there are some on disk
 *             ▼
 *          journal ─► batch ─► send ─► removed                        while it does not, and until it has caught up
 *
 * One batch is under way at a time, so the order of all is kept. What is on disk is older than what is in memory: once something is
 * there, everything goes that way until the disk is empty. After a crash what is on disk is sent (again, perhaps); what is lost then is
 * what was put in the last `spillMs`, no more. Memory and disk are bounded: where neither has room, what comes is lost, and counted.
 *
 * A batch that is refused, not just failed, is halved until the item that is at fault is alone; that one is lost, and counted. `send`
 * fails with `Refused` for what no repetition can help.
 */
import type { Journal } from "./journal.ts";

/** The receiver does not take it, now or later. */
export class Refused extends Error {}

export type LossReason = "queue_full" | "refused" | "unreadable" | "not_written";

export interface SpoolLimits {
  /** In memory. */
  readonly countMax: number;
  readonly bytesMax: number;
  readonly diskBytesMax: number;
  readonly batchCountMax: number;
  readonly batchBytesMax: number;
  /** How long an item waits for others of its batch. */
  readonly lingerMs: number;
  readonly spillMs: number;
  readonly deadlineMs: number;
  readonly retryMsMax: number;
}

export interface SpoolParts<T> {
  readonly limits: SpoolLimits;
  readonly journal: Journal;
  bytesOf(item: T): number;
  encode(item: T): Uint8Array;
  /** Undefined for what cannot be read. */
  decode(body: Uint8Array): T | undefined;
  /** Resolves when the receiver has the batch for good. Rejects with Refused, or with what has failed. */
  send(batch: readonly T[], signal: AbortSignal): Promise<unknown>;
  noteLoss(count: number, reason: LossReason, words: string): void;
}

export interface SpoolState {
  readonly memoryCount: number;
  readonly diskCount: number;
  readonly diskBytes: number;
  readonly sentCount: number;
  readonly lostCount: number;
  /** Failures in a row, and for how long it has been failing; 0 while the receiver answers. */
  readonly failureCount: number;
  readonly failingMs: number;
  /** What the receiver said last, and the disk; empty while all is well. */
  readonly fault: string;
  readonly diskFault: string;
}

interface Waiting<T> {
  readonly item: T;
  readonly bytes: number;
  readonly atMs: number;
  /** Its number in the journal, 0 before it has one. */
  seq: number;
}

interface Batch<T> {
  readonly items: readonly T[];
  /** The receiver has them, or they are lost. */
  settle(): Promise<void>;
}

const RETRY_MS = 200;
const DISK_RETRY_MS = 1000;
const SPILL_COUNT_MAX = 500;

export class Spool<T> {
  private memory: Waiting<T>[] = [];
  private memoryBytes = 0;
  private diskCount: number;
  private sentCount = 0;
  private lostCount = 0;
  private failureCount = 0;
  private failingSinceMs = 0;
  private fault = "";
  private diskFault = "";
  /** How many are sent at once: fewer after a batch was refused. */
  private batchMax: number;
  private spilling: Promise<void> | undefined;
  private spillTimer: Timer | undefined;
  private isSpillSoon = false;
  /** Numbers up to this one are done with. */
  private doneSeq = 0;
  /** Done with, and still on disk. */
  private garbage: number[] = [];
  private wake: () => void = () => {};
  private isStopping = false;
  private readonly abort = new AbortController();
  private readonly running: Promise<void>;

  constructor(private readonly parts: SpoolParts<T>) {
    this.diskCount = parts.journal.count;
    this.batchMax = parts.limits.batchCountMax;
    this.running = this.run();
  }

  get state(): SpoolState {
    const { diskCount, sentCount, lostCount, failureCount, fault, diskFault } = this;
    return {
      memoryCount: this.memory.length,
      diskCount,
      diskBytes: this.parts.journal.bytes,
      sentCount,
      lostCount,
      failureCount,
      failingMs: failureCount === 0 ? 0 : performance.now() - this.failingSinceMs,
      fault,
      diskFault,
    };
  }

  /** Never waits, never throws. */
  put(item: T): void {
    const { countMax, bytesMax } = this.parts.limits;
    const bytes = this.parts.bytesOf(item);
    if (this.memory.length >= countMax || this.memoryBytes + bytes > bytesMax) {
      const words = this.diskFault || this.fault || "it comes faster than it is taken";
      return this.lose(1, "queue_full", words);
    }
    this.memory.push({ item, bytes, atMs: performance.now(), seq: 0 });
    this.memoryBytes += bytes;
    this.wake();
    this.armSpill();
  }

  /** Sends what it can within `msMax`, writes the rest to disk and closes the journal. */
  async stop(msMax: number): Promise<void> {
    this.isStopping = true;
    this.wake();
    const timer = setTimeout(() => this.abort.abort(), msMax);
    await this.running;
    clearTimeout(timer);
    clearTimeout(this.spillTimer);
    await this.spilling;
    while (this.memory.length > 0 && (await this.spill()));
    if (this.memory.length > 0) this.lose(this.memory.length, "not_written", this.diskFault || "the disk is full");
    await this.parts.journal.close().catch(() => {});
  }

  // ---- sending

  private async run(): Promise<void> {
    for (;;) {
      if (this.isStopping && (this.abort.signal.aborted || this.failureCount > 0)) return;
      const batch = this.diskCount > 0 ? await this.readDisk() : await this.readMemory();
      if (batch) await this.attempt(batch);
      else if (this.failureCount > 0) await this.sleep(this.retryMs());
      else if (this.isStopping && this.memory.length + this.diskCount === 0) return;
    }
  }

  private async attempt({ items, settle }: Batch<T>): Promise<void> {
    const { deadlineMs, batchCountMax } = this.parts.limits;
    const signal = AbortSignal.any([AbortSignal.timeout(deadlineMs), this.abort.signal]);
    try {
      await withSignal(this.parts.send(items, signal), signal);
      this.sentCount += items.length;
      this.batchMax = Math.min(batchCountMax, this.batchMax * 2);
    } catch (error) {
      if (!(error instanceof Refused)) return this.noteFailure(error);
      if (items.length > 1) {
        this.batchMax = Math.ceil(items.length / 2);
        return;
      }
      this.lose(1, "refused", error.message);
    }
    this.failureCount = 0;
    this.fault = "";
    await settle();
  }

  private async noteFailure(error: unknown): Promise<void> {
    if (this.failureCount++ === 0) this.failingSinceMs = performance.now();
    this.fault = error instanceof Error ? error.message : String(error);
    if (!this.isStopping) await this.sleep(this.retryMs());
  }

  private retryMs(): number {
    const { retryMsMax } = this.parts.limits;
    const ms = Math.min(retryMsMax, RETRY_MS * 2 ** Math.min(this.failureCount - 1, 20));
    return ms * (0.5 + Math.random() / 2);
  }

  /** The next batch of what is in memory only; undefined when there is none yet, or when it is on disk now. */
  private async readMemory(): Promise<Batch<T> | undefined> {
    const { lingerMs } = this.parts.limits;
    if (this.memory.length === 0) {
      if (!this.isStopping) await this.sleep(undefined);
      return undefined;
    }
    const restMs = lingerMs - (performance.now() - this.memory[0]!.atMs);
    if (restMs > 0 && this.memory.length < this.batchMax && !this.isStopping) await this.sleep(restMs, this.batchMax);
    await this.spilling;
    if (this.diskCount > 0 || this.memory.length === 0) return undefined;
    const taken = this.memory.slice(0, this.countOf(this.memory));
    return {
      items: taken.map(({ item }) => item),
      settle: async () => {
        await this.spilling; // they may have been written meanwhile
        const kept = taken.filter(({ seq }) => seq === 0);
        if (kept.length > 0) this.forget(kept.length);
        const written = taken.flatMap(({ seq }) => (seq === 0 ? [] : [seq]));
        if (written.length > 0) await this.removeFromDisk(written);
      },
    };
  }

  private countOf(list: readonly Waiting<T>[]): number {
    let bytes = 0;
    const end = Math.min(list.length, this.batchMax);
    for (let i = 0; i < end; i++) {
      bytes += list[i]!.bytes;
      if (bytes > this.parts.limits.batchBytesMax && i > 0) return i;
    }
    return end;
  }

  private async readDisk(): Promise<Batch<T> | undefined> {
    const { journal, decode, limits } = this.parts;
    try {
      const entries = await journal.readPage(this.doneSeq, this.batchMax, limits.batchBytesMax);
      const seqs = entries.map(({ seq }) => seq);
      const items = entries.flatMap(({ body }) => decode(body) ?? []);
      const unreadable = entries.length - items.length;
      const settle = async (): Promise<void> => {
        if (unreadable > 0) this.lose(unreadable, "unreadable", "what the disk has is not what was written");
        await this.removeFromDisk(seqs);
      };
      if (items.length > 0) return { items, settle };
      if (entries.length === 0) {
        if (this.diskCount > 0) this.lose(this.diskCount, "unreadable", "the disk has them no more");
        this.diskCount = 0;
      }
      await settle();
    } catch (error) {
      await this.noteFailure(error);
    }
    return undefined;
  }

  /** Done with, whether or not the disk can take note of it now. */
  private async removeFromDisk(seqs: readonly number[]): Promise<void> {
    this.diskCount = Math.max(0, this.diskCount - seqs.length);
    this.doneSeq = Math.max(this.doneSeq, seqs.at(-1) ?? 0);
    const gone = [...this.garbage, ...seqs];
    this.garbage = [];
    try {
      await this.parts.journal.remove(gone);
    } catch (error) {
      this.garbage = gone;
      this.diskFault = (error as Error).message;
    }
  }

  // ---- to disk

  /** Soon when there is something on disk, behind which all has to go, or much in memory. */
  private armSpill(): void {
    if (this.spilling || this.isStopping || this.memory.length === 0) return;
    const { spillMs, lingerMs, countMax, bytesMax } = this.parts.limits;
    const isSoon = this.diskCount > 0 || this.memory.length > countMax / 2 || this.memoryBytes > bytesMax / 2;
    if (this.spillTimer !== undefined && (this.isSpillSoon || !isSoon)) return;
    const ageMs = performance.now() - this.memory[0]!.atMs;
    this.isSpillSoon = isSoon;
    clearTimeout(this.spillTimer);
    const isMuch = this.memory.length >= SPILL_COUNT_MAX;
    this.spillTimer = setTimeout(
      () => this.lookAtAge(),
      isSoon ? (isMuch ? 0 : Math.min(lingerMs, spillMs)) : Math.max(0, spillMs - ageMs),
    ).unref();
  }

  private lookAtAge(): void {
    this.spillTimer = undefined;
    const [oldest] = this.memory;
    if (!oldest || this.isStopping) return;
    const isOld = performance.now() - oldest.atMs >= this.parts.limits.spillMs;
    if (!isOld && !this.isSpillSoon) return this.armSpill();
    void this.spill().then((isDone) => {
      if (isDone) return this.armSpill();
      this.spillTimer ??= setTimeout(() => this.lookAtAge(), DISK_RETRY_MS).unref();
    });
  }

  /** Moves the oldest ones to disk; false when that fails or there is no room. */
  private async spill(): Promise<boolean> {
    const { journal, limits } = this.parts;
    const room = limits.diskBytesMax - journal.bytes;
    let bytes = 0;
    const bodies: Uint8Array[] = [];
    for (const { item } of this.memory.slice(0, SPILL_COUNT_MAX)) {
      const body = this.parts.encode(item);
      bytes += body.length;
      if (bytes > room) break;
      bodies.push(body);
    }
    const moved = this.memory.slice(0, bodies.length);
    if (moved.length === 0) {
      this.diskFault = "what may be kept on disk is full";
      return false;
    }
    const done = Promise.withResolvers<void>();
    this.spilling = done.promise;
    try {
      const seqs = moved.map(() => journal.nextSeq());
      await Promise.all(bodies.map((body, i) => journal.put({ seq: seqs[i]!, due: 0, body })));
      for (const [i, waiting] of moved.entries()) waiting.seq = seqs[i]!;
      this.forget(moved.length);
      this.diskCount += moved.length;
      this.diskFault = "";
      return true;
    } catch (error) {
      this.diskFault = (error as Error).message;
      return false;
    } finally {
      this.spilling = undefined;
      done.resolve();
      this.wake();
    }
  }

  /** The oldest ones are in memory no more. */
  private forget(count: number): void {
    for (const { bytes } of this.memory.splice(0, count)) this.memoryBytes -= bytes;
  }

  // ----

  private lose(count: number, reason: LossReason, words: string): void {
    this.lostCount += count;
    this.parts.noteLoss(count, reason, words);
  }

  /** Until the time is over (never, when undefined), or there are `count` in memory, or it is to stop. */
  private sleep(ms: number | undefined, count = ms === undefined ? 1 : Infinity): Promise<void> {
    return new Promise((resolve) => {
      const end = (): void => {
        clearTimeout(timer);
        this.wake = () => {};
        resolve();
      };
      const timer = ms === undefined ? undefined : setTimeout(end, ms).unref();
      this.wake = () => {
        if (this.isStopping || this.memory.length >= count) end();
      };
      this.wake();
    });
  }
}

/** Rejects when the signal does, also where the promise never settles. */
function withSignal<R>(promise: Promise<R>, signal: AbortSignal): Promise<R> {
  const { promise: late, reject } = Promise.withResolvers<never>();
  const give = (): void => reject(new Error("it has not answered in time"));
  if (signal.aborted) give();
  signal.addEventListener("abort", give, { once: true });
  return Promise.race([promise, late]).finally(() => signal.removeEventListener("abort", give));
}
