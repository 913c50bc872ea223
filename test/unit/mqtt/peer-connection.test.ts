/** Two processes of one broker in memory: what goes from one to the other, and what nobody else sees of it. */
import { describe, expect, test } from "bun:test";
import { Engine, type Limits, MessageView } from "#core/engine.ts";
import { ValueStamps } from "#core/peer-mark.ts";
import { PEER_PREFIX } from "#core/peers.ts";
import { PeerFabric } from "#fabric/interest.ts";
import { MqttContext } from "#mqtt/context.ts";
import { PeerConnection, type PeerHost } from "#mqtt/peer-connection.ts";
import { MemoryLink } from "#test/support/memory-link.ts";
import { encodePacket } from "#test/support/packets.ts";
import { type FakeSink, TestBroker, viewOf } from "#test/support/test-broker.ts";

const NOW_MS = 1_800_000_000_000;

class Node implements PeerHost {
  readonly fabric = new PeerFabric(1);
  readonly stamps: ValueStamps;
  readonly broker: TestBroker;
  readonly context: MqttContext;
  readonly faults: number[] = [];
  syncCount = 0;
  goneCount = 0;
  /** Read later than the engine's. */
  clockSec = 0;

  constructor(
    readonly node: number,
    skewMs = 0,
    session: Partial<Limits["session"]> = {},
  ) {
    this.stamps = new ValueStamps(node, () => NOW_MS + skewMs);
    const { fabric, stamps } = this;
    this.broker = new TestBroker({ fabric, stamps, limits: { session, shared: { strategy: "round-robin" } } });
    const reporter = {
      fault: (_: unknown, reasonCode: number) => void this.faults.push(reasonCode),
      bug: (_: unknown, error: unknown) => {
        throw error;
      },
    };
    const { metrics } = new Engine({ seed: 1, nowMs: 0, nowSec: 0 });
    this.context = new MqttContext(this.broker.engine, { reporter, metrics });
  }

  readSec(): number {
    return Math.max(this.clockSec, this.broker.engine.nowSec);
  }

  handleOpen(peer: PeerConnection): void {
    this.fabric.addPeer(peer);
  }
  handleSynced(): void {
    if (this.syncCount++ === 0) this.broker.engine.peers!.releasePublishes();
  }
  handleGone(peer: PeerConnection): void {
    this.goneCount++;
    this.fabric.removePeer(peer);
  }

  get sent(): number[] {
    return [0, 1, 2].map((qos) => this.broker.engine.metrics.get(`messages.qos${qos as 0 | 1 | 2}.sent`));
  }
}

/** A connection between two nodes; bytes arrive when `run` is called. */
class Wire {
  readonly ends: [MemoryLink, MemoryLink] = [new MemoryLink(), new MemoryLink()];
  private readonly events: (() => void)[] = [];

  constructor(from: Node, to: Node) {
    const [near, far] = this.ends;
    near.onData = (bytes) => this.events.push(() => far.receive(bytes));
    far.onData = (bytes) => this.events.push(() => near.receive(bytes));
    far.protocol = new PeerConnection(to.context, far, to, -1);
    near.protocol = new PeerConnection(from.context, near, from, to.node);
  }

  run(): void {
    for (let next = this.events.shift(); next; next = this.events.shift()) next();
  }

  /** What is under way is lost. */
  cut(): void {
    this.events.length = 0;
    for (const end of this.ends) end.destroy();
  }
}

function pair(): { a: Node; b: Node; wire: Wire } {
  const [a, b] = [new Node(0), new Node(1)];
  const wire = new Wire(b, a);
  wire.run();
  for (const { broker } of [a, b]) broker.engine.turn();
  return { a, b, wire };
}

function subscriber(node: Node, clientId: string, filter: string, qos = 2): FakeSink {
  const sink = node.broker.open(clientId, { expirySec: 1000 });
  node.broker.subscribe(sink, filter, qos);
  return sink;
}

describe("forwards", () => {
  test("go to who wants them there, at every QoS, once", () => {
    const { a, b, wire } = pair();
    const sink = subscriber(b, "s", "t/+");
    subscriber(b, "t", "t/#");
    wire.run();
    for (const qos of [0, 1, 2]) a.broker.publish("t/x", `at ${qos}`, { qos });
    a.broker.publish("other", "unwanted", { qos: 1 });
    wire.run();
    expect(sink.got.map(({ payload, qos }) => [payload, qos])).toEqual([
      ["at 0", 0],
      ["at 1", 1],
      ["at 2", 2],
    ]);
    expect(b.broker.engine.metrics.get("messages.dropped.no_subscriber")).toBe(0);
  });

  test("are sent again after a cut, at QoS 2 to the same end once", () => {
    const { a, b, wire } = pair();
    const sink = subscriber(b, "s", "t");
    wire.run();
    for (const qos of [1, 2]) a.broker.publish("t", `at ${qos}`, { qos });
    wire.cut();
    a.broker.publish("t", "meanwhile", { qos: 1 });
    new Wire(b, a).run();
    expect(sink.take()).toEqual(["at 1", "at 2", "meanwhile"]);
    const again = pair();
    const exact = subscriber(again.b, "s", "t");
    again.wire.run();
    again.a.broker.publish("t", "once", { qos: 2 });
    again.wire.ends[0].onData = () => {}; // its PUBREC is lost
    again.wire.run();
    again.wire.cut();
    new Wire(again.b, again.a).run();
    expect(exact.take()).toEqual(["once"]);
    expect(again.a.broker.engine.messages.count).toBe(0);
  });

  test("are no messages that a client was sent, nor do client ids of processes show", () => {
    const { a, b, wire } = pair();
    const ids: unknown[] = [];
    for (const { hooks } of [a.broker.engine, b.broker.engine]) {
      for (const hook of [hooks.sessionCreated, hooks.sessionResumed, hooks.sessionTakenOver])
        hook.add((id) => ids.push(id));
      hooks.messageDelivered.add((id) => void ids.push(id));
      hooks.messageAcked.add((id) => void ids.push(id));
      hooks.messageDropped.add((id) => void ids.push(id));
    }
    subscriber(b, "s", "t");
    wire.run();
    for (const qos of [0, 1, 2]) a.broker.publish("t", "x", { qos });
    wire.cut();
    a.broker.publish("t", "absent", { qos: 0 });
    a.broker.publish("t", "later", { qos: 1 });
    new Wire(b, a).run();
    new Wire(b, a).run(); // the one before is taken over
    expect(a.sent).toEqual([0, 0, 0]);
    expect(ids.filter((id) => String(id).startsWith(PEER_PREFIX))).toEqual([]);
    expect(ids).toContain("s");
  });

  test("wait while the other process reads too slowly, and QoS 0 is dropped", () => {
    const { a, b, wire } = pair();
    const sink = subscriber(b, "s", "t");
    wire.run();
    wire.ends[1].protocol!.handleWritable(false);
    a.broker.publish("t", "lost");
    a.broker.publish("t", "kept", { qos: 1 });
    wire.run();
    expect([sink.take(), a.broker.takeDrops()]).toEqual([[], ["slow_subscriber"]]);
    wire.ends[1].protocol!.handleWritable(true);
    wire.run();
    expect(sink.take()).toEqual(["kept"]);
  });
});

describe("interest", () => {
  test("what was not said again is not wanted any more", () => {
    const { a, b, wire } = pair();
    const sink = subscriber(b, "s", "old");
    wire.run();
    const count = a.broker.engine.index.subscriptionCount;
    wire.cut();
    b.broker.unsubscribe(sink, "old");
    new Wire(b, a).run();
    expect([count, a.broker.engine.index.subscriptionCount]).toEqual([1, 0]);
  });

  test("nothing is sent before the other process has said what it wants", () => {
    const { a, b, wire } = pair();
    const sink = subscriber(b, "s", "t");
    wire.run();
    wire.cut();
    a.broker.publish("t", "x", { qos: 1 });
    b.broker.unsubscribe(sink, "t");
    b.broker.subscribe(sink, "$share/g/t", 1);
    a.broker.publish("t", "y", { qos: 1 });
    new Wire(b, a).run();
    expect(sink.got.map(({ payload }) => payload).filter((payload) => payload === "y").length).toBeLessThanOrEqual(1);
    expect(a.broker.engine.messages.count).toBe(sink.got.length);
  });
});

describe("share groups", () => {
  test("over processes get each message once, and members their share", () => {
    const { a, b, wire } = pair();
    const members = [subscriber(a, "m0", "$share/g/t"), ...[1, 2, 3].map((i) => subscriber(b, `m${i}`, "$share/g/t"))];
    subscriber(b, "plain", "t");
    b.fabric.tellWeights();
    wire.run();
    for (let i = 0; i < 40; i++) {
      a.broker.publish("t", `${i}`, { qos: 1 });
      wire.run();
    }
    const got = members.map((member) => member.take());
    expect(got.flat().toSorted()).toEqual(Array.from({ length: 40 }, (_, i) => `${i}`).toSorted());
    for (const each of got) expect(each.length).toBe(10);
  });

  test("are dealt out fairly while some wait for the other process", () => {
    const { a, b, wire } = pair();
    const members = [subscriber(a, "here", "$share/g/t"), subscriber(b, "there", "$share/g/t")];
    wire.run();
    const { sessions, router } = a.broker.engine;
    (sessions.sinks[router.peers[0]!] as PeerConnection).windowMax = 2;
    for (let i = 0; i < 100; i++) a.broker.publish("t", `${i}`, { qos: 1 });
    wire.run();
    expect(members.map((member) => member.take().length)).toEqual([50, 50]);
  });

  test("pass by members that are away while one is connected anywhere, and come to them when none is", () => {
    const { a, b, wire } = pair();
    const here = subscriber(a, "here", "$share/g/t");
    const there = [1, 2, 3].map((i) => subscriber(b, `m${i}`, "$share/g/t"));
    wire.run();
    for (const member of there) b.broker.close(member);
    wire.run();
    for (let i = 0; i < 8; i++) a.broker.publish("t", `${i}`, { qos: i % 3 });
    wire.run();
    expect(here.take()).toHaveLength(8);

    const back = b.broker.open("m2", { expirySec: 1000 });
    a.broker.close(here);
    wire.run();
    for (let i = 0; i < 8; i++) a.broker.publish("t", `${i}`, { qos: i % 3 });
    wire.run();
    expect(back.take()).toHaveLength(8);

    b.broker.close(back);
    wire.run();
    for (const { broker } of [a, b]) broker.publish("t", "waits", { qos: 1 });
    wire.run();
    expect([a.broker.takeDrops(), b.broker.takeDrops()]).toEqual([[], []]);
    const all = [
      a.broker.open("here", { expirySec: 1000 }),
      ...[1, 2, 3].map((i) => b.broker.open(`m${i}`, { expirySec: 1000 })),
    ];
    expect(all.flatMap((sink) => sink.take()).filter((payload) => payload === "waits")).toHaveLength(2);
  });

  test("go on to a connected member elsewhere if those here have gone meanwhile", () => {
    const { a, b, wire } = pair();
    const there = subscriber(b, "there", "$share/g/t");
    const here = subscriber(a, "here", "$share/g/t");
    wire.run();
    for (let i = 0; i < 4; i++) a.broker.publish("t", `${i}`, { qos: 1 });
    b.broker.close(there); // before it has come there
    wire.run();
    expect(here.take().toSorted()).toEqual(["0", "1", "2", "3"]);
    for (const qos of [0, 1]) b.broker.publish("t", `at ${qos}`, { qos });
    a.broker.close(here);
    wire.run();
    expect(a.broker.takeDrops().length + b.broker.takeDrops().length).toBe(1); // QoS 0, for nobody is there
    const back = [a.broker.open("here", { expirySec: 1000 }), b.broker.open("there", { expirySec: 1000 })];
    expect(back.flatMap((sink) => sink.take()).filter((payload) => payload.startsWith("at"))).toEqual(["at 1"]);
  });

  test("both names of one group are one to the other process, and end with it", () => {
    const { a, b, wire } = pair();
    const sink = subscriber(b, "s", "$share/$queue/t");
    b.broker.subscribe(sink, "$queue/t", 1);
    wire.run();
    expect([a.broker.engine.groups.count, b.fabric.filterCount]).toEqual([1, 1]);
    b.broker.unsubscribe(sink, "$queue/t");
    wire.run();
    expect([a.broker.engine.groups.count, b.fabric.filterCount]).toEqual([0, 0]);
  });

  test("a message for a member that has left goes to another, wherever that is", () => {
    const { a, b, wire } = pair();
    const there = subscriber(b, "there", "$share/g/t");
    const here = subscriber(a, "here", "$share/g/t");
    wire.run();
    for (const payload of ["1", "2", "3", "4"]) a.broker.publish("t", payload, { qos: 1 });
    b.broker.unsubscribe(there, "$share/g/t");
    wire.run();
    expect([there.take(), here.take().toSorted()]).toEqual([[], ["1", "2", "3", "4"]]);
  });

  test("one whose last member has left is dropped, with a reason", () => {
    const { a, b, wire } = pair();
    const sink = subscriber(b, "s", "$share/g/t");
    wire.run();
    a.broker.publish("t", "nobody's", { qos: 1 });
    b.broker.unsubscribe(sink, "$share/g/t");
    wire.run();
    expect(b.broker.takeDrops()).toEqual(["session_ended"]);
    expect(a.broker.engine.messages.count).toBe(0);
  });
});

/** A retained value of "r" that lives for so many seconds. */
function publishFor({ broker }: Node, sec: number, payload: string): void {
  const view = viewOf("r", Buffer.concat([Buffer.from([2, 0, 0, 0, sec]), Buffer.from(payload)]), {
    isRetain: true,
    qos: 1,
  });
  view.isV5 = true;
  view.propertiesEnd = view.payloadStart = view.propertiesStart + 5;
  view.expiryStart = view.propertiesStart + 1;
  view.expiryAtSec = broker.engine.nowSec + sec;
  broker.engine.publish(view);
}

describe("retained messages", () => {
  const valueOf = (node: Node, text: string): string | undefined => {
    const { retainedIndex } = node.broker.engine;
    const topic = Buffer.from(text);
    const at = retainedIndex.find(topic, 0, topic.length);
    if (at < 0) return undefined;
    const view = new MessageView();
    retainedIndex.load(at, view);
    return view.payload().toString();
  };

  test("are the same in both, whichever came first", () => {
    const { a, b, wire } = pair();
    b.broker.publish("r", "older", { isRetain: true });
    a.broker.publish("r", "of a", { isRetain: true }); // at the same moment: the greater number wins
    wire.run();
    expect([valueOf(a, "r"), valueOf(b, "r")]).toEqual(["older", "older"]);
    a.broker.publish("r", "newest", { isRetain: true, qos: 1 });
    wire.run();
    expect([valueOf(a, "r"), valueOf(b, "r")]).toEqual(["newest", "newest"]);
  });

  test("that were removed do not come back by an older one", () => {
    const { a, b, wire } = pair();
    a.broker.publish("r", "older", { isRetain: true, qos: 1 });
    b.broker.publish("r", "", { isRetain: true, qos: 1 }); // of the same moment, and of the greater number
    wire.run();
    expect([valueOf(a, "r"), valueOf(b, "r")]).toEqual([undefined, undefined]);
  });

  test("reach a process that has lost all it had, and no subscriber again", () => {
    const { a, b, wire } = pair();
    b.broker.publish("r/b", "of b", { isRetain: true, qos: 1 });
    a.broker.publish("r/a", "of a", { isRetain: true, qos: 2 });
    wire.run();
    wire.cut();
    const anew = new Node(1);
    const early = subscriber(anew, "s", "r/#");
    new Wire(anew, a).run();
    expect(early.take()).toEqual([]);
    expect([valueOf(anew, "r/a"), valueOf(anew, "r/b")]).toEqual(["of a", "of b"]);
  });

  test.each(["oldest", "newest"] as const)(
    "that were dropped from a queue that had no room are sent again when there is (%s)",
    (dropPolicy) => {
      const [a, b] = [new Node(0, 0, { outboxCountMax: 10, dropPolicy }), new Node(1)];
      let wire = new Wire(b, a);
      wire.run();
      for (const { broker } of [a, b]) broker.engine.turn();
      const topics = Array.from({ length: 30 }, (_, i) => `r/${i}`);
      for (const topic of topics) a.broker.publish(topic, "old", { isRetain: true, qos: 1 });
      wire.run();
      wire.cut();
      const values = (): unknown[][] => [a, b].map((node) => topics.map((topic) => valueOf(node, topic)));
      for (const [i, topic] of topics.entries()) {
        a.broker.publish(topic, i % 3 === 0 ? "" : `new ${i}`, { isRetain: true, qos: 1 });
        b.broker.publish(`b/${i}`, "of b", { isRetain: true, qos: 1 });
      }
      const sink = subscriber(b, "s", "r/#");
      wire = new Wire(b, a);
      wire.run();
      expect(values()[1]).not.toEqual(values()[0]!);
      a.broker.advance(2);
      wire.run();
      expect(values()[1]).toEqual(values()[0]!);
      expect(valueOf(a, "b/29")).toBe("of b");
      // What comes late is only kept.
      expect(sink.take().filter((payload) => payload !== "old" && payload !== "of b").length).toBeLessThanOrEqual(10);
      const sentCount = a.broker.engine.metrics.get("messages.dropped.queue_full");
      a.broker.advance(5);
      wire.run();
      expect(a.broker.engine.metrics.get("messages.dropped.queue_full")).toBe(sentCount);
    },
  );

  test("that expired on their way take the older one's place there too", () => {
    const { a, b, wire } = pair();
    a.broker.publish("r", "stays", { isRetain: true, qos: 1 });
    wire.run();
    wire.cut();
    publishFor(a, 1, "short");
    for (const { broker } of [a, b]) broker.advance(3);
    new Wire(b, a).run();
    expect([valueOf(a, "r"), valueOf(b, "r")]).toEqual([undefined, undefined]);
  });

  test("[MQTT-3.3.2-6] have no more life here than they were given, although this process's clock was read before", () => {
    const { a, b, wire } = pair();
    subscriber(b, "s", "r");
    wire.run();
    a.broker.advance(1);
    b.clockSec = a.broker.engine.nowSec;
    publishFor(a, 9, "x");
    expect(b.broker.engine.nowSec).toBe(b.clockSec - 1);
    wire.run();
    expect(b.broker.engine.nowSec).toBe(b.clockSec);
  });

  test("end at the same moment in each process, however long they were on their way", () => {
    const { a, b, wire } = pair();
    const sink = subscriber(b, "s", "r");
    wire.run();
    publishFor(a, 9, "x");
    b.broker.advance(2); // its clock moves on before it reads
    wire.run();
    expect(sink.take()).toEqual(["x"]);
    b.broker.advance(6);
    expect(valueOf(b, "r")).toBe("x");
    b.broker.advance(2);
    expect(valueOf(b, "r")).toBeUndefined();
  });
});

describe("greeting", () => {
  const greet = (clientId: string): Node => {
    const node = new Node(1);
    const link = new MemoryLink();
    link.protocol = new PeerConnection(node.context, link, node, -1);
    link.receive(encodePacket({ type: "connect", clientId, cleanStart: false, keepAliveSec: 0 }, 5));
    return node;
  };

  test.each(["$worker/1", "$worker/x", "client", "$worker/0.5"])("%s is no other process", (clientId) => {
    const node = greet(clientId);
    expect([node.faults.length, node.goneCount, node.broker.engine.sessions.count]).toEqual([1, 1, 0]);
  });

  test("another process gets a session of its own", () => {
    const node = greet("$worker/0");
    expect([node.faults.length, node.goneCount]).toEqual([0, 0]);
    expect(node.broker.engine.sessions.find(Buffer.from("$worker/0"))).toBeGreaterThanOrEqual(0);
  });

  test("a packet that cannot be ends the connection, and the next goes on", () => {
    const { a, b, wire } = pair();
    const sink = subscriber(b, "s", "t");
    wire.run();
    wire.ends[0].receive(Buffer.from([0xc0, 0])); // PINGREQ
    expect(b.faults).toEqual([0x82]);
    a.broker.publish("t", "x", { qos: 1 });
    wire.cut();
    new Wire(b, a).run();
    expect(sink.take()).toEqual(["x"]);
  });
});
