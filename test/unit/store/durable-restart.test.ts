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
  held.answerReads();
  await ann.expect("connack", { sessionPresent: true });
  await fresh.expect("connack", { sessionPresent: false });
});

test("a broker that is stopped while it restores loses nothing by it, then or later", async () => {
  const broker = new DurableBroker();
  await absent(broker, "ann");
  await publishAll(broker, await source(broker), "t", numbered(5));
  const stopped = broker.crash(undefined, { recoversLate: true });
  let isSafe = false;
  stopped.store.flush(() => (isSafe = true));
  stopped.answerReads();
  stopped.quiet();
  expect(isSafe).toBe(true);
  const next = stopped.crash(undefined, {});
  await publishAll(next, await source(next), "t", ["later"]);
  const last = next.crash();
  expect(last.restored.damage).toEqual([]);
  const ann = await last.connect("ann");
  expect(payloadsOf(await ann.settle())).toEqual([...numbered(5), "later"]);
});

describe("while a session's messages in flight are read", () => {
  /** Ann has a message in flight on disk; reads are held. */
  async function reading(): Promise<DurableBroker> {
    const broker = new DurableBroker();
    const ann = await broker.connect("ann");
    await ann.subscribe("t", 1);
    await publishAll(broker, await source(broker), "t", ["m"]);
    const next = broker.crash();
    next.holdReads();
    return next;
  }

  test.each([true, false])(
    "a link that is lost (%p) does not take the session from one with Clean Start",
    async (isLost) => {
      const broker = await reading();
      const first = broker.ask("ann");
      if (isLost) first.kill();
      const second = broker.ask("ann", { cleanStart: true });
      broker.answerReads();
      await second.expect("connack", { reasonCode: 0, sessionPresent: false });
      await second.ping();
      expect(await second.settle()).toEqual([]);
      broker.stop();
    },
  );

  test("the connection that came last has the session, and what is in flight", async () => {
    const broker = await reading();
    const first = broker.ask("ann");
    const second = broker.ask("ann");
    broker.answerReads();
    await second.expect("connack", { sessionPresent: true });
    await second.expect("publish", { payload: "m", packetId: 1, dup: true });
    await second.ping();
    expect(first.isClosed).toBe(true);
  });

  test("the session does not expire: its client was back in time", async () => {
    const broker = await reading();
    broker.advance(3595);
    const ann = broker.ask("ann");
    broker.advance(8);
    broker.answerReads();
    await ann.expect("connack", { sessionPresent: true });
  });
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
  expect([next.engine.messages.count, next.engine.messages.bodyBytes, next.engine.delivery.idLists.count]).toEqual([
    0, 0, 0,
  ]);
  next.stop();
});
