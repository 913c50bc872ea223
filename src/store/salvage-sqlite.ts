/**
 * Makes a new file of what can be read in a damaged one, and sets the damaged one aside. Nothing is deleted.
 *
 *   store.db (damaged) ── sound rows ──► salvage/store.db ──► store.db.next ──► store.db
 *        └───────────────────────────────────────────► damaged-TIME/store.db ─────────┘ then
 *
 * The damaged file stays in its place until `store.db.next` is complete; a start that finds that file finishes the
 * renames. A session whose queue is lost keeps the pages that are readable: rather a message twice than not at all.
 *
 * Cost: reads and writes the whole store; needs room for the new file.
 */
import type { Database } from "bun:sqlite";
import { copyFileSync, existsSync, mkdirSync, readFileSync, renameSync, rmSync, statSync } from "node:fs";
import { closeSync, openSync, writeSync } from "node:fs";
import { join } from "node:path";
import { ByteReader, ByteWriter } from "#base/byte-writer.ts";
import { visitEntries, visitOps, visitQueue } from "./change-reader.ts";
import { isDamageAtStart, startFault } from "./fault-sqlite.ts";
import { type Row, RowReader, tellGaps, type Value } from "./row-reader-sqlite.ts";
import { LANE_MASK, LANE_SHIFT, readEntries, type StoredPage, writeQueue } from "./session-log.ts";
import { dbPath, nextPath, type OpenFile, openFile, openReader, replaceFile } from "./store-file-sqlite.ts";
import { STORE_TABLES, type StoreTable } from "./store-tables-sqlite.ts";
import { crcOf, isSound } from "./tables-sqlite.ts";

const PAGE_BYTES = 4096;
/** In the first page: pages in the file u32, first free page u32, free pages u32; big-endian. */
const PAGE_COUNT_AT = 28;
const FREE_AT = 32;
const ROWS_PER_COMMIT = 4096;

/**
 * Replaces the damaged file; no connection to it is open and the caller holds the lock. Returns lines for the log.
 * @throws MantouError `store_not_writable` when there is no room for the new file; the damaged one is as it was.
 */
export function salvage(file: OpenFile, why: string): string[] {
  const work = join(file.dir, "salvage");
  try {
    rmSync(work, { recursive: true, force: true });
    mkdirSync(join(work, "old"), { recursive: true, mode: 0o700 });
    const lines = copyAll(file, work);
    renameSync(dbPath(work), nextPath(file.dir));
    const aside = replaceFile(file.dir, "damaged");
    const summary = `the store's file was damaged (${why}); it was set aside in ${aside}, and the store goes on with what could be read`;
    return [summary, ...lines];
  } catch (error) {
    throw startFault(error, file.dir);
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
}

function copyAll(file: OpenFile, work: string): string[] {
  openFile({ ...file, dir: work }).close(); // an empty store, checkpointed
  const source = openDamaged(file.dir, join(work, "old"), dbPath(work));
  const target = openFile({ ...file, dir: work });
  try {
    if (!source) return ["nothing in it could be read"];
    target.run("BEGIN IMMEDIATE");
    const lines = STORE_TABLES.map((table) => copyTable(source, target, table));
    lines.push(...mendQueues(target));
    noteLastNumbers(target);
    target.run("COMMIT");
    return lines;
  } finally {
    source?.close();
    target.close();
  }
}

function copyTable(source: Database, target: Database, table: StoreTable): string {
  const columns = table.columns.join(", ");
  const values = table.columns.map(() => "?").join(", ");
  const put = target.query(`INSERT OR IGNORE INTO ${table.table} (${columns}) VALUES (${values})`);
  const reader = new RowReader(source, table);
  let count = 0;
  for (const row of reader.rows()) {
    put.run(...(row as Value[]));
    if (++count % ROWS_PER_COMMIT > 0) continue;
    target.run("COMMIT"); // the file counts only when it is complete: this keeps the WAL short
    target.run("BEGIN IMMEDIATE");
  }
  return `${table.things}: ${count} salvaged${tellGaps(reader.gaps)}`;
}

/**
 * Opens what is left of a store's file for reading. When its first page is unusable, a copy in `work` gets the first page
 * of `fresh`, an empty store: the tables of both begin at the same places. Undefined when that does not help either.
 */
function openDamaged(dir: string, work: string, fresh: string): Database | undefined {
  const direct = openIfUsable(dir);
  if (direct || !existsSync(dbPath(dir)) || statSync(dbPath(dir)).size <= PAGE_BYTES) return direct;
  copyFileSync(dbPath(dir), dbPath(work));
  if (existsSync(`${dbPath(dir)}-wal`)) copyFileSync(`${dbPath(dir)}-wal`, `${dbPath(work)}-wal`);
  const first = readFileSync(fresh).subarray(0, PAGE_BYTES);
  first.writeUInt32BE(Math.floor(statSync(dbPath(work)).size / PAGE_BYTES), PAGE_COUNT_AT);
  first.fill(0, FREE_AT, FREE_AT + 8);
  const descriptor = openSync(dbPath(work), "r+");
  writeSync(descriptor, first, 0, PAGE_BYTES, 0);
  closeSync(descriptor);
  return openIfUsable(work);
}

function openIfUsable(dir: string): Database | undefined {
  let db: Database | undefined;
  try {
    db = openReader(dir);
    const tables = db.query("SELECT name FROM sqlite_schema WHERE type = 'table'").values().flat();
    if (STORE_TABLES.every(({ table }) => tables.includes(table))) return db;
  } catch (error) {
    if (!isDamageAtStart(error)) throw error;
  }
  db?.close();
  return undefined;
}

/** Gives sessions whose queue is lost one of the pages that are there, by their numbers. */
function mendQueues(target: Database): string[] {
  const lines: string[] = [];
  const put = target.query("UPDATE session SET queueCrc = ?, queue = ? WHERE id = ?");
  for (const [id, crc, queue] of eachRow(target, "session", ["id", "queueCrc", "queue"])) {
    const session = Number(id);
    if (queue === null || isSound(session, crc, queue)) continue;
    const mended = queueOfPages(target, session);
    put.run(crcOf(session, mended), mended, session);
    lines.push(`session ${session}: its queue was lost; messages that waited on the disk were put into a new one`);
  }
  return lines;
}

function queueOfPages(target: Database, session: number): Buffer {
  const lanes = new Map<number, StoredPage[]>();
  let nextPage = 0;
  const rows = target.query("SELECT page, bytes FROM page WHERE session = ? ORDER BY page").values(session);
  for (const [number, bytes] of rows as [number, Uint8Array][]) {
    const entries = readEntries(toBuffer(bytes));
    nextPage = number + 1;
    if (entries.length === 0) continue;
    const lane = (entries[0].delivery >> LANE_SHIFT) & LANE_MASK;
    const page = { page: number, count: entries.length, bytes: entries.reduce((sum, { size }) => sum + size, 0) };
    lanes.set(lane, [...(lanes.get(lane) ?? []), page]);
  }
  const out = new ByteWriter();
  const stored = [...lanes].map(([lane, pages]) => ({ lane, nextPage, pages, head: [], tail: [] }));
  writeQueue(out, { lastPacketId: 0, released: [], receipts: [], inflight: [], lanes: stored });
  return out.take();
}

/** A row of the log with the greatest numbers that anything names, so that none is given twice. */
function noteLastNumbers(target: Database): void {
  let lastBody = maxOf(target, "SELECT max(id) FROM body");
  const name = (body: number): void => void (lastBody = Math.max(lastBody, body));
  for (const [, ops] of eachRow(target, "log", ["batch", "ops"])) visitOps(toBuffer(ops), name);
  for (const [, queue] of eachRow(target, "session", ["id", "queue"])) if (queue) visitQueue(toBuffer(queue), name);
  for (const [, bytes] of eachRow(target, "page", ["id", "bytes"])) visitEntries(new ByteReader(toBuffer(bytes)), name);
  lastBody = Math.max(lastBody, maxOf(target, "SELECT max(lastBody) FROM log"));
  const sessions = ["SELECT max(id) FROM session", "SELECT max(session) FROM page", "SELECT max(lastSession) FROM log"];
  const batches = ["SELECT max(batch) FROM log", "SELECT max(max(metaBatch, queueBatch)) FROM session"];
  const lastSession = Math.max(...sessions.map((sql) => maxOf(target, sql)));
  const batch = 1 + Math.max(...batches.map((sql) => maxOf(target, sql)));
  const ops = Buffer.alloc(0);
  target
    .query("INSERT INTO log (batch, lastBody, lastSession, crc, ops) VALUES (?, ?, ?, ?, ?)")
    .run(batch, lastBody, lastSession, crcOf(batch, ops), ops);
}

function maxOf(db: Database, sql: string): number {
  return Number(db.query(sql).values()[0]?.[0] ?? 0);
}

function eachRow(db: Database, table: string, columns: readonly string[]): Generator<Row> {
  return new RowReader(db, { table, columns, isSound: () => true }).rows();
}

function toBuffer(value: Value): Buffer {
  return value instanceof Uint8Array ? Buffer.from(value.buffer, value.byteOffset, value.length) : Buffer.alloc(0);
}
