/**
 * The tables of store-file-sqlite.ts through prepared statements: a batch is applied item by item, inside a transaction
 * of the caller's. A message costs about a microsecond: one row, its checksum and its share of the pages.
 *
 * Reads check each blob against its checksum. What the recovery reads and finds wrong throws `DamageError`; a page or a
 * body that is asked for later is then as if it were not there.
 */
import type { Database, Statement } from "bun:sqlite";
import { ByteReader } from "#base/byte-writer.ts";
import { BatchReader } from "./batch-reader.ts";
import { visitEntries } from "./change-reader.ts";
import { DamageError, isDamage } from "./fault-sqlite.ts";
import { BODY, DROP_PAGE, META, OPS, PAGE, REMOVE, RETAINED, SNAPSHOT, TRIM } from "./log-backend.ts";
import type { LoadedEntries } from "./log-backend.ts";
import { loadEntries, type RecoveryTables } from "./recovery.ts";
import { RowReader, type RowSource, tellGaps } from "./row-reader-sqlite.ts";
import type { RestingSession, Snapshots } from "./session-replay.ts";

const ROWS_PER_READ = 500;
/** A run of bodies is read as a range when its ids are no further apart than this many times their number. */
const RANGE_SPREAD = 4;
const NO_OPS = Buffer.alloc(0);

/** The columns of `session` after its id. */
type SessionRow = [number | null, number | null, Uint8Array | null, number | null, number | null, Uint8Array | null];

export function crcOf(key: number, bytes: Uint8Array): number {
  return Bun.hash.crc32(bytes, key >>> 0);
}

/** What a row of a damaged page says may be of any type. */
export function isSound(key: number, crc: unknown, bytes: unknown): bytes is Uint8Array {
  return bytes instanceof Uint8Array && crc === crcOf(key, bytes);
}

export function pageKey(session: number, page: number): number {
  return session * 31 + page;
}

function topicKey(topic: Uint8Array): number {
  return Bun.hash.crc32(topic);
}

/** The rows of `retained`: id, topic, crc, bytes. */
export const RETAINED_SOURCE: RowSource = {
  table: "retained",
  columns: ["id", "topic", "crc", "bytes"],
  isSound: ([, topic, crc, bytes]) => topic instanceof Uint8Array && isSound(topicKey(topic), crc, bytes),
};

function toBuffer(bytes: Uint8Array): Buffer {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
}

export class SqliteTables implements RecoveryTables {
  /** Greatest numbers ever used. */
  lastBody = 0;
  lastSession = 0;
  lastBatch = 0;
  private readonly statements: Statement[] = [];
  private readonly putBody: Statement;
  private readonly putLog: Statement;
  private readonly trimLog: Statement;
  private readonly putMeta: Statement;
  private readonly putQueue: Statement;
  private readonly deleteSession: Statement;
  private readonly deletePages: Statement;
  private readonly putPageRow: Statement;
  private readonly deletePage: Statement;
  private readonly getPage: Statement;
  private readonly putRetained: Statement;
  private readonly deleteRetained: Statement;
  private readonly getBody: Statement;
  private readonly getBodies: Statement;
  private readonly getSession: Statement;

  constructor(private readonly db: Database) {
    const prepare = (sql: string): Statement => {
      const statement = db.prepare(sql);
      this.statements.push(statement);
      return statement;
    };
    this.putBody = prepare("INSERT OR REPLACE INTO body VALUES (?, ?, ?)");
    this.putLog = prepare("INSERT OR REPLACE INTO log VALUES (?, ?, ?, ?, ?)");
    this.trimLog = prepare("DELETE FROM log WHERE batch < ?");
    this.putMeta = prepare(`INSERT INTO session (id, metaBatch, metaCrc, meta) VALUES (?, ?, ?, ?)
      ON CONFLICT (id) DO UPDATE SET metaBatch = excluded.metaBatch, metaCrc = excluded.metaCrc, meta = excluded.meta`);
    this.putQueue = prepare(`INSERT INTO session (id, queueBatch, queueCrc, queue) VALUES (?, ?, ?, ?)
      ON CONFLICT (id) DO UPDATE SET queueBatch = excluded.queueBatch, queueCrc = excluded.queueCrc, queue = excluded.queue`);
    this.deleteSession = prepare("DELETE FROM session WHERE id = ?");
    this.deletePages = prepare("DELETE FROM page WHERE session = ?");
    this.putPageRow = prepare("INSERT OR REPLACE INTO page (session, page, crc, bytes) VALUES (?, ?, ?, ?)");
    this.deletePage = prepare("DELETE FROM page WHERE session = ? AND page = ?");
    this.getPage = prepare("SELECT crc, bytes FROM page WHERE session = ? AND page = ?");
    this.putRetained = prepare(`INSERT INTO retained (topic, crc, bytes) VALUES (?, ?, ?)
      ON CONFLICT (topic) DO UPDATE SET crc = excluded.crc, bytes = excluded.bytes`);
    this.deleteRetained = prepare("DELETE FROM retained WHERE topic = ?");
    this.getBody = prepare("SELECT crc, bytes FROM body WHERE id = ?");
    this.getBodies = prepare("SELECT id, crc, bytes FROM body WHERE id BETWEEN ? AND ?");
    this.getSession = prepare("SELECT metaBatch, metaCrc, meta, queueBatch, queueCrc, queue FROM session WHERE id = ?");
    this.readLastNumbers();
  }

  /** Lets go of the statements, so that the database can be closed. */
  finalize(): void {
    for (const statement of this.statements) statement.finalize();
  }

  /** Reads the greatest numbers that were used; the newest row of the log has them. */
  readLastNumbers(): void {
    const row = this.db.query("SELECT batch, lastBody, lastSession FROM log ORDER BY batch DESC LIMIT 1").values()[0];
    [this.lastBatch, this.lastBody, this.lastSession] = (row ?? [0, 0, 0]) as [number, number, number];
  }

  /** Writes a batch; returns the greatest floor of its COLLECT items, 0 for none. Throws RangeError when it is no batch. */
  apply(batch: number, bytes: Uint8Array): number {
    const item = new BatchReader(bytes);
    let ops: Buffer = NO_OPS;
    let floor = 0;
    while (item.next()) {
      if (item.kind === BODY) {
        this.putBody.run(item.number, crcOf(item.number, item.bytes), item.bytes);
        if (item.number > this.lastBody) this.lastBody = item.number;
      } else if (item.kind === OPS) ops = ops.length === 0 ? item.bytes : Buffer.concat([ops, item.bytes]);
      else if (item.kind === TRIM) this.trimLog.run(item.number);
      else floor = Math.max(floor, this.applyRare(batch, item));
    }
    this.lastBatch = batch;
    // Always a row, so that the newest one has the greatest numbers whatever was deleted.
    this.putLog.run(batch, this.lastBody, this.lastSession, crcOf(batch, ops), ops);
    return floor;
  }

  readSnapshots(session: number): Snapshots | null {
    const row = this.getSession.values(session)[0] as SessionRow | undefined;
    return row ? toSnapshots(session, row) : null;
  }

  /** @throws DamageError */
  readPage(session: number, page: number): Buffer | null {
    const row = this.getPage.values(session, page)[0] as [number, Uint8Array] | undefined;
    if (!row) return null;
    if (!isSound(pageKey(session, page), row[0], row[1]))
      throw new DamageError(`page ${page} of session ${session} is damaged`);
    return toBuffer(row[1]);
  }

  /** Null also when the page is damaged. */
  readPageIfSound(session: number, page: number): Buffer | null {
    try {
      return this.readPage(session, page);
    } catch (error) {
      if (!isDamage(error)) throw error;
      return null;
    }
  }

  /** Bodies that are not there or are damaged are lost. `waiting` has bodies that are not written yet. */
  loadBodies(entries: Buffer, waiting?: ReadonlyMap<number, Uint8Array>): LoadedEntries {
    let [first, last, count] = [Infinity, 0, 0];
    visitEntries(new ByteReader(entries), (body) => {
      first = Math.min(first, body);
      last = Math.max(last, body);
      count++;
    });
    const found = last - first < count * RANGE_SPREAD ? this.readRange(first, last) : undefined;
    return loadEntries(
      entries,
      (body) => waiting?.get(body) ?? (found ? (found.get(body) ?? null) : this.readBody(body)),
    );
  }

  *logRows(): Generator<{ batch: number; ops: Buffer }> {
    let after = -1;
    for (;;) {
      const sql = `SELECT batch, crc, ops FROM log WHERE batch > ? ORDER BY batch LIMIT ${ROWS_PER_READ}`;
      const rows = this.db.query(sql).values(after) as [number, number, Uint8Array][];
      for (const [batch, crc, ops] of rows) {
        if (!isSound(batch, crc, ops)) throw new DamageError(`row ${batch} of the log is damaged`);
        yield { batch, ops: toBuffer(ops) };
        after = batch;
      }
      if (rows.length < ROWS_PER_READ) return;
    }
  }

  *sessions(): Generator<{ session: number; snapshots: Snapshots }> {
    let after = 0;
    for (;;) {
      const chunk = this.sessionsAfter(after, ROWS_PER_READ);
      yield* chunk;
      if (chunk.length < ROWS_PER_READ) return;
      after = chunk[chunk.length - 1].session;
    }
  }

  sessionsAfter(after: number, limit: number): { session: number; snapshots: Snapshots }[] {
    const sql = `SELECT metaBatch, metaCrc, meta, queueBatch, queueCrc, queue, id FROM session WHERE id > ? ORDER BY id LIMIT ?`;
    const rows = this.db.query(sql).values(after, limit) as unknown as [...SessionRow, number][];
    return rows.map((row) => ({ session: row[6], snapshots: toSnapshots(row[6], row as unknown as SessionRow) }));
  }

  /** Reads the retained messages one by one; those that cannot be read are left out and get a line in `damage`. */
  *retained(damage: string[]): Generator<{ topic: Buffer; bytes: Buffer }> {
    const reader = new RowReader(this.db, RETAINED_SOURCE);
    for (const [, topic, , bytes] of reader.rows() as Generator<[number, Uint8Array, number, Uint8Array]>)
      yield { topic: toBuffer(topic), bytes: toBuffer(bytes) };
    if (reader.gaps.length > 0) damage.push(`retained messages were lost${tellGaps(reader.gaps)}`);
  }

  pagesOf(session: number): readonly number[] {
    return this.db
      .query("SELECT page FROM page WHERE session = ?")
      .values(session)
      .map(([page]) => page as number);
  }

  putSession(session: number, { meta, queue }: RestingSession): void {
    this.putMeta.run(session, this.lastBatch, crcOf(session, meta), meta);
    this.putQueue.run(session, this.lastBatch, crcOf(session, queue), queue);
  }

  putPage(session: number, page: number, entries: Buffer): void {
    this.putPageRow.run(session, page, crcOf(pageKey(session, page), entries), entries);
  }

  dropPage(session: number, page: number): void {
    this.deletePage.run(session, page);
  }

  dropSession(session: number): void {
    this.deleteSession.run(session);
  }

  /** Leaves one empty row that has the greatest numbers. */
  emptyLog(lastSession: number): void {
    this.lastSession = Math.max(this.lastSession, lastSession);
    this.trimLog.run(Number.MAX_SAFE_INTEGER);
    if (this.lastBatch > 0)
      this.putLog.run(this.lastBatch, this.lastBody, this.lastSession, crcOf(this.lastBatch, NO_OPS), NO_OPS);
  }

  private applyRare(batch: number, item: BatchReader): number {
    const { kind, session, page, part, bytes, topic } = item;
    if (kind === SNAPSHOT || kind === REMOVE || kind === PAGE) this.lastSession = Math.max(this.lastSession, session);
    if (kind === SNAPSHOT)
      (part === META ? this.putMeta : this.putQueue).run(session, batch, crcOf(session, bytes), bytes);
    else if (kind === PAGE) this.putPage(session, page, bytes);
    else if (kind === DROP_PAGE) this.dropPage(session, page);
    else if (kind === REMOVE) {
      this.dropSession(session);
      this.deletePages.run(session);
    } else if (kind === RETAINED && bytes.length === 0) this.deleteRetained.run(topic);
    else if (kind === RETAINED) this.putRetained.run(topic, crcOf(topicKey(topic), bytes), bytes);
    else return item.number; // COLLECT
    return 0;
  }

  /** Null when it is not there or damaged. */
  readBody(body: number): Uint8Array | null {
    try {
      const row = this.getBody.values(body)[0] as [number, Uint8Array] | undefined;
      return row && isSound(body, row[0], row[1]) ? row[1] : null;
    } catch (error) {
      if (!isDamage(error)) throw error;
      return null;
    }
  }

  /** Undefined when the range cannot be read as a whole. */
  private readRange(first: number, last: number): Map<number, Uint8Array> | undefined {
    try {
      const rows = this.getBodies.values(first, last) as [number, number, Uint8Array][];
      return new Map(rows.filter(([id, crc, bytes]) => isSound(id, crc, bytes)).map(([id, , bytes]) => [id, bytes]));
    } catch (error) {
      if (!isDamage(error)) throw error;
      return undefined;
    }
  }
}

function toSnapshots(session: number, row: SessionRow): Snapshots {
  const [metaBatch, metaCrc, meta, queueBatch, queueCrc, queue] = row;
  const isMetaSound = meta === null || isSound(session, metaCrc, meta);
  const isQueueSound = queue === null || isSound(session, queueCrc, queue);
  if (!isMetaSound || !isQueueSound) throw new DamageError(`the snapshot of session ${session} is damaged`);
  return {
    meta: meta && toBuffer(meta),
    metaBatch: metaBatch ?? 0,
    queue: queue && toBuffer(queue),
    queueBatch: queueBatch ?? 0,
  };
}
