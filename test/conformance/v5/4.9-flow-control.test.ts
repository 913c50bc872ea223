// 4.9: the client's Receive Maximum, what counts against it, and what goes on without it.

import { expect, test } from "bun:test";
import type { RawClient } from "#test/support/client.ts";
import type { PublishPacket } from "#test/support/packets.ts";
import { kept, payloads, publishes, resumed, useHarness } from "./fixture.ts";

const h = useHarness();

async function connectWindow(receiveMaximum: number, topic: string, qos: number): Promise<RawClient> {
  const client = await h.connect({ properties: [["receiveMaximum", receiveMaximum]] });
  await client.subscribe(topic, qos);
  return client;
}

async function publishNumbers(topic: string, from: number, to: number, qos: number): Promise<void> {
  const pub = await h.connect();
  for (let number = from; number <= to; number++) await pub.publish(topic, String(number), { qos });
}

const expectNone = async (client: RawClient) => expect(await client.settle()).toEqual([]);

test("[MQTT-3.3.4-9] [MQTT-4.9.0-1] [MQTT-4.9.0-2] of QoS 1 as many come as the client takes, then one for each PUBACK", async () => {
  const sub = await connectWindow(2, "49/one", 1);
  await publishNumbers("49/one", 1, 6, 1);
  const window = publishes(await sub.settle());
  expect(payloads(window)).toEqual(["1", "2"]);
  for (const expected of ["3", "4", "5", "6"]) {
    sub.send({ type: "puback", packetId: window.shift()!.packetId! });
    window.push(await sub.expect("publish", { payload: expected }));
    await expectNone(sub);
  }
  for (const { packetId } of window) sub.send({ type: "puback", packetId: packetId! });
  await expectNone(sub);
});

test("[MQTT-3.3.4-9] [MQTT-4.9.0-2] of QoS 2, PUBREC makes no room, PUBCOMP does, and so does a refusing PUBREC", async () => {
  const sub = await connectWindow(2, "49/two", 2);
  await publishNumbers("49/two", 1, 5, 2);
  const first = await sub.expect("publish", { payload: "1" });
  const second = await sub.expect("publish", { payload: "2" });
  await expectNone(sub);
  sub.send({ type: "pubrec", packetId: first.packetId! });
  await sub.expect("pubrel", { packetId: first.packetId! });
  await expectNone(sub);
  sub.send({ type: "pubcomp", packetId: first.packetId! });
  const third = await sub.expect("publish", { payload: "3" });
  await expectNone(sub);
  sub.send({ type: "pubrec", packetId: second.packetId!, reasonCode: 0x80 });
  await sub.expect("publish", { payload: "4" });
  await expectNone(sub);
  await sub.ack(third);
  await sub.expect("publish", { payload: "5" });
});

test("[MQTT-4.9.0-2] QoS 1 and QoS 2 share the quota", async () => {
  const sub = await connectWindow(2, "49/mixed", 2);
  const pub = await h.connect();
  for (const qos of [1, 2, 1, 2]) await pub.publish("49/mixed", String(qos), { qos });
  const window = publishes(await sub.settle());
  expect(window.map(({ qos }) => qos)).toEqual([1, 2]);
  await sub.ack(window[1]!);
  await sub.ack(window[0]!);
  expect(publishes(await sub.settle()).map(({ qos }) => qos)).toEqual([1, 2]);
});

test("[MQTT-4.9.0-1] the quota is 1 for a Receive Maximum of 1, and ample where none is given", async () => {
  const narrow = await connectWindow(1, "49/start", 1);
  const wide = await h.connect();
  await wide.subscribe("49/start", 1);
  await publishNumbers("49/start", 1, 10, 1);
  expect(payloads(await narrow.settle())).toEqual(["1"]);
  expect(payloads(await wide.settle())).toHaveLength(10);
});

test("[MQTT-4.9.0-1] each connection starts with its own quota, resent messages counted", async () => {
  const sub = await h.connect(kept("49-start", 60, [["receiveMaximum", 3]]));
  await sub.subscribe("49/again", 1);
  await publishNumbers("49/again", 1, 5, 1);
  expect(payloads(await sub.settle())).toEqual(["1", "2", "3"]);
  sub.kill();
  const narrow = await h.connect(resumed("49-start", [["receiveMaximum", 1]]));
  const seen: PublishPacket[] = publishes(await narrow.settle());
  expect(payloads(seen)).toEqual(["1"]);
  for (const expected of ["2", "3", "4", "5"]) {
    await narrow.ack(seen.at(-1)!);
    seen.push(...publishes(await narrow.settle()));
    expect(payloads(seen).at(-1)).toBe(expected);
  }
  expect(payloads(seen)).toEqual(["1", "2", "3", "4", "5"]);
});

test("[MQTT-3.3.4-10] [MQTT-4.9.0-3] without quota all other packets are served", async () => {
  const sub = await connectWindow(1, "49/served", 2);
  await publishNumbers("49/served", 1, 3, 2);
  const held = await sub.expect("publish", { payload: "1" });
  await sub.ping();
  expect(await sub.subscribe("49/other", 1)).toMatchObject({ reasonCodes: [1] });
  expect(await sub.unsubscribe("49/other")).toMatchObject({ reasonCodes: [0] });
  expect(await sub.publish("49/out", "m", { qos: 1 })).toMatchObject([{ type: "puback" }]);
  expect(await sub.publish("49/out", "m", { qos: 2 })).toMatchObject([{ type: "pubrec" }, { type: "pubcomp" }]);
  const pub = await h.connect();
  await pub.publish("49/served", "0", { qos: 0 });
  await pub.ping();
  await sub.expect("publish", { qos: 0, payload: "0" });
  await expectNone(sub);
  sub.send({ type: "pubrec", packetId: held.packetId! });
  await sub.expectBytes(Uint8Array.of(0x62, 0x02, held.packetId! >> 8, held.packetId! & 0xff));
});

test("[MQTT-4.9.0-3] PUBREL of an earlier exchange is sent again though the quota is used up", async () => {
  const sub = await h.connect(kept("49-release", 60, [["receiveMaximum", 2]]));
  await sub.subscribe("49/release", 2);
  await publishNumbers("49/release", 1, 4, 2);
  const [first, second] = publishes(await sub.settle());
  for (const { packetId } of [first!, second!]) {
    sub.send({ type: "pubrec", packetId: packetId! });
    await sub.expect("pubrel", { packetId: packetId! });
  }
  sub.kill();
  const back = await h.connect(resumed("49-release", [["receiveMaximum", 2]]));
  await back.expect("pubrel", { packetId: first!.packetId! });
  await back.expect("pubrel", { packetId: second!.packetId! });
  back.send({ type: "pubcomp", packetId: first!.packetId! });
  back.send({ type: "pubcomp", packetId: second!.packetId! });
  expect(payloads(await back.settle())).toEqual(["3", "4"]);
});
