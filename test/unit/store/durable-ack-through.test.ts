/** Ack-through: a message that its receivers acknowledge before it is written is never written. */
import { describe, expect, test } from "bun:test";
import type { RawClient } from "#test/support/client.ts";
import { DurableBroker } from "#test/support/durable-broker.ts";

async function absent(broker: DurableBroker, clientId: string): Promise<void> {
  const client = await broker.connect(clientId);
  await client.subscribe("t", 1);
  client.kill();
}

/** Types of what came, in order, with packet ids. */
async function answers(client: RawClient): Promise<string[]> {
  const packets = await client.settle();
  return packets.map((packet) => ("packetId" in packet ? `${packet.type} ${packet.packetId}` : packet.type));
}

function publish(client: RawClient, packetId: number, qos = 1): void {
  client.send({ type: "publish", topic: "t", payload: `m${packetId}`, qos, packetId });
}

describe("ack-through", () => {
  /** Ann is on line and acknowledges when the test says so. */
  async function online(qos = 1): Promise<{ broker: DurableBroker; ann: RawClient; source: RawClient }> {
    const broker = new DurableBroker();
    const ann = await broker.connect("ann");
    await ann.subscribe("t", qos);
    const source = await broker.connect("source", { expirySec: 0 });
    broker.quiet();
    broker.commitsAtOnce = false;
    return { broker, ann, source };
  }

  test("the receiver was quicker than the disk: nothing is written, and the publisher is answered", async () => {
    const { broker, ann, source } = await online();
    const { writtenBatch } = broker.disk;
    publish(source, 7);
    expect(await answers(source)).toEqual([]);
    expect(await answers(ann)).toEqual(["publish 1"]);
    ann.send({ type: "puback", packetId: 1 });
    expect(await answers(source)).toEqual(["puback 7"]);
    broker.quiet();
    expect(broker.disk.writtenBatch).toBe(writtenBatch);
    expect([broker.store.stats.elidedCount, broker.engine.messages.count]).toEqual([1, 0]);
  });

  test("its time is 2 ms: then it is written, and the receiver's acknowledgement alone is not enough", async () => {
    const { broker, ann, source } = await online();
    publish(source, 7);
    broker.advanceMs(1);
    expect(broker.batchesUnderWay).toBe(0);
    broker.advanceMs(1);
    expect(broker.batchesUnderWay).toBe(1);
    ann.send({ type: "puback", packetId: 1 });
    expect(await answers(source)).toEqual([]);
    broker.commit();
    expect(await answers(source)).toEqual(["puback 7"]);
  });

  test("a receiver's refusal frees the publisher as well", async () => {
    const { broker, ann, source } = await online();
    publish(source, 7);
    ann.send({ type: "puback", packetId: 1, reasonCode: 0x97 });
    expect(await answers(source)).toEqual(["puback 7"]);
    expect(broker.engine.metrics.get("messages.dropped.refused")).toBe(1);
  });

  test("not at QoS 2: nothing is sent before it is written", async () => {
    const { broker, ann, source } = await online(2);
    publish(source, 7, 2);
    expect(broker.batchesUnderWay).toBe(1);
    expect([await answers(ann), await answers(source)]).toEqual([[], []]);
    broker.commit();
    expect([await answers(ann), await answers(source)]).toEqual([["publish 1"], ["pubrec 7"]]);
    expect(broker.store.stats.elidedCount).toBe(0);
  });

  test("one of the receivers is absent: the publisher waits for the disk, whatever the other says", async () => {
    const { broker, ann, source } = await online();
    broker.commitsAtOnce = true;
    await absent(broker, "bob");
    broker.commitsAtOnce = false;
    publish(source, 7);
    ann.send({ type: "puback", packetId: 1 });
    expect(await answers(source)).toEqual([]);
    broker.commit();
    expect(await answers(source)).toEqual(["puback 7"]);
    const bob = await broker.crash().connect("bob");
    await bob.expect("publish", { payload: "m7" });
  });

  test("all of several receivers must have acknowledged", async () => {
    const { broker, ann, source } = await online();
    broker.commitsAtOnce = true;
    const bob = await broker.connect("bob");
    await bob.subscribe("#", 1);
    broker.quiet();
    broker.commitsAtOnce = false;
    publish(source, 7);
    bob.send({ type: "puback", packetId: 1 });
    expect(await answers(source)).toEqual([]);
    ann.send({ type: "puback", packetId: 1 });
    expect(await answers(source)).toEqual(["puback 7"]);
    expect(broker.batchesUnderWay).toBe(0);
  });

  test("messages are answered in order although receivers acknowledge them otherwise", async () => {
    const { ann, source } = await online();
    for (const packetId of [1, 2, 3]) publish(source, packetId);
    ann.send({ type: "puback", packetId: 3 });
    ann.send({ type: "puback", packetId: 2 });
    expect(await answers(source)).toEqual([]);
    ann.send({ type: "puback", packetId: 1 });
    expect(await answers(source)).toEqual(["puback 1", "puback 2", "puback 3"]);
  });

  test("a retained message is written, its delivery is not", async () => {
    const { broker, ann, source } = await online();
    broker.together(() => {
      source.send({ type: "publish", topic: "t", payload: "kept", qos: 1, packetId: 7, retain: true });
      ann.send({ type: "puback", packetId: 1 });
    });
    expect(await answers(source)).toEqual([]);
    broker.commit();
    expect(await answers(source)).toEqual(["puback 7"]);
    expect(broker.disk.bodies).toEqual([]);
  });

  test("a long quick stream keeps little in memory, and what nobody waits for is written all the same", async () => {
    const { broker, ann, source } = await online();
    broker.commitsAtOnce = true;
    const bob = await broker.connect("bob");
    broker.advanceMs(1);
    const { writtenBatch } = broker.disk;
    bob.kill(); // its leaving is noted, and nobody waits for that
    for (let i = 0; i < 300; i++) {
      publish(source, 1 + i);
      ann.send({ type: "puback", packetId: 1 + i });
      broker.advanceMs(1);
    }
    expect(broker.disk.writtenBatch).toBeGreaterThan(writtenBatch);
    expect(await answers(source)).toHaveLength(300);
  });
});
