// 4.6: messages of one publisher come in its order, per topic and QoS, whatever happens to the subscriber.

import { expect, test } from "bun:test";
import type { RawClient } from "#test/support/client.ts";
import { encodePacket, type PublishPacket } from "#test/support/packets.ts";
import { kept, payloadOf, publishes, resumed, useHarness } from "./fixture.ts";

const h = useHarness();

/** Two publishers in turn, numbers at QoS 0, 1, 2 in turn, on two topics: `NAME QOS NUMBER`. */
async function publishInTurn(root: string, from: number, to: number, qoses = [0, 1, 2]): Promise<void> {
  const pubs = [await h.connect(), await h.connect()];
  for (let number = from; number < to; number++) {
    for (const [index, pub] of pubs.entries()) {
      const qos = qoses[(number + index) % qoses.length]!;
      await pub.publish(`${root}/${number % 2}`, `${"ab"[index]} ${qos} ${number}`, { qos });
    }
  }
  for (const pub of pubs) await pub.ping();
}

/** By publisher, QoS and topic, the numbers stand in ascending order, none twice; returns how many there are. */
function countInOrder(packets: PublishPacket[]): number {
  const last = new Map<string, number>();
  for (const packet of packets) {
    const [name, qos, number] = payloadOf(packet).split(" ");
    const key = `${name} ${qos} ${packet.topic}`;
    if (Number(number) <= (last.get(key) ?? -1)) throw new Error(`${payloadOf(packet)} after ${last.get(key)}`);
    last.set(key, Number(number));
  }
  return packets.length;
}

/** Receives and acknowledges until nothing more comes. */
async function drain(client: RawClient): Promise<PublishPacket[]> {
  const all: PublishPacket[] = [];
  for (;;) {
    const some = publishes(await client.settle());
    if (some.length === 0) return all;
    for (const packet of some) await client.ack(packet);
    all.push(...some);
  }
}

test("[MQTT-4.6.0-5] [MQTT-4.6.0-6] live subscribers see each publisher's order, per QoS and topic", async () => {
  const subs: RawClient[] = [];
  for (const [filter, qos] of [
    ["46/live/#", 2],
    ["46/live/+", 1],
    ["46/live/0", 2],
    ["46/live/#", 0],
  ] as const) {
    const sub = await h.connect();
    await sub.subscribe(filter, qos);
    subs.push(sub);
  }
  await publishInTurn("46/live", 0, 8);
  const counts: number[] = [];
  for (const sub of subs) counts.push(countInOrder(await drain(sub)));
  expect(counts).toEqual([16, 16, 8, 16]);
});

test.each([1, 2, 5])(
  "[MQTT-4.6.0-5] [MQTT-4.6.0-6] so does one with a Receive Maximum of %i",
  async (receiveMaximum) => {
    const root = `46/narrow/${receiveMaximum}`;
    const sub = await h.connect({ properties: [["receiveMaximum", receiveMaximum]] });
    await sub.subscribe(`${root}/#`, 2);
    await publishInTurn(root, 0, 6);
    expect(countInOrder(await drain(sub))).toBe(12);
  },
);

test("[MQTT-4.6.0-5] [MQTT-4.6.0-6] so does one that comes back to its queue while more is published", async () => {
  const sub = await h.connect(kept("46-queue"));
  await sub.subscribe("46/queue/#", 2);
  await publishInTurn("46/queue", 0, 4, [1, 2]);
  await sub.disconnect();
  await publishInTurn("46/queue", 4, 8, [1, 2]);
  const back = await h.connect(resumed("46-queue", [["receiveMaximum", 4]]));
  await publishInTurn("46/queue", 8, 12, [1, 2]);
  expect(countInOrder(await drain(back))).toBe(24);
});

test("[MQTT-4.6.0-6] one topic and one QoS keep the order of arrival over all publishers", async () => {
  const sub = await h.connect();
  await sub.subscribe("46/one", 1);
  const pubs = [await h.connect(), await h.connect(), await h.connect()];
  const sent: string[] = [];
  for (let number = 0; number < 15; number++) {
    await pubs[number % 3]!.publish("46/one", String(number), { qos: 1 });
    sent.push(String(number));
  }
  expect((await drain(sub)).map(payloadOf)).toEqual(sent);
});

test("[MQTT-4.6.0-5] PUBLISHes of one write are handled, and answered, in their order", async () => {
  const sub = await h.connect();
  await sub.subscribe("46/write", 1);
  const pub = await h.connect();
  const frames = Array.from("ABCDEFGHIJKLMNO", (payload, index) =>
    encodePacket({ type: "publish", topic: "46/write", qos: 1, packetId: index + 1, payload }, 5),
  );
  pub.send(Buffer.concat(frames));
  for (let packetId = 1; packetId <= 15; packetId++) await pub.expect("puback", { packetId, reasonCode: 0 });
  expect((await drain(sub)).map(payloadOf).join("")).toBe("ABCDEFGHIJKLMNO");
});
