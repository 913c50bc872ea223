/**
 * What a power cut may leave of a directory: everything that was synced, and of what was written later a random part.
 *
 *   file       durable ops ────────► then, for each page of 4096 bytes, a random number of its later writes, in order;
 *              (synced before)       in a torn page each sector of 512 bytes has a number of its own; so have truncations
 *   names      files made, removed and renamed up to the last sync that covers them, then a random number more, in order:
 *              a file's own sync covers its making (as the journals of ext4 and XFS have it), a directory's all in it
 *   failed     what a failed sync should have covered is random for good, unless it is written and synced anew: the kernel
 *              forgets such pages
 *
 * Index files of SQLite (-shm) are memory: they are gone. Files that the journal does not know are left as they are.
 */
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import type { Dice } from "#test/simulation/weather.ts";
import { type DiskRecord, readJournal } from "./journal.ts";

const PAGE_BYTES = 4096;
const SECTOR_BYTES = 512;
const SECTORS = PAGE_BYTES / SECTOR_BYTES;

/** Of the pages that were not synced. */
export type Mercy = "none" | "some" | "all";

type Op =
  | {
      readonly kind: "write";
      readonly offset: number;
      readonly bytes: Buffer;
      isDurable: boolean;
      isForgotten: boolean;
    }
  | { readonly kind: "truncate"; readonly size: number; isDurable: boolean; isForgotten: boolean };

class FileState {
  readonly ops: Op[] = [];
  /** Ops that a sync that has begun will cover. */
  readonly syncs = new Map<number, number>();
  /** Position of its making in the list of changes of names; −1 for files that were there. */
  madeBy = -1;

  constructor(readonly base: Buffer) {}
}

interface NameChange {
  readonly path: string;
  /** Undefined: the name goes. */
  readonly file: FileState | undefined;
}

/** The files of a directory with their contents, by path below it. */
export type Image = Map<string, Buffer>;

export class DiskModel {
  readonly #start: ReadonlyMap<string, FileState>;
  readonly #names: Map<string, FileState>;
  readonly #changes: NameChange[] = [];
  /** Changes of names before this are durable. */
  #durableCount = 0;

  constructor(image: Image) {
    this.#start = new Map([...image].map(([path, bytes]) => [path, new FileState(bytes)]));
    this.#names = new Map(this.#start);
  }

  /** All that were ever made. */
  get paths(): string[] {
    return this.#changes.map(({ path }) => path);
  }

  apply(record: DiskRecord): void {
    const { path } = record;
    const file = this.#names.get(path);
    switch (record.kind) {
      case "write":
        file?.ops.push({
          kind: "write",
          offset: record.offset,
          bytes: record.bytes,
          isDurable: false,
          isForgotten: false,
        });
        return;
      case "truncate":
        file?.ops.push({ kind: "truncate", size: record.size, isDurable: false, isForgotten: false });
        return;
      case "create": {
        const made = new FileState(Buffer.alloc(0));
        this.#change({ path, file: made });
        made.madeBy = this.#changes.length;
        return;
      }
      case "unlink":
        return this.#change({ path, file: undefined });
      case "rename":
        if (file === undefined) return;
        this.#change({ path: record.to, file });
        return this.#change({ path, file: undefined });
      default:
        this.#sync(record.kind, file, record.sync);
    }
  }

  /** What is left after a cut now. */
  cut(dice: Dice, mercy: Mercy): Image {
    const left = this.#changes.length - this.#durableCount;
    const kept = this.#durableCount + (mercy === "all" ? left : mercy === "none" ? 0 : dice.between(0, left));
    const names = new Map(this.#start);
    for (const { path, file } of this.#changes.slice(0, kept)) {
      if (file === undefined) names.delete(path);
      else names.set(path, file);
    }
    return new Map([...names].map(([path, file]) => [path, contentsAfterCut(file, dice, mercy)]));
  }

  #change(change: NameChange): void {
    this.#changes.push(change);
    if (change.file === undefined) this.#names.delete(change.path);
    else this.#names.set(change.path, change.file);
  }

  #sync(kind: "sync begins" | "synced" | "sync failed", file: FileState | undefined, sync: number): void {
    if (file === undefined) {
      if (kind === "synced") this.#durableCount = this.#changes.length; // a directory
      return;
    }
    if (kind === "sync begins") return void file.syncs.set(sync, file.ops.length);
    const covered = file.ops.slice(0, file.syncs.get(sync) ?? 0);
    if (kind === "synced") {
      for (const op of covered) op.isDurable ||= !op.isForgotten;
      this.#durableCount = Math.max(this.#durableCount, file.madeBy);
    } else {
      for (const op of covered) op.isForgotten ||= !op.isDurable;
    }
  }
}

/** How many of its uncertain writes each sector has got, and each file of its uncertain truncations. */
class Fate {
  readonly #kept = new Map<number, number[]>();
  readonly #seen = new Map<number, number>();
  #truncationsLeft: number;

  constructor(ops: readonly Op[], dice: Dice, mercy: Mercy) {
    const counts = new Map<number, number>();
    let truncationCount = 0;
    for (const op of ops) {
      if (op.isDurable) continue;
      if (op.kind === "truncate") truncationCount++;
      else for (const page of pagesOf(op)) counts.set(page, (counts.get(page) ?? 0) + 1);
    }
    const draw = (count: number): number => (mercy === "none" ? 0 : mercy === "all" ? count : dice.between(0, count));
    for (const [page, count] of counts) {
      const isTorn = mercy === "some" && dice.chance(15);
      const whole = draw(count);
      this.#kept.set(
        page,
        Array.from({ length: SECTORS }, () => (isTorn ? draw(count) : whole)),
      );
    }
    this.#truncationsLeft = draw(truncationCount);
  }

  takesTruncation(): boolean {
    return this.#truncationsLeft-- > 0;
  }

  /** The sectors of a page that this write, the next one to it, has reached. */
  sectorsOf(page: number): boolean[] {
    const seen = this.#seen.get(page) ?? 0;
    this.#seen.set(page, seen + 1);
    return this.#kept.get(page)!.map((kept) => seen < kept);
  }
}

function pagesOf({ offset, bytes }: { readonly offset: number; readonly bytes: Buffer }): number[] {
  const first = Math.floor(offset / PAGE_BYTES);
  const last = Math.floor((offset + bytes.length - 1) / PAGE_BYTES);
  return Array.from({ length: last - first + 1 }, (_, i) => first + i);
}

function contentsAfterCut({ base, ops }: FileState, dice: Dice, mercy: Mercy): Buffer {
  const fate = new Fate(ops, dice, mercy);
  const contents = new Contents(base);
  for (const op of ops) {
    if (op.kind === "truncate") {
      if (op.isDurable || fate.takesTruncation()) contents.resize(op.size);
    } else if (op.isDurable) {
      contents.write(op.offset, op.bytes);
    } else {
      writeSectors(contents, op, fate);
    }
  }
  return contents.toBuffer();
}

function writeSectors(contents: Contents, op: { offset: number; bytes: Buffer }, fate: Fate): void {
  const end = op.offset + op.bytes.length;
  for (const page of pagesOf(op)) {
    for (const [i, isKept] of fate.sectorsOf(page).entries()) {
      const from = Math.max(op.offset, page * PAGE_BYTES + i * SECTOR_BYTES);
      const to = Math.min(end, page * PAGE_BYTES + (i + 1) * SECTOR_BYTES);
      if (isKept && from < to) contents.write(from, op.bytes.subarray(from - op.offset, to - op.offset));
    }
  }
}

/** A file that grows; gaps are zeros. */
class Contents {
  #bytes: Buffer;
  #size: number;

  constructor(base: Buffer) {
    this.#bytes = Buffer.from(base);
    this.#size = base.length;
  }

  resize(size: number): void {
    this.#reserve(size);
    if (size < this.#size) this.#bytes.fill(0, size, this.#size);
    this.#size = size;
  }

  write(offset: number, bytes: Buffer): void {
    this.#reserve(offset + bytes.length);
    bytes.copy(this.#bytes, offset);
    this.#size = Math.max(this.#size, offset + bytes.length);
  }

  toBuffer(): Buffer {
    return this.#bytes.subarray(0, this.#size);
  }

  #reserve(size: number): void {
    if (size <= this.#bytes.length) return;
    const larger = Buffer.alloc(Math.max(size, this.#bytes.length * 2));
    this.#bytes.copy(larger);
    this.#bytes = larger;
  }
}

export function readImage(dir: string): Image {
  const image: Image = new Map();
  if (!existsSync(dir)) return image;
  for (const entry of readdirSync(dir, { recursive: true, withFileTypes: true })) {
    const full = join(entry.parentPath, entry.name);
    if (entry.isFile() && !full.endsWith("-shm")) image.set(full.slice(dir.length + 1), readFileSync(full));
  }
  return image;
}

function writeImage(dir: string, image: Image): void {
  rmSync(dir, { recursive: true, force: true });
  mkdirSync(dir, { recursive: true, mode: 0o700 });
  for (const [path, bytes] of image) {
    mkdirSync(dirname(join(dir, path)), { recursive: true });
    writeFileSync(join(dir, path), bytes, { mode: 0o600 });
  }
}

/** Makes of a directory what a cut leaves of it: `before` at the start of the process that wrote the journal. */
export function cutPower(dir: string, before: Image, journal: Buffer, dice: Dice): Mercy {
  const mercy = dice.pick(["none", "some", "some", "some", "all"] as const);
  const model = new DiskModel(before);
  for (const record of readJournal(journal)) model.apply(record);
  const after = model.cut(dice, mercy);
  const known = new Set([...before.keys(), ...after.keys(), ...model.paths]);
  for (const [path, bytes] of readImage(dir)) if (!known.has(path)) after.set(path, bytes);
  writeImage(dir, after);
  return mercy;
}
