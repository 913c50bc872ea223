/** From crash to the next broker, at each step of what clients and the broker do together. */
import { describe, expect, test } from "bun:test";
import type { RawClient } from "#test/support/client.ts";
import { DurableBroker } from "#test/support/durable-broker.ts";
import { type Packet, prop, type PublishPacket } from "#test/support/packets.ts";
import { numbered, payloadOf, payloadsOf, publishAll } from "./published.ts";

async function absent(broker: DurableBroker, clientId: string, filter = "t", qos = 1): Promise<void> {
  const client = await broker.connect(clientId);
  await client.subscribe(filter, qos);
  client.kill();
}

function source(broker: DurableBroker): Promise<RawClient> {
  return broker.connect("source", { expirySec: 0 });
}

/** `publish 1 dup`, `pubrel 1`, … */
function shown(packets: readonly Packet[]): string[] {
  return packets.map((packet) => {
    const dup = packet.type === "publish" && packet.dup ? " dup" : "";
    return `${packet.type} ${"packetId" in packet ? packet.packetId : ""}${dup}`;
  });
}

/** What a client gets that comes back after a crash. */
async function afterCrash(broker: DurableBroker, clientId = "ann"): Promise<string[]> {
  const next = broker.crash();
  expect(next.restored.damage).toEqual([]);
  const client = await next.connect(clientId);
  expect(client.connack!.sessionPresent).toBe(true);
  return shown(await client.settle());
}

describe("to a subscriber at QoS 1", () => {
  /** Ann has been sent one message under id 1. */
  async function sent(): Promise<{ broker: DurableBroker; ann: RawClient }> {
    const broker = new DurableBroker();
    const ann = await broker.connect("ann");
    await ann.subscribe("t", 1);
    await publishAll(broker, await source(broker), "t", ["m"]);
    await ann.expect("publish", { packetId: 1, dup: false });
    return { broker, ann };
  }

  test("before PUBACK it is sent again as a duplicate, with its id", async () => {
    const { broker } = await sent();
    expect(await afterCrash(broker)).toEqual(["publish 1 dup"]);
  });

  test("after PUBACK it is not", async () => {
    const { broker, ann } = await sent();
    ann.send({ type: "puback", packetId: 1 });
    broker.quiet();
    expect(await afterCrash(broker)).toEqual([]);
  });

  test("a crash before that PUBACK was written sends it again", async () => {
    const { broker, ann } = await sent();
    broker.commitsAtOnce = false;
    ann.send({ type: "puback", packetId: 1 });
    broker.quiet();
    expect(await afterCrash(broker)).toEqual(["publish 1 dup"]);
  });
});

describe("to a subscriber at QoS 2", () => {
  type Step = "sent" | "received" | "released" | "completed";

  /** One message for ann, up to a step; each step is committed, the last one only if told. */
  async function upTo(last: Step, isCommitted: boolean): Promise<DurableBroker> {
    const broker = new DurableBroker();
    const ann = await broker.connect("ann");
    await ann.subscribe("t", 2);
    const from = await source(broker);
    broker.commitsAtOnce = isCommitted || last !== "sent";
    from.send({ type: "publish", topic: "t", payload: "m", qos: 2, packetId: 9 });
    if (last === "sent") return broker;
    broker.commitsAtOnce = isCommitted || last !== "received";
    await ann.expect("publish", { packetId: 1 });
    ann.send({ type: "pubrec", packetId: 1 });
    if (last === "received") return broker;
    await ann.expect("pubrel", { packetId: 1 });
    if (last === "released") return broker;
    broker.commitsAtOnce = isCommitted;
    ann.send({ type: "pubcomp", packetId: 1 });
    broker.quiet();
    return broker;
  }

  const steps: [Step, isCommitted: boolean, again: string[]][] = [
    ["sent", false, []],
    ["sent", true, ["publish 1 dup"]],
    ["received", false, ["publish 1 dup"]],
    ["received", true, ["pubrel 1"]],
    ["released", true, ["pubrel 1"]],
    ["completed", false, ["pubrel 1"]],
    ["completed", true, []],
  ];

  test.each(steps)("%s, committed: %p: it goes on with %p", async (last, isCommitted, again) => {
    expect(await afterCrash(await upTo(last, isCommitted))).toEqual(again);
  });

  test("the same with a checkpoint before the crash", async () => {
    for (const [last, isCommitted, again] of steps) {
      if (!isCommitted) continue;
      const broker = await upTo(last, true);
      broker.rest();
      expect(await afterCrash(broker)).toEqual(again);
    }
  });

  test("it goes to its end after the crash, and its id is not given to another meanwhile", async () => {
    const next = (await upTo("received", true)).crash();
    const ann = await next.connect("ann");
    await ann.expect("pubrel", { packetId: 1 });
    await publishAll(next, await source(next), "t", ["other"], 2);
    await ann.expect("publish", { payload: "other", packetId: 2 });
    ann.send({ type: "pubcomp", packetId: 1 });
    next.quiet();
    expect(await afterCrash(next)).toEqual(["publish 2 dup"]);
  });
});

describe("from a publisher at QoS 2", () => {
  /** A publisher and a receiver with sessions. */
  async function pair(): Promise<{ broker: DurableBroker; pub: RawClient }> {
    const broker = new DurableBroker();
    await absent(broker, "ann", "t", 2);
    return { broker, pub: await broker.connect("pub") };
  }

  const publish = { type: "publish", topic: "t", payload: "m", qos: 2, packetId: 5 } as const;

  test("a repeat after the crash is routed when the first was not committed", async () => {
    const { broker, pub } = await pair();
    broker.commitsAtOnce = false;
    pub.send(publish);
    const next = broker.crash();
    const again = await next.connect("pub");
    again.send({ ...publish, dup: true });
    await again.expect("pubrec", { packetId: 5, reasonCode: 0 });
    expect(payloadsOf(await (await next.connect("ann")).settle())).toEqual(["m"]);
  });

  test("a repeat after the crash is known when the first was committed, answered or not", async () => {
    const { broker, pub } = await pair();
    pub.send(publish);
    const next = broker.crash();
    const again = await next.connect("pub");
    again.send({ ...publish, dup: true });
    await again.expect("pubrec", { packetId: 5 });
    const ann = await next.connect("ann");
    expect(payloadsOf(await ann.settle())).toEqual(["m"]);
    again.send({ type: "pubrel", packetId: 5 });
    await again.expect("pubcomp", { packetId: 5, reasonCode: 0 });
    again.send(publish); // the id is free: a new message
    await again.expect("pubrec", { packetId: 5 });
    expect(payloadsOf(await ann.settle())).toEqual(["m"]);
  });

  test("PUBREL after the crash completes, whether or not the first PUBREL was committed", async () => {
    for (const isCommitted of [false, true]) {
      const { broker, pub } = await pair();
      pub.send(publish);
      await pub.expect("pubrec");
      broker.commitsAtOnce = isCommitted;
      pub.send({ type: "pubrel", packetId: 5 });
      const next = broker.crash();
      const again = await next.connect("pub");
      again.send({ type: "pubrel", packetId: 5 });
      await again.expect("pubcomp", { packetId: 5, reasonCode: isCommitted ? 0x92 : 0 });
      expect(payloadsOf(await (await next.connect("ann")).settle())).toEqual(["m"]);
    }
  });
});

test("in flight first, in the order of sending, then what waits; packet ids go on", async () => {
  const broker = new DurableBroker();
  const ann = await broker.connect("ann", { receiveMax: 4 });
  await ann.subscribe("t", 1);
  await publishAll(broker, await source(broker), "t", numbered(10));
  await ann.take("publish", 2);
  ann.send({ type: "puback", packetId: 2 });
  broker.quiet();
  const next = broker.crash();
  const again = await next.connect("ann", { receiveMax: 20 });
  const packets = await again.settle();
  const ids = ["publish 1 dup", "publish 3 dup", "publish 4 dup", "publish 5 dup"];
  expect(shown(packets)).toEqual([...ids, ...[6, 7, 8, 9, 10].map((id) => `publish ${id}`)]);
  expect(payloadsOf(packets)).toEqual(numbered(10).filter((payload) => payload !== "m1"));
});

test("a queue survives several crashes with nobody there", async () => {
  let broker = new DurableBroker({ store: { pageCount: 4 } });
  await absent(broker, "ann");
  for (let round = 0; round < 5; round++) {
    const payloads = numbered(15).slice(round * 3, round * 3 + 3);
    await publishAll(broker, await source(broker), "t", payloads);
    broker = broker.crash();
    expect(broker.restored).toMatchObject({ messageCount: round * 3 + 3, damage: [] });
  }
  const ann = await broker.connect("ann", { autoAck: true });
  expect(payloadsOf(await ann.settle())).toEqual(numbered(15));
});

describe("subscriptions", () => {
  test("come back with their options and identifiers; what was unsubscribed does not", async () => {
    for (const isResting of [false, true]) {
      const broker = new DurableBroker();
      const ann = await broker.connect("ann");
      const one = { properties: [["subscriptionIdentifier", 7]] } as never;
      await ann.subscribe([{ filter: "a/+", qos: 2, retainAsPublished: true }], one);
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
    for (const [name, group] of [["ann", "g"], ["bob", "g"], ["cat", "h"]]) await absent(broker, name!, `$share/${group}/t`);
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
  async function keep(broker: DurableBroker, topic: string, payload: string, properties: Packet extends never ? never : [string, unknown][] = []): Promise<void> {
    const from = await source(broker);
    const options = { qos: 1, retain: true, properties: properties as never };
    await from.publish(topic, payload, options);
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
    await keep(broker, "a", "new", [["contentType", "text/plain"], ["userProperty", ["k", "v"]]]);
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
  const will = (delaySec = 0): { will: { topic: string; payload: string; qos: number; properties: never } } => ({
    will: { topic: "w", payload: "gone", qos: 1, properties: [["willDelayIntervalSec", delaySec]] as never },
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

test("a message's expiry is counted over the restart", async () => {
  const broker = new DurableBroker();
  await absent(broker, "ann");
  const from = await source(broker);
  await from.publish("t", "short", { qos: 1, properties: [["messageExpiryIntervalSec", 50]] });
  await from.publish("t", "long", { qos: 1, properties: [["messageExpiryIntervalSec", 500]] });
  broker.advance(40);
  const next = broker.crash();
  next.advance(20);
  const ann = await next.connect("ann");
  const [packet] = (await ann.settle()) as PublishPacket[];
  expect([payloadOf(packet!), prop(packet!, "messageExpiryIntervalSec")]).toEqual(["long", 440]);
});

test("clients that come while the store is restored wait, and get their session", async () => {
  const broker = new DurableBroker();
  await absent(broker, "ann");
  const held = broker.crash(undefined, { recoversLate: true });
  const ann = held.ask("ann");
  const fresh = held.ask("fresh", { expirySec: 0 });
  held.recover();
  await ann.expect("connack", { sessionPresent: true });
  await fresh.expect("connack", { sessionPresent: false });
});

test("everything has gone from memory when all sessions have ended", async () => {
  const broker = new DurableBroker({ store: { pageCount: 4 } });
  await absent(broker, "ann", "t", 2);
  await publishAll(broker, await source(broker), "t", numbered(20), 2);
  const ann = await broker.connect("ann", { receiveMax: 3 });
  await ann.expect("publish");
  const next = broker.crash();
  await next.connect("ann", { receiveMax: 3 });
  (await next.connect("ann", { cleanStart: true, expirySec: 0 })).kill();
  next.quiet();
  expect([next.engine.messages.count, next.engine.messages.bodyBytes, next.engine.delivery.idLists.count]).toEqual([0, 0, 0]);
  next.stop();
});
