/** The benches of access control: that they run, small, with access really on, and that their checks find what they look for. */
import { afterAll, describe, expect, test } from "bun:test";
import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseYamlRules } from "#access/acl-yaml.ts";
import { LOGIN, RULES, servicePort, SLOW_LOGIN, writeAccess } from "#bench/compare/access-files.ts";
import { type Broker, find, startBroker } from "#bench/compare/brokers.ts";
import { generatorOf } from "#bench/compare/generators.ts";
import { LoopLag, takeLagOf } from "#bench/compare/loop-lag.ts";
import { places } from "#bench/compare/rotation.ts";
import { formatMetric } from "#bench/compare/verdict.ts";
import { scenarioOf } from "#bench/scenarios/catalog.ts";
import { Bystanders } from "#bench/scenarios/clients/bystanders.ts";
import { Connection, GaveUpError, RefusedError } from "#bench/scenarios/clients/connection.ts";
import { LoginService } from "#bench/scenarios/clients/login-service.ts";
import { publishFrame } from "#bench/scenarios/clients/packets.ts";
import { Logins } from "#bench/scenarios/clients/logins.ts";
import type { AccessKind, Part } from "#bench/scenarios/scenario.ts";
import { smallRun } from "#test/support/bench-run.ts";

const RUN_MS = 60_000;
const folder = mkdtempSync(join(tmpdir(), "mantou-access-bench-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const PUBACK = 4;
const NOT_AUTHORIZED = 0x87;
const SERVER_BUSY = 0x89;
const quiet = { onPacket: () => {} };

/** Answers every CONNECT of 5.0 with what `codeOf` says, or not at all. */
function server(codeOf: (count: number) => number | undefined) {
  let count = 0;
  return Bun.listen({
    hostname: "127.0.0.1",
    port: 0,
    socket: {
      data(socket, chunk) {
        if (chunk[0] >> 4 !== 1) return;
        const code = codeOf(count++);
        if (code === undefined) return;
        socket.write(Buffer.from([0x20, 3, 0, code, 0]));
        if (code >= 0x80) socket.end();
      },
    },
  });
}

async function until(isTrue: () => boolean): Promise<void> {
  for (const end = performance.now() + 10_000; !isTrue(); await Bun.sleep(2))
    if (performance.now() > end) throw new Error("it did not come true");
}

describe("a client that logs in", () => {
  test("hears the reason of a refusal, and gives up when there is no answer", async () => {
    using busy = server(() => SERVER_BUSY);
    const login = Connection.open({ port: busy.port, clientId: "a", version: 5, ...quiet });
    const refusal = await login.catch((error: unknown) => error);
    expect(refusal).toBeInstanceOf(RefusedError);
    expect((refusal as RefusedError).code).toBe(SERVER_BUSY);
    using mute = server(() => undefined);
    const silent = Connection.open({ port: mute.port, clientId: "a", version: 5, patienceMs: 20, ...quiet });
    expect(await silent.catch((error: unknown) => error)).toBeInstanceOf(GaveUpError);
  });

  test("comes again when the server was busy, and is counted for what it was told", async () => {
    using some = server((count) => (count < 2 ? SERVER_BUSY : count === 2 ? 0x88 : count === 3 ? NOT_AUTHORIZED : 0));
    const logins = new Logins({
      port: some.port,
      clients: 1,
      arrivalMs: 0,
      isStaying: true,
      retryMs: 1,
      patienceMs: 0,
    });
    logins.start();
    await logins.nextAccepted();
    const { accepted, busy, unavailable, latency } = logins.takeCounts();
    expect({ accepted, busy, unavailable, timed: latency.count }).toEqual({
      accepted: 1,
      busy: 2,
      unavailable: 1,
      timed: 1,
    });
    expect(logins.faults()).toEqual(["1 logins: refused with 0x87"]);
    await until(() => logins.unansweredCount === 0);
    expect(logins.takeCounts().accepted).toBe(0);
  });

  test("is missed when the server ends the connection that it had accepted", async () => {
    using cruel = Bun.listen({
      hostname: "127.0.0.1",
      port: 0,
      socket: { data: (socket) => void socket.end(Buffer.from([0x20, 3, 0, 0, 0])) },
    });
    const logins = new Logins({
      port: cruel.port,
      clients: 1,
      arrivalMs: 0,
      isStaying: true,
      retryMs: 1,
      patienceMs: 0,
    });
    logins.start();
    await until(() => logins.faults().length > 0);
    expect(logins.faults()).toEqual(["1 logins: lost their connection"]);
  });
});

test("a loop that stands still is late for as long as it does", async () => {
  const lag = new LoopLag();
  await Bun.sleep(20);
  lag.take();
  await Bun.sleep(300); // so that one late timer is less than a hundredth of all
  for (const end = performance.now() + 120; performance.now() < end;);
  await Bun.sleep(5);
  const { p99Us, maxUs } = lag.take();
  expect(maxUs).toBeGreaterThan(110_000);
  expect(p99Us).toBeGreaterThan(60_000);
});

test("a message that is lost, and one that comes twice, are missed", async () => {
  let subscriber: { write(bytes: Uint8Array): number } | undefined;
  let count = 0;
  using sloppy = Bun.listen({
    hostname: "127.0.0.1",
    port: 0,
    socket: {
      data(socket, chunk) {
        if (chunk[0] >> 4 === 1) socket.write(Buffer.from([0x20, 2, 0, 0]));
        if (chunk[0] >> 4 === 8) {
          subscriber = socket;
          socket.write(Buffer.from([0x90, 3, 0, 1, 0]));
        }
        if (chunk[0] >> 4 !== 3) return;
        const bytes = 2 + chunk[1];
        for (let at = 0; at < chunk.length; at += bytes, count++) {
          const copies = [1, 1, 0, 2][count] ?? 1;
          for (let i = 0; i < copies; i++) subscriber!.write(chunk.subarray(at, at + bytes));
        }
      },
    },
  });
  const bystanders = await Bystanders.open(sloppy.port, 1);
  bystanders.start(200);
  await until(() => count > 4);
  expect(await bystanders.stop()).toEqual(["2 out of order"]);
});

test("a service hangs, is gone, and comes back on its port", async () => {
  writeAccess(folder, { kind: "service", guard: { deadlineMs: 100, openMs: 100 } });
  const port = servicePort(folder);
  const service = new LoginService(port, 1);
  const ask = (patienceMs = 5000): Promise<unknown> =>
    fetch(`http://127.0.0.1:${port}/auth`, { method: "POST", signal: AbortSignal.timeout(patienceMs) }).then(
      ({ status }) => status,
      (error: Error) => error.name,
    );
  service.start();
  expect(await ask()).toBe(200);
  service.hang();
  expect(await ask(200)).toBe("TimeoutError");
  service.start();
  expect(await ask()).toBe(200);
  await service.stop();
  expect(await ask()).not.toBe(200);
  service.start();
  expect(await ask()).toBe(200);
  await service.stop();
});

describe("the plan", () => {
  const mantou = find("mantou")!;
  const values = { port: 1, dir: folder, nodelay: false };
  const slow: AccessKind = { kind: "slow password", algorithm: "bcrypt", waitingMax: 7, isCheap: true };

  test("access is for brokers that can, and off unless a part says otherwise", () => {
    const plain: Broker = { name: "plain", version: "1", isOwn: false, command: () => [] };
    const scenario = scenarioOf("access-publish");
    const all = places({ rounds: 1, scenarios: [{ scenario, brokers: [mantou, plain] }] });
    expect(all.filter(({ broker }) => broker === plain).map(({ part }) => part.name)).toEqual([
      "QoS 0, open",
      "QoS 1, open",
    ]);
    expect(all.filter(({ broker }) => broker === mantou)).toHaveLength(4);
    expect(mantou.command(values, "memory")).not.toContain("--config");
    expect(mantou.command(values, "memory", { kind: "files" })).toContain("--config");
    // What is measured for its CPU has no probe in it.
    expect(mantou.command(values, "memory", { kind: "files" })).not.toContain("--preload");
    expect(mantou.command(values, "memory", slow)).toContain("--preload");
  });

  test("generators are told who they are", () => {
    const target = { port: 1, brokerPid: 1, durationSec: 1, warmupSec: 0 };
    const [open, closed] = scenarioOf("access-publish").parts;
    if (open.load.kind !== "flow") throw new Error("a flow");
    expect(generatorOf("own").command(open.load, target)).not.toContain("--username");
    expect(generatorOf("own").command(open.load, { ...target, login: LOGIN })).toContain(LOGIN.username);
    expect(closed.load).toEqual(open.load);
  });

  test("there are twenty rules, and hashes cost what they should", async () => {
    expect(parseYamlRules(RULES, "rules")).toHaveLength(20);
    const stored = (): string => readFileSync(join(folder, "slow-users"), "utf8").trim().slice("slow:".length);
    writeAccess(folder, { ...slow, isCheap: false });
    expect(stored()).toStartWith("$2b$10$");
    writeAccess(folder, { ...slow, algorithm: "argon2id", isCheap: false });
    expect(stored()).toContain("m=19456,t=2");
    expect(await Bun.password.verify(SLOW_LOGIN.password, stored())).toBeTrue();
    writeAccess(folder, { ...slow, algorithm: "argon2id" });
    expect(stored()).not.toContain("m=19456");
    expect(formatMetric("unansweredCount", 1030)).toBe("1.03 k");
  });
});

describe("small", () => {
  /** Later options win. */
  const withArgs = ({ load }: Part, text: string): Pick<Part, "load"> => {
    if (load.kind !== "client") throw new Error("a client");
    return { load: { ...load, args: [...load.args, ...text.split(" ")] } };
  };

  test(
    "authorized messages come through, and nobody without a name or with another topic",
    async () => {
      const { metrics } = await smallRun("access-publish", "QoS 1", ({ load }) => {
        if (load.kind !== "flow") throw new Error("a flow");
        return { load: { ...load, publishers: 2, subscribers: 2 } };
      });
      expect(metrics.messagesPerSec).toBeGreaterThan(0);
      const setup = { nodelay: false, store: "memory", hasAllCores: false, countsSyncs: false } as const;
      const broker = await startBroker(find("mantou")!, { ...setup, access: { kind: "files" } });
      try {
        const { port } = broker;
        const stranger = Connection.open({ port, clientId: "a", version: 5, ...quiet });
        expect(((await stranger.catch((error: unknown) => error)) as RefusedError).code).toBe(NOT_AUTHORIZED);
        const refused = Promise.withResolvers<number>();
        const onPacket = (_: Connection, first: number, bytes: Buffer, from: number): void => {
          if (first >> 4 === PUBACK) refused.resolve(bytes[from + 2]);
        };
        const known = await Connection.open({ port, clientId: "b", version: 5, login: LOGIN, onPacket });
        const frame = publishFrame("elsewhere", { version: 5, qos: 1, payloadBytes: 8 });
        frame.bytes.writeUInt16BE(1, frame.packetIdAt);
        known.send(frame.bytes);
        expect(await refused.promise).toBe(NOT_AUTHORIZED);
        const bystanders = await Bystanders.open(port, 2);
        bystanders.start(200);
        await Bun.sleep(50);
        expect(await bystanders.stop()).toEqual([]);
        expect(bystanders.takeLatency().count).toBeGreaterThan(0);
        expect(existsSync(join(broker.dir, "loop-lag.json"))).toBeFalse();
        const noProbe = takeLagOf(broker.process.pid, broker.dir).catch((error: Error) => error.message);
        expect(await noProbe).toContain("no probe");
      } finally {
        await broker.stop();
      }
    },
    RUN_MS,
  );

  test.each(["argon2id", "bcrypt"] as const)(
    "a storm of %s: some are let in, others told to come again",
    async (algorithm) => {
      // The broker lets 4 wait; on a loaded machine many more are on the way, but never nearly all.
      const args =
        "--clients 60 --waiting 40 --pairs 2 --rate 100 --calm 0.2 --arrival 0 --onset 0.4 --storm 0.4 --retry 0.05";
      const { metrics } = await smallRun("access-storm", algorithm, (part) => ({
        ...withArgs(part, args),
        access: { kind: "slow password", algorithm, waitingMax: 4, isCheap: true },
      }));
      expect(metrics.lagP99Us).toBeGreaterThan(0);
      expect(metrics.p99Us).toBeGreaterThan(0);
      expect(metrics.unansweredCount).toBeLessThan(60);
    },
    RUN_MS,
  );

  test(
    "a service that hangs or goes, and comes back",
    async () => {
      const small = "--clients 20 --pairs 2 --rate 100 --calm 0.1 --arrival 0 --retry 0.1";
      const access: AccessKind = { kind: "service", guard: { deadlineMs: 200, openMs: 100 } };
      const hung = await smallRun("access-remote", "hangs", (part) => ({
        ...withArgs(part, `${small} --hang 1`),
        access,
      }));
      expect(hung.metrics.loginsPerSec).toBeGreaterThan(0);
      expect(hung.metrics.unavailablePerSec).toBeGreaterThan(0);
      expect(hung.metrics.recoveredUs).toBeGreaterThanOrEqual(hung.metrics.firstLoginUs!);
      const gone = await smallRun("access-remote", "gone", (part) => ({
        ...withArgs(part, `${small} --stop 1`),
        access,
      }));
      expect(gone.metrics.unavailablePerSec).toBeGreaterThan(0);
      expect(gone.metrics.recoveredUs).toBeGreaterThan(0);
    },
    RUN_MS,
  );
});
