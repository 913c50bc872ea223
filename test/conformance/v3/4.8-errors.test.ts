// Errors, interoperability and transport of 3.1.1: who is closed, and what works with nothing but the plain protocol.

import { expect, test } from "bun:test";
import { hex } from "#test/support/packets.ts";
import { connect, expectEachCloses, payloads, unique, useHarness, withConfig } from "./fixture.ts";

const harness = useHarness();

test("[MQTT3-4.8.0-1] a protocol violation closes the connection it came on and no other", async () => {
  const other = await harness.connect({ version: 4 });
  await other.subscribe("4.8/other", 0);
  await expectEachCloses(harness, [
    "00 00", // packet types that are not there
    "f0 00",
    "20 02 00 00", // packets of a broker
    "90 03 00 01 00",
    "b0 02 00 01",
    "d0 00",
    "36 05 00 01 61 00 01", // QoS 3
    "30 80 80 80 80 01", // five bytes of length
    "c0 01 00", // bytes left over
    "e0 01 00",
    "40 03 00 01 00",
    "62 03 00 01 00",
    "40 01 00", // bytes missing
    "50 00",
    "62 01 01",
    "70 01 00",
  ]);
  await other.publish("4.8/other", "alive", { qos: 1 });
  await other.expect("publish", { payload: "alive" });
});

test("[MQTT3-4.8.0-2] a packet that meets a passing shortage ends the connection it came on", async () => {
  await withConfig({ session: { countMax: 1 } }, async (full) => {
    const first = await full.connect({ version: 4, clientId: "first" });
    const second = await full.open(4);
    second.send(connect({ clientId: "second" }));
    await second.expectBytes("20 02 00 03");
    await second.expectClosed();
    await first.ping();
    await first.disconnect();
    await full.connect({ version: 4, clientId: "second" }); // the shortage has passed
  });
});

test("[MQTT3-7.0.0-2] plain 3.1.1 packets are all a client needs", async () => {
  const client = await harness.open(4);
  client.send(hex("10 0e 00 04 4d 51 54 54 04 02 00 3c 00 02 70 31"));
  await client.expectBytes("20 02 00 00");
  client.send(hex("82 08 00 01 00 03 70 2f 23 02"));
  await client.expectBytes("90 03 00 01 02");
  client.send(hex("30 06 00 03 70 2f 30 78"));
  await client.expectBytes("30 06 00 03 70 2f 30 78");
  client.send(hex("32 08 00 03 70 2f 31 00 02 78"));
  await client.take("puback", 2);
  await client.expectBytes("32 08 00 03 70 2f 31 00 01 78");
  client.send(hex("40 02 00 01 34 08 00 03 70 2f 32 00 03 78"));
  await client.take("pubrec", 3);
  client.send(hex("62 02 00 03"));
  await client.take("pubcomp", 3);
  await client.expectBytes("34 08 00 03 70 2f 32 00 02 78");
  client.send(hex("50 02 00 02"));
  await client.expectBytes("62 02 00 02");
  client.send(hex("70 02 00 02 a2 07 00 04 00 03 70 2f 23"));
  await client.expectBytes("b0 02 00 04");
  client.send(hex("c0 00"));
  await client.expectBytes("d0 00");
  client.send(hex("e0 00"));
  await client.expectClosed();
});

test("[MQTT3-7.1.1-1] bytes count in their order, however they are cut into writes", async () => {
  const topic = unique("split");
  const bytes = hex("10 0e 00 04 4d 51 54 54 04 02 00 3c 00 02 73 31 82 06 00 01 00 01 73 01 32 06 00 01 73 00 02 78");
  const whole = await harness.open(4);
  whole.send(bytes);
  await whole.expectBytes("20 02 00 00");
  await whole.expectBytes("90 03 00 01 01");
  await whole.take("puback", 2);
  await whole.expectBytes("32 06 00 01 73 00 01 78");
  await whole.disconnect();

  const single = await harness.open(4);
  for (const byte of bytes) single.send(Uint8Array.of(byte));
  await single.expectBytes("20 02 00 00");
  await single.expectBytes("90 03 00 01 01");
  await single.take("puback", 2);
  await single.expectBytes("32 06 00 01 73 00 01 78");

  const reader = await harness.connect({ version: 4 });
  await reader.subscribe(topic, 0);
  const writer = await harness.connect({ version: 4 });
  const texts = Array.from({ length: 500 }, (_, number) => `${number} ${"x".repeat((number * 7) % 300)}`);
  for (const text of texts) await writer.publish(topic, text);
  await writer.ping();
  expect(payloads(await reader.settle())).toEqual(texts);
});
