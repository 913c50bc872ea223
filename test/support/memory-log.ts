/**
 * A `LogBackend` in memory, for tests and the simulator: what was written is durable once `commit` says so, and `crash`
 * gives the disk as the next process would find it. No clock, and no chance but the dice it is given.
 *
 *   write ─► written (what reads see) ─── commit(n) ──► durable (what `crash` starts from)
 *
 * Both are whole sets of tables over the same bytes. Requests complete before the call returns.
 */
import { ByteReader } from "#base/byte-writer.ts";
import type { Random } from "#base/random.ts";
import { BatchReader } from "#store/batch-reader.ts";
import { visitEntries, visitOps, visitQueue } from "#store/change-reader.ts";
import { BODY, COLLECT, DROP_PAGE, META, OPS, PAGE, REMOVE, RETAINED, SNAPSHOT, TRIM } from "#store/log-backend.ts";
import type { CommitInfo, LoadedEntries, LogBackend, RecoveryReceiver } from "#store/log-backend.ts";
import { loadEntries, type RecoveryTables, settle } from "#store/recovery.ts";
import type { RestingSession, Snapshots } from "#store/session-replay.ts";

const CHUNK = 500;

interface WrittenBatch {
  readonly batch: number;
  readonly bytes: Uint8Array;
}

export class MemoryLog implements LogBackend {
  onCommitted: (info: CommitInfo) => void = () => {};
  onFailed: (reason: string) => void = () => {};
  private readonly written: MemoryTables;
  /** Written and not durable. */
  private readonly waiting: WrittenBatch[] = [];

  /** Without argument the disk is empty. */
  constructor(private readonly durable: MemoryTables = new MemoryTables()) {
    this.written = durable.clone();
  }

  /** The last batch that was written. */
  get writtenBatch(): number {
    return this.written.lastBatch;
  }

  /** The last batch that is durable. */
  get durableBatch(): number {
    return this.durable.lastBatch;
  }

  /** Numbers of the bodies there are, in what was written; ascending. */
  get bodies(): number[] {
    return [...this.written.bodies.keys()].sort((a, b) => a - b);
  }

  write(batch: number, bytes: Uint8Array<ArrayBuffer>): void {
    this.written.apply(batch, bytes);
    this.waiting.push({ batch, bytes });
  }

  /** Makes all batches up to `last` durable and says so, in order. */
  commit(last: number = this.writtenBatch): void {
    while (this.waiting.length > 0 && this.waiting[0].batch <= last) {
      const { batch, bytes } = this.waiting.shift()!;
      this.durable.apply(batch, bytes);
      this.onCommitted({ batch, commitMs: 0 });
    }
  }

  /** The disk after a crash: all durable batches and, by the dice, some of those that follow; without dice none. */
  crash(dice?: Random): MemoryLog {
    const disk = this.durable.clone();
    const later = dice ? dice.below(this.waiting.length + 1) : 0;
    for (const { batch, bytes } of this.waiting.slice(0, later)) disk.apply(batch, bytes);
    return new MemoryLog(disk);
  }

  readPage(session: number, page: number, complete: (loaded: LoadedEntries | null) => void): void {
    const entries = this.written.readPage(session, page);
    complete(entries && loadEntries(entries, (id) => this.written.bodies.get(id) ?? null));
  }

  readBodies(entries: Buffer, complete: (loaded: LoadedEntries) => void): void {
    complete(loadEntries(entries, (id) => this.written.bodies.get(id) ?? null));
  }

  /** What recovery writes is durable at once, as if it had synced. */
  recover(receiver: RecoveryReceiver): void {
    const damage = settle(this.durable);
    this.written.become(this.durable);
    const { sessionTable, retained, lastBody, lastSession, lastBatch } = this.durable;
    for (const chunk of chunks([...sessionTable].sort(([a], [b]) => a - b)))
      receiver.sessions(chunk.map(([session, { meta, queue }]) => ({ session, meta: meta!, queue: queue! })));
    for (const chunk of chunks([...retained]))
      receiver.retained(chunk.map(([topic, bytes]) => ({ topic: Buffer.from(topic, "latin1"), bytes })));
    receiver.done({ lastBody, lastSession, lastBatch, damage });
  }
}

/** The tables of store-file-sqlite.ts as maps. Bytes are shared and never written to. */
class MemoryTables implements RecoveryTables {
  bodies = new Map<number, Buffer>();
  log = new Map<number, Buffer>();
  sessionTable = new Map<number, Snapshots>();
  /** By session, then page. */
  pages = new Map<number, Map<number, Buffer>>();
  /** By topic, a byte a character. */
  retained = new Map<string, Buffer>();
  lastBody = 0;
  lastSession = 0;
  lastBatch = 0;

  /** Takes over all that `other` has. */
  become(other: MemoryTables): void {
    this.bodies = new Map(other.bodies);
    this.log = new Map(other.log);
    this.sessionTable = new Map(other.sessionTable);
    this.pages = new Map([...other.pages].map(([session, pages]) => [session, new Map(pages)]));
    this.retained = new Map(other.retained);
    this.lastBody = other.lastBody;
    this.lastSession = other.lastSession;
    this.lastBatch = other.lastBatch;
  }

  clone(): MemoryTables {
    const copy = new MemoryTables();
    copy.become(this);
    return copy;
  }

  apply(batch: number, bytes: Uint8Array): void {
    const item = new BatchReader(bytes);
    let floor = 0;
    while (item.next()) {
      if (item.kind === COLLECT) floor = Math.max(floor, item.number);
      else this.applyItem(batch, item);
    }
    this.lastBatch = batch;
    if (floor > 0) this.collect(floor);
  }

  readSnapshots(session: number): Snapshots | null {
    return this.sessionTable.get(session) ?? null;
  }

  readPage(session: number, page: number): Buffer | null {
    return this.pages.get(session)?.get(page) ?? null;
  }

  logRows(): Iterable<{ readonly batch: number; readonly ops: Buffer }> {
    return [...this.log].map(([batch, ops]) => ({ batch, ops }));
  }

  sessions(): Iterable<{ readonly session: number; readonly snapshots: Snapshots }> {
    return [...this.sessionTable].map(([session, snapshots]) => ({ session, snapshots }));
  }

  pagesOf(session: number): readonly number[] {
    return [...(this.pages.get(session)?.keys() ?? [])];
  }

  putSession(session: number, { meta, queue }: RestingSession): void {
    this.sessionTable.set(session, { meta, metaBatch: this.lastBatch, queue, queueBatch: this.lastBatch });
  }

  putPage(session: number, page: number, entries: Buffer): void {
    const pages = this.pages.get(session);
    if (pages) pages.set(page, entries);
    else this.pages.set(session, new Map([[page, entries]]));
  }

  dropPage(session: number, page: number): void {
    const pages = this.pages.get(session);
    pages?.delete(page);
    if (pages?.size === 0) this.pages.delete(session);
  }

  dropSession(session: number): void {
    this.sessionTable.delete(session);
  }

  emptyLog(lastSession: number): void {
    this.lastSession = Math.max(this.lastSession, lastSession);
    this.log.clear();
  }

  private applyItem(batch: number, item: BatchReader): void {
    const { kind, number, session, page, part, topic, bytes } = item;
    if (kind === SNAPSHOT || kind === REMOVE || kind === PAGE) this.lastSession = Math.max(this.lastSession, session);
    if (kind === BODY) {
      this.bodies.set(number, bytes);
      this.lastBody = Math.max(this.lastBody, number);
    } else if (kind === SNAPSHOT) {
      const before = this.readSnapshots(session) ?? { meta: null, metaBatch: 0, queue: null, queueBatch: 0 };
      const after = part === META ? { meta: bytes, metaBatch: batch } : { queue: bytes, queueBatch: batch };
      this.sessionTable.set(session, { ...before, ...after });
    } else if (kind === REMOVE) {
      this.sessionTable.delete(session);
      this.pages.delete(session);
    } else if (kind === PAGE) this.putPage(session, page, bytes);
    else if (kind === DROP_PAGE) this.dropPage(session, page);
    else if (kind === RETAINED && bytes.length === 0) this.retained.delete(topic.toString("latin1"));
    else if (kind === RETAINED) this.retained.set(topic.toString("latin1"), bytes);
    else if (kind === OPS) this.log.set(batch, Buffer.concat([this.log.get(batch) ?? Buffer.alloc(0), bytes]));
    else if (kind === TRIM) for (const row of this.log.keys()) if (row < number) this.log.delete(row);
  }

  private collect(floor: number): void {
    const named = new Set<number>();
    const mark = (body: number): void => void named.add(body);
    for (const ops of this.log.values()) visitOps(ops, mark);
    for (const { queue } of this.sessionTable.values()) if (queue) visitQueue(queue, mark);
    for (const pages of this.pages.values())
      for (const entries of pages.values()) visitEntries(new ByteReader(entries), mark);
    for (const body of this.bodies.keys()) if (body < floor && !named.has(body)) this.bodies.delete(body);
  }
}

function* chunks<T>(all: readonly T[]): Generator<T[]> {
  for (let at = 0; at < all.length; at += CHUNK) yield all.slice(at, at + CHUNK);
}
