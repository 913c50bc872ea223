import { expect, test } from "bun:test";
import { encodePacket, hex, prop, type ConnackPacket, type Properties } from "#test/support/packets.ts";
import { connectBytes, expectClosedOr, resolvedTopics, testAccess, unique, withConfig } from "./connect-support.ts";
import { isForeign, payloads, useHarness } from "./fixture.ts";

const harness = useHarness();

const ID = "00 02 63 31";
const KEPT: Properties = [["sessionExpiryIntervalSec", 60]];

test("[MQTT-3.2.0-1] [MQTT-3.2.2-3] CONNACK comes before everything the session has waiting", async () => {
  const [clientId, topic] = [unique("c"), unique("t")];
  const first = await harness.connect({ clientId, properties: KEPT });
  await first.subscribe(topic, 2);
  const publisher = await harness.connect();
  await publisher.publish(topic, "in flight", { qos: 2 });
  await first.expect("publish", { payload: "in flight" });
  await first.disconnect();
  for (const text of ["1", "2"]) await publisher.publish(topic, text, { qos: 1 });
  const again = await harness.open();
  again.send({ type: "connect", clientId, cleanStart: false });
  await again.expect("connack", { sessionPresent: true, reasonCode: 0 });
  for (const payload of ["in flight", "1", "2"]) await again.expect("publish", { payload });
});

test("[MQTT-3.2.0-2] [MQTT-3.2.0-1] one CONNACK a connection: not for a second CONNECT, and one for a refused one", async () => {
  const client = await harness.connect();
  client.send({ type: "connect", clientId: client.clientId });
  await client.expectDisconnect(0x82);
  const refused = await harness.open();
  refused.send(Buffer.concat([connectBytes("03", ID), connectBytes("02", ID)]));
  await refused.expectRejected(0x81);
});

test("[MQTT-3.2.2-1] [MQTT-3.2.2-6] [MQTT-3.2.2-2] the flags of CONNACK hold Session Present alone, and not in a refusal", async () => {
  const clientId = unique("c");
  const flagsOf = (connack: ConnackPacket) => encodePacket(connack, 5)[2];
  const fresh = await harness.connect({ clientId, properties: KEPT });
  expect(flagsOf(fresh.connack!)).toBe(0); // the decoder refuses flags above 1
  await fresh.disconnect();
  for (const connectFlags of [0x01, 0x18]) {
    const refused = await harness.open();
    const connack = await refused.connect({ clientId, connectFlags });
    expect(connack).toMatchObject({ sessionPresent: false, reasonCode: 0x81 });
    await refused.expectClosed();
  }
  const faulty = await harness.open();
  const connack = await faulty.connect({ clientId, cleanStart: false, properties: [["maximumPacketSizeBytes", 0]] });
  expect(connack).toMatchObject({ sessionPresent: false, reasonCode: 0x82 });
  const resumed = await harness.connect({ clientId, cleanStart: false, properties: KEPT });
  expect(flagsOf(resumed.connack!)).toBe(1);
  await resumed.disconnect();
  const cleaned = await harness.connect({ clientId, cleanStart: true });
  expect(flagsOf(cleaned.connack!)).toBe(0);
});

test("[MQTT-3.2.2-7] [MQTT-3.2.2-8] after a refusal, whose code is a listed one, nothing is answered", async () => {
  const refused: [bytes: Uint8Array, reasonCode: number][] = [
    [connectBytes("02", `${ID} 00`), 0x81],
    [connectBytes("02", ID, "03 21 00 00"), 0x82],
    [hex("10 0f 00 04 4d 51 54 54 06 02 00 3c 00 00 02 63 31"), 0x84],
    [connectBytes("02", ID, "04 15 00 01 61"), 0x8c],
  ];
  for (const [bytes, reasonCode] of refused) {
    const client = await harness.open();
    client.send(bytes);
    const connack = await client.expect("connack", { sessionPresent: false, reasonCode });
    client.send(connectBytes("02", ID));
    client.send(hex("c0 00"));
    await client.expectClosed();
    expect(connack.reasonCode).toBeGreaterThanOrEqual(0x80);
  }
});

test("[MQTT-3.2.2-9] CONNACK tells the broker's limits; a Maximum QoS of 2 is told by silence", async () => {
  const client = await harness.connect();
  expect(prop(client.connack!, "maximumQos")).toBeUndefined();
  await client.subscribe(unique("t"), 2);
  await client.publish(unique("t"), "x", { qos: 2 });
  if (isForeign) return;
  const told = Object.fromEntries(client.connack!.properties ?? []);
  expect(told).toMatchObject({ receiveMaximum: 1024, topicAliasMaximum: 32, maximumPacketSizeBytes: 1_048_576 });
  const defaults = { retainAvailable: 1, wildcardSubscriptionAvailable: 1 };
  const more = { subscriptionIdentifierAvailable: 1, sharedSubscriptionAvailable: 1 };
  expect({ ...defaults, ...more, ...told }).toMatchObject({ ...defaults, ...more });
});

test("[MQTT-3.2.2-9] [MQTT-3.2.2-10] [MQTT-3.2.2-11] [MQTT-3.2.2-12] a Maximum QoS of 1 and of 0", async () => {
  for (const qosMax of [0, 1]) {
    await withConfig({ mqtt: { qosMax } }, async (limited) => {
      const topic = unique("t");
      const client = await limited.connect();
      expect(prop(client.connack!, "maximumQos")).toBe(qosMax);
      const suback = await client.subscribe([0, 1, 2].map((qos) => ({ filter: `${topic}/${qos}`, qos })));
      expect(suback.reasonCodes).toEqual([0, 1, 2].map((qos) => Math.min(qos, qosMax)));
      await client.publish(`${topic}/2`, "x", { qos: qosMax });
      await client.take("publish");
      for (let qos = qosMax + 1; qos <= 2; qos++) {
        const publisher = await limited.connect();
        publisher.send({ type: "publish", qos, packetId: 1, topic: `${topic}/0`, payload: "no" });
        await publisher.expectRejected(0x9b);
        const withWill = await limited.open();
        const connack = await withWill.connect({ will: { topic: `${topic}/0`, payload: "no", qos } });
        expect(connack).toMatchObject({ sessionPresent: false, reasonCode: 0x9b });
        await withWill.expectClosed();
      }
      expect(await client.settle()).toEqual([]);
    });
  }
});

test("[MQTT-3.2.2-13] [MQTT-3.2.2-14] without retained messages, a will and a PUBLISH with retain are refused", async () => {
  await withConfig({ mqtt: { retain: false } }, async (limited) => {
    const topic = unique("t");
    const subscriber = await limited.connect();
    expect(prop(subscriber.connack!, "retainAvailable")).toBe(0);
    await subscriber.subscribe(topic);
    const withWill = await limited.open();
    expect(await withWill.connect({ will: { topic, payload: "no", retain: true } })).toMatchObject({
      sessionPresent: false,
      reasonCode: 0x9a,
    });
    await withWill.expectClosed();
    for (const qos of [0, 1, 2]) {
      const publisher = await limited.connect();
      publisher.send({ type: "publish", topic, payload: "no", qos, packetId: 1, retain: true });
      await publisher.expectRejected(0x9a);
    }
    expect(await subscriber.settle()).toEqual([]);
    await subscriber.publish(topic, "yes");
    await subscriber.expect("publish", { payload: "yes" });
  });
});

test("[MQTT-3.2.2-15] a packet above the broker's Maximum Packet Size is refused with 0x95, at its header already", async () => {
  await withConfig({ mqtt: { packetBytesMax: 128 } }, async (limited) => {
    const client = await limited.connect();
    expect(prop(client.connack!, "maximumPacketSizeBytes")).toBe(128);
    await client.subscribe("a");
    await client.publish("a", "x".repeat(122)); // 128 bytes in all
    expect(payloads(await client.settle())).toEqual(["x".repeat(122)]);
    for (const header of ["30 7f", "32 80 01", "82 ff ff ff 7f"]) {
      const sender = await limited.connect();
      sender.send(hex(header));
      await sender.expectRejected(0x95);
    }
    const connecting = await limited.open();
    connecting.send({ type: "connect", clientId: "c".repeat(200) });
    await expectClosedOr(connecting, 0x95);
    await client.ping();
  });
});

test("[MQTT-3.2.2-17] an alias up to the broker's Topic Alias Maximum works, one above it is refused with 0x94", async () => {
  const topic = unique("t");
  const client = await harness.connect();
  const maximum = Number(prop(client.connack!, "topicAliasMaximum") ?? 0);
  if (!isForeign) expect(maximum).toBe(32);
  await client.subscribe(topic);
  if (maximum > 0) {
    await client.publish(topic, "1", { properties: [["topicAlias", maximum]] });
    await client.publish("", "2", { properties: [["topicAlias", maximum]] });
    expect(resolvedTopics(await client.settle())).toEqual([topic, topic]);
  }
  client.send({ type: "publish", topic, properties: [["topicAlias", maximum + 1]] });
  await client.expectRejected(0x94);
});

test("[MQTT-3.2.2-18] without a Topic Alias Maximum of the broker every alias is refused with 0x94", async () => {
  await withConfig({ mqtt: { topicAliasMax: 0 } }, async (limited) => {
    const client = await limited.connect();
    expect(prop(client.connack!, "topicAliasMaximum") ?? 0).toBe(0);
    client.send({ type: "publish", topic: "a", properties: [["topicAlias", 1]] });
    await client.expectRejected(0x94);
  });
});

test("[MQTT-3.2.2-19] [MQTT-3.2.2-20] no reason string or user property makes CONNACK larger than the client takes", async () => {
  const reasonString = "because the password is wrong";
  await withConfig({ ports: { access: testAccess(reasonString) } }, async (limited) => {
    const refuse = async (properties: Properties) => {
      const client = await limited.open();
      client.send({ type: "connect", clientId: "c", username: "u", password: "wrong", properties });
      return client;
    };
    const bare = await refuse([["maximumPacketSizeBytes", 5]]);
    await bare.expectBytes("20 03 00 86 00");
    await bare.expectClosed();
    const whole = await refuse([]);
    const told = await whole.expect("connack", { reasonCode: 0x86, properties: [["reasonString", reasonString]] });
    const size = encodePacket(told, 5).length;
    const fitting = await refuse([["maximumPacketSizeBytes", size]]);
    await fitting.expect("connack", { reasonCode: 0x86, properties: [["reasonString", reasonString]] });
    for (const less of [size - 1, 20, 8]) {
      const client = await refuse([["maximumPacketSizeBytes", less]]);
      const connack = await client.expect("connack", { reasonCode: 0x86 });
      expect(encodePacket(connack, 5).length).toBeLessThanOrEqual(less);
      await client.expectClosed();
    }
  });
  const usual = await harness.connect();
  const size = encodePacket(usual.connack!, 5).length;
  const tight = await harness.connect({ properties: [["maximumPacketSizeBytes", size]] });
  expect(encodePacket(tight.connack!, 5).length).toBeLessThanOrEqual(size);
});
