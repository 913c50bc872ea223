import { expect, test } from "bun:test";
import type { RawClient } from "#test/support/client.ts";
import { encodePacket, prop, type Properties, type PublishPacket } from "#test/support/packets.ts";
import { resolvedTopics, unique, withConfig } from "./connect-support.ts";
import { payloads, useHarness } from "./fixture.ts";

const harness = useHarness();

const MAX = 100;

/** A payload that makes a QoS 0 PUBLISH to `topic` this many bytes in all, below 130. */
const filling = (topic: string, bytes: number) => "x".repeat(bytes - 5 - topic.length);

const small = (more: Properties = []): Properties => [["maximumPacketSizeBytes", MAX], ...more];

test("[MQTT-3.1.2-24] a packet of the client's Maximum Packet Size comes, a greater one does not", async () => {
  const topic = unique("t");
  const client = await harness.connect({ properties: small() });
  expect(encodePacket(client.connack!, 5).length).toBeLessThanOrEqual(MAX);
  await client.subscribe(topic, 0);
  const publisher = await harness.connect();
  for (const bytes of [MAX - 1, MAX, MAX + 1]) await publisher.publish(topic, filling(topic, bytes), { qos: 1 });
  await publisher.publish(topic, "y".repeat(5000), { qos: 1 });
  await publisher.publish(topic, "end", { qos: 1 });
  const seen = payloads(await client.settle());
  expect(seen).toEqual([filling(topic, MAX - 1), filling(topic, MAX), "end"]);
});

test("[MQTT-3.1.2-24] properties and packet id count, for live and retained messages", async () => {
  const topic = unique("t");
  const publisher = await harness.connect();
  const client = await harness.connect({ properties: small() });
  await client.subscribe(topic, 1);
  const payload = filling(topic, MAX - 2); // two bytes of packet id on top
  await publisher.publish(topic, payload, { qos: 1 });
  await publisher.publish(topic, `${payload}x`, { qos: 1 });
  await publisher.publish(topic, "a", { qos: 1, properties: [["contentType", "c".repeat(MAX)]] });
  await publisher.publish(topic, "b", { qos: 1, properties: [["userProperty", ["u".repeat(MAX), "v"]]] });
  await publisher.publish(topic, "end", { qos: 1 });
  expect(payloads(await client.settle())).toEqual([payload, "end"]);

  await publisher.publish(topic, `${payload}xx`, { qos: 1, retain: true });
  const later = await harness.connect({ properties: small() });
  await later.subscribe(topic, 1);
  expect(await later.settle()).toEqual([]);
  await publisher.publish(topic, "", { qos: 1, retain: true });
});

test("[MQTT-3.1.2-24] an answer that cannot be made to fit is not sent", async () => {
  const expectFits = async (client: RawClient, bytesMax: number) => {
    const answer = await client.next().catch((error: Error) => error.message);
    if (typeof answer === "string") expect(answer).toMatch(/connection is closed/);
    else expect(encodePacket(answer, 5).length).toBeLessThanOrEqual(bytesMax);
  };
  const bytesMax = 8;
  const narrow = await harness.open();
  narrow.send({ type: "connect", clientId: "", properties: [["maximumPacketSizeBytes", bytesMax]] });
  await expectFits(narrow, bytesMax); // the assigned id alone is longer
  const topic = unique("t");
  const filters = Array.from({ length: MAX }, (_, index) => `${topic}/${index}`);
  const subscriptions = filters.map((filter) => ({ filter, qos: 0 }));
  for (const request of [
    { type: "subscribe", packetId: 1, subscriptions },
    { type: "unsubscribe", packetId: 1, filters },
  ] as const) {
    const client = await harness.connect({ properties: small() });
    client.send(request);
    await expectFits(client, MAX);
  }
});

test("[MQTT-3.1.2-25] a message too large for one subscriber counts as sent there, and the others get it", async () => {
  const [clientId, topic] = [unique("c"), unique("t")];
  const kept: Properties = [["sessionExpiryIntervalSec", 60]];
  const publisher = await harness.connect();
  const roomy = await harness.connect();
  await roomy.subscribe(topic, 1);
  const client = await harness.connect({ clientId, properties: small([...kept, ["receiveMaximum", 1]]) });
  await client.subscribe(topic, 1);
  const large = "x".repeat(MAX);
  const send = async (...texts: string[]) => {
    for (const text of texts) await publisher.publish(topic, text, { qos: 1 });
  };
  await send(large, large, "1");
  const first = await client.expect("publish", { payload: "1", qos: 1, dup: false }); // the large ones took no place
  await send(large, "2");
  expect(await client.settle()).toEqual([]); // Receive Maximum is 1
  await client.ack(first);
  const second = await client.expect("publish", { payload: "2" });
  await client.ack(second);
  expect(payloads(await roomy.settle())).toEqual([large, large, "1", large, "2"]);
  await client.disconnect();
  const again = await harness.connect({ clientId, cleanStart: false, properties: kept });
  expect(again.connack!.sessionPresent).toBe(true);
  expect(await again.settle()).toEqual([]); // as if sent: not kept for a time with more room
});

test("[MQTT-3.1.2-25] a too large message in the queue of an absent client is dropped when it comes back", async () => {
  const [clientId, topic] = [unique("c"), unique("t")];
  const kept: Properties = [["sessionExpiryIntervalSec", 60]];
  const publisher = await harness.connect();
  const client = await harness.connect({ clientId, properties: kept });
  await client.subscribe(topic, 2);
  await client.disconnect();
  for (const text of ["1", "x".repeat(MAX), "2"]) await publisher.publish(topic, text, { qos: 2 });
  const back = await harness.connect({ clientId, cleanStart: false, properties: small(kept) });
  expect(back.connack!.sessionPresent).toBe(true);
  expect(payloads(await back.settle())).toEqual(["1", "2"]);
});

/** What a client with this Topic Alias Maximum receives when `rounds` messages are published to each of `count` topics. */
async function receive(properties: Properties, count: number, rounds: number) {
  const prefix = unique("long-enough-to-be-worth-an-alias");
  const client = await harness.connect({ properties });
  await client.subscribe(`${prefix}/#`, 0);
  const publisher = await harness.connect();
  const published: string[] = [];
  for (let round = 0; round < rounds; round++) {
    for (let index = 0; index < count; index++) published.push(`${prefix}/${index}`);
  }
  for (const topic of published) await publisher.publish(topic, "x", { qos: 1 });
  const packets = (await client.settle()) as PublishPacket[];
  return { published, packets, aliases: packets.map((packet) => prop(packet, "topicAlias")) };
}

test("[MQTT-3.1.2-26] no alias is greater than the client's Topic Alias Maximum, and each stands for the right topic", async () => {
  for (const [maximum, count] of [
    [1, 1],
    [1, 3],
    [2, 5],
    [65_535, 40],
  ] as const) {
    const { published, packets, aliases } = await receive([["topicAliasMaximum", maximum]], count, 4);
    expect(resolvedTopics(packets)).toEqual(published);
    for (const alias of aliases) expect(alias ?? 1).toBeWithin(1, maximum + 1);
  }
});

test("[MQTT-3.1.2-26] an alias of the connection before is not used", async () => {
  const [clientId, topic] = [unique("c"), unique("long-enough-to-be-worth-an-alias")];
  const properties: Properties = [
    ["topicAliasMaximum", 5],
    ["sessionExpiryIntervalSec", 60],
  ];
  const publisher = await harness.connect();
  const client = await harness.connect({ clientId, properties });
  await client.subscribe(topic, 1);
  const deliver = async (to: RawClient) => {
    for (const text of ["1", "2", "3"]) await publisher.publish(topic, text, { qos: 1 });
    return resolvedTopics(await to.settle());
  };
  expect(await deliver(client)).toEqual([topic, topic, topic]);
  await client.disconnect();
  await publisher.publish(topic, "queued", { qos: 1 });
  const again = await harness.connect({ clientId, cleanStart: false, properties });
  const seen = await deliver(again); // with a new table: an old alias would have no topic
  expect(seen.length).toBeGreaterThanOrEqual(4);
  expect([...new Set(seen)]).toEqual([topic]);
  await again.disconnect();
  const without = await harness.connect({ clientId, cleanStart: false });
  const packets = (await without.settle()) as PublishPacket[];
  expect(packets.map((packet) => [packet.topic, prop(packet, "topicAlias")])).toEqual(
    packets.map(() => [topic, undefined]),
  );
});

test("[MQTT-3.1.2-27] without a Topic Alias Maximum, or with 0, no alias is used", async () => {
  for (const properties of [[], [["topicAliasMaximum", 0]]] as Properties[]) {
    const { published, packets, aliases } = await receive(properties, 2, 4);
    expect(packets.map((packet) => packet.topic)).toEqual(published);
    expect(aliases.every((alias) => alias === undefined)).toBe(true);
  }
});

test("[MQTT-3.1.2-28] without a request for it CONNACK has no Response Information", async () => {
  const none: Properties[] = [[], [["requestResponseInformation", 0]]];
  for (const properties of none) {
    const client = await harness.connect({ properties });
    expect(prop(client.connack!, "responseInformation")).toBeUndefined();
  }
  await withConfig({ broker: { responseInformation: "replies" } }, async (informed) => {
    for (const properties of none) {
      const client = await informed.connect({ properties });
      expect(prop(client.connack!, "responseInformation")).toBeUndefined();
    }
    const asking = await informed.connect({ properties: [["requestResponseInformation", 1]] });
    expect(prop(asking.connack!, "responseInformation")).toBe("replies");
  });
});

test("[MQTT-3.1.2-29] Request Problem Information 0: no reason string or user property on acknowledgements", async () => {
  const topic = unique("t");
  const client = await harness.connect({ properties: [["requestProblemInformation", 0]] });
  const answers = [
    await client.subscribe([topic, `${topic}/#/x`], 2),
    await client.unsubscribe(`${topic}/unknown`),
    ...(await client.publish(unique("nobody"), "x", { qos: 1 })),
    ...(await client.publish(unique("nobody"), "x", { qos: 2 })),
  ];
  client.send({ type: "pubrel", packetId: 777 });
  answers.push(await client.expect("pubcomp", { packetId: 777, reasonCode: 0x92 }));
  client.send({ type: "pubrec", packetId: 778 });
  const pubrel = await client.expect("pubrel", { packetId: 778, reasonCode: 0x92 });
  for (const answer of [...answers, pubrel]) expect(answer).toMatchObject({ properties: [] });
  const user: Properties = [["userProperty", ["a", "b"]]];
  await client.publish(topic, "x", { properties: user });
  await client.expect("publish", { topic, properties: user }); // PUBLISH keeps its own
});
