// PINGREQ and DISCONNECT of 3.1.1.

import { expect, test } from "bun:test";
import { hex } from "#test/support/packets.ts";
import { expectEachCloses, payloads, sendTogether, useHarness } from "./fixture.ts";

const harness = useHarness();

async function watch(filter: string) {
  const watcher = await harness.connect({ version: 4 });
  await watcher.subscribe(filter, 0);
  return watcher;
}

test("[MQTT3-3.12.4-1] each PINGREQ is answered by one PINGRESP", async () => {
  const client = await harness.connect({ version: 4 });
  client.send(hex("c0 00"));
  await client.expectBytes("d0 00");
  client.send(hex("c0 00".repeat(10)));
  for (let count = 0; count < 10; count++) await client.expectBytes("d0 00");
  expect(await client.settle()).toEqual([]);
});

test("[MQTT3-3.14.1-1] a DISCONNECT with reserved flags is an error: close, and the will is published", async () => {
  const watcher = await watch("3.14/flags");
  for (const first of ["e1", "e2", "e8", "ef"]) {
    await expectEachCloses(harness, [`${first} 00`], { will: { topic: "3.14/flags", payload: first } });
    await watcher.expect("publish", { payload: first });
  }
});

test("[MQTT3-3.14.4-1] the broker closes its side after DISCONNECT", async () => {
  await expectEachCloses(harness, ["e0 00"]);
  await expectEachCloses(harness, ["e0 00"], { cleanStart: false, clientId: "v3-left" });
  await (await harness.connect({ version: 4, clientId: "v3-left" })).disconnect();
});

test("[MQTT3-3.14.4-2] what follows a DISCONNECT is not processed", async () => {
  const watcher = await watch("3.14/after");
  const client = await harness.connect({ version: 4 });
  const message = (payload: string) => ({ type: "publish", topic: "3.14/after", payload, retain: true }) as const;
  sendTogether(client, [message(""), { type: "disconnect" }, message("after"), "c0 00"]);
  await client.expectClosed();
  expect(payloads(await watcher.settle())).toEqual([""]);
  expect(await (await watch("3.14/after")).settle()).toEqual([]);
});

test("[MQTT3-3.14.4-3] DISCONNECT removes the will unpublished", async () => {
  const watcher = await watch("3.14/will");
  const will = { topic: "3.14/will", payload: "gone", retain: true };
  await expectEachCloses(harness, ["e0 00"], { will });
  await expectEachCloses(harness, ["e0 00"], { will, cleanStart: false, clientId: "v3-left-will" });
  await (await harness.connect({ version: 4, clientId: "v3-left-will" })).disconnect();
  expect(await watcher.settle()).toEqual([]);
  expect(await (await watch("3.14/will")).settle()).toEqual([]);
});
