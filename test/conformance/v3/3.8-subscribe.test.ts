// SUBSCRIBE and SUBACK of 3.1.1.

import { expect, test } from "bun:test";
import { hex } from "#test/support/packets.ts";
import { expectEachCloses, payloads, topics, topicsWithQos, useHarness } from "./fixture.ts";

const harness = useHarness();

test("[MQTT3-3.8.1-1] fixed header flags other than 0010 close the connection", async () => {
  const flags = [0, 1, 3, 6, 10, 15];
  await expectEachCloses(
    harness,
    flags.map((each) => ({
      type: "subscribe",
      flags: each,
      packetId: 1,
      subscriptions: [{ filter: "3.8/flags", qos: 0 }],
    })),
  );
});

test("[MQTT3-3.8.3-1] a filter that is no valid UTF-8 string closes the connection", async () => {
  await expectEachCloses(harness, [
    "82 06 00 01 00 01 ff 00",
    "82 07 00 01 00 02 c0 80 00",
    "82 0a 00 01 00 01 61 00 00 01 ff 00",
    "82 06 00 01 00 05 61 00", // cut
  ]);
});

test("[MQTT3-3.8.3-3] a SUBSCRIBE without a filter, or without a filter's QoS, closes the connection", async () => {
  await expectEachCloses(harness, ["82 02 00 01", "82 05 00 01 00 01 61", "82 09 00 01 00 01 61 00 00 01 62", "82 00"]);
});

test("[MQTT3-3.8.3-4] QoS 3 or a reserved bit closes the connection", async () => {
  const options = ["03", "04", "08", "10", "20", "40", "80", "81", "ff"];
  await expectEachCloses(
    harness,
    options.flatMap((each) => [`82 06 00 01 00 01 61 ${each}`, `82 0a 00 01 00 01 62 00 00 01 61 ${each}`]),
  );
});

test("[MQTT3-3.8.4-1] [MQTT3-3.8.4-2] every SUBSCRIBE gets one SUBACK with its packet id", async () => {
  const client = await harness.connect({ version: 4 });
  client.send(hex("82 06 ab cd 00 01 61 00 82 06 00 01 00 01 61 02 82 06 ff ff 00 01 62 01"));
  await client.expectBytes("90 03 ab cd 00");
  await client.expectBytes("90 03 00 01 02");
  await client.expectBytes("90 03 ff ff 01");
  expect(await client.settle()).toEqual([]);
});

test("[MQTT3-3.8.4-3] the same filter again replaces the subscription, brings the retained messages and loses nothing", async () => {
  const client = await harness.connect({ version: 4 });
  client.autoAck = true;
  const publisher = await harness.connect({ version: 4 });
  await publisher.publish("3.8/again/kept", "kept", { qos: 1, retain: true });
  await client.subscribe("3.8/again/+", 0);
  await client.expect("publish", { payload: "kept", retain: true, qos: 0 });
  await publisher.publish("3.8/again/live", "", { qos: 2 });
  await client.expect("publish", { qos: 0 });
  await client.subscribe("3.8/again/+", 2);
  await client.expect("publish", { payload: "kept", retain: true, qos: 1 });
  await publisher.publish("3.8/again/live", "", { qos: 2 });
  expect(topicsWithQos(await client.settle())).toEqual(["3.8/again/live 2"]);

  for (let number = 0; number < 20; number++) {
    if (number % 5 === 2) {
      const subscriptions = [{ filter: "3.8/again/+", qos: 1 }];
      client.send({ type: "subscribe", packetId: client.nextPacketId(), subscriptions });
    }
    await publisher.publish("3.8/again/live", `${number}`, { qos: 1 });
  }
  const packets = (await client.settle()).filter(({ type }) => type === "publish");
  const live = packets.filter((packet) => packet.type === "publish" && packet.topic === "3.8/again/live");
  expect(payloads(live)).toEqual(Array.from({ length: 20 }, (_, number) => `${number}`));
  expect(packets.length - live.length).toBe(4);

  await client.unsubscribe("3.8/again/+");
  await publisher.publish("3.8/again/kept", "", { qos: 1, retain: true });
  expect(await client.settle()).toEqual([]);
});

test("[MQTT3-3.8.4-4] several filters in one packet act like several packets, with one SUBACK", async () => {
  const client = await harness.connect({ version: 4 });
  client.send(hex("82 13 00 09 00 03 38 2f 61 00 00 03 38 2f 62 01 00 02 38 2f 02"));
  await client.expectBytes("90 05 00 09 00 01 02");
  client.autoAck = true;
  for (const topic of ["8/a", "8/b", "8/"]) await client.publish(topic, "", { qos: 2 });
  expect(topicsWithQos(await client.settle())).toEqual(["8/a 0", "8/b 1", "8/ 2"]);

  client.send(hex("82 0e 00 0a 00 03 38 2f 63 00 00 03 38 2f 63 02"));
  await client.expectBytes("90 04 00 0a 00 02");
  await client.publish("8/c", "", { qos: 2 });
  expect(topicsWithQos(await client.settle())).toEqual(["8/c 2"]);
});

test("[MQTT3-3.8.4-5] [MQTT3-3.9.3-2] the SUBACK has the granted QoS or the failure 0x80 for each filter", async () => {
  const client = await harness.connect({ version: 4 });
  for (const qos of [0, 1, 2]) expect((await client.subscribe(`3.8/grant/${qos}`, qos)).reasonCodes).toEqual([qos]);
  for (const filter of ["3.8/a/#/b", "3.8/a+", "3.8/a#"]) {
    expect((await client.subscribe(filter, 1)).reasonCodes).toEqual([0x80]);
  }
});

test("[MQTT3-3.8.4-6] messages come at the lower of the published and the granted QoS", async () => {
  const publisher = await harness.connect({ version: 4 });
  for (const granted of [0, 1, 2]) {
    const client = await harness.connect({ version: 4 });
    client.autoAck = true;
    await client.subscribe(`3.8/qos/${granted}`, granted);
    for (const qos of [0, 1, 2]) {
      await publisher.publish(`3.8/qos/${granted}`, "", { qos });
      await publisher.ping();
    }
    const expected = [0, 1, 2].map((qos) => `3.8/qos/${granted} ${Math.min(qos, granted)}`);
    expect(topicsWithQos(await client.settle())).toEqual(expected);
  }
});

test("[MQTT3-3.9.3-1] the codes follow the order of the filters", async () => {
  const client = await harness.connect({ version: 4 });
  const { reasonCodes } = await client.subscribe([
    { filter: "3.9/two", qos: 2 },
    { filter: "3.9/bad#", qos: 2 },
    { filter: "3.9/zero", qos: 0 },
    { filter: "3.9/one", qos: 1 },
  ]);
  expect(reasonCodes).toEqual([2, 0x80, 0, 1]);
  for (const topic of ["3.9/two", "3.9/zero", "3.9/one"]) await client.publish(topic, "", { qos: 1 });
  expect(topics(await client.settle())).toEqual(["3.9/two", "3.9/zero", "3.9/one"]);
});
