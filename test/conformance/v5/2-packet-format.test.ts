import { expect, test } from "bun:test";
import { hex, prop, type PublishPacket } from "#test/support/packets.ts";
import { expectClosedOr, framed, unique } from "./connect-support.ts";
import { isForeign, useHarness } from "./fixture.ts";

const harness = useHarness();

test.each([
  ["PINGREQ", "c1 00"],
  ["PUBACK", "41 02 00 01"],
  ["PUBREC", "52 02 00 01"],
  ["PUBREL, none", "60 02 00 01"],
  ["PUBREL, one more", "63 02 00 01"],
  ["PUBCOMP", "78 02 00 01"],
  ["SUBSCRIBE, none", "80 07 00 01 00 00 01 61 00"],
  ["SUBSCRIBE, one more", "83 07 00 01 00 00 01 61 00"],
  ["UNSUBSCRIBE, none", "a0 06 00 01 00 00 01 61"],
  ["UNSUBSCRIBE, one more", "a6 06 00 01 00 00 01 61"],
  ["DISCONNECT", "e1 00"],
  ["AUTH", "f2 00"],
])("[MQTT-2.1.3-1] fixed header flags other than the listed ones are malformed: %s", async (_, bytes) => {
  const client = await harness.connect();
  client.send(hex(bytes));
  await client.expectRejected(0x81);
});

test("[MQTT-2.1.3-1] CONNECT with fixed header flags is malformed", async () => {
  for (const first of ["11", "12", "18"]) {
    const client = await harness.open();
    client.send(framed(first, "00 04 4d 51 54 54 05 02 00 3c 00 00 01 63"));
    await expectClosedOr(client, 0x81);
  }
});

test("[MQTT-2.1.3-1] what the broker sends has the listed flags", async () => {
  const client = await harness.connect();
  const publisher = await harness.connect();
  client.send(hex("82 07 00 01 00 00 01 66 02"));
  await client.expectBytes("90 04 00 01 00 02");
  publisher.send(hex("32 07 00 01 66 00 01 00 78"));
  await publisher.expectBytes("40 02 00 01");
  publisher.send(hex("34 07 00 01 66 00 02 00 78"));
  await publisher.expectBytes("50 02 00 02");
  publisher.send(hex("62 02 00 02"));
  await publisher.expectBytes("70 02 00 02");
  await client.expectBytes("32 07 00 01 66 00 01 00 78");
  await client.expectBytes("34 07 00 01 66 00 02 00 78");
  client.send(hex("50 02 00 02"));
  await client.expectBytes("62 02 00 02");
  client.send(hex("70 02 00 02 c0 00"));
  await client.expectBytes("d0 00");
  client.send(hex("a2 06 00 03 00 00 01 66"));
  await client.expectBytes("b0 04 00 03 00 00");
});

test("[MQTT-2.2.1-2] a QoS 0 PUBLISH has no packet id, sent and delivered", async () => {
  const client = await harness.connect();
  await client.subscribe("g", 2);
  client.send(hex("30 06 00 01 67 00 68 69"));
  await client.expectBytes("30 06 00 01 67 00 68 69");
  const low = await harness.connect();
  await low.subscribe("g", 0);
  await client.publish("g", "hi", { qos: 1 });
  await low.expectBytes("30 06 00 01 67 00 68 69");
});

test("[MQTT-2.2.1-3] packet id 0 is refused wherever a client has to choose one", async () => {
  for (const bytes of [
    "82 07 00 00 00 00 01 61 00",
    "a2 06 00 00 00 00 01 61",
    "32 06 00 01 61 00 00 00",
    "34 06 00 01 61 00 00 00",
  ]) {
    const client = await harness.connect();
    client.send(hex(bytes));
    await client.expectRejected([0x81, 0x82]);
  }
});

test("[MQTT-2.2.1-3] a packet id that has been answered is free again, also for another type of packet", async () => {
  const topic = unique("t");
  const client = await harness.connect();
  const packetId = 0xffff;
  await client.subscribe(topic, { qos: 0, packetId });
  await client.subscribe(topic, { qos: 0, packetId });
  await client.publish(topic, "1", { qos: 1, packetId });
  await client.publish(topic, "2", { qos: 2, packetId });
  await client.publish(topic, "3", { qos: 2, packetId });
  await client.unsubscribe(topic, { packetId });
  expect((await client.settle()).map((packet) => packet.type)).toEqual(["publish", "publish", "publish"]);
});

test("[MQTT-2.2.1-4] the broker's packet ids ascend from 1, are never 0, and one in use is not given again", async () => {
  const topic = unique("t");
  const client = await harness.connect();
  await client.subscribe(topic, 1);
  const publisher = await harness.connect();
  const deliver = async (count: number) => {
    for (let i = 0; i < count; i++) await publisher.publish(topic, "", { qos: 1 });
    return (await client.settle()) as PublishPacket[];
  };
  const first = await deliver(3);
  expect(first.map((message) => message.packetId)).toEqual([1, 2, 3]);
  await client.ack(first[1]!);
  const next = await deliver(3);
  expect(next.map((message) => message.packetId)).toEqual([4, 5, 6]);
});

test("[MQTT-2.2.1-4] after 65,535 the broker's packet ids go on with a free one", async () => {
  if (isForeign) return; // long, where each window takes a way through the network
  const topic = unique("t");
  const client = await harness.connect();
  await client.subscribe(topic, 1);
  const publisher = await harness.connect();
  await publisher.publish(topic, "kept", { qos: 1 });
  await client.expect("publish", { packetId: 1 }); // never acknowledged
  client.autoAck = true;
  const ids = new Set<number>();
  const window = Math.min(512, Number(prop(publisher.connack!, "receiveMaximum") ?? 512));
  for (let sent = 1; sent <= 65_536; sent += window) {
    for (let i = 0; i < window; i++)
      publisher.send({ type: "publish", qos: 1, packetId: publisher.nextPacketId(), topic });
    await publisher.settle();
    for (const packet of await client.settle()) ids.add((packet as PublishPacket).packetId!);
  }
  expect([ids.has(0), ids.has(1), ids.has(2), ids.has(65_535), ids.size]).toEqual([false, false, true, true, 65_534]);
}, 30_000);

test("[MQTT-2.2.1-5] PUBACK, PUBREC, PUBREL and PUBCOMP repeat the packet id of their PUBLISH", async () => {
  const client = await harness.connect();
  const subscriber = await harness.connect();
  await subscriber.subscribe("i", 2);
  client.send(hex("32 06 00 01 69 12 34 00"));
  await client.expectBytes("40 02 12 34");
  client.send(hex("34 06 00 01 69 fe dc 00"));
  await client.expectBytes("50 02 fe dc");
  client.send(hex("62 02 fe dc"));
  await client.expectBytes("70 02 fe dc");
  await subscriber.expectBytes("32 06 00 01 69 00 01 00");
  await subscriber.expectBytes("34 06 00 01 69 00 02 00");
  subscriber.send(hex("50 02 00 02"));
  await subscriber.expectBytes("62 02 00 02");
});

test("[MQTT-2.2.1-6] [MQTT-2.2.2-1] SUBACK and UNSUBACK repeat the packet id, with property length 0", async () => {
  const client = await harness.connect();
  client.send(hex("82 07 ab cd 00 00 01 6a 00"));
  await client.expectBytes("90 04 ab cd 00 00");
  client.send(hex("a2 06 ab ce 00 00 01 6a"));
  await client.expectBytes("b0 04 ab ce 00 00");
});

test("[MQTT-2.2.2-1] a packet that leaves the property length out is malformed", async () => {
  for (const bytes of ["82 06 00 01 00 01 61 00", "a2 05 00 01 00 01 61", "30 03 00 01 61", "32 05 00 01 61 00 01"]) {
    const client = await harness.connect();
    client.send(hex(bytes));
    await client.expectRejected(0x81);
  }
});
