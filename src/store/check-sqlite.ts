/**
 * Looks at a whole store: structure, checksums, and that all that is named is there. It reads beside a broker that runs,
 * as of one moment, and changes nothing.
 *
 *   log, queues, pages ── name ──► bodies          queues ── name ──► pages
 *
 * Cost: reads every row. Memory: a bit for each message, and the numbers of the pages.
 */
import type { Database } from "bun:sqlite";
import { existsSync } from "node:fs";
import { ByteReader } from "#base/byte-writer.ts";
import { MantouError } from "#base/error.ts";
import { visitEntries, visitOps, visitQueue } from "./change-reader.ts";
import { isDamageAtStart, startFault } from "./fault-sqlite.ts";
import { IdSet } from "./id-set.ts";
import { type Row, RowReader, tellGaps } from "./row-reader-sqlite.ts";
import { readQueue } from "./session-log.ts";
import { dbPath, MIGRATIONS, newerFault, openReader, pragma } from "./store-file-sqlite.ts";
import { STORE_TABLES, type StoreTable } from "./store-tables-sqlite.ts";
import { isSound } from "./tables-sqlite.ts";

/** Problems of one kind that are told one by one. */
const PROBLEMS_TOLD = 10;

interface TableCount {
  /** What its rows are, for people. */
  readonly things: string;
  readonly count: number;
  readonly bytes: number;
}

export interface StoreReport {
  readonly version: number;
  readonly fileBytes: number;
  readonly freeBytes: number;
  readonly tables: readonly TableCount[];
  /** Distinct messages that wait or are in flight. */
  readonly namedCount: number;
  /** Number of the oldest of them; undefined when there are none. */
  readonly oldestBody: number | undefined;
  /** A line each; empty when all is well. */
  readonly problems: readonly string[];
}

/** @throws MantouError `store_not_found`, `store_schema_newer`, `store_not_readable` */
export function checkStore(dir: string): StoreReport {
  const db = openExisting(dir);
  try {
    db.run("BEGIN");
    return new Check(db).run();
  } catch (error) {
    throw notReadable(error, dir);
  } finally {
    db.close();
  }
}

/** Opens a store that is there, for reading. @throws MantouError as `checkStore` */
export function openExisting(dir: string): Database {
  if (!existsSync(dbPath(dir))) throw new MantouError("store_not_found", `there is no store in ${dir}`, { dir });
  let db: Database | undefined;
  try {
    db = openReader(dir);
    const version = pragma(db, "user_version");
    if (version <= MIGRATIONS.length) return db;
    throw newerFault(`the store in ${dir}`, version);
  } catch (error) {
    db?.close();
    throw notReadable(error, dir);
  }
}

function notReadable(error: unknown, dir: string): unknown {
  if (!isDamageAtStart(error)) return startFault(error, dir);
  const says = `the store in ${dir} cannot be read (${(error as Error).message}); the broker salvages it when it starts`;
  return new MantouError("store_not_readable", says, { dir });
}

class Check {
  private readonly problems: string[] = [];
  private readonly bodies = new IdSet();
  private readonly named = new IdSet();
  private namedCount = 0;
  private missingCount = 0;
  private oldestBody: number | undefined;
  /** `session/page` */
  private readonly pages = new Set<string>();
  private readonly name = (body: number): void => this.nameBody(body);

  constructor(private readonly db: Database) {}

  run(): StoreReport {
    const { db } = this;
    for (const [line] of db.query(`PRAGMA integrity_check(${PROBLEMS_TOLD})`).values() as [string][])
      if (line !== "ok") this.problems.push(`structure: ${line}`);
    // Bodies and pages come before what names them.
    const tables = STORE_TABLES.map((table) => this.readTable(table));
    if (this.missingCount > PROBLEMS_TOLD) this.problems.push(`${this.missingCount} messages in all are not there`);
    const pageBytes = pragma(db, "page_size");
    return {
      version: pragma(db, "user_version"),
      fileBytes: pragma(db, "page_count") * pageBytes,
      freeBytes: pragma(db, "freelist_count") * pageBytes,
      tables,
      namedCount: this.namedCount,
      oldestBody: this.oldestBody,
      problems: this.problems,
    };
  }

  private readTable(table: StoreTable): TableCount {
    const reader = new RowReader(this.db, table);
    let count = 0;
    let bytes = 0;
    for (const row of reader.rows()) {
      count++;
      for (const value of row) if (value instanceof Uint8Array) bytes += value.length;
      try {
        this.visitRow(table.table, row);
      } catch (error) {
        if (!(error instanceof RangeError)) throw error;
        this.problems.push(`${table.things}: row ${row[0]} is not what it should be`);
      }
    }
    if (reader.gaps.length > 0) this.problems.push(`${table.things}${tellGaps(reader.gaps)}`);
    return { things: table.things, count, bytes };
  }

  private visitRow(table: string, row: Row): void {
    const blobAt = (column: number): Buffer => {
      const value = row[column];
      return value instanceof Uint8Array ? Buffer.from(value.buffer, value.byteOffset, value.length) : Buffer.alloc(0);
    };
    if (table === "body") this.bodies.add(Number(row[0]));
    else if (table === "log") visitOps(blobAt(2), this.name);
    else if (table === "page") {
      this.pages.add(`${row[1]}/${row[2]}`);
      visitEntries(new ByteReader(blobAt(4)), this.name);
    } else if (table === "session" && row[6] !== null) this.visitQueueRow(Number(row[0]), row[5], blobAt(6));
  }

  private visitQueueRow(session: number, crc: unknown, queue: Buffer): void {
    if (!isSound(session, crc, queue)) {
      this.problems.push(`session ${session}: its queue has a wrong checksum`);
      return;
    }
    visitQueue(queue, this.name);
    for (const { page } of readQueue(queue).lanes.flatMap(({ pages }) => pages))
      if (!this.pages.has(`${session}/${page}`))
        this.problems.push(`session ${session}: its run ${page} of waiting messages is not there`);
  }

  private nameBody(body: number): void {
    if (this.named.has(body)) return;
    this.named.add(body);
    this.namedCount++;
    this.oldestBody = Math.min(this.oldestBody ?? body, body);
    if (this.bodies.has(body)) return;
    if (this.missingCount++ < PROBLEMS_TOLD) this.problems.push(`message ${body} is waited for and not there`);
  }
}
