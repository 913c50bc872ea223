import { describe, expect, test } from "bun:test";
import type { ShareStrategy } from "#core/limits.ts";
import { type FakeSink, TestBroker } from "#test/support/test-broker.ts";

const FILTER = "$share/g/t/#";

function withMembers(strategy: ShareStrategy, count = 3): { broker: TestBroker; members: FakeSink[] } {
  const broker = new TestBroker({ limits: { shared: { strategy } } });
  const members = Array.from({ length: count }, (_, i) => broker.open(`m${i}`, { expirySec: 1000 }));
  for (const member of members) broker.subscribe(member, FILTER, 2);
  return { broker, members };
}

/** Which member got each of these messages. */
function picks(broker: TestBroker, members: FakeSink[], messages: { topic: string; from?: FakeSink }[]): number[] {
  return messages.map(({ topic, ...options }) => {
    broker.publish(topic, "x", options);
    const got = members.map((member) => member.take().length);
    expect(got.reduce((sum, n) => sum + n, 0)).toBe(1);
    return got.indexOf(1);
  });
}

const same = (count: number): { topic: string }[] => Array.from({ length: count }, () => ({ topic: "t/1" }));

describe("strategy", () => {
  test("round-robin: each in turn, also when members come and go", () => {
    const { broker, members } = withMembers("round-robin");
    expect(picks(broker, members, same(6)).toSorted()).toEqual([0, 0, 1, 1, 2, 2]);
    broker.unsubscribe(members[1]!, FILTER);
    const rest = picks(broker, members, same(6));
    expect(rest.toSorted()).toEqual([0, 0, 0, 2, 2, 2]);
    expect(rest[0]).not.toBe(rest[1]);
  });

  test.each(["random", "local"] as const)("%s: all get some, and the order is no rotation", (strategy) => {
    const { broker, members } = withMembers(strategy);
    const seen = picks(broker, members, same(300));
    const counts = [0, 1, 2].map((i) => seen.filter((pick) => pick === i).length);
    expect(Math.min(...counts)).toBeGreaterThan(60);
    expect(seen.some((pick, i) => pick === seen[i + 1])).toBe(true);
  });

  test("sticky: one until it goes, then another", () => {
    const { broker, members } = withMembers("sticky");
    const [first] = picks(broker, members, same(1));
    expect(picks(broker, members, same(5))).toEqual([first, first, first, first, first] as number[]);
    broker.unsubscribe(members[first!]!, FILTER);
    const [second] = picks(broker, members, same(1));
    expect(second).not.toBe(first);
    expect(new Set(picks(broker, members, same(5)))).toEqual(new Set([second!]));
  });

  test.each(["sticky", "round-robin"] as const)(
    "%s: a member before the chosen one leaves, and nobody is passed over",
    (strategy) => {
      const { broker, members } = withMembers(strategy);
      const [first, ...others] = members as [FakeSink, FakeSink, FakeSink];
      for (const other of strategy === "sticky" ? [first, others[1]!] : [others[1]!, first]) other.isWritable = false;
      expect(picks(broker, members, same(1))).toEqual([1]);
      for (const member of members) member.isWritable = true;
      if (strategy === "round-robin") expect(picks(broker, members, same(1))).toHaveLength(1);
      const [last] = strategy === "sticky" ? [1] : picks(broker, members, same(1));
      const gone = last === 0 ? 2 : 0;
      broker.unsubscribe(members[gone]!, FILTER);
      const [next] = picks(broker, members, same(1));
      expect(next === last).toBe(strategy === "sticky");
    },
  );

  test("hash-topic: a topic stays with its member, topics spread", () => {
    const { broker, members } = withMembers("hash-topic");
    const topics = Array.from({ length: 40 }, (_, i) => ({ topic: `t/${i}` }));
    const first = picks(broker, members, topics);
    expect(picks(broker, members, topics)).toEqual(first);
    expect(new Set(first).size).toBe(3);
  });

  test("hash-client: a publisher stays with its member whatever the topic, publishers spread", () => {
    const { broker, members } = withMembers("hash-client");
    const publishers = Array.from({ length: 20 }, (_, i) => broker.open(`p${i}`));
    const first = picks(
      broker,
      members,
      publishers.map((from) => ({ topic: "t/1", from })),
    );
    expect(
      picks(
        broker,
        members,
        publishers.map((from) => ({ topic: "t/2", from })),
      ),
    ).toEqual(first);
    expect(new Set(first).size).toBeGreaterThan(1);
  });
});

describe("a member that cannot take it", () => {
  test("now gives way to one that can: QoS 1 by window and link, QoS 0 by link", () => {
    const { broker, members } = withMembers("round-robin", 2);
    const [slow, ready] = members as [FakeSink, FakeSink];
    slow.isWritable = false;
    for (let i = 0; i < 4; i++) broker.publish("t/1", `${i}`, { qos: i % 2 });
    expect([slow.take(), ready.take()]).toEqual([[], ["0", "1", "2", "3"]]);
    slow.isWritable = true;
    ready.windowMax = 0;
    broker.publish("t/1", "4", { qos: 1 });
    broker.publish("t/1", "5", { qos: 1 });
    expect(slow.take()).toEqual(["4", "5"]);
  });

  test("away gets what nobody connected can take, QoS 1 only", () => {
    const { broker, members } = withMembers("round-robin", 2);
    for (const member of members) broker.close(member);
    expect([broker.publish("t/1", "0"), broker.publish("t/1", "1", { qos: 1 })]).toEqual([0, 1]);
    const back = members.map((_, i) => broker.open(`m${i}`, { expirySec: 1000 }));
    expect(back.flatMap((sink) => sink.take())).toEqual(["1"]);
  });

  test("because it is too large for it: another member gets it", () => {
    const { broker, members } = withMembers("sticky", 2);
    members[0]!.payloadBytesMax = 1;
    expect(broker.publish("t/1", "large", { qos: 1 })).toBe(1);
    expect([members[0]!.take(), members[1]!.take()]).toEqual([[], ["large"]]);
  });

  test("when none can, the loss is counted, also if others outside the group get the message", () => {
    const { broker, members } = withMembers("round-robin", 1);
    members[0]!.isWritable = false;
    const other = broker.open("other");
    broker.subscribe(other, "t/1");
    expect(broker.publish("t/1", "x")).toBe(1);
    expect(broker.takeDrops()).toEqual(["slow_subscriber"]);
  });
});

describe("a member that goes", () => {
  const waiting = (qos: number): { broker: TestBroker; gone: FakeSink; other: FakeSink } => {
    const { broker, members } = withMembers("sticky", 2);
    const [gone, other] = members as [FakeSink, FakeSink];
    gone.windowMax = 1;
    other.isWritable = false;
    for (const payload of ["sent", "waits"]) broker.publish("t/1", payload, { qos });
    other.isWritable = true;
    return { broker, gone, other };
  };

  test("with its connection: what waits goes to one who is there, what is sent stays", () => {
    const { broker, gone, other } = waiting(1);
    broker.close(gone);
    expect(other.take()).toEqual(["waits"]);
    const back = broker.open("m0", { expirySec: 1000 });
    expect(back.take()).toEqual(["sent"]);
    expect(broker.takeDrops()).toEqual([]);
  });

  test("with its session: QoS 1 sent and waiting goes to another", () => {
    const { broker, gone, other } = waiting(1);
    broker.engine.sessions.expirySec[gone.session] = 0;
    broker.close(gone);
    expect(other.take().toSorted()).toEqual(["sent", "waits"]);
    expect(broker.engine.metrics.get("messages.redispatched")).toBe(2);
    broker.ackAll(other);
  });

  test("[MQTT-4.8.2-5] with its session: a QoS 2 message that was sent goes to nobody else", () => {
    const { broker, gone, other } = waiting(2);
    broker.engine.sessions.expirySec[gone.session] = 0;
    broker.close(gone);
    expect(other.take()).toEqual(["waits"]);
    expect(broker.drops).toMatchObject([{ reason: "session_ended", payload: "sent" }]);
  });

  test("with its connection: what no other can take stays in its outbox", () => {
    const { broker, gone, other } = waiting(1);
    other.payloadBytesMax = 1;
    broker.close(gone);
    other.payloadBytesMax = Infinity;
    const back = broker.open("m0", { expirySec: 1000 });
    broker.engine.acknowledge(back.session, 1, 0, 1);
    expect(back.take()).toEqual(["sent", "waits"]);
  });

  test("with its session: a member who is away takes over what waits", () => {
    const { broker, members } = withMembers("sticky", 2);
    const [gone, away] = members as [FakeSink, FakeSink];
    broker.close(away);
    broker.publish("t/1", "x", { qos: 1 });
    broker.engine.sessions.expirySec[gone.session] = 0;
    broker.close(gone);
    expect(broker.open("m1", { expirySec: 1000 }).take()).toEqual(["x"]);
  });

  test("what came through a group that is gone does not go to the group that has its number now", () => {
    const broker = new TestBroker();
    const leaver = broker.open("leaver", { expirySec: 1000 });
    broker.subscribe(leaver, FILTER, 1);
    broker.publish("t/secret", "secret", { qos: 1 });
    broker.unsubscribe(leaver, FILTER);
    const stranger = broker.open("stranger");
    broker.subscribe(stranger, "$share/other/public", 1);
    broker.engine.sessions.expirySec[leaver.session] = 0;
    broker.close(leaver);
    expect(stranger.take()).toEqual([]);
  });
});

describe("membership", () => {
  test("subscribing again changes QoS and identifier, a second group gets its own copy", () => {
    const { broker, members } = withMembers("round-robin", 1);
    const [only] = members as [FakeSink];
    broker.subscribe(only, FILTER, 0, 4);
    broker.subscribe(only, "$share/h/t/1", 1, 5);
    broker.subscribe(only, "t/+", 2);
    expect(broker.publish("t/1", "x", { qos: 2 })).toBe(3);
    expect(only.got.map(({ qos, ids }) => [qos, ids]).toSorted()).toEqual([
      [0, [4]],
      [1, [5]],
      [2, []],
    ]);
    expect(broker.engine.groups.count).toBe(2);
  });

  test("the last one takes the group with it, and memory is as before", () => {
    const broker = new TestBroker();
    const sink = broker.open("a");
    const { groups, index } = broker.engine;
    for (let round = 0; round < 3; round++) {
      broker.subscribe(sink, "$share/g/a/+");
      broker.subscribe(sink, "$queue/b");
      expect([groups.count, index.subscriptionCount]).toEqual([2, 5]);
      broker.unsubscribe(sink, "$share/g/a/+");
      broker.unsubscribe(sink, "$queue/b");
      expect([groups.count, index.subscriptionCount, index.keyCount, index.filterCount]).toEqual([0, 0, 0, 0]);
    }
  });

  test("$queue/FILTER is reached by FILTER and by the topic $queue/…, one member each time", () => {
    const broker = new TestBroker();
    const [a, b] = [broker.open("a"), broker.open("b")];
    for (const sink of [a, b]) broker.subscribe(sink, "$queue/t");
    for (const topic of ["t", "$queue/t", "t", "$queue/t"]) expect(broker.publish(topic, topic)).toBe(1);
    expect([...a.take(), ...b.take()].toSorted()).toEqual(["$queue/t", "$queue/t", "t", "t"]);
  });
});
