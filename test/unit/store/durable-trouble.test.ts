/** A disk that cannot be written: what must be kept is refused, everything else goes on, nothing is acknowledged falsely. */
import { describe, expect, test } from "bun:test";
import type { RawClient } from "#test/support/client.ts";
import { DurableBroker, type DurableConfig } from "#test/support/durable-broker.ts";
import { numbered, payloadsOf, publishAll } from "./published.ts";

/** Ann has a stored session and is away, bob a clean one and is here; then the disk is full. */
async function fullDisk(config: DurableConfig = {}): Promise<{ broker: DurableBroker; bob: RawClient }> {
  const broker = new DurableBroker(config);
  const ann = await broker.connect("ann");
  await ann.subscribe(["t", "both"], 2);
  ann.kill();
  const bob = await broker.connect("bob", { expirySec: 0, autoAck: true });
  await bob.subscribe(["clean", "both"], 2);
  broker.quiet();
  return { broker, bob };
}

async function waits(client: RawClient): Promise<boolean> {
  const next = client.next(20).then(
    () => false,
    () => true,
  );
  return next;
}

describe("while nothing can be written", () => {
  test.each([1, 2])(
    "5.0: QoS %d to a stored session is refused with Quota exceeded before it is routed",
    async (qos) => {
      const { broker, bob } = await fullDisk();
      const source = await broker.connect("source", { expirySec: 0 });
      broker.fail("disk full");
      for (const topic of ["t", "both"]) {
        const [answer] = await source.publish(topic, "x", { qos });
        expect(answer!.reasonCode).toBe(0x97);
      }
      expect(await bob.settle()).toEqual([]);
      expect(broker.engine.metrics.get("messages.dropped.store_full")).toBe(2);
      broker.heal();
      const ann = await broker.crash().connect("ann");
      expect(await ann.settle()).toEqual([]);
    },
  );

  test.each([3, 4] as const)(
    "3.x (level %d): the publisher is not answered, and its connection closed",
    async (version) => {
      const { broker } = await fullDisk();
      const source = await broker.connect("source", { version, cleanStart: true });
      broker.fail("disk full");
      source.send({ type: "publish", topic: "t", payload: "x", qos: 1, packetId: 1 });
      await source.expectClosed();
    },
  );

  test("retained messages are refused, their deletion too", async () => {
    const { broker } = await fullDisk();
    const source = await broker.connect("source", { expirySec: 0 });
    await source.publish("kept", "old", { qos: 1, retain: true });
    broker.fail("disk full");
    for (const payload of ["new", ""]) {
      const [answer] = await source.publish("kept", payload, { qos: 1, retain: true });
      expect(answer!.reasonCode).toBe(0x97);
    }
    const reader = await broker.connect("reader", { expirySec: 0 });
    await reader.subscribe("kept", 1);
    expect(payloadsOf(await reader.settle())).toEqual(["old"]);
  });

  test("clean sessions publish, receive, subscribe and connect as ever", async () => {
    const { broker, bob } = await fullDisk();
    const source = await broker.connect("source", { expirySec: 0 });
    broker.fail("disk full");
    for (const qos of [1, 2]) await source.publish("clean", `qos ${qos}`, { qos });
    await source.publish("nobody", "x", { qos: 2 });
    expect(payloadsOf(await bob.settle())).toEqual(["qos 1", "qos 2"]);
    const fresh = await broker.connect("fresh", { expirySec: 0 });
    expect((await fresh.subscribe("more", 1)).reasonCodes).toEqual([1]);
    expect(broker.batchesUnderWay).toBe(0);
  });

  test("QoS 0 reaches everybody who is there", async () => {
    const { broker, bob } = await fullDisk();
    const source = await broker.connect("source", { expirySec: 0 });
    broker.fail("disk full");
    await source.publish("both", "x");
    await source.ping();
    expect(payloadsOf(await bob.settle())).toEqual(["x"]);
  });

  test("QoS 0 retained messages change their topics, need no memory each, and are written when that is possible", async () => {
    const { broker } = await fullDisk();
    const source = await broker.connect("source", { expirySec: 0 });
    broker.fail("disk full");
    for (let i = 0; i < 500; i++)
      source.send({ type: "publish", topic: `kept/${i % 3}`, payload: `${i}`, retain: true });
    expect(broker.store.backlog.changeCount).toBeLessThan(10);
    broker.heal();
    broker.quiet();
    const reader = await broker.crash().connect("reader", { expirySec: 0 });
    await reader.subscribe("kept/#", 0);
    expect(payloadsOf(await reader.settle()).sort()).toEqual(["497", "498", "499"]);
  });

  test("CONNECT that makes, resumes or ends a stored session is refused", async () => {
    const { broker } = await fullDisk();
    broker.fail("disk full");
    for (const options of [
      { clientId: "ann" },
      { clientId: "new" },
      { clientId: "ann", cleanStart: true, expirySec: 0 },
    ]) {
      const client = broker.ask(options.clientId, options);
      await client.expect("connack", { reasonCode: 0x97 });
      await client.expectClosed();
    }
    const old = broker.ask("old", { version: 4 });
    await old.expect("connack", { reasonCode: 3 });
    expect(broker.engine.sessions.find(Buffer.from("ann"))).toBeGreaterThanOrEqual(0);
  });

  test("a connected stored session keeps its connection; a new subscription of it is refused", async () => {
    const { broker } = await fullDisk();
    const cat = await broker.connect("cat");
    broker.fail("disk full");
    expect((await cat.subscribe("t", 1)).reasonCodes).toEqual([0x97]);
    await cat.ping();
    const old = await broker.connect("plain", { expirySec: 0, version: 4, cleanStart: true });
    expect((await old.subscribe("t", 1)).reasonCodes).toEqual([1]);
  });

  test("trouble is told once, and its end", async () => {
    const { broker } = await fullDisk();
    broker.fail("disk full");
    broker.heal();
    broker.rest();
    broker.quiet();
    expect(broker.troubles[0]).toBe("disk full");
    const cat = await broker.connect("cat"); // forces a batch
    await cat.ping();
    expect(broker.troubles).toEqual(["disk full", undefined]);
  });

  test("what is in memory is delivered and acknowledged; what was acknowledged is not sent again after a recovery", async () => {
    const { broker } = await fullDisk();
    const source = await broker.connect("source", { expirySec: 0 });
    await publishAll(broker, source, "t", numbered(5));
    const ann = await broker.connect("ann", { receiveMax: 1 });
    broker.fail("disk full");
    for (let i = 0; i < 5; i++) {
      const { packetId } = await ann.expect("publish", { payload: `m${i}` });
      ann.send({ type: "puback", packetId: packetId! });
    }
    broker.advance(5);
    broker.heal();
    broker.quiet();
    const next = broker.crash();
    expect(next.restored).toMatchObject({ messageCount: 0, damage: [] });
  });
});

describe("a session that ends while nothing can be written", () => {
  const ends: [string, (broker: DurableBroker, ann: RawClient) => Promise<unknown> | void][] = [
    ["by DISCONNECT", (_, ann) => ann.disconnect({ properties: [["sessionExpiryIntervalSec", 0]] })],
    [
      "by its expiry",
      (broker, ann) => {
        ann.kill();
        broker.advance(101);
      },
    ],
  ];

  /** Ann has acknowledged messages of a group waiting; bob is the other member, away. */
  async function story(): Promise<{ broker: DurableBroker; ann: RawClient }> {
    const broker = new DurableBroker();
    const ann = await broker.connect("ann", { expirySec: 100, receiveMax: 1 });
    await ann.subscribe("$share/g/t", 1);
    await publishAll(broker, await broker.connect("source", { expirySec: 0 }), "t", numbered(5));
    const bob = await broker.connect("bob");
    await bob.subscribe("$share/g/t", 1);
    bob.kill();
    broker.quiet();
    broker.fail("disk full");
    return { broker, ann };
  }

  test.each(ends)("%s: its acknowledged messages reach the other member of its group", async (_, end) => {
    const { broker, ann } = await story();
    await end(broker, ann);
    broker.heal();
    broker.quiet();
    const bob = await broker.crash().connect("bob");
    expect(payloadsOf(await bob.settle())).toEqual(numbered(5));
  });

  test.each(ends)("%s does not keep clean clients out", async (_, end) => {
    const { broker, ann } = await story();
    await end(broker, ann);
    const fresh = await broker.connect("fresh", { expirySec: 0 });
    await fresh.ping();
  });
});

describe("a batch that was under way when writing failed", () => {
  test("is not acknowledged before it is written, and is when it is", async () => {
    const { broker } = await fullDisk();
    const source = await broker.connect("source", { expirySec: 0 });
    broker.commitsAtOnce = false;
    source.send({ type: "publish", topic: "t", payload: "early", qos: 1, packetId: 1 });
    const fresh = broker.ask("fresh");
    broker.fail("disk full");
    broker.advance(5);
    expect(await source.settle()).toEqual([]);
    expect(await waits(fresh)).toBe(true);
    broker.heal();
    await source.expect("puback", { packetId: 1, reasonCode: 0 });
    await fresh.expect("connack", { reasonCode: 0 });
    const [answer] = await source.publish("t", "late", { qos: 1 });
    expect(answer!.reasonCode ?? 0).toBe(0);
    const ann = await broker.crash().connect("ann");
    expect(payloadsOf(await ann.settle())).toEqual(["early", "late"]);
  });

  test("is lost with a crash, and nobody was told otherwise", async () => {
    const { broker } = await fullDisk();
    const source = await broker.connect("source", { expirySec: 0 });
    broker.commitsAtOnce = false;
    source.send({ type: "publish", topic: "t", payload: "early", qos: 1, packetId: 1 });
    broker.fail("disk full");
    const ann = await broker.crash().connect("ann");
    expect([...(await ann.settle()), ...(await ann.settle())]).toEqual([]);
  });

  test("a retained message of it is not there after a crash, and is after recovery", async () => {
    const { broker } = await fullDisk();
    const source = await broker.connect("source", { expirySec: 0 });
    broker.commitsAtOnce = false;
    source.send({ type: "publish", topic: "kept", payload: "x", qos: 1, packetId: 1, retain: true });
    broker.fail("disk full");
    expect(broker.crash().restored.retainedCount).toBe(0);
    broker.heal();
    expect(broker.crash().restored.retainedCount).toBe(1);
  });
});

describe("a client that floods what needs an answer while nothing can be written does not fill the memory", () => {
  const floods: [string, (client: RawClient) => void][] = [
    ["PUBREL", (client) => client.send({ type: "pubrel", packetId: 9 })],
    [
      "the same QoS 2 PUBLISH",
      (client) => client.send({ type: "publish", topic: "x", qos: 2, packetId: 1, dup: true }),
    ],
    ["UNSUBSCRIBE", (client) => client.send({ type: "unsubscribe", packetId: 2, filters: ["nothing"] })],
    ["PUBREC", (client) => client.send({ type: "pubrec", packetId: 3 })],
  ];

  test.each(floods)("%s", async (_, send) => {
    const { broker } = await fullDisk();
    const cat = await broker.connect("cat");
    broker.fail("disk full");
    cat.send({ type: "publish", topic: "x", qos: 2, packetId: 1 }); // its receipt waits, and with it all answers
    for (let i = 0; i < 20_000 && !cat.isClosed; i++) send(cat);
    expect(broker.gatedCount).toBeLessThan(10_000);
  });
});
