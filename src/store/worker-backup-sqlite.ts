/**
 * Backups of a data directory, whether it is of one process or of several workers.
 *
 *   one process   FILE                                              backup-sqlite.ts
 *   workers       FILE/worker-0.db  FILE/worker-1.db …  FILE/workers.json  FILE/seed
 *
 * Each worker's is as of one moment, not all as of the same: of what is on its way between workers meanwhile a message may be missing
 * or come twice. The seed says which client belongs to which worker.
 */
import { copyFileSync, existsSync, mkdirSync, renameSync, rmSync, statSync } from "node:fs";
import { dirname, join, resolve } from "node:path";
import { MantouError } from "#base/error.ts";
import { backUpStore, refuseOther, restoreStore } from "./backup-sqlite.ts";
import { failureReason } from "./fault-sqlite.ts";
import {
  beginSwap,
  finishSwap,
  type Layouts,
  layoutOf,
  readSeed,
  settledLayout,
  storeDirs,
  swap,
  undoSwap,
  writeLayout,
} from "./layout-sqlite.ts";
import { dbPath, makeDirectory, StoreLock, syncDirectory } from "./store-file-sqlite.ts";

/** Copies what `dir` has to `file`, which is new. Throws as `backUpStore`. */
export function backUpData(dir: string, file: string): void {
  const count = settledLayout(dir) ?? 1;
  if (count === 1) return backUpStore(dir, file);
  if (existsSync(file)) throw new MantouError("file_exists", `${file} is there already: a backup replaces nothing`);
  const partial = `${file}.partial`;
  try {
    rmSync(partial, { recursive: true, force: true });
    mkdirSync(partial, { mode: 0o700 });
    for (const [node, from] of storeDirs(dir, count).entries()) backUpStore(from, fileOf(partial, node));
    writeLayout(partial, count);
    readSeed(partial, readSeed(dir));
    renameSync(partial, file);
    syncDirectory(dirname(resolve(file)));
  } catch (error) {
    rmSync(partial, { recursive: true, force: true });
    if (error instanceof MantouError) throw error;
    throw new MantouError("backup_failed", `the backup to ${file} failed: ${failureReason(error)}`, { file });
  }
}

/**
 * Puts a backup in the place of what is in `dir`; `carry` takes along what is not the store's. Returns where the old data is then,
 * undefined when there was none. Throws as `restoreStore`.
 */
export function restoreData(dir: string, backup: string, carry: (layouts: Layouts) => void): string | undefined {
  const isOfWorkers = statSync(backup, { throwIfNoEntry: false })?.isDirectory() ?? false;
  const known = settledLayout(dir);
  if (!isOfWorkers && (known ?? 1) === 1) return restoreStore(dir, backup);
  const count = isOfWorkers ? layoutOf(backup) : 1;
  if (count === undefined)
    throw new MantouError("backup_not_readable", `${backup} is no backup of workers`, { file: backup });
  const files = isOfWorkers ? Array.from({ length: count }, (_, node) => fileOf(backup, node)) : [backup];
  for (const file of files) refuseOther(file);
  makeDirectory(dir);
  const lock = StoreLock.take(dir);
  try {
    finishSwap(dir);
    const next = beginSwap(dir);
    const to = storeDirs(next, count);
    for (const [node, file] of files.entries()) {
      mkdirSync(to[node], { recursive: true, mode: 0o700 });
      copyFileSync(file, dbPath(to[node]));
      if (isOfWorkers) readSeed(to[node], readSeed(backup));
    }
    if (count > 1) writeLayout(next, count);
    if (isOfWorkers) readSeed(next, readSeed(backup));
    carry({ dir, next, from: storeDirs(dir, known ?? 1), to });
    const aside = swap(dir);
    return known === undefined ? undefined : aside;
  } catch (error) {
    undoSwap(dir);
    throw new MantouError("restore_failed", `the store in ${dir} cannot be replaced: ${failureReason(error)}`, { dir });
  } finally {
    lock.release();
  }
}

function fileOf(backup: string, node: number): string {
  return join(backup, `worker-${node}.db`);
}
