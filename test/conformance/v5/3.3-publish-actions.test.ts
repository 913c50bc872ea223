// 3.3.4: how PUBLISH is answered, overlapping subscriptions, subscription identifiers, and the server's Receive Maximum.

import { describe, expect, test } from "bun:test";
import type { RawClient } from "#test/support/client.ts";
import { encodePacket, hex, prop, type Properties, props, type PublishPacket } from "#test/support/packets.ts";
import { isForeign, payloads, publishes, useHarness } from "./fixture.ts";

const h = useHarness();

const identifiers = (packet: PublishPacket) => props(packet, "subscriptionIdentifier") as number[];
const ascending = (a: number, b: number) => a - b;

describe("answers", () => {
  test("[MQTT-3.3.4-1] QoS 0 gets none, QoS 1 PUBACK, QoS 2 PUBREC and PUBCOMP", async () => {
    const sub = await h.connect();
    await sub.subscribe("334/answer", 0);
    const client = await h.connect();
    const publish = (flags: string, packetId: string) =>
      client.send(hex(`${flags} 00 0a 33 33 34 2f 61 6e 73 77 65 72 ${packetId} 00 78`));
    publish("30 0e", "");
    expect(await client.settle()).toEqual([]);
    publish("32 10", "00 01");
    await client.expectBytes("40 02 00 01");
    expect(await client.settle()).toEqual([]);
    publish("34 10", "12 34");
    await client.expectBytes("50 02 12 34");
    expect(await client.settle()).toEqual([]);
    client.send(hex("62 02 12 34"));
    await client.expectBytes("70 02 12 34");
    expect(await client.settle()).toEqual([]);
    expect(payloads(await sub.settle())).toEqual(["x", "x", "x"]);
  });

  test("[MQTT-3.3.4-1] a message that nobody wants is answered all the same", async () => {
    const client = await h.connect();
    const [puback] = await client.publish("334/nobody", "m", { qos: 1, packetId: 9 });
    const [pubrec, pubcomp] = await client.publish("334/nobody", "m", { qos: 2, packetId: 9 });
    for (const ack of [puback!, pubrec!]) expect(isForeign ? [0, 0x10] : [0x10]).toContain(ack.reasonCode!);
    expect(pubcomp).toMatchObject({ type: "pubcomp", reasonCode: 0 });
  });

  test("[MQTT-3.3.4-1] a packet id may be any from 1 to 65,535, and QoS 1 and 2 run side by side", async () => {
    const sub = await h.connect();
    await sub.subscribe("334/side", 0);
    const client = await h.connect();
    client.send({ type: "publish", topic: "334/side", qos: 2, packetId: 65_535, payload: "a" });
    client.send({ type: "publish", topic: "334/side", qos: 1, packetId: 1, payload: "b" });
    client.send({ type: "publish", topic: "334/side", qos: 2, packetId: 256, payload: "c" });
    client.send({ type: "pubrel", packetId: 65_535 });
    client.send({ type: "pubrel", packetId: 256 });
    for (const bytes of ["50 02 ff ff", "40 02 00 01", "50 02 01 00", "70 02 ff ff", "70 02 01 00"]) {
      await client.expectBytes(bytes);
    }
    expect(payloads(await sub.settle()).sort()).toEqual(["a", "b", "c"]);
  });
});

describe("overlapping subscriptions", () => {
  test.each([0, 1, 2])("[MQTT-3.3.4-2] a QoS %i message comes at the highest QoS that they allow it", async (qos) => {
    const pub = await h.connect();
    const granted = [
      [1, 2, 0],
      [2, 1, 0],
      [0, 1, 2],
      [2, 0, 1],
      [0, 2, 1],
      [1, 0, 2],
      [0, 0, 1],
      [1, 0, 0],
      [0, 1, 0],
    ];
    for (const [index, each] of granted.entries()) {
      const root = `334/over/${qos}/${index}`;
      const sub = await h.connect();
      for (const [at, filter] of [`${root}/#`, `${root}/b`, `${root}/+`].entries())
        await sub.subscribe(filter, each[at]!);
      await pub.publish(`${root}/b`, "m", { qos });
      await pub.ping();
      const copies = publishes(await sub.settle());
      expect(payloads(copies)).toContain("m");
      expect(Math.max(...copies.map((copy) => copy.qos))).toBe(Math.min(qos, Math.max(...each)));
      if (!isForeign) expect(copies).toHaveLength(1);
    }
  });

  test("[MQTT-3.3.4-3] a copy carries the identifier of the subscription that asked for it", async () => {
    const sub = await h.connect();
    await sub.subscribe("334/id/+/x", { qos: 0, properties: [["subscriptionIdentifier", 1]] });
    await sub.subscribe("334/id/b/#", { qos: 0 });
    await sub.subscribe(["334/id/c", "334/id/d"], { qos: 0, properties: [["subscriptionIdentifier", 268_435_455]] });
    const pub = await h.connect();
    const identifiersFor = async (topic: string) => {
      await pub.publish(topic, "m", { qos: 1 });
      return publishes(await sub.settle()).flatMap(identifiers);
    };
    expect(await identifiersFor("334/id/a/x")).toEqual([1]);
    expect(await identifiersFor("334/id/b/y")).toEqual([]);
    expect(await identifiersFor("334/id/b/x")).toEqual([1]);
    expect(await identifiersFor("334/id/c")).toEqual([268_435_455]);
    expect(await identifiersFor("334/id/d")).toEqual([268_435_455]);
  });

  test("[MQTT-3.3.4-3] a retained message carries the identifier of the SUBSCRIBE it answers", async () => {
    const pub = await h.connect();
    await pub.publish("334/idr", "m", { qos: 1, retain: true });
    const sub = await h.connect();
    for (const identifier of [7, 300]) {
      await sub.subscribe("334/idr", { qos: 1, properties: [["subscriptionIdentifier", identifier]] });
      expect(identifiers(await sub.expect("publish", { payload: "m" }))).toEqual([identifier]);
    }
    await sub.subscribe("334/idr", 1);
    expect(identifiers(await sub.expect("publish", { payload: "m" }))).toEqual([]);
    await pub.publish("334/idr", "", { qos: 1, retain: true });
  });

  test("[MQTT-3.3.4-4] [MQTT-3.3.4-5] a single copy carries all identifiers, separate copies their own", async () => {
    const sub = await h.connect();
    const given = [1, 200, 70_000];
    for (const [index, filter] of ["334/ids/#", "334/ids/+", "334/ids/a"].entries()) {
      await sub.subscribe(filter, { qos: 0, properties: [["subscriptionIdentifier", given[index]!]] });
    }
    await (await h.connect()).publish("334/ids/a", "m", { qos: 1 });
    const copies = publishes(await sub.settle());
    if (copies.length > 1) expect(copies.map((copy) => identifiers(copy).length)).toEqual([1, 1, 1]);
    expect(copies.flatMap(identifiers).sort(ascending)).toEqual(given);
  });

  test("[MQTT-3.3.4-5] a shared and a plain subscription of one client give a copy each", async () => {
    const sub = await h.connect();
    await sub.subscribe("$share/334/334/both", { qos: 0, properties: [["subscriptionIdentifier", 1]] });
    await sub.subscribe("334/both", { qos: 0, properties: [["subscriptionIdentifier", 2]] });
    await (await h.connect()).publish("334/both", "m", { qos: 1 });
    const copies = publishes(await sub.settle()).map(identifiers);
    expect(copies.sort((a, b) => a[0]! - b[0]!)).toEqual([[1], [2]]);
  });

  test("[MQTT-3.3.4-6] a client's PUBLISH with a subscription identifier is refused and goes nowhere", async () => {
    const sub = await h.connect();
    await sub.subscribe("334/own-id", 0);
    for (const qos of [0, 1, 2]) {
      const client = await h.connect();
      const properties: Properties = [["subscriptionIdentifier", 1]];
      client.send({ type: "publish", topic: "334/own-id", qos, packetId: 1, properties, payload: "m" });
      await client.expectDisconnect(0x82);
    }
    expect(await sub.settle()).toEqual([]);
  });
});

describe("the server's Receive Maximum", () => {
  const two = useHarness({ mqtt: { receiveMax: 2 } });
  const maxOf = (client: RawClient) => (prop(client.connack!, "receiveMaximum") as number | undefined) ?? 65_535;

  function publishFrames(count: number, firstId = 1): Uint8Array {
    const ids = Array.from({ length: count }, (_, index) => firstId + index);
    return Buffer.concat(
      ids.map((packetId) => encodePacket({ type: "publish", topic: "334/quota", qos: 2, packetId, payload: "m" }, 5)),
    );
  }

  test("[MQTT-3.3.4-7] one QoS 2 PUBLISH more than it allows ends the connection", async () => {
    const client = await two.connect();
    const max = maxOf(client);
    client.send(publishFrames(max + 1));
    for (let packetId = 1; packetId <= max; packetId++) await client.expect("pubrec", { packetId });
    await client.expectDisconnect(0x93);
  });

  test("[MQTT-3.3.4-7] PUBREC leaves the slot taken, PUBCOMP frees it", async () => {
    const client = await two.connect();
    const max = maxOf(client);
    client.send(publishFrames(max));
    for (let packetId = 1; packetId <= max; packetId++) await client.expect("pubrec", { packetId });
    for (let packetId = 1; packetId <= 3; packetId++) {
      client.send({ type: "pubrel", packetId });
      await client.expect("pubcomp", { packetId });
      client.send(publishFrames(1, max + packetId));
      await client.expect("pubrec", { packetId: max + packetId });
    }
    client.send(publishFrames(1, max + 4));
    await client.expectDisconnect(0x93);
  });

  test("[MQTT-3.3.4-7] QoS 0, and QoS 1 that is answered, are not limited by it", async () => {
    const client = await two.connect();
    const max = maxOf(client);
    client.send(publishFrames(max - 1));
    for (let packetId = 1; packetId < max; packetId++) await client.expect("pubrec", { packetId });
    for (let round = 0; round < 5; round++) {
      await client.publish("334/quota", "m");
      await client.publish("334/quota", "m", { qos: 1, packetId: 100 + round });
    }
    expect(await client.settle()).toEqual([]);
  });
});
