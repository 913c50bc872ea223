// 3.4 to 3.7: PUBACK, PUBREC, PUBREL and PUBCOMP: their reason codes, their size, PUBREL's flags.

import { describe, expect, test } from "bun:test";
import type { RawClient } from "#test/support/client.ts";
import { hex, type Properties } from "#test/support/packets.ts";
import { isForeign, payloads, useHarness } from "./fixture.ts";
import { connectSmall, expectSmall } from "./small-client.ts";

const h = useHarness();

/** A client that has been sent one message of this QoS, and its packet id in two bytes of hex. */
async function connectWithMessage(topic: string, qos: number): Promise<{ client: RawClient; id: string }> {
  const client = await h.connect();
  await client.subscribe(topic, qos);
  await (await h.connect()).publish(topic, "m", { qos });
  const { packetId } = await client.expect("publish", { qos });
  return { client, id: packetId!.toString(16).padStart(4, "0") };
}

const reasons: Properties = [
  ["reasonString", "why"],
  ["userProperty", ["a", "1"]],
  ["userProperty", ["a", "2"]],
];

const unlisted = [0x01, 0x03, 0x11, 0x7f, 0x81, 0xff];
const none = isForeign ? [0, 0x10] : [0x10]; // "no matching subscribers" is a courtesy

describe("PUBACK", () => {
  test("[MQTT-3.4.2-1] is bare where somebody gets the message and says so where nobody does", async () => {
    const sub = await h.connect();
    await sub.subscribe("34/wanted", 1);
    const client = await h.connect();
    client.send({ type: "publish", topic: "34/wanted", qos: 1, packetId: 0x0102, payload: "m" });
    await client.expectBytes("40 02 01 02");
    client.send({ type: "publish", topic: "34/unwanted", qos: 1, packetId: 0x0102, payload: "m" });
    expect(none).toContain((await client.expect("puback", { packetId: 0x0102 })).reasonCode!);
  });

  test.each([0x00, 0x10, 0x80, 0x83, 0x87, 0x90, 0x91, 0x97, 0x99])(
    "[MQTT-3.4.2-1] with the listed code %i is taken, in each form",
    async (reasonCode) => {
      const forms = [{ reasonCode }, { reasonCode, properties: [] }, { reasonCode, properties: reasons }];
      for (const form of forms) {
        const { client, id } = await connectWithMessage("34/puback/in", 1);
        client.send({ type: "puback", packetId: parseInt(id, 16), ...form });
        expect(await client.settle()).toEqual([]);
        client.kill();
      }
    },
  );

  test.each(unlisted)("[MQTT-3.4.2-1] with the unlisted code %i is refused", async (reasonCode) => {
    const { client, id } = await connectWithMessage("34/puback/bad", 1);
    client.send({ type: "puback", packetId: parseInt(id, 16), reasonCode });
    await client.expectRejected([0x81, 0x82]);
  });

  test("[MQTT-3.4.2-2] [MQTT-3.4.2-3] fits into a small Maximum Packet Size", async () => {
    const { client, sizeMax } = await connectSmall(h);
    client.send(hex("32 07 00 02 33 34 00 07 00"));
    const puback = await client.expect("puback", { packetId: 7 });
    expect(none).toContain(puback.reasonCode!);
    expectSmall(puback, sizeMax);
  });
});

describe("PUBREC", () => {
  test("[MQTT-3.5.2-1] is bare where somebody gets the message and says so where nobody does", async () => {
    const sub = await h.connect();
    await sub.subscribe("35/wanted", 1);
    const client = await h.connect();
    client.send({ type: "publish", topic: "35/wanted", qos: 2, packetId: 0x0102, payload: "m" });
    await client.expectBytes("50 02 01 02");
    client.send({ type: "publish", topic: "35/unwanted", qos: 2, packetId: 0x0103, payload: "m" });
    expect(none).toContain((await client.expect("pubrec", { packetId: 0x0103 })).reasonCode!);
  });

  test.each([0x00, 0x10, 0x80, 0x83, 0x87, 0x90, 0x91, 0x97, 0x99])(
    "[MQTT-3.5.2-1] with the listed code %i is taken, in each form",
    async (reasonCode) => {
      const forms = [{ reasonCode }, { reasonCode, properties: [] }, { reasonCode, properties: reasons }];
      for (const form of forms) {
        const { client, id } = await connectWithMessage("35/pubrec/in", 2);
        client.send({ type: "pubrec", packetId: parseInt(id, 16), ...form });
        if (reasonCode < 0x80) await client.expectBytes(hex(`62 02 ${id}`));
        expect(await client.settle()).toEqual([]);
        client.kill();
      }
    },
  );

  test.each(unlisted)("[MQTT-3.5.2-1] with the unlisted code %i is refused", async (reasonCode) => {
    const { client, id } = await connectWithMessage("35/pubrec/bad", 2);
    client.send({ type: "pubrec", packetId: parseInt(id, 16), reasonCode });
    await client.expectRejected([0x81, 0x82]);
  });

  test("[MQTT-3.5.2-2] [MQTT-3.5.2-3] fits into a small Maximum Packet Size", async () => {
    const { client, sizeMax } = await connectSmall(h);
    client.send(hex("34 07 00 02 33 35 00 07 00"));
    const pubrec = await client.expect("pubrec", { packetId: 7 });
    expect(none).toContain(pubrec.reasonCode!);
    expectSmall(pubrec, sizeMax);
  });
});

describe("PUBREL", () => {
  test.each(["60", "61", "63", "66", "6a", "6f"])(
    "[MQTT-3.6.1-1] a first byte of %s is malformed, and the message is not released by it",
    async (first) => {
      const sub = await h.connect();
      await sub.subscribe("36/flags", 0);
      const client = await h.connect();
      client.send({ type: "publish", topic: "36/flags", qos: 2, packetId: 1, payload: "m" });
      await client.expect("pubrec", { packetId: 1 });
      client.send(hex(`${first} 02 00 01`));
      await client.expectDisconnect(0x81);
      expect(payloads(await sub.settle()).length).toBeLessThanOrEqual(1); // on PUBLISH or on PUBREL, but once
    },
  );

  test("[MQTT-3.6.1-1] [MQTT-3.6.2-1] the broker's own is 62 02 and the packet id", async () => {
    const { client, id } = await connectWithMessage("36/own", 2);
    client.send(hex(`50 02 ${id}`));
    await client.expectBytes(`62 02 ${id}`);
  });

  test.each(["50 02 00 07", "50 03 00 07 00", "50 04 00 07 10 00"])(
    "[MQTT-3.6.2-1] PUBREC %s for an unknown packet id gets 0x92",
    async (pubrec) => {
      const client = await h.connect();
      client.send(hex(pubrec));
      await client.expect("pubrel", { packetId: 7, reasonCode: 0x92 });
      expect(await client.settle()).toEqual([]);
    },
  );

  test.each([0x00, 0x92])("[MQTT-3.6.2-1] with the listed code %i is answered, in each form", async (reasonCode) => {
    const sub = await h.connect();
    await sub.subscribe("36/in", 0);
    const client = await h.connect();
    for (const form of [{ reasonCode }, { reasonCode, properties: [] }, { reasonCode, properties: reasons }]) {
      client.send({ type: "publish", topic: "36/in", qos: 2, packetId: 1, payload: "m" });
      await client.expectBytes("50 02 00 01");
      client.send({ type: "pubrel", packetId: 1, ...form });
      await client.expect("pubcomp", { packetId: 1 });
    }
  });

  test.each([...unlisted, 0x10, 0x80])("[MQTT-3.6.2-1] with the unlisted code %i is refused", async (reasonCode) => {
    const client = await h.connect();
    client.send({ type: "publish", topic: "36/bad", qos: 2, packetId: 1, payload: "m" });
    await client.expect("pubrec", { packetId: 1 });
    client.send({ type: "pubrel", packetId: 1, reasonCode });
    await client.expectRejected([0x81, 0x82]);
  });

  test("[MQTT-3.6.2-2] [MQTT-3.6.2-3] fits into a small Maximum Packet Size", async () => {
    const { client, sizeMax } = await connectSmall(h);
    client.send(hex("50 02 00 07"));
    expectSmall(await client.expect("pubrel", { packetId: 7, reasonCode: 0x92 }), sizeMax);
  });
});

describe("PUBCOMP", () => {
  test("[MQTT-3.7.2-1] is bare for a known packet id and says 0x92 for an unknown one", async () => {
    const sub = await h.connect();
    await sub.subscribe("37/known", 0);
    const client = await h.connect();
    client.send({ type: "publish", topic: "37/known", qos: 2, packetId: 0x0708, payload: "m" });
    await client.expectBytes("50 02 07 08");
    client.send(hex("62 02 07 09"));
    await client.expect("pubcomp", { packetId: 0x0709, reasonCode: 0x92 });
    client.send(hex("62 02 07 08"));
    await client.expectBytes("70 02 07 08");
    client.send(hex("62 02 07 08"));
    await client.expect("pubcomp", { packetId: 0x0708, reasonCode: 0x92 });
  });

  test.each([0x00, 0x92])(
    "[MQTT-3.7.2-1] with the listed code %i ends the exchange, in each form",
    async (reasonCode) => {
      for (const form of [{ reasonCode }, { reasonCode, properties: [] }, { reasonCode, properties: reasons }]) {
        const { client, id } = await connectWithMessage("37/in", 2);
        client.send(hex(`50 02 ${id}`));
        await client.expectBytes(`62 02 ${id}`);
        client.send({ type: "pubcomp", packetId: parseInt(id, 16), ...form });
        expect(await client.settle()).toEqual([]);
        client.kill();
      }
    },
  );

  test.each([...unlisted, 0x10, 0x80])("[MQTT-3.7.2-1] with the unlisted code %i is refused", async (reasonCode) => {
    const { client, id } = await connectWithMessage("37/bad", 2);
    client.send(hex(`50 02 ${id}`));
    await client.expectBytes(`62 02 ${id}`);
    client.send({ type: "pubcomp", packetId: parseInt(id, 16), reasonCode });
    await client.expectRejected([0x81, 0x82]);
  });

  test("[MQTT-3.7.2-2] [MQTT-3.7.2-3] fits into a small Maximum Packet Size", async () => {
    const { client, sizeMax } = await connectSmall(h);
    client.send(hex("62 02 00 07"));
    expectSmall(await client.expect("pubcomp", { packetId: 7, reasonCode: 0x92 }), sizeMax);
  });
});
