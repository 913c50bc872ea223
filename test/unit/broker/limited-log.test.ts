import { expect, test } from "bun:test";
import { LimitedLog } from "#broker/limited-log.ts";
import { createLog } from "#broker/log.ts";

function limited(linesPerSec: number, keyCountMax?: number, level: "info" | "silent" = "info") {
  const records: Record<string, unknown>[] = [];
  const log = createLog({ level, format: "json" }, { write: (line) => void records.push(JSON.parse(line)) });
  const clock = { ms: 5 };
  const options = { linesPerSec, nowMs: () => clock.ms };
  const out = new LimitedLog(log, keyCountMax === undefined ? options : { ...options, keyCountMax });
  const take = () =>
    records
      .splice(0)
      .map(({ level, msg, n, suppressedCount }) => [level, msg, n, suppressedCount].filter((v) => v !== undefined));
  return { out, clock, take };
}

test("repeats of a key are left out within a second, and counted in its next line", () => {
  const { out, clock, take } = limited(2);
  for (let n = 0; n < 5; n++) out.write("warn", "malformed", "bad packet", { n });
  expect(take()).toEqual([
    ["warn", "bad packet", 0],
    ["warn", "bad packet", 1],
  ]);
  clock.ms += 999;
  out.write("warn", "malformed", "bad packet", { n: 5 });
  expect(take()).toEqual([]);
  clock.ms += 1;
  for (let n = 6; n < 9; n++) out.write("warn", "malformed", "bad packet", { n });
  expect(take()).toEqual([
    ["warn", "bad packet", 6, 4],
    ["warn", "bad packet", 7],
  ]);
});

test("keys do not limit each other", () => {
  const { out, take } = limited(1);
  out.write("info", "a", "A");
  out.write("info", "b", "B");
  out.write("info", "a", "A");
  expect(take()).toEqual([
    ["info", "A"],
    ["info", "B"],
  ]);
});

test("a key that falls quiet has its count told by flush, once, and is forgotten", () => {
  const { out, clock, take } = limited(1);
  for (let n = 0; n < 4; n++) out.write("error", "a", "A");
  out.write("info", "quiet", "Q");
  take();
  out.flush();
  expect(take()).toEqual([]);
  expect(out.keyCount).toBe(2);
  clock.ms += 1000;
  out.flush();
  expect(take()).toEqual([["error", "A (more of the same were left out)", 3]]);
  expect(out.keyCount).toBe(0);
  out.flush();
  expect(take()).toEqual([]);
});

test("a flood of ever new keys is bounded in lines and in memory", () => {
  const { out, clock, take } = limited(1, 8);
  for (let second = 0; second < 3; second++) {
    for (let n = 0; n < 1000; n++) {
      out.write("warn", `peer-${second}-${n}`, "refused");
      expect(out.keyCount).toBeLessThanOrEqual(9);
    }
    clock.ms += 1000;
  }
  out.flush();
  const lines = take();
  expect(lines.length).toBeLessThanOrEqual(3 * 9 + 3);
  // Every call is either a line or in a count.
  const told = lines.filter(([, message]) => message === "refused").length;
  const left = lines.reduce((sum, line) => sum + (typeof line.at(-1) === "number" ? (line.at(-1) as number) : 0), 0);
  expect(told + left).toBe(3000);
});

test("a level that is off costs no key", () => {
  const { out, take } = limited(1, 8, "silent");
  out.write("error", "a", "A");
  expect(out.keyCount).toBe(0);
  expect(take()).toEqual([]);
});
