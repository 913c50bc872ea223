import { describe, expect, test } from "bun:test";
import { NO_LOCAL, RETAIN_AS_PUBLISHED } from "#core/topic-index.ts";
import { type FakeSink, TestBroker } from "#test/support/test-broker.ts";

function one(sink: FakeSink): FakeSink["got"][number] {
  expect(sink.got).toHaveLength(1);
  return sink.got.shift()!;
}

describe("overlapping subscriptions of one session", () => {
  test("[MQTT-3.3.4-2] [MQTT-3.3.4-4] one copy at the highest QoS with all identifiers", () => {
    const broker = new TestBroker();
    const sink = broker.open("a");
    broker.subscribe(sink, "s/1", 0, 7);
    broker.subscribe(sink, "s/+", 2, 300);
    broker.subscribe(sink, "#", 1);
    expect(broker.publish("s/1", "x", { qos: 2 })).toBe(1);
    const { qos, ids } = one(sink);
    expect([qos, ids.toSorted((a, b) => a - b)]).toEqual([2, [7, 300]]);
  });

  test("more identifiers than the view had room for, and waiting messages keep theirs", () => {
    const broker = new TestBroker();
    const sink = broker.open("a", { expirySec: 100 });
    const filters = ["a/b/c/d/e", "#", "+/#", "a/#", "a/+/#", "a/b/#", "a/b/+/#", "a/b/c/#", "a/b/c/+/#", "a/b/c/d/#"];
    filters.push("+/b/#", "+/+/c/#", "+/+/+/d/#", "+/b/c/d/e", "a/+/c/d/e", "a/b/+/d/e", "a/b/c/+/e", "a/b/c/d/+");
    filters.forEach((filter, i) => broker.subscribe(sink, filter, 1, i + 1));
    broker.close(sink);
    broker.publish("a/b/c/d/e", "x", { qos: 1 });
    const again = broker.open("a", { expirySec: 100 });
    expect(one(again).ids.toSorted((a, b) => a - b)).toEqual(filters.map((_, i) => i + 1));
    expect(broker.engine.delivery.idLists.count).toBe(1);
    broker.engine.acknowledge(again.session, 1, 0, 1);
    expect(broker.engine.delivery.idLists.count).toBe(0);
  });

  test("retain as published of any of them keeps the flag", () => {
    const broker = new TestBroker();
    const sink = broker.open("a");
    broker.subscribe(sink, "t");
    broker.publish("t", "x", { isRetain: true });
    expect(one(sink).isRetain).toBe(false);
    broker.subscribe(sink, "#", RETAIN_AS_PUBLISHED | 0x20);
    broker.publish("t", "y", { isRetain: true });
    expect(one(sink).isRetain).toBe(true);
  });
});

describe("[MQTT-3.8.3-3] no local", () => {
  test("keeps a client's own messages from it and nobody else's", () => {
    const broker = new TestBroker();
    const [a, b] = [broker.open("a"), broker.open("b")];
    for (const sink of [a, b]) broker.subscribe(sink, "t", NO_LOCAL);
    expect(broker.publish("t", "from a", { from: a })).toBe(1);
    expect([a.take(), b.take()]).toEqual([[], ["from a"]]);
  });

  test("of one of two overlapping filters: the other delivers, by its own QoS and identifier", () => {
    const broker = new TestBroker();
    const sink = broker.open("a");
    broker.subscribe(sink, "t", NO_LOCAL | 2, 5);
    broker.subscribe(sink, "#", 1, 6);
    broker.publish("t", "own", { qos: 2, from: sink });
    expect(one(sink)).toMatchObject({ qos: 1, ids: [6] });
    broker.publish("t", "other", { qos: 2 });
    expect(one(sink)).toMatchObject({ qos: 2 });
  });

  test("of all overlapping filters: nothing comes", () => {
    const broker = new TestBroker();
    const sink = broker.open("a");
    broker.subscribe(sink, "t", NO_LOCAL, 5);
    broker.subscribe(sink, "#", NO_LOCAL, 6);
    expect([broker.publish("t", "own", { from: sink }), sink.take()]).toEqual([0, []]);
  });

  test("holds for retained messages too, also after the publisher has come back", () => {
    const broker = new TestBroker();
    const first = broker.open("a");
    broker.publish("t", "own", { isRetain: true, from: first });
    broker.close(first);
    const again = broker.open("a");
    broker.subscribe(again, "t", NO_LOCAL);
    expect(again.take()).toEqual([]);
    broker.subscribe(again, "t");
    expect(again.take()).toEqual(["own"]);
  });
});

describe("retained messages", () => {
  const withTopics = (count: number, limits = {}): TestBroker => {
    const broker = new TestBroker({ limits });
    for (let i = 0; i < count; i++) broker.publish(`r/${i}`, `${i}`, { isRetain: true, qos: 1 });
    return broker;
  };

  test("[MQTT-3.3.1-8] come with the flag, at the lower QoS, with the identifier, without counting as received twice", () => {
    const broker = withTopics(1);
    const sink = broker.open("a");
    broker.subscribe(sink, "r/#", 0, 9);
    expect(one(sink)).toEqual({
      topic: "r/0",
      payload: "0",
      qos: 0,
      isRetain: true,
      isDup: false,
      packetId: 0,
      ids: [9],
    });
  });

  test.each([
    [0x00, ["0"], ["0"]],
    [0x10, ["0"], []],
    [0x20, [], []],
  ])("[MQTT-3.3.1-9] [MQTT-3.3.1-10] [MQTT-3.3.1-11] handling 0x%i", (options, first, second) => {
    const broker = withTopics(1);
    const sink = broker.open("a");
    broker.subscribe(sink, "r/#", options);
    expect(sink.take()).toEqual(first);
    broker.subscribe(sink, "r/#", options);
    expect(sink.take()).toEqual(second);
  });

  test("are not for share groups", () => {
    const broker = withTopics(1);
    const sink = broker.open("a");
    broker.subscribe(sink, "$share/g/r/#");
    expect(sink.take()).toEqual([]);
  });

  test("come in several turns when they are many, and live messages come between", () => {
    const broker = withTopics(25, { retained: { replayBatch: 10 } });
    const sink = broker.open("a");
    broker.subscribe(sink, "r/#");
    expect([sink.got.length, broker.workCount]).toEqual([10, 1]);
    broker.publish("r/live", "live");
    expect(sink.got.at(-1)!.payload).toBe("live");
    broker.engine.turn();
    expect(sink.got.length).toBe(21);
    broker.engine.turn();
    broker.engine.turn();
    const replayed = sink.take().filter((payload) => payload !== "live");
    expect(replayed.map(Number).toSorted((a, b) => a - b)).toEqual(Array.from({ length: 25 }, (_, i) => i));
  });

  test("an old value does not follow the new one that came live", () => {
    const broker = withTopics(25, { retained: { replayBatch: 10 } });
    const sink = broker.open("a");
    broker.subscribe(sink, "r/#");
    const later = Array.from({ length: 25 }, (_, i) => `${i}`).filter(
      (i) => !sink.got.some(({ payload }) => payload === i),
    );
    broker.publish(`r/${later[0]}`, "new", { isRetain: true });
    broker.engine.turn();
    broker.engine.turn();
    broker.engine.turn();
    const ofTopic = sink.got.filter(({ topic }) => topic === `r/${later[0]}`).map(({ payload }) => payload);
    expect(ofTopic).toEqual(["new"]);
  });

  test("follow the window and the link, not a storm", () => {
    const broker = withTopics(30);
    const sink = broker.open("a");
    sink.windowMax = 5;
    broker.subscribe(sink, "r/#", 1);
    expect(sink.got.length).toBe(5);
    expect(broker.engine.messages.count).toBeLessThanOrEqual(30 + 5 + 1);
    for (let i = 0; i < 10; i++) broker.engine.acknowledge(sink.session, sink.got[i]!.packetId, 0, 1);
    expect(sink.got.length).toBe(15);
    sink.isWritable = false;
    for (let i = 10; i < 15; i++) broker.engine.acknowledge(sink.session, sink.got[i]!.packetId, 0, 1);
    expect(sink.got.length).toBe(15);
    sink.isWritable = true;
    sink.windowMax = 100;
    broker.engine.resumeDelivery(sink.session);
    expect(new Set(sink.take()).size).toBe(30);
  });

  test("stop with the subscription, and go on with the session's next connection", () => {
    const broker = withTopics(30, { retained: { replayBatch: 10 } });
    const sink = broker.open("a", { expirySec: 100 });
    broker.subscribe(sink, "r/#");
    broker.close(sink);
    broker.engine.turn();
    const again = broker.open("a", { expirySec: 100 });
    expect([sink.got.length, again.got.length]).toEqual([10, 10]);
    broker.unsubscribe(again, "r/#");
    broker.engine.turn();
    broker.engine.turn();
    expect(again.got.length).toBe(10);
  });

  test("expire by their own time or the configured one, and leave no timer when replaced or removed", () => {
    const broker = new TestBroker({ limits: { retained: { expirySec: 100 } } });
    const { engine } = broker;
    broker.publish("own", "own", { isRetain: true, expiryAtSec: engine.nowSec + 10 });
    broker.publish("configured", "configured", { isRetain: true });
    broker.publish("replaced", "old", { isRetain: true, expiryAtSec: engine.nowSec + 10 });
    broker.publish("replaced", "new", { isRetain: true });
    broker.publish("removed", "removed", { isRetain: true });
    broker.publish("removed", "", { isRetain: true });
    expect(engine.timers.count).toBe(3);
    broker.advance(11);
    const sink = broker.open("a");
    broker.subscribe(sink, "#");
    expect(sink.take().toSorted()).toEqual(["configured", "new"]);
    broker.advance(100);
    expect([engine.retainedIndex.count, engine.timers.count, engine.messages.count]).toEqual([0, 0, 0]);
  });

  test("beyond a limit are routed but not kept, and the old value goes", () => {
    const limits = { retained: { countMax: 2, payloadBytesMax: 5 } };
    const broker = new TestBroker({ limits });
    const sink = broker.open("a");
    broker.subscribe(sink, "#");
    broker.publish("1", "a", { isRetain: true });
    broker.publish("2", "b", { isRetain: true });
    broker.publish("3", "c", { isRetain: true });
    broker.publish("2", "too large", { isRetain: true });
    expect(sink.take()).toEqual(["a", "b", "c", "too large"]);
    const late = broker.open("b");
    broker.subscribe(late, "#");
    expect(late.take()).toEqual(["a"]);
    const { metrics } = broker.engine;
    expect([metrics.get("retained.refused.retained_full"), metrics.get("retained.refused.retained_too_large")]).toEqual(
      [1, 1],
    );
  });
});

describe("subscribe and unsubscribe", () => {
  test("codes: what is granted, invalid, over the limit, and not there", () => {
    const broker = new TestBroker({ limits: { session: { subscriptionCountMax: 2 }, mqtt: { qosMax: 1 } } });
    const sink = broker.open("a");
    expect([
      broker.subscribe(sink, "a", 2),
      broker.subscribe(sink, "a/#/b"),
      broker.subscribe(sink, "$share/g"),
      broker.subscribe(sink, "$share/g/"),
      broker.subscribe(sink, "$share/g/b", 1),
      broker.subscribe(sink, "c"),
      broker.subscribe(sink, "a", 0),
      broker.unsubscribe(sink, "x"),
      broker.unsubscribe(sink, "$share/other/b"),
      broker.unsubscribe(sink, "a#"),
      broker.unsubscribe(sink, "$share/g/b"),
      broker.subscribe(sink, "c"),
    ]).toEqual([1, 0x8f, 0x8f, 0x8f, 1, 0x97, 0, 0x11, 0x11, 0x8f, 0, 0]);
  });

  test("[MQTT-3.8.4-3] the same filter again replaces options and identifier", () => {
    const broker = new TestBroker();
    const sink = broker.open("a");
    broker.subscribe(sink, "t", 0, 5);
    broker.subscribe(sink, "t", 1, 6);
    broker.publish("t", "x", { qos: 2 });
    expect(one(sink)).toMatchObject({ qos: 1, ids: [6] });
    broker.unsubscribe(sink, "t");
    expect(broker.publish("t", "y")).toBe(0);
  });
});
