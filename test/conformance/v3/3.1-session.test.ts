// Sessions of 3.1.1: Clean Session, take-over, what is kept for an absent client; keep alive.

import { expect, test } from "bun:test";
import type { RawClient } from "#test/support/client.ts";
import { type Connects, isForeign, payloads, unique, useHarness } from "./fixture.ts";

const harness = useHarness();

async function expectSession(clientId: string, cleanStart: boolean, sessionPresent: boolean): Promise<RawClient> {
  const client = await harness.open(4);
  client.autoAck = true; // from the first byte: what waits may come with the CONNACK
  await client.connect({ clientId, cleanStart });
  expect(client.connack?.sessionPresent).toBe(sessionPresent);
  return client;
}

async function publishAll(connects: Connects, topic: string): Promise<void> {
  const publisher = await connects.connect({ version: 4 });
  for (const qos of [0, 1, 2]) await publisher.publish(topic, `${qos}`, { qos });
  await publisher.disconnect();
}

test("[MQTT3-3.1.2-4] [MQTT3-3.1.4-3] Clean Session 0 finds its session again after a break and after DISCONNECT", async () => {
  const id = unique("v3-resume");
  const topic = "3.1/resume";
  const first = await expectSession(id, false, false);
  await first.subscribe(topic, 1);
  first.kill();
  const second = await expectSession(id, false, true);
  await second.publish(topic, "after the break", { qos: 1 });
  await second.expect("publish", { topic, qos: 1, payload: "after the break" });
  await second.disconnect();
  const third = await expectSession(id, false, true);
  await third.publish(topic, "after DISCONNECT", { qos: 1 });
  await third.expect("publish", { topic, qos: 1, payload: "after DISCONNECT" });
  await third.disconnect();
  await expectSession(id, true, false);
});

test("[MQTT3-3.1.2-5] QoS 1 and 2 messages wait for an absent client", async () => {
  const id = unique("v3-absent");
  const absent = await expectSession(id, false, false);
  await absent.subscribe(["3.1/absent/+", "3.1/+/one"], 2);
  await absent.disconnect();
  await publishAll(harness, "3.1/absent/all");
  const back = await expectSession(id, false, true);
  const waited = await back.settle();
  expect(waited.filter((packet) => packet.type === "publish" && packet.qos > 0)).toMatchObject([
    { topic: "3.1/absent/all", qos: 1, dup: false, retain: false },
    { topic: "3.1/absent/all", qos: 2, dup: false, retain: false },
  ]);
  expect(payloads(waited).filter((payload) => payload !== "0")).toEqual(["1", "2"]); // QoS 0 may come or not
  await back.settle();
  await back.disconnect();
  const last = await expectSession(id, false, true);
  expect(await last.settle()).toEqual([]);
});

test("[MQTT3-3.1.2-6] [MQTT3-3.1.4-3] Clean Session 1 drops what was stored and leaves nothing behind", async () => {
  const id = unique("v3-clean");
  const topic = "3.1/clean";
  const stored = await expectSession(id, false, false);
  stored.autoAck = false;
  await stored.subscribe(topic, 2);
  await publishAll(harness, topic); // unacknowledged
  await stored.disconnect();
  await publishAll(harness, topic); // waiting

  const clean = await expectSession(id, true, false);
  await publishAll(harness, topic);
  expect(await clean.settle()).toEqual([]);
  await clean.subscribe(topic, 2);
  clean.send({ type: "publish", qos: 2, packetId: 7, topic: "3.1/clean/other", payload: "x" });
  await clean.expect("pubrec", { packetId: 7 });
  await publishAll(harness, topic);
  expect(payloads(await clean.settle())).toEqual(["0", "1", "2"]);
  clean.kill();

  const after = await expectSession(id, false, false);
  await publishAll(harness, topic);
  expect(await after.settle()).toEqual([]);
  const watcher = await harness.connect({ version: 4 });
  await watcher.subscribe("3.1/clean/other", 0);
  await after.publish("3.1/clean/other", "a new message", { qos: 2, packetId: 7 });
  await watcher.expect("publish", { payload: "a new message" });
});

test("[MQTT3-3.1.2-7] a retained message outlives its publisher's session", async () => {
  const topic = "3.1/retained";
  const publisher = await expectSession("v3-retains", true, false);
  await publisher.publish(topic, "kept", { qos: 1, retain: true });
  await publisher.disconnect();
  await expectSession("v3-retains", true, false);
  const reader = await harness.connect({ version: 4 });
  await reader.subscribe(topic, 1);
  await reader.expect("publish", { topic, payload: "kept", qos: 1, retain: true });
  await reader.publish(topic, "", { retain: true, qos: 1 });
});

test("[MQTT3-3.1.2-23] [MQTT3-3.1.2-24] a client silent for 1.5 keep alives loses its connection, one that pings does not", async () => {
  const watcher = await harness.connect({ version: 4 });
  await watcher.subscribe("3.1/silent/+", 0);
  const willOn = (name: string) => ({ will: { topic: `3.1/silent/${name}`, payload: "gone" } });
  const silent = await harness.connect({ version: 4, keepAliveSec: 2, ...willOn("silent") });
  const pinging = await harness.connect({ version: 4, keepAliveSec: 2, ...willOn("pinging") });
  const without = await harness.connect({ version: 4, keepAliveSec: 0, ...willOn("without") });
  await harness.advance(2);
  expect(silent.isClosed).toBe(false);
  await pinging.ping();
  await harness.advance(2);
  await pinging.ping();
  await without.ping();
  await pinging.disconnect();
  await without.disconnect();
  const waitMs = isForeign ? 8000 : 1000; // some brokers look only every few seconds
  await watcher.expect("publish", { topic: "3.1/silent/silent", payload: "gone" }, waitMs);
  await silent.expectClosed();
  expect(await watcher.settle()).toEqual([]);
}, 20_000);

test("[MQTT3-3.1.3-2] each client id has its own session", async () => {
  const id = unique("v3-id");
  const ids = [id, `${id}2`, id.toUpperCase()];
  for (const clientId of ids) {
    const client = await expectSession(clientId, false, false);
    await client.subscribe(`3.1/ids/${clientId}`, 1);
    await client.disconnect();
  }
  const publisher = await harness.connect({ version: 4 });
  for (const clientId of ids) await publisher.publish(`3.1/ids/${clientId}`, clientId, { qos: 1 });
  for (const clientId of ids) {
    const client = await expectSession(clientId, false, true);
    expect(payloads(await client.settle())).toEqual([clientId]);
    await client.disconnect();
    await (await expectSession(clientId, true, false)).disconnect();
  }
});

test("[MQTT3-3.1.4-2] a second connection of a client id closes the first", async () => {
  const id = unique("v3-taken");
  const topic = "3.1/take-over";
  const first = await expectSession(id, false, false);
  await first.subscribe(topic, 0);
  const second = await expectSession(id, false, true);
  await first.expectClosed();
  await second.publish(topic, "x", { qos: 1 });
  await second.expect("publish", { topic, payload: "x" });
  const third = await expectSession(id, true, false);
  await second.expectClosed();
  await third.ping();
});
