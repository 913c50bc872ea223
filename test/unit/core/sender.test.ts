/** Out of a session's queue with a store that answers late: what was sent is noted, in order, and nothing is sent too early. */
import { describe, expect, test } from "bun:test";
import type { Lane } from "#core/outbox.ts";
import { DelayedStore, type LogRecord } from "#test/support/delayed-ports.ts";
import { FakeSink, TestBroker, type Way } from "#test/support/test-broker.ts";

/** Writes down the pages that were asked for. */
class PagedStore extends DelayedStore {
  readonly refills: number[] = [];
  readonly dropped: number[] = [];
  canDrop = true;

  override refill(_session?: number, lane?: number): void {
    this.refills.push(lane!);
  }

  override dropPage(_session?: number, lane?: number): boolean {
    this.dropped.push(lane!);
    return this.canDrop;
  }
}

interface Story {
  readonly broker: TestBroker;
  readonly store: PagedStore;
  /** What was noted since the last call. */
  readonly noted: () => LogRecord[];
}

function story(limits = {}): Story {
  const store = new PagedStore();
  const broker = new TestBroker({ store, limits });
  let seen = 0;
  const noted = (): LogRecord[] => {
    const records = store.records().slice(seen);
    seen = store.log.length;
    return records;
  };
  return { broker, store, noted };
}

/** A stored session, subscribed to `t`. */
function subscriber({ broker, noted }: Story, qos = 1, way: Way = {}): FakeSink {
  const sink = broker.open("ann", { expirySec: 100, ...way });
  broker.subscribe(sink, "t", qos);
  noted();
  return sink;
}

function laneOf(broker: TestBroker, sink: FakeSink): Lane {
  return broker.engine.sessions.queueFor(sink.session).outbox.lanes[0]!;
}

describe("what a stored session is sent is noted", () => {
  test("QoS 1 from the queue: entered, assigned, acknowledged", () => {
    const told = story();
    const { broker, noted } = told;
    const sink = subscriber(told, 1);
    sink.windowMax = 1;
    broker.publish("t", "a", { qos: 1 });
    broker.publish("t", "b", { qos: 1 });
    expect(noted()).toEqual(["enqueued", "enqueued"]);
    broker.engine.acknowledge(sink.session, 1, 0, 1);
    expect(noted()).toEqual(["acknowledged", "assigned"]);
    expect(sink.take()).toEqual(["a", "b"]);
  });

  test("a message that is dropped on its way out leaves the store: expired, too large, or sent at QoS 0", () => {
    const told = story({ session: { queueQos0: true } });
    const { broker, noted } = told;
    const sink = subscriber(told, 1);
    sink.isWritable = false;
    broker.publish("t", "old", { qos: 1, expiryAtSec: broker.engine.nowSec + 2 });
    broker.publish("t", "large", { qos: 1 });
    broker.close(sink);
    broker.publish("t", "none", { qos: 0 });
    broker.publish("t", "good", { qos: 1 });
    noted();
    broker.advance(3);
    const again = new FakeSink();
    again.payloadBytesMax = 4;
    broker.open("ann", { expirySec: 100, sink: again });
    expect(again.take()).toEqual(["none", "good"]);
    expect(noted()).toEqual(["session-opened", "shifted", "shifted", "shifted", "assigned"]);
    expect(broker.takeDrops()).toEqual(["expired", "packet_too_large"]);
  });

  test("QoS 2: nothing of PUBREC's PUBREL before its commit, and PUBCOMP is noted", () => {
    const told = story();
    const { broker, store, noted } = told;
    const sink = subscriber(told, 2);
    broker.publish("t", "a", { qos: 2 });
    expect([sink.take(), noted()]).toEqual([[], ["enqueued"]]);
    store.commit();
    expect(sink.take()).toEqual(["a"]);
    broker.engine.receive(sink.session, 1);
    expect(broker.engine.storeSeq).toBe(store.log.length);
    broker.engine.complete(sink.session, 1);
    expect(noted()).toEqual(["received", "completed"]);
  });

  test("a session that is not stored is not told of", () => {
    const told = story();
    const sink = subscriber(told, 2, { expirySec: 0 });
    told.broker.publish("t", "a", { qos: 2 });
    told.broker.engine.receive(sink.session, 1);
    told.broker.engine.complete(sink.session, 1);
    expect([sink.take(), told.noted()]).toEqual([["a"], []]);
  });
});

describe("what is held for its commit", () => {
  test("goes out with the commit that covers it, oldest first, the rest with the next", () => {
    const told = story();
    const { broker, store } = told;
    const sink = subscriber(told, 2);
    broker.publish("t", "a", { qos: 2 });
    const first = store.log.length;
    broker.publish("t", "b", { qos: 2 });
    store.commit(first);
    expect(sink.take()).toEqual(["a"]);
    store.commit();
    expect(sink.take()).toEqual(["b"]);
  });

  test("of one session does not hold back another's", () => {
    const told = story();
    const { broker, store } = told;
    const ann = subscriber(told, 2);
    const bob = broker.open("bob", { expirySec: 100 });
    broker.subscribe(bob, "u", 2);
    store.commit();
    broker.publish("t", "a", { qos: 2 });
    const first = store.log.length;
    broker.publish("u", "b", { qos: 2 });
    store.commit(first);
    expect([ann.take(), bob.take()]).toEqual([["a"], []]);
    store.commit();
    expect([ann.take(), bob.take()]).toEqual([[], ["b"]]);
  });

  test("of a session that has ended meanwhile goes nowhere, even when its number has a new owner", () => {
    const told = story();
    const { broker, store } = told;
    const ann = subscriber(told, 2);
    broker.publish("t", "a", { qos: 2 });
    broker.close(ann);
    broker.engine.endSession(ann.session);
    const next = broker.open("next", { expirySec: 100 });
    store.commit();
    expect(next.session).toBe(ann.session);
    expect([ann.take(), next.take()]).toEqual([[], []]);
    expect(broker.engine.messages.count).toBe(0);
  });

  test("waits for a slow link as well, and comes when it can take more", () => {
    const told = story();
    const { broker, store } = told;
    const sink = subscriber(told, 2);
    broker.publish("t", "a", { qos: 2 });
    sink.isWritable = false;
    store.commit();
    expect(sink.take()).toEqual([]);
    sink.isWritable = true;
    broker.engine.resumeDelivery(sink.session);
    expect(sink.take()).toEqual(["a"]);
  });

  test("[MQTT-3.3.4-9] what the window holds back is not assigned before there is room", () => {
    const told = story();
    const { broker, store, noted } = told;
    const sink = subscriber(told, 2);
    sink.windowMax = 1;
    for (const payload of ["a", "b"]) broker.publish("t", payload, { qos: 2 });
    store.commit();
    expect(noted()).toEqual(["enqueued", "enqueued"]);
    broker.engine.receive(sink.session, 1);
    store.commit();
    expect(sink.take()).toEqual(["a"]); // PUBREC keeps the place
    broker.engine.complete(sink.session, 1);
    store.commit();
    expect(sink.take()).toEqual(["b"]);
  });

  test("of mixed QoS keeps its order: QoS 1 does not pass a QoS 2 message that waits for its commit", () => {
    const told = story();
    const { broker, store } = told;
    const sink = subscriber(told, 2);
    broker.publish("t", "two", { qos: 2 });
    broker.publish("t", "one", { qos: 1 });
    expect(sink.take()).toEqual([]);
    store.commit();
    expect(sink.take()).toEqual(["two", "one"]);
  });
});

describe("after a reconnect", () => {
  test("PUBREL leaves on the connection that has the session, once it is attached", () => {
    const told = story();
    const { broker, store } = told;
    let sink = subscriber(told, 2);
    broker.publish("t", "large", { qos: 2 });
    store.commit();
    expect(sink.take()).toEqual(["large"]);
    broker.close(sink);
    sink = new FakeSink();
    sink.payloadBytesMax = 1; // the repeat is too large now: PUBREL is what is left to do
    broker.open("ann", { expirySec: 100, sink });
    expect(sink.released).toEqual([]); // not before the store has it
    store.commit();
    expect(sink.released).toEqual([1]);
  });

  test("the same is released once when the connection changes before the commit", () => {
    const told = story();
    const { broker, store } = told;
    let sink = subscriber(told, 2);
    broker.publish("t", "large", { qos: 2 });
    store.commit();
    broker.close(sink);
    sink = new FakeSink();
    sink.payloadBytesMax = 1;
    broker.open("ann", { expirySec: 100, sink });
    const last = broker.open("ann", { expirySec: 100 }); // takes over, attached at once
    store.commit();
    expect(sink.released).toEqual([]);
    expect(new Set(last.released)).toEqual(new Set([1]));
    expect(last.take()).toEqual([]);
  });
});

describe("pages on disk", () => {
  test("are fetched when little is left in memory, and not while one is on its way", () => {
    const told = story();
    const { broker, store } = told;
    const sink = subscriber(told, 1);
    broker.close(sink);
    broker.publish("t", "a", { qos: 1 });
    const lane = laneOf(broker, sink);
    lane.pages = [{ page: 0, count: 3, bytes: 3 }];
    broker.engine.sessions.queueFor(sink.session).outbox.count += 3;
    const again = broker.open("ann", { expirySec: 100 });
    expect([again.take(), store.refills]).toEqual([["a"], [0]]);
    lane.isLoading = true;
    broker.engine.resumeDelivery(again.session);
    expect(store.refills).toEqual([0]);
  });

  test("keep what comes later behind them, also when window and link are free", () => {
    const told = story();
    const { broker } = told;
    const sink = subscriber(told, 1);
    const lane = laneOf(broker, sink);
    lane.pages = [{ page: 0, count: 3, bytes: 3 }];
    broker.engine.sessions.queueFor(sink.session).outbox.count += 3;
    broker.publish("t", "later", { qos: 1 });
    expect([sink.take(), lane.head.count, lane.tail.count]).toEqual([[], 0, 1]);
  });

  test("a full queue drops its oldest page; the new message is dropped when that cannot be done now", () => {
    const told = story({ session: { outboxCountMax: 3 } });
    const { broker, store } = told;
    const sink = subscriber(told, 1);
    broker.close(sink);
    const lane = laneOf(broker, sink);
    lane.pages = [{ page: 0, count: 3, bytes: 3 }];
    broker.engine.sessions.queueFor(sink.session).outbox.count = 3;
    store.canDrop = false;
    broker.publish("t", "new", { qos: 1 });
    expect([store.dropped, broker.takeDrops()]).toEqual([[0], ["queue_full"]]);
  });
});

describe("a client that goes while it is being sent to", () => {
  test("within a delivery: nothing is sent twice or lost, whatever its QoS", () => {
    for (const qos of [1, 2]) {
      const told = story();
      const { broker, store } = told;
      const sink = subscriber(told, qos);
      sink.windowMax = 1;
      for (const payload of ["a", "b", "c"]) broker.publish("t", payload, { qos });
      store.commit();
      if (qos === 1) expect(sink.take()).toEqual(["a"]);
      broker.close(sink);
      const quick = new FakeSink();
      quick.onDeliver = () => {
        quick.onDeliver = () => {};
        broker.close(quick);
      };
      broker.open("ann", { expirySec: 100, sink: quick });
      store.commit();
      expect(quick.take()).toEqual(["a"]);
      const last = broker.open("ann", { expirySec: 100 });
      store.commit();
      expect(last.take()).toEqual(["a", "b", "c"]);
    }
  });

  test("as its first message is sent: the message is in flight, and the store knows it", () => {
    const told = story();
    const { broker, noted } = told;
    const sink = subscriber(told, 1);
    sink.onDeliver = () => broker.close(sink);
    broker.publish("t", "a", { qos: 1 });
    expect(noted().toSorted()).toEqual(["enqueued", "session-closed"]);
    const again = broker.open("ann", { expirySec: 100 });
    expect(again.got.map(({ payload, packetId, isDup }) => [payload, packetId, isDup])).toEqual([["a", 1, true]]);
  });

  test("and whose session ends with that leaves nothing, neither in memory nor in the store", () => {
    const told = story();
    const { broker, store, noted } = told;
    const sink = subscriber(told, 1);
    sink.onDeliver = () => {
      broker.engine.changeExpiry(sink.session, 0);
      broker.close(sink);
    };
    broker.publish("t", "a", { qos: 1 });
    expect(noted().at(-1)).toBe("session-ended");
    store.commit();
    expect(broker.engine.messages.count).toBe(0);
  });

  test("a hook that ends the session of the client that is being sent to does no harm", () => {
    const told = story();
    const { broker, store, noted } = told;
    const sink = subscriber(told, 1);
    broker.engine.hooks.messageDelivered.add(() => {
      broker.close(sink);
      broker.engine.endSession(sink.session);
    });
    broker.publish("t", "a", { qos: 1 });
    expect(noted().at(-1)).toBe("session-ended");
    store.commit();
    expect(broker.engine.messages.count).toBe(0);
  });

  test("a hook that publishes within a delivery is heard in the next turn, in order", () => {
    const told = story();
    const { broker } = told;
    const sink = subscriber(told, 1);
    broker.engine.hooks.messageDelivered.add((_, { topic, payload }) => {
      if (topic === "t" && payload.toString() === "a") broker.engine.publishText("t", Buffer.from("echo"), { qos: 1 });
    });
    broker.publish("t", "a", { qos: 1 });
    broker.publish("t", "b", { qos: 1 });
    expect(sink.take()).toEqual(["a", "b"]);
    broker.engine.turn();
    expect(sink.take()).toEqual(["echo"]);
  });
});
