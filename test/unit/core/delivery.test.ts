import { describe, expect, test } from "bun:test";
import type { LimitOverrides } from "#core/limits.ts";
import { DelayedStore } from "#test/support/delayed-ports.ts";
import { FakeSink, TestBroker } from "#test/support/test-broker.ts";

const MIB = 1024 * 1024;

/** A broker, and a client "a" that is subscribed to "t" at QoS 2 and has a session that stays. */
function withClient(limits: LimitOverrides = {}): { broker: TestBroker; sink: FakeSink } {
  const broker = new TestBroker({ limits });
  const sink = broker.open("a", { expirySec: 1000 });
  broker.subscribe(sink, "t", 2);
  return { broker, sink };
}

function reopen(broker: TestBroker, sink = new FakeSink()): FakeSink {
  return broker.open("a", { expirySec: 1000, sink });
}

describe("QoS 0", () => {
  test("goes out at once, without packet id", () => {
    const { broker, sink } = withClient();
    expect(broker.publish("t", "x")).toBe(1);
    expect(sink.got).toEqual([
      { topic: "t", payload: "x", qos: 0, isRetain: false, isDup: false, packetId: 0, ids: [] },
    ]);
  });

  test("is dropped for a slow subscriber, for an absent one, and where nobody is: each with its reason", () => {
    const { broker, sink } = withClient();
    sink.isWritable = false;
    expect(broker.publish("t", "slow")).toBe(0);
    broker.close(sink);
    expect(broker.publish("t", "absent")).toBe(0);
    const publisher = broker.open("p");
    expect(broker.publish("nobody", "nobody", { from: publisher })).toBe(0);
    expect(broker.drops).toEqual([
      { clientId: "a", reason: "slow_subscriber", payload: "slow" },
      { clientId: "a", reason: "absent", payload: "absent" },
      { clientId: undefined, reason: "no_subscriber", payload: "nobody" },
    ]);
    expect(broker.engine.metrics.get("messages.dropped.absent")).toBe(1);
  });

  test("waits for an absent subscriber with queueQos0, and comes in its place among the others", () => {
    const { broker, sink } = withClient({ session: { queueQos0: true } });
    broker.close(sink);
    broker.publish("t", "1");
    broker.publish("t", "2", { qos: 1 });
    broker.publish("t", "3");
    expect(reopen(broker).got.map(({ payload, qos }) => `${payload}:${qos}`)).toEqual(["1:0", "2:1", "3:0"]);
    expect(broker.engine.messages.count).toBe(1);
  });
});

describe("the window", () => {
  test("[MQTT-3.3.4-9] no more than it holds are out, the rest follows in order", () => {
    const { broker, sink } = withClient();
    sink.windowMax = 2;
    for (const payload of ["1", "2", "3", "4"]) broker.publish("t", payload, { qos: 1 });
    expect(sink.take()).toEqual(["1", "2"]);
    broker.engine.acknowledge(sink.session, 2, 0, 1);
    expect(sink.take()).toEqual(["3"]);
    broker.engine.acknowledge(sink.session, 1, 0, 1);
    broker.engine.acknowledge(sink.session, 3, 0, 1);
    expect(sink.take()).toEqual(["4"]);
  });

  test("PUBREC keeps the place, PUBCOMP frees it", () => {
    const { broker, sink } = withClient();
    sink.windowMax = 1;
    broker.publish("t", "1", { qos: 2 });
    broker.publish("t", "2", { qos: 2 });
    expect(broker.engine.receive(sink.session, 1)).toBe(true);
    expect(broker.engine.receive(sink.session, 1)).toBe(true);
    expect(sink.take()).toEqual(["1"]);
    expect(broker.engine.complete(sink.session, 1)).toBe(true);
    expect(broker.engine.complete(sink.session, 1)).toBe(false);
    expect(sink.take()).toEqual(["2"]);
  });

  test("an acknowledgement of the wrong kind, or of an unknown id, changes nothing", () => {
    const { broker, sink } = withClient();
    broker.publish("t", "1", { qos: 1 });
    broker.publish("t", "2", { qos: 2 });
    const { engine } = broker;
    expect([
      engine.acknowledge(sink.session, 2, 0, 1),
      engine.receive(sink.session, 1),
      engine.acknowledge(sink.session, 9, 0, 1),
      engine.complete(sink.session, 2),
    ]).toEqual([false, false, false, false]);
    expect(engine.sessions.queueOf(sink.session)!.inflight.count).toBe(2);
  });

  test("while the link is slow QoS 1 waits, and flows when it can take more", () => {
    const { broker, sink } = withClient();
    sink.isWritable = false;
    broker.publish("t", "1", { qos: 1 });
    expect(sink.take()).toEqual([]);
    sink.isWritable = true;
    broker.publish("t", "2", { qos: 1 });
    expect(sink.take()).toEqual([]);
    broker.engine.resumeDelivery(sink.session);
    expect(sink.take()).toEqual(["1", "2"]);
  });

  test("a message too large for the client is dropped, and its place is free", () => {
    const { broker, sink } = withClient();
    sink.payloadBytesMax = 3;
    sink.windowMax = 1;
    expect([broker.publish("t", "large", { qos: 1 }), broker.publish("t", "large")]).toEqual([0, 0]);
    expect(broker.publish("t", "ok", { qos: 1 })).toBe(1);
    broker.publish("t", "larger", { qos: 1 });
    broker.publish("t", "end", { qos: 1 });
    broker.ackAll(sink);
    expect(sink.take()).toEqual(["ok", "end"]);
    expect(broker.takeDrops()).toEqual(["packet_too_large", "packet_too_large", "packet_too_large"]);
    broker.engine.acknowledge(sink.session, sink.got.at(-1)?.packetId ?? 3, 0, 1);
  });
});

describe("a new connection", () => {
  test("[MQTT-4.4.0-1] PUBREL first, then PUBLISH again with DUP and the same ids, then what waited", () => {
    const { broker, sink } = withClient();
    sink.windowMax = 3;
    for (const payload of ["1", "2", "3", "4"]) broker.publish("t", payload, { qos: 2 });
    broker.engine.receive(sink.session, 2);
    broker.close(sink);
    broker.publish("t", "5", { qos: 1 });
    const again = new FakeSink();
    again.windowMax = 3;
    reopen(broker, again);
    expect(again.released).toEqual([2]);
    expect(again.got.map(({ payload, packetId, isDup }) => [payload, packetId, isDup])).toEqual([
      ["1", 1, true],
      ["3", 3, true],
    ]);
    again.take();
    broker.engine.complete(again.session, 2);
    expect(again.got.map(({ payload, isDup }) => [payload, isDup])).toEqual([["4", false]]);
    broker.engine.receive(again.session, 1);
    broker.engine.complete(again.session, 1);
    expect(again.got.map(({ payload, qos }) => [payload, qos])).toEqual([
      ["4", 2],
      ["5", 1],
    ]);
  });

  test("with a smaller window gets the rest as it acknowledges", () => {
    const { broker, sink } = withClient();
    for (const payload of ["1", "2", "3"]) broker.publish("t", payload, { qos: 1 });
    broker.close(sink);
    const again = new FakeSink();
    again.windowMax = 1;
    reopen(broker, again);
    const seen: string[] = [];
    for (let next = again.got.shift(); next; next = again.got.shift()) {
      seen.push(next.payload);
      broker.engine.acknowledge(again.session, next.packetId, 0, 1);
    }
    expect(seen).toEqual(["1", "2", "3"]);
  });

  test("[MQTT-3.1.2-25] that takes only smaller packets: what is too large now is done with and holds no place", () => {
    const { broker, sink } = withClient();
    broker.publish("t", "too large by now", { qos: 1 });
    broker.close(sink);
    broker.publish("t", "ok", { qos: 1 });
    const again = new FakeSink();
    again.payloadBytesMax = 5;
    again.windowMax = 1;
    reopen(broker, again);
    expect(again.take()).toEqual(["ok"]);
    expect(broker.takeDrops()).toEqual(["packet_too_large"]);
  });
});

describe("a full outbox", () => {
  const fill = (broker: TestBroker, sink: FakeSink, count: number): void => {
    sink.windowMax = 0;
    for (let i = 1; i <= count; i++) broker.publish("t", `${i}`, { qos: 1 });
    sink.windowMax = 100;
    broker.engine.resumeDelivery(sink.session);
  };

  test("oldest: the oldest gives way", () => {
    const { broker, sink } = withClient({ session: { outboxCountMax: 3 } });
    fill(broker, sink, 5);
    expect(sink.take()).toEqual(["3", "4", "5"]);
    expect(broker.drops.map(({ reason, payload }) => `${reason} ${payload}`)).toEqual(["queue_full 1", "queue_full 2"]);
    expect(broker.engine.sessions.queueOf(sink.session)!.droppedCount).toBe(2);
  });

  test("newest: the new one is dropped", () => {
    const { broker, sink } = withClient({ session: { outboxCountMax: 3, dropPolicy: "newest" } });
    fill(broker, sink, 5);
    expect(sink.take()).toEqual(["1", "2", "3"]);
    expect(broker.takeDrops()).toEqual(["queue_full", "queue_full"]);
  });

  test("disconnect: the client is told 0x97, in the next turn", () => {
    const { broker, sink } = withClient({ session: { outboxCountMax: 1, dropPolicy: "disconnect" } });
    sink.windowMax = 0;
    broker.publish("t", "1", { qos: 1 });
    broker.publish("t", "2", { qos: 1 });
    expect([sink.endedWith, broker.workCount]).toEqual([undefined, 1]);
    broker.engine.turn();
    expect([sink.endedWith, broker.takeDrops()]).toEqual([0x97, ["queue_full"]]);
  });

  test("disconnect: a client that has come back meanwhile is left alone", () => {
    const { broker, sink } = withClient({ session: { outboxCountMax: 1, dropPolicy: "disconnect" } });
    sink.windowMax = 0;
    broker.publish("t", "1", { qos: 1 });
    broker.publish("t", "2", { qos: 1 });
    const again = reopen(broker);
    broker.engine.turn();
    expect(again.endedWith).toBeUndefined();
  });

  test("by bytes: as many of the oldest as make room, and one that never fits drops itself", () => {
    const { broker, sink } = withClient({ session: { outboxBytesMax: 100 } });
    sink.windowMax = 0;
    for (const payload of ["a".repeat(40), "b".repeat(40), "c".repeat(60), "d".repeat(200)]) {
      broker.publish("t", payload, { qos: 1 });
    }
    expect(broker.drops.map(({ payload }) => payload[0])).toEqual(["a", "b", "c", "d"]);
    expect(broker.engine.sessions.queueOf(sink.session)!.outbox.bytes).toBe(0);
    expect(broker.engine.messages.count).toBe(0);
  });
});

describe("memory", () => {
  const tight: LimitOverrides = { messages: { bytesMax: MIB } };

  test("when messages.bytesMax is reached QoS 1 is dropped as memory_full, QoS 0 flows", () => {
    const { broker, sink } = withClient(tight);
    sink.windowMax = 0;
    const large = "x".repeat(300_000);
    for (let i = 0; i < 5; i++) broker.publish("t", large, { qos: 1 });
    expect(broker.takeDrops()).toEqual(["memory_full", "memory_full"]);
    expect(broker.publish("t", "small")).toBe(1);
    sink.windowMax = 9;
    broker.engine.resumeDelivery(sink.session);
    broker.ackAll(sink);
    expect(broker.publish("t", large, { qos: 1 })).toBe(1);
  });

  test("is for bodies: client ids, filters and remembered topics do not use it up", () => {
    const broker = new TestBroker({ limits: tight });
    const sink = broker.open("a", { expirySec: 1000 });
    for (let i = 0; i < 300; i++) broker.subscribe(sink, `${i}/${"x".repeat(4000)}`, 1);
    broker.close(sink);
    expect(broker.publish(`7/${"x".repeat(4000)}`, "body", { qos: 1 })).toBe(1);
    expect(broker.takeDrops()).toEqual([]);
  });

  test("one body for all subscribers, gone when the last has acknowledged", () => {
    const broker = new TestBroker();
    const sinks = Array.from({ length: 10 }, (_, i) => broker.open(`c${i}`));
    for (const sink of sinks) broker.subscribe(sink, "t", 1);
    const before = broker.engine.pool.usedBytes;
    broker.publish("t", "x".repeat(10_000), { qos: 1 });
    expect(broker.engine.messages.count).toBe(1);
    expect(broker.engine.pool.usedBytes - before).toBeLessThan(13_000);
    for (const sink of sinks) broker.ackAll(sink);
    expect(broker.engine.messages.count).toBe(0);
  });
});

describe("expiry", () => {
  test("[MQTT-3.3.2-5] what waits too long is dropped when its turn comes", () => {
    const { broker, sink } = withClient();
    broker.close(sink);
    broker.publish("t", "short", { qos: 1, expiryAtSec: broker.engine.nowSec + 5 });
    broker.publish("t", "long", { qos: 1, expiryAtSec: broker.engine.nowSec + 50 });
    broker.advance(10);
    expect(reopen(broker).take()).toEqual(["long"]);
    expect(broker.takeDrops()).toEqual(["expired"]);
  });
});

describe("3.x by configuration", () => {
  test("what stays unacknowledged is sent again on the same connection, not before its time", () => {
    const { broker, sink } = withClient({ mqtt: { retrySec: 10 } });
    broker.publish("t", "1", { qos: 1 });
    broker.advance(9);
    expect(sink.take()).toEqual(["1"]);
    broker.advance(11.5);
    expect(sink.got.map(({ payload, isDup }) => [payload, isDup])).toEqual([["1", true]]);
    broker.engine.acknowledge(sink.session, 1, 0, 1);
    sink.take();
    broker.advance(60);
    expect(sink.take()).toEqual([]);
  });

  test("not to a client that forbids it", () => {
    const broker = new TestBroker({ limits: { mqtt: { retrySec: 10 } } });
    const sink = new FakeSink();
    sink.isRetryAllowed = false;
    broker.open("a", { sink });
    broker.subscribe(sink, "t", 1);
    broker.publish("t", "1", { qos: 1 });
    broker.advance(60);
    expect(sink.take()).toEqual(["1"]);
  });
});

test("a message that its only subscriber loses is counted once, for the reason why", () => {
  const broker = new TestBroker();
  const publisher = broker.open("p");
  const sink = broker.open("slow");
  broker.subscribe(sink, "t");
  sink.isWritable = false;
  broker.publish("t", "lost", { from: publisher });
  expect(broker.takeDrops()).toEqual(["slow_subscriber"]);
  broker.publish("unwanted", "x", { from: publisher });
  expect(broker.takeDrops()).toEqual(["no_subscriber"]);
});

describe("a stored session, while the store is slow", () => {
  const stored = (limits: LimitOverrides = {}): { broker: TestBroker; sink: FakeSink; store: DelayedStore } => {
    const store = new DelayedStore();
    const broker = new TestBroker({ limits, store });
    const sink = broker.open("a", { expirySec: 1000 });
    broker.subscribe(sink, "t", 2);
    store.commit();
    return { broker, sink, store };
  };

  test("QoS 1 leaves at once, QoS 2 when message and packet id are safe, and what comes behind it keeps its place", () => {
    const { broker, sink, store } = stored();
    broker.publish("t", "1", { qos: 1 });
    expect(sink.take()).toEqual(["1"]);
    for (const [payload, qos] of [
      ["2", 2],
      ["3", 1],
      ["4", 2],
    ] as const) {
      broker.publish("t", payload, { qos });
    }
    expect(sink.take()).toEqual([]);
    store.commit(store.log.findIndex(({ packetId }) => packetId === 2) + 1);
    expect(sink.got.map(({ payload, packetId, isDup }) => [payload, packetId, isDup])).toEqual([
      ["2", 2, false],
      ["3", 3, false],
    ]);
    store.commit();
    expect(sink.take()).toEqual(["2", "3", "4"]);
    expect(broker.engine.metrics.get("messages.qos2.sent")).toBe(2);
  });

  test("QoS 0 passes what is held, and a session that is not stored waits for nothing", () => {
    const { broker, sink } = stored();
    const plain = broker.open("b");
    broker.subscribe(plain, "t", 2);
    broker.publish("t", "held", { qos: 2 });
    broker.publish("t", "0");
    expect([sink.take(), plain.take()]).toEqual([["0"], ["held", "0"]]);
  });

  test("[MQTT-3.3.4-9] what is held takes up the window", () => {
    const { broker, sink, store } = stored();
    sink.windowMax = 2;
    for (const payload of ["1", "2", "3", "4"]) broker.publish("t", payload, { qos: 2 });
    store.commit();
    expect(sink.take()).toEqual(["1", "2"]);
    broker.engine.receive(sink.session, 1);
    broker.engine.complete(sink.session, 1);
    expect(sink.take()).toEqual([]);
    store.commit();
    expect(sink.take()).toEqual(["3"]);
  });

  test("[MQTT-3.3.2-5] what expires while it is held is dropped, and its packet id is free", () => {
    const { broker, sink, store } = stored();
    broker.publish("t", "short", { qos: 2, expiryAtSec: broker.engine.nowSec + 5 });
    broker.publish("t", "long", { qos: 2 });
    broker.advance(6);
    store.commit();
    expect([sink.take(), broker.takeDrops()]).toEqual([["long"], ["expired"]]);
    expect(broker.engine.acknowledge(sink.session, 1, 0, 2)).toBe(false);
  });

  test("what is too large for the client is dropped when its turn comes, and the next follows", () => {
    const { broker, sink, store } = stored();
    sink.payloadBytesMax = 3;
    broker.publish("t", "large", { qos: 2 });
    broker.publish("t", "ok", { qos: 2 });
    store.commit();
    expect([sink.take(), broker.takeDrops()]).toEqual([["ok"], ["packet_too_large"]]);
  });

  test("several retained messages at QoS 2 follow each other commit by commit, without the client's help", () => {
    const { broker, sink, store } = stored();
    for (const topic of ["r/1", "r/2", "r/3"]) broker.publish(topic, topic, { qos: 2, isRetain: true });
    broker.subscribe(sink, "r/+", 2);
    for (let i = 0; i < 4; i++) store.commit();
    expect(sink.take().sort()).toEqual(["r/1", "r/2", "r/3"]);
  });

  test("a link that is lost before the commit: the next gets it with the same id and without DUP", () => {
    const { broker, sink, store } = stored();
    broker.publish("t", "1", { qos: 2 });
    broker.close(sink);
    store.commit();
    expect(sink.take()).toEqual([]);
    const again = reopen(broker);
    expect(again.got.map(({ payload, packetId, isDup }) => [payload, packetId, isDup])).toEqual([["1", 1, false]]);
  });
});
