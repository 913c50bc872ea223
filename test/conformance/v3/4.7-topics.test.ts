// Topic names and topic filters of 3.1.1.

import { expect, test } from "bun:test";
import type { PacketInput } from "#test/support/packets.ts";
import { closesMutely, expectEachCloses, topics, useHarness, withConfig } from "./fixture.ts";

const harness = useHarness();

/** Which of these topics a subscription to the filter brings. */
async function matches(filter: string, published: string[]): Promise<string[]> {
  const client = await harness.connect({ version: 4 });
  expect((await client.subscribe(filter, 0)).reasonCodes).toEqual([0]);
  for (const topic of published) await client.publish(topic, "", { qos: 1 });
  const seen = topics((await client.settle()).filter(isOurs(published)));
  client.kill();
  return seen;
}

/** A broker may be shared: what others publish meanwhile does not count. */
function isOurs(published: string[]) {
  return (packet: { type: string; topic?: string }) => packet.type !== "publish" || published.includes(packet.topic!);
}

test("[MQTT3-4.7.1-1] wildcards are for filters; in a topic name they close the connection", async () => {
  const names = ["4.7/+", "4.7/#", "+", "#", "4.7/a+/b"];
  await expectEachCloses(
    harness,
    names.map((topic): PacketInput => ({ type: "publish", topic, payload: "x" })),
  );
  expect(await matches("4.7/+/c", ["4.7/a/c", "4.7/b/c", "4.7/c"])).toEqual(["4.7/a/c", "4.7/b/c"]);
});

test("[MQTT3-4.7.1-2] # stands for the rest of the levels, alone in its level and last", async () => {
  const client = await harness.connect({ version: 4 });
  for (const filter of ["4.7/a#", "4.7/#/b", "#/4.7", "4.7/##", "4.7/#a", "#a"]) {
    expect((await client.subscribe(filter, 0)).reasonCodes).toEqual([0x80]);
  }
  const levels = ["4.7/h", "4.7/h/", "4.7/h/a", "4.7/h/a/b", "4.7/hh", "4.7"];
  expect(await matches("4.7/h/#", levels)).toEqual(["4.7/h", "4.7/h/", "4.7/h/a", "4.7/h/a/b"]);
  expect(await matches("#", levels)).toEqual(levels);
});

test("[MQTT3-4.7.1-3] + stands for one whole level", async () => {
  const client = await harness.connect({ version: 4 });
  for (const filter of ["4.7/a+", "+a", "4.7/a+/b", "++", "4.7/+b/c", "+#"]) {
    expect((await client.subscribe(filter, 0)).reasonCodes).toEqual([0x80]);
  }
  const levels = ["4.7/p", "4.7/p/", "4.7/p/a", "4.7/p/a/b", "4.7/p//b", "/4.7p", "4.7p"];
  expect(await matches("4.7/p/+", levels)).toEqual(["4.7/p/", "4.7/p/a"]);
  expect(await matches("4.7/p/+/b", levels)).toEqual(["4.7/p/a/b", "4.7/p//b"]);
  expect(await matches("+/+", levels)).toEqual(["4.7/p", "/4.7p"]);
  expect(await matches("+", levels)).toEqual(["4.7p"]);
  expect(await matches("/+", levels)).toEqual(["/4.7p"]);
  expect(await matches("+/p/#", levels)).toEqual(["4.7/p", "4.7/p/", "4.7/p/a", "4.7/p/a/b", "4.7/p//b"]);
});

test("[MQTT3-4.7.2-1] a filter that begins with a wildcard does not match a topic that begins with $", async () => {
  const published = ["$test/x", "$test", "$test/x/y", "4.7d/x"];
  expect(await matches("#", published)).toEqual(["4.7d/x"]);
  expect(await matches("+/x", published)).toEqual(["4.7d/x"]);
  expect(await matches("+/#", published)).toEqual(["4.7d/x"]);
  expect(await matches("+", published)).toEqual([]);
  expect(await matches("$test/#", published)).toEqual(["$test/x", "$test", "$test/x/y"]);
  expect(await matches("$test/+", published)).toEqual(["$test/x"]);

  const publisher = await harness.connect({ version: 4 });
  await publisher.publish("$test/kept", "", { qos: 1, retain: true });
  await publisher.publish("$test/kept", "kept", { qos: 1, retain: true });
  const client = await harness.connect({ version: 4 });
  await client.subscribe(["#", "+/kept", "+/#"], 0);
  expect((await client.settle()).filter(isOurs(["$test/kept"]))).toEqual([]);
  await client.subscribe("$test/+", 0);
  expect(await client.settle()).toMatchObject([{ topic: "$test/kept", retain: true }]);
  await publisher.publish("$test/kept", "", { qos: 1, retain: true });
});

test("[MQTT3-4.7.3-1] an empty topic name closes the connection, an empty filter is refused", async () => {
  await expectEachCloses(harness, ["30 02 00 00", "30 03 00 00 78", "32 04 00 00 00 01"]);
  const client = await harness.connect({ version: 4 });
  client.send({ type: "subscribe", packetId: 1, subscriptions: [{ filter: "", qos: 0 }] });
  // The specification names no answer: a failure code, or the end of the connection.
  if (!(await closesMutely(client))) await client.expectBytes("90 03 00 01 80");
});

test("[MQTT3-4.7.3-2] U+0000 in a topic name or filter closes the connection", async () => {
  await expectEachCloses(harness, [
    "30 05 00 03 61 00 62",
    "32 07 00 03 61 00 62 00 01",
    "82 08 00 01 00 03 61 00 62 00",
    "a2 07 00 01 00 03 61 00 62",
  ]);
});

test("[MQTT3-4.7.3-3] topic names and filters may have 65,535 bytes", async () => {
  await withConfig({ mqtt: { topicBytesMax: 65_535 } }, async (wide) => {
    const client = await wide.connect({ version: 4 });
    const topic = "é".repeat(32_767) + "x";
    expect((await client.subscribe(topic, 1)).reasonCodes).toEqual([1]);
    await client.publish(topic, "x", { qos: 1 });
    await client.expect("publish", { topic, payload: "x" });
  });
  await withConfig({}, async (narrow) => {
    const client = await narrow.connect({ version: 4 });
    const topic = "x".repeat(4096);
    expect((await client.subscribe([topic, `${topic}x`], 0)).reasonCodes).toEqual([0, 0x80]);
    await client.publish(topic, "x", { qos: 1 });
    await client.expect("publish", { topic, payload: "x" });
    client.send({ type: "publish", topic: `${topic}x`, payload: "x" });
    await client.expectClosed();
  });
});

test("[MQTT3-4.7.3-4] topic names and filters are compared as they are, without any normalization", async () => {
  const levels = [
    "4.7/n//b",
    "4.7/n/b",
    "/4.7/n/b",
    "4.7/n/b/",
    "4.7/N/b",
    "4.7/n /b",
    "4.7/n/\u00e9",
    "4.7/n/e\u0301",
  ];
  for (const filter of levels) expect(await matches(filter, levels)).toEqual([filter]);
});
