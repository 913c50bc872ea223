// SUBACK: its codes and its room for more than codes.

import { expect, test } from "bun:test";
import { withConfig } from "./connect-support.ts";
import { useHarness } from "./fixture.ts";
import { connectSmall, expectSmall } from "./small-client.ts";

const harness = useHarness();

test("[MQTT-3.9.2-1] [MQTT-3.9.2-2] reason string and user properties stay out when the SUBACK would grow too large", async () => {
  const { client, sizeMax } = await connectSmall(harness);
  const suback = await client.subscribe("3.9/#/b", 0);
  expect(suback.reasonCodes).toEqual([0x8f]);
  expectSmall(suback, sizeMax);
});

test("[MQTT-3.9.3-1] the codes follow the order of the filters", async () => {
  const client = await harness.connect();
  const subscriptions = [
    { filter: "3.9/two", qos: 2 },
    { filter: "3.9/bad#", qos: 2 },
    { filter: "3.9/zero", qos: 0 },
    { filter: "3.9/one", qos: 1 },
  ];
  expect((await client.subscribe(subscriptions)).reasonCodes).toEqual([2, 0x8f, 0, 1]);
});

test("[MQTT-3.9.3-2] the codes are the listed ones, with the right one for each kind of failure", async () => {
  const client = await harness.connect();
  for (const filter of ["3.9/a+", "+a", "#/3.9", "3.9/##"]) {
    expect((await client.subscribe(filter, 2)).reasonCodes).toEqual([0x8f]);
  }
  await client.disconnect();

  await withConfig({ session: { subscriptionCountMax: 1 } }, async (limited) => {
    const full = await limited.connect();
    expect((await full.subscribe(["a", "b"], 1)).reasonCodes).toEqual([1, 0x97]);
    expect((await full.subscribe("a", 2)).reasonCodes).toEqual([2]); // a replacement takes no room
    expect((await full.unsubscribe("a")).reasonCodes).toEqual([0]);
    expect((await full.subscribe("b", 0)).reasonCodes).toEqual([0]);
  });
});
