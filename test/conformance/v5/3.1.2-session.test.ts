import { expect, test } from "bun:test";
import type { Properties } from "#test/support/packets.ts";
import { unique } from "./connect-support.ts";
import { payloads, useHarness } from "./fixture.ts";

const harness = useHarness();

const expiry = (sec: number): { properties: Properties } => ({ properties: [["sessionExpiryIntervalSec", sec]] });

/** A kept session with a QoS 1 subscription to `topic` that has ended its connection. */
async function leaveSession(clientId: string, topic: string, sec = 60): Promise<void> {
  const client = await harness.connect({ clientId, ...expiry(sec) });
  await client.subscribe(topic, 1);
  await client.disconnect();
}

test("[MQTT-3.1.2-4] [MQTT-3.2.2-2] [MQTT-3.1.4-4] Clean Start drops subscriptions and queue of the old session", async () => {
  const [clientId, topic] = [unique("c"), unique("t")];
  await leaveSession(clientId, topic);
  const publisher = await harness.connect();
  await publisher.publish(topic, "queued", { qos: 1 });
  const again = await harness.connect({ clientId, cleanStart: true, ...expiry(60) });
  expect(again.connack).toMatchObject({ sessionPresent: false, reasonCode: 0 });
  await publisher.publish(topic, "live", { qos: 1 });
  expect(await again.settle()).toEqual([]);
  await again.disconnect();
  const third = await harness.connect({ clientId, cleanStart: false });
  expect(third.connack!.sessionPresent).toBe(true); // the new session is kept in its turn
  expect(await third.settle()).toEqual([]);
});

test("[MQTT-3.1.2-4] Clean Start also forgets what was in flight in both directions", async () => {
  const [clientId, topic] = [unique("c"), unique("t")];
  const first = await harness.connect({ clientId, ...expiry(60) });
  await first.subscribe(topic, 2);
  const publisher = await harness.connect();
  await publisher.publish(topic, "unacknowledged", { qos: 2 });
  await first.expect("publish", { topic });
  first.send({ type: "publish", qos: 2, packetId: 9, topic, payload: "unreleased" });
  await first.take("pubrec", 9);
  await first.disconnect();
  const again = await harness.connect({ clientId });
  expect(again.connack!.sessionPresent).toBe(false);
  expect(await again.settle()).toEqual([]);
  again.send({ type: "pubrel", packetId: 9 });
  await again.expect("pubcomp", { packetId: 9, reasonCode: 0x92 });
  await again.subscribe(topic, 2);
  await publisher.publish(topic, "first", { qos: 2 });
  await again.expect("publish", { payload: "first", packetId: 1, dup: false });
});

test("[MQTT-3.1.2-5] [MQTT-3.2.2-3] [MQTT-3.1.4-4] without Clean Start the session goes on", async () => {
  const [clientId, topic] = [unique("c"), unique("t")];
  await leaveSession(clientId, topic);
  const publisher = await harness.connect();
  await publisher.publish(topic, "queued", { qos: 1 });
  const again = await harness.connect({ clientId, cleanStart: false, ...expiry(60) });
  expect(again.connack).toMatchObject({ sessionPresent: true, reasonCode: 0 });
  await again.expect("publish", { topic, payload: "queued", qos: 1, dup: false });
  await publisher.publish(topic, "live", { qos: 1 });
  await again.expect("publish", { topic, payload: "live" });
});

test("[MQTT-3.1.2-5] without Clean Start, QoS 2 goes on where it stood", async () => {
  const [clientId, topic] = [unique("c"), unique("t")];
  const subscriber = await harness.connect();
  await subscriber.subscribe(topic, 0);
  const first = await harness.connect({ clientId, ...expiry(60) });
  first.send({ type: "publish", qos: 2, packetId: 9, topic, payload: "once" });
  await first.expect("pubrec", { packetId: 9, reasonCode: 0 });
  await first.disconnect();
  const again = await harness.connect({ clientId, cleanStart: false, ...expiry(60) });
  again.send({ type: "publish", qos: 2, packetId: 9, dup: true, topic, payload: "once" });
  await again.expect("pubrec", { packetId: 9 });
  again.send({ type: "pubrel", packetId: 9 });
  await again.expectBytes("70 02 00 09");
  expect(payloads(await subscriber.settle())).toEqual(["once"]);
});

test("[MQTT-3.1.2-6] [MQTT-3.2.2-3] [MQTT-3.1.4-4] without Clean Start and without a session a new one begins", async () => {
  const topic = unique("t");
  const client = await harness.connect({ clientId: unique("c"), cleanStart: false });
  expect(client.connack).toMatchObject({ sessionPresent: false, reasonCode: 0 });
  await client.subscribe(topic, 1);
  await client.publish(topic, "x", { qos: 1 });
  await client.expect("publish", { topic, payload: "x", packetId: 1 });
});

test("[MQTT-3.1.2-23] a session lasts for its expiry interval after the connection, and no longer", async () => {
  const [clientId, topic] = [unique("c"), unique("t")];
  const publisher = await harness.connect();
  await leaveSession(clientId, topic, 2);
  await harness.advance(1);
  const again = await harness.connect({ clientId, cleanStart: false, ...expiry(2) });
  expect(again.connack!.sessionPresent).toBe(true);
  again.kill();
  await publisher.ping();
  await publisher.publish(topic, "queued", { qos: 1 });
  await harness.advance(3);
  const late = await harness.connect({ clientId, cleanStart: false });
  expect(late.connack).toMatchObject({ sessionPresent: false, reasonCode: 0 });
  expect(await late.settle()).toEqual([]);
});

test("[MQTT-3.1.2-23] the expiry interval runs from the end of the connection", async () => {
  const [clientId, topic] = [unique("c"), unique("t")];
  const client = await harness.connect({ clientId, ...expiry(1) });
  await client.subscribe(topic, 1);
  await harness.advance(2);
  await client.publish(topic, "still here");
  await client.expect("publish", { payload: "still here" });
  await client.disconnect();
  const again = await harness.connect({ clientId, cleanStart: false });
  expect(again.connack!.sessionPresent).toBe(true);
});

test("[MQTT-3.1.2-23] without an expiry interval, or with 0, the session ends with the connection", async () => {
  for (const options of [{}, expiry(0)]) {
    const [clientId, topic] = [unique("c"), unique("t")];
    const client = await harness.connect({ clientId, cleanStart: false, ...options });
    await client.subscribe(topic, 1);
    await client.disconnect();
    await (await harness.connect()).publish(topic, "nobody's", { qos: 1 });
    const again = await harness.connect({ clientId, cleanStart: false });
    expect(again.connack!.sessionPresent).toBe(false);
    expect(await again.settle()).toEqual([]);
  }
});

test("[MQTT-3.1.2-23] each CONNECT sets the interval anew, for the session it resumes too", async () => {
  const [clientId, topic] = [unique("c"), unique("t")];
  await leaveSession(clientId, topic);
  const last = await harness.connect({ clientId, cleanStart: false });
  expect(last.connack!.sessionPresent).toBe(true);
  await last.disconnect();
  const fresh = await harness.connect({ clientId, cleanStart: false });
  expect(fresh.connack!.sessionPresent).toBe(false);
});

test("[MQTT-3.1.2-23] DISCONNECT can change the expiry interval", async () => {
  const clientId = unique("c");
  const kept = await harness.connect({ clientId, ...expiry(1) });
  await kept.disconnect({ reasonCode: 0, ...expiry(60) });
  await harness.advance(2);
  const ended = await harness.connect({ clientId, cleanStart: false, ...expiry(60) });
  expect(ended.connack!.sessionPresent).toBe(true);
  await ended.disconnect({ reasonCode: 0, ...expiry(0) });
  const fresh = await harness.connect({ clientId, cleanStart: false });
  expect(fresh.connack!.sessionPresent).toBe(false);
});

test("[MQTT-3.1.2-23] the greatest interval means no end", async () => {
  const clientId = unique("c");
  const client = await harness.connect({ clientId, ...expiry(0xffff_ffff) });
  await client.disconnect();
  await harness.advance(1);
  const again = await harness.connect({ clientId, cleanStart: false });
  expect(again.connack!.sessionPresent).toBe(true);
});

test("[MQTT-3.1.3-2] each client id has a session of its own, and letters of another case make another id", async () => {
  const topic = unique("t");
  const ids = [unique("c"), unique("c")].flatMap((id) => [id, id.toUpperCase()]);
  for (const [index, clientId] of ids.entries()) await leaveSession(clientId, `${topic}/${index}`);
  const publisher = await harness.connect();
  for (const index of ids.keys()) await publisher.publish(`${topic}/${index}`, `for ${index}`, { qos: 1 });
  for (const [index, clientId] of ids.entries()) {
    const client = await harness.connect({ clientId, cleanStart: false });
    expect(client.connack!.sessionPresent).toBe(true);
    expect(payloads(await client.settle())).toEqual([`for ${index}`]);
  }
});

test("[MQTT-3.1.4-3] a second client of the same id takes over: the first gets 0x8E and is closed", async () => {
  const [clientId, topic] = [unique("c"), unique("t")];
  const publisher = await harness.connect();
  const first = await harness.connect({ clientId, ...expiry(60) });
  await first.subscribe(topic, 1);
  const second = await harness.connect({ clientId, cleanStart: false, ...expiry(60) });
  await first.expectDisconnect(0x8e);
  expect(second.connack!.sessionPresent).toBe(true);
  await publisher.publish(topic, "1", { qos: 1 });
  await second.expect("publish", { topic, payload: "1" });
  const third = await harness.connect({ clientId, cleanStart: true });
  await second.expectDisconnect(0x8e);
  expect(third.connack!.sessionPresent).toBe(false);
  await publisher.publish(topic, "2", { qos: 1 });
  expect(await third.settle()).toEqual([]);
});

test("[MQTT-3.1.4-3] what the first had not acknowledged goes to the second", async () => {
  const [clientId, topic] = [unique("c"), unique("t")];
  const publisher = await harness.connect();
  const first = await harness.connect({ clientId, ...expiry(60) });
  await first.subscribe(topic, 1);
  await publisher.publish(topic, "1", { qos: 1 });
  const message = await first.expect("publish", { payload: "1", dup: false });
  const second = await harness.connect({ clientId, cleanStart: false, ...expiry(60) });
  await first.expectDisconnect(0x8e);
  await second.expect("publish", { payload: "1", dup: true, packetId: message.packetId! });
  await second.disconnect();
});

test("[MQTT-3.1.4-3] take-over with a session that ends with its connection: nothing is left to resume", async () => {
  const clientId = unique("c");
  const first = await harness.connect({ clientId });
  const second = await harness.connect({ clientId, cleanStart: false });
  await first.expectDisconnect(0x8e);
  expect(second.connack!.sessionPresent).toBe(false);
});
