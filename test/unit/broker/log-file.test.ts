import { afterEach, beforeEach, expect, test } from "bun:test";
import { appendFileSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { LogFile } from "#broker/log-file.ts";
import { openLog, onLogLevel, setLogLevel } from "#broker/log.ts";
import { logSchema } from "#broker/log-schema.ts";

let dir = "";
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), "mantou-log-"));
});
afterEach(() => rmSync(dir, { recursive: true, force: true }));

const files = (): string[] => readdirSync(dir).sort();
const text = (name: string): string => readFileSync(join(dir, name), "utf8");
const put = (file: LogFile, line: string): number => file.write(Buffer.from(line), 0);

/** Lines of whatever lengths, with jumps of the clock between them: nothing is lost but by age, nothing grows too large. */
test("whatever is written, files are bounded in size and number and hold the latest lines in order", () => {
  const step = fc.record({
    length: fc.integer({ min: 1, max: 60 }),
    laterSec: fc.constantFrom(0, 0, 0, 1, 5000, 90_000),
  });
  fc.assert(
    fc.property(fc.array(step, { maxLength: 120 }), fc.integer({ min: 0, max: 4 }), (steps, countMax) => {
      rmSync(dir, { recursive: true, force: true });
      let nowMs = new Date(2026, 10, 30, 12).getTime();
      const open = () => new LogFile({ dir, name: "x", bytesMax: 100, countMax, now: () => new Date(nowMs) });
      let file = open();
      const lines: string[] = [];
      for (const [index, { length, laterSec }] of steps.entries()) {
        nowMs += laterSec * 1000;
        if (length === 7) file = open(); // a new process
        lines.push(`${index}:${"x".repeat(length)}\n`);
        put(file, lines.at(-1)!);
      }
      const names = files();
      expect(names.length).toBeLessThanOrEqual(countMax + 1);
      for (const name of names) expect(statSync(join(dir, name)).size).toBeLessThanOrEqual(100);
      // "x-…" sorts before "x.log": oldest first, the present one last.
      const kept = names.map(text).join("");
      expect(lines.join("").endsWith(kept)).toBe(true);
      if (lines.length > 0) expect(kept).toEndWith(lines.at(-1)!);
    }),
    { numRuns: 60 },
  );
});

test("a new day begins a new file, also after a restart, and other files are left alone", () => {
  let now = new Date(2026, 0, 1, 23, 59, 59);
  const open = () => new LogFile({ dir, name: "mantou", bytesMax: 1000, countMax: 1, now: () => now });
  writeFileSync(join(dir, "mantou_error.log"), "not mine");
  writeFileSync(join(dir, "mantou-notes.log"), "nor this");
  const file = open();
  put(file, "first\n");
  now = new Date(2026, 0, 2, 0, 0, 1);
  put(file, "second\n");
  expect(text("mantou.log")).toBe("second\n");
  expect(text("mantou-20260102T000001-000001.log")).toBe("first\n");
  now = new Date(2099, 0, 3); // the file's own time is today's
  put(open(), "third\n");
  expect(files()).toEqual(["mantou-20990103T000000-000001.log", "mantou-notes.log", "mantou.log", "mantou_error.log"]);
  expect(text("mantou.log")).toBe("third\n");
});

test("a directory that cannot be written is said in one line", () => {
  writeFileSync(join(dir, "file"), "");
  const open = () => new LogFile({ dir: join(dir, "file"), name: "mantou", bytesMax: 1000, countMax: 1 });
  expect(open).toThrow(`${join(dir, "file", "mantou.log")}: cannot be written: EEXIST`);
});

const config = (fields: object) => logSchema.parse({ dir, ...fields });

test("to files: everything in one, errors in another once more, nothing on stdout", () => {
  const stdout: string[] = [];
  const log = openLog(config({ to: "files", format: "json" }), { write: (line) => void stdout.push(line) });
  log.info("a");
  log.error({ password: "SECRET" }, "b");
  log.child({ part: "x" }).fatal("c");
  log.warn({ text: '{"level":"error"' }, "d");
  const messages = (name: string) =>
    text(name)
      .trimEnd()
      .split("\n")
      .map((line) => (JSON.parse(line) as { msg: string }).msg);
  expect(messages("mantou.log")).toEqual(["a", "b", "c", "d"]);
  expect(messages("mantou_error.log")).toEqual(["b", "c"]);
  expect(text("mantou_error.log")).not.toContain("SECRET");
  expect(stdout).toEqual([]);
});

test("to both: the same lines on stdout", () => {
  const stdout: string[] = [];
  const log = openLog(config({ to: "both" }), { write: (line) => void stdout.push(line) });
  log.info("a");
  expect(stdout.join("")).toBe(text("mantou.log"));
});

test("lines that find no file are counted and told when there is one again, and a file that was deleted is made anew", () => {
  const log = openLog(config({ to: "files", fileBytesMax: 4096 }), { write: () => {} });
  log.info("x".repeat(4096));
  rmSync(dir, { recursive: true });
  writeFileSync(dir, "in the way");
  log.info("lost");
  log.info("lost too");
  rmSync(dir);
  log.info("kept");
  expect(text("mantou.log")).toMatch(/lines lost lostCount=2\n.*kept/);
  rmSync(join(dir, "mantou.log"));
  log.info("y".repeat(4096));
  log.info("there");
  expect(text("mantou.log")).toContain("there");
});

test("the level changes at run time, for children made before and after", () => {
  const log = openLog(config({ to: "files", format: "json" }), { write: () => {} });
  const before = log.child({ part: "before" });
  const heard: string[] = [];
  onLogLevel(log, (level) => void heard.push(level));
  before.debug("no");
  setLogLevel(log, "debug");
  before.debug("yes1");
  log.child({ part: "after" }).debug("yes2");
  setLogLevel(log, "error");
  before.warn("no");
  log.warn("no");
  expect(heard).toEqual(["debug", "error"]);
  expect(text("mantou.log").match(/"msg":"\w+"/g)).toEqual(['"msg":"yes1"', '"msg":"yes2"']);
});

test("a file that was appended to by somebody else still moves on in time", () => {
  const file = new LogFile({ dir, name: "x", bytesMax: 100, countMax: 1 });
  put(file, "a".repeat(90));
  appendFileSync(join(dir, "x.log"), "b");
  put(file, "c".repeat(20));
  expect(text("x.log")).toBe("c".repeat(20));
});
