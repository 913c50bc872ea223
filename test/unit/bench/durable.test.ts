/** The benches of the durable store: what their checks find, what they read from outside, and that each runs, small. */
import { afterAll, describe, expect, test } from "bun:test";
import { Database } from "bun:sqlite";
import { existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type Broker, ofCheckout } from "#bench/compare/brokers.ts";
import { fileBytes, isInMemory, peakRssBytes, storeNumbers, syncCount, writtenBytes } from "#bench/compare/disk.ts";
import type { Run } from "#bench/compare/measure.ts";
import { atPace, places, type Recorded } from "#bench/compare/rotation.ts";
import { Sessions } from "#bench/scenarios/clients/sessions.ts";
import { publishFrame } from "#bench/scenarios/clients/packets.ts";
import { scenarioOf } from "#bench/scenarios/catalog.ts";
import type { Part } from "#bench/scenarios/scenario.ts";
import { smallRun } from "#test/support/bench-run.ts";

const RUN_MS = 60_000;
const folder = mkdtempSync(join(tmpdir(), "mantou-durable-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** One session, two publishers of which the first is sent by the server as numbered; 3 messages each would be all. */
async function faultsOf(numbers: readonly number[], hasSession = true): Promise<string[]> {
  const frame = publishFrame("kept/000000", { version: 4, qos: 1, payloadBytes: 16 });
  using server = Bun.listen({
    hostname: "127.0.0.1",
    port: 0,
    socket: {
      data(socket, chunk) {
        if (chunk[0] >> 4 !== 1) return;
        socket.write(Buffer.from([0x20, 2, hasSession ? 1 : 0, 0]));
        for (const number of numbers) {
          const bytes = Buffer.from(frame.bytes);
          bytes.writeUInt16BE(number, frame.packetIdAt);
          bytes.fill(0, frame.payloadAt);
          bytes.writeUInt32BE(number, frame.payloadAt + 8);
          socket.write(bytes);
        }
      },
    },
  });
  const sessions = new Sessions(server.port, 1, 2);
  sessions.sent[0] = 3;
  const connection = await sessions.join(0);
  for (const end = performance.now() + 5000; sessions.receivedCount < numbers.length && performance.now() < end;)
    await Bun.sleep(1);
  connection.cut();
  return sessions.faults();
}

describe("what a session that comes back must get", () => {
  test.each([
    ["all, once, in order", [1, 2, 3], []],
    ["none missing", [1, 3], ["1 lost"]],
    ["none twice", [1, 2, 2, 3], ["1 duplicates"]],
    ["none late", [1, 3, 2], ["1 out of order"]],
    ["none that was never sent", [1, 2, 3, 4], ["1 foreign"]],
  ] as const)("%s", async (_, numbers, faults) => {
    expect(await faultsOf(numbers)).toEqual([...faults]);
  });

  test("its session", async () => {
    expect(await faultsOf([1, 2, 3], false)).toEqual(["1 sessions were gone"]);
  });
});

test("each session has a publisher, and each publisher a session", () => {
  for (const [count, publishers] of [
    [1, 3],
    [3, 3],
    [7, 3],
  ]) {
    const sessions = new Sessions(0, count, publishers);
    const all = Array.from({ length: publishers }, (_, publisher) => sessions.sessionsOf(publisher));
    expect(all.every((own) => own.length > 0)).toBeTrue();
    expect(new Set(all.flat()).size).toBe(count);
  }
});

describe("from outside", () => {
  test("files and the store's numbers, while it is open elsewhere", () => {
    expect([fileBytes(folder), storeNumbers(folder), syncCount(folder)]).toEqual([0, undefined, undefined]);
    mkdirSync(join(folder, "data/deeper"), { recursive: true });
    writeFileSync(join(folder, "data/deeper/file"), Buffer.alloc(1000));
    expect(fileBytes(folder)).toBe(1000);
    using db = new Database(join(folder, "data/store.db"));
    db.run("PRAGMA journal_mode = WAL");
    db.run("CREATE TABLE log (batch INTEGER PRIMARY KEY, lastBody INTEGER)");
    expect(storeNumbers(folder)).toEqual({ batches: 0, bodies: 0 });
    db.run("INSERT INTO log VALUES (6, 40), (7, 41)");
    expect(storeNumbers(folder)).toEqual({ batches: 7, bodies: 41 });
  });

  test("syncs, each once however strace cuts it in two", () => {
    const lines = [
      "12 fdatasync(5) = 0",
      "13 fsync(7 <unfinished ...>",
      "12 fdatasync(5) = 0",
      "13 <... fsync resumed>) = 0",
      "+++ exited",
    ];
    writeFileSync(join(folder, "syncs.txt"), lines.join("\n"));
    expect(syncCount(folder)).toBe(3);
  });

  test.skipIf(process.platform !== "linux")("this process", () => {
    expect(writtenBytes([process.pid])).toBeGreaterThanOrEqual(0);
    expect(writtenBytes([2 ** 30])).toBeUndefined();
    expect(peakRssBytes(process.pid)).toBeGreaterThan(1e6);
    expect(isInMemory("/proc")).toBeFalse();
    if (existsSync("/dev/shm")) expect(isInMemory("/dev/shm")).toBeTrue();
  });
});

describe("the plan", () => {
  const mantou = ofCheckout("mantou", join(import.meta.dir, "../../.."));
  const plain: Broker = { name: "plain", version: "1", isOwn: false, command: () => [] };
  const values = { port: 1, dir: "/d", nodelay: false };

  test("our own keeps everything in memory unless a part says otherwise", () => {
    expect(mantou.command(values, "memory")).toContain("store.type=memory");
    expect(mantou.command(values, "normal")).toContain("store.sync=normal");
    expect(mantou.command(values, "normal")).not.toContain("store.type=memory");
    expect(mantou.command(values, "full")).toContain("/d/data");
  });

  test("a part on the disk is for brokers that can", () => {
    const scenario = scenarioOf("durable-offline");
    const all = places({ rounds: 1, scenarios: [{ scenario, brokers: [mantou, plain] }] });
    expect(all.filter(({ broker }) => broker === plain).map(({ part }) => part.name)).toEqual(["memory"]);
    const disk = all.filter(({ broker, part }) => broker === mantou && part.countsSyncs !== true);
    expect(disk.map(({ part }) => part.name)).toEqual(["disk", "disk, without sync", "memory"]);
  });

  test("a rate is taken from the valid run of the same round and broker, or there is none", () => {
    const scenario = scenarioOf("durable-latency");
    const part = (name: string): Part => scenario.parts.find((one) => one.name === name)!;
    const base: Recorded = {
      scenario: scenario.name,
      part: "absent, full, most",
      broker: "mantou",
      round: 2,
      startedAt: "",
      isDisturbed: false,
      isKept: true,
      metrics: { acknowledgedPerSec: 81_001 },
      faults: [],
    };
    const at = (name: string, runs: Recorded[]) =>
      atPace({ scenario, part: part(name), broker: mantou, round: 2 }, runs);
    const first: Recorded = { ...base, round: 1, metrics: { acknowledgedPerSec: 1 } };
    expect(at("absent, memory", [first, base]).part.load).toMatchObject({
      args: expect.arrayContaining(["--rate", "40501"]),
    });
    expect(at("absent, memory", [first]).why).toContain("no valid run of absent, full, most");
    expect(at("absent, full", [{ ...base, faults: ["1 lost"] }]).why).toBeDefined();
    const online = { ...base, part: "online, full, most", metrics: { messagesPerSec: 100 } };
    expect(at("online, memory", [online]).part.load).toMatchObject({ ratePerSec: 50 });
    expect(at("online, full, most", [online]).part).toBe(part("online, full, most"));
  });
});

describe("small", () => {
  const small = "--sessions 6 --publishers 3 --messages 600 --payload 64 --shrink 0.1".split(" ");
  const without = (names: readonly string[]): string[] =>
    small.filter((word, i) => !names.includes(word) && !names.includes(small[i - 1]));

  const run = (scenarioName: string, partName: string, rest: readonly string[] = []): Promise<Run> =>
    smallRun(scenarioName, partName, ({ load }) => ({
      load: load.kind === "client" ? { ...load, args: [...load.args, ...rest] } : load,
    }));

  test(
    "online pairs: of the messages some are written, or none",
    async () => {
      const { metrics } = await run("durable-online", "disk");
      expect(metrics.messagesPerSec).toBeGreaterThan(0);
      expect(metrics.writtenPct).toBeGreaterThanOrEqual(0);
      expect(metrics.writtenPct).toBeLessThanOrEqual(100);
    },
    RUN_MS,
  );

  test(
    "absent receivers: on disk with what it takes there, in memory without",
    async () => {
      const absent = without(["--messages", "--shrink"]);
      const disk = await run("durable-offline", "disk", absent);
      expect(disk.metrics.acknowledgedPerSec).toBeGreaterThan(0);
      expect(disk.metrics.fileBytesPerMessage).toBeGreaterThan(0);
      expect(disk.metrics.p50Us).toBeUndefined();
      const paced = await run("durable-latency", "absent, memory", [...absent, "--rate", "200"]);
      expect(paced.metrics.p50Us).toBeGreaterThan(0);
      expect(paced.metrics.fileBytesPerMessage).toBeUndefined();
    },
    RUN_MS,
  );

  test(
    "a backlog: fetched by the same broker, and by the one after a kill -9",
    async () => {
      const drain = await run("durable-drain", "disk", without(["--sessions"]));
      expect(drain.metrics.messagesPerSec).toBeGreaterThan(0);
      expect(drain.metrics.listenUs).toBeUndefined();
      const { metrics } = await run("durable-recovery", "disk", small);
      expect(metrics.listenUs).toBeGreaterThan(0);
      expect(metrics.firstMessageUs).toBeGreaterThan(metrics.listenUs!);
      expect(metrics.lastMessageUs).toBeGreaterThanOrEqual(metrics.firstMessageUs!);
      expect(metrics.restingRssBytes).toBeGreaterThan(1e6);
      expect(metrics.fileBytes).toBeGreaterThan(0);
    },
    RUN_MS,
  );
});
