import { expect, test } from "bun:test";
import { hex, type PacketInput, type Properties } from "#test/support/packets.ts";
import { connectBytes, framed, resolvedTopics, unique } from "./connect-support.ts";
import { useHarness } from "./fixture.ts";

const harness = useHarness();

const prefixed = (text: string) => `00 0${hex(text).length} ${text}`;
const pair = (name: string, value: string): Properties => [
  ["userProperty", hex(`${prefixed(name)} ${prefixed(value)}`)],
];

/** A packet for every place of a string after CONNECT, and the reason code of its own that the place has besides 81. */
function packetsWith(bad: string): [what: string, ownCode: number, packet: PacketInput][] {
  const text = hex(bad);
  const properties = pair("61", bad);
  const subscription = { filter: "a", qos: 0 };
  return [
    ["topic name", 0x90, { type: "publish", topic: text }],
    ["topic name, QoS 1", 0x90, { type: "publish", topic: text, qos: 1, packetId: 1 }],
    ["content type", 0x81, { type: "publish", topic: "a", properties: [["contentType", text]] }],
    ["response topic", 0x90, { type: "publish", topic: "a", properties: [["responseTopic", text]] }],
    ["user property of PUBLISH", 0x81, { type: "publish", topic: "a", properties }],
    ["filter of SUBSCRIBE", 0x8f, { type: "subscribe", packetId: 1, subscriptions: [{ filter: text, qos: 0 }] }],
    ["user property of SUBSCRIBE", 0x81, { type: "subscribe", packetId: 1, properties, subscriptions: [subscription] }],
    ["filter of UNSUBSCRIBE", 0x8f, { type: "unsubscribe", packetId: 1, filters: [text] }],
    ["user property of UNSUBSCRIBE", 0x81, { type: "unsubscribe", packetId: 1, properties, filters: ["a"] }],
    ["user property of DISCONNECT", 0x81, { type: "disconnect", reasonCode: 0, properties }],
  ];
}

/** The same inside CONNECT, where client id and user name have codes of their own. */
function connectsWith(bad: string): [what: string, ownCode: number, packet: Uint8Array][] {
  const text = `26 ${prefixed("61")} ${prefixed(bad)}`;
  const properties = `0${hex(text).length.toString(16)} ${text}`;
  return [
    ["client id", 0x85, connectBytes("02", prefixed(bad))],
    ["user name", 0x86, connectBytes("82", `${prefixed("63")} ${prefixed(bad)}`)],
    ["will topic", 0x90, connectBytes("06", `${prefixed("63")} 00 ${prefixed(bad)} 00 00`)],
    ["user property", 0x81, connectBytes("02", prefixed("63"), properties)],
    ["user property of the will", 0x81, connectBytes("06", `${prefixed("63")} ${properties} ${prefixed("77")} 00 00`)],
  ];
}

async function expectAllRefused(bad: string): Promise<void> {
  for (const [what, ownCode, packet] of packetsWith(bad)) {
    const client = await harness.connect();
    client.send(packet);
    await client.expectRejected([0x81, ownCode]).catch(explain(`${what} ${bad}`));
  }
  for (const [what, ownCode, bytes] of connectsWith(bad)) {
    const client = await harness.open();
    client.send(bytes);
    await client.expectRejected([0x81, ownCode]).catch(explain(`${what} of CONNECT ${bad}`));
  }
}

function explain(what: string): (error: Error) => never {
  return (error) => {
    error.message = `${what}: ${error.message}`;
    throw error;
  };
}

test.each([
  ["overlong form", "c0 80"],
  ["surrogate", "ed a0 80"],
  ["above U+10FFFF", "f5 80 80 80"],
  ["cut short", "61 c3"],
  ["lone continuation byte", "80 61"],
])("[MQTT-1.5.4-1] ill-formed UTF-8 in any string ends the connection: %s", async (_, bad) => {
  await expectAllRefused(bad);
});

test("[MQTT-1.5.4-2] a null character in any string ends the connection", async () => {
  await expectAllRefused("61 00 62");
});

test("[MQTT-1.5.4-1] strings of two, three and four byte characters pass unchanged", async () => {
  const topic = `${unique("t")}/é/€/𝄞/\ud7ff/\ue000/\u{10fffd}`;
  const client = await harness.connect();
  await client.subscribe(topic);
  await client.publish(topic, "", { properties: [["userProperty", ["𝄞", "é€"]]] });
  await client.expect("publish", { topic, properties: [["userProperty", ["𝄞", "é€"]]] });
});

test("[MQTT-1.5.4-3] EF BB BF stays in a topic, at its start and inside", async () => {
  const plain = unique("t");
  const all = [`\ufeff${plain}`, plain, `${plain}\ufeff`];
  const marked = await harness.connect();
  const bare = await harness.connect();
  await marked.subscribe([all[0]!, all[2]!]);
  await bare.subscribe(plain);
  const publisher = await harness.connect();
  for (const topic of all) await publisher.publish(topic, "", { qos: 1 });
  expect(resolvedTopics(await marked.settle())).toEqual([all[0]!, all[2]!]);
  expect(resolvedTopics(await bare.settle())).toEqual([plain]);
  await marked.subscribe("\ufeffa");
  await publisher.publish("\ufeffa", "x");
  await marked.expectBytes("30 08 00 04 ef bb bf 61 00 78");
});

test.each([
  [127, "7f"],
  [128, "80 01"],
  [16_383, "ff 7f"],
  [16_384, "80 80 01"],
])("[MQTT-1.5.5-1] a packet of remaining length %d has length bytes %s", async (length, bytes) => {
  const client = await harness.connect();
  await client.subscribe("v");
  const payload = new Uint8Array(length - 4).fill(0x78);
  await client.publish("v", payload);
  await client.expectBytes(Uint8Array.of(...hex(`30 ${bytes} 00 01 76 00`), ...payload));
});

test.each([
  ["remaining length in two bytes for 0", "c0 80 00"],
  ["remaining length in three bytes for 4", "30 84 80 00 00 01 76 00"],
  ["remaining length of five bytes", "30 80 80 80 80 01"],
  ["property length in two bytes for 0", "30 05 00 01 76 80 00"],
  ["property length of five bytes", "30 08 00 01 76 80 80 80 80 00"],
  ["subscription identifier in two bytes for 1", "82 0a 00 01 03 0b 81 00 00 01 76 00"],
])("[MQTT-1.5.5-1] a length that is longer than it need be is malformed: %s", async (_, bytes) => {
  const client = await harness.connect();
  client.send(hex(bytes));
  await client.expectRejected(0x81);
});

test("[MQTT-1.5.7-1] both halves of a user property are UTF-8 without null", async () => {
  for (const bad of ["c0 80", "ed b0 80", "61 00"]) {
    for (const properties of [pair(bad, "61"), pair("61", bad)]) {
      const client = await harness.connect();
      client.send({ type: "publish", topic: "v", properties });
      await client.expectRejected(0x81).catch(explain(bad));
    }
  }
  const cut = await harness.connect();
  cut.send(framed("30", "00 01 76 05 26 00 01 61 00")); // the value's length is cut
  await cut.expectRejected(0x81);
});
