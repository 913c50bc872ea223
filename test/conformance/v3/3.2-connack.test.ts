// CONNACK of 3.1.1: first of all packets, with Session Present and the return code.

import { expect, test } from "bun:test";
import type { ConnectOptions } from "#test/support/client.ts";
import { hex } from "#test/support/packets.ts";
import { connect, unique, useHarness, withConfig } from "./fixture.ts";

const harness = useHarness();

async function expectConnack(bytes: string, options: ConnectOptions) {
  const client = await harness.open(4);
  client.send(connect(options));
  await client.expectBytes(bytes);
  return client;
}

test("[MQTT3-3.2.0-1] the CONNACK comes before everything that waits for the client", async () => {
  const session = { clientId: unique("v3-first"), cleanStart: false };
  const client = await expectConnack("20 02 00 00", session);
  await client.subscribe("3.2/first", 2);
  const publisher = await harness.connect({ version: 4 });
  await publisher.publish("3.2/first", "unacknowledged", { qos: 1 });
  await client.expect("publish", { dup: false });
  await client.disconnect();
  await publisher.publish("3.2/first", "waiting", { qos: 2 });
  const again = await expectConnack("20 02 01 00", session);
  await again.expect("publish", { payload: "unacknowledged", dup: true });
  await again.expect("publish", { payload: "waiting", dup: false });
});

test("[MQTT3-3.2.2-1] Clean Session 1: Session Present is 0 even if there was a session", async () => {
  const clientId = unique("v3-present-1");
  await (await expectConnack("20 02 00 00", { clientId, cleanStart: false })).disconnect();
  await (await expectConnack("20 02 00 00", { clientId, cleanStart: true })).disconnect();
  await expectConnack("20 02 00 00", { clientId, cleanStart: true });
});

test("[MQTT3-3.2.2-2] Clean Session 0 and a stored session: Session Present is 1", async () => {
  const session = { clientId: unique("v3-present-2"), cleanStart: false };
  await (await expectConnack("20 02 00 00", session)).disconnect();
  await expectConnack("20 02 01 00", session);
  await expectConnack("20 02 01 00", session); // also when it takes over
});

test("[MQTT3-3.2.2-3] Clean Session 0 and no stored session: Session Present is 0", async () => {
  const clientId = unique("v3-present-3");
  await (await expectConnack("20 02 00 00", { clientId, cleanStart: true })).disconnect();
  await expectConnack("20 02 00 00", { clientId, cleanStart: false });
});

test("[MQTT3-3.2.2-4] [MQTT3-3.2.2-5] a refusing CONNACK has Session Present 0 and is followed by a close", async () => {
  const session = { clientId: unique("v3-refusal"), cleanStart: false };
  await (await expectConnack("20 02 00 00", session)).disconnect();
  const level = await expectConnack("20 02 00 01", { ...session, protocolLevel: 2 });
  await level.expectClosed();
  const nameless = await expectConnack("20 02 00 02", { ...session, clientId: "" });
  await nameless.expectClosed();
  nameless.send(hex("c0 00"));
  await nameless.expectClosed();
  await expectConnack("20 02 01 00", session); // the stored session is untouched
});

test("[MQTT3-3.2.2-6] where no return code fits, the link is closed without a CONNACK", async () => {
  const cases: ConnectOptions[] = [
    { connectFlags: 0x03 },
    { will: { topic: "w", payload: "", qos: 3 } },
    { will: { topic: "w/#", payload: "" } },
    { will: { topic: "", payload: "" } },
    { clientId: hex("c3 28") },
    { password: "without a user name" },
    { remainingLength: 5 },
  ];
  for (const options of cases) {
    const client = await harness.open(4);
    client.send(connect(options));
    await client.expectClosed();
  }
});

test("a will that the broker's limits forbid closes the link without a CONNACK", async () => {
  await withConfig({ mqtt: { qosMax: 1, retain: false } }, async (limited) => {
    for (const will of [{ qos: 2 }, { retain: true }]) {
      const client = await limited.open(4);
      client.send(connect({ will: { topic: "w", payload: "", ...will } }));
      await client.expectClosed();
    }
    await limited.connect({ version: 4, will: { topic: "w", payload: "", qos: 1 } });
  });
});

test("a broker that is full refuses a new session by CONNACK 3", async () => {
  await withConfig({ session: { countMax: 1 } }, async (full) => {
    const first = await full.connect({ version: 4, clientId: "first" });
    const second = await full.open(4);
    second.send(connect({ clientId: "second" }));
    await second.expectBytes("20 02 00 03");
    await second.expectClosed();
    await first.ping();
    const third = await full.connect({ version: 4, clientId: "first" }); // a take-over needs no room
    await third.disconnect();
    expect((await full.connect({ version: 4, clientId: "second" })).connack?.reasonCode).toBe(0);
  });
});
