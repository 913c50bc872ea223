// CONNECT of 3.1.1: which ones are refused and how, and what the accepted ones carry.

import { expect, test } from "bun:test";
import { hex, type PacketInput } from "#test/support/packets.ts";
import { connect, expectEachRefused, sendTogether, useHarness, withConfig } from "./fixture.ts";

const harness = useHarness();

/** CONNECT with clean session, client id c1 and the given flags; `rest` follows the client id. */
function connectHex(flags: string, rest = ""): string {
  const body = `00 04 4d 51 54 54 04 ${flags} 00 3c 00 02 63 31 ${rest}`.trim();
  return `10 ${hex(body).length.toString(16).padStart(2, "0")} ${body}`;
}

const willFields = "00 01 77 00 01 78";
const user = "00 01 75";
const password = "00 01 70";

test("[MQTT3-3.1.0-1] a first packet that is no CONNECT closes the connection", async () => {
  await expectEachRefused(harness, [
    { type: "pingreq" },
    { type: "disconnect" },
    { type: "publish", topic: "3.1/early", payload: "x" },
    { type: "subscribe", packetId: 1, subscriptions: [{ filter: "#", qos: 0 }] },
    { type: "pubrel", packetId: 1 },
    "20 02 00 00",
  ]);
});

test("[MQTT3-3.1.0-2] a second CONNECT closes the connection and lets the will out", async () => {
  const watcher = await harness.connect({ version: 4 });
  await watcher.subscribe("3.1/second", 0);
  const client = await harness.connect({
    version: 4,
    clientId: "v3-second",
    will: { topic: "3.1/second", payload: "w" },
  });
  client.send({ type: "connect", clientId: "v3-second" });
  await client.expectClosed();
  await watcher.expect("publish", { topic: "3.1/second", payload: "w" });
});

test("[MQTT3-3.1.2-1] another protocol name is not served", async () => {
  for (const protocolName of ["MQTX", "mqtt", "MQT", "MQTTT", ""]) {
    const client = await harness.open(4);
    sendTogether(client, [connect({ protocolName }), { type: "pingreq" }]);
    await client.expectClosed();
  }
  const old = await harness.open(3);
  old.send(hex("10 10 00 06 4d 51 49 73 64 70 03 02 00 3c 00 02 63 33"));
  await old.expectBytes("20 02 00 00");
});

test("[MQTT3-3.1.2-2] [MQTT3-3.2.2-5] an unsupported level gets CONNACK 1 and a close", async () => {
  for (const protocolLevel of [0, 1, 2]) {
    const client = await harness.open(4);
    client.send(connect({ protocolLevel }));
    await client.expectBytes("20 02 00 01");
    await client.expectClosed();
  }
});

test("a bridge's level, with its high bit, is accepted", async () => {
  const client = await harness.open(4);
  client.send(connect({ clientId: "v3-bridge", protocolLevel: 0x84 }));
  await client.expectBytes("20 02 00 00");
  await client.subscribe("3.1/bridge", 1);
  await (await harness.connect({ version: 4 })).publish("3.1/bridge", "x", { qos: 1 });
  await client.expect("publish", { topic: "3.1/bridge", qos: 1 });
});

test("[MQTT3-3.1.2-3] [MQTT3-3.2.2-6] the reserved connect flag closes the connection without CONNACK", async () => {
  await expectEachRefused(harness, [connectHex("03"), connectHex("01"), connectHex("c3", `${user} ${password}`)]);
});

test("[MQTT3-3.1.2-18] [MQTT3-3.1.2-20] a user name or password without its flag is left over and closes the connection", async () => {
  await expectEachRefused(harness, [
    connectHex("02", user),
    connectHex("02", `${user} ${password}`),
    connectHex("82", `${user} ${password}`),
    connectHex("06", `${willFields} ${user}`),
  ]);
});

test("[MQTT3-3.1.2-19] [MQTT3-3.1.2-21] a flag without its user name or password closes the connection", async () => {
  await expectEachRefused(harness, [
    connectHex("82"),
    connectHex("82", "00 05 75"),
    connectHex("c2", user),
    connectHex("c2", `${user} 00 05 70`),
    connectHex("86", willFields),
  ]);
});

test("[MQTT3-3.1.2-22] a password without a user name closes the connection", async () => {
  await expectEachRefused(harness, [connectHex("42", password), connectHex("46", `${willFields} ${password}`)]);
});

test("[MQTT3-3.1.3-1] client id, will, user name and password come in this order", async () => {
  const watcher = await harness.connect({ version: 4 });
  await watcher.subscribe("3.1/order/#", 2);
  const client = await harness.connect({
    version: 4,
    clientId: "v3-order",
    will: { topic: "3.1/order/will", payload: hex("00 ff 80"), qos: 2 },
    username: "3.1/order/user",
    password: hex("00 ff"),
  });
  client.kill();
  await watcher.expect("publish", { topic: "3.1/order/will", payload: hex("00 ff 80"), qos: 2 });
});

test("[MQTT3-3.1.3-3] a CONNECT without a client id closes the connection", async () => {
  await expectEachRefused(harness, ["10 0a 00 04 4d 51 54 54 04 02 00 3c", "10 0b 00 04 4d 51 54 54 04 02 00 3c 00"]);
});

test("[MQTT3-3.1.3-4] [MQTT3-3.1.3-10] [MQTT3-3.1.3-11] a client id, will topic or user name that is no valid string closes the connection", async () => {
  for (const text of [hex("ff"), hex("61 00"), hex("ed b0 80")]) {
    await expectEachRefused(harness, [
      connect({ clientId: text }),
      connect({ will: { topic: text, payload: "x" } }),
      connect({ username: text }),
    ]);
  }
});

test("[MQTT3-3.1.3-5] client ids of 1 to 23 letters and digits are accepted", async () => {
  const ids = ["z", "0123456789ABCDEFGHIJKLM", "NOPQRSTUVWXYZabcdefghij", "klmnopqrstuvwxyz0123456"];
  for (const clientId of ids) {
    const client = await harness.open(4);
    client.send(connect({ clientId }));
    await client.expectBytes("20 02 00 00");
  }
});

test("[MQTT3-3.1.3-6] clients without an id each get one of their own", async () => {
  const clients = [];
  for (let count = 0; count < 3; count++) {
    const client = await harness.open(4);
    client.send(connect({ clientId: "" }));
    await client.expectBytes("20 02 00 00");
    await client.subscribe(`3.1/nameless/${count}`, 0);
    clients.push(client);
  }
  for (const [index, client] of clients.entries()) {
    await client.publish(`3.1/nameless/${(index + 1) % 3}`, "x", { qos: 1 });
  }
  for (const [index, client] of clients.entries()) {
    expect(await client.settle()).toMatchObject([{ type: "publish", topic: `3.1/nameless/${index}` }]);
  }
});

test("[MQTT3-3.1.3-7] [MQTT3-3.1.3-8] an empty client id with Clean Session 0 gets CONNACK 2 and a close", async () => {
  const client = await harness.open(4);
  client.send(connect({ clientId: "", cleanStart: false }));
  await client.expectBytes("20 02 00 02");
  await client.expectClosed();
});

test("[MQTT3-3.1.3-9] a client id that the broker does not take gets CONNACK 2 and a close", async () => {
  await withConfig({ mqtt: { clientIdBytesMax: 23 } }, async (strict) => {
    const refused = await strict.open(4);
    refused.send(connect({ clientId: "a".repeat(24) }));
    await refused.expectBytes("20 02 00 02");
    await refused.expectClosed();
    await strict.connect({ version: 4, clientId: "a".repeat(23) });
  });
  const client = await harness.open(4);
  client.send(connect({ clientId: "", cleanStart: false }));
  await client.expectBytes("20 02 00 02");
  await client.expectClosed();
});

test("[MQTT3-3.1.4-1] a malformed CONNECT is closed without CONNACK", async () => {
  const whole = hex(connectHex("ee", `${willFields} ${user} ${password}`));
  const cut = Array.from({ length: whole.length - 2 }, (_, length) => {
    return [0x10, length, ...whole.subarray(2, 2 + length)].map((byte) => byte.toString(16).padStart(2, "0")).join(" ");
  });
  await expectEachRefused(harness, [
    ...cut,
    connectHex("02", "00"),
    connectHex("ee", `${willFields} ${user} ${password} 00`),
    connectHex("1e", willFields), // will QoS 3
    connectHex("02").replace("10 ", "12 "), // fixed header flags
    connectHex("02").replace("10 ", "18 "),
  ]);
});

test("[MQTT3-3.1.4-4] a valid CONNECT is answered by CONNACK 0", async () => {
  for (const bytes of [connectHex("02"), connectHex("00"), connectHex("ee", `${willFields} ${user} ${password}`)]) {
    const client = await harness.open(4);
    client.send(hex(bytes));
    const { type, reasonCode } = await client.expect("connack");
    expect({ type, reasonCode }).toEqual({ type: "connack", reasonCode: 0 });
    client.send(hex("c0 00"));
    await client.expectBytes("d0 00");
  }
  const cleaner = await harness.open(4);
  cleaner.send(hex(connectHex("02")));
  await cleaner.expectBytes("20 02 00 00");
});

test("[MQTT3-3.1.4-5] what follows a refused CONNECT is not processed", async () => {
  const watcher = await harness.connect({ version: 4 });
  await watcher.subscribe("3.1/refused", 0);
  const publish: PacketInput = { type: "publish", topic: "3.1/refused", payload: "x", retain: true };
  const answered = await harness.open(4);
  sendTogether(answered, [connect({ protocolLevel: 2 }), publish, { type: "pingreq" }]);
  await answered.expectBytes("20 02 00 01");
  await answered.expectClosed();
  const nameless = await harness.open(4);
  sendTogether(nameless, [connect({ clientId: "", cleanStart: false }), publish, { type: "pingreq" }]);
  await nameless.expectBytes("20 02 00 02");
  await nameless.expectClosed();
  const malformed = await harness.open(4);
  sendTogether(malformed, [connectHex("03"), publish]);
  await malformed.expectClosed();
  expect(await watcher.settle()).toEqual([]);
  const later = await harness.connect({ version: 4 });
  await later.subscribe("3.1/refused", 0);
  expect(await later.settle()).toEqual([]);
});
