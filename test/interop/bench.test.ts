/**
 * The comparing benches as a user runs them, small, with mosquitto as the foreign broker: that they work, never how fast
 * anything is.
 */
import { afterAll, describe, expect, test } from "bun:test";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { missing } from "./fixture.ts";

const MAIN = resolve(import.meta.dir, "../../bench/main.ts");
const BENCH_MS = 120_000;
const out = mkdtempSync(join(tmpdir(), "mantou-bench-test-"));
afterAll(() => rmSync(out, { recursive: true, force: true }));

async function bench(...args: string[]): Promise<{ code: number; stdout: string; stderr: string }> {
  const child = Bun.spawn([process.execPath, MAIN, ...args], { stdout: "pipe", stderr: "pipe", timeout: BENCH_MS });
  const [stdout, stderr, code] = await Promise.all([child.stdout.text(), child.stderr.text(), child.exited]);
  return { code, stdout, stderr };
}

test(
  "scenario: one run, its figures, its goal",
  async () => {
    const { code, stdout, stderr } = await bench("scenario", "pair", "--duration", "1", "--warmup", "0.2");
    expect(stderr).toBe("");
    expect(stdout).toMatch(/delivered messages +\d/);
    expect(stdout).toMatch(/broker CPU per delivered message +\d/);
    expect(stdout).toContain("goal: 2.5 × FlashMQ or more: open, flashmq was not measured");
    expect(code).toBe(0);
  },
  BENCH_MS,
);

test(
  "what a user gets wrong is said in a line",
  async () => {
    const unknown = await bench("scenario", "pears");
    expect(unknown.code).toBe(2);
    expect(unknown.stderr).toStartWith("there is no scenario pears\n");
    const template = await bench("compare", "pair", "--brokers", "x=run");
    expect(template.code).toBe(2);
    expect(template.stderr).toBe("run: {port} must say where the broker is to listen\n");
  },
  BENCH_MS,
);

const why = missing(["mosquitto"]);
describe.skipIf(why !== undefined)(`compare${why === undefined ? "" : ` (${why})`}`, () => {
  test(
    "two brokers, one of them by command, one round: raw runs and both reports",
    async () => {
      const template = `again=${process.execPath} ${resolve(MAIN, "../../src/main.ts")} start --listen tcp://127.0.0.1:{port}`;
      const { code, stderr } = await bench(
        "compare",
        "pair",
        "mqtt5",
        "--brokers",
        "mantou,mosquitto",
        "--brokers",
        template,
        "--rounds",
        "1",
        "--duration",
        "0.5",
        "--warmup",
        "0.2",
        "--once",
        "--out",
        out,
      );
      expect(stderr).toContain("[9/9]");
      expect(code).toBe(0);
      const lines = readFileSync(join(out, "runs.jsonl"), "utf8").trim().split("\n");
      const runs = lines.map((line) => JSON.parse(line)).filter(({ type }) => type === "run");
      expect(runs.map(({ broker }) => broker).slice(0, 3)).toEqual(["mantou", "mosquitto", "again"]);
      for (const { metrics, faults } of runs) {
        expect(faults).toEqual([]);
        expect(metrics.messagesPerSec).toBeGreaterThan(0);
        expect(metrics.brokerCpuPct).toBeGreaterThan(0);
      }
      const html = readFileSync(join(out, "report.html"), "utf8");
      for (const name of ["mantou", "mosquitto", "again"]) expect(html).toContain(`<b>${name}</b>`);
      expect(readFileSync(join(out, "report.md"), "utf8")).toContain("## Goals");
    },
    BENCH_MS,
  );

  test(
    "a broker that does not start is a run that does not count",
    async () => {
      const dir = join(out, "failing");
      const { code, stderr } = await bench(
        "compare",
        "pair",
        "--brokers",
        "sick=sh -c 'echo {port} is taken >&2; exit 1'",
        "--rounds",
        "1",
        "--duration",
        "0.5",
        "--warmup",
        "0.2",
        "--out",
        dir,
      );
      expect(code).toBe(1);
      expect(stderr).toMatch(/does not count: sick does not answer on port \d+: \d+ is taken/);
      expect(readFileSync(join(dir, "report.md"), "utf8")).toContain("1 failed: sick does not answer");
    },
    BENCH_MS,
  );
});
