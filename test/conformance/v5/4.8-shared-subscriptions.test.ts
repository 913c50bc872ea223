// 4.8: shared filters, and what a share group owes its members.

import { describe, expect, test } from "bun:test";
import type { RawClient } from "#test/support/client.ts";
import type { PublishPacket } from "#test/support/packets.ts";
import { isForeign, kept, payloads, publishes, resumed, topics, useHarness } from "./fixture.ts";

const h = useHarness();

interface Member {
  readonly client: RawClient;
  readonly packets: PublishPacket[];
}

interface Group {
  /** Who got the one message that was published. */
  readonly chosen: Member;
  readonly other: Member;
  readonly pub: RawClient;
}

/** Two members of a group, and one message, which one of them has and has not answered. */
async function groupWithMessage(name: string, qos: number, expirySec = 60): Promise<Group> {
  const clients: RawClient[] = [];
  for (const letter of ["a", "b"]) {
    const client = await h.connect(kept(`48-${name}-${letter}`, expirySec));
    expect(await client.subscribe(`$share/${name}/48/${name}`, qos)).toMatchObject({ reasonCodes: [qos] });
    clients.push(client);
  }
  const pub = await h.connect();
  await pub.publish(`48/${name}`, "first", { qos });
  const members: Member[] = [];
  for (const client of clients) members.push({ client, packets: publishes(await client.settle()) });
  const chosen = members.find(({ packets }) => packets.length === 1)!;
  const other = members.find(({ packets }) => packets.length === 0)!;
  expect([chosen, other]).not.toContain(undefined);
  return { chosen, other, pub };
}

describe("shared filters", () => {
  test.each(["$share//48", "$share/", "$share//", "$share//#", "$share//+/48"])(
    "[MQTT-4.8.2-1] %s has no share name and is refused",
    async (filter) => {
      const client = await h.connect();
      expect(await client.subscribe([filter, "48/good"], 0)).toMatchObject({ reasonCodes: [0x8f, 0] });
    },
  );

  test.each([
    "$share/g+/48",
    "$share/g#/48",
    "$share/+/48",
    "$share/#/48",
    "$share/g",
    "$share/g/",
    "$share/#",
    "$share/+",
  ])("[MQTT-4.8.2-2] %s has a bad share name or no filter and is refused", async (filter) => {
    const client = await h.connect();
    expect(await client.subscribe([filter, "48/good"], 0)).toMatchObject({ reasonCodes: [0x8f, 0] });
  });

  test.each(["$share/g/48/a#", "$share/g/48/#/a", "$share/g/48/a+"])(
    "[MQTT-4.8.2-2] %s has no valid filter after the share name and is refused",
    async (filter) => {
      const client = await h.connect();
      expect(await client.subscribe(filter, 0)).toMatchObject({ reasonCodes: [0x8f] });
    },
  );

  test("[MQTT-4.8.2-1] [MQTT-4.8.2-2] what follows the share name is what matches", async () => {
    const pub = await h.connect();
    const sub = await h.connect();
    const filters = ["$share/g/48f/+/x", "$share/é ü/48f/a/#", "$share/$/48f//x", "$share/g//48f"];
    expect(await sub.subscribe(filters, 1)).toMatchObject({ reasonCodes: [1, 1, 1, 1] });
    const got = async (topic: string) => {
      await pub.publish(topic, "m", { qos: 1 });
      return topics(await sub.settle()).length;
    };
    expect(await got("48f/b/x")).toBe(1);
    expect(await got("48f/a")).toBe(1);
    expect(await got("48f/a/x")).toBe(2);
    expect(await got("48f//x")).toBe(2);
    expect(await got("/48f")).toBe(1);
    expect(await got("$share/g/48f/b/x")).toBe(0);
    expect(await sub.unsubscribe([filters[0]!, "48f/a/#", "$share/h//48f"])).toMatchObject({
      reasonCodes: [0, 0x11, 0x11],
    });
    expect(await got("48f/b/x")).toBe(0);
    expect(await got("/48f")).toBe(1);
  });

  test("[MQTT-4.8.2-1] $SHARE and $shared begin ordinary filters", async () => {
    const pub = await h.connect();
    const subs = [await h.connect(), await h.connect()];
    for (const sub of subs) {
      expect(await sub.subscribe(["$SHARE/g/48s", "$shared/g/48s"], 0)).toMatchObject({ reasonCodes: [0, 0] });
    }
    for (const topic of ["$SHARE/g/48s", "$shared/g/48s", "48s"]) await pub.publish(topic, "m", { qos: 1 });
    for (const sub of subs) expect(topics(await sub.settle())).toEqual(["$SHARE/g/48s", "$shared/g/48s"]);
  });

  test("[MQTT-4.8.2-1] groups with different names each get every message, members of one share them", async () => {
    const pub = await h.connect();
    const subs: RawClient[] = [];
    for (const name of ["one", "one", "two", "One"]) {
      const sub = await h.connect();
      await sub.subscribe(`$share/${name}/48n`, 1);
      subs.push(sub);
    }
    const sent = Array.from({ length: 8 }, (_, index) => String(index));
    for (const payload of sent) await pub.publish("48n", payload, { qos: 1 });
    const got: string[][] = [];
    for (const sub of subs) got.push(payloads(await sub.settle()));
    expect([...got[0]!, ...got[1]!].sort()).toEqual(sent);
    expect(got.slice(2)).toEqual([sent, sent]);
  });
});

test("[MQTT-4.8.2-3] each member gets its messages at its own granted QoS at most", async () => {
  const pub = await h.connect();
  const subs: RawClient[] = [];
  for (const qos of [0, 1, 2]) {
    const sub = await h.connect();
    await sub.subscribe("$share/qos/48q", qos);
    subs.push(sub);
  }
  for (let index = 0; index < 18; index++) await pub.publish("48q", String(index), { qos: index % 3 });
  const got: PublishPacket[][] = [];
  for (const sub of subs) got.push(publishes(await sub.settle()));
  for (const [granted, packets] of got.entries()) {
    const expected = packets.map((packet) => Math.min(granted, Number(new TextDecoder().decode(packet.payload)) % 3));
    expect(packets.map(({ qos }) => qos)).toEqual(expected);
  }
  expect(got.flatMap(payloads)).toHaveLength(18);
  for (const [granted, sub] of subs.entries()) {
    for (const other of subs) if (other !== sub) await other.unsubscribe("$share/qos/48q");
    await pub.publish("48q", "alone", { qos: 2 });
    await sub.expect("publish", { qos: granted, payload: "alone" });
    for (const [qos, other] of subs.entries()) if (other !== sub) await other.subscribe("$share/qos/48q", qos);
  }
});

describe("QoS 2 with a member that goes away", () => {
  test("[MQTT-4.8.2-4] before PUBREC: it is completed when the member is back", async () => {
    const { chosen, other, pub } = await groupWithMessage("before", 2);
    chosen.client.kill();
    await pub.publish("48/before", "second", { qos: 2 });
    expect(payloads(await other.client.settle())).not.toContain("first");
    const back = await h.connect(resumed(chosen.client.clientId));
    const again = await back.expect("publish", { dup: true, packetId: chosen.packets[0]!.packetId!, payload: "first" });
    await back.ack(again);
    expect(payloads(await other.client.settle())).not.toContain("first");
  });

  test("[MQTT-4.8.2-4] after PUBREC: PUBREL comes when the member is back", async () => {
    const { chosen, other } = await groupWithMessage("after", 2);
    const packetId = chosen.packets[0]!.packetId!;
    chosen.client.send({ type: "pubrec", packetId });
    await chosen.client.expect("pubrel", { packetId });
    chosen.client.kill();
    const back = await h.connect(resumed(chosen.client.clientId));
    await back.expect("pubrel", { packetId, reasonCode: 0 });
    back.send({ type: "pubcomp", packetId });
    expect(await back.settle()).toEqual([]);
    expect(await other.client.settle()).toEqual([]);
  });

  test("[MQTT-4.8.2-5] its session ends with the connection: nobody else gets the message", async () => {
    const { chosen, other, pub } = await groupWithMessage("ends", 2, 0);
    await chosen.client.disconnect();
    expect(await other.client.settle()).toEqual([]);
    await pub.publish("48/ends", "second", { qos: 2 });
    await other.client.expect("publish", { payload: "second" });
  });

  test("[MQTT-4.8.2-5] its session is replaced by a clean start: nobody else gets the message", async () => {
    const { chosen, other } = await groupWithMessage("clean", 2);
    chosen.client.kill();
    const back = await h.connect(kept(chosen.client.clientId));
    expect(await back.settle()).toEqual([]);
    expect(await other.client.settle()).toEqual([]);
  });

  test("[MQTT-4.8.2-5] its session expires: nobody else gets the message", async () => {
    const { chosen, other, pub } = await groupWithMessage("expires", 2, 1);
    await chosen.client.disconnect();
    await h.advance(isForeign ? 3 : 2);
    expect(await other.client.settle()).toEqual([]);
    await pub.publish("48/expires", "second", { qos: 2 });
    await other.client.expect("publish", { payload: "second" });
    const back = await h.connect(resumed(chosen.client.clientId));
    expect(back.connack?.sessionPresent).toBe(false);
    expect(await back.settle()).toEqual([]);
  });
});

test.each([
  [1, 0x80],
  [1, 0x97],
  [2, 0x80],
  [2, 0x83],
])("[MQTT-4.8.2-6] a QoS %i message refused with %i is nobody's, and the group goes on", async (qos, reasonCode) => {
  const name = `refused-${qos}-${reasonCode}`;
  const { chosen, other, pub } = await groupWithMessage(name, qos);
  const type = qos === 1 ? "puback" : "pubrec";
  chosen.client.send({ type, packetId: chosen.packets[0]!.packetId!, reasonCode });
  expect(await chosen.client.settle()).toEqual([]);
  expect(await other.client.settle()).toEqual([]);
  chosen.client.kill();
  const back = await h.connect(resumed(chosen.client.clientId));
  expect(await back.settle()).toEqual([]);
  expect(await other.client.settle()).toEqual([]);
  for (const payload of ["2", "3", "4"]) await pub.publish(`48/${name}`, payload, { qos });
  const later = [...payloads(await back.settle()), ...payloads(await other.client.settle())];
  expect(later.sort()).toEqual(["2", "3", "4"]);
});
