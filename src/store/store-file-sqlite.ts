/**
 * The file of the durable store: where it is, its lock, its tables, and the steps from older versions of them.
 *
 *   DIR/store.db        the tables below; store.db-wal and store.db-shm beside it are SQLite's
 *   DIR/store.lock      held as long as a store is open here; the kernel lets go when the process dies
 *   DIR/damaged-TIME/   a file that could not be read, set aside (salvage-sqlite.ts)
 *   DIR/replaced-TIME/  the store before a backup was restored (backup-sqlite.ts), or the number of workers changed (layout-sqlite.ts)
 *
 *   body      id | crc | bytes                           a message, appended once however many sessions want it
 *   log       batch | lastBody lastSession | crc | ops   a row a batch; the columns are the greatest numbers used so far
 *   session   id | metaBatch metaCrc meta | queueBatch queueCrc queue
 *   page      session page | crc | bytes                 a run of waiting messages; names bodies
 *   retained  topic | crc | bytes
 *
 * `crc` is the CRC-32 of the blob, started from its key, so that a row that moved is noticed as well. All are rowid tables:
 * rows of a damaged file can be read one by one whatever its indexes are like.
 */
import { Database } from "bun:sqlite";
import { closeSync, existsSync, fsyncSync, mkdirSync, openSync, renameSync } from "node:fs";
import { basename, dirname, join, resolve } from "node:path";
import { MantouError } from "#base/error.ts";
import { codeOf, startFault } from "./fault-sqlite.ts";

export const SYNC_MODES = ["full", "normal", "off"] as const;
/** full: a commit is on the disk; normal: it survives a crash of the process, not a power cut; off: as normal, and a power cut may damage the file. */
export type SyncMode = (typeof SYNC_MODES)[number];

/** A step from one version of the tables to the next, within a transaction. */
export type Migration = (db: Database) => void;

/** `[n]` makes version n + 1 of version n; the first makes the tables in an empty file. */
export const MIGRATIONS: readonly Migration[] = [
  (db) => {
    db.run("CREATE TABLE body (id INTEGER PRIMARY KEY, crc INTEGER NOT NULL, bytes BLOB NOT NULL)");
    db.run(
      "CREATE TABLE log (batch INTEGER PRIMARY KEY, lastBody INTEGER NOT NULL, lastSession INTEGER NOT NULL, crc INTEGER NOT NULL, ops BLOB NOT NULL)",
    );
    db.run(
      "CREATE TABLE session (id INTEGER PRIMARY KEY, metaBatch INTEGER, metaCrc INTEGER, meta BLOB, queueBatch INTEGER, queueCrc INTEGER, queue BLOB)",
    );
    db.run(
      "CREATE TABLE page (id INTEGER PRIMARY KEY, session INTEGER NOT NULL, page INTEGER NOT NULL, crc INTEGER NOT NULL, bytes BLOB NOT NULL)",
    );
    db.run("CREATE UNIQUE INDEX page_key ON page (session, page)");
    db.run(
      "CREATE TABLE retained (id INTEGER PRIMARY KEY, topic BLOB NOT NULL UNIQUE, crc INTEGER NOT NULL, bytes BLOB NOT NULL)",
    );
  },
];

const CACHE_KIB = 8192;
const BUSY_MS = 200;
/** A broker that was killed is gone for good a moment later: its successor waits that long. */
const LOCK_MS = 1000;
/** What SQLite leaves of a WAL that has been checkpointed. */
const WAL_BYTES_KEPT = 16 * 1024 * 1024;
/** The writer checkpoints by itself, after it has reported a commit; this is for what it did not foresee. */
const AUTO_CHECKPOINT_PAGES = 8192;

export interface OpenFile {
  readonly dir: string;
  readonly sync: SyncMode;
  /** Another list, for tests of the mechanism. */
  readonly migrations?: readonly Migration[];
}

export function dbPath(dir: string): string {
  return join(dir, "store.db");
}

/** A complete file that is to take the place of `dbPath`; a start that finds it puts it there. */
export function nextPath(dir: string): string {
  return `${dbPath(dir)}.next`;
}

/** Puts the file at `nextPath` in its place, if there is one; returns where what was there before is then, if anything was. */
export function replaceFile(dir: string, why: "damaged" | "replaced"): string | undefined {
  if (!existsSync(nextPath(dir))) return undefined;
  const files = ["", "-wal", "-shm"].map((suffix) => dbPath(dir) + suffix).filter((path) => existsSync(path));
  const aside = asidePath(dir, why);
  if (files.length > 0) mkdirSync(aside, { mode: 0o700 });
  for (const path of files) renameSync(path, join(aside, basename(path)));
  if (files.length > 0) syncDirectory(aside);
  renameSync(nextPath(dir), dbPath(dir));
  syncDirectory(dir);
  return files.length > 0 ? aside : undefined;
}

/** A name that nothing has, for what is set aside now. */
export function asidePath(dir: string, why: "damaged" | "replaced"): string {
  const time = new Date().toISOString().replace(/[-:]|\.\d+/g, "");
  let aside = join(dir, `${why}-${time}`);
  for (let again = 2; existsSync(aside); again++) aside = join(dir, `${why}-${time}-${again}`);
  return aside;
}

/** Makes the directory, readable for its owner alone, if it is not there. @throws MantouError `store_not_writable` */
export function makeDirectory(dir: string): void {
  try {
    const first = mkdirSync(dir, { recursive: true, mode: 0o700 });
    if (first === undefined) return;
    // What is in a new directory is only safe when the directory is.
    for (let made = resolve(dir); made.length >= resolve(first).length; made = dirname(made))
      syncDirectory(dirname(made));
  } catch (error) {
    throw startFault(error, dir);
  }
}

/** Makes renames and new files in a directory safe. */
export function syncDirectory(dir: string): void {
  const descriptor = openSync(dir, "r");
  try {
    fsyncSync(descriptor);
  } finally {
    closeSync(descriptor);
  }
}

/** Makes what is in a file safe. */
export function syncFile(path: string): void {
  const descriptor = openSync(path, "r+");
  try {
    fsyncSync(descriptor);
  } finally {
    closeSync(descriptor);
  }
}

/** Held until it is released or the process ends, however it ends. */
export class StoreLock {
  private constructor(private readonly db: Database) {}

  /** @throws MantouError `store_in_use` when another store is open on the directory, `store_not_writable` */
  static take(dir: string): StoreLock {
    let db: Database | undefined;
    try {
      db = new Database(join(dir, "store.lock"), { create: true, readwrite: true });
      db.run(`PRAGMA busy_timeout = ${LOCK_MS}`);
      db.run("PRAGMA journal_mode = MEMORY");
      db.run("BEGIN EXCLUSIVE");
      return new StoreLock(db);
    } catch (error) {
      db?.close();
      if (!codeOf(error).startsWith("SQLITE_BUSY")) throw startFault(error, dir);
      throw new MantouError(
        "store_in_use",
        `the store in ${dir} is in use: another broker, or a store command, has it open`,
        {
          dir,
        },
      );
    }
  }

  release(): void {
    this.db.close();
  }
}

/**
 * Opens the tables for writing; the caller holds the lock. Older tables are brought up to date.
 * @throws MantouError `store_schema_newer`, `store_not_writable`; an error of SQLite when the file is damaged.
 */
export function openFile({ dir, sync, migrations = MIGRATIONS }: OpenFile): Database {
  refuseNewer(dir, migrations.length);
  let db: Database | undefined;
  try {
    db = new Database(dbPath(dir), { create: true, readwrite: true, strict: true });
    db.run(`PRAGMA busy_timeout = ${BUSY_MS}`);
    db.run("PRAGMA auto_vacuum = INCREMENTAL"); // counts in an empty file only
    db.run("PRAGMA journal_mode = WAL");
    db.run(`PRAGMA synchronous = ${sync}`);
    db.run(`PRAGMA wal_autocheckpoint = ${AUTO_CHECKPOINT_PAGES}`);
    db.run(`PRAGMA journal_size_limit = ${WAL_BYTES_KEPT}`);
    db.run(`PRAGMA cache_size = -${CACHE_KIB}`);
    db.run("PRAGMA cell_size_check = ON");
    db.run("PRAGMA temp_store = MEMORY"); // no file to be opened when descriptors or the disk run out
    migrate(db, migrations);
    return db;
  } catch (error) {
    db?.close();
    throw startFault(error, dir);
  }
}

/** Opens the tables for reading beside a writer, in this process or another. @throws an error of SQLite */
export function openReader(dir: string): Database {
  return openReaderOf(dbPath(dir));
}

/** As `openReader`, for a file by its path. */
export function openReaderOf(path: string): Database {
  const db = new Database(path, { readonly: true, strict: true });
  db.run(`PRAGMA busy_timeout = ${BUSY_MS}`);
  db.run("PRAGMA cell_size_check = ON");
  return db;
}

export function pragma(db: Database, name: string): number {
  return Number(db.query(`PRAGMA ${name}`).values()[0]?.[0] ?? 0);
}

/** Looks at the version without leave to write, so that the file of a newer broker stays as it is. */
function refuseNewer(dir: string, known: number): void {
  if (!existsSync(dbPath(dir))) return;
  let found: number;
  let db: Database | undefined;
  try {
    // A journal that was left behind must be rolled back first: only a writer may.
    const isCut = existsSync(`${dbPath(dir)}-journal`);
    db = isCut ? new Database(dbPath(dir), { readwrite: true, strict: true }) : openReader(dir);
    found = pragma(db, "user_version");
  } catch (error) {
    throw startFault(error, dir);
  } finally {
    db?.close();
  }
  if (found > known) throw newerFault(`the store in ${dir}`, found, known);
}

/** What is said of a file whose tables this version does not know. */
export function newerFault(what: string, found: number, known = MIGRATIONS.length): MantouError {
  const says = `${what} was written by a newer broker: it has version ${found}, this one knows up to ${known}`;
  return new MantouError("store_schema_newer", says, { found, known });
}

function migrate(db: Database, migrations: readonly Migration[]): void {
  for (let version = pragma(db, "user_version"); version < migrations.length; version++)
    db.transaction(() => {
      migrations[version](db);
      db.run(`PRAGMA user_version = ${version + 1}`);
    }).immediate();
  // Writes a page, whatever was there before: a disk that takes none is better found now.
  db.transaction(() => db.run(`PRAGMA user_version = ${migrations.length}`)).immediate();
}
