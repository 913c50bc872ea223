/**
 * The writer of the durable store, in the thread that may wait for the disk: takes batches and reads in order, writes
 * what has gathered in one transaction, and does the housekeeping when there is nothing else to do.
 *
 *   write, read ─► pending ─── run ──► BEGIN, batches and reads in order, COMMIT (sync) ──► committed
 *                     ▲                   │ fails: rolled back, all stay pending
 *                     └── every 500 ms ◄──┘ reads are answered from the file and what is pending
 *
 * While a sync is waited for, batches gather, so the number of syncs follows the disk, not the load. A commit is
 * reported before the checkpoint that it makes due. Nothing is reported committed that is not.
 */
import type { Database } from "bun:sqlite";
import { Collector } from "./collector-sqlite.ts";
import { codeOf, failureReason } from "./fault-sqlite.ts";
import type { LoadedEntries } from "./log-backend.ts";
import { type OpenFile, openFile, openReader } from "./store-file-sqlite.ts";
import { SqliteTables } from "./tables-sqlite.ts";
import { WaitingBatches } from "./waiting-batches.ts";

/** Of a transaction: what comes later waits for the next one. */
const GROUP_BYTES_MAX = 8 * 1024 * 1024;
const RETRY_MS = 500;
/** So many pages more in the WAL make a checkpoint due: a few milliseconds of work. */
const CHECKPOINT_PAGES = 1000;
/** Housekeeping: for so long, then at least so long nothing. */
const SLICE_MS = 3;
const SLICE_PAUSE_MS = 3;
/** Between looks at whether there is housekeeping to do. */
const LOOK_MS = 100;
/** Without a batch for so long the store is idle. */
const IDLE_MS = 1000;

export interface WriterEvents {
  /** Batches `first`, `first + 1`, … are safe; for each, how long it took from `write` on. */
  committed(first: number, commitMs: number[]): void;
  /** Once, until batches are committed again. */
  failed(reason: string): void;
}

interface PendingWrite {
  readonly batch: number;
  readonly bytes: Uint8Array;
  readonly fromMs: number;
}

interface PendingRead {
  /** Undefined once it has been answered. */
  read: (() => void) | undefined;
}

export class StoreWriter {
  readonly tables: SqliteTables;
  readonly collector: Collector;
  private readonly db: Database;
  private readonly reader: Database;
  private pending: (PendingWrite | PendingRead)[] = [];
  /** Set while writing fails. */
  private waiting: WaitingBatches | undefined;
  /**
   * A sync has failed: what came before in the WAL may be in memory only, though the system takes it for written. It is
   * moved to the file, and synced there, before anything else is reported.
   */
  private isWalSuspect = false;
  /** Pages in the WAL that are to be there at the next checkpoint. */
  private checkpointAt = CHECKPOINT_PAGES;
  private lastWriteMs = 0;
  /** Nothing is left to be done until something is written. */
  private isAtRest = false;
  private isShrinking = false;
  private runTimer: ReturnType<typeof setImmediate> | undefined;
  private retryTimer: ReturnType<typeof setTimeout> | undefined;
  private houseTimer: ReturnType<typeof setTimeout> | undefined;
  private idleWaiters: (() => void)[] = [];

  /** The caller holds the lock. @throws as `openFile` */
  constructor(
    file: OpenFile,
    private readonly events: WriterEvents,
  ) {
    this.db = openFile(file);
    try {
      this.tables = new SqliteTables(this.db);
      this.reader = openReader(file.dir);
    } catch (error) {
      this.db.close();
      throw error;
    }
    this.collector = new Collector(this.db, this.reader, file.sync);
  }

  get isFailing(): boolean {
    return this.waiting !== undefined;
  }

  /** Runs what is to be on the disk as a whole when it returns. */
  transact<T>(work: () => T): T {
    return this.db.transaction(work).immediate();
  }

  write(batch: number, bytes: Uint8Array): void {
    this.pending.push({ batch, bytes, fromMs: performance.now() });
    if (this.waiting) this.waiting.add(bytes);
    else this.runSoon();
  }

  /** `complete` gets what all batches written before this call left, null when the page is not there. */
  readPage(session: number, page: number, complete: (loaded: LoadedEntries | null) => void): void {
    this.enqueueRead(() => {
      const waiting = this.waiting?.page(session, page);
      const entries = waiting === undefined ? this.tables.readPageIfSound(session, page) : waiting;
      complete(entries && this.tables.loadBodies(entries, this.waiting?.bodies));
    });
  }

  readBodies(entries: Buffer, complete: (loaded: LoadedEntries) => void): void {
    this.enqueueRead(() => complete(this.tables.loadBodies(entries, this.waiting?.bodies)));
  }

  /** Calls back when nothing is pending, under way or worth doing; does it now instead of when idle. */
  whenIdle(callback: () => void): void {
    this.idleWaiters.push(callback);
    clearTimeout(this.houseTimer);
    this.houseTimer = undefined;
    if (this.pending.length === 0) this.schedule();
  }

  /** Writes what is pending if the disk takes it, and lets go of the file. */
  close(): void {
    while (this.pending.length > 0 && this.runGroup());
    clearImmediate(this.runTimer);
    clearTimeout(this.retryTimer);
    clearTimeout(this.houseTimer);
    this.collector.stop();
    this.tables.finalize();
    this.reader.close();
    this.db.close(); // the last connection: checkpoints and removes the WAL
  }

  private enqueueRead(read: () => void): void {
    if (!this.waiting) {
      this.pending.push({ read });
      this.runSoon();
      return;
    }
    const item: PendingRead = { read };
    this.answer(item);
    if (item.read) this.pending.push(item);
  }

  private runSoon(): void {
    this.runTimer ??= setImmediate(() => {
      this.runTimer = undefined;
      this.run();
    });
  }

  private run(): void {
    if (this.pending.length > 0 && !this.runGroup()) return;
    if (this.pending.length > 0) this.runSoon();
    else this.schedule();
  }

  /** One transaction; false when it failed and is to be tried again later. */
  private runGroup(): boolean {
    let count = 0;
    let bytes = 0;
    let floor = 0;
    const commitMs: number[] = [];
    let first = 0;
    try {
      if (this.isWalSuspect) this.renewWal();
      for (; count < this.pending.length && bytes < GROUP_BYTES_MAX; count++) {
        const item = this.pending[count];
        if ("read" in item) {
          item.read?.();
          item.read = undefined;
          continue;
        }
        if (commitMs.push(item.fromMs) === 1) {
          first = item.batch;
          this.db.run("BEGIN IMMEDIATE");
        }
        floor = Math.max(floor, this.tables.apply(item.batch, item.bytes));
        bytes += item.bytes.length;
      }
      if (commitMs.length > 0) this.db.run("COMMIT");
    } catch (error) {
      this.fail(error);
      return false;
    }
    this.pending = this.pending.slice(count);
    if (commitMs.length === 0) return true;
    this.waiting = undefined;
    const now = performance.now();
    for (let at = 0; at < commitMs.length; at++) commitMs[at] = now - commitMs[at];
    this.events.committed(first, commitMs);
    this.lastWriteMs = now;
    this.isAtRest = false;
    if (floor > 0) this.collector.request(floor);
    this.checkpointIfDue();
    return true;
  }

  private fail(error: unknown): void {
    if (this.db.inTransaction) this.db.run("ROLLBACK");
    if (codeOf(error).startsWith("SQLITE_IOERR")) this.isWalSuspect = true;
    clearTimeout(this.houseTimer);
    this.houseTimer = undefined;
    clearTimeout(this.retryTimer);
    this.retryTimer = setTimeout(() => this.run(), RETRY_MS);
    if (this.waiting) return;
    this.waiting = new WaitingBatches();
    for (const item of this.pending)
      if ("bytes" in item) this.waiting.add(item.bytes);
      else this.answer(item);
    this.events.failed(failureReason(error));
  }

  /** Answers a read while writing fails; it stays pending when the disk does not even read. */
  private answer(item: PendingRead): void {
    try {
      item.read?.();
      item.read = undefined;
    } catch {
      // It is tried again with the batches.
    }
  }

  private renewWal(): void {
    this.collector.stop(); // it may hold pages of the WAL back
    const [[isBusy]] = this.db.query("PRAGMA wal_checkpoint(TRUNCATE)").values() as [[number]];
    if (isBusy) throw new Error("the disk reported an error, and a reader of the store is in the way of its repair");
    this.isWalSuspect = false;
  }

  private checkpointIfDue(): void {
    if (this.walPages() >= this.checkpointAt) this.checkpoint("PASSIVE");
    // What a reader holds back is not tried again at every commit.
    if (this.checkpointAt === 0) this.checkpointAt = this.walPages() + CHECKPOINT_PAGES;
  }

  /** Pages in the WAL that are not in the file yet. */
  private walPages(): number {
    const [[, inWal, inFile]] = this.db.query("PRAGMA wal_checkpoint(NOOP)").values() as [[number, number, number]];
    return inWal - inFile;
  }

  /** What it cannot write now, a later one will. */
  private checkpoint(mode: "PASSIVE" | "TRUNCATE"): void {
    this.checkpointAt = 0;
    try {
      this.db.run(`PRAGMA wal_checkpoint(${mode})`);
    } catch {
      // The disk is full, say: the WAL has it all.
    }
  }

  private schedule(): void {
    if (this.isFailing || this.houseTimer) return;
    const isWorking = this.collector.isActive || this.isShrinking;
    if (!isWorking && this.isAtRest) {
      for (const callback of this.idleWaiters.splice(0)) callback();
      return;
    }
    const isUrgent = isWorking || this.idleWaiters.length > 0;
    this.houseTimer = setTimeout(() => this.houseKeep(), isUrgent ? SLICE_PAUSE_MS : LOOK_MS);
  }

  private houseKeep(): void {
    this.houseTimer = undefined;
    const isIdle = this.idleWaiters.length > 0 || performance.now() - this.lastWriteMs >= IDLE_MS;
    if (this.collector.isActive) this.collector.step(SLICE_MS);
    else this.shrink(isIdle);
    this.checkpointIfDue();
    this.schedule();
  }

  private shrink(isIdle: boolean): void {
    try {
      this.isShrinking = this.collector.shrink(SLICE_MS, isIdle);
    } catch {
      this.isShrinking = false; // later, or never: free pages are used again anyway
    }
    if (this.isShrinking || !isIdle) return;
    this.checkpoint("TRUNCATE");
    this.isAtRest = true;
  }
}
