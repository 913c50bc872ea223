/** What a broker has on the disk and does with it, seen from outside: /proc, its files, and for our own its store. */
import { Database } from "bun:sqlite";
import { existsSync, readdirSync, readFileSync, readlinkSync, statfsSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";

/** Where `strace` writes a line for each sync, in the broker's folder. */
export const SYNC_FILE = "syncs.txt";
/** Beneath the broker's folder. */
export const DATA_FOLDER = "data";
/** statfs(2): file systems in memory, where a sync costs nothing. */
const IN_MEMORY = [0x0102_1994, 0x8584_58f6];

export function isInMemory(folder: string): boolean {
  return IN_MEMORY.includes(statfsSync(folder).type);
}

/** A broker's working folder is its own: it has all its files. */
export function folderOf(pid: number): string {
  return readlinkSync(`/proc/${pid}/cwd`);
}

/** Of the broker's data. */
export function fileBytes(folder: string): number {
  const data = join(folder, DATA_FOLDER);
  if (!existsSync(data)) return 0;
  return readdirSync(data, { withFileTypes: true, recursive: true })
    .filter((entry) => entry.isFile())
    .reduce(
      (sum, entry) => sum + (statSync(join(entry.parentPath, entry.name), { throwIfNoEntry: false })?.size ?? 0),
      0,
    );
}

/** By all these processes so far, pages that became dirty; undefined where Linux does not say. */
export function writtenBytes(pids: readonly number[]): number | undefined {
  try {
    return pids.reduce((sum, pid) => sum + Number(/^write_bytes: (\d+)/m.exec(procText(pid, "io"))![1]), 0);
  } catch {
    return undefined; // ended, or another user's
  }
}

/** Undefined unless they are being counted. */
export function syncCount(folder: string): number | undefined {
  const path = join(folder, SYNC_FILE);
  return existsSync(path) ? (readFileSync(path, "latin1").match(/\bf(data)?sync\(/g) ?? []).length : undefined;
}

export interface StoreNumbers {
  /** Messages that were ever written. */
  readonly bodies: number;
  readonly batches: number;
}

/** Of our own broker's store, running or not; undefined when there is none. */
export function storeNumbers(folder: string): StoreNumbers | undefined {
  const path = join(folder, DATA_FOLDER, "store.db");
  if (!existsSync(path)) return undefined;
  const db = new Database(path, { readonly: true });
  try {
    const sql = "SELECT batch, lastBody FROM log ORDER BY batch DESC LIMIT 1";
    const [batches, bodies] = (db.query(sql).values()[0] ?? [0, 0]) as [number, number];
    return { batches, bodies };
  } finally {
    db.close();
  }
}

/** The most memory that a process had since its start, or since `resetPeak`. */
export function peakRssBytes(pid: number): number {
  return Number(/^VmHWM:\s+(\d+) kB/m.exec(procText(pid, "status"))![1]) * 1024;
}

export function resetPeak(pid: number): void {
  writeFileSync(`/proc/${pid}/clear_refs`, "5");
}

export function procText(pid: number, name: string): string {
  return readFileSync(`/proc/${pid}/${name}`, "latin1");
}
