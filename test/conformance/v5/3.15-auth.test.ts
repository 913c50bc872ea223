// AUTH: its form. The exchanges themselves are in chapter 4.12.

import { expect, test } from "bun:test";
import type { RawClient } from "#test/support/client.ts";
import type { Harness } from "#test/support/harness.ts";
import { encodePacket, hex, type PacketInput, prop, type Properties, props } from "#test/support/packets.ts";
import { withAccess } from "./access-backend.ts";
import { useHarness } from "./fixture.ts";

const harness = useHarness();

const method: Properties = [["authenticationMethod", "TEST"]];

function auth(reasonCode: number, data: string): PacketInput & { type: "auth" } {
  return { type: "auth", reasonCode, properties: [...method, ["authenticationData", new TextEncoder().encode(data)]] };
}

/** A client that has been asked and not yet answered. */
async function openAsked(broker: Harness, properties: Properties = []): Promise<RawClient> {
  const client = await broker.open();
  client.send({ type: "connect", clientId: "asked", properties: [...method, ...properties] });
  return client;
}

async function connectByMethod(broker: Harness): Promise<RawClient> {
  const client = await openAsked(broker);
  await client.expect("auth", { reasonCode: 0x18 });
  client.send(auth(0x18, "answer"));
  await client.expect("connack", { reasonCode: 0 });
  return client;
}

test("[MQTT-3.15.1-1] reserved flags make AUTH malformed", async () => {
  for (const first of ["f1", "f2", "f8"]) {
    const client = await harness.connect();
    client.send(hex(`${first} 00`));
    await client.expectRejected([0x81, 0x82]); // without a method any AUTH is a protocol error
  }
  await withAccess(async (broker) => {
    const asked = await openAsked(broker);
    await asked.expect("auth", { reasonCode: 0x18 });
    asked.send({ ...auth(0x18, "answer"), flags: 1 });
    await asked.expectRejected(0x81);
    const accepted = await connectByMethod(broker);
    accepted.send({ ...auth(0x19, ""), flags: 1 });
    await accepted.expectRejected(0x81);
  });
});

test("[MQTT-3.15.2-1] the codes of AUTH are 0x00, 0x18 and 0x19, each from the side that may send it", async () => {
  for (const reasonCode of [0x00, 0x01, 0x18, 0x19, 0x1a, 0x80]) {
    const client = await harness.connect();
    client.send({ type: "auth", reasonCode, properties: method });
    await client.expectRejected([0x81, 0x82]);
  }
  await withAccess(async (broker) => {
    for (const reasonCode of [0x00, 0x01, 0x17, 0x19, 0x1a, 0x87]) {
      const asked = await openAsked(broker);
      await asked.expect("auth", { reasonCode: 0x18 });
      asked.send(auth(reasonCode, "answer"));
      await asked.expectRejected([0x81, 0x82]);
      const accepted = await connectByMethod(broker);
      accepted.send(auth(reasonCode === 0x19 ? 0x18 : reasonCode, "answer"));
      await accepted.expectRejected([0x81, 0x82]);
    }
    const client = await connectByMethod(broker);
    client.send(auth(0x19, ""));
    await client.expect("auth", { reasonCode: 0x18 });
    client.send(auth(0x18, "answer"));
    await client.expect("auth", { reasonCode: 0x00 });
  });
});

test("[MQTT-3.15.2-2] [MQTT-3.15.2-3] reason string and user properties stay out when the AUTH would grow too large", async () => {
  const reasonString = "why ".repeat(40);
  await withAccess(async (broker) => {
    const roomy = await openAsked(broker);
    const full = await roomy.expect("auth", { reasonCode: 0x18 });
    expect(prop(full, "reasonString")).toBe(reasonString); // or the rest shows nothing
    roomy.kill();

    const sizeMax = encodePacket(full, 5).length - 1;
    const client = await openAsked(broker, [["maximumPacketSizeBytes", sizeMax]]);
    const expectBare = async (reasonCode: number) => {
      const packet = await client.expect("auth", { reasonCode });
      expect(props(packet, "reasonString")).toEqual([]);
      expect(props(packet, "userProperty")).toEqual([]);
      expect(encodePacket(packet, 5).length).toBeLessThanOrEqual(sizeMax);
    };
    await expectBare(0x18);
    client.send(auth(0x18, "more"));
    await expectBare(0x18);
    client.send(auth(0x18, "answer"));
    await client.expect("connack", { reasonCode: 0 });
    client.send(auth(0x19, ""));
    await expectBare(0x18);
    client.send(auth(0x18, "more"));
    await expectBare(0x18);
  }, reasonString);
});
