// UNSUBSCRIBE and UNSUBACK of 3.1.1.

import { expect, test } from "bun:test";
import { hex } from "#test/support/packets.ts";
import { expectEachCloses, topics, unique, useHarness } from "./fixture.ts";

const harness = useHarness();

test("[MQTT3-3.10.1-1] fixed header flags other than 0010 close the connection", async () => {
  await expectEachCloses(
    harness,
    [0, 1, 3, 6, 10, 15].map((flags) => ({ type: "unsubscribe", flags, packetId: 1, filters: ["3.10/flags"] })),
  );
});

test("[MQTT3-3.10.3-1] a filter that is no valid UTF-8 string closes the connection", async () => {
  await expectEachCloses(harness, [
    "a2 05 00 01 00 01 ff",
    "a2 08 00 01 00 01 61 00 01 ff",
    "a2 06 00 01 00 02 c0 80",
    "a2 05 00 01 00 02 61", // cut
  ]);
});

test("[MQTT3-3.10.3-2] an UNSUBSCRIBE without a filter closes the connection", async () => {
  await expectEachCloses(harness, ["a2 02 00 01", "a2 00"]);
});

test("[MQTT3-3.10.4-1] a subscription is removed only by the very same characters", async () => {
  const client = await harness.connect({ version: 4 });
  const count = async () => {
    await client.publish("3.10/a/b", "", { qos: 1 });
    return (await client.settle()).length;
  };
  await client.subscribe("3.10/a/+", 0);
  await client.unsubscribe(["3.10/a/b", "3.10/A/+", "3.10/a/+/", "3.10/a/#", "/3.10/a/+", "#"]);
  expect(await count()).toBe(1);
  await client.unsubscribe("3.10/a/+");
  expect(await count()).toBe(0);
});

test("[MQTT3-3.10.4-2] after the UNSUBACK nothing new comes", async () => {
  const client = await harness.connect({ version: 4 });
  client.autoAck = true;
  const publisher = await harness.connect({ version: 4 });
  await client.subscribe(["3.10/stop", "3.10/stay"], 1);
  await client.unsubscribe("3.10/stop");
  for (const qos of [0, 1, 2]) {
    await publisher.publish("3.10/stop", "", { qos });
    await publisher.publish("3.10/stay", "", { qos });
  }
  expect(topics(await client.settle())).toEqual(["3.10/stay", "3.10/stay", "3.10/stay"]);
});

test("[MQTT3-3.10.4-3] QoS 1 and 2 deliveries that have begun are completed after UNSUBSCRIBE", async () => {
  const clientId = unique("v3-begun");
  const client = await harness.connect({ version: 4, clientId, cleanStart: false });
  const publisher = await harness.connect({ version: 4 });
  await client.subscribe("3.10/begun", 2);
  for (const qos of [1, 2, 2]) await publisher.publish("3.10/begun", "", { qos });
  const first = await client.expect("publish", { qos: 1 });
  const second = await client.expect("publish", { qos: 2 });
  const third = await client.expect("publish", { qos: 2 });
  client.send({ type: "pubrec", packetId: third.packetId! });
  await client.expect("pubrel", { packetId: third.packetId! });
  await client.unsubscribe("3.10/begun");
  await publisher.publish("3.10/begun", "", { qos: 1 });
  client.kill();

  const again = await harness.connect({ version: 4, clientId, cleanStart: false });
  const resent = await again.settle();
  expect(resent.filter(({ type }) => type === "publish")).toMatchObject([
    { qos: 1, dup: true, packetId: first.packetId },
    { qos: 2, dup: true, packetId: second.packetId },
  ]);
  expect(resent.filter(({ type }) => type !== "publish")).toMatchObject([{ type: "pubrel", packetId: third.packetId }]);
  await again.ack(first);
  await again.ack(second);
  again.send({ type: "pubcomp", packetId: third.packetId! });
  await again.disconnect();
  const last = await harness.connect({ version: 4, clientId, cleanStart: false });
  expect(await last.settle()).toEqual([]);
});

test("[MQTT3-3.10.4-4] [MQTT3-3.10.4-5] UNSUBSCRIBE is answered with its packet id, whether or not something was removed", async () => {
  const client = await harness.connect({ version: 4 });
  await client.subscribe("u", 0);
  client.send(hex("a2 05 ab cd 00 01 75"));
  await client.expectBytes("b0 02 ab cd");
  client.send(hex("a2 05 ab ce 00 01 75 a2 08 00 01 00 04 6e 6f 6e 65"));
  await client.expectBytes("b0 02 ab ce");
  await client.expectBytes("b0 02 00 01");
  expect(await client.settle()).toEqual([]);
});

test("[MQTT3-3.10.4-6] several filters in one packet are all removed, with one UNSUBACK", async () => {
  const client = await harness.connect({ version: 4 });
  const filters = ["3.10/many/a", "3.10/many/+/b", "3.10/many/c/#"];
  await client.subscribe([...filters, "3.10/many/d"], 0);
  client.send({ type: "unsubscribe", packetId: 9, filters });
  await client.expectBytes("b0 02 00 09");
  for (const topic of ["3.10/many/a", "3.10/many/x/b", "3.10/many/c/d", "3.10/many/d"]) {
    await client.publish(topic, "", { qos: 1 });
  }
  expect(topics(await client.settle())).toEqual(["3.10/many/d"]);
});
