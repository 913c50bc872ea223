import { expect, test } from "bun:test";
import type { RawClient } from "#test/support/client.ts";
import { hex, props, type Properties } from "#test/support/packets.ts";
import { connectBytes, unique } from "./connect-support.ts";
import { payloads, useHarness } from "./fixture.ts";

const harness = useHarness();

const expiry = (sec: number): Properties => [["sessionExpiryIntervalSec", sec]];

/** A subscriber of a new topic, and a will for that topic with this delay. */
async function watch(delaySec?: number) {
  const topic = unique("w");
  const subscriber = await harness.connect();
  await subscriber.subscribe(topic, 2);
  const properties: Properties = delaySec === undefined ? [] : [["willDelayIntervalSec", delaySec]];
  return { topic, subscriber, will: { topic, payload: "gone", properties } };
}

const willsOf = async (subscriber: RawClient) => payloads(await subscriber.settle());

test("[MQTT-3.1.2-7] the will is sent when the link breaks, not before", async () => {
  const { topic, subscriber, will } = await watch();
  const client = await harness.connect({ will });
  await client.ping();
  expect(await willsOf(subscriber)).toEqual([]);
  client.kill();
  await subscriber.expect("publish", { topic, payload: "gone", qos: 0, retain: false, dup: false, properties: [] });
});

test("[MQTT-3.1.2-7] the will of the latest CONNECT counts, not the one before", async () => {
  const { topic, subscriber, will } = await watch(60);
  const clientId = unique("c");
  const first = await harness.connect({ clientId, will, properties: expiry(60) });
  await first.disconnect({ reasonCode: 4 });
  const last = { topic, payload: "gone again" };
  const second = await harness.connect({ clientId, cleanStart: false, will: last, properties: expiry(60) });
  second.kill();
  await subscriber.expect("publish", { topic, payload: "gone again" });
  expect(await willsOf(subscriber)).toEqual([]);
});

test("[MQTT-3.1.2-8] the will waits for its delay", async () => {
  const { topic, subscriber, will } = await watch(2);
  const client = await harness.connect({ will, properties: expiry(60) });
  client.kill();
  await subscriber.ping();
  await harness.advance(1);
  expect(await willsOf(subscriber)).toEqual([]);
  await harness.advance(2);
  await subscriber.expect("publish", { topic, payload: "gone" });
});

test("[MQTT-3.1.2-8] the will comes at the end of the session, if that is before the delay", async () => {
  const { topic, subscriber, will } = await watch(60);
  const client = await harness.connect({ will, properties: expiry(2) });
  client.kill();
  await subscriber.ping();
  await harness.advance(1);
  expect(await willsOf(subscriber)).toEqual([]);
  await harness.advance(2);
  await subscriber.expect("publish", { topic, payload: "gone" });
});

test("[MQTT-3.1.2-8] with a session that ends at once, the delay does not count", async () => {
  const { topic, subscriber, will } = await watch(60);
  const client = await harness.connect({ will });
  client.kill();
  await subscriber.expect("publish", { topic, payload: "gone" });
});

test("[MQTT-3.1.2-8] DISCONNECT with another reason than 0 sends the will", async () => {
  for (const reasonCode of [0x04, 0x80]) {
    const { topic, subscriber, will } = await watch();
    const client = await harness.connect({ will });
    await client.disconnect({ reasonCode });
    await subscriber.expect("publish", { topic, payload: "gone" });
  }
});

test("[MQTT-3.1.2-8] the will is sent when the broker ends the connection", async () => {
  const { topic, subscriber, will } = await watch();
  const faulty = await harness.connect({ will });
  faulty.send(hex("c1 00"));
  await faulty.expectDisconnect(0x81);
  await subscriber.expect("publish", { topic, payload: "gone" });
  const clientId = unique("c");
  const first = await harness.connect({ clientId, will, properties: expiry(60) });
  await harness.connect({ clientId, cleanStart: false });
  await first.expectDisconnect(0x8e);
  await subscriber.expect("publish", { topic, payload: "gone" });
});

test("[MQTT-3.1.2-10] a will is sent once", async () => {
  const { topic, subscriber, will } = await watch();
  const clientId = unique("c");
  const client = await harness.connect({ clientId, will, properties: expiry(60) });
  client.kill();
  await subscriber.expect("publish", { topic, payload: "gone" });
  const second = await harness.connect({ clientId, cleanStart: false, properties: expiry(60) });
  expect(second.connack!.sessionPresent).toBe(true);
  await second.disconnect({ reasonCode: 4 });
  expect(await willsOf(subscriber)).toEqual([]);
  await harness.connect({ clientId, cleanStart: true });
  expect(await willsOf(subscriber)).toEqual([]);
});

test("[MQTT-3.1.2-10] a will that has been sent does not come again when its session ends", async () => {
  const { topic, subscriber, will } = await watch();
  const clientId = unique("c");
  const ends = [async () => void (await harness.connect({ clientId, cleanStart: true })), () => harness.advance(2)];
  for (const end of ends) {
    const client = await harness.connect({ clientId, will, properties: expiry(1) });
    client.kill();
    await subscriber.expect("publish", { topic, payload: "gone" });
    await end();
    expect(await willsOf(subscriber)).toEqual([]);
  }
});

test("[MQTT-3.1.2-10] DISCONNECT with reason 0 discards the will, also one with a delay", async () => {
  for (const delaySec of [undefined, 1]) {
    const { subscriber, will } = await watch(delaySec);
    for (const options of [{}, { reasonCode: 0 }, { reasonCode: 0, properties: [] }]) {
      const client = await harness.connect({ will, properties: expiry(1) });
      await client.disconnect(options);
    }
    expect(await willsOf(subscriber)).toEqual([]);
    if (delaySec !== undefined) await harness.advance(delaySec + 1);
    expect(await willsOf(subscriber)).toEqual([]);
  }
});

test("[MQTT-3.1.2-12] a will of QoS 0, 1 and 2 is sent with that QoS", async () => {
  const { topic, subscriber, will } = await watch();
  for (const qos of [0, 1, 2]) {
    const client = await harness.connect({ will: { ...will, qos } });
    client.kill();
    const message = await subscriber.expect("publish", { topic, payload: "gone", qos });
    await subscriber.ack(message);
  }
});

test("[MQTT-3.1.2-14] a will without Will Retain is not retained, and leaves what is retained alone", async () => {
  const { topic, subscriber, will } = await watch();
  const client = await harness.connect({ will: { ...will, retain: false } });
  client.kill();
  await subscriber.expect("publish", { topic, payload: "gone", retain: false });
  const later = await harness.connect();
  await later.subscribe(topic);
  expect(await willsOf(later)).toEqual([]);

  await subscriber.publish(topic, "kept", { qos: 1, retain: true });
  await subscriber.expect("publish", { payload: "kept" });
  const second = await harness.connect({ will });
  second.kill();
  await subscriber.expect("publish", { payload: "gone" });
  await later.subscribe(topic);
  expect(await willsOf(later)).toContain("kept");
  await subscriber.publish(topic, "", { qos: 1, retain: true });
});

test("[MQTT-3.1.2-15] a will with Will Retain is retained, with its QoS and its properties", async () => {
  const { topic, subscriber, will } = await watch();
  const properties: Properties = [["contentType", "text"]];
  const client = await harness.connect({ will: { ...will, qos: 1, retain: true, properties } });
  client.kill();
  const live = await subscriber.expect("publish", { topic, payload: "gone", qos: 1, retain: false });
  await subscriber.ack(live);
  const later = await harness.connect();
  await later.subscribe(topic, 2);
  await later.expect("publish", { topic, payload: "gone", qos: 1, retain: true, properties });
  await subscriber.publish(topic, "", { qos: 1, retain: true });
});

test("[MQTT-3.1.2-15] an empty will with Will Retain removes what is retained", async () => {
  const { topic, subscriber } = await watch();
  await subscriber.publish(topic, "kept", { qos: 1, retain: true });
  await subscriber.expect("publish", { payload: "kept" });
  const client = await harness.connect({ will: { topic, payload: "", retain: true } });
  client.kill();
  await subscriber.expect("publish", { topic, payload: "" });
  const later = await harness.connect();
  await later.subscribe(topic);
  expect(await willsOf(later)).toEqual([]);
});

test("[MQTT-3.1.3-9] coming back to the session before the delay is over cancels the will", async () => {
  const { subscriber, will } = await watch(2);
  const clientId = unique("c");
  const client = await harness.connect({ clientId, will, properties: expiry(60) });
  client.kill();
  await subscriber.ping();
  await harness.advance(1);
  const back = await harness.connect({ clientId, cleanStart: false, properties: expiry(60) });
  expect(back.connack!.sessionPresent).toBe(true);
  await harness.advance(2);
  expect(await willsOf(subscriber)).toEqual([]);
  await back.disconnect({ reasonCode: 4 }); // this connection has no will
  expect(await willsOf(subscriber)).toEqual([]);
});

test("[MQTT-3.1.3-9] taking over within the session sends no delayed will", async () => {
  const { subscriber, will } = await watch(1);
  const clientId = unique("c");
  const first = await harness.connect({ clientId, will, properties: expiry(60) });
  await harness.connect({ clientId, cleanStart: false, properties: expiry(60) });
  await first.expectDisconnect(0x8e);
  await harness.advance(2);
  expect(await willsOf(subscriber)).toEqual([]);
});

test("[MQTT-3.1.2-8] [MQTT-3.1.3-9] Clean Start ends the old session, so its will is due in spite of the delay", async () => {
  const { topic, subscriber, will } = await watch(60);
  const clientId = unique("c");
  const first = await harness.connect({ clientId, will, properties: expiry(60) });
  const second = await harness.connect({ clientId, will, cleanStart: true, properties: expiry(60) });
  await first.expectDisconnect(0x8e);
  await subscriber.expect("publish", { topic, payload: "gone" });
  await second.disconnect({ reasonCode: 4 });
  await harness.connect({ clientId, cleanStart: true });
  await subscriber.expect("publish", { topic, payload: "gone" });
});

test("[MQTT-3.1.3-10] the will's properties reach subscribers, user properties in their order", async () => {
  const { topic, subscriber, will } = await watch();
  const pairs: [string, string][] = [
    ["a", "1"],
    ["b", "2"],
    ["a", "3"],
    ["", ""],
    ["a", "1"],
  ];
  const properties: Properties = [
    ...pairs.slice(0, 2).map((pair): Properties[number] => ["userProperty", pair]),
    ["payloadFormatIndicator", 1],
    ["messageExpiryIntervalSec", 60],
    ["contentType", "text/plain"],
    ["responseTopic", "re/ply"],
    ["correlationData", hex("00 ff")],
    ...pairs.slice(2).map((pair): Properties[number] => ["userProperty", pair]),
    ["willDelayIntervalSec", 0],
  ];
  const client = await harness.connect({ will: { ...will, properties } });
  client.kill();
  const message = await subscriber.expect("publish", { topic });
  expect(props(message, "userProperty")).toEqual(pairs);
  const others = Object.fromEntries((message.properties ?? []).filter(([name]) => name !== "userProperty"));
  expect(others).toEqual({
    payloadFormatIndicator: 1,
    messageExpiryIntervalSec: 60,
    contentType: "text/plain",
    responseTopic: "re/ply",
    correlationData: hex("00 ff"),
  });
});

test("[MQTT-3.1.3-11] the will topic is well-formed UTF-8 and a topic name", async () => {
  for (const topic of ["00 02 c0 80", "00 03 61 00 62", "00 03 61 2f 23", "00 01 2b", "00 00"]) {
    const client = await harness.open();
    client.send(connectBytes("06", `00 02 63 31 00 ${topic} 00 00`));
    await client.expectRejected([0x81, 0x90]);
  }
});
