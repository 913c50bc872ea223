/**
 * Gives back the space of messages that nobody waits for any more, in slices of a few milliseconds between batches.
 *
 *   request(floor) ── mark: log, queue snapshots, pages ──► sweep: bodies below floor, unmarked ──► shrink the file
 *                     as of the moment of the request,       the rows that are there,                when free pages are
 *                     through a second connection            in order of their ids                   many or nothing is asked
 *
 * It is safe because no entry that is written later names a body below the floor unless something named it at the
 * request: what is unmarked stays unnamed. A mark that cannot be completed (damage, an error of the disk) deletes nothing.
 *
 * The commits here need no sync of their own: one that is lost is repeated by the next collection.
 * A page costs a row read and its entries walked, a dead body a row deleted. One body is deleted at once, however large.
 */
import type { Database } from "bun:sqlite";
import { ByteReader } from "#base/byte-writer.ts";
import { visitEntries, visitOps, visitQueue } from "./change-reader.ts";
import { DamageError } from "./fault-sqlite.ts";
import { IdSet } from "./id-set.ts";
import { pragma, type SyncMode } from "./store-file-sqlite.ts";
import { isSound, pageKey } from "./tables-sqlite.ts";

const SWEEP_ROWS = 256;
/** Of bodies deleted by one statement. */
const SWEEP_BYTES = 1024 * 1024;
const VACUUM_PAGES = 32;
/** Free pages kept for what is written next. */
const FREE_PAGES_KEPT = 256;
/** A busy store shrinks its file too when so many pages are free and they are a quarter of it. */
const FREE_PAGES_MANY = 16_384;

type Row = (number | Uint8Array | null)[];

/** A table to mark: rows after a key, in order of it; each row's key comes first. */
interface MarkStep {
  readonly sql: string;
  readonly visit: (row: Row, mark: (body: number) => void) => void;
}

const MARK_STEPS: readonly MarkStep[] = [
  {
    sql: "SELECT batch, crc, ops FROM log WHERE batch > ? ORDER BY batch LIMIT 4",
    visit: ([batch, crc, ops], mark) => visitOps(checked(Number(batch), crc, ops), mark),
  },
  {
    sql: "SELECT id, queueCrc, queue FROM session WHERE id > ? ORDER BY id LIMIT 32",
    visit: ([id, crc, queue], mark) => {
      if (queue !== null) visitQueue(checked(Number(id), crc, queue), mark);
    },
  },
  {
    sql: "SELECT id, crc, bytes, session, page FROM page WHERE id > ? ORDER BY id LIMIT 16",
    visit: ([, crc, bytes, session, page], mark) =>
      visitEntries(new ByteReader(checked(pageKey(Number(session), Number(page)), crc, bytes)), mark),
  },
];

export class Collector {
  /** Collections that could not be completed. */
  failedCount = 0;
  private marked = new IdSet();
  /** Of `MARK_STEPS`; −1 when not marking. */
  private markStep = -1;
  private isSweeping = false;
  private cursor = 0;
  private floor = 0;
  private nextFloor = 0;
  private readonly mark = (body: number): void => this.marked.add(body);

  /** `reader` is a connection of its own on the same file; both stay the caller's. */
  constructor(
    private readonly db: Database,
    private readonly reader: Database,
    private readonly sync: SyncMode,
  ) {}

  get isActive(): boolean {
    return this.markStep >= 0 || this.isSweeping;
  }

  /** Call it right after the commit of the batch that asks for it. */
  request(floor: number): void {
    if (this.isActive) {
      this.nextFloor = Math.max(this.nextFloor, floor);
      return;
    }
    this.floor = floor;
    this.marked = new IdSet();
    try {
      this.reader.run("BEGIN");
      this.reader.query("SELECT batch FROM log LIMIT 1").values(); // takes the snapshot
      this.markStep = 0;
      this.cursor = -1;
    } catch {
      this.giveUp();
    }
  }

  /** Works for about `ms`; not within a transaction. */
  step(ms: number): void {
    const until = performance.now() + ms;
    try {
      while (this.markStep >= 0 && performance.now() < until) this.markSome();
      if (this.isSweeping && performance.now() < until) this.unsynced(() => this.sweep(until));
    } catch {
      this.giveUp();
    }
    if (this.isActive || this.nextFloor === 0) return;
    const floor = this.nextFloor;
    this.nextFloor = 0;
    this.request(floor);
  }

  /** Gives free pages back to the file system for about `ms`; false when none are left to give. */
  shrink(ms: number, isIdle: boolean): boolean {
    const until = performance.now() + ms;
    while (this.isWorthShrinking(isIdle)) {
      if (performance.now() >= until) return true;
      this.unsynced(() => this.db.run(`PRAGMA incremental_vacuum(${VACUUM_PAGES})`));
    }
    return false;
  }

  /** Ends what is under way, so that the connections can be closed. */
  stop(): void {
    if (this.reader.inTransaction) this.reader.run("ROLLBACK");
    this.markStep = -1;
    this.isSweeping = false;
  }

  private isWorthShrinking(isIdle: boolean): boolean {
    const free = pragma(this.db, "freelist_count");
    if (isIdle) return free > FREE_PAGES_KEPT;
    return free > FREE_PAGES_MANY && free * 4 > pragma(this.db, "page_count");
  }

  private markSome(): void {
    const { sql, visit } = MARK_STEPS[this.markStep];
    const rows = this.reader.query(sql).values(this.cursor) as Row[];
    for (const row of rows) {
      if ((row[0] as number) <= this.cursor) throw new DamageError("rows come back");
      visit(row, this.mark);
      this.cursor = row[0] as number;
    }
    if (rows.length > 0) return;
    this.cursor = -1;
    if (++this.markStep < MARK_STEPS.length) return;
    this.markStep = -1;
    this.reader.run("COMMIT");
    this.cursor = 0;
    this.isSweeping = true;
  }

  private sweep(until: number): void {
    this.db.run("BEGIN IMMEDIATE");
    do {
      const sql = `SELECT id, length(bytes) FROM body WHERE id >= ? AND id < ? ORDER BY id LIMIT ${SWEEP_ROWS}`;
      const rows = this.db.query(sql).values(this.cursor, this.floor) as [number, number][];
      this.isSweeping = rows.length > 0;
      if (rows.length === 0) break;
      this.cursor = this.deleteRun(rows, until);
    } while (performance.now() < until);
    this.db.run("COMMIT");
  }

  /** Deletes what is unmarked among neighbours; returns the id to go on from. */
  private deleteRun(rows: readonly [number, number][], until: number): number {
    const remove = this.db.query("DELETE FROM body WHERE id BETWEEN ? AND ?");
    let [first, last, bytes] = [-1, -1, 0];
    const flush = (): void => {
      if (first >= 0) remove.run(first, last);
      first = -1;
      bytes = 0;
    };
    for (const [id, length] of rows) {
      if (this.marked.has(id)) flush();
      else {
        if (first < 0) first = id;
        last = id;
        bytes += length;
      }
      if (bytes < SWEEP_BYTES) continue;
      flush();
      if (performance.now() >= until) return id + 1;
    }
    flush();
    return rows[rows.length - 1][0] + 1;
  }

  /** Runs what need not be on the disk when it returns. */
  private unsynced(work: () => void): void {
    if (this.sync === "full") this.db.run("PRAGMA synchronous = NORMAL");
    try {
      work();
    } finally {
      if (this.db.inTransaction) this.db.run("ROLLBACK");
      if (this.sync === "full") this.db.run("PRAGMA synchronous = FULL");
    }
  }

  private giveUp(): void {
    this.failedCount++;
    this.stop();
  }
}

function checked(key: number, crc: unknown, bytes: unknown): Buffer {
  if (!isSound(key, crc, bytes)) throw new DamageError("a row that names messages is damaged");
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
}
