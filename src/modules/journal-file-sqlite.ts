/**
 * One journal's file: an SQLite database with one table, so that a torn or half-written file is SQLite's business.
 *
 *   entry   seq INTEGER PRIMARY KEY | due INTEGER, indexed where asked for | body BLOB
 *
 * A write is one transaction. A file that cannot be read is set aside as FILE.broken-N, and a new one is begun.
 */
import { Database, type Statement } from "bun:sqlite";
import { existsSync, renameSync, rmSync } from "node:fs";
import {
  type JournalAnswers,
  type JournalEntry,
  type JournalPart,
  pack,
  type SyncMode,
  unpack,
} from "./journal-message.ts";
import type { Packed, SqlStatement } from "./journal-message.ts";

/** Freed pages beyond this many are given back to the file system. */
const FREE_PAGES_MAX = 256;

/** Of a journal that is joined with others, at a time. */
const JOIN_COUNT = 1000;
const JOIN_BYTES = 4 * 1024 * 1024;

type Row = { seq: number; due: number; body: Uint8Array };

export class JournalFile {
  readonly damage: string | undefined;
  private readonly db: Database;
  private readonly insert: Statement;
  private readonly remove: Statement<{ bytes: number }>;
  private readonly due: Statement<Row>;
  private readonly later: Statement<{ due: number | null }>;
  private readonly page: Statement<Row>;

  /** @throws what SQLite says when the file cannot be used */
  constructor(path: string, sync: SyncMode, hasDues = true) {
    try {
      this.db = open(path, sync, hasDues);
    } catch (error) {
      if (!isDamage(error)) throw error;
      this.damage = setAside(path, error);
      this.db = open(path, sync, hasDues);
    }
    this.insert = this.db.prepare("INSERT INTO entry VALUES (?, ?, ?)");
    this.remove = this.db.prepare("DELETE FROM entry WHERE seq = ? RETURNING length(body) AS bytes");
    this.due = this.db.prepare("SELECT seq, due, body FROM entry WHERE due <= ? ORDER BY due, seq LIMIT ?");
    this.later = this.db.prepare("SELECT min(due) AS due FROM entry WHERE due > ?");
    this.page = this.db.prepare("SELECT seq, due, body FROM entry WHERE seq > ? ORDER BY seq LIMIT ?");
  }

  state(): JournalAnswers["open"] {
    const { damage } = this;
    return { ...totals(this.db), damage };
  }

  write(puts: Packed, removes: readonly number[]): JournalAnswers["write"] {
    let removedCount = 0;
    let removedBytes = 0;
    this.db.transaction(() => {
      for (const { seq, due, body } of unpack(puts)) this.insert.run(seq, due, body);
      for (const seq of removes) {
        const gone = this.remove.get(seq);
        if (!gone) continue;
        removedCount++;
        removedBytes += gone.bytes;
      }
    })();
    if (removedCount > 0) this.giveBack();
    return { removedCount, removedBytes };
  }

  /** At least one where there is one, whatever its size. */
  readDue(dueMax: number, countMax: number, bytesMax: number): JournalPart {
    const entries = take(this.due.iterate(dueMax, countMax), bytesMax);
    return { entries, nextDue: this.later.get(dueMax)?.due ?? undefined };
  }

  readPage(after: number, countMax: number, bytesMax: number): JournalPart {
    return { entries: take(this.page.iterate(after, countMax), bytesMax), nextDue: undefined };
  }

  close(): void {
    for (const statement of [this.insert, this.remove, this.due, this.later, this.page]) statement.finalize();
    this.db.close();
  }

  private giveBack(): void {
    const free = this.db.query<{ freelist_count: number }, []>("PRAGMA freelist_count").get()?.freelist_count ?? 0;
    if (free > FREE_PAGES_MAX) this.db.run(`PRAGMA incremental_vacuum(${free})`);
  }
}

/** Writes what the journals at `from` have to a new one, numbered anew. Nobody has them open. @throws what SQLite says */
export function joinJournals(from: readonly string[], to: string): void {
  const joined = new JournalFile(to, "full");
  try {
    let seq = 0;
    for (const path of from) {
      const journal = new JournalFile(path, "full");
      try {
        for (let after = 0; ;) {
          const page = unpack(journal.readPage(after, JOIN_COUNT, JOIN_BYTES).entries);
          if (page.length === 0) break;
          joined.write(pack(page.map(({ due, body }) => ({ seq: ++seq, due, body }))), []);
          after = page[page.length - 1]!.seq;
        }
      } finally {
        journal.close();
      }
    }
  } finally {
    joined.close();
  }
}

function open(path: string, sync: SyncMode, hasDues: boolean): Database {
  const db = new Database(path, { create: true, readwrite: true, strict: true });
  try {
    // Another broker on the same file is an error, and the lock costs nothing.
    db.run("PRAGMA locking_mode = EXCLUSIVE");
    db.run("PRAGMA auto_vacuum = INCREMENTAL");
    db.run("PRAGMA journal_mode = WAL");
    db.run(`PRAGMA synchronous = ${sync}`);
    db.run("CREATE TABLE IF NOT EXISTS entry (seq INTEGER PRIMARY KEY, due INTEGER NOT NULL, body BLOB NOT NULL)");
    if (hasDues) db.run("CREATE INDEX IF NOT EXISTS entry_due ON entry (due)");
    totals(db);
    return db;
  } catch (error) {
    db.close();
    throw error;
  }
}

function totals(db: Database): { count: number; bytes: number; lastSeq: number } {
  const sql =
    "SELECT count(*) AS count, coalesce(sum(length(body)), 0) AS bytes, coalesce(max(seq), 0) AS lastSeq FROM entry";
  return db.query<{ count: number; bytes: number; lastSeq: number }, []>(sql).get()!;
}

function take(rows: IterableIterator<Row>, bytesMax: number): Packed {
  const entries: JournalEntry[] = [];
  let bytes = 0;
  for (const row of rows) {
    bytes += row.body.length;
    if (bytes > bytesMax && entries.length > 0) break;
    entries.push(row);
  }
  return pack(entries);
}

function isDamage(error: unknown): boolean {
  return /^SQLITE_(CORRUPT|NOTADB|FORMAT|ERROR)/.test(String((error as { code?: unknown }).code));
}

function setAside(path: string, error: unknown): string {
  let number = 1;
  while (existsSync(`${path}.broken-${number}`)) number++;
  const aside = `${path}.broken-${number}`;
  renameSync(path, aside);
  for (const suffix of ["-wal", "-shm"]) {
    if (existsSync(path + suffix)) renameSync(path + suffix, aside + suffix);
    rmSync(path + suffix, { force: true });
  }
  return `${(error as Error).message}; it is now ${aside}`;
}

const BUSY_MS_MAX = 2000;

/** A database that others read and write as well. */
export class SqlDatabase {
  private readonly db: Database;

  /** @throws what SQLite says */
  constructor(path: string, schema: readonly string[]) {
    this.db = new Database(path, { create: true, readwrite: true, strict: true });
    this.db.run("PRAGMA journal_mode = WAL");
    this.db.run(`PRAGMA busy_timeout = ${BUSY_MS_MAX}`);
    for (const sql of schema) this.db.run(sql);
  }

  run(texts: readonly string[], statements: readonly SqlStatement[]): undefined {
    const prepared = texts.map((text) => this.db.query(text));
    this.db.transaction(() => {
      for (const { text, values } of statements) prepared[text]!.run(...values);
    })();
  }

  close(): void {
    this.db.close();
  }
}
