/** Messages that move: to another member of their share group, or from waiting to in flight. None is lost by it, none changes place. */
import { expect, test } from "bun:test";
import type { RawClient } from "#test/support/client.ts";
import { DurableBroker } from "#test/support/durable-broker.ts";
import type { PacketInput } from "#test/support/packets.ts";
import { payloadsOf, publishAll, publishesOf } from "./published.ts";

/** Ann is the one member of a group, bob is about to be; both windows are full. The disk does not commit. */
async function twoFullMembers(): Promise<{ broker: DurableBroker; ann: RawClient; bob: RawClient; source: RawClient }> {
  const broker = new DurableBroker();
  const ann = await broker.connect("ann", { receiveMax: 1 });
  const bob = await broker.connect("bob", { receiveMax: 1 });
  const source = await broker.connect("source", { expirySec: 0 });
  await ann.subscribe(["$share/g/t", "to/ann"], 1);
  await bob.subscribe("to/bob", 1);
  await publishAll(broker, source, "to/ann", ["fill"]);
  await publishAll(broker, source, "to/bob", ["fill"]);
  broker.commitsAtOnce = false;
  return { broker, ann, bob, source };
}

/** What the sessions of ann and bob have after a crash. */
async function afterCrash(broker: DurableBroker): Promise<string[]> {
  const next = broker.crash();
  const ann = await next.connect("ann");
  const bob = await next.connect("bob");
  return [...payloadsOf(await ann.settle()), ...payloadsOf(await bob.settle())];
}

const joinBob: PacketInput = {
  type: "subscribe",
  packetId: 9,
  subscriptions: [{ filter: "$share/g/t", qos: 1 }],
};
const moved: PacketInput = { type: "publish", topic: "t", payload: "moved", qos: 1, packetId: 77 };

const endSession = (ann: RawClient): void =>
  ann.send({ type: "disconnect", properties: [["sessionExpiryIntervalSec", 0]] });

const leavings: [string, (ann: RawClient, bob: RawClient) => void][] = [
  ["its member disconnects", (ann) => ann.kill()],
  ["its member unsubscribes", (ann) => ann.send({ type: "unsubscribe", packetId: 9, filters: ["$share/g/t"] })],
  ["its member's session ends", endSession],
  [
    "its member's session ends and the other is away",
    (ann, bob) => {
      bob.kill();
      endSession(ann);
    },
  ],
];

test.each(leavings)("a message that moves within its group as %s is acknowledged when it is safe", async (_, leave) => {
  const { broker, ann, bob, source } = await twoFullMembers();
  broker.together(() => {
    source.send(moved);
    bob.send(joinBob);
    leave(ann, bob);
  });
  const isAcked = (await source.settle()).some(({ type }) => type === "puback");
  if (isAcked) expect(await afterCrash(broker)).toContain("moved");
  broker.commit();
  broker.advanceMs(10);
  broker.commit();
  if (!isAcked) await source.expect("puback", { packetId: 77 });
  expect((await afterCrash(broker)).filter((payload) => payload === "moved")).toHaveLength(1);
});

test("a message that waited on disk and one of the same tick stay in order in flight", async () => {
  const broker = new DurableBroker();
  const ann = await broker.connect("ann", { receiveMax: 2 });
  await ann.subscribe("t", 1);
  const source = await broker.connect("source", { expirySec: 0 });
  await publishAll(broker, source, "t", ["1", "2", "3"]);
  const [first, second] = publishesOf(await ann.settle()); // 3 waits, on disk
  broker.together(() => {
    source.send({ type: "publish", topic: "t", payload: "4", qos: 1, packetId: 77 });
    ann.send({ type: "puback", packetId: first!.packetId! });
    ann.send({ type: "puback", packetId: second!.packetId! });
  });
  expect(payloadsOf(await ann.settle())).toEqual(["3", "4"]);
  broker.quiet();
  const again = await broker.crash().connect("ann");
  expect(payloadsOf(await again.settle())).toEqual(["3", "4"]);
});

test("a message that was acknowledged stays on disk: it does not move to a member that the store does not have", async () => {
  const broker = new DurableBroker();
  const ann = await broker.connect("ann", { receiveMax: 1 });
  await ann.subscribe("$share/g/t", 1);
  const source = await broker.connect("source", { expirySec: 0 });
  await publishAll(broker, source, "t", ["1", "2"]);
  const dan = await broker.connect("dan", { expirySec: 0, receiveMax: 1 });
  await dan.subscribe(["$share/g/t", "dan"], 1);
  await source.publish("dan", "fill", { qos: 1 });
  ann.kill();
  broker.quiet();
  const again = await broker.crash().connect("ann");
  expect(payloadsOf(await again.settle())).toEqual(["1", "2"]);
});

test("a message that waited, was sent and acknowledged in one tick, behind an older one, leaves nothing", async () => {
  const broker = new DurableBroker();
  const ann = await broker.connect("ann", { receiveMax: 1 });
  for (const [filter, id] of [
    ["t", 3],
    ["#", 4],
  ] as const) {
    await ann.subscribe(filter, { qos: 1, properties: [["subscriptionIdentifier", id]] });
  }
  const source = await broker.connect("source", { expirySec: 0 });
  await publishAll(broker, source, "t", ["1", "2"]);
  broker.together(() => {
    source.send({ type: "publish", topic: "t", payload: "3", qos: 1, packetId: 77 });
    for (const packetId of [1, 2, 3]) ann.send({ type: "puback", packetId });
  });
  broker.quiet();
  broker.stop();
  expect(payloadsOf(await ann.settle())).toEqual(["1", "2", "3"]);
  expect([broker.engine.messages.count, broker.engine.delivery.idLists.count]).toEqual([0, 0]);
  expect(broker.crash().restored).toMatchObject({ messageCount: 0, damage: [] });
});

test.each([1, 2])("what is sent from a page that came back at QoS %d is in flight after a crash", async (qos) => {
  const broker = new DurableBroker({ store: { pageCount: 4 } });
  let ann = await broker.connect("ann");
  await ann.subscribe("t", qos);
  ann.kill();
  const source = await broker.connect("source", { expirySec: 0 });
  const payloads = Array.from({ length: 10 }, (_, i) => `m${i}`);
  await publishAll(broker, source, "t", payloads, qos);
  ann = await broker.connect("ann", { autoAck: true });
  expect(payloadsOf(await ann.settle())).toEqual(payloads);
  broker.quiet();
  const next = broker.crash();
  expect(next.restored.damage).toEqual([]);
  ann = await next.connect("ann");
  expect(payloadsOf(await ann.settle())).toEqual([]);
});
