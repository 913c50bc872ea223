// UNSUBACK: its codes and its room for more than codes.

import { expect, test } from "bun:test";
import { useHarness } from "./fixture.ts";
import { connectSmall, expectSmall } from "./small-client.ts";

const harness = useHarness();

test("[MQTT-3.11.2-1] [MQTT-3.11.2-2] reason string and user properties stay out when the UNSUBACK would grow too large", async () => {
  const { client, sizeMax } = await connectSmall(harness);
  const unsuback = await client.unsubscribe("3.11/never");
  expect(unsuback.reasonCodes).toEqual([0x11]);
  expectSmall(unsuback, sizeMax);
});

test("[MQTT-3.11.3-1] the codes follow the order of the filters", async () => {
  const client = await harness.connect();
  await client.subscribe(["3.11/a", "3.11/b"], 1);
  expect((await client.unsubscribe(["3.11/a", "3.11/x", "3.11/b"])).reasonCodes).toEqual([0, 0x11, 0]);
});

test("[MQTT-3.11.3-2] the codes are the listed ones: removed, none there", async () => {
  const client = await harness.connect();
  await client.subscribe("3.11/twice", 2);
  expect((await client.unsubscribe(["3.11/twice", "3.11/twice"])).reasonCodes).toEqual([0, 0x11]);
});
