/** What waits for which commit, as clients see it: an acknowledgement never leaves before what it stands for is safe. */
import { describe, expect, test } from "bun:test";
import type { RawClient } from "#test/support/client.ts";
import { DurableBroker } from "#test/support/durable-broker.ts";
import { numbered, payloadsOf, publishAll } from "./published.ts";

async function absent(broker: DurableBroker, clientId: string, filter = "t", qos = 1): Promise<void> {
  const client = await broker.connect(clientId);
  await client.subscribe(filter, qos);
  client.kill();
}

/** Types of what came, in order, with packet ids. */
async function answers(client: RawClient): Promise<string[]> {
  const packets = await client.settle();
  return packets.map((packet) => ("packetId" in packet ? `${packet.type} ${packet.packetId}` : packet.type));
}

function publish(client: RawClient, packetId: number, qos = 1, topic = "t"): void {
  client.send({ type: "publish", topic, payload: `m${packetId}`, qos, packetId });
}

describe("waits for its commit", () => {
  test("PUBACK of a message for an absent session, cut at once", async () => {
    const broker = new DurableBroker();
    await absent(broker, "ann");
    const source = await broker.connect("source", { expirySec: 0 });
    broker.commitsAtOnce = false;
    publish(source, 7);
    expect(broker.batchesUnderWay).toBe(1);
    expect(await answers(source)).toEqual([]);
    broker.commit();
    expect(await answers(source)).toEqual(["puback 7"]);
  });

  test("PUBACK of a retained message, also of its deletion", async () => {
    const broker = new DurableBroker();
    const source = await broker.connect("source", { expirySec: 0 });
    broker.commitsAtOnce = false;
    source.send({ type: "publish", topic: "t", payload: "kept", qos: 1, packetId: 1, retain: true });
    expect(await answers(source)).toEqual([]);
    broker.commit();
    expect(await answers(source)).toEqual(["puback 1"]);
    source.send({ type: "publish", topic: "t", payload: "", qos: 1, packetId: 2, retain: true });
    expect(await answers(source)).toEqual([]);
    broker.commit();
    expect(await answers(source)).toEqual(["puback 2"]);
  });

  test("PUBREC and PUBCOMP of a stored session, even when nobody wants the message", async () => {
    const broker = new DurableBroker();
    const source = await broker.connect("source");
    broker.commitsAtOnce = false;
    publish(source, 7, 2);
    expect(await answers(source)).toEqual([]);
    broker.commit();
    expect(await answers(source)).toEqual(["pubrec 7"]);
    source.send({ type: "pubrel", packetId: 7 });
    expect(await answers(source)).toEqual([]);
    broker.commit();
    expect(await answers(source)).toEqual(["pubcomp 7"]);
  });

  test("PUBREC of a repeated PUBLISH waits for the commit of the original", async () => {
    const broker = new DurableBroker();
    const source = await broker.connect("source");
    broker.commitsAtOnce = false;
    publish(source, 7, 2);
    source.send({ type: "publish", topic: "t", payload: "m7", qos: 2, packetId: 7, dup: true });
    expect(await answers(source)).toEqual([]);
    broker.commit();
    expect(await answers(source)).toEqual(["pubrec 7", "pubrec 7"]);
  });

  test("the outgoing PUBLISH at QoS 2, its PUBREL, but not what follows PUBCOMP", async () => {
    const broker = new DurableBroker();
    const ann = await broker.connect("ann");
    await ann.subscribe("t", 2);
    const source = await broker.connect("source", { expirySec: 0 });
    broker.commitsAtOnce = false;
    publish(source, 7, 2);
    expect(await answers(ann)).toEqual([]);
    broker.commit();
    expect(await answers(ann)).toEqual(["publish 1"]);
    ann.send({ type: "pubrec", packetId: 1 });
    expect(await answers(ann)).toEqual([]);
    broker.commit();
    expect(await answers(ann)).toEqual(["pubrel 1"]);
    ann.send({ type: "pubcomp", packetId: 1 });
    expect(broker.batchesUnderWay).toBe(0);
  });

  test("SUBACK and UNSUBACK of a stored session", async () => {
    const broker = new DurableBroker();
    const ann = await broker.connect("ann");
    broker.commitsAtOnce = false;
    ann.send({ type: "subscribe", packetId: 3, subscriptions: [{ filter: "t", qos: 1 }] });
    expect(await answers(ann)).toEqual([]);
    broker.commit();
    expect(await answers(ann)).toEqual(["suback 3"]);
    ann.send({ type: "unsubscribe", packetId: 4, filters: ["t"] });
    expect(await answers(ann)).toEqual([]);
    broker.commit();
    expect(await answers(ann)).toEqual(["unsuback 4"]);
  });

  test("CONNACK of a session that is made, resumed, or ended by Clean Start", async () => {
    const broker = new DurableBroker();
    broker.commitsAtOnce = false;
    for (const options of [{}, {}, { cleanStart: true }, { cleanStart: true, expirySec: 0 }]) {
      const ann = broker.ask("ann", options);
      ann.send({ type: "pingreq" });
      expect(broker.batchesUnderWay).toBeGreaterThan(0);
      broker.commit(broker.disk.durableBatch); // nothing
      broker.advanceMs(5);
      const early = ann.next(20).then(
        () => "came",
        () => "waits",
      );
      expect(await early).toBe("waits");
      broker.commit();
      await ann.expect("connack", { reasonCode: 0 });
      await ann.expect("pingresp");
      ann.kill();
      broker.quiet();
      broker.commit();
    }
  });

  test("CONNACK of a clean session waits for the end of the stored one that its client had", async () => {
    const broker = new DurableBroker();
    const old = await broker.connect("ann");
    broker.quiet();
    broker.commitsAtOnce = false;
    await old.disconnect({ properties: [["sessionExpiryIntervalSec", 0]] });
    const ann = broker.ask("ann", { expirySec: 0 });
    const early = ann.next(20).then(
      () => "came",
      () => "waits",
    );
    expect(await early).toBe("waits");
    await broker.connect("other", { expirySec: 0 }); // it is no business of others
    broker.commit();
    await ann.expect("connack", { sessionPresent: false });
    expect(broker.crash().restored.sessionCount).toBe(0);
  });

  test("CONNACK of a take-over waits for what the old connection had changed", async () => {
    const broker = new DurableBroker();
    const old = await broker.connect("ann");
    broker.commitsAtOnce = false;
    old.send({ type: "subscribe", packetId: 3, subscriptions: [{ filter: "t", qos: 1 }] });
    const ann = broker.ask("ann");
    broker.commit(broker.disk.durableBatch + 1);
    const early = ann.next(20).then(
      () => "came",
      () => "waits",
    );
    expect(await early).toBe("waits");
    broker.commit();
    await ann.expect("connack", { sessionPresent: true });
    expect(broker.crash().restored.sessionCount).toBe(1);
  });
});

describe("waits for nothing", () => {
  test("a clean session: CONNACK, SUBACK, UNSUBACK, QoS 1 and 2 both ways", async () => {
    const broker = new DurableBroker();
    broker.commitsAtOnce = false;
    const ann = await broker.connect("ann", { expirySec: 0, autoAck: true });
    await ann.subscribe("t", 2);
    const source = await broker.connect("source", { expirySec: 0, version: 4, cleanStart: true });
    await source.publish("t", "one", { qos: 1 });
    await source.publish("t", "two", { qos: 2 });
    expect(payloadsOf(await ann.settle())).toEqual(["one", "two"]);
    await ann.unsubscribe("t");
    expect(broker.disk.writtenBatch).toBe(0);
  });

  test("a clean session while a stored one waits", async () => {
    const broker = new DurableBroker();
    broker.commitsAtOnce = false;
    broker.ask("ann");
    const source = await broker.connect("source", { expirySec: 0 });
    await source.publish("nobody", "x", { qos: 2 });
    expect(broker.disk.durableBatch).toBe(0);
  });

  test("PINGREQ of a client whose acknowledgements wait, and QoS 0", async () => {
    const broker = new DurableBroker();
    await absent(broker, "ann");
    const source = await broker.connect("source", { expirySec: 0 });
    const bob = await broker.connect("bob");
    await bob.subscribe("t", 0);
    broker.commitsAtOnce = false;
    publish(source, 1);
    await source.ping();
    expect(payloadsOf(await bob.settle())).toEqual(["m1"]);
  });
});

test("answers leave in the order in which they were earned, each when it may", async () => {
  const broker = new DurableBroker();
  await absent(broker, "ann");
  const source = await broker.connect("source");
  broker.commitsAtOnce = false;
  publish(source, 1); // for ann
  publish(source, 2, 1, "nobody"); // waits for nothing but its turn
  publish(source, 3, 2, "nobody");
  source.send({ type: "subscribe", packetId: 4, subscriptions: [{ filter: "s", qos: 1 }] });
  source.send({ type: "publish", topic: "nobody", payload: "x", qos: 1, packetId: 5 });
  expect(await answers(source)).toEqual([]);
  const first = broker.disk.durableBatch + 1;
  broker.commit(first);
  expect(await answers(source)).toEqual(["puback 1", "puback 2"]);
  broker.commit(first + 1);
  expect(await answers(source)).toEqual(["pubrec 3"]);
  broker.commit();
  expect(await answers(source)).toEqual(["suback 4", "puback 5"]);
});

describe("group commit", () => {
  test("two batches are under way at most; what comes meanwhile is the next, all of it", async () => {
    const broker = new DurableBroker();
    await absent(broker, "ann");
    const source = await broker.connect("source", { expirySec: 0 });
    broker.commitsAtOnce = false;
    for (let packetId = 1; packetId <= 6; packetId++) publish(source, packetId);
    expect(broker.batchesUnderWay).toBe(2);
    const first = broker.disk.durableBatch + 1;
    broker.commit(first);
    expect(await answers(source)).toEqual(["puback 1"]);
    expect(broker.batchesUnderWay).toBe(2);
    broker.commit(first + 1);
    expect(await answers(source)).toEqual(["puback 2"]);
    broker.commit(first + 2);
    expect(await answers(source)).toEqual(["puback 3", "puback 4", "puback 5", "puback 6"]);
    expect(broker.batchesUnderWay).toBe(0);
  });

  test("many publishers of one tick share a batch", async () => {
    const broker = new DurableBroker();
    await absent(broker, "ann");
    const sources: RawClient[] = [];
    for (let i = 0; i < 5; i++) sources.push(await broker.connect(`s${i}`, { expirySec: 0 }));
    broker.commitsAtOnce = false;
    broker.together(() => sources.forEach((source) => publish(source, 1)));
    expect(broker.batchesUnderWay).toBe(1);
    broker.commit();
    for (const source of sources) expect(await answers(source)).toEqual(["puback 1"]);
  });

  test("a receiver that acknowledges while its message is on its way to the disk leaves nothing behind", async () => {
    const broker = new DurableBroker();
    const ann = await broker.connect("ann");
    await ann.subscribe("t", 1);
    const source = await broker.connect("source", { expirySec: 0 });
    broker.quiet();
    broker.commitsAtOnce = false;
    publish(source, 1);
    broker.advanceMs(2);
    ann.send({ type: "puback", packetId: 1 });
    broker.advanceMs(100);
    broker.commitsAtOnce = true;
    broker.commit();
    broker.quiet();
    const next = broker.crash();
    expect([next.restored.messageCount, next.restored.damage]).toEqual([0, []]);
  });
});

test("a crash before the commit: what was not acknowledged may be gone, what was acknowledged is there", async () => {
  const broker = new DurableBroker();
  await absent(broker, "ann");
  const source = await broker.connect("source", { expirySec: 0 });
  await publishAll(broker, source, "t", numbered(3));
  broker.commitsAtOnce = false;
  publish(source, 100);
  const ann = await broker.crash().connect("ann");
  expect(payloadsOf(await ann.settle())).toEqual(numbered(3));
});

test.each([2 ** 31, 2 ** 32])("numbers that pass %d change nothing", async (limit) => {
  const broker = new DurableBroker();
  broker.setNumber(limit - 20);
  const ann = await broker.connect("ann", { receiveMax: 3 });
  await ann.subscribe("t/#", 2);
  await absent(broker, "bob", "t/#", 2);
  const source = await broker.connect("source");
  const got: string[] = [];
  for (let i = 0; i < 12; i++) {
    const qos = 1 + (i % 2);
    source.send({ type: "publish", topic: `t/${qos}`, payload: `m${i}`, qos, packetId: 100 + i });
    if (i % 2) source.send({ type: "pubrel", packetId: 100 + i });
    const packet = await ann.expect("publish", { payload: `m${i}`, qos });
    got.push(...payloadsOf([packet]));
    if (qos === 1) ann.send({ type: "puback", packetId: packet.packetId! });
    else await ann.ack(packet);
  }
  broker.advanceMs(10);
  expect(broker.store.durableSeq).toBeGreaterThan(limit);
  expect((await source.settle()).map(({ type }) => type)).toHaveLength(12 + 6);
  broker.quiet();
  const next = broker.crash();
  expect(next.restored).toMatchObject({ messageCount: 12, damage: [] });
  const bob = await next.connect("bob");
  expect(payloadsOf(await bob.settle())).toEqual(numbered(12));
  expect(got).toEqual(numbered(12));
});
