// The order of messages and acknowledgements in 3.1.1.

import { expect, test } from "bun:test";
import { hex, type Packet } from "#test/support/packets.ts";
import { payloads, publishes, unique, useHarness } from "./fixture.ts";

const harness = useHarness();

const numbers = (count: number) => Array.from({ length: count }, (_, number) => number);

/** The numbers of one publisher's messages of one QoS, in order of arrival. */
function numbersOf(packets: Packet[], label: string): number[] {
  return payloads(packets).flatMap((payload) => {
    return payload.startsWith(`${label} `) ? [Number(payload.slice(label.length + 1))] : [];
  });
}

test("[MQTT3-4.6.0-1] unacknowledged messages are sent again in their first order", async () => {
  const clientId = unique("v3-order");
  const client = await harness.connect({ version: 4, clientId, cleanStart: false });
  await client.subscribe("4.6/resent", 2);
  const publisher = await harness.connect({ version: 4 });
  for (const number of numbers(15)) await publisher.publish("4.6/resent", `${number}`, { qos: 1 + (number % 2) });
  const sent = publishes(await client.settle());
  expect(payloads(sent)).toEqual(numbers(15).map(String));
  for (const number of [7, 0, 12]) await client.ack(sent[number]!);
  await client.ping();
  client.kill();
  const left = sent.filter((_, number) => ![7, 0, 12].includes(number));
  for (let round = 0; round < 2; round++) {
    const again = await harness.connect({ version: 4, clientId, cleanStart: false });
    expect(await again.settle()).toEqual(left.map((packet) => ({ ...packet, dup: true })));
    again.kill();
  }
});

test("[MQTT3-4.6.0-2] PUBACKs follow the order of the PUBLISHes", async () => {
  const client = await harness.connect({ version: 4 });
  client.send(hex("32 06 00 01 61 00 05 78 32 06 00 01 62 00 03 78 32 06 00 01 61 ff ff 78 32 06 00 01 61 00 09 78"));
  for (const id of ["00 05", "00 03", "ff ff", "00 09"]) await client.expectBytes(`40 02 ${id}`);
});

test("[MQTT3-4.6.0-3] PUBRECs follow the order of the PUBLISHes", async () => {
  const client = await harness.connect({ version: 4 });
  client.send(hex("34 06 00 01 61 00 05 78 34 06 00 01 62 00 03 78 34 06 00 01 61 ff ff 78 34 06 00 01 61 00 09 78"));
  for (const id of ["00 05", "00 03", "ff ff", "00 09"]) await client.expectBytes(`50 02 ${id}`);
});

test("[MQTT3-4.6.0-4] PUBRELs follow the order of the PUBRECs", async () => {
  const client = await harness.connect({ version: 4 });
  await client.subscribe("4.6/rel", 2);
  const publisher = await harness.connect({ version: 4 });
  for (const payload of ["a", "b", "c"]) await publisher.publish("4.6/rel", payload, { qos: 2 });
  const ids = publishes(await client.settle()).map(({ packetId }) => packetId!);
  const order = [ids[1]!, ids[0]!, ids[2]!];
  client.send(Uint8Array.from(order.flatMap((id) => [0x50, 2, id >> 8, id & 0xff])));
  for (const packetId of order) await client.expect("pubrel", { packetId });
});

test("[MQTT3-4.6.0-5] [MQTT3-4.6.0-6] every topic brings each publisher's messages in order, per QoS", async () => {
  const absentId = unique("v3-queue");
  const absent = await harness.connect({ version: 4, clientId: absentId, cleanStart: false });
  await absent.subscribe("4.6/flow/#", 2);
  await absent.disconnect();
  const live = await harness.connect({ version: 4 });
  live.autoAck = true;
  await live.subscribe("4.6/flow/#", 2);

  const publishers = [await harness.connect({ version: 4 }), await harness.connect({ version: 4 })];
  for (const number of numbers(40)) {
    for (const [who, publisher] of publishers.entries()) {
      const qos = number % 3;
      await publisher.publish(`4.6/flow/${number % 2}`, `${who} ${qos} ${number}`, { qos });
    }
  }
  for (const publisher of publishers) await publisher.ping();
  const back = await harness.open(4);
  back.autoAck = true;
  await back.connect({ clientId: absentId, cleanStart: false });
  const seen = { live: await live.settle(), queued: await settled(back) };
  for (const label of ["0 0", "0 1", "0 2", "1 0", "1 1", "1 2"]) {
    const qos = Number(label.at(-1));
    const expected = numbers(40).filter((number) => number % 3 === qos);
    expect(numbersOf(seen.live, label)).toEqual(expected);
    if (qos > 0) expect(numbersOf(seen.queued, label)).toEqual(expected); // QoS 0 need not wait for the absent
  }
});

/** Settles until nothing more comes: each acknowledgement may make room for more. */
async function settled(client: { settle(): Promise<Packet[]> }): Promise<Packet[]> {
  const packets: Packet[] = [];
  for (;;) {
    const more = await client.settle();
    if (more.length === 0) return packets;
    packets.push(...more);
  }
}
