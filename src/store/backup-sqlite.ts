/**
 * Copies of a store: made beside a broker that runs, brought back and compacted while none does.
 *
 *   backup   store.db as of one moment ──► FILE.partial ──► FILE
 *   restore  FILE ──► store.db.next,  store.db ──► replaced-TIME/store.db,  store.db.next ──► store.db
 */
import type { Database } from "bun:sqlite";
import { copyFileSync, existsSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { dirname, resolve } from "node:path";
import { MantouError } from "#base/error.ts";
import { openExisting } from "./check-sqlite.ts";
import { codeOf, failureReason, isDamageAtStart } from "./fault-sqlite.ts";
import {
  makeDirectory,
  MIGRATIONS,
  newerFault,
  nextPath,
  openFile,
  openReaderOf,
  pragma,
} from "./store-file-sqlite.ts";
import { replaceFile, StoreLock, syncDirectory, syncFile } from "./store-file-sqlite.ts";
import { STORE_TABLES } from "./store-tables-sqlite.ts";

/** Writes what the store in `dir` has at this moment to a new file. @throws MantouError */
export function backUpStore(dir: string, file: string): void {
  if (existsSync(file)) throw new MantouError("file_exists", `${file} is there already: a backup replaces nothing`);
  const partial = `${file}.partial`;
  const db = openExisting(dir);
  try {
    rmSync(partial, { force: true });
    writeFileSync(partial, "", { mode: 0o600, flag: "wx" }); // messages are in it: for its owner alone
    db.query("VACUUM INTO ?").run(partial);
    syncFile(partial);
    renameSync(partial, file);
    syncDirectory(dirname(resolve(file)));
  } catch (error) {
    rmSync(partial, { force: true });
    throw new MantouError("backup_failed", `the backup to ${file} failed: ${failureReason(error)}`, { file });
  } finally {
    db.close();
  }
}

/**
 * Puts a backup in the place of the store in `dir`, which is set aside; returns where, undefined when there was none.
 * @throws MantouError `store_in_use` while a broker runs, `backup_not_readable`, `store_schema_newer`
 */
export function restoreStore(dir: string, file: string): string | undefined {
  refuseOther(file);
  makeDirectory(dir);
  const lock = StoreLock.take(dir);
  const copy = `${nextPath(dir)}.partial`;
  try {
    copyFileSync(file, copy);
    syncFile(copy);
    renameSync(copy, nextPath(dir));
    return replaceFile(dir, "replaced");
  } catch (error) {
    rmSync(copy, { force: true });
    throw new MantouError("restore_failed", `the store in ${dir} cannot be replaced: ${failureReason(error)}`, { dir });
  } finally {
    lock.release();
  }
}

/** Writes the store anew without gaps. @throws MantouError `store_in_use` while a broker runs, `compact_failed` */
export function compactStore(dir: string): { bytesBefore: number; bytesAfter: number } {
  openExisting(dir).close();
  const lock = StoreLock.take(dir);
  let db: Database | undefined;
  try {
    db = openFile({ dir, sync: "full" });
    const bytesBefore = bytesOf(db);
    db.run("PRAGMA temp_store = FILE"); // the whole store goes through it
    db.run("VACUUM");
    return { bytesBefore, bytesAfter: bytesOf(db) };
  } catch (error) {
    if (error instanceof MantouError) throw error;
    throw new MantouError("compact_failed", `the store in ${dir} cannot be compacted: ${failureReason(error)}`, {
      dir,
    });
  } finally {
    db?.close();
    lock.release();
  }
}

function bytesOf(db: Database): number {
  return pragma(db, "page_count") * pragma(db, "page_size");
}

/** @throws MantouError `backup_not_readable`, `store_schema_newer` */
export function refuseOther(file: string): void {
  let db: Database | undefined;
  try {
    db = openReaderOf(file);
    const version = pragma(db, "user_version");
    const tables = db.query("SELECT name FROM sqlite_schema WHERE type = 'table'").values().flat();
    if (version > MIGRATIONS.length) throw newerFault(file, version);
    if (version === 0 || !STORE_TABLES.every(({ table }) => tables.includes(table)))
      throw new MantouError("backup_not_readable", `${file} is no backup of a store`, { file });
  } catch (error) {
    if (error instanceof MantouError) throw error;
    if (!isDamageAtStart(error) && !codeOf(error).startsWith("SQLITE_CANTOPEN")) throw error;
    throw new MantouError("backup_not_readable", `${file} cannot be read: ${(error as Error).message}`, { file });
  } finally {
    db?.close();
  }
}
