import { expect, test } from "bun:test";
import { encodePacket, hex, type PacketInput, type PacketInputOf, type Properties } from "#test/support/packets.ts";
import { connectBytes, framed, testAccess, unique, withConfig } from "./connect-support.ts";
import { useHarness } from "./fixture.ts";

const harness = useHarness();

const ID = "00 02 63 31";

test("[MQTT-3.1.4-1] a CONNECT cut at any byte is refused and the link closed", async () => {
  const whole = encodePacket(
    {
      type: "connect",
      clientId: "c1",
      username: "u",
      password: "p",
      will: { topic: "w", payload: "x", properties: [["willDelayIntervalSec", 1]] },
      properties: [["receiveMaximum", 1]],
    },
    5,
  ).subarray(2);
  for (let length = 0; length < whole.length; length++) {
    const client = await harness.open();
    client.send(Uint8Array.of(0x10, length, ...whole.subarray(0, length)));
    const isVersionKnown = length >= 7; // before, it may be closed without CONNACK
    const refused = isVersionKnown ? client.expectRejected(0x81) : client.expectClosed();
    await refused.catch(async (error: Error) => {
      if (isVersionKnown) throw new Error(`cut to ${length} bytes: ${error.message}`);
      await client.expectRejected([0x81, 0x84]);
    });
  }
});

test.each([
  ["bytes left over", 0x81, "00", `${ID} 00`],
  ["Receive Maximum 0", 0x82, "03 21 00 00", ID],
  ["Maximum Packet Size 0", 0x82, "05 27 00 00 00 00", ID],
  ["Session Expiry Interval twice", 0x82, "0a 11 00 00 00 01 11 00 00 00 01", ID],
  ["Receive Maximum twice", 0x82, "06 21 00 01 21 00 01", ID],
  ["Maximum Packet Size twice", 0x82, "0a 27 00 00 01 00 27 00 00 01 00", ID],
  ["Topic Alias Maximum twice", 0x82, "06 22 00 01 22 00 01", ID],
  ["Request Response Information twice", 0x82, "04 19 00 19 00", ID],
  ["Request Response Information 2", 0x82, "02 19 02", ID],
  ["Request Problem Information twice", 0x82, "04 17 00 17 00", ID],
  ["Request Problem Information 2", 0x82, "02 17 02", ID],
  ["Authentication Method twice", 0x82, "08 15 00 01 61 15 00 01 61", ID],
  ["Authentication Data without method", 0x82, "04 16 00 01 61", ID],
  ["unknown property", 0x81, "02 7f 00", ID],
  ["property of another packet", 0x81, "03 23 00 01", ID],
  ["property of CONNACK", 0x81, "02 25 01", ID],
  ["property of a will", 0x81, "05 18 00 00 00 01", ID],
  ["property cut short", 0x81, "04 11 00 00 00", ID],
  ["property length beyond the packet", 0x81, "7f", ID],
])("[MQTT-3.1.4-1] CONNECT is checked: %s", async (_, reasonCode, properties, payload) => {
  const client = await harness.open();
  client.send(connectBytes("02", payload, properties));
  await client.expectRejected(reasonCode);
});

test.each([
  ["Will Delay Interval twice", 0x82, "0a 18 00 00 00 01 18 00 00 00 01"],
  ["Payload Format Indicator twice", 0x82, "04 01 00 01 00"],
  ["Message Expiry Interval twice", 0x82, "0a 02 00 00 00 01 02 00 00 00 01"],
  ["Content Type twice", 0x82, "08 03 00 01 61 03 00 01 61"],
  ["Response Topic twice", 0x82, "08 08 00 01 61 08 00 01 61"],
  ["Correlation Data twice", 0x82, "08 09 00 01 61 09 00 01 61"],
  ["property of CONNECT", 0x81, "05 11 00 00 00 01"],
  ["Topic Alias", 0x81, "03 23 00 01"],
  ["Subscription Identifier", 0x81, "02 0b 01"],
])("[MQTT-3.1.4-1] the will's properties are checked: %s", async (_, reasonCode, properties) => {
  const client = await harness.open();
  client.send(connectBytes("06", `${ID} ${properties} 00 01 77 00 00`));
  await client.expectRejected(reasonCode);
});

test("[MQTT-3.1.4-1] a refused CONNECT has no effect: the client of that id stays, its session too, no will is sent", async () => {
  const [clientId, topic] = [unique("c"), unique("w")];
  const holder = await harness.connect({ clientId });
  await holder.subscribe(topic);
  const client = await harness.open();
  const will = { topic, payload: "no" };
  client.send({ type: "connect", clientId, will, properties: [["receiveMaximum", 0]] });
  await client.expectRejected(0x82);
  expect(await holder.settle()).toEqual([]);
});

test("[MQTT-3.1.4-2] a client that passes no further check is refused with a reason code and closed", async () => {
  await withConfig({ session: { countMax: 1 } }, async (limited) => {
    const first = await limited.connect();
    const second = await limited.open();
    expect(await second.connect()).toMatchObject({ reasonCode: 0x97, sessionPresent: false });
    await second.expectClosed();
    await first.ping();
    await first.disconnect();
    const third = await limited.connect(); // there is room again
    await third.ping();
  });
  await withConfig({ ports: { access: testAccess() } }, async (guarded) => {
    const holder = await guarded.connect({ clientId: "c", username: "u", password: "right" });
    const client = await guarded.open();
    const connack = await client.connect({ clientId: "c", username: "u", password: "wrong" });
    expect(connack).toMatchObject({ reasonCode: 0x86, sessionPresent: false });
    await client.expectClosed();
    await holder.ping(); // no take-over by a stranger
  });
});

test("[MQTT-3.1.4-2] an unknown authentication method is refused, and nothing sent before CONNACK counts", async () => {
  const topic = unique("t");
  const subscriber = await harness.connect();
  await subscriber.subscribe(topic);
  const client = await harness.open();
  const properties: Properties = [["authenticationMethod", unique("no-such-method")]];
  const packets = [
    encodePacket({ type: "connect", clientId: unique("c"), properties }, 5),
    encodePacket({ type: "publish", topic, payload: "no" }, 5),
    encodePacket({ type: "subscribe", packetId: 1, subscriptions: [{ filter: topic, qos: 0 }] }, 5),
  ];
  client.send(Buffer.concat(packets));
  await client.expectRejected([0x8c, 0x87]);
  expect(await subscriber.settle()).toEqual([]);
});

test("[MQTT-3.1.2-30] until CONNACK a client that authenticates sends nothing but AUTH and DISCONNECT", async () => {
  await withConfig({ ports: { access: testAccess() } }, async (guarded) => {
    const topic = unique("t");
    const subscriber = await guarded.connect();
    await subscriber.subscribe(topic);
    const method: Properties = [["authenticationMethod", "TEST"]];
    const begin = (will: boolean) =>
      encodePacket(
        { type: "connect", clientId: unique("c"), properties: method, ...(will && { will: { topic, payload: "no" } }) },
        5,
      );
    const answer: PacketInput = {
      type: "auth",
      reasonCode: 0x18,
      properties: [...method, ["authenticationData", new TextEncoder().encode("me")]],
    };
    const tooEarly: PacketInput[] = [
      { type: "publish", topic, payload: "no" },
      { type: "publish", topic, payload: "no", qos: 1, packetId: 1 },
      { type: "subscribe", packetId: 1, subscriptions: [{ filter: topic, qos: 0 }] },
      { type: "pingreq" },
      { type: "connect", clientId: unique("c") },
    ];
    for (const packet of tooEarly) {
      const patient = await guarded.open();
      patient.send(begin(true));
      await patient.expect("auth", { reasonCode: 0x18 });
      patient.send(packet);
      patient.send(answer);
      await patient.expectRejected(0x82);
      const hasty = await guarded.open();
      hasty.send(Buffer.concat([begin(true), encodePacket(packet, 5), encodePacket(answer, 5)]));
      await hasty.expect("auth", { reasonCode: 0x18 });
      await hasty.expectRejected(0x82);
    }
    const leaving = await guarded.open();
    leaving.send(begin(true));
    await leaving.expect("auth", { reasonCode: 0x18 });
    leaving.send({ type: "disconnect", reasonCode: 4 });
    await leaving.expectClosed();
    expect(await subscriber.settle()).toEqual([]); // no publish, and no will of a client that never came in

    const right = await guarded.open();
    right.send(begin(false));
    await right.expect("auth", { reasonCode: 0x18 });
    right.send(answer);
    await right.expect("connack", { reasonCode: 0, sessionPresent: false });
    await right.publish(topic, "yes", { qos: 1 });
    await subscriber.expect("publish", { payload: "yes" });
  });
});

test("[MQTT-3.1.4-5] every valid CONNECT is answered by CONNACK with reason code 0", async () => {
  const forms: Omit<PacketInputOf<"connect">, "type">[] = [
    {},
    { cleanStart: false },
    { keepAliveSec: 65_535 },
    { will: { topic: "w", payload: "", qos: 2, retain: false } },
    { username: "u", password: "p" },
    { username: "", password: "" },
    { clientId: "" },
    {
      properties: [
        ["sessionExpiryIntervalSec", 0],
        ["receiveMaximum", 65_535],
        ["maximumPacketSizeBytes", 0xffff_ffff],
        ["topicAliasMaximum", 65_535],
        ["requestResponseInformation", 1],
        ["requestProblemInformation", 1],
        ["userProperty", ["a", "b"]],
        ["userProperty", ["a", "b"]],
      ],
    },
    { properties: [["userProperty", ["", ""]]] },
  ];
  for (const form of forms) {
    const client = await harness.open();
    expect(await client.connect({ clientId: unique("c"), ...form })).toMatchObject({
      sessionPresent: false,
      reasonCode: 0,
    });
    await client.disconnect();
  }
});

test("[MQTT-3.1.4-5] packets sent behind CONNECT without waiting are handled once it is accepted", async () => {
  const topic = unique("t");
  const client = await harness.open();
  const packets = [
    encodePacket({ type: "connect", clientId: unique("c") }, 5),
    encodePacket({ type: "subscribe", packetId: 1, subscriptions: [{ filter: topic, qos: 1 }] }, 5),
    encodePacket({ type: "publish", topic, payload: "x", qos: 1, packetId: 2 }, 5),
  ];
  client.send(Buffer.concat(packets));
  await client.expect("connack", { reasonCode: 0 });
  await client.expect("suback", { packetId: 1, reasonCodes: [1] });
  await client.take("puback", 2);
  await client.expect("publish", { topic, payload: "x" });
});

test("[MQTT-3.1.4-6] after refusing CONNECT the broker does nothing with what follows", async () => {
  const topic = unique("t");
  const subscriber = await harness.connect();
  await subscriber.subscribe(topic);
  const publish = encodePacket({ type: "publish", topic, payload: "no", qos: 1, packetId: 1 }, 5);
  const refused: [bytes: Uint8Array, reasonCode: number][] = [
    [framed("10", `00 04 4d 51 54 54 06 02 00 00 00 ${ID}`), 0x84],
    [connectBytes("03", ID), 0x81],
    [connectBytes("02", ID, "03 21 00 00"), 0x82],
    [connectBytes("02", `${ID} 00`), 0x81],
    [connectBytes("02", "00 02 ff fe"), 0x81],
  ];
  for (const [connect, reasonCode] of refused) {
    const client = await harness.open();
    client.send(Buffer.concat([connect, publish, hex("c0 00"), publish]));
    await client.expectRejected([reasonCode, 0x85]);
  }
  expect(await subscriber.settle()).toEqual([]);
});
