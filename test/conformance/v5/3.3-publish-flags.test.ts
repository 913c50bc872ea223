// 3.3.1: DUP, QoS and RETAIN of PUBLISH, and the subscription options that steer retained messages.

import { expect, test } from "bun:test";
import { hex } from "#test/support/packets.ts";
import { kept, payloads, publishes, resumed, topics, useHarness } from "./fixture.ts";

const h = useHarness();

test.each([1, 2])("[MQTT-3.3.1-1] an unacknowledged QoS %i message comes again with DUP 1", async (qos) => {
  const topic = `331/again/${qos}`;
  const clientId = `331-again-${qos}`;
  const sub = await h.connect(kept(clientId));
  await sub.subscribe(topic, qos);
  await (await h.connect()).publish(topic, "m", { qos });
  const first = await sub.expect("publish", { topic, qos, dup: false, payload: "m" });
  sub.kill();
  const again = await h.connect(resumed(clientId));
  expect(again.connack?.sessionPresent).toBe(true);
  await again.expect("publish", { topic, qos, dup: true, packetId: first.packetId!, payload: "m" });
  expect(await again.settle()).toEqual([]);
});

test("[MQTT-3.3.1-2] a client's QoS 0 PUBLISH with DUP 1 is refused and goes nowhere", async () => {
  const sub = await h.connect();
  await sub.subscribe("331/dup0", 0);
  const client = await h.connect();
  client.send({ type: "publish", topic: "331/dup0", dup: true, payload: "m" });
  await client.expectRejected([0x81, 0x82]);
  expect(await sub.settle()).toEqual([]);
});

test.each([0, 1, 2])(
  "[MQTT-3.3.1-2] [MQTT-4.3.1-1] QoS 0 copies of a QoS %i message have DUP 0 and QoS 0",
  async (qos) => {
    const sub = await h.connect();
    await sub.subscribe("331/z", 0);
    const client = await h.connect();
    await client.publish("331/z", "hi", { qos, dup: qos > 0 });
    await client.ping();
    await sub.expectBytes("30 0a 00 05 33 33 31 2f 7a 00 68 69");
    expect(await sub.settle()).toEqual([]);
  },
);

test.each([1, 2])("[MQTT-3.3.1-3] a QoS %i message that came with DUP 1 goes out with DUP 0", async (qos) => {
  const topic = `331/own-dup/${qos}`;
  const clientId = `331-own-dup-${qos}`;
  const sub = await h.connect();
  await sub.subscribe(topic, qos);
  const absent = await h.connect(kept(clientId));
  await absent.subscribe(topic, qos);
  await absent.disconnect();
  const pub = await h.connect();
  await pub.publish(topic, "m", { qos, dup: true });
  await sub.expect("publish", { topic, qos, dup: false, payload: "m" });
  const later = await h.connect(resumed(clientId));
  await later.expect("publish", { topic, qos, dup: false, payload: "m" });
});

test.each(["36", "37", "3e", "3f"])(
  "[MQTT-3.3.1-4] both QoS bits set in first byte %s are malformed",
  async (first) => {
    const client = await h.connect();
    client.send(hex(`${first} 06 00 01 61 00 01 00`));
    await client.expectDisconnect(0x81);
  },
);

test.each([0, 1, 2])("[MQTT-3.3.1-5] a QoS %i message with RETAIN 1 takes the place of the one before", async (qos) => {
  const topic = `331/replace/${qos}`;
  const pub = await h.connect();
  await pub.publish(topic, "1", { qos: 1, retain: true });
  await pub.publish(topic, "2", { qos, retain: true });
  await pub.ping();
  const sub = await h.connect();
  await sub.subscribe(topic, 2);
  await sub.expect("publish", { topic, qos, retain: true, payload: "2" });
  expect(await sub.settle()).toEqual([]);
  await pub.publish(topic, "", { qos: 1, retain: true });
});

test("[MQTT-3.3.1-6] an empty message with RETAIN 1 is delivered and removes the retained one", async () => {
  const topic = "331/clear";
  const pub = await h.connect();
  await pub.publish(topic, "1", { qos: 1, retain: true });
  const sub = await h.connect();
  await sub.subscribe(topic, { qos: 1, retainAsPublished: true });
  await sub.expect("publish", { topic, retain: true, payload: "1" });
  await pub.publish(topic, "", { qos: 1, retain: true });
  await sub.expect("publish", { topic, retain: true, payload: "" });
  const late = await h.connect();
  await late.subscribe(topic, 1);
  expect(await late.settle()).toEqual([]);
});

test("[MQTT-3.3.1-7] an empty message with RETAIN 1 on a fresh topic is not kept", async () => {
  const topic = "331/empty";
  const pub = await h.connect();
  const live = await h.connect();
  await live.subscribe(topic, 1);
  await pub.publish(topic, "", { qos: 1, retain: true });
  await live.expect("publish", { topic, payload: "" });
  const late = await h.connect();
  await late.subscribe([topic, "331/empty/#"], 1);
  expect(await late.settle()).toEqual([]);
});

test("[MQTT-3.3.1-8] RETAIN 0 neither replaces, nor removes, nor becomes the retained message", async () => {
  const topic = "331/alone";
  const pub = await h.connect();
  await pub.publish(`${topic}/never`, "x", { qos: 1 });
  await pub.publish(topic, "1", { qos: 1, retain: true });
  await pub.publish(topic, "2", { qos: 1 });
  await pub.publish(topic, "", { qos: 1 });
  const late = await h.connect();
  await late.subscribe(`${topic}/#`, 1);
  await late.expect("publish", { topic, retain: true, payload: "1" });
  expect(await late.settle()).toEqual([]);
  await pub.publish(topic, "", { qos: 1, retain: true });
});

test("[MQTT-3.3.1-9] Retain Handling 0 sends every matching retained message at every SUBSCRIBE", async () => {
  const names = ["331/rh0/a", "331/rh0/a/b", "331/rh0/c"];
  const pub = await h.connect();
  for (const name of [...names, "331/rh0x"]) await pub.publish(name, name, { qos: 1, retain: true });
  const sub = await h.connect();
  for (let round = 0; round < 2; round++) {
    await sub.subscribe("331/rh0/#", { qos: 0, retainHandling: 0 });
    const seen = publishes(await sub.settle());
    expect(topics(seen).sort()).toEqual(names);
    expect(seen.every(({ retain }) => retain)).toBe(true);
  }
  await sub.subscribe("331/rh0/+", { qos: 0, retainHandling: 0 });
  expect(topics(await sub.settle()).sort()).toEqual(["331/rh0/a", "331/rh0/c"]);
  for (const name of [...names, "331/rh0x"]) await pub.publish(name, "", { qos: 1, retain: true });
});

test("[MQTT-3.3.1-10] Retain Handling 1 sends retained messages only where no such subscription was", async () => {
  const topic = "331/rh1";
  const options = { qos: 0, retainHandling: 1 };
  const pub = await h.connect();
  await pub.publish(topic, "r", { qos: 1, retain: true });
  const sub = await h.connect(kept("331-rh1"));
  await sub.subscribe(topic, options);
  expect(payloads(await sub.settle())).toEqual(["r"]);
  await sub.subscribe(topic, options);
  await sub.subscribe(topic, { ...options, qos: 1 });
  expect(await sub.settle()).toEqual([]);
  await sub.disconnect();
  const back = await h.connect(resumed("331-rh1"));
  await back.subscribe(topic, options);
  expect(await back.settle()).toEqual([]);
  await back.unsubscribe(topic);
  await back.subscribe(topic, options);
  expect(payloads(await back.settle())).toEqual(["r"]);
  await pub.publish(topic, "", { qos: 1, retain: true });
});

test("[MQTT-3.3.1-11] Retain Handling 2 sends no retained message, and live ones all the same", async () => {
  const topic = "331/rh2";
  const pub = await h.connect();
  await pub.publish(topic, "r", { qos: 1, retain: true });
  const sub = await h.connect();
  await sub.subscribe(topic, { qos: 1, retainHandling: 2 });
  await sub.subscribe("331/+", { qos: 1, retainHandling: 2 });
  expect(await sub.settle()).toEqual([]);
  await sub.unsubscribe("331/+");
  await pub.publish(topic, "live", { qos: 1 });
  expect(payloads(await sub.settle())).toEqual(["live"]);
  await pub.publish(topic, "", { qos: 1, retain: true });
});

test("[MQTT-3.3.1-12] without Retain As Published a live copy has RETAIN 0, a retained one has 1", async () => {
  const topic = "331/rap0";
  const pub = await h.connect();
  const sub = await h.connect();
  await sub.subscribe(topic, { qos: 0, retainAsPublished: false });
  await pub.publish(topic, "r", { qos: 1, retain: true });
  await sub.expect("publish", { topic, retain: false, payload: "r" });
  await sub.subscribe(topic, { qos: 0, retainAsPublished: false });
  await sub.expect("publish", { topic, retain: true, payload: "r" });
  const absent = await h.connect(kept("331-rap0"));
  await absent.subscribe(topic, { qos: 1, retainHandling: 2 });
  await absent.disconnect();
  await pub.publish(topic, "queued", { qos: 1, retain: true });
  const back = await h.connect(resumed("331-rap0"));
  await back.expect("publish", { topic, retain: false, payload: "queued" });
  await pub.publish(topic, "", { qos: 1, retain: true });
});

test("[MQTT-3.3.1-13] with Retain As Published a live copy has RETAIN as it came", async () => {
  const topic = "331/rap1";
  const pub = await h.connect();
  const sub = await h.connect();
  await sub.subscribe(topic, { qos: 1, retainAsPublished: true });
  const plain = await h.connect();
  await plain.subscribe(topic, { qos: 1 });
  const absent = await h.connect(kept("331-rap1"));
  await absent.subscribe(topic, { qos: 1, retainAsPublished: true });
  await absent.disconnect();
  await pub.publish(topic, "1", { qos: 1, retain: true });
  await pub.publish(topic, "0", { qos: 1, retain: false });
  const back = await h.connect(resumed("331-rap1"));
  for (const client of [sub, back]) {
    await client.expect("publish", { topic, retain: true, payload: "1" });
    await client.expect("publish", { topic, retain: false, payload: "0" });
  }
  expect(publishes(await plain.settle()).map(({ retain }) => retain)).toEqual([false, false]);
  await pub.publish(topic, "", { qos: 1, retain: true });
});
