/**
 * Whose data lies in a data directory: that of one process, or of several workers, each with a store of its own.
 *
 *   one process   store.db  plugins/                              several   workers.json  worker-0/store.db  worker-0/plugins/ …
 *
 * How one becomes the other. What is new is built in `spread.tmp`, whole and synced, and then takes the place of the old:
 *
 *   build ──► spread.json is written ──► old pieces ──► replaced-TIME/ ──► new pieces ──► DIR ──► spread.json goes
 *     │                          └─ from here on the new one counts: who finds spread.json goes on with its steps
 *     └─ before, the old one does: who finds spread.tmp alone removes it
 *
 * Each step may have been done already: so a process that is killed anywhere leaves one of the two, whole. The caller holds the
 * lock of the directory.
 */
import { randomInt } from "node:crypto";
import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import { MantouError } from "#base/error.ts";
import { codeOf, startFault } from "./fault-sqlite.ts";
import { asidePath, dbPath, StoreLock, syncDirectory, syncFile } from "./store-file-sqlite.ts";

const LAYOUT_FILE = "workers.json";
const SWAP_FILE = "spread.json";
const NEXT = "spread.tmp";
const SEED_FILE = "seed";
const SEED_MAX = 0x7fff_ffff;
/** What is of one process or of several; all else in the directory (users, bans, logs) is of both, and the seed stays. */
const PIECE = /^(store\.db(-wal|-shm)?|plugins|workers\.json|worker-\d+)$/;

/** How many processes the data in a directory is of; undefined where there is none. @throws MantouError `store_not_readable` */
export function layoutOf(dir: string): number | undefined {
  const path = join(dir, LAYOUT_FILE);
  const text = readIfThere(path, dir);
  if (text === undefined) return existsSync(dbPath(dir)) ? 1 : undefined;
  const count = numberIn(text);
  if (count >= 1) return count;
  const says = `${path} cannot be read: it should say {"count":N}, N being how many directories worker-0, worker-1, … there are`;
  throw new MantouError("store_not_readable", says, { dir });
}

function numberIn(text: string): number {
  try {
    const { count } = JSON.parse(text) as { count: unknown };
    return Number.isInteger(count) ? (count as number) : 0;
  } catch {
    return 0;
  }
}

/** As `layoutOf`, once a swap that was interrupted is finished; a broker may run. @throws also `store_in_use` */
export function settledLayout(dir: string): number | undefined {
  if (existsSync(join(dir, SWAP_FILE))) {
    const lock = StoreLock.take(dir);
    try {
      finishSwap(dir);
    } finally {
      lock.release();
    }
  }
  return layoutOf(dir);
}

/** Says that the data to come is that of so many workers. */
export function writeLayout(dir: string, count: number): void {
  writeSafely(join(dir, LAYOUT_FILE), JSON.stringify({ count }));
}

/** The directories of the stores of a layout. */
export function storeDirs(dir: string, count: number): string[] {
  return count === 1 ? [dir] : Array.from({ length: count }, (_, node) => join(dir, `worker-${node}`));
}

/** Finishes or undoes what was interrupted, and refuses another number of processes than the data is of. @throws MantouError */
export function claimLayout(dir: string, count: number): void {
  finishSwap(dir);
  const known = layoutOf(dir);
  if (known === undefined && count > 1) writeLayout(dir, count);
  if (known === undefined || known === count) return;
  throw new MantouError(
    "workers_changed",
    `workers: found ${count}, allowed: ${known}, since the data in ${dir} is of so many; this changes it: mantou store spread --workers ${count} --data ${dir}`,
    { dir, known, count },
  );
}

/** A data directory and the one that is to take its place, and of both the directories of the processes. */
export interface Layouts {
  readonly dir: string;
  readonly next: string;
  readonly from: readonly string[];
  readonly to: readonly string[];
}

/** An empty directory for what is to be the new layout. */
export function beginSwap(dir: string): string {
  const next = join(dir, NEXT);
  rmSync(next, { recursive: true, force: true });
  mkdirSync(next, { mode: 0o700 });
  return next;
}

/** What was begun is not wanted; nothing, once it counts. */
export function undoSwap(dir: string): void {
  if (existsSync(join(dir, SWAP_FILE)) || !existsSync(join(dir, NEXT))) return;
  rmSync(join(dir, NEXT), { recursive: true, force: true });
}

/** Puts what is in `spread.tmp`, which are whole, in the place of those that are there; returns where these are then. */
export function swap(dir: string): string {
  const aside = asidePath(dir, "replaced");
  for (const _ of swapSteps(dir, aside));
  return aside;
}

/** Goes on with a swap that was interrupted, if there is one. @throws MantouError `store_not_writable` */
export function finishSwap(dir: string): void {
  const text = readIfThere(join(dir, SWAP_FILE), dir);
  try {
    if (text === undefined) return undoSwap(dir);
    for (const _ of pieceSteps(dir, JSON.parse(text) as Swap));
  } catch (error) {
    throw startFault(error, dir);
  }
}

interface Swap {
  readonly aside: string;
  /** Names: what was there when the new pieces were whole, and what those are. */
  readonly old: readonly string[];
  readonly next: readonly string[];
}

/** Each step leaves the directory as a power cut may leave it. */
export function* swapSteps(dir: string, aside: string): Generator<void> {
  const next = join(dir, NEXT);
  syncTree(next);
  syncDirectory(dir);
  const names = readdirSync(next);
  const old = readdirSync(dir).filter((name) => PIECE.test(name) || names.includes(name));
  const pieces: Swap = { aside: basename(aside), old, next: names };
  yield;
  writeSafely(join(dir, SWAP_FILE), JSON.stringify(pieces));
  yield;
  yield* pieceSteps(dir, pieces);
}

function* pieceSteps(dir: string, pieces: Swap): Generator<void> {
  const aside = join(dir, pieces.aside);
  const next = join(dir, NEXT);
  mkdirSync(aside, { recursive: true, mode: 0o700 });
  for (const name of pieces.old) {
    // One that is there already was moved before: what has its name now is a new piece.
    if (existsSync(join(aside, name)) || !existsSync(join(dir, name))) continue;
    renameSync(join(dir, name), join(aside, name));
    yield;
  }
  syncDirectory(aside);
  syncDirectory(dir);
  for (const name of pieces.next) {
    if (!existsSync(join(next, name))) continue;
    renameSync(join(next, name), join(dir, name));
    yield;
  }
  syncDirectory(dir);
  rmSync(next, { recursive: true, force: true });
  yield;
  rmSync(join(dir, SWAP_FILE), { force: true });
  syncDirectory(dir);
}

/** The seed that is kept in a directory; when it is not there yet, `first` or one that is drawn is put there. */
export function readSeed(dir: string, first = randomInt(1, SEED_MAX)): number {
  const path = join(dir, SEED_FILE);
  const seed = Number(readIfThere(path, dir));
  if (Number.isInteger(seed) && seed > 0 && seed <= SEED_MAX) return seed;
  writeSafely(path, String(first));
  return first;
}

function readIfThere(path: string, dir: string): string | undefined {
  try {
    return readFileSync(path, "utf8");
  } catch (error) {
    if (codeOf(error) === "ENOENT") return undefined;
    throw startFault(error, dir);
  }
}

/** The file is as before or as it should be, whatever happens. */
function writeSafely(path: string, text: string): void {
  const partial = `${path}.partial`;
  writeFileSync(partial, text, { mode: 0o600 });
  syncFile(partial);
  renameSync(partial, path);
  syncDirectory(dirname(path));
}

function syncTree(dir: string): void {
  for (const entry of readdirSync(dir, { withFileTypes: true })) {
    const path = join(dir, entry.name);
    if (entry.isDirectory()) syncTree(path);
    else if (entry.isFile()) syncFile(path);
  }
  syncDirectory(dir);
}
