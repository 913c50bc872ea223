import { expect, test } from "bun:test";
import { hex, type PacketInput } from "#test/support/packets.ts";
import { connectBytes, expectClosedOr, framed, unique } from "./connect-support.ts";
import { payloads, useHarness } from "./fixture.ts";

const harness = useHarness();

const ID = "00 02 63 31";
const WILL = "00 00 01 77 00 01 78"; // no properties, topic w, payload x
const USER = "00 02 75 31";
const PASSWORD = "00 02 70 31";

async function expectMalformed(bytes: Uint8Array): Promise<void> {
  const client = await harness.open();
  client.send(bytes);
  await client.expectRejected(0x81);
}

test("[MQTT-3.1.0-1] anything but CONNECT at first closes the link without a word", async () => {
  const topic = unique("t");
  const subscriber = await harness.connect();
  await subscriber.subscribe(topic);
  const packets: PacketInput[] = [
    { type: "pingreq" },
    { type: "subscribe", packetId: 1, subscriptions: [{ filter: topic, qos: 0 }] },
    { type: "unsubscribe", packetId: 1, filters: [topic] },
    { type: "publish", topic, payload: "no" },
    { type: "publish", topic, payload: "no", qos: 1, packetId: 1 },
    { type: "pubrel", packetId: 1 },
    { type: "disconnect" },
    { type: "auth" },
    { type: "connack" },
  ];
  for (const packet of packets) {
    const client = await harness.open();
    client.send(packet);
    await client.expectClosed();
  }
  expect(await subscriber.settle()).toEqual([]);
});

test("[MQTT-3.1.0-1] a CONNECT behind the wrong first packet is not answered", async () => {
  const client = await harness.open();
  client.send(hex("c0 00 10 0f 00 04 4d 51 54 54 05 02 00 3c 00 00 02 63 31"));
  await client.expectClosed();
});

test("[MQTT-3.1.0-2] a second CONNECT is a protocol error, and no normal end: the will is sent", async () => {
  const topic = unique("w");
  const subscriber = await harness.connect();
  await subscriber.subscribe(topic);
  const will = { topic, payload: "gone" };
  const client = await harness.connect({ will });
  client.send({ type: "connect", clientId: client.clientId, will });
  await client.expectDisconnect(0x82);
  await subscriber.expect("publish", { topic, payload: "gone" });
  const other = await harness.connect();
  other.send({ type: "connect", clientId: unique("c") });
  await other.expectDisconnect(0x82);
});

test("[MQTT-3.1.2-1] another protocol name is not served", async () => {
  for (const protocolName of [
    "MQTX",
    "mqtt",
    "",
    "MQTTX",
    "MQT",
    "MQIsdp",
    hex("4d 51 54 54 00"),
    hex("ff fe ff fe"),
  ]) {
    const client = await harness.open();
    client.send({ type: "connect", protocolName, clientId: "c" });
    await expectClosedOr(client, 0x84);
  }
});

test("[MQTT-3.1.2-2] a protocol version above 5 is refused with 0x84, and the link closed", async () => {
  for (const protocolLevel of [6, 7, 127]) {
    const client = await harness.open();
    client.send({ type: "connect", protocolLevel, clientId: "c" });
    await client.expectRejected(0x84);
    client.send({ type: "pingreq" });
    await client.expectClosed();
  }
});

test("[MQTT-3.1.2-2] a protocol version below 3 is refused, and the link closed", async () => {
  for (const protocolLevel of [0, 1, 2]) {
    const client = await harness.open(4);
    client.send({ type: "connect", protocolLevel, clientId: "c" });
    // The answer's form is open: none, 3.1.1's return code 1, or 0x84 as 5.0 writes it, which is malformed in 3.1.1.
    const answer = await client.next().catch((error: Error) => error.message);
    if (typeof answer === "string") expect(answer).toMatch(/connection is closed|\[20 03 00 84 00\]/);
    else expect(answer).toMatchObject({ type: "connack", reasonCode: 1 });
    client.send({ type: "pingreq" });
    await client.expectClosed();
  }
});

test("[MQTT-3.1.2-3] the reserved connect flag makes CONNECT malformed", async () => {
  await expectMalformed(connectBytes("03", ID));
  await expectMalformed(connectBytes("01", ID));
  await expectMalformed(connectBytes("c7", `${ID} ${WILL} ${USER} ${PASSWORD}`));
});

test("[MQTT-3.1.2-9] with the Will Flag, properties, topic and payload of the will have to be there", async () => {
  await expectMalformed(connectBytes("06", ID));
  await expectMalformed(connectBytes("06", `${ID} 00`));
  await expectMalformed(connectBytes("06", `${ID} 00 00 01 77`));
  await expectMalformed(connectBytes("06", `${ID} 00 00 01 77 00 01`));
  await expectMalformed(connectBytes("06", `${ID} 00 01 77 00 01 78`)); // as 3.1.1 writes it, without properties
  await expectMalformed(connectBytes("02", `${ID} ${WILL}`));
});

test("[MQTT-3.1.2-11] without the Will Flag, a Will QoS is malformed", async () => {
  for (const flags of ["0a", "12", "1a"]) await expectMalformed(connectBytes(flags, ID));
});

test("[MQTT-3.1.2-12] Will QoS 3 is malformed", async () => {
  for (const flags of ["1e", "3e"]) await expectMalformed(connectBytes(flags, `${ID} ${WILL}`));
});

test("[MQTT-3.1.2-13] without the Will Flag, Will Retain is malformed", async () => {
  for (const flags of ["22", "20"]) await expectMalformed(connectBytes(flags, ID));
});

test("[MQTT-3.1.2-16] a user name without its flag is malformed", async () => {
  await expectMalformed(connectBytes("02", `${ID} ${USER}`));
  await expectMalformed(connectBytes("06", `${ID} ${WILL} ${USER}`));
});

test("[MQTT-3.1.2-17] the User Name Flag without a user name is malformed", async () => {
  await expectMalformed(connectBytes("82", ID));
  await expectMalformed(connectBytes("86", `${ID} ${WILL}`));
  await expectMalformed(connectBytes("82", `${ID} 00`));
});

test("[MQTT-3.1.2-18] a password without its flag is malformed", async () => {
  await expectMalformed(connectBytes("82", `${ID} ${USER} ${PASSWORD}`));
});

test("[MQTT-3.1.2-19] the Password Flag without a password is malformed", async () => {
  await expectMalformed(connectBytes("c2", `${ID} ${USER}`));
  await expectMalformed(connectBytes("42", ID));
});

test("[MQTT-3.1.2-17] [MQTT-3.1.2-19] every combination of user name and password is well-formed", async () => {
  const fields: [flags: string, payload: string][] = [
    ["02", ""],
    ["82", USER],
    ["c2", `${USER} ${PASSWORD}`],
    ["42", PASSWORD], // allowed in 5.0
    ["c2", `${USER} 00 00`],
    ["c2", `${USER} 00 02 ff 00`], // a password is binary
  ];
  for (const [flags, payload] of fields) {
    const client = await harness.open();
    client.send(connectBytes(flags, `${ID} ${payload}`));
    await client.expect("connack", { reasonCode: 0, sessionPresent: false });
    await client.disconnect();
  }
});

test("[MQTT-3.1.2-12] [MQTT-3.1.2-9] a will of each QoS is accepted and comes out as it was written", async () => {
  const subscriber = await harness.connect();
  await subscriber.subscribe("w/flags", 2);
  for (const [qos, flags] of ["06", "0e", "16"].entries()) {
    const client = await harness.open();
    client.send(connectBytes(flags, `${ID} 00 00 07 77 2f 66 6c 61 67 73 00 02 78 0${qos}`));
    await client.expect("connack", { reasonCode: 0 });
    client.kill();
    const message = await subscriber.expect("publish", { qos, retain: false, payload: hex(`78 0${qos}`) });
    await subscriber.ack(message);
  }
});

test("[MQTT-3.1.0-2] one CONNECT split into single bytes is one CONNECT", async () => {
  const topic = unique("t");
  const client = await harness.open();
  for (const byte of framed("10", `00 04 4d 51 54 54 05 02 00 00 00 ${ID}`)) client.send(Uint8Array.of(byte));
  await client.expect("connack", { reasonCode: 0 });
  await client.subscribe(topic);
  await client.publish(topic, "x");
  expect(payloads(await client.settle())).toEqual(["x"]);
});
