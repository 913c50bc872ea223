// What a power cut leaves, on small journals; and that the journal tells all that SQLite does.

import { afterAll, describe, expect, test } from "bun:test";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Dice } from "#test/simulation/weather.ts";
import { setFailure, shimEnvironment, shimMissing } from "./disk-shim.ts";
import { type DiskRecord, readJournal } from "./journal.ts";
import { DiskModel, readImage } from "./power-cut.ts";

const why = shimMissing();
const folder = mkdtempSync(join(tmpdir(), "mantou-cut-"));
afterAll(() => rmSync(folder, { recursive: true }));

const write = (path: string, offset: number, text: string): DiskRecord => ({
  kind: "write",
  path,
  offset,
  bytes: Buffer.from(text),
});
const sync = (path: string, number: number, kind: "synced" | "sync failed" = "synced"): DiskRecord[] => [
  { kind: "sync begins", path, sync: number },
  { kind, path, sync: number },
];

/** File contents after each of many cuts, without repeats, sorted; a file that is gone is "-". */
function outcomes(start: Record<string, string>, records: readonly DiskRecord[], path: string): string[] {
  const seen = new Set<string>();
  for (let seed = 0; seed < 200; seed++) {
    const model = new DiskModel(new Map(Object.entries(start).map(([name, text]) => [name, Buffer.from(text)])));
    for (const record of records) model.apply(record);
    seen.add(model.cut(new Dice(seed), "some").get(path)?.toString() ?? "-");
  }
  return [...seen].sort();
}

describe("a power cut", () => {
  test("keeps what was synced, and of what was not a part", () => {
    const records = [write("f", 0, "new"), ...sync("f", 1), write("f", 0, "NEW")];
    expect(outcomes({ f: "old" }, records, "f")).toEqual(["NEW", "new"]);
  });

  test("a sync does not cover what was written after it began", () => {
    const [begun, ended] = sync("f", 1);
    expect(outcomes({ f: "old" }, [begun, write("f", 0, "new"), ended], "f")).toEqual(["new", "old"]);
  });

  test("a later write of a page is not there without the earlier ones", () => {
    expect(outcomes({ f: "ab" }, [write("f", 0, "A"), write("f", 1, "B")], "f")).toEqual(["AB", "Ab", "ab"]);
  });

  test("pages and torn sectors go their own ways", () => {
    const text = "x".repeat(8192);
    const seen = outcomes({ f: ".".repeat(8192) }, [write("f", 0, text)], "f");
    const pages = new Set(seen.map((each) => each[0] + each[4096]));
    expect([...pages].sort()).toEqual(["..", ".x", "x.", "xx"]);
    expect(seen.some((each) => each[0] !== each[512])).toBe(true);
    expect(seen.every((each) => each[0] === each[511] && each[512] === each[1023])).toBe(true);
  });

  test("what a failed sync should have covered is not covered by the next", () => {
    const lost = [write("f", 0, "new"), ...sync("f", 1, "sync failed"), ...sync("f", 2)];
    expect(outcomes({ f: "old" }, lost, "f")).toEqual(["new", "old"]);
    expect(outcomes({ f: "old" }, [...lost, write("f", 0, "NEW"), ...sync("f", 3)], "f")).toEqual(["NEW"]);
  });

  test("a truncation is a write like another", () => {
    const records: DiskRecord[] = [{ kind: "truncate", path: "f", size: 1 }];
    expect(outcomes({ f: "old" }, records, "f")).toEqual(["o", "old"]);
    expect(outcomes({ f: "old" }, [...records, ...sync("f", 1)], "f")).toEqual(["o"]);
  });

  test("a new file is there once it is synced, a removed one may come back until its directory is", () => {
    const made: DiskRecord[] = [{ kind: "create", path: "f" }, write("f", 0, "new")];
    expect(outcomes({}, made, "f")).toContain("-");
    expect(outcomes({}, [...made, ...sync("f", 1)], "f")).toEqual(["new"]);
    const removed: DiskRecord[] = [{ kind: "unlink", path: "f" }];
    expect(outcomes({ f: "old" }, removed, "f")).toEqual(["-", "old"]);
    expect(outcomes({ f: "old" }, [...removed, ...sync("", 1)], "f")).toEqual(["-"]);
  });
});

/** Runs a script under the shim, on a directory of its own; returns the directory, its journal and what was printed. */
function shimmed(name: string, script: string, control?: string) {
  const dir = join(folder, name);
  const journal = `${dir}.journal`;
  mkdirSync(dir);
  writeFileSync(`${dir}.ts`, script);
  const paths = { dir, journal, ...(control === undefined ? {} : { control }) };
  const env = { ...process.env, ...shimEnvironment(paths) };
  const { exitCode, stdout, stderr } = Bun.spawnSync([process.execPath, `${dir}.ts`, dir], { env, stdout: "pipe" });
  if (exitCode !== 0) throw new Error(`${stderr}`);
  return { dir, records: readJournal(readFileSync(journal)), printed: stdout.toString() };
}

const useSqlite = `
  import { Database } from "bun:sqlite";
  const db = new Database(process.argv[2] + "/x.db");
  db.run("PRAGMA journal_mode = WAL");
  db.run("PRAGMA synchronous = FULL");
  db.run("CREATE TABLE t (a INTEGER PRIMARY KEY, b BLOB)");
`;

describe("the shim", () => {
  test.skipIf(why !== undefined)(`tells all that SQLite does to its files (${why ?? "with a C compiler"})`, () => {
    const work = `
      for (let i = 0; i < 300; i++) db.run("INSERT INTO t (b) VALUES (randomblob(5000))");
      db.run("DELETE FROM t WHERE a % 2"); db.run("PRAGMA wal_checkpoint(TRUNCATE)"); db.run("VACUUM");
      for (let i = 0; i < 20; i++) db.run("INSERT INTO t (b) VALUES (randomblob(50))");
      process.exit(0);`;
    const script = useSqlite + work;
    const { dir, records } = shimmed("all", script);
    const model = new DiskModel(new Map());
    for (const record of records) model.apply(record);
    const told = model.cut(new Dice(1), "all");
    const real = readImage(dir);
    expect([...told.keys()].sort()).toEqual([...real.keys()].sort());
    for (const [path, bytes] of real) expect(told.get(path)!.equals(bytes)).toBe(true);
    expect(records.filter(({ kind }) => kind === "synced").length).toBeGreaterThan(300);
  });

  test.skipIf(why !== undefined)(`makes writing fail while it is asked to (${why ?? "with a C compiler"})`, () => {
    const control = join(folder, "failing.control");
    setFailure(control, "no space");
    const body = `
      const { rmSync } = await import("node:fs");
      const path = process.argv[2] + "/x.db";
      try { const { Database } = await import("bun:sqlite"); new Database(path).run("CREATE TABLE t (a)"); console.log("wrote"); }
      catch (error) { console.log(error.code); }
      rmSync(${JSON.stringify(control)});
      const { Database } = await import("bun:sqlite"); new Database(path).run("CREATE TABLE t (a)"); console.log("wrote");`;
    expect(shimmed("failing", body, control).printed).toMatch(/^SQLITE_\w+\nwrote\n$/);
  });
});
