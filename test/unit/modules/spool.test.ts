import { afterAll, describe, expect, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { Journal } from "#modules/journal.ts";
import { type LossReason, Refused, Spool, type SpoolLimits } from "#modules/spool.ts";
import { shimEnvironment, shimMissing } from "#test/crash/disk-shim.ts";
import { checkAsync } from "#test/support/fuzz.ts";
import { rounds } from "#test/support/level.ts";

const folder = mkdtempSync(join(tmpdir(), "mantou-spool-"));
afterAll(() => rmSync(folder, { recursive: true }));
let number = 0;
const newPath = (): string => join(folder, `${number++}.db`);

const LIMITS: SpoolLimits = {
  countMax: 1000,
  bytesMax: 1e6,
  diskBytesMax: 1e6,
  batchCountMax: 10,
  batchBytesMax: 1e6,
  lingerMs: 1,
  spillMs: 5,
  deadlineMs: 20,
  retryMsMax: 4,
};

/** A receiver of numbers that is as it is told to be. */
class Receiver {
  mode: "takes" | "fails" | "hangs" = "takes";
  /** Every batch that it took. */
  readonly batches: number[][] = [];
  readonly lost = new Map<LossReason, number>();
  isRefused: (item: number) => boolean = () => false;

  get items(): number[] {
    return this.batches.flat();
  }

  async open(path: string, limits: Partial<SpoolLimits> = {}): Promise<Spool<number>> {
    return new Spool<number>({
      limits: { ...LIMITS, ...limits },
      journal: await Journal.open(path, "off"),
      bytesOf: () => 10,
      encode: (item) => Buffer.from(`${item}`.padEnd(10)),
      decode: (body) => Number(Buffer.from(body).toString()),
      send: async (batch) => {
        await Bun.sleep(0);
        if (this.mode === "hangs") await new Promise(() => {});
        if (this.mode === "fails") throw new Error("away");
        if (batch.some((item) => this.isRefused(item))) throw new Refused("no");
        this.batches.push([...batch]);
      },
      noteLoss: (count, reason) => void this.lost.set(reason, (this.lost.get(reason) ?? 0) + count),
    });
  }
}

async function untilEmpty(spool: Spool<number>): Promise<void> {
  while (spool.state.memoryCount + spool.state.diskCount > 0) await Bun.sleep(1);
}

const range = (from: number, to: number): number[] => Array.from({ length: to - from }, (_, i) => from + i);

describe("a spool", () => {
  test("sends what comes together in one batch, up to its size, and nothing twice", async () => {
    const receiver = new Receiver();
    const spool = await receiver.open(newPath(), { spillMs: 60_000 });
    for (const item of range(0, 25)) spool.put(item);
    await untilEmpty(spool);
    expect(receiver.batches.map(({ length }) => length)).toEqual([10, 10, 5]);
    expect(receiver.items).toEqual(range(0, 25));
    expect(spool.state).toMatchObject({ sentCount: 25, lostCount: 0, failureCount: 0, fault: "", diskBytes: 0 });
    await spool.stop(100);
  });

  test("keeps on disk what a receiver that is away should have, and sends it in order when that is back", async () => {
    const receiver = new Receiver();
    receiver.mode = "fails";
    const spool = await receiver.open(newPath(), { countMax: 50 });
    for (const item of range(0, 40)) spool.put(item);
    while (spool.state.diskCount < 40) await Bun.sleep(1);
    for (const item of range(40, 80)) spool.put(item);
    while (spool.state.diskCount < 80) await Bun.sleep(1);
    expect(spool.state).toMatchObject({ memoryCount: 0, diskBytes: 800, fault: "away" });
    expect(spool.state.failingMs).toBeGreaterThan(0);
    receiver.mode = "takes";
    for (const item of range(80, 100)) spool.put(item);
    await untilEmpty(spool);
    expect(receiver.items).toEqual(range(0, 100));
    await spool.stop(100);
  });

  test("with spillMs 0 writes what comes as it comes, however long a batch may wait for others", async () => {
    const receiver = new Receiver();
    receiver.mode = "hangs";
    const spool = await receiver.open(newPath(), { spillMs: 0, lingerMs: 2000, batchCountMax: 1000 });
    const startMs = performance.now();
    for (const count of [7, 20, 21]) {
      for (let item = spool.state.diskCount; item < count; item++) spool.put(item);
      for (const endMs = performance.now() + 5000; spool.state.diskCount < count && performance.now() < endMs;)
        await Bun.sleep(1);
      expect(spool.state).toMatchObject({ memoryCount: 0, diskCount: count });
    }
    expect(performance.now() - startMs).toBeLessThan(1500);
    receiver.mode = "takes";
    await untilEmpty(spool);
    await spool.stop(1000);
    expect(receiver.items).toEqual(Array.from({ length: 21 }, (_, i) => i));
  });

  test("writes to disk at its end what it could not send, and sends that at the next start", async () => {
    const path = newPath();
    const receiver = new Receiver();
    const hanging = await receiver.open(path, { spillMs: 60_000, deadlineMs: 60_000 });
    receiver.mode = "hangs";
    for (const item of range(0, 30)) hanging.put(item);
    await hanging.stop(10);
    receiver.mode = "takes";
    const again = await receiver.open(path);
    expect(again.state.diskCount).toBe(30);
    again.put(30);
    await untilEmpty(again);
    await again.stop(100);
    expect(receiver.items).toEqual(range(0, 31));
  });

  test("sends at its end what is left, where the receiver takes it", async () => {
    const receiver = new Receiver();
    const spool = await receiver.open(newPath(), { lingerMs: 60_000, spillMs: 60_000 });
    for (const item of range(0, 7)) spool.put(item);
    await spool.stop(1000);
    expect(receiver.batches).toEqual([range(0, 7)]);
  });

  test("loses what is beyond memory and disk, the latest, and counts it", async () => {
    const receiver = new Receiver();
    receiver.mode = "fails";
    const spool = await receiver.open(newPath(), { countMax: 20, diskBytesMax: 300 });
    for (const item of range(0, 20)) spool.put(item);
    while (spool.state.diskCount < 20) await Bun.sleep(1);
    for (const item of range(20, 60)) spool.put(item);
    while (spool.state.diskCount < 30) await Bun.sleep(1);
    for (const item of range(100, 120)) spool.put(item);
    expect(spool.state).toMatchObject({ memoryCount: 20, diskCount: 30, lostCount: 30 });
    receiver.mode = "takes";
    await untilEmpty(spool);
    expect(receiver.items).toEqual([...range(0, 40), ...range(100, 110)]);
    expect([...receiver.lost]).toEqual([["queue_full", 30]]);
    await spool.stop(100);
  });

  test("finds the one item that is refused, and goes on without it", async () => {
    const receiver = new Receiver();
    receiver.isRefused = (item) => item === 13 || item === 14;
    const spool = await receiver.open(newPath());
    for (const item of range(0, 50)) spool.put(item);
    await untilEmpty(spool);
    expect(receiver.items).toEqual(range(0, 50).filter((item) => !receiver.isRefused(item)));
    expect([...receiver.lost]).toEqual([["refused", 2]]);
    await spool.stop(100);
  });

  const step = fc.oneof(
    { weight: 5, arbitrary: fc.record({ kind: fc.constant("put" as const), count: fc.integer({ min: 1, max: 60 }) }) },
    {
      weight: 3,
      arbitrary: fc.record({ kind: fc.constantFrom("takes" as const, "fails" as const, "hangs" as const) }),
    },
    { weight: 3, arbitrary: fc.record({ kind: fc.constant("wait" as const), ms: fc.integer({ min: 0, max: 15 }) }) },
    { weight: 1, arbitrary: fc.record({ kind: fc.constant("restart" as const) }) },
  );

  test("whatever happens: each item arrives, in order, or is counted as lost; repeats only after a failure", async () => {
    const property = fc.asyncProperty(fc.array(step, { maxLength: 25 }), fc.boolean(), async (steps, isTight) => {
      const limits = isTight ? { countMax: 30, diskBytesMax: 400 } : {};
      const path = newPath();
      const receiver = new Receiver();
      receiver.isRefused = (item) => item % 11 === 5;
      let spool = await receiver.open(path, limits);
      let next = 0;
      for (const step of steps) {
        if (step.kind === "put") for (let i = 0; i < step.count; i++) spool.put(next++);
        else if (step.kind === "wait") await Bun.sleep(step.ms);
        else if (step.kind !== "restart") receiver.mode = step.kind;
        else {
          await spool.stop(5);
          spool = await receiver.open(path, limits);
        }
      }
      receiver.mode = "takes";
      await untilEmpty(spool);
      await spool.stop(100);
      const firsts = [...new Set(receiver.items)];
      expect(firsts).toEqual(firsts.toSorted((a, b) => a - b));
      expect(firsts.filter(receiver.isRefused)).toEqual([]);
      const lost = [...receiver.lost.values()].reduce((sum, count) => sum + count, 0);
      expect(firsts.length + lost).toBe(next);
      if (!isTight) expect([...receiver.lost.keys()].filter((reason) => reason !== "refused")).toEqual([]);
      if (steps.every(({ kind }) => kind === "put" || kind === "wait" || kind === "takes"))
        expect(receiver.items.length).toBe(firsts.length);
    });
    await checkAsync(property, rounds(15, 60, 500));
  }, 60_000);
});

async function run(args: readonly string[], env: Record<string, string> = {}): Promise<string[]> {
  const child = Bun.spawn([process.execPath, join(import.meta.dir, "spool-child.ts"), ...args], {
    stdout: "pipe",
    stderr: "inherit",
    env: { ...process.env, ...env },
  });
  return (await new Response(child.stdout).text()).trim().split("\n");
}

const sentBy = (lines: readonly string[]): number[] =>
  lines.flatMap((line) => (line.startsWith("sent ") ? [Number(line.slice(5))] : []));

describe("a spool in a process of its own", () => {
  test("killed: what it had on disk is sent by the next one, in order and without a gap", async () => {
    for (let round = 0; round < rounds(1, 3, 20); round++) {
      const path = newPath();
      const child = Bun.spawn([process.execPath, join(import.meta.dir, "spool-child.ts"), "fill", path], {
        stdout: "pipe",
      });
      let kept = 0;
      let rest = "";
      for await (const chunk of child.stdout) {
        const lines = (rest + Buffer.from(chunk).toString()).split("\n");
        rest = lines.pop()!;
        for (const line of lines) kept = Number(line.slice(5));
        if (kept > 300) break;
      }
      child.kill("SIGKILL");
      await child.exited;
      const sent = sentBy(await run(["drain", path]));
      expect(sent.length).toBeGreaterThanOrEqual(kept);
      expect(sent).toEqual(range(0, sent.length));
    }
  }, 60_000);

  const missing = shimMissing();
  test.skipIf(missing !== undefined)(
    `on a full disk: memory holds what it can, the rest is counted ${missing ?? ""}`,
    async () => {
      const dir = mkdtempSync(join(folder, "full-"));
      const control = join(folder, "control");
      const env = shimEnvironment({ dir, journal: join(folder, "shim-journal"), control });
      const lines = await run(["full", join(dir, "spool.db"), control], env);
      const sent = sentBy(lines);
      const lost = Number(lines.find((line) => line.startsWith("lost "))?.slice(5));
      expect(lines.at(-1)).toBe("end");
      expect(lost).toBe(100);
      expect(sent).toEqual([...range(0, 220), 999]);
    },
    30_000,
  );
});
