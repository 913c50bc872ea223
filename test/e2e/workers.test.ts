// Several worker processes as one broker, seen by clients: what belongs to different workers meets, workers die and come back.

import { afterAll, describe, expect, test } from "bun:test";
import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { socketControl } from "#admin/socket-control.ts";
import { homeOf } from "#fabric/home.ts";
import { type BrokerProcess, startBroker } from "#test/support/broker-process.ts";
import type { RawClient } from "#test/support/client.ts";
import { type Harness, harnessOf, tcpTarget } from "#test/support/harness.ts";
import type { Properties, PublishPacket } from "#test/support/packets.ts";

const WORKERS = 3;
const TIMEOUT_MS = 120_000;
const folder = mkdtempSync(join(tmpdir(), "mantou-workers-"));
afterAll(() => rmSync(folder, { recursive: true }));

const names = new WeakMap<RawClient, string>();
const stays: Properties = [["sessionExpiryIntervalSec", 1000]];

interface Page {
  readonly items: readonly { readonly clientId: string }[];
}

/** Processes that the keeper has started. */
function workersOf({ pid }: BrokerProcess): number[] {
  return readFileSync(`/proc/${pid}/task/${pid}/children`, "utf8").trim().split(" ").map(Number);
}

async function until(isTrue: () => boolean | Promise<boolean>, what: string, waitMs = 30_000): Promise<void> {
  const deadlineMs = performance.now() + waitMs;
  while (!(await isTrue())) {
    if (performance.now() > deadlineMs) throw new Error(`not within ${waitMs} ms: ${what}`);
    await Bun.sleep(20);
  }
}

function isAlive(pid: number): boolean {
  try {
    return !readFileSync(`/proc/${pid}/stat`, "utf8").includes(") Z ");
  } catch {
    return false;
  }
}

/** So many clients that every worker has some: each id hashes to one. */
function connectMany(at: Harness, name: string, count: number, properties: Properties = []): Promise<RawClient[]> {
  const ids = Array.from({ length: count }, (_, i) => `${name}-${i}`);
  return Promise.all(
    ids.map(async (clientId) => {
      const client = await at.connect({ clientId, properties });
      names.set(client, clientId);
      return client;
    }),
  );
}

/** The next messages of a client, whichever order they came in. */
async function payloadsOf(client: RawClient, count: number): Promise<string[]> {
  const payloads: string[] = [];
  while (payloads.length < count) {
    const packet: PublishPacket = await client.take("publish", undefined, 10_000);
    payloads.push(new TextDecoder().decode(packet.payload));
    if (packet.qos === 1) client.send({ type: "puback", packetId: packet.packetId! });
  }
  return payloads;
}

describe("one broker", () => {
  test(
    "messages, wildcards, retained values and share groups reach over workers",
    async () => {
      await using broker = await startBroker(["--workers", `${WORKERS}`, "--data", join(folder, "one")]);
      const at = harnessOf(tcpTarget(broker.url));
      const subscribers = await connectMany(at, "subscriber", 9);
      for (const [i, client] of subscribers.entries()) await client.subscribe(i % 2 === 0 ? "site/+/t" : "site/1/t", 1);
      const publishers = await connectMany(at, "publisher", 6);
      for (const [i, client] of publishers.entries()) await client.publish("site/1/t", `${i}`, { qos: 1 });
      const all = publishers.map((_, i) => `${i}`);
      for (const client of subscribers) expect((await payloadsOf(client, 6)).toSorted()).toEqual(all);

      for (const [i, client] of publishers.entries()) await client.publish("state", `${i}`, { qos: 1, retain: true });
      for (const client of subscribers) await client.subscribe("state", 0);
      for (const client of subscribers) {
        const { payload } = await client.take("publish", undefined, 10_000);
        expect(new TextDecoder().decode(payload)).toBe("5");
      }

      for (const client of subscribers) await client.subscribe("$share/crew/job/#", 1);
      const jobs = Array.from({ length: 90 }, (_, i) => `job ${i}`);
      for (const [i, job] of jobs.entries()) await publishers[i % 6]!.publish(`job/${i}`, job, { qos: 1 });
      const done = new Set<string>();
      await until(async () => {
        for (const client of subscribers) {
          for (const packet of await client.settle()) {
            if (packet.type !== "publish") continue;
            const job = new TextDecoder().decode(packet.payload);
            if (packet.qos === 1) client.send({ type: "puback", packetId: packet.packetId! });
            expect(done.has(job)).toBe(false);
            done.add(job);
          }
        }
        return done.size === jobs.length;
      }, "every job is somebody's");
      await at.stop();
      await broker.stop();
    },
    TIMEOUT_MS,
  );

  test(
    "a share group passes by members that are away, wherever they are",
    async () => {
      await using broker = await startBroker(["--workers", `${WORKERS}`, "--set", "store.type=memory"]);
      const at = harnessOf(tcpTarget(broker.url));
      const members = await connectMany(at, "member", 9, stays);
      for (const member of members) await member.subscribe("$share/crew/job", 1);
      const publishers = await connectMany(at, "boss", 6);
      const [present, ...others] = members as [RawClient, ...RawClient[]];
      for (const other of others) other.kill();
      const get = async (): Promise<Page> => {
        const unix = join(broker.cwd, "data/admin.sock");
        return (await (await fetch("http://admin/api/v1/clients?clientIdPrefix=member", { unix })).json()) as Page;
      };
      await until(async () => (await get()).items.length === 1, "the others are away");
      const jobs = Array.from({ length: 60 }, (_, i) => `job ${i}`);
      for (const [i, job] of jobs.entries()) await publishers[i % 6]!.publish("job", job, { qos: 1 });
      expect((await payloadsOf(present, jobs.length)).toSorted()).toEqual(jobs.toSorted());
      await at.stop();
      await broker.stop();
    },
    TIMEOUT_MS,
  );

  test(
    "a client id has one session, whichever worker its socket comes to",
    async () => {
      await using broker = await startBroker(["--workers", `${WORKERS}`, "--set", "store.type=memory"]);
      const at = harnessOf(tcpTarget(broker.url));
      for (let round = 0; round < 8; round++) {
        const first = await at.connect({ clientId: `c-${round}`, properties: stays });
        await first.subscribe("t", 1);
        const second = await at.connect({ clientId: `c-${round}`, cleanStart: false, properties: stays });
        await first.expectDisconnect(0x8e);
        const third = await at.open();
        const connack = await third.connect({ clientId: `c-${round}`, cleanStart: false, properties: stays });
        expect(connack.sessionPresent).toBe(true);
        await second.expectDisconnect(0x8e);
        third.kill();
      }
      const stranger = await at.open();
      stranger.send({ type: "connect", clientId: "$worker/1" });
      await stranger.expectRejected(0x85);
      await at.stop();
      await broker.stop();
    },
    TIMEOUT_MS,
  );

  test(
    "will, takeover of a name the broker gave, and keep-alive work for relayed clients",
    async () => {
      await using broker = await startBroker(["--workers", `${WORKERS}`, "--set", "store.type=memory"]);
      const at = harnessOf(tcpTarget(broker.url));
      const heirs = await connectMany(at, "heir", 6);
      for (const client of heirs) await client.subscribe("will/#", 0);
      for (let i = 0; i < 6; i++) {
        const mortal = await at.open();
        await mortal.connect({ clientId: `mortal-${i}`, will: { topic: `will/${i}`, payload: "gone", qos: 0 } });
        mortal.kill();
        for (const heir of heirs) await heir.expect("publish", { topic: `will/${i}`, payload: "gone" });
      }
      const silent = await at.connect({ clientId: "silent", keepAliveSec: 1 });
      expect((await silent.take("disconnect", undefined, 10_000)).reasonCode).toBe(0x8d);
      const nameless = await at.open();
      const connack = await nameless.connect({ clientId: "" });
      const given = connack.properties!.find(([name]) => name === "assignedClientIdentifier")?.[1];
      expect(given).toStartWith("mantou_");
      const heir = await at.connect({ clientId: given as string, cleanStart: false });
      await nameless.expectDisconnect(0x8e);
      heir.kill();
      await at.stop();
      await broker.stop();
    },
    TIMEOUT_MS,
  );
});

describe("exclusive subscriptions", () => {
  test(
    "have one holder over all workers, which holds them again after a worker's and the broker's end",
    async () => {
      const flags = ["--workers", `${WORKERS}`, "--data", join(folder, "exclusive")];
      const on = [...flags, "--set", "modules.exclusive.enabled=true"];
      const ask = async (client: RawClient): Promise<number> =>
        (await client.subscribe("$exclusive/t", 1)).reasonCodes[0]!;
      const askAll = (clients: RawClient[]): Promise<number[]> => Promise.all(clients.map(ask));
      {
        await using broker = await startBroker(on);
        const at = harnessOf(tcpTarget(broker.url));
        const brief = await connectMany(at, "brief", 9);
        const [lasting] = (await connectMany(at, "lasting", 1, stays)) as [RawClient];
        for (let round = 0; round < 5; round++) {
          const codes = await askAll(brief); // all at once
          expect(codes.filter((code) => code === 1)).toHaveLength(1);
          const holder = brief[codes.indexOf(1)]!;
          expect((await askAll(brief)).indexOf(1)).toBe(codes.indexOf(1));
          await holder.unsubscribe("$exclusive/t");
        }
        const [last] = brief as [RawClient];
        expect(await ask(last)).toBe(1);
        for (const pid of workersOf(broker)) process.kill(pid, "SIGKILL"); // nothing is told of its end
        const backCount = (): number => broker.output().split("the worker is back").length - 1;
        await until(() => backCount() === WORKERS, "all workers are back");
        const holder = await reconnect(at, lasting);
        const others = await Promise.all(brief.slice(1, 4).map((client) => reconnect(at, client)));
        await until(async () => (await ask(holder)) === 1, "the holder that is gone does not hold it");
        expect(await askAll(others)).toEqual([0x97, 0x97, 0x97]);
        holder.kill();
        expect(await askAll(others)).toEqual([0x97, 0x97, 0x97]);
        await at.stop();
        await broker.kill();
      }
      await using broker = await startBroker(on);
      const at = harnessOf(tcpTarget(broker.url));
      const others = await connectMany(at, "other", 6);
      expect(new Set(await askAll(others))).toEqual(new Set([0x97]));
      const back = await at.connect({ clientId: "lasting-0", cleanStart: false, properties: stays });
      await others[0]!.publish("t", "for the holder", { qos: 1 });
      expect(await payloadsOf(back, 1)).toEqual(["for the holder"]);
      await back.disconnect({ properties: [["sessionExpiryIntervalSec", 0]] });
      await until(async () => (await ask(others[1]!)) === 1, "it is free when the session has ended");
      await at.stop();
      await broker.stop();
    },
    TIMEOUT_MS,
  );
});

describe("trouble", () => {
  test(
    "a worker that is killed comes back with what was acknowledged, and the others go on",
    async () => {
      await using broker = await startBroker(["--workers", `${WORKERS}`, "--data", join(folder, "killed")]);
      const at = harnessOf(tcpTarget(broker.url));
      const clients = await connectMany(at, "keeps", 6, stays);
      for (const client of clients) await client.subscribe("k/#", 1);
      const publishers = await connectMany(at, "tells", 6, stays);
      const acknowledged: string[] = [];
      const [first, second] = workersOf(broker);
      for (let i = 0; i < 120; i++) {
        if (i === 30) process.kill(first!, "SIGKILL");
        if (i === 70) process.kill(second!, "SIGKILL");
        const turn = i % publishers.length;
        if (publishers[turn]!.isClosed) publishers[turn] = await reconnect(at, publishers[turn]!);
        const publisher = publishers[turn]!;
        try {
          await publisher.publish("k/x", `${i}`, { qos: 1 });
          acknowledged.push(`${i}`);
        } catch {
          // its worker was killed: it does not know
        }
      }
      expect(acknowledged.length).toBeGreaterThan(60);
      await until(() => workersOf(broker).filter(isAlive).length === WORKERS, "all workers are back");
      for (const client of clients) {
        const received = new Set<string>();
        const again = await reconnect(at, client);
        await until(async () => {
          for (const packet of await again.settle()) {
            if (packet.type !== "publish") continue;
            received.add(new TextDecoder().decode(packet.payload));
            if (packet.qos === 1) again.send({ type: "puback", packetId: packet.packetId! });
          }
          return acknowledged.every((payload) => received.has(payload));
        }, `${acknowledged.length} acknowledged messages`);
      }
      await at.stop();
      await broker.stop();
    },
    TIMEOUT_MS,
  );

  test(
    "while a worker is away operators see the others, and which is missing",
    async () => {
      const data = join(folder, "seen");
      const flags = ["--workers", `${WORKERS}`, "--data", data, "--set", "modules.sys.intervalSec=0"];
      await using broker = await startBroker(flags);
      const at = harnessOf(tcpTarget(broker.url));
      await connectMany(at, "shown", 12, stays);
      const get = (path: string): Promise<Response> =>
        fetch(`http://admin/api/v1${path}`, { unix: join(data, "admin.sock") });
      const count = async (): Promise<number> => ((await (await get("/sessions")).json()) as Page).items.length;
      expect(await count()).toBe(12);
      process.kill(workersOf(broker)[0]!, "SIGKILL");
      await until(
        async () => (await get("/stats")).headers.get("mantou-missing-workers") === "0",
        "worker 0 is missing",
      );
      const list = await get("/sessions");
      expect([list.status, list.headers.get("mantou-missing-workers")]).toEqual([200, "0"]);
      const { items } = (await list.json()) as Page;
      expect(items.length).toBeGreaterThan(0);
      expect(items.length).toBeLessThan(12);
      expect(await (await get("/broker")).json()).toMatchObject({ missingWorkers: [0] });
      const present = new Set(items.map(({ clientId }) => clientId));
      const absent = Array.from({ length: 12 }, (_, i) => `shown-${i}`).find((clientId) => !present.has(clientId));
      expect((await get(`/sessions/${absent}`)).status).toBe(503);
      expect((await get(`/sessions/${items[0]!.clientId}`)).status).toBe(200);
      expect((await fetch("http://admin/health/ready", { unix: join(data, "admin.sock") })).status).toBe(200);
      await until(async () => (await count()) === 12, "all are back");
      expect((await get("/sessions")).headers.has("mantou-missing-workers")).toBe(false);
      await at.stop();
      await broker.stop();
    },
    TIMEOUT_MS,
  );

  test(
    "a worker that stands still is missing until it goes on, and holds up nobody's questions or subscriptions",
    async () => {
      const data = join(folder, "still");
      await using broker = await startBroker(["--workers", `${WORKERS}`, "--data", data]);
      const at = harnessOf(tcpTarget(broker.url));
      const clients = await connectMany(at, "still", 12);
      const get = (path: string): Promise<Response> =>
        fetch(`http://admin/api/v1${path}`, { unix: join(data, "admin.sock") });
      const still = workersOf(broker)[1]!;
      process.kill(still, "SIGSTOP");
      try {
        for (const client of clients)
          client.send({ type: "subscribe", packetId: 1, subscriptions: [{ filter: "t", qos: 1 }] });
        // The first asks before anybody knows.
        for (const path of ["/sessions", "/stats"])
          expect((await get(path)).headers.get("mantou-missing-workers")).toBe("1");
        await Promise.any(clients.map((client) => client.take("suback", undefined, 30_000)));
      } finally {
        process.kill(still, "SIGCONT");
      }
      await until(async () => !(await get("/stats")).headers.has("mantou-missing-workers"), "it is there again");
      await at.stop();
      await broker.stop();
    },
    TIMEOUT_MS,
  );

  test(
    "a keeper that is killed takes its workers along within a second, and the data is free",
    async () => {
      const data = join(folder, "orphans");
      await using broker = await startBroker(["--workers", `${WORKERS}`, "--data", data]);
      const workers = workersOf(broker);
      expect(workers).toHaveLength(WORKERS);
      await broker.kill();
      await until(() => !workers.some(isAlive), "the workers are gone", 3000);
      await using again = await startBroker(["--workers", `${WORKERS}`, "--data", data]);
      await again.stop();
      expect(readdirSync(data).toSorted()).toContain("worker-2");
    },
    TIMEOUT_MS,
  );

  test(
    "a taken port, a taken directory and another number of workers are refused in one line",
    async () => {
      const data = join(folder, "taken");
      await using broker = await startBroker(["--workers", `${WORKERS}`, "--data", data]);
      const refusal = async (...flags: string[]): Promise<string> => {
        try {
          await using other = await startBroker(flags);
          return `started at ${other.url}`;
        } catch (error) {
          return (error as Error).message;
        }
      };
      const elsewhere = join(folder, "elsewhere");
      const sameAddress = ["--listen", `tcp://127.0.0.1:${broker.port}`, "--data", elsewhere];
      expect(await refusal(...sameAddress)).toContain("is in use by another process");
      const others = join(folder, "others");
      expect(await refusal("--workers", "2", ...sameAddress, "--data", others)).toContain(
        "is in use by another process",
      );
      expect(await refusal("--workers", "2", "--data", data)).toContain("is in use");
      const lost = await refusal("--workers", "2", "--data", "/proc/nowhere");
      expect(lost).toContain("the store in /proc/nowhere cannot be written: ENOENT");
      expect(lost).not.toContain("a bug");
      await broker.stop();
    },
    TIMEOUT_MS,
  );
});

/** The client's session again; its worker may be starting. */
async function reconnect(at: Harness, client: RawClient): Promise<RawClient> {
  client.kill();
  const deadlineMs = performance.now() + 30_000;
  for (;;) {
    const again = await at.open();
    try {
      const { reasonCode } = await again.connect({
        clientId: names.get(client)!,
        cleanStart: false,
        properties: stays,
      });
      names.set(again, names.get(client)!);
      if (reasonCode === 0) return again;
    } catch (error) {
      if (performance.now() > deadlineMs) throw error;
    }
    await Bun.sleep(50);
  }
}

test(
  "who guesses passwords in one worker has to wait in the others too",
  async () => {
    const file = "alice:wonder\n";
    const users = "{ type: user-file, file: passwd, password: { algorithm: plain } }";
    const access = `access={ authenticate: [${users}], failureCountMax: 30, failureDelaySecMax: 1 }`;
    await using broker = await startBroker(["--workers", "2", "--set", "store.type=memory", "--set", access], {
      files: { passwd: file },
    });
    const at = harnessOf(tcpTarget(broker.url));
    const control = socketControl(join(broker.cwd, "data/admin.sock"));
    const ids = Array.from({ length: 200 }, (_, i) => `guess-${i}`);
    const idsOf = (node: number): string[] =>
      ids.filter((clientId) => homeOf(Buffer.from(clientId), { count: 2, seed: 1 }) === node);
    const guess = async (clientId: string): Promise<void> => {
      const client = await at.open(5);
      client.send({ type: "connect", clientId, username: "alice", password: "no" });
      await client.expect("connack", { reasonCode: 0x86 }, 30_000); // it may have to wait
      client.kill();
    };
    for (const clientId of idsOf(0).slice(0, 31)) await guess(clientId);
    const others = idsOf(1).slice(0, 30);
    await until(async () => {
      const clientId = others.pop();
      if (clientId === undefined) throw new Error("thirty guesses in the other worker, and nobody waits");
      await guess(clientId);
      return (await control("access.show", {})).counts["delayed"]! > 0;
    }, "a guess in the other worker waits");
    await at.stop();
    await broker.stop();
  },
  TIMEOUT_MS,
);
