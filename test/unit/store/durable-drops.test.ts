/** Queues that are full, and sessions that end with messages on disk: who gets them, and what is counted. */
import { describe, expect, test } from "bun:test";
import type { RawClient } from "#test/support/client.ts";
import { DurableBroker, type DurableConfig } from "#test/support/durable-broker.ts";
import { numbered, payloadsOf, publishAll } from "./published.ts";

const SMALL: DurableConfig = { store: { pageCount: 8, pageBytes: 4096 } };

/** A session that is away, subscribed to `t`. */
async function absent(broker: DurableBroker, clientId: string, qos = 1, filter = "t"): Promise<void> {
  const client = await broker.connect(clientId);
  await client.subscribe(filter, qos);
  client.kill();
}

function source(broker: DurableBroker): Promise<RawClient> {
  return broker.connect("source", { expirySec: 0 });
}

function outboxOf(broker: DurableBroker, clientId: string) {
  const { sessions } = broker.engine;
  return sessions.queueOf(sessions.find(Buffer.from(clientId)))!.outbox;
}

/** Acknowledges the next `count` PUBLISH as they come, one by one; returns their payloads. */
async function take(client: RawClient, count: number): Promise<string[]> {
  const got: string[] = [];
  while (got.length < count) {
    const publish = await client.expect("publish");
    got.push(...payloadsOf([publish]));
    client.send({ type: "puback", packetId: publish.packetId! });
  }
  return got;
}

describe("a full queue", () => {
  const full = (dropPolicy: "oldest" | "newest" | "disconnect", limits = {}): DurableConfig => ({
    store: { pageCount: 4, pageBytes: 4096 },
    limits: { session: { outboxCountMax: 20, dropPolicy, ...limits } },
  });

  test("drops whole pages of the oldest, and counts each message", async () => {
    const broker = new DurableBroker(full("oldest"));
    await absent(broker, "ann");
    await publishAll(broker, await source(broker), "t", numbered(50));
    const kept = outboxOf(broker, "ann").count;
    expect(kept).toBeGreaterThan(16);
    expect(kept).toBeLessThanOrEqual(20);
    expect(broker.engine.metrics.get("messages.dropped.queue_full")).toBe(50 - kept);
    const next = broker.crash();
    expect(next.restored.damage).toEqual([]);
    const ann = await next.connect("ann");
    expect(await take(ann, kept)).toEqual(numbered(50).slice(50 - kept));
    expect(await ann.settle()).toEqual([]);
  });

  test("shows hooks each message of a page that is dropped", async () => {
    const broker = new DurableBroker(full("oldest"));
    const dropped: string[] = [];
    broker.engine.hooks.messageDropped.add((clientId, reason, { payload }) => {
      dropped.push(`${clientId} ${reason} ${payload.toString()}`);
    });
    await absent(broker, "ann");
    await publishAll(broker, await source(broker), "t", numbered(50));
    const kept = outboxOf(broker, "ann").count;
    const expected = numbered(50 - kept).map((payload) => `ann queue_full ${payload}`);
    expect(dropped).toEqual(expected);
    expect(broker.engine.metrics.get("messages.dropped.queue_full")).toBe(50 - kept);
    expect(broker.engine.messages.count).toBeLessThanOrEqual(4);
  });

  test("drops the newest where that is its policy", async () => {
    const broker = new DurableBroker(full("newest"));
    await absent(broker, "ann");
    await publishAll(broker, await source(broker), "t", numbered(50));
    expect(broker.engine.metrics.get("messages.dropped.queue_full")).toBe(30);
    const ann = await broker.crash().connect("ann");
    expect(await take(ann, 20)).toEqual(numbered(20));
    expect(await ann.settle()).toEqual([]);
  });

  test("ends the connection of a slow client where that is its policy", async () => {
    const broker = new DurableBroker(full("disconnect"));
    const ann = await broker.connect("ann", { receiveMax: 1 });
    await ann.subscribe("t", 1);
    await publishAll(broker, await source(broker), "t", numbered(22));
    await ann.expect("publish");
    await ann.expectDisconnect(0x97);
    const again = await broker.crash().connect("ann");
    expect(await take(again, 21)).toEqual(numbered(21));
  });

  test("is full by bytes as well, those on disk among them", async () => {
    const broker = new DurableBroker(full("newest", { outboxCountMax: 1000, outboxBytesMax: 5000 }));
    await absent(broker, "ann");
    await publishAll(
      broker,
      await source(broker),
      "t",
      numbered(20).map((payload) => payload.padEnd(500, ".")),
    );
    const { count, bytes } = outboxOf(broker, "ann");
    expect(bytes).toBeLessThanOrEqual(5000);
    expect(count).toBe(9);
    const ann = await broker.crash().connect("ann");
    expect(await take(ann, 9)).toHaveLength(9);
    expect(await ann.settle()).toEqual([]);
  });

  test("goes on when a page is dropped that is being read", async () => {
    const broker = new DurableBroker(full("oldest"));
    await absent(broker, "ann");
    const from = await source(broker);
    await publishAll(broker, from, "t", numbered(20));
    broker.holdReads();
    const ann = await broker.connect("ann", { receiveMax: 1 });
    await publishAll(broker, from, "t", ["late"]); // the first page cannot go now: this one does
    broker.answerReads();
    expect(broker.engine.metrics.get("messages.dropped.queue_full")).toBe(1);
    expect(await take(ann, 20)).toEqual(numbered(20));
    expect(await ann.settle()).toEqual([]);
  });
});

describe("a session that ends with messages on disk", () => {
  const ends: [string, (broker: DurableBroker) => Promise<unknown>][] = [
    ["by Clean Start", (broker) => broker.connect("ann", { cleanStart: true })],
    ["by its expiry", async (broker) => broker.advance(3601)],
  ];

  /** Ann has 30 messages of a group and 10 of her own. Bob, the other member, is away; his own session stays. */
  async function story(config: DurableConfig): Promise<DurableBroker> {
    const broker = new DurableBroker(config);
    await absent(broker, "ann", 1, "$share/g/t");
    const ann = await broker.connect("ann");
    await ann.subscribe("own", 1);
    ann.kill();
    const from = await source(broker);
    await publishAll(broker, from, "t", numbered(30));
    await publishAll(broker, from, "own", numbered(10));
    const bob = await broker.connect("bob", { expirySec: 100_000 });
    await bob.subscribe("$share/g/t", 1);
    bob.kill();
    return broker;
  }

  test.each(ends)("%s gives those of share groups to other members and drops the rest", async (_, end) => {
    const broker = await story(SMALL);
    await end(broker);
    expect(broker.engine.metrics.get("messages.dropped.session_ended")).toBe(10);
    const bob = await broker.connect("bob");
    expect((await take(bob, 30)).sort()).toEqual(numbered(30).sort());
    expect(await bob.settle()).toEqual([]);
    expect(broker.engine.messages.count).toBe(0);
    broker.rest();
    broker.rest();
    expect(broker.disk.bodies).toEqual([]);
    broker.stop();
  });

  test.each(ends)("%s, and a crash after each of its batches: others get theirs once", async (how, end) => {
    for (const readsAtOnce of [false, true]) {
      for (let commits = 0; commits < 6; commits++) {
        const broker = await story({ ...SMALL, readsAtOnce });
        broker.quiet();
        broker.commitsAtOnce = false;
        void end(broker).catch(() => {}); // CONNACK waits for the disk
        for (let i = 0; i < commits; i++) {
          broker.advanceMs(100);
          broker.commit(broker.disk.durableBatch + 1);
        }
        const next = broker.crash();
        expect(next.restored.damage).toEqual([]);
        next.quiet();
        const ann = await next.connect("ann", { autoAck: true });
        const bob = await next.connect("bob", { autoAck: true });
        const ofAnn = payloadsOf(await ann.settle());
        const ofBob = payloadsOf(await bob.settle());
        const isEnded = commits > 0 || how === "by its expiry";
        expect(ofAnn).toEqual(isEnded ? [] : [...numbered(30), ...numbered(10)]);
        expect(ofBob.sort()).toEqual(isEnded ? numbered(30).sort() : []);
        next.stop();
      }
    }
  });

  test("while the disk is slow to read: what was in memory is with another member once, crash or not", async () => {
    const broker = new DurableBroker(SMALL);
    await absent(broker, "ann", 2, "$share/g/t");
    await publishAll(broker, await source(broker), "t", numbered(12), 2); // a page, and four in memory
    const bob = await broker.connect("bob");
    await bob.subscribe("$share/g/t", 2);
    bob.kill();
    broker.holdReads();
    await broker.connect("ann", { cleanStart: true });
    broker.quiet();
    const next = broker.crash();
    expect(next.restored.damage).toEqual([]);
    const again = await next.connect("bob", { autoAck: true });
    expect(payloadsOf(await again.settle()).sort()).toEqual(numbered(12).sort());
  });

  test("and had just got a page back: no message is lost, or with another member twice", async () => {
    for (let commits = 1; commits < 6; commits++) {
      const broker = new DurableBroker(SMALL);
      await absent(broker, "ann", 2, "$share/g/t");
      await publishAll(broker, await source(broker), "t", numbered(28), 2); // three pages and four in memory
      const bob = await broker.connect("bob");
      await bob.subscribe("$share/g/t", 2);
      bob.kill();
      const ann = await broker.connect("ann", { receiveMax: 1 });
      await ann.expect("publish", { payload: "m0", packetId: 1 });
      broker.quiet();
      broker.commitsAtOnce = false;
      if (commits === 1) broker.holdReads();
      broker.together(() => {
        ann.send({ type: "pubrec", packetId: 1 });
        ann.send({ type: "pubcomp", packetId: 1 });
        broker.ask("ann", { cleanStart: true });
      });
      for (let i = 0; i < commits; i++) {
        broker.advanceMs(100);
        broker.commit(broker.disk.durableBatch + 1);
      }
      const next = broker.crash();
      expect(next.restored.damage).toEqual([]);
      const again = await next.connect("bob", { autoAck: true });
      const got = payloadsOf(await again.settle());
      expect(got.toSorted()).toEqual([...new Set(got)].sort());
      expect(got.length).toBeGreaterThanOrEqual(26); // ann had one, and one was being sent
    }
  });
});
