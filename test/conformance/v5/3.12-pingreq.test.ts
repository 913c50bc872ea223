// PINGREQ and PINGRESP.

import { expect, test } from "bun:test";
import { hex } from "#test/support/packets.ts";
import { useHarness } from "./fixture.ts";

const harness = useHarness();

test("[MQTT-3.12.4-1] each PINGREQ is answered by one PINGRESP", async () => {
  const client = await harness.connect();
  client.send(hex("c0 00"));
  await client.expectBytes("d0 00");
  client.send(hex("c0 00".repeat(10)));
  for (let count = 0; count < 10; count++) await client.expectBytes("d0 00");
  expect(await client.settle()).toEqual([]);
});

test("a PINGREQ with a body is malformed", async () => {
  const client = await harness.connect();
  client.send(hex("c0 01 00"));
  await client.expectRejected(0x81);
});
