// The fixed header and packet identifiers of 3.1.1, byte for byte.

import { expect, test } from "bun:test";
import { hex } from "#test/support/packets.ts";
import { expectEachCloses, unique, useHarness } from "./fixture.ts";

const harness = useHarness();

test("[MQTT3-2.2.2-1] every packet of the broker has its listed flags", async () => {
  const client = await harness.open(4);
  client.send(hex("10 0e 00 04 4d 51 54 54 04 02 00 00 00 02 66 31"));
  await client.expectBytes("20 02 00 00");
  client.send(hex("82 08 00 01 00 03 32 2f 61 02"));
  await client.expectBytes("90 03 00 01 02");

  const publisher = await harness.connect({ version: 4 });
  publisher.send(hex("32 07 00 03 32 2f 61 00 09"));
  await publisher.expectBytes("40 02 00 09");
  await client.expectBytes("32 07 00 03 32 2f 61 00 01");
  client.send(hex("40 02 00 01"));
  publisher.send(hex("34 07 00 03 32 2f 61 00 0a"));
  await publisher.expectBytes("50 02 00 0a");
  publisher.send(hex("62 02 00 0a"));
  await publisher.expectBytes("70 02 00 0a");
  await client.expectBytes("34 07 00 03 32 2f 61 00 02");
  client.send(hex("50 02 00 02"));
  await client.expectBytes("62 02 00 02");
  client.send(hex("70 02 00 02 a2 07 00 04 00 03 32 2f 61 c0 00"));
  await client.expectBytes("b0 02 00 04");
  await client.expectBytes("d0 00");
});

test("[MQTT3-2.2.2-2] other flags than the listed ones close the connection", async () => {
  await expectEachCloses(harness, ["c1 00", "c2 00", "c8 00", "cf 00", "e1 00", "e2 00", "e8 00"]);
  await expectEachCloses(harness, ["41 02 00 01", "42 02 00 01", "51 02 00 01", "52 02 00 01"]);
  await expectEachCloses(harness, ["60 02 00 01", "61 02 00 01", "63 02 00 01", "6a 02 00 01"]);
  await expectEachCloses(harness, ["71 02 00 01", "72 02 00 01"]);
  await expectEachCloses(harness, ["80 06 00 01 00 01 61 00", "83 06 00 01 00 01 61 00", "8a 06 00 01 00 01 61 00"]);
  await expectEachCloses(harness, ["a0 05 00 01 00 01 61", "a3 05 00 01 00 01 61", "aa 05 00 01 00 01 61"]);
});

test("[MQTT3-2.3.1-1] packet id 0 closes the connection", async () => {
  await expectEachCloses(harness, [
    "82 06 00 00 00 01 61 00",
    "a2 05 00 00 00 01 61",
    "32 05 00 01 61 00 00",
    "34 05 00 01 61 00 00",
  ]);
});

test("[MQTT3-2.3.1-4] the broker repeats a PUBLISH under its id and uses no id twice while it is taken", async () => {
  const clientId = unique("v3-ids");
  const client = await harness.connect({ version: 4, clientId, cleanStart: false });
  const publisher = await harness.connect({ version: 4 });
  await client.subscribe("2/ids", 2);
  const send = async (qos: number) => {
    await publisher.publish("2/ids", "", { qos });
    return client.expect("publish", { qos, dup: false });
  };
  const first = await send(1);
  const second = await send(2);
  const third = await send(1);
  const taken = new Set([first.packetId, second.packetId, third.packetId]);
  expect(taken.size).toBe(3);
  await client.ack(third);
  client.send({ type: "pubrec", packetId: second.packetId! });
  await client.take("pubrel", second.packetId!);
  for (let count = 0; count < 5; count++) {
    const next = await send(1);
    expect(next.packetId).not.toBe(first.packetId!);
    expect(next.packetId).not.toBe(second.packetId!); // taken until PUBCOMP
    await client.ack(next);
  }
  await client.ping();
  client.kill();

  const again = await harness.connect({ version: 4, clientId, cleanStart: false });
  const resent = await again.settle();
  expect(resent.filter(({ type }) => type === "publish")).toMatchObject([{ packetId: first.packetId, dup: true }]);
  expect(resent.filter(({ type }) => type !== "publish")).toMatchObject([
    { type: "pubrel", packetId: second.packetId },
  ]);
});

test("[MQTT3-2.3.1-5] a QoS 0 PUBLISH has no packet id", async () => {
  const client = await harness.connect({ version: 4 });
  await client.subscribe("q", 2);
  client.send(hex("30 05 00 01 71 68 69"));
  await client.expectBytes("30 05 00 01 71 68 69");
});

test("[MQTT3-2.3.1-6] PUBACK, PUBREC, PUBREL and PUBCOMP repeat the packet id", async () => {
  const client = await harness.connect({ version: 4 });
  client.send(hex("32 08 00 03 32 2f 62 12 34 78"));
  await client.expectBytes("40 02 12 34");
  client.send(hex("34 08 00 03 32 2f 62 ff ff 78"));
  await client.expectBytes("50 02 ff ff");
  client.send(hex("62 02 ff ff"));
  await client.expectBytes("70 02 ff ff");

  await client.subscribe("2/rel", 2);
  await client.publish("2/rel", "", { qos: 2, packetId: 0x7777 });
  const { packetId } = await client.expect("publish", { qos: 2 });
  client.send({ type: "pubrec", packetId: packetId! });
  await client.expectBytes(Uint8Array.of(0x62, 2, packetId! >> 8, packetId! & 0xff));
});

test("[MQTT3-2.3.1-7] SUBACK and UNSUBACK repeat the packet id", async () => {
  const client = await harness.connect({ version: 4 });
  client.send(hex("82 08 ab cd 00 03 32 2f 63 00"));
  await client.expectBytes("90 03 ab cd 00");
  client.send(hex("a2 07 ab ce 00 03 32 2f 63"));
  await client.expectBytes("b0 02 ab ce");
});
