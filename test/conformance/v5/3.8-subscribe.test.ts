// SUBSCRIBE: what a well-formed one is, what it changes, and at which QoS messages then come.

import { expect, test } from "bun:test";
import type { RawClient } from "#test/support/client.ts";
import { hex, type Packet, type PublishPacket, props } from "#test/support/packets.ts";
import { withAccess } from "./access-backend.ts";
import { unique, withConfig } from "./connect-support.ts";
import { useHarness } from "./fixture.ts";

const harness = useHarness();

/** Topic and QoS of what came, in order. */
function seen(packets: Packet[]): string[] {
  return packets.map((packet) => (packet.type === "publish" ? `${packet.topic} ${packet.qos}` : packet.type));
}

async function publishQos0(client: RawClient, topic: string, payload = ""): Promise<void> {
  await client.publish(topic, payload);
  await client.ping();
}

test("[MQTT-3.8.1-1] fixed header flags other than 0010 are malformed", async () => {
  for (const flags of [0, 1, 3, 6, 10, 15]) {
    const client = await harness.connect();
    client.send({ type: "subscribe", flags, packetId: 1, subscriptions: [{ filter: "flags", qos: 0 }] });
    await client.expectRejected(0x81);
  }
});

test("[MQTT-3.8.3-1] a filter that is no valid UTF-8 string ends the connection", async () => {
  for (const bytes of ["c0 80", "ed a0 80", "61 00", "ff", "f5 80 80 80", "61 c3"]) {
    const client = await harness.connect();
    client.send({ type: "subscribe", packetId: 1, subscriptions: [{ filter: hex(bytes), qos: 0 }] });
    await client.expectRejected([0x81, 0x8f]);
  }
});

test("[MQTT-3.8.3-2] a SUBSCRIBE without a filter, or without a filter's options, ends the connection", async () => {
  const empty = await harness.connect();
  empty.send(hex("82 03 00 01 00"));
  await empty.expectRejected([0x81, 0x82]);
  for (const bytes of ["82 06 00 01 00 00 01 61", "82 0a 00 01 00 00 01 61 00 00 01 62"]) {
    const client = await harness.connect();
    client.send(hex(bytes));
    await client.expectRejected(0x81);
  }
});

test("[MQTT-3.8.3-3] No Local keeps a client's own messages away from it, and only those", async () => {
  const topic = "3.8/no-local";
  const clientId = unique("c38-no-local");
  const session = {
    clientId,
    properties: [["sessionExpiryIntervalSec", 60]] as [["sessionExpiryIntervalSec", number]],
  };
  const own = await harness.connect(session);
  const other = await harness.connect();
  await own.subscribe(topic, { qos: 1, noLocal: true });
  await own.publish(topic, "own 0");
  await own.publish(topic, "own 1", { qos: 1 });
  await own.publish(topic, "own 2", { qos: 2 });
  expect(await own.settle()).toEqual([]);
  await other.publish(topic, "theirs", { qos: 1 });
  await own.ack(await own.expect("publish", { payload: "theirs" }));
  await own.disconnect();

  const again = await harness.connect({ ...session, cleanStart: false });
  expect(again.connack?.sessionPresent).toBe(true);
  await again.publish(topic, "own after the break", { qos: 1 });
  expect(await again.settle()).toEqual([]);

  await again.unsubscribe(topic);
  await again.subscribe(topic, { qos: 1, noLocal: false });
  await again.publish(topic, "own", { qos: 1 });
  await again.ack(await again.expect("publish", { payload: "own" }));
});

test("[MQTT-3.8.3-4] No Local on a shared subscription is a protocol error", async () => {
  const client = await harness.connect();
  client.send({ type: "subscribe", packetId: 1, subscriptions: [{ filter: "$share/g/3.8/x", qos: 0, noLocal: true }] });
  await client.expectRejected(0x82);
});

test("[MQTT-3.8.3-5] reserved option bits are malformed, and the values 3 of QoS and Retain Handling are refused", async () => {
  const cases: [optionsByte: number, reasonCodes: number[]][] = [
    [0x40, [0x81]],
    [0x80, [0x81]],
    [0xc0, [0x81]],
    [0x03, [0x81, 0x82]],
    [0x30, [0x81, 0x82]],
  ];
  for (const [optionsByte, reasonCodes] of cases) {
    const client = await harness.connect();
    const good = { filter: "3.8/good", qos: 0 };
    client.send({ type: "subscribe", packetId: 1, subscriptions: [good, { filter: "3.8/options", optionsByte }] });
    await client.expectRejected(reasonCodes);
  }
});

test("[MQTT-3.8.4-1] [MQTT-3.8.4-6] every SUBSCRIBE gets one SUBACK with a code for each filter", async () => {
  const client = await harness.connect();
  for (const count of [1, 2, 50]) {
    const filters = Array.from({ length: count }, (_, index) => `3.8/count/${index}`);
    expect((await client.subscribe(filters, 1)).reasonCodes).toEqual(filters.map(() => 1));
  }
  const filters = ["3.8/a#", "3.8/#/b", "3.8/b+"];
  const packetId = client.nextPacketId();
  client.send({ type: "subscribe", packetId, subscriptions: filters.map((filter) => ({ filter, qos: 0 })) });
  expect(await client.settle()).toMatchObject([{ type: "suback", packetId, reasonCodes: [0x8f, 0x8f, 0x8f] }]);
});

test("[MQTT-3.8.4-2] the SUBACK repeats the packet id", async () => {
  const client = await harness.connect();
  await Promise.all([
    client.subscribe("3.8/id", { qos: 0, packetId: 0xabcd }),
    client.subscribe("3.8/id", { qos: 1, packetId: 0xffff }),
  ]);
  client.send({ type: "subscribe", packetId: 0xabcd, subscriptions: [{ filter: "3.8/id", qos: 0 }] });
  await client.expectBytes("90 04 ab cd 00 00");
  client.send({ type: "subscribe", packetId: 0xffff, subscriptions: [{ filter: "3.8/id", qos: 2 }] });
  await client.expectBytes("90 04 ff ff 00 02");
});

test("[MQTT-3.8.4-3] the same filter again replaces the subscription", async () => {
  const topic = "3.8/replace";
  const client = await harness.connect();
  const identifier = (value: number) => ({ properties: [["subscriptionIdentifier", value]] as never });
  await client.subscribe(topic, { qos: 0, ...identifier(1) });
  await client.subscribe(topic, { qos: 1, ...identifier(2) });
  await client.publish(topic, "one copy", { qos: 2 });
  const [copy, ...more] = (await client.settle()) as PublishPacket[];
  expect(copy).toMatchObject({ type: "publish", topic, qos: 1 });
  expect(props(copy!, "subscriptionIdentifier")).toEqual([2]);
  expect(more).toEqual([]);
  await client.ack(copy!);

  await client.subscribe(topic, { qos: 1, noLocal: true });
  await client.publish(topic, "own", { qos: 1 });
  expect(await client.settle()).toEqual([]);
  await client.subscribe(topic, 0);
  await client.publish(topic, "lower", { qos: 1 });
  expect(seen(await client.settle())).toEqual([`${topic} 0`]);

  expect((await client.unsubscribe(topic)).reasonCodes).toEqual([0]);
  await client.publish(topic, "nobody", { qos: 1 });
  expect(await client.settle()).toEqual([]);
  expect((await client.unsubscribe(topic)).reasonCodes).toEqual([0x11]);
});

test("[MQTT-3.8.4-4] replacing a subscription sends retained messages again and loses nothing of the flow", async () => {
  const client = await harness.connect();
  const publisher = await harness.connect();
  await publisher.publish("3.8/flow/kept", "kept", { qos: 1, retain: true });
  client.autoAck = true;
  await client.subscribe("3.8/flow/#", 1);
  for (let number = 0; number < 30; number++) {
    if (number % 10 === 5) {
      const subscriptions = [{ filter: "3.8/flow/#", qos: 1, retainHandling: 0 }];
      client.send({ type: "subscribe", packetId: client.nextPacketId(), subscriptions });
    }
    await publisher.publish("3.8/flow/live", `${number}`, { qos: 1 });
  }
  const packets = await client.settle();
  const payloads = (topic: string) =>
    packets.flatMap((packet) => {
      return packet.type === "publish" && packet.topic === topic ? [new TextDecoder().decode(packet.payload)] : [];
    });
  expect(payloads("3.8/flow/live")).toEqual(Array.from({ length: 30 }, (_, number) => `${number}`));
  expect(payloads("3.8/flow/kept")).toEqual(["kept", "kept", "kept", "kept"]);
  expect(packets.filter((packet) => packet.type === "suback")).toHaveLength(3);
  await publisher.publish("3.8/flow/kept", "", { qos: 1, retain: true });
});

test("[MQTT-3.8.4-5] several filters in one packet act one after the other and get one SUBACK", async () => {
  const client = await harness.connect();
  const packetId = client.nextPacketId();
  const subscriptions = [
    { filter: "3.8/many/a", qos: 0 },
    { filter: "3.8/many/b", qos: 1 },
    { filter: "3.8/many/+/c", qos: 2 },
  ];
  client.send({ type: "subscribe", packetId, subscriptions });
  expect(await client.settle()).toMatchObject([{ type: "suback", packetId, reasonCodes: [0, 1, 2] }]);
  client.autoAck = true;
  for (const topic of ["3.8/many/a", "3.8/many/b", "3.8/many/x/c"]) await client.publish(topic, "", { qos: 2 });
  expect(seen(await client.settle())).toEqual(["3.8/many/a 0", "3.8/many/b 1", "3.8/many/x/c 2"]);

  const twice = { filter: "3.8/twice", qos: 0 };
  expect((await client.subscribe([twice, { ...twice, qos: 2 }, { ...twice, qos: 1 }])).reasonCodes).toEqual([0, 2, 1]);
  await client.publish("3.8/twice", "", { qos: 2 });
  expect(seen(await client.settle())).toEqual(["3.8/twice 1"]);
});

test("[MQTT-3.8.4-7] the SUBACK says for each filter what was granted, or why nothing was", async () => {
  const client = await harness.connect();
  for (const qos of [0, 1, 2]) expect((await client.subscribe(`3.8/grant/${qos}`, qos)).reasonCodes).toEqual([qos]);
  expect((await client.subscribe("3.8/a/#/b", 1)).reasonCodes).toEqual([0x8f]);
  await client.disconnect();

  await withConfig({ mqtt: { qosMax: 1 } }, async (limited) => {
    const lesser = await limited.connect();
    const { reasonCodes } = await lesser.subscribe(["a", { filter: "b", qos: 1 }, { filter: "c", qos: 2 }], 0);
    expect(reasonCodes).toEqual([0, 1, 1]);
  });
  await withAccess(async (guarded) => {
    const { reasonCodes } = await (await guarded.connect()).subscribe(["a", "deny/x", "3.8/a#", "b"], 1);
    expect(reasonCodes).toEqual([1, 0x87, 0x8f, 1]);
  });
});

test("[MQTT-3.8.4-8] messages come at the lower of the published and the granted QoS", async () => {
  const publisher = await harness.connect();
  for (const granted of [0, 1, 2]) {
    const client = await harness.connect();
    client.autoAck = true;
    await client.subscribe(`3.8/qos/${granted}`, granted);
    for (const qos of [0, 1, 2]) {
      await publisher.publish(`3.8/qos/${granted}`, `${qos}`, { qos });
      await publisher.ping();
    }
    expect(seen(await client.settle())).toEqual([0, 1, 2].map((qos) => `3.8/qos/${granted} ${Math.min(qos, granted)}`));
    await client.disconnect();
  }
});

test("a Subscription Identifier of 0, or a second one, is a protocol error", async () => {
  for (const bytes of ["02 0b 00", "04 0b 01 0b 02"]) {
    const client = await harness.connect();
    client.send({
      type: "subscribe",
      packetId: 1,
      properties: hex(bytes),
      subscriptions: [{ filter: "3.8/identifier", qos: 0 }],
    });
    await client.expectRejected(0x82);
  }
});

test("a refused filter beside good ones leaves the good ones working", async () => {
  const client = await harness.connect();
  expect((await client.subscribe(["3.8/beside/a", "3.8/#/x", "3.8/beside/b"])).reasonCodes).toEqual([0, 0x8f, 0]);
  await publishQos0(client, "3.8/beside/a");
  await publishQos0(client, "3.8/beside/b");
  expect(seen(await client.settle())).toEqual(["3.8/beside/a 0", "3.8/beside/b 0"]);
});
