import { describe, expect, test } from "bun:test";
import { FakeSink, TestBroker } from "#test/support/test-broker.ts";

/** Sessions, subscriptions, messages, timers and blocks in use. */
function held(broker: TestBroker): number[] {
  const { sessions, index, messages, timers, retainedIndex } = broker.engine;
  return [sessions.count, index.subscriptionCount, messages.count, timers.count, retainedIndex.count];
}

describe("a session", () => {
  test("with expiry 0 ends with its connection and leaves nothing", () => {
    const broker = new TestBroker();
    const sink = broker.open("a");
    for (const filter of ["a", "b/+", "$share/g/c"]) broker.subscribe(sink, filter, 2);
    sink.windowMax = 1;
    for (const topic of ["a", "b/1", "c"]) broker.publish(topic, topic, { qos: 1 });
    broker.engine.addReceipt(sink.session, 5);
    broker.close(sink);
    expect(held(broker)).toEqual([0, 0, 0, 0, 0]);
    expect(broker.takeDrops()).toEqual(["session_ended", "session_ended", "session_ended"]);
    expect(broker.open("a").isPresent).toBe(false);
  });

  test("with thousands of messages leaves them turn by turn, each dropped in its name", () => {
    const broker = new TestBroker();
    const sink = broker.open("a", { expirySec: 10 });
    broker.subscribe(sink, "t", 1);
    broker.close(sink);
    for (let i = 0; i < 5000; i++) broker.publish("t", `${i}`, { qos: 1 });
    broker.close(broker.open("a", { isCleanStart: true }));
    const left = [broker.engine.messages.count];
    for (let turn = 0; turn < 3; turn++) {
      broker.engine.turn();
      left.push(broker.engine.messages.count);
    }
    expect(left).toEqual([3000, 1000, 0, 0]);
    expect(held(broker)).toEqual([0, 0, 0, 0, 0]);
    expect(broker.drops.map(({ payload }) => payload)).toEqual(Array.from({ length: 5000 }, (_, i) => `${i}`));
    expect(broker.drops.every(({ clientId, reason }) => clientId === "a" && reason === "session_ended")).toBe(true);
  });

  test("with an expiry is there until it is over, and not a moment shorter", () => {
    const broker = new TestBroker();
    const sink = broker.open("a", { expirySec: 10 });
    broker.subscribe(sink, "t", 1);
    broker.close(sink);
    broker.advance(9.9);
    const again = broker.open("a", { expirySec: 10 });
    expect([again.isPresent, broker.publish("t", "x")]).toEqual([true, 1]);
    broker.advance(60);
    expect(broker.engine.sessions.count).toBe(1);
    broker.close(again);
    broker.advance(10.2);
    expect(held(broker)).toEqual([0, 0, 0, 0, 0]);
    expect(broker.engine.metrics.get("sessions.expired")).toBe(1);
  });

  test("for ever has no timer, and a configured maximum shortens it", () => {
    const broker = new TestBroker();
    broker.close(broker.open("a", { expirySec: 0xffff_ffff }));
    expect(broker.engine.timers.count).toBe(0);
    const short = new TestBroker({ limits: { session: { expirySecMax: 5 } } });
    short.close(short.open("a", { expirySec: 0xffff_ffff }));
    short.advance(6);
    expect(short.engine.sessions.count).toBe(0);
  });

  test("[MQTT-3.1.2-4] is replaced by a clean start, with all it held", () => {
    const broker = new TestBroker();
    const sink = broker.open("a", { expirySec: 100 });
    broker.subscribe(sink, "t", 1);
    broker.publish("t", "x", { qos: 1 });
    broker.close(sink);
    const again = broker.open("a", { isCleanStart: true });
    expect([again.isPresent, again.take(), broker.publish("t", "y")]).toEqual([false, [], 0]);
    broker.close(again);
    expect(held(broker)).toEqual([0, 0, 0, 0, 0]);
  });

  test("[MQTT-3.1.4-3] is taken over: the old connection is told 0x8E and gets nothing more", () => {
    const broker = new TestBroker();
    const first = broker.open("a", { expirySec: 100 });
    broker.subscribe(first, "t", 1);
    broker.publish("t", "1", { qos: 1 });
    const second = broker.open("a", { expirySec: 100 });
    broker.publish("t", "2", { qos: 1 });
    expect([first.endedWith, first.take(), second.take()]).toEqual([0x8e, ["1"], ["1", "2"]]);
    expect([second.isPresent, broker.engine.sessions.count]).toEqual([true, 1]);
  });

  test("finds no room beyond session.countMax, but an existing one is still resumed", () => {
    const broker = new TestBroker({ limits: { session: { countMax: 2 } } });
    broker.open("a", { expirySec: 100 });
    const b = broker.open("b", { expirySec: 100 });
    expect(broker.open("c").session).toBe(-1);
    broker.close(b);
    expect([broker.open("c").session, broker.open("b", { expirySec: 100 }).isPresent]).toEqual([-1, true]);
    expect(broker.open("a", { isCleanStart: true }).session).toBeGreaterThanOrEqual(0);
  });

  test("says what happens to it, in order", () => {
    const broker = new TestBroker();
    const said: string[] = [];
    const { hooks } = broker.engine;
    hooks.sessionCreated.add((id) => said.push(`created ${id}`));
    hooks.sessionResumed.add((id) => said.push(`resumed ${id}`));
    hooks.sessionEnded.add((id) => said.push(`ended ${id}`));
    hooks.sessionSubscribed.add((id, filter, qos) => said.push(`${id} + ${filter} ${qos}`));
    hooks.sessionUnsubscribed.add((id, filter) => said.push(`${id} - ${filter}`));
    hooks.messageDelivered.add((id, message) => said.push(`${id} got ${message.payload}`));
    hooks.messageAcked.add((id, _message, packetId) => said.push(`${id} acked ${packetId}`));
    const sink = broker.open("a", { expirySec: 100 });
    broker.subscribe(sink, "$share/g/t", 1);
    broker.publish("t", "x", { qos: 1 });
    broker.engine.acknowledge(sink.session, 1, 0, 1);
    broker.unsubscribe(sink, "$share/g/t");
    broker.open("a", { expirySec: 100 });
    broker.open("a", { isCleanStart: true });
    expect(said).toEqual([
      "created a",
      "a + $share/g/t 1",
      "a got x",
      "a acked 1",
      "a - $share/g/t",
      "resumed a",
      "ended a",
      "created a",
    ]);
  });
});

describe("a will", () => {
  const withWatcher = (): { broker: TestBroker; watcher: FakeSink } => {
    const broker = new TestBroker();
    const watcher = broker.open("watcher");
    broker.subscribe(watcher, "#", 2);
    return { broker, watcher };
  };

  test("[MQTT-3.1.2-8] goes out when the connection ends, not when it was discarded before", () => {
    const { broker, watcher } = withWatcher();
    const a = broker.open("a", { will: { topic: "w", payload: "bye", qos: 1 } });
    const b = broker.open("b", { will: { topic: "w", payload: "never" } });
    broker.engine.discardWill(b.session);
    broker.close(a);
    broker.close(b);
    expect(watcher.got.map(({ payload, qos }) => [payload, qos])).toEqual([["bye", 1]]);
    broker.ackAll(watcher);
    expect(broker.engine.messages.count).toBe(0);
  });

  test("with a delay goes out after it, or with the session's end if that is sooner", () => {
    const { broker, watcher } = withWatcher();
    broker.close(broker.open("a", { expirySec: 100, will: { topic: "w", payload: "delayed", delaySec: 10 } }));
    broker.close(broker.open("b", { expirySec: 5, will: { topic: "w", payload: "ended", delaySec: 10 } }));
    broker.advance(4.9);
    expect(watcher.take()).toEqual([]);
    broker.advance(1);
    expect(watcher.take()).toEqual(["ended"]);
    broker.advance(4);
    expect(watcher.take()).toEqual([]);
    broker.advance(1);
    expect(watcher.take()).toEqual(["delayed"]);
    broker.advance(100);
    expect([watcher.take(), broker.engine.timers.count]).toEqual([[], 0]);
  });

  test("[MQTT-3.1.3-9] with a delay does not go out when the client is back before", () => {
    const { broker, watcher } = withWatcher();
    broker.close(broker.open("a", { expirySec: 100, will: { topic: "w", payload: "never", delaySec: 10 } }));
    broker.advance(5);
    const again = broker.open("a", { expirySec: 100 });
    broker.advance(20);
    broker.close(again);
    broker.advance(200);
    expect(watcher.take()).toEqual([]);
  });

  test("goes out when the session is taken over: without delay, or because a clean start ends it", () => {
    const { broker, watcher } = withWatcher();
    broker.open("a", { expirySec: 100, will: { topic: "w", payload: "at once" } });
    broker.open("a", { expirySec: 100, will: { topic: "w", payload: "never", delaySec: 10 } });
    expect(watcher.take()).toEqual(["at once"]);
    broker.open("a", { expirySec: 100, will: { topic: "w", payload: "by clean start", delaySec: 10 } });
    expect(watcher.take()).toEqual([]);
    broker.open("a", { isCleanStart: true });
    expect(watcher.take()).toEqual(["by clean start"]);
    broker.advance(100);
    expect([watcher.take(), broker.engine.timers.count]).toEqual([[], 0]);
  });

  test("can be retained, and expires from when it is published", () => {
    const { broker } = withWatcher();
    const will = { topic: "w", payload: "last", isRetain: true, delaySec: 10, expirySec: 20 };
    broker.close(broker.open("a", { expirySec: 100, will }));
    broker.advance(25);
    const late = broker.open("late");
    broker.subscribe(late, "w");
    expect(late.take()).toEqual(["last"]);
    broker.advance(6);
    expect(broker.engine.retainedIndex.count).toBe(0);
  });
});

test("receipts: a QoS 2 id is noted once, and forgotten once", () => {
  const { engine } = new TestBroker();
  const sink = new FakeSink();
  engine.open(
    { clientId: Buffer.from("a"), isCleanStart: true, expirySec: 0, will: undefined },
    sink,
    ({ session }) => {
      sink.session = session;
    },
  );
  const { session } = sink;
  expect([engine.removeReceipt(session, 4), engine.addReceipt(session, 4), engine.addReceipt(session, 4)]).toEqual([
    false,
    true,
    false,
  ]);
  expect([engine.removeReceipt(session, 4), engine.removeReceipt(session, 4)]).toEqual([true, false]);
});
