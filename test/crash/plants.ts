/**
 * Copies of the source with small changes: bugs that the harness must find, and limits so small that what is rare in a short
 * run (pages, snapshots, collections, checkpoints of SQLite) happens all the time.
 *
 * A change whose text is not found exactly once fails its test: the source has changed, and the table must follow it.
 */
import { cpSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { SOURCE_ROOT } from "./broker-run.ts";
import type { Violation } from "./judge.ts";
import type { Plan } from "./script.ts";

/** A replacement in a file of the source. */
interface Edit {
  readonly file: string;
  readonly find: string;
  readonly replace: string;
}

export interface Plant extends Edit {
  readonly name: string;
  /** What it shows as: any of these. */
  readonly shows: readonly Violation["kind"][];
  /** Found by power cuts; the others by kills alone. */
  readonly isPower: boolean;
  /** A slow disk makes its moment longer. */
  readonly syncMs?: number;
  /** Of runs that come upon it soon. */
  readonly kind?: Plan["kind"];
  /** Also found in test:ci, within few runs. */
  readonly isQuick?: boolean;
}

export const PLANTS: readonly Plant[] = [
  {
    name: "acknowledges before the commit",
    file: "src/store/durable-store.ts",
    find: "    this.underWay.push({ batch, seq });\n",
    replace: "    this.underWay.push({ batch, seq });\n    this.committedSeq = seq;\n    this.hasMoved = true;\n",
    shows: ["lost", "session", "retained"],
    isPower: true,
    syncMs: 20,
    isQuick: true,
  },
  {
    name: "forgets a QoS 2 message at its PUBREC",
    file: "src/store/change-notes.ts",
    find: "        return this.noteId(Change.received, session, item, true);",
    replace: "        return this.noteId(Change.acknowledged, session, item, false);",
    shows: ["fault", "lost", "duplicate"],
    isPower: false,
  },
  {
    name: "answers a repeated PUBLISH before the original's commit",
    file: "src/mqtt/handle-publish.ts",
    find: "      engine.awaitAll();\n      connection.acknowledge(PUBREC, packetId, SUCCESS);",
    replace: '      connection["sendAck"](PUBREC, packetId, SUCCESS);',
    shows: ["lost"],
    isPower: true,
    syncMs: 60,
    kind: "twice",
  },
  {
    name: "forgets the receipts of QoS 2 messages",
    file: "src/store/change-notes.ts",
    find: "        return this.noteId(Change.receiptAdded, session, item, true);",
    replace: "        return this.durableSeq;",
    shows: ["duplicate"],
    isPower: false,
    isQuick: true,
  },
  {
    name: "answers PUBREL before its commit",
    file: "src/store/change-notes.ts",
    find: "        return this.noteId(Change.receiptRemoved, session, item, true);",
    replace: "        return this.noteId(Change.receiptRemoved, session, item, false) && this.durableSeq;",
    shows: ["lost"],
    isPower: true,
    syncMs: 20,
  },
  {
    name: "loses a page of waiting messages",
    file: "src/store/recovery.ts",
    find: "  for (const { page, entries } of resting?.newPages ?? []) tables.putPage(session, page, entries);",
    replace:
      "  for (const { page, entries } of resting?.newPages ?? []) if (page % 3 !== 1) tables.putPage(session, page, entries);",
    shows: ["lost"],
    isPower: false,
  },
  {
    name: "does not sync",
    file: "src/store/store-file-sqlite.ts",
    find: "    db.run(`PRAGMA synchronous = ${sync}`);",
    replace: "    db.run(`PRAGMA synchronous = off`);",
    shows: ["lost", "session", "retained"],
    isPower: true,
  },
  {
    name: "writes the order of packet ids wrong",
    file: "src/store/change-notes.ts",
    find: "    if (known >= 0 && number > this.lastFlightSeq) {",
    replace: "    if (known >= 0) {",
    shows: ["order"],
    isPower: false,
  },
  {
    name: "keeps the subscriptions of a deleted session",
    file: "src/store/change-notes.ts",
    find: "    const seq = this.noteEncoded(leaver ? Change.ending : Change.gone, session, true);",
    replace: "    const seq = this.pending.next - 1;",
    shows: ["ghost", "session"],
    isPower: false,
  },
];

const STORE = "src/store/durable-store.ts";

export const SMALL_LIMITS: readonly Edit[] = [
  { file: STORE, find: "  pageCount: 256,\n", replace: "  pageCount: 8,\n" },
  { file: STORE, find: "  pageBytes: 256 * 1024,\n", replace: "  pageBytes: 8192,\n" },
  { file: STORE, find: "  logBytesMax: 8 * 1024 * 1024,\n", replace: "  logBytesMax: 30_000,\n" },
  { file: STORE, find: "  checkpointSec: 10,\n", replace: "  checkpointSec: 0.2,\n" },
  { file: "src/store/checkpoint.ts", find: "const COLLECT_COUNT = 20_000;", replace: "const COLLECT_COUNT = 100;" },
  { file: "src/store/checkpoint.ts", find: "const COLLECT_EVERY_MS = 1000;", replace: "const COLLECT_EVERY_MS = 30;" },
  { file: "src/store/paging.ts", find: "const HEAD_COUNT = 512;", replace: "const HEAD_COUNT = 4;" },
  {
    file: "src/store/session-replay.ts",
    find: "const PAGE_ENTRIES_MAX = 256;",
    replace: "const PAGE_ENTRIES_MAX = 8;",
  },
  {
    file: "src/store/store-writer-sqlite.ts",
    find: "const CHECKPOINT_PAGES = 1000;",
    replace: "const CHECKPOINT_PAGES = 20;",
  },
];

/** Root of a copy of the source with these changes, for `BrokerSpec.root`. It goes when the process ends. */
export function copySource(edits: readonly Edit[]): string {
  const root = mkdtempSync(join(tmpdir(), "mantou-copy-"));
  process.on("exit", () => rmSync(root, { recursive: true, force: true }));
  cpSync(join(SOURCE_ROOT, "src"), join(root, "src"), { recursive: true });
  cpSync(join(SOURCE_ROOT, "package.json"), join(root, "package.json"));
  symlinkSync(join(SOURCE_ROOT, "node_modules"), join(root, "node_modules"));
  for (const edit of edits) writeFileSync(join(root, edit.file), edited(edit, root));
  return root;
}

/** The text of its file with the change made. Throws when its place is not there, or more than once. */
export function edited({ file, find, replace }: Edit, root = SOURCE_ROOT): string {
  const parts = readFileSync(join(root, file), "utf8").split(find);
  if (parts.length !== 2) throw new Error(`${file} has ${parts.length - 1} times ${JSON.stringify(find)}`);
  return parts.join(replace);
}

let smallRoot: string | undefined;

/** The source as it is for even seeds, with small limits for odd ones. */
export function rootOf(seed: number): string {
  return seed % 2 === 0 ? SOURCE_ROOT : (smallRoot ??= copySource(SMALL_LIMITS));
}
