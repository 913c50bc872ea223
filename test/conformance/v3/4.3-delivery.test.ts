// Session state and the QoS 0, 1 and 2 exchanges of 3.1.1, in both directions.

import { expect, test } from "bun:test";
import type { RawClient } from "#test/support/client.ts";
import { hex } from "#test/support/packets.ts";
import { isForeign, payloads, publishes, topics, unique, useHarness } from "./fixture.ts";

const harness = useHarness();

/** A persistent session's connection, which acknowledges nothing by itself. */
function resume(clientId: string): Promise<RawClient> {
  return harness.connect({ version: 4, clientId, cleanStart: false });
}

async function publisherOf(topic: string) {
  const publisher = await harness.connect({ version: 4 });
  return (payload: string, qos: number) => publisher.publish(topic, payload, { qos });
}

test("[MQTT3-4.1.0-1] [MQTT3-4.1.0-2] session state lasts as long as the session, and that as long as its connection", async () => {
  const id = unique("v3-state");
  const watcher = await harness.connect({ version: 4 });
  await watcher.subscribe("4.1/receipt", 0);
  const waitSec = isForeign ? 1 : 100_000;
  const stored = await resume(id);
  const clean = await harness.connect({ version: 4 });
  await stored.subscribe("4.1/state", 1);
  await clean.subscribe("4.1/state", 1);
  for (const client of [stored, clean]) {
    client.send({ type: "publish", topic: "4.1/receipt", qos: 2, packetId: 5, payload: "once" });
    await client.expect("pubrec", { packetId: 5 });
  }
  await harness.advance(waitSec);
  for (const client of [stored, clean]) {
    client.send({ type: "publish", topic: "4.1/receipt", qos: 2, packetId: 5, payload: "once", dup: true });
    await client.expect("pubrec", { packetId: 5 });
    client.send({ type: "pubrel", packetId: 5 });
    await client.expect("pubcomp", { packetId: 5 });
  }
  expect(payloads(await watcher.settle())).toEqual(["once", "once"]); // one from each, whatever was repeated
  await (
    await publisherOf("4.1/state")
  )("live", 1);
  for (const client of [stored, clean]) await client.ack(await client.expect("publish", { payload: "live" }));

  await stored.disconnect();
  await harness.advance(waitSec);
  await (
    await publisherOf("4.1/state")
  )("later", 1);
  const back = await resume(id);
  expect(back.connack?.sessionPresent).toBe(true);
  await back.expect("publish", { payload: "later", dup: false });
});

test("[MQTT3-4.3.1-1] QoS 0 is sent with QoS 0 and DUP 0", async () => {
  const client = await harness.connect({ version: 4 });
  await client.subscribe("z", 0);
  const publish = await publisherOf("z");
  for (const qos of [2, 1, 0]) {
    await publish("hi", qos);
    await client.expectBytes("30 05 00 01 7a 68 69");
  }
});

test("[MQTT3-4.3.2-1] QoS 1 out: a free packet id, DUP 0, and again after a break until the PUBACK", async () => {
  const id = unique("v3-one-out");
  const first = await resume(id);
  await first.subscribe("q", 1);
  const publish = await publisherOf("q");
  for (const payload of ["a", "b", "c"]) await publish(payload, 1);
  await first.expectBytes("32 06 00 01 71 00 01 61");
  await first.expectBytes("32 06 00 01 71 00 02 62");
  await first.expectBytes("32 06 00 01 71 00 03 63");
  first.send(hex("40 02 00 02"));
  await publish("d", 1);
  await first.expectBytes("32 06 00 01 71 00 04 64");
  await first.disconnect();

  const second = await resume(id);
  await second.expectBytes("3a 06 00 01 71 00 01 61");
  await second.expectBytes("3a 06 00 01 71 00 03 63");
  await second.expectBytes("3a 06 00 01 71 00 04 64");
  second.send(hex("40 02 00 01 40 02 00 03 40 02 00 04"));
  expect(await second.settle()).toEqual([]);
  second.kill();
  expect(await (await resume(id)).settle()).toEqual([]);
});

test("[MQTT3-4.3.2-2] QoS 1 in: a PUBACK with the id, and after it the same id is a new message", async () => {
  const watcher = await harness.connect({ version: 4 });
  await watcher.subscribe("4.3/one", 0);
  const client = await harness.connect({ version: 4 });
  for (const [payload, dup] of [
    ["first", false],
    ["second", false],
    ["third", true],
  ] as const) {
    client.send({ type: "publish", topic: "4.3/one", qos: 1, packetId: 5, payload, dup });
    await client.expectBytes("40 02 00 05");
  }
  expect(payloads(await watcher.settle())).toEqual(["first", "second", "third"]);
});

test("[MQTT3-4.3.3-1] QoS 2 out: PUBREL answers PUBREC and is what comes again; the id is taken until PUBCOMP", async () => {
  const id = unique("v3-two-out");
  const first = await resume(id);
  await first.subscribe("q", 2);
  const publish = await publisherOf("q");
  await publish("a", 2);
  await publish("b", 2);
  await first.expectBytes("34 06 00 01 71 00 01 61");
  await first.expectBytes("34 06 00 01 71 00 02 62");
  await first.disconnect();

  const second = await resume(id);
  await second.expectBytes("3c 06 00 01 71 00 01 61");
  await second.expectBytes("3c 06 00 01 71 00 02 62");
  second.send(hex("50 02 00 01"));
  await second.expectBytes("62 02 00 01");
  second.send(hex("50 02 00 01")); // a repeated PUBREC gets its PUBREL again
  await second.expectBytes("62 02 00 01");
  await second.disconnect();

  const third = await resume(id);
  const resent = await third.settle();
  expect(publishes(resent.filter(({ type }) => type === "publish"))).toMatchObject([{ dup: true, packetId: 2 }]);
  expect(resent.filter(({ type }) => type !== "publish")).toMatchObject([{ type: "pubrel", packetId: 1 }]);
  await publish("c", 2);
  const next = await third.expect("publish", { payload: "c", dup: false });
  expect([1, 2]).not.toContain(next.packetId!);
  third.send(hex("70 02 00 01"));
  await third.ack({ ...next, packetId: 2 });
  await third.ack(next);
  expect(await third.settle()).toEqual([]);
  third.kill();
  expect(await (await resume(id)).settle()).toEqual([]);
});

test("[MQTT3-4.3.3-2] QoS 2 in: PUBREC for each copy, one delivery, PUBCOMP, then the id is free", async () => {
  const id = unique("v3-two-in");
  const watcher = await harness.connect({ version: 4 });
  await watcher.subscribe("t", 0);
  const first = await resume(id);
  first.send(hex("34 06 00 01 74 00 05 61"));
  await first.expectBytes("50 02 00 05");
  first.send(hex("3c 06 00 01 74 00 05 61"));
  await first.expectBytes("50 02 00 05");
  first.kill();
  const second = await resume(id);
  second.send(hex("3c 06 00 01 74 00 05 61"));
  await second.expectBytes("50 02 00 05");
  second.send(hex("62 02 00 05"));
  await second.expectBytes("70 02 00 05");
  expect(payloads(await watcher.settle())).toEqual(["a"]);
  second.send(hex("62 02 00 05")); // a repeated PUBREL too
  await second.expectBytes("70 02 00 05");
  second.send(hex("34 06 00 01 74 00 05 62"));
  await second.expectBytes("50 02 00 05");
  second.send(hex("62 02 00 05"));
  await second.expectBytes("70 02 00 05");
  expect(payloads(await watcher.settle())).toEqual(["b"]);
});

test("[MQTT3-4.4.0-1] after a reconnect all that is unacknowledged comes again under its ids, and at no other time", async () => {
  const id = unique("v3-again");
  const first = await resume(id);
  await first.subscribe("4.4/again", 2);
  const publish = await publisherOf("4.4/again");
  for (const [index, qos] of [1, 2, 1, 2, 2].entries()) await publish(`${index}`, qos);
  const sent = publishes(await first.settle());
  expect(payloads(sent)).toEqual(["0", "1", "2", "3", "4"]);
  first.send({ type: "pubrec", packetId: sent[4]!.packetId! });
  await first.expect("pubrel", { packetId: sent[4]!.packetId! });
  await first.ack(sent[2]!);
  await harness.advance(isForeign ? 2 : 100_000);
  expect(await first.settle()).toEqual([]);
  first.kill();

  const second = await resume(id);
  const resent = await second.settle();
  const expected = [0, 1, 3].map((index) => ({ ...sent[index]!, dup: true }));
  expect(resent.filter(({ type }) => type === "publish")).toEqual(expected);
  expect(resent.filter(({ type }) => type !== "publish")).toEqual([{ type: "pubrel", packetId: sent[4]!.packetId! }]);
  await harness.advance(isForeign ? 2 : 100_000);
  expect(await second.settle()).toEqual([]);
  second.kill();

  const clean = await harness.connect({ version: 4, clientId: id, cleanStart: true });
  expect(await clean.settle()).toEqual([]);
}, 10_000);

test("[MQTT3-4.5.0-1] a message joins every matching session, connected or not", async () => {
  const absentId = unique("v3-every");
  const absent = await resume(absentId);
  await absent.subscribe("4.5/+", 1);
  await absent.disconnect();
  const present = [
    await harness.connect({ version: 4 }),
    await harness.connect({ version: 4 }),
    await resume(unique("v3-every")),
  ];
  for (const client of present) {
    client.autoAck = true;
    await client.subscribe("4.5/#", 2);
  }
  const publisher = await harness.connect({ version: 4 });
  for (const qos of [1, 2]) await publisher.publish(`4.5/${qos}`, "", { qos });
  for (const client of present) expect(topics(await client.settle())).toEqual(["4.5/1", "4.5/2"]);
  expect(topics(await (await resume(absentId)).settle())).toEqual(["4.5/1", "4.5/2"]);
});
