// 4.3: the exchanges of QoS 1 and QoS 2, with the broker as receiver and as sender.

import { describe, expect, test } from "bun:test";
import type { RawClient } from "#test/support/client.ts";
import { encodePacket, hex, prop, type Properties } from "#test/support/packets.ts";
import { isForeign, kept, payloads, publishes, resumed, useHarness } from "./fixture.ts";

const h = useHarness();

async function connectSubscriber(topic: string, qos: number): Promise<RawClient> {
  const client = await h.connect();
  await client.subscribe(topic, qos);
  return client;
}

/** A session that was sent one message and not heard of again; `id` is the packet id in two bytes of hex. */
async function leaveInflight(clientId: string, topic: string, qos: number): Promise<{ sub: RawClient; id: string }> {
  const sub = await h.connect(kept(clientId));
  await sub.subscribe(topic, qos);
  await (await h.connect()).publish(topic, "m", { qos });
  const { packetId } = await sub.expect("publish", { topic, qos, dup: false, payload: "m" });
  return { sub, id: packetId!.toString(16).padStart(4, "0") };
}

async function reconnect(old: RawClient): Promise<RawClient> {
  old.kill();
  const client = await h.connect(resumed(old.clientId));
  expect(client.connack?.sessionPresent).toBe(true);
  return client;
}

describe("packet ids of deliveries", () => {
  test("[MQTT-4.3.2-1] [MQTT-4.3.3-1] differ among all unacknowledged ones, of QoS 1 and 2", async () => {
    const sub = await connectSubscriber("43/ids", 2);
    const pub = await h.connect();
    const inFlight = new Set<number>();
    for (let round = 0; round < 4; round++) {
      for (const qos of [1, 2, 2, 1]) await pub.publish("43/ids", "m", { qos });
      const fresh = publishes(await sub.settle());
      expect(fresh).toHaveLength(4);
      for (const { packetId } of fresh) {
        expect(inFlight.has(packetId!)).toBe(false);
        inFlight.add(packetId!);
      }
      await sub.ack(fresh[0]!);
      inFlight.delete(fresh[0]!.packetId!);
      sub.send({ type: "pubrec", packetId: fresh[1]!.packetId! }); // its id stays taken until PUBCOMP
      await sub.expect("pubrel", { packetId: fresh[1]!.packetId! });
    }
  });

  test("[MQTT-4.3.2-1] [MQTT-4.3.3-1] pass over those in flight when the count begins anew", async () => {
    if (isForeign) return; // 65,536 messages take too long over TCP
    const sub = await connectSubscriber("43/wrap", 2);
    const pub = await h.connect();
    for (const qos of [1, 2, 2]) await pub.publish("43/wrap", "held", { qos });
    const held = publishes(await sub.settle());
    sub.send({ type: "pubrec", packetId: held[2]!.packetId! });
    await sub.expect("pubrel", { packetId: held[2]!.packetId! });
    sub.autoAck = true;
    const seen = new Uint8Array(65_536);
    const frame = encodePacket({ type: "publish", topic: "43/wrap", qos: 1, packetId: 1 }, 5);
    for (let batch = 0; batch < 256; batch++) {
      for (let each = 0; each < 256; each++) pub.send(frame);
      await pub.settle();
      for (const { packetId } of publishes(await sub.settle())) seen[packetId!]!++;
    }
    expect(held.map(({ packetId }) => seen[packetId!])).toEqual([0, 0, 0]);
    expect(seen[0]).toBe(0);
    expect(seen.filter((count) => count > 0)).toHaveLength(65_535 - held.length); // so all others were tried
  }, 20_000);
});

describe("QoS 1 from the broker", () => {
  test("[MQTT-4.3.2-2] begins with first byte 32 and a packet id", async () => {
    const sub = await connectSubscriber("43q1", 1);
    await (await h.connect()).publish("43q1", "hi", { qos: 1 });
    await sub.expectBytes("32 0b 00 04 34 33 71 31 00 01 00 68 69");
  });

  test("[MQTT-4.3.2-3] is unacknowledged until PUBACK and done with it", async () => {
    const { sub, id } = await leaveInflight("43-puback", "43/puback", 1);
    const second = await reconnect(sub);
    await second.expect("publish", { dup: true, packetId: parseInt(id, 16), payload: "m" });
    const third = await reconnect(second);
    await third.expect("publish", { dup: true, packetId: parseInt(id, 16), payload: "m" });
    third.send(hex(`40 02 ${id}`));
    await third.ping();
    const fourth = await reconnect(third);
    expect(await fourth.settle()).toEqual([]);
  });

  test("[MQTT-4.3.2-3] a PUBACK for another packet id does not acknowledge it", async () => {
    const { sub, id } = await leaveInflight("43-other", "43/other", 1);
    sub.send({ type: "puback", packetId: parseInt(id, 16) + 1 });
    await sub.ping();
    const again = await reconnect(sub);
    await again.expect("publish", { dup: true, packetId: parseInt(id, 16), payload: "m" });
  });
});

describe("an acknowledgement of the wrong kind", () => {
  test.each([
    [1, "pubrec"],
    [1, "pubcomp"],
    [2, "puback"],
    [2, "pubcomp"],
  ] as const)("[MQTT-4.3.2-3] [MQTT-4.3.3-3] QoS %i is not acknowledged by %s", async (qos, type) => {
    const { sub, id } = await leaveInflight(`43-${qos}-${type}`, `43/${qos}/${type}`, qos);
    sub.send({ type, packetId: parseInt(id, 16) });
    await sub.settle().catch(() => {}); // the connection may end for it
    const again = await reconnect(sub);
    await again.expect("publish", { qos, dup: true, packetId: parseInt(id, 16), payload: "m" });
  });

  test("[MQTT-4.3.3-5] nor is PUBREL by PUBACK", async () => {
    const { sub, id } = await leaveInflight("43-wrong", "43/wrong", 2);
    sub.send(hex(`50 02 ${id}`));
    await sub.expectBytes(`62 02 ${id}`);
    sub.send(hex(`40 02 ${id}`));
    await sub.settle().catch(() => {});
    const again = await reconnect(sub);
    await again.expectBytes(`62 02 ${id}`);
  });
});

describe("QoS 1 to the broker", () => {
  test("[MQTT-4.3.2-4] gets PUBACK with its packet id, once the broker has the message", async () => {
    const sub = await connectSubscriber("43/one", 1);
    const client = await h.connect();
    for (const id of ["00 05", "ff ff", "01 00"]) {
      client.send(hex(`32 0b 00 06 34 33 2f 6f 6e 65 ${id} 00`));
      await client.expectBytes(`40 02 ${id}`);
      await sub.expect("publish", { topic: "43/one", qos: 1, payload: "" });
    }
  });

  test("[MQTT-4.3.2-5] after PUBACK the same packet id is a new message, DUP or not", async () => {
    const sub = await connectSubscriber("43/reuse", 1);
    const client = await h.connect();
    for (const [dup, payload] of [
      [false, "a"],
      [true, "a"],
      [true, "b"],
      [false, "c"],
    ] as const) {
      client.send({ type: "publish", topic: "43/reuse", qos: 1, packetId: 5, dup, payload });
      await client.expectBytes("40 02 00 05");
      await sub.expect("publish", { dup: false, payload });
    }
  });
});

describe("QoS 2 from the broker", () => {
  test("[MQTT-4.3.3-2] begins with first byte 34 and a packet id", async () => {
    const sub = await connectSubscriber("43q2", 2);
    await (await h.connect()).publish("43q2", "hi", { qos: 2 });
    await sub.expectBytes("34 0b 00 04 34 33 71 32 00 01 00 68 69");
  });

  test("[MQTT-4.3.3-3] is unacknowledged until PUBREC", async () => {
    const { sub, id } = await leaveInflight("43-pubrec", "43/pubrec", 2);
    const second = await reconnect(sub);
    await second.expect("publish", { dup: true, qos: 2, packetId: parseInt(id, 16), payload: "m" });
    expect(await second.settle()).toEqual([]);
  });

  test.each(["50 02 ID", "50 03 ID 00", "50 04 ID 00 00", "50 03 ID 10", "50 04 ID 10 00"])(
    "[MQTT-4.3.3-4] a good PUBREC, here %s, gets PUBREL with its packet id",
    async (form) => {
      const { sub, id } = await leaveInflight("43-good", "43/good", 2);
      sub.send(hex(form.replace("ID", id)));
      await sub.expectBytes(`62 02 ${id}`);
      sub.send(hex(`70 02 ${id}`));
      expect(await sub.settle()).toEqual([]);
    },
  );

  test("[MQTT-4.3.3-4] a failing PUBREC gets no PUBREL and ends the exchange", async () => {
    const { sub, id } = await leaveInflight("43-fail", "43/fail", 2);
    sub.send(hex(`50 03 ${id} 80`));
    expect(await sub.settle()).toEqual([]);
    sub.send(hex(`50 02 ${id}`));
    await sub.expect("pubrel", { packetId: parseInt(id, 16), reasonCode: 0x92 });
    expect(await (await reconnect(sub)).settle()).toEqual([]);
  });

  test("[MQTT-4.3.3-5] [MQTT-4.3.3-6] after PUBREL only PUBREL comes again, until PUBCOMP", async () => {
    const { sub, id } = await leaveInflight("43-pubrel", "43/pubrel", 2);
    sub.send(hex(`50 02 ${id}`));
    await sub.expectBytes(`62 02 ${id}`);
    const second = await reconnect(sub);
    await second.expectBytes(`62 02 ${id}`);
    expect(await second.settle()).toEqual([]);
    const third = await reconnect(second);
    await third.expectBytes(`62 02 ${id}`);
    third.send(hex(`70 02 ${id}`));
    expect(await third.settle()).toEqual([]);
    expect(await (await reconnect(third)).settle()).toEqual([]);
  });

  test("[MQTT-4.3.3-6] a second PUBREC gets PUBREL again, and no PUBLISH", async () => {
    const { sub, id } = await leaveInflight("43-twice", "43/twice", 2);
    for (let round = 0; round < 2; round++) {
      sub.send(hex(`50 02 ${id}`));
      await sub.expectBytes(`62 02 ${id}`);
    }
    expect(await sub.settle()).toEqual([]);
  });

  test("[MQTT-4.3.3-7] [MQTT-4.3.3-13] a PUBLISH once sent is completed though it expires", async () => {
    const sub = await h.connect(kept("43-expires"));
    await sub.subscribe("43/expires", 2);
    const pub = await h.connect();
    for (const payload of ["a", "b"]) {
      await pub.publish("43/expires", payload, { qos: 2, properties: [["messageExpiryIntervalSec", 1]] });
    }
    const [first, second] = publishes(await sub.settle());
    expect(prop(first!, "messageExpiryIntervalSec")).toBe(1);
    sub.send({ type: "pubrec", packetId: second!.packetId! });
    await sub.expect("pubrel", { packetId: second!.packetId! });
    sub.kill();
    await h.advance(2.1);
    const back = await h.connect(resumed("43-expires"));
    const again = await back.take("publish");
    expect(again).toMatchObject({ qos: 2, dup: true, packetId: first!.packetId! });
    await back.ack(again);
    await back.take("pubrel", second!.packetId!);
    back.send({ type: "pubcomp", packetId: second!.packetId! });
    expect(await back.settle()).toEqual([]);
  });
});

describe("QoS 2 to the broker", () => {
  test("[MQTT-4.3.3-8] [MQTT-4.3.3-11] gets PUBREC and PUBCOMP with its packet id", async () => {
    const sub = await connectSubscriber("43/two", 0);
    const client = await h.connect();
    for (const id of ["00 05", "ff ff", "01 00"]) {
      client.send(hex(`34 0b 00 06 34 33 2f 74 77 6f ${id} 00`));
      await client.expectBytes(`50 02 ${id}`);
      client.send(hex(`62 02 ${id}`));
      await client.expectBytes(`70 02 ${id}`);
    }
    expect(payloads(await sub.settle())).toEqual(["", "", ""]);
  });

  test("[MQTT-4.3.3-10] a repeat before PUBREL gets PUBREC and is not delivered again", async () => {
    const sub = await connectSubscriber("43/repeat", 2);
    const client = await h.connect();
    for (const [dup, payload] of [
      [false, "a"],
      [true, "a"],
      [true, "a"],
    ] as const) {
      client.send({ type: "publish", topic: "43/repeat", qos: 2, packetId: 5, dup, payload });
      expect((await client.expect("pubrec", { packetId: 5 })).reasonCode).toBeLessThan(0x80);
    }
    client.send(hex("62 02 00 05"));
    await client.expectBytes("70 02 00 05");
    expect(payloads(await sub.settle())).toEqual(["a"]);
  });

  test("[MQTT-4.3.3-10] neither is a repeat on the session's next connection", async () => {
    const sub = await connectSubscriber("43/again", 2);
    const first = await h.connect(kept("43-again"));
    first.send({ type: "publish", topic: "43/again", qos: 2, packetId: 5, payload: "a" });
    await first.expectBytes("50 02 00 05");
    const second = await reconnect(first);
    second.send({ type: "publish", topic: "43/again", qos: 2, packetId: 5, dup: true, payload: "a" });
    expect((await second.expect("pubrec", { packetId: 5 })).reasonCode).toBeLessThan(0x80);
    const third = await reconnect(second);
    third.send(hex("62 02 00 05"));
    await third.expectBytes("70 02 00 05");
    expect(payloads(await sub.settle())).toEqual(["a"]);
  });

  test("[MQTT-4.3.3-12] after PUBCOMP the same packet id is a new message, DUP or not", async () => {
    const sub = await connectSubscriber("43/renew", 2);
    const client = await h.connect();
    for (const [dup, payload] of [
      [false, "a"],
      [true, "a"],
      [false, "b"],
    ] as const) {
      client.send({ type: "publish", topic: "43/renew", qos: 2, packetId: 5, dup, payload });
      await client.expectBytes("50 02 00 05");
      client.send(hex("62 02 00 05"));
      await client.expectBytes("70 02 00 05");
      await sub.expect("publish", { qos: 2, dup: false, payload });
    }
  });

  test("[MQTT-4.3.3-12] a new session knows nothing of the old one's packet ids", async () => {
    const sub = await connectSubscriber("43/new", 0);
    const first = await h.connect(kept("43-new"));
    first.send({ type: "publish", topic: "43/new", qos: 2, packetId: 5, payload: "a" });
    await first.expectBytes("50 02 00 05");
    first.kill();
    const second = await h.connect(kept("43-new"));
    expect(await second.publish("43/new", "b", { qos: 2, packetId: 5 })).toMatchObject([{ reasonCode: 0 }, {}]);
    expect(payloads(await sub.settle())).toContain("b");
  });

  test("[MQTT-4.3.3-13] the exchange is completed though the message has expired", async () => {
    const sub = await h.connect(kept("43-late"));
    await sub.subscribe("43/late", 2);
    await sub.disconnect();
    const client = await h.connect();
    const properties: Properties = [["messageExpiryIntervalSec", 1]];
    client.send({ type: "publish", topic: "43/late", qos: 2, packetId: 5, payload: "m", properties });
    await client.expectBytes("50 02 00 05");
    await h.advance(2.1);
    client.send({ type: "publish", topic: "43/late", qos: 2, packetId: 5, dup: true, payload: "m", properties });
    await client.expectBytes("50 02 00 05");
    client.send(hex("62 02 00 05"));
    await client.expectBytes("70 02 00 05");
  });
});
