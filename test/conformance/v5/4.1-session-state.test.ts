// 4.1, 4.2, 4.4 and 4.5: how long a session's state lives, the byte stream, resending, and who gets a message.

import { describe, expect, test } from "bun:test";
import type { RawClient } from "#test/support/client.ts";
import { encodePacket, hex, type Packet, type PacketInput, prop, type Properties } from "#test/support/packets.ts";
import { isForeign, kept, payloads, publishes, resumed, topics, useHarness } from "./fixture.ts";

const h = useHarness();

describe("session state", () => {
  test.each([0, 1])("[MQTT-4.1.0-1] is kept while the connection is open, with expiry %i", async (expirySec) => {
    const topic = `41/open/${expirySec}`;
    const client = await h.connect(kept(`41-open-${expirySec}`, expirySec));
    const pub = await h.connect();
    await client.subscribe(topic, 2);
    await pub.publish(topic, "unacknowledged", { qos: 2 });
    const held = await client.expect("publish", { payload: "unacknowledged" });
    client.send({ type: "publish", topic: "41/receipt", qos: 2, packetId: 5, payload: "m" });
    await client.expect("pubrec", { packetId: 5 });
    await h.advance(isForeign ? 2.1 : 100_000);
    expect(await client.settle()).toEqual([]);
    await pub.publish(topic, "later", { qos: 1 });
    await client.expect("publish", { payload: "later" });
    client.send(hex("62 02 00 05"));
    await client.expectBytes("70 02 00 05");
    client.send({ type: "pubrec", packetId: held.packetId! });
    await client.expect("pubrel", { packetId: held.packetId!, reasonCode: 0 });
  });

  test("[MQTT-4.1.0-1] [MQTT-4.1.0-2] outlives the connection for the expiry interval and no longer", async () => {
    const topic = "41/expiry";
    for (const [clientId, expirySec] of [
      ["41-short", 1],
      ["41-long", 60],
    ] as const) {
      const client = await h.connect(kept(clientId, expirySec));
      await client.subscribe(topic, 1);
      await client.disconnect();
    }
    const pub = await h.connect();
    await pub.publish(topic, "queued", { qos: 1 });
    await h.advance(isForeign ? 3 : 2);
    const short = await h.connect(resumed("41-short"));
    expect(short.connack?.sessionPresent).toBe(false);
    const long = await h.connect(resumed("41-long"));
    expect(long.connack?.sessionPresent).toBe(true);
    await pub.publish(topic, "live", { qos: 1 });
    expect(await short.settle()).toEqual([]);
    expect(payloads(await long.settle())).toEqual(["queued", "live"]);
  });

  test("[MQTT-4.1.0-2] the interval counts from the end of the last connection", async () => {
    const connect = (cleanStart: boolean) => h.connect({ ...kept("41-count", 3), cleanStart });
    const first = await connect(true);
    await first.subscribe("41/count", 1);
    await first.disconnect();
    for (let round = 0; round < 2; round++) {
      await h.advance(isForeign ? 1 : 2.5);
      const again = await connect(false);
      expect(again.connack?.sessionPresent).toBe(true);
      await h.advance(isForeign ? 1 : 10);
      await again.disconnect();
    }
    expect((await connect(false)).connack?.sessionPresent).toBe(true);
  });
});

describe("byte stream", () => {
  const dialogue = (clientId: string): Uint8Array => {
    const packets: PacketInput[] = [
      { type: "connect", clientId },
      { type: "subscribe", packetId: 1, subscriptions: [{ filter: `42/${clientId}`, qos: 0 }] },
      { type: "publish", topic: `42/${clientId}`, qos: 1, packetId: 2, payload: "x".repeat(200) },
      { type: "pingreq" },
      { type: "publish", topic: `42/${clientId}`, qos: 2, packetId: 3, payload: "" },
      { type: "pubrel", packetId: 3 },
      { type: "unsubscribe", packetId: 4, filters: [`42/${clientId}`] },
    ];
    return Buffer.concat(packets.map((packet) => encodePacket(packet, 5)));
  };

  /** What came, in order; a delivery may legally stand before or after the acknowledgement of its PUBLISH. */
  async function answers(client: RawClient): Promise<string[]> {
    const packets: Packet[] = [];
    while (packets.at(-1)?.type !== "unsuback") packets.push(await client.next());
    const deliveries = packets.filter(({ type }) => type === "publish");
    expect(payloads(deliveries)).toEqual(["x".repeat(200), ""]);
    return packets.filter(({ type }) => type !== "publish").map(({ type }) => type);
  }

  const expected = ["connack", "suback", "puback", "pingresp", "pubrec", "pubcomp", "unsuback"];

  test.each([1, 2, 3, 7, 64, 10_000])(
    "[MQTT-4.2.0-1] pieces of %i bytes say the same as whole packets",
    async (size) => {
      const client = await h.open();
      const bytes = dialogue(`pieces-${size}`);
      for (let start = 0; start < bytes.length; start += size) client.send(bytes.subarray(start, start + size));
      expect(await answers(client)).toEqual(expected);
    },
  );

  test("[MQTT-4.2.0-1] many messages of many sizes arrive whole and in order", async () => {
    const sub = await h.connect();
    await sub.subscribe("42/many", 0);
    const pub = await h.connect();
    const text = "0123456789abcdef".repeat(300);
    const sent = Array.from({ length: 1000 }, (_, index) => `${index} ${text.slice(0, (index * 37) % 4800)}`);
    for (let start = 0; start < sent.length; start += 100) {
      const frames = sent
        .slice(start, start + 100)
        .map((payload) => encodePacket({ type: "publish", topic: "42/many", payload }, 5));
      pub.send(Buffer.concat(frames));
      await pub.ping();
    }
    expect(payloads(await sub.settle())).toEqual(sent);
  });
});

test.each([20_000, 40_000, 300_000])(
  "[MQTT-4.2.0-1] %i bytes arrive as they were sent, at every subscriber",
  async (size) => {
    const topic = `42/large/${size}`;
    const payload = Uint8Array.from({ length: size }, (_, index) => (index * 7 + (index >> 8)) & 0xff);
    const properties: Properties = [
      ["messageExpiryIntervalSec", 1000],
      ["contentType", "x"],
    ];
    const away = await h.connect(kept(`42-large-${size}`));
    await away.subscribe(topic, 1);
    await away.disconnect();
    const subs: RawClient[] = [];
    for (const qos of [0, 2, 1, 2, 0]) {
      const sub = await h.connect();
      await sub.subscribe(`42/before/${size}`, 1);
      await sub.subscribe(topic, qos);
      subs.push(sub);
    }
    const pub = await h.connect();
    await pub.publish(`42/before/${size}`, "m", { qos: 1 }); // so that packet ids differ
    await pub.publish(topic, payload, { qos: 2, retain: true, properties });
    const late = await h.connect();
    await late.subscribe(topic, 2);
    for (const sub of subs) await sub.expect("publish", { payload: "m", retain: false });
    for (const [index, client] of [...subs, await h.connect(resumed(`42-large-${size}`)), late].entries()) {
      const packet = await client.expect("publish", { topic, dup: false, retain: client === late });
      expect(packet.qos).toBe([0, 2, 1, 2, 0, 1, 2][index]!);
      expect(prop(packet, "contentType")).toBe("x");
      expect(Buffer.compare(packet.payload, payload)).toBe(0);
      await client.ack(packet);
      expect(await client.settle()).toEqual([]);
    }
    await pub.publish(topic, "", { qos: 1, retain: true });
  },
);

describe("resending", () => {
  /** A session with, in order: QoS 1 and QoS 2 unanswered, QoS 2 after PUBREC, QoS 1 acknowledged, QoS 1 unanswered. */
  async function leaveMixed(clientId: string, topic: string) {
    const sub = await h.connect(kept(clientId));
    await sub.subscribe(topic, 2);
    const pub = await h.connect();
    for (const [payload, qos] of [
      ["a", 1],
      ["b", 2],
      ["c", 2],
      ["d", 1],
      ["e", 1],
    ] as const) {
      await pub.publish(topic, payload, { qos });
    }
    const sent = publishes(await sub.settle());
    expect(payloads(sent)).toEqual(["a", "b", "c", "d", "e"]);
    sub.send({ type: "pubrec", packetId: sent[2]!.packetId! });
    await sub.expect("pubrel", { packetId: sent[2]!.packetId! });
    await sub.ack(sent[3]!);
    await sub.ping();
    return { sub, pub, ids: sent.map(({ packetId }) => packetId!) };
  }

  test("[MQTT-4.4.0-1] a resumed session gets unacknowledged PUBLISH and PUBREL with their packet ids", async () => {
    const { sub, pub, ids } = await leaveMixed("44-resume", "44/resume");
    sub.kill();
    const back = await h.connect(resumed("44-resume"));
    const seen = await back.settle();
    const again = publishes(seen.filter(({ type }) => type === "publish"));
    expect(payloads(again)).toEqual(["a", "b", "e"]);
    expect(again.map(({ packetId }) => packetId)).toEqual([ids[0], ids[1], ids[4]]);
    expect(again.map(({ dup }) => dup)).toEqual([true, true, true]);
    const others = seen.filter(({ type }) => type !== "publish");
    expect(others).toMatchObject([{ type: "pubrel", packetId: ids[2], reasonCode: 0 }]);
    await pub.publish("44/resume", "f", { qos: 1 });
    const fresh = await back.expect("publish", { dup: false, payload: "f" });
    expect([ids[0], ids[1], ids[2], ids[4]]).not.toContain(fresh.packetId);
  });

  test("[MQTT-4.4.0-1] so does one that was taken over", async () => {
    await leaveMixed("44-taken", "44/taken");
    const back = await h.connect(resumed("44-taken"));
    expect((await back.settle()).map(({ type }) => type).sort()).toEqual(["publish", "publish", "publish", "pubrel"]);
  });

  test("[MQTT-4.4.0-1] clean start gets nothing", async () => {
    const { sub } = await leaveMixed("44-clean", "44/clean");
    sub.kill();
    const back = await h.connect(kept("44-clean"));
    expect(back.connack?.sessionPresent).toBe(false);
    expect(await back.settle()).toEqual([]);
  });

  test("[MQTT-4.4.0-1] nothing is sent again while the connection is open", async () => {
    const { sub } = await leaveMixed("44-open", "44/open");
    await h.advance(isForeign ? 2 : 100_000);
    expect(await sub.settle()).toEqual([]);
  });

  test.each([1, 2])("[MQTT-4.4.0-2] a refused QoS %i message is not sent again", async (qos) => {
    const clientId = `44-refused-${qos}`;
    const sub = await h.connect(kept(clientId));
    await sub.subscribe(`44/refused/${qos}`, qos);
    const pub = await h.connect();
    for (const payload of ["a", "b", "c"]) await pub.publish(`44/refused/${qos}`, payload, { qos });
    const sent = publishes(await sub.settle());
    for (const [index, reasonCode] of [
      [0, 0x80],
      [2, 0x97],
    ] as const) {
      sub.send({ type: qos === 1 ? "puback" : "pubrec", packetId: sent[index]!.packetId!, reasonCode });
    }
    expect(await sub.settle()).toEqual([]);
    sub.kill();
    expect(payloads(await (await h.connect(resumed(clientId))).settle())).toEqual(["b"]);
  });
});

test.each([0, 1, 2])("[MQTT-4.5.0-1] a QoS %i message joins every session that wants it", async (qos) => {
  const root = `45/${qos}`;
  const filters = [`${root}/x`, `${root}/+`, `${root}/#`, `${root}/x`];
  const subs: RawClient[] = [];
  for (const [index, filter] of filters.entries()) {
    const sub = await h.connect(kept(`45-${qos}-${index}`));
    await sub.subscribe(filter, 2);
    subs.push(sub);
  }
  const stranger = await h.connect();
  await stranger.subscribe([`${root}/y`, `${root}/x/z`, `${root}`], 2);
  await subs[3]!.disconnect();
  const pub = await h.connect();
  await pub.subscribe(`${root}/x`, { qos: 2, noLocal: false });
  await pub.publish(`${root}/x`, "m", { qos });
  for (const client of [...subs.slice(0, 3), pub]) {
    expect(topics((await client.settle()).filter(({ type }) => type === "publish"))).toEqual([`${root}/x`]);
  }
  const back = await h.connect(resumed(`45-${qos}-3`));
  if (qos > 0) await back.expect("publish", { topic: `${root}/x`, qos, payload: "m" });
  expect(await stranger.settle()).toEqual([]);
});
