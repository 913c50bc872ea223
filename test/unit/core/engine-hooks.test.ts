import { describe, expect, test } from "bun:test";
import { DelayedStore } from "#test/support/delayed-ports.ts";
import { type FakeSink, TestBroker, viewOf } from "#test/support/test-broker.ts";

function withSubscriber(filter = "#"): { broker: TestBroker; sink: FakeSink } {
  const broker = new TestBroker();
  const sink = broker.open("a");
  broker.subscribe(sink, filter, 2);
  return { broker, sink };
}

describe("a publish hook", () => {
  test("changes topic, payload, QoS and retain flag before anybody is looked for", () => {
    const { broker, sink } = withSubscriber("new/+");
    broker.engine.hooks.messagePublish.add((message) => {
      expect(message.publisher).toBeUndefined();
      message.topic = `new/${message.topic}`;
      message.payload = Buffer.from(`${message.payload}!`);
      message.qos = 1;
      message.isRetain = true;
    });
    expect(broker.publish("t", "x")).toBe(1);
    expect(sink.got).toMatchObject([{ topic: "new/t", payload: "x!", qos: 1, isRetain: false }]);
    const late = broker.open("late");
    broker.subscribe(late, "#");
    expect(late.take()).toEqual(["x!"]);
  });

  test("owns the payload: what it writes into it counts", () => {
    const { broker, sink } = withSubscriber();
    broker.engine.hooks.messagePublish.add(({ payload }) => void payload.write("XX"));
    broker.publish("t", "secret");
    expect(sink.take()).toEqual(["XXcret"]);
  });

  test("that answers false stops it: counted, kept from all, and not retained", () => {
    const { broker, sink } = withSubscriber();
    broker.engine.hooks.messagePublish.add(({ topic }) => topic !== "secret");
    expect(broker.publish("secret", "x", { isRetain: true })).toBe(0);
    expect(broker.publish("t", "y")).toBe(1);
    expect([sink.take(), broker.takeDrops()]).toEqual([["y"], ["stopped_by_hook"]]);
    expect(broker.engine.retainedIndex.count).toBe(0);
  });

  test("that publishes itself: its message goes out before", () => {
    const { broker, sink } = withSubscriber();
    broker.engine.hooks.messagePublish.add(({ topic }) => {
      if (topic === "t") broker.engine.publishText("copy", Buffer.from("copy"));
    });
    broker.publish("t", "original");
    expect(sink.take()).toEqual(["copy", "original"]);
  });
});

describe("a hook that publishes while a message is routed", () => {
  test("has its message go out in the next turn, to all", () => {
    const { broker, sink } = withSubscriber();
    const other = broker.open("b");
    broker.subscribe(other, "#");
    broker.engine.hooks.messageDelivered.add((clientId, { topic }) => {
      if (topic === "t") broker.engine.publishText("echo", Buffer.from(`echo to ${clientId}`), { qos: 1 });
    });
    broker.publish("t", "x");
    expect([sink.take(), other.take(), broker.workCount]).toEqual([["x"], ["x"], 1]);
    broker.engine.turn();
    const echoes = ["echo to b", "echo to a"].toSorted();
    expect([sink.take().toSorted(), other.take().toSorted()]).toEqual([echoes, echoes]);
    broker.ackAll(sink);
  });

  test("does not make the publish hooks run twice for its message", () => {
    const { broker } = withSubscriber();
    const published: string[] = [];
    broker.engine.hooks.messagePublish.add((message) => {
      published.push(message.topic);
      message.topic = `${message.topic}+`.replaceAll("+", "x");
    });
    let isFirst = true;
    broker.engine.hooks.messageDelivered.add(() => {
      if (isFirst) broker.engine.publishText("echo", Buffer.from("y"));
      isFirst = false;
    });
    broker.publish("t", "x");
    broker.engine.turn();
    expect(published).toEqual(["t", "echo"]);
  });

  test("does not let the acknowledgement of the routed message go early", () => {
    const broker = new TestBroker({ store: new DelayedStore() });
    for (const [clientId, expirySec, qos] of [
      ["here", 0, 0],
      ["away", 100, 1],
      ["here too", 0, 0],
    ] as const) {
      const sink = broker.open(clientId, { expirySec });
      broker.subscribe(sink, "t", qos);
      if (clientId === "away") broker.close(sink);
    }
    broker.publish("t", "x", { qos: 1 });
    expect(broker.engine.storeSeq).toBeGreaterThan(0);
    broker.engine.hooks.messageDelivered.add((_clientId, { topic }) => {
      if (topic === "t") broker.engine.publishText("echo", Buffer.from("y"));
    });
    broker.publish("t", "x", { qos: 1 });
    expect(broker.engine.storeSeq).toBeGreaterThan(0);
  });

  test("of a message that a leaving member of a share group hands on: the next member gets that one", () => {
    const broker = new TestBroker({ limits: { shared: { strategy: "sticky" } } });
    const [leaver, small, large, watcher] = ["leaver", "small", "large", "watcher"].map((id) =>
      broker.open(id, { expirySec: 100 }),
    ) as [FakeSink, FakeSink, FakeSink, FakeSink];
    broker.subscribe(leaver, "$share/g/t", 1);
    broker.publish("t", "handed on", { qos: 1 });
    broker.subscribe(small, "$share/g/t", 1);
    broker.subscribe(large, "$share/g/t", 1);
    broker.subscribe(watcher, "echo", 1);
    small.payloadBytesMax = 1;
    broker.engine.hooks.messageDropped.add((clientId) => {
      if (clientId === "small") broker.engine.publishText("echo", Buffer.from("echo"), { qos: 1 });
    });
    broker.engine.sessions.expirySec[leaver.session] = 0;
    broker.close(leaver);
    broker.close(large);
    expect(broker.open("large", { expirySec: 100 }).take()).toEqual(["handed on"]);
  });
});

test("the drop hook hears who lost what and why, and of nobody when nobody was to get it", () => {
  const { broker, sink } = withSubscriber("t");
  const publisher = broker.open("p");
  broker.engine.dropUnrouted("not_authorized", viewOf("u", "z"));
  sink.isWritable = false;
  broker.publish("t", "x");
  broker.publish("u", "y", { from: publisher });
  expect(broker.drops.map(({ clientId, reason }) => [clientId, reason])).toEqual([
    [undefined, "not_authorized"],
    ["a", "slow_subscriber"],
    [undefined, "no_subscriber"],
  ]);
});
