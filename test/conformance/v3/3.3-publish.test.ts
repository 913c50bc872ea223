// PUBLISH of 3.1.1 and its acknowledgements: flags, retained messages, topic names.

import { expect, test } from "bun:test";
import { hex, type PacketInput } from "#test/support/packets.ts";
import {
  closesMutely,
  expectEachCloses,
  payloads,
  sendTogether,
  topics,
  topicsWithQos,
  unique,
  useHarness,
  withAccess,
} from "./fixture.ts";

const harness = useHarness();

async function subscriber(filters: string | string[], qos: number) {
  const client = await harness.connect({ version: 4 });
  client.autoAck = true;
  await client.subscribe(filters, qos);
  return client;
}

/** What a new subscription to this filter brings. */
async function retainedOf(filter: string, qos = 2) {
  return (await subscriber(filter, qos)).settle();
}

test("[MQTT3-3.3.1-1] a PUBLISH that is sent again has DUP 1", async () => {
  const clientId = unique("v3-dup");
  const client = await harness.connect({ version: 4, clientId, cleanStart: false });
  const publisher = await harness.connect({ version: 4 });
  await client.subscribe("3.3/dup", 2);
  await publisher.publish("3.3/dup", "1", { qos: 1 });
  await publisher.publish("3.3/dup", "2", { qos: 2 });
  const first = await client.expect("publish", { qos: 1, dup: false });
  const second = await client.expect("publish", { qos: 2, dup: false });
  client.kill();
  const again = await harness.connect({ version: 4, clientId, cleanStart: false });
  await again.expect("publish", { qos: 1, dup: true, packetId: first.packetId!, payload: "1" });
  await again.expect("publish", { qos: 2, dup: true, packetId: second.packetId!, payload: "2" });
});

test("[MQTT3-3.3.1-2] DUP is 0 on every QoS 0 message", async () => {
  await expectEachCloses(harness, ["38 05 00 01 61 68 69", "39 05 00 01 61 68 69"]);
  const client = await subscriber("d", 0);
  const publisher = await harness.connect({ version: 4 });
  publisher.send(hex("30 05 00 01 64 68 69 3a 07 00 01 64 00 05 68 69"));
  await publisher.expectBytes("40 02 00 05");
  await client.expectBytes("30 05 00 01 64 68 69");
  await client.expectBytes("30 05 00 01 64 68 69");
});

test("[MQTT3-3.3.1-3] DUP of an incoming PUBLISH is not passed on", async () => {
  const client = await subscriber("3.3/dup-in", 2);
  const publisher = await harness.connect({ version: 4 });
  for (const qos of [1, 2]) {
    await publisher.publish("3.3/dup-in", "", { qos, dup: true });
    await client.expect("publish", { qos, dup: false });
  }
});

test("[MQTT3-3.3.1-4] QoS 3 closes the connection", async () => {
  await expectEachCloses(harness, ["36 05 00 01 61 00 01", "3e 05 00 01 61 00 01", "37 05 00 01 61 00 01"]);
});

test("[MQTT3-3.3.1-5] [MQTT3-3.3.1-8] a retained message is kept with its QoS and comes with RETAIN 1", async () => {
  const publisher = await harness.connect({ version: 4 });
  for (const qos of [0, 1, 2]) {
    await publisher.publish("3.3/keep", `${qos}`, { qos, retain: true });
    await publisher.ping();
    for (const granted of [0, 1, 2]) {
      expect(await retainedOf("3.3/keep", granted)).toMatchObject([
        { type: "publish", topic: "3.3/keep", qos: Math.min(qos, granted), retain: true, dup: false },
      ]);
    }
  }
  publisher.send({ type: "publish", topic: "k", payload: "hi", retain: true });
  await publisher.ping();
  const bytes = await subscriber("k", 2);
  await bytes.expectBytes("31 05 00 01 6b 68 69");
  for (const topic of ["3.3/keep", "k"]) await publisher.publish(topic, "", { qos: 1, retain: true });
});

test("[MQTT3-3.3.1-6] a new subscription gets the last retained message of every matching topic", async () => {
  const publisher = await harness.connect({ version: 4 });
  const kept = ["3.3/all/a", "3.3/all/a/b", "3.3/all", "3.3/all/c"];
  for (const payload of ["old", "last"]) {
    for (const topic of [...kept, "3.3/other"]) await publisher.publish(topic, payload, { qos: 1, retain: true });
  }
  const everything = await retainedOf("3.3/all/#");
  expect(topics(everything).sort()).toEqual([...kept].sort());
  expect(new Set(payloads(everything))).toEqual(new Set(["last"]));
  expect(topics(await retainedOf("3.3/all/+")).sort()).toEqual(["3.3/all/a", "3.3/all/c"]);
  expect(topics(await retainedOf("+/all/a/b"))).toEqual(["3.3/all/a/b"]);
  for (const topic of [...kept, "3.3/other"]) await publisher.publish(topic, "", { qos: 1, retain: true });
});

test("[MQTT3-3.3.1-7] a retained QoS 0 message displaces the one kept before", async () => {
  const publisher = await harness.connect({ version: 4 });
  await publisher.publish("3.3/displace", "1", { qos: 1, retain: true });
  await publisher.publish("3.3/displace", "2", { qos: 0, retain: true });
  await publisher.ping();
  expect(payloads(await retainedOf("3.3/displace"))).toEqual(["2"]);
  await publisher.publish("3.3/displace", "", { qos: 1, retain: true });
});

test("[MQTT3-3.3.1-9] a message that meets an established subscription has RETAIN 0", async () => {
  const client = await subscriber("r", 2);
  const publisher = await harness.connect({ version: 4 });
  publisher.send(hex("31 05 00 01 72 68 69"));
  await client.expectBytes("30 05 00 01 72 68 69");
  for (const qos of [1, 2]) {
    await publisher.publish("r", "hi", { qos, retain: true });
    await client.expect("publish", { topic: "r", qos, retain: false });
  }
  await publisher.publish("r", "", { qos: 1, retain: true });
});

test("[MQTT3-3.3.1-10] [MQTT3-3.3.1-11] an empty retained message is delivered, clears the topic and is not kept", async () => {
  const publisher = await harness.connect({ version: 4 });
  const client = await subscriber(["3.3/clear", "3.3/fresh"], 1);
  await publisher.publish("3.3/clear", "kept", { qos: 1, retain: true });
  await publisher.publish("3.3/clear", "", { qos: 1, retain: true });
  await publisher.publish("3.3/fresh", "", { qos: 1, retain: true });
  expect(payloads(await client.settle())).toEqual(["kept", "", ""]);
  expect(await retainedOf("3.3/clear")).toEqual([]);
  expect(await retainedOf("3.3/fresh")).toEqual([]);
});

test("[MQTT3-3.3.1-12] a message with RETAIN 0 leaves the retained one alone", async () => {
  const publisher = await harness.connect({ version: 4 });
  await publisher.publish("3.3/alone", "kept", { qos: 1, retain: true });
  await publisher.publish("3.3/alone", "passing", { qos: 1 });
  await publisher.publish("3.3/alone", "", { qos: 1 });
  expect(payloads(await retainedOf("3.3/alone"))).toEqual(["kept"]);
  await publisher.publish("3.3/alone", "", { qos: 1, retain: true });
  await publisher.publish("3.3/never", "passing", { qos: 1 });
  expect(await retainedOf("3.3/never")).toEqual([]);
});

test("[MQTT3-3.3.2-1] the topic name comes first and is a valid string", async () => {
  await expectEachCloses(harness, [
    "30 03 00 01 ff",
    "30 03 00 02 61", // cut
    "30 01 00",
    "30 00",
    "32 03 00 01 61", // no packet id
    "32 04 00 01 61 00",
  ]);
  const client = await subscriber("t", 0);
  client.send(hex("30 03 00 01 74"));
  await client.expectBytes("30 03 00 01 74");
});

test("[MQTT3-3.3.2-2] a topic name with a wildcard closes the connection", async () => {
  const watcher = await subscriber("3.3/wild/#", 0);
  const packets = ["3.3/wild/#", "3.3/wild/+", "3.3/wild/a+", "#", "+"].map((topic): PacketInput => {
    return { type: "publish", topic, payload: "x", qos: 1, packetId: 1 };
  });
  await expectEachCloses(harness, packets);
  expect(await watcher.settle()).toEqual([]);
});

test("[MQTT3-3.3.2-3] a delivered topic name is the published one and matches the filter", async () => {
  const published = ["3.3/m", "3.3/m/a", "3.3/m/a/c", "3.3/m/b/c", "3.3/m/a/c/d", "3.3/mm", "3.3/m/", "3.3/m//c"];
  const matching: [filter: string, topics: string[]][] = [
    ["3.3/m/#", ["3.3/m", "3.3/m/a", "3.3/m/a/c", "3.3/m/b/c", "3.3/m/a/c/d", "3.3/m/", "3.3/m//c"]],
    ["3.3/m/+/c", ["3.3/m/a/c", "3.3/m/b/c", "3.3/m//c"]],
    ["3.3/+", ["3.3/m", "3.3/mm"]],
    ["3.3/m/+", ["3.3/m/a", "3.3/m/"]],
    ["+/m/a", ["3.3/m/a"]],
    ["3.3/m", ["3.3/m"]],
  ];
  const publisher = await harness.connect({ version: 4 });
  for (const [filter, expected] of matching) {
    const client = await subscriber(filter, 0);
    for (const topic of published) await publisher.publish(topic, "", { qos: 1 });
    expect(topics(await client.settle())).toEqual(expected);
    client.kill();
  }
});

test("[MQTT3-3.3.4-1] PUBLISH is answered as its QoS asks", async () => {
  const client = await harness.connect({ version: 4 });
  client.send({ type: "publish", topic: "3.3/answer", payload: "x" });
  expect(await client.settle()).toEqual([]);
  sendTogether(client, ["32 05 00 01 61 00 07", "34 05 00 01 61 00 08"]);
  await client.expectBytes("40 02 00 07");
  await client.expectBytes("50 02 00 08");
  client.send(hex("62 02 00 08"));
  await client.expectBytes("70 02 00 08");
  expect(await client.settle()).toEqual([]);
});

test("[MQTT3-3.3.5-1] overlapping subscriptions deliver at their highest QoS", async () => {
  const publisher = await harness.connect({ version: 4 });
  for (const [first, second] of [
    ["3.3/over/#", "3.3/over/b"],
    ["3.3/over/b", "3.3/over/+"],
  ] as const) {
    const client = await subscriber(first, 1);
    await client.subscribe(second, 2);
    await publisher.publish("3.3/over/b", "", { qos: 2 });
    expect(topicsWithQos(await client.settle())).toEqual(["3.3/over/b 2"]);
    client.kill();
  }
});

test("[MQTT3-3.3.5-2] a PUBLISH that is not allowed is acknowledged as usual, or closes the connection", async () => {
  await withAccess(async (guarded) => {
    const watcher = await guarded.connect({ version: 4 });
    await watcher.subscribe("#", 0);
    const client = await guarded.connect({ version: 4 });
    client.send({ type: "publish", topic: "deny/x", payload: "0" });
    client.send({ type: "publish", topic: "deny/x", payload: "1", qos: 1, packetId: 7 });
    client.send({ type: "publish", topic: "deny/x", payload: "2", qos: 2, packetId: 8 });
    if (!(await closesMutely(client))) {
      await client.expectBytes("40 02 00 07");
      await client.expectBytes("50 02 00 08");
      client.send(hex("62 02 00 08"));
      await client.expectBytes("70 02 00 08");
    }
    const later = await guarded.connect({ version: 4 });
    await later.publish("allow/x", "", { qos: 1 });
    expect(topics(await watcher.settle())).toEqual(["allow/x"]);
    await later.publish("deny/x", "kept?", { qos: 1, retain: true });
    const reader = await guarded.connect({ version: 4 });
    expect((await reader.subscribe(["deny/x", "deny/#", "#"], 0)).reasonCodes).toEqual([0x80, 0x80, 0]);
    expect(await reader.settle()).toEqual([]);
  });
});

test("[MQTT3-3.6.1-1] PUBREL with other flags than 0010 closes the connection", async () => {
  await expectEachCloses(harness, ["60 02 00 01", "61 02 00 01", "63 02 00 01", "66 02 00 01", "6a 02 00 01"]);
});
