// What a broker keeps, given to another number of workers and back, as its clients see it.

import { afterAll, expect, test } from "bun:test";
import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { startBroker } from "#test/support/broker-process.ts";
import { type Harness, harnessOf, tcpTarget } from "#test/support/harness.ts";
import type { Properties } from "#test/support/packets.ts";

const ENTRY = resolve(import.meta.dir, "../../src/main.ts");
const folder = mkdtempSync(join(tmpdir(), "mantou-spread-"));
afterAll(() => rmSync(folder, { recursive: true }));

const WAITING = 300; // more than a page
const NAMES = ["ann", "bob", "cyd", "dan", "eve"];
/** A busy machine refuses nobody. */
const patient = ["--set", "broker.lagMsMax=600000"];
const stays: Properties = [["sessionExpiryIntervalSec", 10_000]];
const windowOfTwo: Properties = [...stays, ["receiveMaximum", 2]];

function store(...args: string[]): { code: number; out: string; err: string } {
  const { exitCode, stdout, stderr } = Bun.spawnSync([process.execPath, ENTRY, "store", ...args], { stderr: "pipe" });
  return { code: exitCode, out: stdout.toString(), err: stderr.toString() };
}

/** Sessions of every kind; what each has is known by its client's name. */
async function fill(at: Harness): Promise<void> {
  for (const clientId of NAMES) {
    const client = await at.connect({ clientId, properties: windowOfTwo });
    await client.subscribe(`to/${clientId}/#`, 2);
    await client.subscribe("$share/crew/job/+", 1);
    client.kill();
  }
  const speaker = await at.connect({ clientId: "speaker", properties: stays });
  for (const clientId of NAMES) {
    for (let i = 0; i < 4; i++) await speaker.publish(`to/${clientId}/qos2`, `${i}`, { qos: 2 });
    for (let i = 0; i < 2; i++) await speaker.publish(`to/${clientId}/qos1`, `${i}`, { qos: 1 });
    await speaker.publish(`state/${clientId}`, "kept", { qos: 1, retain: true });
  }
  for (let i = 0; i < WAITING; i++)
    speaker.send({ type: "publish", qos: 1, topic: "to/ann/many", payload: `${i}`, packetId: 1000 + i });
  for (let i = 0; i < WAITING; i++) await speaker.take("puback", undefined, 20_000);
  // Received, and not released: the id is known, so a repeat is not routed again.
  speaker.send({ type: "publish", qos: 2, topic: "to/bob/once", payload: "once", packetId: 777 });
  await speaker.expect("pubrec", { packetId: 777 });
  speaker.kill();
  // In flight: the first two, of which the first is past PUBREC.
  for (const clientId of NAMES) {
    const client = await at.connect({ clientId, cleanStart: false, properties: windowOfTwo });
    const first = await client.take("publish");
    await client.take("publish");
    client.send({ type: "pubrec", packetId: first.packetId! });
    await client.expect("pubrel", { packetId: first.packetId! });
    client.kill();
  }
  const mortal = await at.open();
  const will = { topic: "to/cyd/will", payload: "gone", qos: 1 as const, properties: [["willDelayIntervalSec", 600]] };
  await mortal.connect({ clientId: "mortal", properties: stays, will: will as never });
  mortal.kill();
}

/** What the clients find, in their order; nothing is acknowledged. */
async function look(at: Harness): Promise<string[]> {
  const found: string[] = [];
  for (const clientId of NAMES) {
    const client = await at.open();
    const connack = await client.connect({ clientId, cleanStart: false, properties: windowOfTwo });
    expect(connack.sessionPresent).toBe(true);
    for (const packet of await client.settle()) {
      if (packet.type === "publish")
        found.push(
          `${clientId} ${packet.packetId} ${packet.qos} ${packet.topic} ${new TextDecoder().decode(packet.payload)}`,
        );
      else if (packet.type === "pubrel") found.push(`${clientId} ${packet.packetId} pubrel`);
    }
    client.kill();
  }
  const reader = await at.connect({ clientId: "reader" });
  await reader.subscribe("state/#", 0);
  for (let i = 0; i < NAMES.length; i++) {
    const { topic, payload } = await reader.take("publish", undefined, 10_000);
    found.push(`${topic} ${new TextDecoder().decode(payload)}`);
  }
  reader.kill();
  return found.toSorted();
}

/** Takes all that waits, and what is published to the share group now. */
async function drainAll(at: Harness): Promise<void> {
  const speaker = await at.connect({ clientId: "speaker", cleanStart: false, properties: stays });
  speaker.send({ type: "publish", qos: 2, isDup: true, topic: "to/bob/once", payload: "once", packetId: 777 } as never);
  await speaker.expect("pubrec", { packetId: 777 });
  for (let i = 0; i < 30; i++) await speaker.publish(`job/${i}`, `${i}`, { qos: 1 });
  const jobs: string[] = [];
  const texts = new Map<string, string[]>();
  const clients = await Promise.all(
    NAMES.map((clientId) => at.connect({ clientId, cleanStart: false, properties: stays })),
  );
  const deadlineMs = performance.now() + 60_000;
  for (let count = 0; count < WAITING + 1 + 5 * NAMES.length + 30 && performance.now() < deadlineMs;) {
    for (const [i, client] of clients.entries()) {
      const own = texts.get(NAMES[i]!) ?? [];
      texts.set(NAMES[i]!, own);
      for (const packet of await client.settle()) {
        if (packet.type === "pubrel") client.send({ type: "pubcomp", packetId: packet.packetId! });
        if (packet.type !== "publish") continue;
        const text = new TextDecoder().decode(packet.payload);
        if (packet.topic.startsWith("job/")) jobs.push(text);
        else own.push(`${packet.topic.split("/")[2]} ${text}`);
        client.send({ type: packet.qos === 1 ? "puback" : "pubrec", packetId: packet.packetId! });
        count++;
      }
    }
  }
  const first = ["qos2 1", "qos2 2", "qos2 3", "qos1 0", "qos1 1"]; // "qos2 0" was past PUBREC
  expect(texts.get("ann")).toEqual([...first, ...Array.from({ length: WAITING }, (_, i) => `many ${i}`)]);
  expect(texts.get("bob")).toEqual([...first, "once once"]);
  for (const clientId of ["cyd", "dan", "eve"]) expect(texts.get(clientId)).toEqual(first);
  expect(jobs.map(Number).toSorted((a, b) => a - b)).toEqual(Array.from({ length: 30 }, (_, i) => i));
}

test("one process, three workers, two, and one again: every session is the same", async () => {
  const data = join(folder, "data");
  const withBroker = async <T>(workers: number, use: (at: Harness) => Promise<T>): Promise<T> => {
    await using broker = await startBroker(["--workers", `${workers}`, "--data", data, ...patient]);
    const at = harnessOf(tcpTarget(broker.url));
    const result = await use(at);
    await at.stop();
    await broker.stop();
    return result;
  };
  await withBroker(1, fill);
  const first = await withBroker(1, look);
  expect(first).toHaveLength(NAMES.length * 3);

  await expect(startBroker(["--workers", "3", "--data", data])).rejects.toThrow(
    `workers: found 3, allowed: 1, since the data in ${data} is of so many; this changes it: mantou store spread --workers 3 --data ${data}`,
  );
  for (const count of [3, 2]) {
    expect(store("spread", "--workers", `${count}`, "--data", data)).toMatchObject({ code: 0, err: "" });
    expect(store("check", "--data", data)).toMatchObject({ code: 0, err: "" });
    expect(await withBroker(count, look)).toEqual(first);
  }
  await expect(startBroker(["--workers", "1", "--data", data])).rejects.toThrow("workers: found 1, allowed: 2");
  expect(existsSync(join(data, "store.db"))).toBe(false);
  expect(store("spread", "--workers", "1", "--data", data).out).toContain("of 2 workers before, of one process now");
  await withBroker(1, async (at) => {
    expect(await look(at)).toEqual(first);
    await drainAll(at);
  });
}, 240_000);

test("what was published right before a stop is with its sessions when the workers have ended", async () => {
  const data = join(folder, "stopped");
  await using broker = await startBroker([
    "--workers",
    "3",
    "--data",
    data,
    "--set",
    "broker.drainSecMax=9",
    ...patient,
  ]);
  const at = harnessOf(tcpTarget(broker.url));
  for (const clientId of NAMES) {
    const client = await at.connect({ clientId, properties: stays });
    await client.subscribe("all", 1);
    client.kill();
  }
  const speakers = await Promise.all(NAMES.map((name) => at.connect({ clientId: `speaker-${name}` })));
  let roundCount = 0;
  const speaking = speakers.map(async (speaker) => {
    try {
      for (; ; roundCount++) {
        for (let packetId = 1; packetId <= 10; packetId++)
          speaker.send({ type: "publish", qos: 1, topic: "all", payload: "x", packetId });
        for (let i = 0; i < 10; i++) await speaker.take("puback", undefined, 20_000);
      }
    } catch {
      expect(speaker.isClosed).toBe(true); // the broker stops
    }
  });
  while (roundCount < 2 * NAMES.length) await Bun.sleep(1);
  await broker.stop();
  await Promise.all(speaking);
  await at.stop();
  expect(store("spread", "--workers", "1", "--data", data)).toMatchObject({ code: 0, err: "" });
}, 120_000);
