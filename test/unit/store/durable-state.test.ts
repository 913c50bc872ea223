/** What comes back after a crash besides messages on their way: subscriptions, retained messages, wills, deadlines. */
import { describe, expect, test } from "bun:test";
import type { RawClient } from "#test/support/client.ts";
import { DurableBroker, type DurableConnect } from "#test/support/durable-broker.ts";
import { prop, type Properties, type PublishPacket } from "#test/support/packets.ts";
import { numbered, payloadOf, payloadsOf, publishAll } from "./published.ts";

async function absent(broker: DurableBroker, clientId: string, filter = "t", qos = 1): Promise<void> {
  const client = await broker.connect(clientId);
  await client.subscribe(filter, qos);
  client.kill();
}

function source(broker: DurableBroker): Promise<RawClient> {
  return broker.connect("source", { expirySec: 0 });
}

describe("subscriptions", () => {
  test("come back with their options and identifiers; what was unsubscribed does not", async () => {
    for (const isResting of [false, true]) {
      const broker = new DurableBroker();
      const ann = await broker.connect("ann");
      const properties: Properties = [["subscriptionIdentifier", 7]];
      await ann.subscribe([{ filter: "a/+", qos: 2, retainAsPublished: true }], { properties });
      await ann.subscribe([{ filter: "b/#", qos: 1, noLocal: true }]);
      await ann.subscribe(["gone", "changed"], 2);
      await ann.subscribe("changed", 0);
      await ann.unsubscribe("gone");
      if (isResting) broker.rest();
      const next = broker.crash();
      const again = await next.connect("ann");
      const from = await source(next);
      for (const topic of ["a/x", "b/x", "gone", "changed"]) {
        const isDone = from.publish(topic, topic, { qos: 1, retain: true });
        next.advanceMs(5);
        await isDone;
      }
      again.send({ type: "publish", topic: "b/own", payload: "own", qos: 0 });
      const got = (await again.settle()) as PublishPacket[];
      expect(got.map((packet) => [payloadOf(packet), packet.qos, packet.retain])).toEqual([
        ["a/x", 1, true],
        ["b/x", 1, false],
        ["changed", 0, false],
      ]);
      expect(prop(got[0]!, "subscriptionIdentifier")).toBe(7);
      expect(prop(got[1]!, "subscriptionIdentifier")).toBeUndefined();
    }
  });

  test("of share groups come back: each message goes to one member, and groups apart stay apart", async () => {
    const broker = new DurableBroker();
    for (const [name, group] of [
      ["ann", "g"],
      ["bob", "g"],
      ["cat", "h"],
    ])
      await absent(broker, name!, `$share/${group}/t`);
    const next = broker.crash();
    await publishAll(next, await source(next), "t", numbered(4));
    const ann = payloadsOf(await (await next.connect("ann")).settle());
    const bob = payloadsOf(await (await next.connect("bob")).settle());
    const cat = payloadsOf(await (await next.connect("cat")).settle());
    expect([...ann, ...bob].sort()).toEqual(numbered(4));
    expect(cat).toEqual(numbered(4));
  });

  test("identifiers of a waiting message come back with it, also two of them", async () => {
    const broker = new DurableBroker();
    const ann = await broker.connect("ann");
    await ann.subscribe("t", { qos: 1, properties: [["subscriptionIdentifier", 3]] });
    await ann.subscribe("#", { qos: 1, properties: [["subscriptionIdentifier", 4]] });
    ann.kill();
    await publishAll(broker, await source(broker), "t", ["both"]);
    broker.rest();
    const again = await broker.crash().connect("ann");
    const { properties } = await again.expect("publish", { payload: "both" });
    const ids = properties!.filter(([name]) => name === "subscriptionIdentifier").map(([, value]) => value);
    expect(ids.sort()).toEqual([3, 4]);
  });
});

describe("retained messages", () => {
  async function keep(
    broker: DurableBroker,
    topic: string,
    payload: string,
    properties: Properties = [],
  ): Promise<void> {
    const from = await source(broker);
    await from.publish(topic, payload, { qos: 1, retain: true, properties });
    from.kill();
  }

  async function kept(broker: DurableBroker, filter = "#"): Promise<PublishPacket[]> {
    const client = await broker.connect("reader", { expirySec: 0, cleanStart: true });
    await client.subscribe(filter, 1);
    const got = (await client.settle()) as PublishPacket[];
    client.kill();
    return got;
  }

  test("come back with their properties, the last value of each topic, and not those that were deleted", async () => {
    const broker = new DurableBroker();
    await keep(broker, "a", "old");
    await keep(broker, "a", "new", [
      ["contentType", "text/plain"],
      ["userProperty", ["k", "v"]],
    ]);
    await keep(broker, "b", "gone");
    await keep(broker, "b", "");
    await keep(broker, "c/d", "other");
    const got = await kept(broker.crash());
    expect(got.map((packet) => [packet.topic, payloadOf(packet), packet.retain]).sort()).toEqual([
      ["a", "new", true],
      ["c/d", "other", true],
    ]);
    const a = got.find(({ topic }) => topic === "a")!;
    expect([prop(a, "contentType"), prop(a, "userProperty")]).toEqual(["text/plain", ["k", "v"]]);
  });

  test("a value that was not committed is not there, the one before is", async () => {
    const broker = new DurableBroker();
    await keep(broker, "a", "old");
    const from = await source(broker);
    broker.commitsAtOnce = false;
    from.send({ type: "publish", topic: "a", payload: "new", qos: 1, packetId: 1, retain: true });
    expect((await kept(broker.crash())).map(payloadOf)).toEqual(["old"]);
  });

  test("expire when their time is over, counted over the restart, and are deleted from the disk", async () => {
    const broker = new DurableBroker();
    await keep(broker, "a", "short", [["messageExpiryIntervalSec", 60]]);
    await keep(broker, "b", "long", [["messageExpiryIntervalSec", 6000]]);
    broker.advance(30);
    const next = broker.crash();
    const [a] = await kept(next, "a");
    expect(prop(a!, "messageExpiryIntervalSec")).toBe(30);
    next.advance(31);
    expect((await kept(next)).map(payloadOf)).toEqual(["long"]);
    next.quiet();
    expect(next.crash().restored.retainedCount).toBe(1);
  });

  test("without expiry of their own are kept for retained.expirySec from when they were published", async () => {
    const broker = new DurableBroker({ limits: { retained: { expirySec: 100 } } });
    await keep(broker, "a", "value");
    broker.advance(60);
    const next = broker.crash();
    expect((await kept(next)).map(payloadOf)).toEqual(["value"]);
    next.advance(50);
    expect(await kept(next)).toEqual([]);
  });

  test("whose time passed while the broker was down are not replayed, even to the first client", async () => {
    const broker = new DurableBroker({ limits: { retained: { expirySec: 100 } } });
    await keep(broker, "a", "value");
    broker.passTime(101);
    expect(await kept(broker.crash())).toEqual([]);
  });

  test("are not replayed to their publisher with no-local, also after a restart", async () => {
    const broker = new DurableBroker();
    const ann = await broker.connect("ann");
    await ann.publish("a", "own", { qos: 1, retain: true });
    await keep(broker, "b", "other");
    const again = await broker.crash().connect("ann");
    await again.subscribe([{ filter: "#", qos: 1, noLocal: true }]);
    expect(payloadsOf(await again.settle())).toEqual(["other"]);
  });
});

describe("wills", () => {
  const will = (delaySec = 0): DurableConnect => ({
    will: { topic: "w", payload: "gone", qos: 1, properties: [["willDelayIntervalSec", delaySec]] },
  });

  /** Ann has a will, watcher a session that hears it. */
  async function story(delaySec: number, expirySec = 3600): Promise<DurableBroker> {
    const broker = new DurableBroker();
    await absent(broker, "watcher", "w");
    await broker.connect("ann", { ...will(delaySec), expirySec });
    return broker;
  }

  async function heard(broker: DurableBroker): Promise<string[]> {
    const watcher = await broker.connect("watcher", { autoAck: true });
    const got = payloadsOf(await watcher.settle());
    watcher.kill();
    broker.quiet();
    return got;
  }

  test("of a client that was connected waits for the grace after a crash", async () => {
    const next = (await story(0)).crash();
    next.advance(28);
    expect(await heard(next)).toEqual([]);
    next.advance(4);
    expect(await heard(next)).toEqual(["gone"]);
    const last = next.crash();
    last.advance(100);
    expect(await heard(last)).toEqual([]); // once
  });

  test("has its grace at each of several starts, and goes out once when they are over", async () => {
    const first = (await story(0)).crash();
    first.advance(20);
    const second = first.crash();
    second.advance(12); // the queue changes, and snapshots are written
    expect(await heard(second)).toEqual([]);
    const third = second.crash();
    third.advance(25);
    expect(await heard(third)).toEqual([]);
    third.advance(10);
    expect(await heard(third)).toEqual(["gone"]);
    const last = third.crash();
    last.advance(100);
    expect(await heard(last)).toEqual([]);
  });

  test("with a delay longer than the grace waits for its delay", async () => {
    const next = (await story(300)).crash();
    next.advance(290);
    expect(await heard(next)).toEqual([]);
    next.advance(12);
    expect(await heard(next)).toEqual(["gone"]);
  });

  test("whose delay ran when the broker stopped goes out at its time", async () => {
    const broker = await story(300);
    broker.ask("ann", will(300)).kill();
    broker.advance(200);
    const next = broker.crash();
    next.advance(95);
    expect(await heard(next)).toEqual([]);
    next.advance(10);
    expect(await heard(next)).toEqual(["gone"]);
  });

  test("is not sent when its client comes back in time, with or without a new one", async () => {
    const next = (await story(0)).crash();
    next.advance(10);
    const ann = await next.connect("ann");
    next.advance(100);
    expect(await heard(next)).toEqual([]);
    ann.kill();
    expect(await heard(next)).toEqual([]);
    next.advance(100);
    expect(await heard(next.crash())).toEqual([]);
  });

  test("and what it may become are on disk together: a crash leaves the will or its message, never neither or both", async () => {
    const broker = await story(10);
    const later = broker.crash();
    later.commitsAtOnce = false;
    later.advance(31); // the grace is over
    for (let commits = 0; commits < 4; commits++) {
      const next = later.crash();
      next.advance(100);
      expect(await heard(next)).toEqual(["gone"]);
      later.commit(later.disk.durableBatch + 1);
      later.advanceMs(100);
    }
  });

  test("is not sent after DISCONNECT 0x00 and a crash", async () => {
    const broker = new DurableBroker();
    await absent(broker, "watcher", "w");
    const ann = await broker.connect("ann", will());
    await ann.disconnect();
    broker.quiet();
    const next = broker.crash();
    next.advance(100);
    expect(await heard(next)).toEqual([]);
  });

  test("goes out when its session ends before its delay", async () => {
    const next = (await story(300, 60)).crash();
    next.advance(55);
    expect(await heard(next)).toEqual([]);
    next.advance(10);
    expect(await heard(next)).toEqual(["gone"]);
  });

  test("of a session that ended with its connection reaches sessions that are restored later", async () => {
    for (const readsAtOnce of [false, true]) {
      const broker = new DurableBroker({ readsAtOnce });
      (await broker.connect("ann")).kill(); // a stored session …
      await absent(broker, "watcher", "w");
      await broker.connect("ann", { ...will(), expirySec: 0 }); // … that is to end with this connection
      const next = broker.crash();
      next.advance(60);
      expect(await heard(next)).toEqual(["gone"]);
      expect(next.engine.sessions.find(Buffer.from("ann"))).toBe(-1);
    }
  });

  test("as a retained message is the last value, not the one that was stored", async () => {
    const broker = new DurableBroker();
    (await broker.connect("ann")).kill();
    const from = await source(broker);
    await from.publish("w", "alive", { qos: 1, retain: true });
    await broker.connect("ann", { expirySec: 0, will: { topic: "w", payload: "gone", qos: 1, retain: true } });
    const next = broker.crash();
    next.advance(60);
    const reader = await next.connect("reader", { expirySec: 0 });
    await reader.subscribe("w", 1);
    expect(payloadsOf(await reader.settle())).toEqual(["gone"]);
  });
});

describe("session expiry", () => {
  async function isThere(broker: DurableBroker, clientId = "ann"): Promise<boolean> {
    const client = await broker.connect(clientId);
    return client.connack!.sessionPresent;
  }

  test("is a deadline that a restart does not move", async () => {
    for (const isResting of [false, true]) {
      const broker = new DurableBroker();
      (await broker.connect("ann", { expirySec: 100 })).kill();
      (await broker.connect("bob", { expirySec: 100 })).kill();
      if (isResting) broker.rest();
      broker.advance(isResting ? 59 : 70);
      const next = broker.crash();
      next.advance(20);
      expect(await isThere(next, "ann")).toBe(true);
      next.advance(20);
      expect(await isThere(next, "bob")).toBe(false);
    }
  });

  test("a session whose expiry passed while the broker was down is gone, even for the first client", async () => {
    const broker = new DurableBroker();
    (await broker.connect("ann", { expirySec: 100 })).kill();
    broker.quiet();
    broker.passTime(101);
    expect(await isThere(broker.crash())).toBe(false);
  });

  test("a session that was connected at the crash counts from the restart", async () => {
    const broker = new DurableBroker();
    await broker.connect("ann", { expirySec: 100 });
    await broker.connect("bob", { expirySec: 100 });
    broker.advance(1000);
    const next = broker.crash();
    next.advance(90);
    expect(await isThere(next, "ann")).toBe(true);
    next.advance(20);
    expect(await isThere(next, "bob")).toBe(false);
  });

  test("a second crash does not give it more time", async () => {
    const broker = new DurableBroker();
    await broker.connect("ann", { expirySec: 100 });
    const second = broker.crash();
    second.advance(60);
    const third = second.crash();
    third.advance(50);
    expect(await isThere(third)).toBe(false);
  });

  test("that never comes stays, and DISCONNECT changes it", async () => {
    const broker = new DurableBroker();
    (await broker.connect("old", { version: 4 })).kill();
    (await broker.connect("ann", { expirySec: 0xffff_ffff })).kill();
    const bob = await broker.connect("bob", { expirySec: 1000 });
    await bob.disconnect({ properties: [["sessionExpiryIntervalSec", 10]] });
    const cat = await broker.connect("cat", { expirySec: 1000 });
    await cat.disconnect({ properties: [["sessionExpiryIntervalSec", 0]] });
    broker.quiet();
    const next = broker.crash();
    expect(next.restored.sessionCount).toBe(3);
    next.advance(20);
    expect(await isThere(next, "bob")).toBe(false);
    next.advance(100_000);
    expect(await isThere(next, "ann")).toBe(true);
    const old = await next.connect("old", { version: 4 });
    expect(old.connack!.sessionPresent).toBe(true);
  });
});
