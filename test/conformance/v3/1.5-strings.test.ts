// UTF-8 strings of 3.1.1, wherever a client may put one.

import { expect, test } from "bun:test";
import { hex, type PacketInput } from "#test/support/packets.ts";
import { connect, expectEachCloses, expectEachRefused, useHarness } from "./fixture.ts";

const harness = useHarness();

function inConnect(text: Uint8Array): PacketInput[] {
  return [
    connect({ clientId: text }),
    connect({ will: { topic: text, payload: "" } }),
    connect({ username: text, password: "x" }),
  ];
}

function afterConnect(text: Uint8Array): PacketInput[] {
  return [
    { type: "publish", topic: text, payload: "x" },
    { type: "publish", qos: 2, packetId: 1, topic: text, payload: "x" },
    { type: "subscribe", packetId: 1, subscriptions: [{ filter: text, qos: 0 }] },
    { type: "unsubscribe", packetId: 1, filters: [text] },
  ];
}

test("[MQTT3-1.5.3-1] a string that is no UTF-8, or has a surrogate, closes the connection", async () => {
  // alone, overlong, surrogate, above U+10FFFF, cut short, a follower without its head
  for (const bytes of ["ff", "c0 80", "61 ed a0 80", "f5 80 80 80", "61 e2 82", "80 61"]) {
    await expectEachRefused(harness, inConnect(hex(bytes)));
    await expectEachCloses(harness, afterConnect(hex(bytes)));
  }
});

test("[MQTT3-1.5.3-2] a string with U+0000 closes the connection", async () => {
  for (const bytes of ["00", "61 00 62", "61 00"]) {
    await expectEachRefused(harness, inConnect(hex(bytes)));
    await expectEachCloses(harness, afterConnect(hex(bytes)));
  }
});

test("[MQTT3-1.5.3-3] EF BB BF is a character like others and is not stripped", async () => {
  const client = await harness.connect({ version: 4 });
  await client.subscribe("+/bom", 0);
  client.send(hex("30 0a 00 08 ef bb bf 61 2f 62 6f 6d"));
  await client.expectBytes("30 0a 00 08 ef bb bf 61 2f 62 6f 6d");
  await client.unsubscribe("+/bom");
  await client.subscribe("a/bom", 0);
  await client.publish(`${String.fromCodePoint(0xfeff)}a/bom`, "", { qos: 1 });
  expect(await client.settle()).toEqual([]);
});

test("text of one to four bytes a character comes through everywhere", async () => {
  const topic = "1.5/~é€😀";
  const client = await harness.connect({ version: 4, clientId: topic, username: topic, password: topic });
  await client.subscribe(topic, 1);
  await client.publish(topic, topic, { qos: 1 });
  await client.expect("publish", { topic, payload: topic });
});
