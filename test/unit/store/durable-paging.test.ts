/** Queues that are larger than memory, through real clients: nothing is lost or out of order, whenever the broker stops. */
import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import type { RawClient } from "#test/support/client.ts";
import { DurableBroker, type DurableConfig } from "#test/support/durable-broker.ts";
import { checkAsync } from "#test/support/fuzz.ts";
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

describe("a queue larger than memory", () => {
  test("waits on disk while its client is away, and comes in order when it is back", async () => {
    const broker = new DurableBroker(SMALL);
    await absent(broker, "ann");
    const payloads = numbered(100);
    await publishAll(broker, await source(broker), "t", payloads);
    expect(outboxOf(broker, "ann").count).toBe(100);
    expect(broker.engine.messages.count).toBeLessThan(8);
    const ann = await broker.connect("ann", { autoAck: true });
    expect(payloadsOf(await ann.settle())).toEqual(payloads);
    expect([outboxOf(broker, "ann").count, outboxOf(broker, "ann").bytes, broker.engine.messages.count]).toEqual([0, 0, 0]);
    broker.stop();
  });

  test.each([1, 3, 20])("is drained through a window of %d with few messages in memory", async (receiveMax) => {
    const broker = new DurableBroker(SMALL);
    await absent(broker, "ann");
    const payloads = numbered(60);
    await publishAll(broker, await source(broker), "t", payloads);
    const ann = await broker.connect("ann", { receiveMax });
    expect(broker.engine.messages.count).toBeLessThan(receiveMax + 3 * 8);
    expect(await take(ann, 60)).toEqual(payloads);
    expect(await ann.settle()).toEqual([]);
  });

  test("keeps its order over head, pages and tail when messages come while it is drained", async () => {
    const broker = new DurableBroker(SMALL);
    await absent(broker, "ann");
    const from = await source(broker);
    const payloads = numbered(90);
    await publishAll(broker, from, "t", payloads.slice(0, 30));
    const ann = await broker.connect("ann", { receiveMax: 2 });
    const got: string[] = [];
    for (let sent = 30; sent < 90; sent += 5) {
      got.push(...(await take(ann, 3)));
      await publishAll(broker, from, "t", payloads.slice(sent, sent + 5));
    }
    got.push(...(await take(ann, 90 - got.length)));
    expect(got).toEqual(payloads);
  });

  test("of a slow client that is connected goes to disk behind what it may want soon", async () => {
    const broker = new DurableBroker(SMALL);
    const ann = await broker.connect("ann", { receiveMax: 1 });
    await ann.subscribe("t", 1);
    const from = await source(broker);
    const payloads = numbered(700);
    broker.together(() => {
      payloads.forEach((payload, i) => from.send({ type: "publish", topic: "t", payload, qos: 1, packetId: i + 1 }));
    });
    broker.advanceMs(10);
    expect((await from.settle()).filter(({ type }) => type === "puback")).toHaveLength(700);
    expect(outboxOf(broker, "ann").hasPages).toBe(true);
    expect(broker.engine.messages.count).toBeLessThan(540);
    expect(await take(ann, 700)).toEqual(payloads);
  });

  test("survives that its client leaves in the middle and comes back", async () => {
    const broker = new DurableBroker(SMALL);
    await absent(broker, "ann");
    const payloads = numbered(50);
    await publishAll(broker, await source(broker), "t", payloads);
    const got: string[] = [];
    while (got.length < 50) {
      const ann = await broker.connect("ann", { receiveMax: 4 });
      got.push(...(await take(ann, Math.min(7, 50 - got.length))));
      ann.kill();
    }
    expect(got).toEqual(payloads);
    expect(payloadsOf(await (await broker.connect("ann")).settle())).toEqual([]);
  });

  test("survives that its client leaves and comes back while a page is being read", async () => {
    const broker = new DurableBroker(SMALL);
    await absent(broker, "ann");
    const payloads = numbered(30);
    await publishAll(broker, await source(broker), "t", payloads);
    broker.holdReads();
    const first = await broker.connect("ann");
    first.kill();
    const second = await broker.connect("ann");
    broker.answerReads();
    expect(await take(second, 30)).toEqual(payloads);
  });

  test("of a session that begins anew while a page is being read is not given to the new one", async () => {
    const broker = new DurableBroker(SMALL);
    await absent(broker, "ann");
    await publishAll(broker, await source(broker), "t", numbered(30));
    broker.holdReads();
    await broker.connect("ann");
    const anew = await broker.connect("ann", { cleanStart: true });
    await anew.subscribe("t", 1);
    broker.answerReads();
    expect(await anew.settle()).toEqual([]);
    expect(broker.engine.messages.count).toBe(0);
    broker.stop();
  });

  test("is at its place after a crash at each step of being drained", async () => {
    for (let steps = 0; steps <= 24; steps += 3) {
      const broker = new DurableBroker(SMALL);
      await absent(broker, "ann");
      const payloads = numbered(24);
      await publishAll(broker, await source(broker), "t", payloads);
      const ann = await broker.connect("ann", { receiveMax: 3 });
      expect(await take(ann, steps)).toEqual(payloads.slice(0, steps));
      broker.quiet();
      const next = broker.crash();
      expect(next.restored.damage).toEqual([]);
      const again = await next.connect("ann");
      expect(await take(again, 24 - steps)).toEqual(payloads.slice(steps));
      expect(await again.settle()).toEqual([]);
    }
  });

  test("of messages with priorities is drained lane by lane, each in order", async () => {
    const config = { ...SMALL, priorities: [{ filter: "alarm/#", priority: 7 }, { filter: "news", priority: 3 }] };
    const broker = new DurableBroker(config);
    await absent(broker, "ann", 1, "#");
    const from = await source(broker);
    for (let i = 0; i < 20; i++) {
      await publishAll(broker, from, "plain", [`plain ${i}`]);
      await publishAll(broker, from, "news", [`news ${i}`]);
      await publishAll(broker, from, "alarm/fire", [`alarm ${i}`]);
    }
    const expected = ["alarm", "news", "plain"].flatMap((lane) => Array.from({ length: 20 }, (_, i) => `${lane} ${i}`));
    const ann = await broker.connect("ann", { receiveMax: 2 });
    expect(await take(ann, 13)).toEqual(expected.slice(0, 13));
    broker.quiet();
    const next = broker.crash();
    expect(next.restored.damage).toEqual([]);
    const again = await next.connect("ann", { receiveMax: 2 });
    expect(await take(again, 47)).toEqual(expected.slice(13));
  });

  test("is in order whatever happens to its client and the broker", async () => {
    const step = fc.oneof(
      fc.record({ kind: fc.constant("publish" as const), count: fc.integer({ min: 1, max: 30 }) }),
      fc.record({ kind: fc.constant("take" as const), count: fc.integer({ min: 1, max: 20 }) }),
      fc.record({ kind: fc.constantFrom("connect", "kill", "crash", "rest", "wait"), count: fc.integer({ min: 1, max: 6 }) }),
    );
    const story = fc.asyncProperty(fc.array(step, { maxLength: 25 }), async (steps) => {
      let broker = new DurableBroker(SMALL);
      await absent(broker, "ann");
      let from = await source(broker);
      let ann: RawClient | undefined;
      let published = 0;
      let taken = 0;
      const takeSome = async (count: number): Promise<void> => {
        const got = await take(ann!, Math.min(count, published - taken));
        expect(got).toEqual(got.map((_, i) => `m${taken + i}`));
        taken += got.length;
      };
      for (const { kind, count } of [...steps, { kind: "crash", count: 1 }, { kind: "connect", count: 5 }]) {
        if (kind === "publish") {
          const payloads = Array.from({ length: count }, () => `m${published++}`);
          await publishAll(broker, from, "t", payloads);
        } else if (kind === "take" && ann) await takeSome(count);
        else if (kind === "connect") {
          ann?.kill();
          ann = await broker.connect("ann", { receiveMax: count });
        } else if (kind === "kill") {
          ann?.kill();
          ann = undefined;
        } else if (kind === "wait") broker.advanceMs(count);
        else if (kind === "rest") broker.rest();
        else if (kind === "crash") {
          broker.quiet(); // what was taken is on disk
          broker = broker.crash();
          expect(broker.restored.damage).toEqual([]);
          from = await source(broker);
          ann = undefined;
        }
      }
      await takeSome(Infinity);
      expect(await ann!.settle()).toEqual([]);
      expect(broker.engine.messages.count).toBe(0);
      broker.stop();
    });
    await checkAsync(story, 40);
  }, 60_000);
});

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
    await publishAll(broker, await source(broker), "t", numbered(20).map((payload) => payload.padEnd(500, ".")));
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

test("short of memory, waiting messages go to disk instead of being dropped", async () => {
  const broker = new DurableBroker({ limits: { messages: { bytesMax: 64 * 1024 } } });
  for (const name of ["ann", "bob", "cat"]) await absent(broker, name, 1, name);
  const from = await source(broker);
  const payloads = numbered(300).map((payload) => payload.padEnd(1000, "."));
  for (const [i, payload] of payloads.entries()) await publishAll(broker, from, ["ann", "bob", "cat"][i % 3]!, [payload]);
  expect(broker.engine.metrics.get("messages.dropped.memory_full")).toBe(0);
  expect(broker.engine.messages.bodyBytes).toBeLessThan(48 * 1024);
  const next = broker.crash();
  const bob = await next.connect("bob");
  expect(await take(bob, 100)).toEqual(payloads.filter((_, i) => i % 3 === 1));
});

test("what expires on a page is dropped when its turn comes, and counted", async () => {
  const broker = new DurableBroker(SMALL);
  await absent(broker, "ann");
  const from = await source(broker);
  for (let i = 0; i < 40; i++) {
    const properties: [["messageExpiryIntervalSec", number]] = [["messageExpiryIntervalSec", i % 2 === 0 ? 5 : 500]];
    from.send({ type: "publish", topic: "t", payload: `m${i}`, qos: 1, packetId: i + 1, properties });
  }
  broker.advance(20);
  const next = broker.crash();
  const ann = await next.connect("ann");
  expect(await take(ann, 20)).toEqual(numbered(40).filter((_, i) => i % 2 === 1));
  expect(next.engine.metrics.get("messages.dropped.expired")).toBe(20);
  expect(await ann.settle()).toEqual([]);
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
