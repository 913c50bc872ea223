/** Queues that are larger than memory, through real clients: nothing is lost or out of order, whenever the broker stops. */
import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { MESSAGE, type Ring } from "#core/outbox.ts";
import type { RawClient } from "#test/support/client.ts";
import { DurableBroker, type DurableConfig } from "#test/support/durable-broker.ts";
import { checkAsync } from "#test/support/fuzz.ts";
import { numbered, payloadsOf, publishAll, publishesOf } from "./published.ts";

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

/** The sums that a queue keeps are those of its messages. */
function checkSums(broker: DurableBroker, clientId: string): void {
  const { engine } = broker;
  const queue = engine.sessions.queueOf(engine.sessions.find(Buffer.from(clientId)));
  if (!queue) return;
  const sizeOf = (ring: Ring): number =>
    Array.from({ length: ring.count }, (_, i) => engine.messages.bytesOf(ring.at(i, MESSAGE))).reduce(
      (a, b) => a + b,
      0,
    );
  let count = 0;
  let bytes = 0;
  for (const { head, pages, tail, memoryBytes, tailBytes } of queue.outbox.lanes) {
    expect([memoryBytes, tailBytes]).toEqual([sizeOf(head) + sizeOf(tail), sizeOf(tail)]);
    if (pages.length === 0) expect(tail.count).toBe(0);
    count += head.count + tail.count + pages.reduce((sum, page) => sum + page.count, 0);
    bytes += memoryBytes + pages.reduce((sum, page) => sum + page.bytes, 0);
  }
  expect([queue.outbox.count, queue.outbox.bytes]).toEqual([count, bytes]);
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
    expect([outboxOf(broker, "ann").count, outboxOf(broker, "ann").bytes, broker.engine.messages.count]).toEqual([
      0, 0, 0,
    ]);
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
    const config = {
      ...SMALL,
      priorities: [
        { filter: "alarm/#", priority: 7 },
        { filter: "news", priority: 3 },
      ],
    };
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
      fc.record({
        kind: fc.constantFrom("connect", "kill", "crash", "rest", "wait"),
        count: fc.integer({ min: 1, max: 6 }),
      }),
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
        checkSums(broker, "ann");
      }
      await takeSome(Infinity);
      expect(await ann!.settle()).toEqual([]);
      expect(broker.engine.messages.count).toBe(0);
      broker.stop();
    });
    await checkAsync(story, 40);
  }, 60_000);
});

test("lists of subscription identifiers go to disk and back with their messages, and leave nothing in memory", async () => {
  const broker = new DurableBroker(SMALL);
  const ann = await broker.connect("ann");
  await ann.subscribe("t", { qos: 1, properties: [["subscriptionIdentifier", 3]] });
  await ann.subscribe("#", { qos: 1, properties: [["subscriptionIdentifier", 4]] });
  ann.kill();
  await publishAll(broker, await source(broker), "t", numbered(20));
  expect(broker.engine.delivery.idLists.count).toBeLessThan(8);
  const again = await broker.connect("ann", { autoAck: true });
  for (const { properties } of publishesOf(await again.settle())) {
    expect(properties!.map(([, value]) => value).sort()).toEqual([3, 4]);
  }
  expect(broker.engine.delivery.idLists.count).toBe(0);
});

test("short of memory, waiting messages go to disk instead of being dropped", async () => {
  const broker = new DurableBroker({ limits: { messages: { bytesMax: 64 * 1024 } } });
  for (const name of ["ann", "bob", "cat"]) await absent(broker, name, 1, name);
  const from = await source(broker);
  const payloads = numbered(300).map((payload) => payload.padEnd(1000, "."));
  for (const [i, payload] of payloads.entries())
    await publishAll(broker, from, ["ann", "bob", "cat"][i % 3]!, [payload]);
  expect(broker.engine.metrics.get("messages.dropped.memory_full")).toBe(0);
  expect(broker.engine.messages.bodyBytes).toBeLessThan(48 * 1024);
  const next = broker.crash();
  const bob = await next.connect("bob");
  expect(await take(bob, 100)).toEqual(payloads.filter((_, i) => i % 3 === 1));
});

test("short of memory, what waits for slow clients that are connected goes to disk as well", async () => {
  const broker = new DurableBroker({ limits: { messages: { bytesMax: 64 * 1024 } } });
  const names = ["ann", "bob", "cat"];
  const slow: RawClient[] = [];
  for (const name of names) {
    const client = await broker.connect(name, { receiveMax: 1 });
    await client.subscribe(name, 1);
    slow.push(client);
  }
  const from = await source(broker);
  const payloads = numbered(300).map((payload) => payload.padEnd(1000, "."));
  for (const [i, payload] of payloads.entries()) await publishAll(broker, from, names[i % 3]!, [payload]);
  expect(broker.engine.metrics.get("messages.dropped.memory_full")).toBe(0);
  expect(await take(slow[1]!, 100)).toEqual(payloads.filter((_, i) => i % 3 === 1));
});

test("short of memory, what was in memory when its client left goes to disk", async () => {
  const broker = new DurableBroker({ store: { pageCount: 8 }, limits: { messages: { bytesMax: 256 * 1024 } } });
  const ann = await broker.connect("ann", { receiveMax: 1 });
  await ann.subscribe("ann", 1);
  const from = await source(broker);
  const payloads = numbered(1000);
  await publishAll(broker, from, "ann", payloads.slice(0, 600)); // a head of 512, and pages
  ann.kill();
  await publishAll(broker, from, "ann", payloads.slice(600));
  expect(broker.engine.messages.count).toBeLessThan(540);
  await absent(broker, "bob", 1, "bob");
  for (let i = 0; i < 400; i++) await publishAll(broker, from, "bob", ["x".repeat(1000)]);
  expect(broker.engine.metrics.get("messages.dropped.memory_full")).toBe(0);
  const again = await broker.crash().connect("ann");
  expect(await take(again, 1000)).toEqual(payloads);
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
