// UNSUBSCRIBE: what a well-formed one is, which subscriptions it removes, and what it must leave alone.

import { expect, test } from "bun:test";
import { hex } from "#test/support/packets.ts";
import { unique } from "./connect-support.ts";
import { useHarness } from "./fixture.ts";

const harness = useHarness();

test("[MQTT-3.10.1-1] fixed header flags other than 0010 are malformed", async () => {
  for (const flags of [0, 1, 3, 6, 10, 15]) {
    const client = await harness.connect();
    client.send({ type: "unsubscribe", flags, packetId: 1, filters: ["flags"] });
    await client.expectRejected(0x81);
  }
});

test("[MQTT-3.10.3-1] a filter that is no valid UTF-8 string ends the connection", async () => {
  for (const bytes of ["ff", "c0 80", "ed a0 80", "61 00"]) {
    const client = await harness.connect();
    client.send({ type: "unsubscribe", packetId: 1, filters: ["3.10/good", hex(bytes)] });
    await client.expectRejected([0x81, 0x8f]);
  }
  const short = await harness.connect();
  short.send(hex("a2 06 00 01 00 00 02 61")); // the filter is cut
  await short.expectRejected(0x81);
});

test("[MQTT-3.10.3-2] an UNSUBSCRIBE without a filter ends the connection", async () => {
  const client = await harness.connect();
  client.send(hex("a2 03 00 01 00"));
  await client.expectRejected([0x81, 0x82]);
});

test("[MQTT-3.10.4-1] a subscription is removed only by the very same characters", async () => {
  const client = await harness.connect();
  const count = async (topic: string) => {
    await client.publish(topic, "", { qos: 1 });
    return (await client.settle()).length;
  };
  await client.subscribe("3.10/a/+", 0);
  const others = ["3.10/a/b", "3.10/A/+", "3.10/a/+/", "3.10/a/#", "/3.10/a/+", "#", "$share/g/3.10/a/+"];
  expect((await client.unsubscribe(others)).reasonCodes).toEqual(others.map(() => 0x11));
  expect(await count("3.10/a/b")).toBe(1);
  expect((await client.unsubscribe("3.10/a/+")).reasonCodes).toEqual([0]);
  expect(await count("3.10/a/b")).toBe(0);

  await client.subscribe("$share/g/3.10/shared", 0);
  const near = ["3.10/shared", "$share/h/3.10/shared"];
  expect((await client.unsubscribe(near)).reasonCodes).toEqual([0x11, 0x11]);
  expect(await count("3.10/shared")).toBe(1);
  expect((await client.unsubscribe("$share/g/3.10/shared")).reasonCodes).toEqual([0]);
  expect(await count("3.10/shared")).toBe(0);
});

test("[MQTT-3.10.4-2] after the UNSUBACK nothing new comes", async () => {
  const client = await harness.connect();
  const publisher = await harness.connect();
  await client.subscribe(["3.10/stop", "3.10/stay"], 1);
  await client.unsubscribe("3.10/stop");
  for (const qos of [0, 1, 2]) {
    await publisher.publish("3.10/stop", "", { qos });
    await publisher.publish("3.10/stay", `${qos}`, { qos });
  }
  await publisher.ping();
  client.autoAck = true;
  const topics = (await client.settle()).map((packet) => (packet.type === "publish" ? packet.topic : packet.type));
  expect(topics).toEqual(["3.10/stay", "3.10/stay", "3.10/stay"]);
});

test("[MQTT-3.10.4-3] QoS 1 and 2 deliveries that have begun are completed after UNSUBSCRIBE", async () => {
  const clientId = unique("c310-begun");
  const properties = [["sessionExpiryIntervalSec", 60]] as [["sessionExpiryIntervalSec", number]];
  const client = await harness.connect({ clientId, properties });
  const publisher = await harness.connect();
  await client.subscribe("3.10/begun", 2);
  for (const qos of [1, 2, 2]) await publisher.publish("3.10/begun", `${qos}`, { qos });
  const first = await client.expect("publish", { qos: 1, dup: false });
  const second = await client.expect("publish", { qos: 2, dup: false });
  const third = await client.expect("publish", { qos: 2, dup: false });
  client.send({ type: "pubrec", packetId: third.packetId! });
  await client.expect("pubrel", { packetId: third.packetId! });
  expect((await client.unsubscribe("3.10/begun")).reasonCodes).toEqual([0]);
  client.kill();

  const again = await harness.connect({ clientId, properties, cleanStart: false });
  expect(again.connack?.sessionPresent).toBe(true);
  const resent = await again.settle();
  expect(resent.filter(({ type }) => type === "publish")).toMatchObject([
    { qos: 1, dup: true, packetId: first.packetId },
    { qos: 2, dup: true, packetId: second.packetId },
  ]);
  expect(resent.filter(({ type }) => type !== "publish")).toMatchObject([{ type: "pubrel", packetId: third.packetId }]);
  again.send({ type: "puback", packetId: first.packetId! });
  again.send({ type: "pubcomp", packetId: third.packetId! });
  await again.ack(second);
  await publisher.publish("3.10/begun", "new", { qos: 1 });
  expect(await again.settle()).toEqual([]);
  await again.disconnect();

  const last = await harness.connect({ clientId, properties, cleanStart: false });
  expect(await last.settle()).toEqual([]);
});

test("[MQTT-3.10.4-4] every UNSUBSCRIBE gets one UNSUBACK", async () => {
  const client = await harness.connect();
  await client.subscribe("3.10/one", 0);
  for (const [packetId, filter] of [
    [11, "3.10/one"],
    [12, "3.10/one"],
    [13, "3.10/never"],
  ] as const) {
    client.send({ type: "unsubscribe", packetId, filters: [filter] });
  }
  expect(await client.settle()).toMatchObject([
    { type: "unsuback", packetId: 11, reasonCodes: [0] },
    { type: "unsuback", packetId: 12, reasonCodes: [0x11] },
    { type: "unsuback", packetId: 13, reasonCodes: [0x11] },
  ]);
});

test("[MQTT-3.10.4-5] the UNSUBACK repeats the packet id, also when nothing was subscribed", async () => {
  const client = await harness.connect();
  await client.subscribe("3.10/id", 0);
  client.send({ type: "unsubscribe", packetId: 0xabcd, filters: ["3.10/id"] });
  await client.expectBytes("b0 04 ab cd 00 00");
  client.send({ type: "unsubscribe", packetId: 0xabce, filters: ["3.10/id"] });
  await client.expect("unsuback", { packetId: 0xabce, reasonCodes: [0x11] });
});

test("[MQTT-3.10.4-6] several filters in one packet are all removed with one UNSUBACK", async () => {
  const client = await harness.connect();
  const filters = ["3.10/many/a", "3.10/many/+/b", "3.10/many/c/#"];
  await client.subscribe(filters, 0);
  client.send({ type: "unsubscribe", packetId: 9, filters });
  expect(await client.settle()).toMatchObject([{ type: "unsuback", packetId: 9, reasonCodes: [0, 0, 0] }]);
  for (const topic of ["3.10/many/a", "3.10/many/x/b", "3.10/many/c"]) await client.publish(topic, "", { qos: 1 });
  expect(await client.settle()).toEqual([]);
});
