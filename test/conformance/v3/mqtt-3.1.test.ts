// Protocol level 3, "MQIsdp": what MQTT 3.1 does as 3.1.1 does, and where it is another protocol. Its specification numbers
// no statements, so these titles carry no ids.

import { expect, test } from "bun:test";
import { hex } from "#test/support/packets.ts";
import { closesMutely, payloads, publishes, topicsWithQos, unique, useHarness, withConfig } from "./fixture.ts";

const harness = useHarness();

/** CONNECT of 3.1 with keep alive 60 and client id c1. */
function connectHex(flags: string, rest = "", level = "03"): Uint8Array {
  const body = hex(`00 06 4d 51 49 73 64 70 ${level} ${flags} 00 3c 00 02 63 31 ${rest}`);
  return Uint8Array.of(0x10, body.length, ...body);
}

test("a CONNECT named MQIsdp at level 3 gets CONNACK 0, whose first byte is reserved", async () => {
  const clientId = unique("v31");
  for (const cleanStart of [true, false, false]) {
    const client = await harness.open(3);
    client.send({ type: "connect", clientId, cleanStart });
    await client.expectBytes("20 02 00 00"); // 3.1 knows no Session Present
    client.kill();
  }
});

test("levels 0x83 and 0x84 of a bridge are accepted as 3.1 and 3.1.1", async () => {
  const old = await harness.open(3);
  old.send(connectHex("02", "", "83"));
  await old.expectBytes("20 02 00 00");
  const newer = await harness.open(4);
  newer.send(hex("10 0e 00 04 4d 51 54 54 84 02 00 3c 00 02 63 32"));
  await newer.expectBytes("20 02 00 00");
  await old.subscribe("3.1/from/newer", 1);
  await newer.subscribe("3.1/from/old", 1);
  await old.publish("3.1/from/old", "x", { qos: 2 });
  await newer.publish("3.1/from/newer", "x", { qos: 2 });
  await old.expect("publish", { topic: "3.1/from/newer", qos: 1, payload: "x" });
  await newer.expect("publish", { topic: "3.1/from/old", qos: 1, payload: "x" });
});

test("a bridge does not get back what it sent, and sees the retain flag of what others send", async () => {
  const publisher = await harness.connect({ version: 4 });
  for (const [version, protocolLevel] of [
    [3, 0x83],
    [4, 0x84],
  ] as const) {
    const bridge = await harness.connect({ version, protocolLevel });
    const topic = `3.1/bridge/${version}`;
    await bridge.subscribe(topic, 1);
    await bridge.publish(topic, "own", { qos: 1 });
    await publisher.publish(topic, "theirs", { qos: 1, retain: true });
    await publisher.publish(topic, "", { qos: 1, retain: true });
    expect(await bridge.settle()).toMatchObject([{ retain: true }, { retain: true }]);
  }
});

test("a 3.1 name with a level of another version gets CONNACK 1 and a close", async () => {
  for (const level of ["01", "02", "04"]) {
    const client = await harness.open(3);
    client.send(connectHex("02", "", level));
    await client.expectBytes("20 02 00 01");
    await client.expectClosed();
  }
});

test("a client id that is refused gets CONNACK 2 and a close", async () => {
  const nameless = await harness.open(3);
  nameless.send({ type: "connect", clientId: "" }); // 3.1 asks for 1 to 23 characters
  await nameless.expectBytes("20 02 00 02");
  await nameless.expectClosed();
  await withConfig({ mqtt: { clientIdBytesMax: 23 } }, async (strict) => {
    const long = await strict.open(3);
    long.send({ type: "connect", clientId: "a".repeat(24) });
    await long.expectBytes("20 02 00 02");
    await long.expectClosed();
  });
});

test("the flags of user name and password may stand without their fields", async () => {
  // The remaining length counts more than the flags, for clients older than these fields.
  for (const [flags, rest] of [
    ["82", ""],
    ["c2", ""],
    ["c2", "00 01 75"],
    ["c2", "00 01 75 00 01 70"],
  ]) {
    const client = await harness.open(3);
    client.send(connectHex(flags!, rest));
    await client.expectBytes("20 02 00 00");
    await client.ping();
  }
});

test("all QoS go in", async () => {
  const client = await harness.connect({ version: 3 });
  const watcher = await harness.connect({ version: 3 });
  await watcher.subscribe("i", 0);
  client.send(hex("30 04 00 01 69 30 32 06 00 01 69 12 34 31 34 06 00 01 69 00 05 32"));
  await client.expectBytes("40 02 12 34");
  await client.expectBytes("50 02 00 05");
  client.send(hex("3c 06 00 01 69 00 05 32"));
  await client.expectBytes("50 02 00 05");
  client.send(hex("62 02 00 05"));
  await client.expectBytes("70 02 00 05");
  for (const payload of ["30", "31", "32"]) await watcher.expectBytes(`30 04 00 01 69 ${payload}`);
  expect(await watcher.settle()).toEqual([]);
});

test("all QoS come out, and again after a break", async () => {
  const clientId = unique("v31-out");
  const first = await harness.connect({ version: 3, clientId, cleanStart: false });
  first.send(hex("82 06 00 01 00 01 6f 02"));
  await first.expectBytes("90 03 00 01 02");
  const publisher = await harness.connect({ version: 3 });
  for (const qos of [0, 1, 2, 2]) await publisher.publish("o", `${qos}`, { qos });
  await first.expectBytes("30 04 00 01 6f 30");
  await first.expectBytes("32 06 00 01 6f 00 01 31");
  await first.expectBytes("34 06 00 01 6f 00 02 32");
  await first.expectBytes("34 06 00 01 6f 00 03 32");
  first.send(hex("50 02 00 02"));
  await first.expectBytes("62 02 00 02");
  await first.disconnect();
  await publisher.publish("o", "w", { qos: 1 });

  const second = await harness.connect({ version: 3, clientId, cleanStart: false });
  const resent = await second.settle();
  expect(publishes(resent.filter(({ type }) => type === "publish"))).toMatchObject([
    { qos: 1, dup: true, packetId: 1 },
    { qos: 2, dup: true, packetId: 3 },
    { qos: 1, dup: false, packetId: 4 },
  ]);
  expect(resent.filter(({ type }) => type !== "publish")).toMatchObject([{ type: "pubrel", packetId: 2 }]);
  second.send(hex("40 02 00 01 70 02 00 02 50 02 00 03 40 02 00 04"));
  await second.expect("pubrel", { packetId: 3 });
  second.send(hex("70 02 00 03"));
  await second.disconnect();
  const third = await harness.connect({ version: 3, clientId, cleanStart: false });
  expect(await third.settle()).toEqual([]);
});

test("SUBSCRIBE, UNSUBSCRIBE and PUBREL may be repeated with DUP", async () => {
  const client = await harness.connect({ version: 3 });
  client.send(hex("82 06 00 01 00 01 64 01 8a 06 00 01 00 01 64 01"));
  await client.expectBytes("90 03 00 01 01");
  await client.expectBytes("90 03 00 01 01");
  client.send(hex("34 06 00 01 65 00 02 78"));
  await client.expectBytes("50 02 00 02");
  client.send(hex("6a 02 00 02"));
  await client.expectBytes("70 02 00 02");
  client.send(hex("aa 05 00 03 00 01 64"));
  await client.expectBytes("b0 02 00 03");
});

test("a refused filter brings no failure code, which 3.1 does not have", async () => {
  const client = await harness.connect({ version: 3 });
  client.send(hex("82 0b 00 01 00 01 61 01 00 02 61 23 02")); // a, a#
  if (await closesMutely(client)) return;
  await client.expectBytes("90 04 00 01 01 02"); // it has to look granted
});

test("a PINGREQ gets its PINGRESP, a DISCONNECT its close without the will", async () => {
  const watcher = await harness.connect({ version: 3 });
  await watcher.subscribe("3.1/will31", 2);
  const client = await harness.connect({ version: 3, will: { topic: "3.1/will31", payload: "left", qos: 1 } });
  client.send(hex("c0 00"));
  await client.expectBytes("d0 00");
  client.send(hex("e0 00"));
  await client.expectClosed();
  expect(await watcher.settle()).toEqual([]);
  (await harness.connect({ version: 3, will: { topic: "3.1/will31", payload: "gone", qos: 2 } })).kill();
  await watcher.expect("publish", { topic: "3.1/will31", payload: "gone", qos: 2, retain: false });
});

test("a retained message comes with a new subscription, at the lower QoS, until an empty one clears it", async () => {
  const publisher = await harness.connect({ version: 3 });
  await publisher.publish("3.1/kept31", "kept", { qos: 2, retain: true });
  const reader = await harness.connect({ version: 3 });
  await reader.subscribe("3.1/kept31/#", 1);
  await reader.expect("publish", { topic: "3.1/kept31", payload: "kept", qos: 1, retain: true });
  await publisher.publish("3.1/kept31", "", { qos: 1, retain: true });
  await reader.expect("publish", { payload: "", retain: false });
  const later = await harness.connect({ version: 3 });
  await later.subscribe("3.1/kept31", 1);
  expect(await later.settle()).toEqual([]);
});

test("clients of all three versions reach each other", async () => {
  const clients = await Promise.all(([3, 4, 5] as const).map((version) => harness.connect({ version })));
  for (const client of clients) {
    client.autoAck = true;
    await client.subscribe("3.1/mixed", 2);
  }
  for (const [qos, client] of clients.entries()) {
    await client.publish("3.1/mixed", `from ${client.version}`, { qos });
    await client.ping();
  }
  for (const client of clients) {
    const seen = await client.settle();
    expect(topicsWithQos(seen)).toEqual(["3.1/mixed 0", "3.1/mixed 1", "3.1/mixed 2"]);
    expect(payloads(seen)).toEqual(["from 3", "from 4", "from 5"]);
  }
});

test("bad input closes the connection without a byte", async () => {
  for (const bytes of [
    "10 02 00 00", // a second CONNECT, and a broken one
    "36 06 00 01 61 00 01 78", // QoS 3
    "30 80 80 80 80 01", // five bytes of length
    "30 05 00 03 61 2f 23", // a wildcard in a topic name
    "82 02 00 01", // nothing to subscribe to
    "00 00",
    "f0 00",
    "20 02 00 00",
  ]) {
    const client = await harness.connect({ version: 3 });
    client.send(hex(bytes));
    await client.expectClosed();
  }
});
