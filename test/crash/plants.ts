/**
 * Bugs that the harness must find: each is a small change of the broker's source, made in a copy that is then run.
 *
 * A plant whose text is not found exactly once fails its test: the source has changed, and the plant must follow it.
 */
import { cpSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { SOURCE_ROOT } from "./broker-run.ts";
import type { Violation } from "./judge.ts";
import type { Plan } from "./script.ts";

export interface Plant {
  readonly name: string;
  readonly file: string;
  readonly find: string;
  readonly replace: string;
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

/** A copy of the source with the plant in it, to be run as `BrokerSpec.root`. */
export function plantCopy(plant: Plant): { readonly root: string; remove(): void } {
  const root = mkdtempSync(join(tmpdir(), "mantou-plant-"));
  cpSync(join(SOURCE_ROOT, "src"), join(root, "src"), { recursive: true });
  cpSync(join(SOURCE_ROOT, "package.json"), join(root, "package.json"));
  symlinkSync(join(SOURCE_ROOT, "node_modules"), join(root, "node_modules"));
  writeFileSync(join(root, plant.file), planted(plant));
  return { root, remove: () => rmSync(root, { recursive: true, force: true }) };
}

/** The text of its file with the plant in it. Throws when the place is not there, or more than once. */
export function planted({ name, file, find, replace }: Plant): string {
  const parts = readFileSync(join(SOURCE_ROOT, file), "utf8").split(find);
  if (parts.length !== 2) throw new Error(`“${name}”: ${file} has ${parts.length - 1} times ${JSON.stringify(find)}`);
  return parts.join(replace);
}
