/**
 * Ports that answer later: what has to wait does, in order, nothing else does, and a connection that ends meanwhile
 * leaves nothing behind. The harness's links hand bytes over at once, so after a call everything that can come has come.
 */
import { afterEach, describe, expect, test } from "bun:test";
import { Connection } from "#mqtt/connection.ts";
import { MqttContext } from "#mqtt/context.ts";
import type { RawClient } from "#test/support/client.ts";
import { DelayedAccess, DelayedFabric, DelayedStore } from "#test/support/delayed-ports.ts";
import { type Harness, harnessOf } from "#test/support/harness.ts";
import { type MemoryTarget, startMemoryHarness } from "#test/support/memory-harness.ts";
import { MemoryLink } from "#test/support/memory-link.ts";
import { encodePacket, type Packet, type PacketInput } from "#test/support/packets.ts";

interface Later {
  store: DelayedStore;
  access: DelayedAccess;
  fabric: DelayedFabric;
}

const DAY: [["sessionExpiryIntervalSec", number]] = [["sessionExpiryIntervalSec", 86_400]];
const running: Harness[] = [];

afterEach(async () => {
  for (const harness of running.splice(0)) await harness.stop();
});

class Fixture {
  readonly harness: Harness;
  readonly engine: MemoryTarget["engine"];

  constructor(
    readonly target: MemoryTarget,
    readonly ports: Later,
  ) {
    this.engine = target.engine;
    this.harness = harnessOf(target);
    running.push(this.harness);
  }

  static async start(...[names, limits]: [(keyof Later)[], Record<string, unknown>?]): Promise<Fixture> {
    const ports = { store: new DelayedStore(), access: new DelayedAccess(), fabric: new DelayedFabric() };
    const chosen = Object.fromEntries(names.map((name) => [name, ports[name]]));
    return new Fixture(await startMemoryHarness({ ...limits, ports: chosen }), ports);
  }

  /** A link on which CONNECT has been sent, nothing answered. */
  async asking(clientId: string, isPersistent = true): Promise<RawClient> {
    const client = await this.harness.open(5);
    client.clientId = clientId;
    client.send({ type: "connect", clientId, cleanStart: false, properties: isPersistent ? DAY : [] });
    return client;
  }

  /** Accepted, with every port answering. */
  async client(clientId: string, isPersistent = true): Promise<RawClient> {
    const client = await this.asking(clientId, isPersistent);
    this.answer();
    await client.expect("connack", { reasonCode: 0 });
    return client;
  }

  async subscriber(clientId: string, filter: string, qos = 2): Promise<RawClient> {
    const client = await this.client(clientId);
    client.send({ type: "subscribe", packetId: 9, subscriptions: [{ filter, qos }] });
    this.answer();
    await client.expect("suback");
    return client;
  }

  /** Every port answers all it was asked. */
  answer(): void {
    const { access, fabric, store } = this.ports;
    access.answerAll();
    fabric.answerAll();
    fabric.deliver();
    store.commit();
  }

  /** Sessions, timers and messages in use. */
  held(): number[] {
    const { sessions, timers, messages } = this.engine;
    return [sessions.count, timers.count, messages.count];
  }
}

/** Types and packet ids of what has come, without waiting: PINGREQ's answer is not gated. */
async function arrived(client: RawClient): Promise<string[]> {
  return (await client.settle()).map((packet: Packet) =>
    "packetId" in packet ? `${packet.type} ${packet.packetId}` : packet.type,
  );
}

/** A link of the test's own on the same engine. */
function ownLink(at: Fixture): MemoryLink {
  const link = new MemoryLink();
  link.protocol = new Connection(new MqttContext(at.engine), link, "own");
  return link;
}

const publish = (packetId: number, topic = "t", qos = 1): PacketInput => ({
  type: "publish",
  qos,
  packetId,
  topic,
  payload: `${packetId}`,
});

describe("durability", () => {
  test("PUBACK, PUBREC, PUBCOMP, SUBACK and UNSUBACK wait, and come in the order they were earned", async () => {
    const at = await Fixture.start(["store"]);
    await at.subscriber("stays", "t");
    const client = await at.client("c");
    const { store } = at.ports;
    client.send(publish(1, "t", 2));
    store.commit();
    await client.expect("pubrec", { packetId: 1 });
    client.send(publish(2));
    client.send({ type: "pubrel", packetId: 1 });
    client.send(publish(3, "t", 2));
    client.send({ type: "subscribe", packetId: 4, subscriptions: [{ filter: "x", qos: 1 }] });
    client.send({ type: "unsubscribe", packetId: 5, filters: ["x"] });
    expect(await arrived(client)).toEqual([]);
    store.commit(store.durableSeq + 1);
    expect(await arrived(client)).toEqual(["puback 2"]);
    store.commit();
    expect(await arrived(client)).toEqual(["pubcomp 1", "pubrec 3", "suback 4", "unsuback 5"]);
  });

  test("CONNACK waits until what access subscribes the client to is judged, known and committed", async () => {
    const at = await Fixture.start(["store", "access", "fabric"]);
    const { store, access, fabric } = at.ports;
    const subscriptions = ["a/#", "deny/x", "$share/g/b"].map((filter) => ({
      filter: Buffer.from(filter),
      qos: 1 as const,
    }));
    const client = await at.asking("c");
    access.answer({ reasonCode: 0, username: "alice", subscriptions });
    fabric.answerAll();
    expect(access.subscribes[0]!.filters).toEqual(["a/#", "deny/x", "$share/g/b"]);
    access.answerAll();
    expect(fabric.announces.map(({ filter }) => filter)).toEqual(["a/#", "$share/g/b"]);
    fabric.answerAll();
    expect(at.engine.metrics.get("packets.connack")).toBe(0);
    store.commit(store.log.length - 1);
    expect(at.engine.metrics.get("packets.connack")).toBe(0);
    store.commit();
    await client.expect("connack", { reasonCode: 0 });
    expect(store.log.map(({ record }) => record)).toEqual(["session-opened", "subscribed", "subscribed"]);
    at.engine.publishText("a/1", Buffer.from("x"));
    await client.expect("publish", { topic: "a/1" });
  });

  test("a client that leaves while it is being subscribed leaves nothing behind", async () => {
    const at = await Fixture.start(["access", "fabric"]);
    const before = at.held();
    for (const step of [0, 1, 2, 3]) {
      const client = await at.asking("c", false);
      const subscriptions = [{ filter: Buffer.from("a"), qos: 0 as const }];
      const { access, fabric } = at.ports;
      const steps = [
        () => access.answer({ reasonCode: 0, subscriptions }),
        () => fabric.answerAll(),
        () => access.answerAll(),
        () => fabric.answerAll(),
      ];
      for (const go of steps.slice(0, step)) go();
      client.kill();
      if (step === 0) access.answer({ reasonCode: 0, subscriptions });
      at.answer();
      expect(at.held()).toEqual(before);
      expect([...fabric.wanted]).toEqual([]);
    }
  });

  test("an acknowledgement that needs nothing waits for the one before it", async () => {
    const at = await Fixture.start(["store"]);
    await at.subscriber("stays", "t");
    const client = await at.client("c", false);
    client.send(publish(1));
    client.send(publish(2, "nobody"));
    expect(await arrived(client)).toEqual([]);
    at.ports.store.commit();
    expect(await arrived(client)).toEqual(["puback 1", "puback 2"]);
  });

  test("CONNACK waits, input waits behind it, and then both go on", async () => {
    const at = await Fixture.start(["store"]);
    const client = await at.asking("c");
    client.send(publish(1, "nobody"));
    expect(at.engine.metrics.get("packets.publish.received")).toBe(0);
    at.ports.store.commit();
    await client.expect("connack", { reasonCode: 0 });
    await client.expect("puback", { packetId: 1 });
  });

  test("CONNACK after a clean start waits until the old session's end is safe", async () => {
    const at = await Fixture.start(["store"]);
    const first = await at.client("c");
    const second = await at.harness.open(5);
    second.send({ type: "connect", clientId: "c", cleanStart: true });
    await first.expectDisconnect(0x8e);
    expect(at.ports.store.records()).toContain("session-ended");
    await second.expectNothing(1);
    at.ports.store.commit();
    await second.expect("connack", { sessionPresent: false });
  });

  test("a session that ends with its connection is not told to the store", async () => {
    const at = await Fixture.start(["store"]);
    const client = await at.harness.open(5);
    client.send({ type: "connect", clientId: "c", cleanStart: true });
    client.send({ type: "subscribe", packetId: 1, subscriptions: [{ filter: "t", qos: 1 }] });
    client.send(publish(2));
    expect(at.ports.store.records()).toEqual([]);
    await client.expect("connack");
    await client.expect("suback");
  });

  test("the acknowledgement of a DUP waits for its original's commit, on a new connection too", async () => {
    const at = await Fixture.start(["store"]);
    await at.subscriber("stays", "t");
    const first = await at.client("c");
    first.send(publish(1, "t", 2));
    first.send({ ...publish(1, "t", 2), dup: true } as PacketInput);
    expect(await arrived(first)).toEqual([]);
    first.kill();
    const again = await at.asking("c");
    again.send({ ...publish(1, "t", 2), dup: true } as PacketInput);
    await again.expectNothing(1);
    at.ports.store.commit();
    await again.expect("connack", { sessionPresent: true });
    await again.expect("pubrec", { packetId: 1 });
    const stored = at.ports.store.log.filter(({ record }) => record === "enqueued");
    expect(stored).toHaveLength(1);
  });

  test("at QoS 2 our PUBLISH waits until message and id are safe, our PUBREL until the PUBREC is", async () => {
    const at = await Fixture.start(["store"]);
    const client = await at.subscriber("stays", "t");
    at.engine.publishText("t", Buffer.from("x"), { qos: 2 });
    at.engine.publishText("t", Buffer.from("y"), { qos: 1 });
    expect(await arrived(client)).toEqual([]);
    at.ports.store.commit();
    expect(await arrived(client)).toEqual(["publish 1", "publish 2"]);
    client.send({ type: "pubrec", packetId: 1 });
    expect(await arrived(client)).toEqual([]);
    at.ports.store.commit();
    expect(await arrived(client)).toEqual(["pubrel 1"]);
  });

  test("a QoS 2 message that was taken over before its commit goes to the new connection, once, after CONNACK", async () => {
    const at = await Fixture.start(["store"]);
    await at.subscriber("stays", "t");
    at.engine.publishText("t", Buffer.from("x"), { qos: 2 });
    const again = await at.asking("stays");
    await again.expectNothing(1);
    at.ports.store.commit();
    await again.expect("connack", { sessionPresent: true });
    await again.expect("publish", { packetId: 1, dup: false, payload: "x" });
    expect(await arrived(again)).toEqual([]);
  });

  test("deliveries, pings and other clients do not wait", async () => {
    const at = await Fixture.start(["store"]);
    const receiver = await at.subscriber("stays", "t");
    const client = await at.client("c");
    client.send(publish(1));
    await receiver.expect("publish", { payload: "1" });
    await client.ping();
    await client.expectNothing(1);
  });

  test("acknowledgements that wait for us do not use up the client's quota", async () => {
    const at = await Fixture.start(["store"], { mqtt: { receiveMax: 2 } });
    await at.subscriber("stays", "t");
    const client = await at.client("c");
    for (const packetId of [1, 2, 3]) {
      client.send({ type: "subscribe", packetId, subscriptions: [{ filter: `x/${packetId}`, qos: 1 }] });
    }
    client.send(publish(4));
    client.send(publish(5));
    expect(client.isClosed).toBe(false);
    at.ports.store.commit();
    expect(await arrived(client)).toEqual(["suback 1", "suback 2", "suback 3", "puback 4", "puback 5"]);
  });

  test("more QoS 1 than the quota is refused while the first wait", async () => {
    const at = await Fixture.start(["store"], { mqtt: { receiveMax: 2 } });
    await at.subscriber("stays", "t");
    const client = await at.client("c");
    for (const packetId of [1, 2, 3]) client.send(publish(packetId));
    await client.expectDisconnect(0x93);
  });

  test("a taken-over connection that still waits for CONNACK gets a code that CONNACK has", async () => {
    const at = await Fixture.start(["store"]);
    const first = await at.asking("c");
    const second = await at.asking("c");
    const { reasonCode } = await first.expect("connack");
    expect([0x80, 0x87, 0x88, 0x89, 0x97]).toContain(reasonCode);
    await first.expectClosed();
    at.ports.store.commit();
    await second.expect("connack", { reasonCode: 0 });
  });
});

describe("a fabric that answers later", () => {
  test("a claim holds its client's input and nobody else's", async () => {
    const at = await Fixture.start(["fabric"]);
    const other = await at.client("other", false);
    const client = await at.asking("c");
    client.send({ type: "subscribe", packetId: 1, subscriptions: [{ filter: "t", qos: 0 }] });
    await other.ping();
    expect([at.engine.sessions.count, at.ports.fabric.announces.length]).toEqual([1, 0]);
    at.ports.fabric.claims.shift()!.complete();
    await client.expect("connack", { reasonCode: 0 });
    at.ports.fabric.announces.shift()!.complete();
    await client.expect("suback", { packetId: 1 });
  });

  test("SUBACK waits until every filter is known, and input behind it too", async () => {
    const at = await Fixture.start(["fabric"]);
    const client = await at.client("c");
    client.send({
      type: "subscribe",
      packetId: 1,
      subscriptions: [{ filter: "a" }, { filter: "a#" }, { filter: "b/+" }],
    });
    client.send({ type: "subscribe", packetId: 2, subscriptions: [{ filter: "c" }] });
    const { announces } = at.ports.fabric;
    expect(announces.map(({ filter }) => filter)).toEqual(["a", "b/+"]);
    announces.pop()!.complete();
    await client.expectNothing(1);
    announces.pop()!.complete();
    await client.expect("suback", { packetId: 1, reasonCodes: [0, 0x8f, 0] });
    expect(announces.map(({ filter }) => filter)).toEqual(["c"]);
  });

  test("SUBACK that was announced late still waits for its own commit, whatever others did meanwhile", async () => {
    const at = await Fixture.start(["fabric", "store"]);
    const other = await at.client("other", false);
    const client = await at.client("c");
    client.send({ type: "subscribe", packetId: 1, subscriptions: [{ filter: "t", qos: 1 }] });
    other.send({ type: "publish", topic: "nobody" });
    at.ports.fabric.answerAll();
    await client.expectNothing(1);
    at.ports.store.commit();
    await client.expect("suback", { packetId: 1 });
  });

  test("PUBACK waits until the others have the message", async () => {
    const at = await Fixture.start(["fabric"]);
    const client = await at.client("c");
    client.send(publish(1));
    client.send(publish(2, "u"));
    expect([await arrived(client), at.ports.fabric.forwards]).toEqual([[], ["t", "u"]]);
    at.ports.fabric.deliver(1);
    expect(await arrived(client)).toEqual(["puback 1"]);
    at.ports.fabric.deliver();
    expect(await arrived(client)).toEqual(["puback 2"]);
  });

  test("the acknowledgement of a DUP waits until the others have its original, on a new connection too", async () => {
    const at = await Fixture.start(["fabric"]);
    const first = await at.client("c");
    first.send(publish(1, "t", 2));
    first.kill();
    const again = await at.asking("c");
    at.ports.fabric.answerAll();
    await again.expect("connack", { sessionPresent: true });
    again.send({ ...publish(1, "t", 2), dup: true } as PacketInput);
    await again.expectNothing(1);
    at.ports.fabric.deliver();
    await again.expect("pubrec", { packetId: 1 });
  });

  test("CONNACK does not wait for what another client has forwarded", async () => {
    const at = await Fixture.start(["fabric"]);
    const other = await at.client("other", false);
    other.send(publish(1));
    const client = await at.asking("c");
    at.ports.fabric.answerAll();
    await client.expect("connack", { reasonCode: 0 });
  });

  test("the claim that completes last has the session, the one before is told", async () => {
    const at = await Fixture.start(["fabric"]);
    const first = await at.asking("c");
    const second = await at.asking("c");
    at.ports.fabric.claims.shift()!.complete();
    await first.expect("connack", { reasonCode: 0 });
    at.ports.fabric.claims.shift()!.complete();
    await first.expectDisconnect(0x8e);
    await second.expect("connack", { sessionPresent: true });
  });

  test("a filter is withdrawn when its last subscriber here has gone, and not before", async () => {
    const at = await Fixture.start(["fabric"]);
    const { fabric } = at.ports;
    const [a, b] = [await at.subscriber("a", "t"), await at.subscriber("b", "t")];
    await a.unsubscribe("t");
    expect([...fabric.wanted.keys()]).toEqual(["t"]);
    await b.unsubscribe("t");
    expect([...fabric.wanted.keys()]).toEqual([]);
  });

  test("a session that ends withdraws its filters", async () => {
    const at = await Fixture.start(["fabric"]);
    const client = await at.subscriber("a", "t");
    await client.disconnect({ properties: [["sessionExpiryIntervalSec", 0]] });
    expect([...at.ports.fabric.wanted.keys()]).toEqual([]);
  });
});

describe("access that answers later", () => {
  test("a publish is held with all behind it, in order, and other clients are not", async () => {
    const at = await Fixture.start(["access"]);
    const [client, other] = [await at.client("c"), await at.client("o")];
    for (const packetId of [1, 2]) client.send(publish(packetId, "nobody"));
    client.send(publish(3, "deny/x"));
    client.send({ type: "pingreq" });
    await other.ping();
    await client.expectNothing(1);
    at.ports.access.decide();
    await client.expect("puback", { packetId: 1, reasonCode: 0x10 });
    await client.expect("puback", { packetId: 2, reasonCode: 0x10 });
    await client.expectNothing(1);
    at.ports.access.decide();
    await client.expect("puback", { packetId: 3, reasonCode: 0x87 });
    await client.expect("pingresp");
    expect(at.engine.metrics.get("messages.dropped.not_authorized")).toBe(1);
  });

  test("a packet that waits is handled as it came, whatever stands before its topic alias", async () => {
    const at = await Fixture.start(["access"]);
    const receiver = await at.subscriber("r", "t", 0);
    const client = await at.client("c");
    const properties: [["contentType", string], ["topicAlias", number], ["userProperty", [string, string]]] = [
      ["contentType", "text"],
      ["topicAlias", 1],
      ["userProperty", ["k", "v"]],
    ];
    client.send({ type: "publish", topic: "t", payload: "x", properties });
    at.ports.access.decide();
    expect(client.isClosed).toBe(false);
    const passedOn: typeof properties = properties.toSpliced(1, 1) as never;
    await receiver.expect("publish", { payload: "x", properties: passedOn });
    await client.ping();
  });

  test("a packet is counted once however often it is looked at", async () => {
    const at = await Fixture.start(["access"]);
    const client = await at.client("c");
    const before = at.engine.metrics.get("packets.received");
    client.send({ type: "publish", topic: "t" });
    at.ports.access.decide();
    expect(at.engine.metrics.get("packets.received") - before).toBe(1);
  });

  test.each([0, 1, 5, 9])("a verdict that comes within whenDecided, PUBLISH cut at %d", async (cut) => {
    const at = await Fixture.start(["access"]);
    at.ports.access.isDecidedAtOnce = true;
    const client = await at.client("c");
    const bytes = Uint8Array.from([0x32, 7, 0, 1, 0x74, 0, 1, 0, 0x78, 0xc0, 0]);
    client.send(bytes.subarray(0, cut));
    client.send(bytes.subarray(cut));
    await client.expect("puback", { packetId: 1 });
    await client.expect("pingresp");
  });

  test("SUBSCRIBE: verdicts filter by filter, input behind it waits", async () => {
    const at = await Fixture.start(["access"]);
    const client = await at.client("c");
    client.send({
      type: "subscribe",
      packetId: 1,
      subscriptions: [{ filter: "a" }, { filter: "deny/x" }, { filter: "b", qos: 1 }],
    });
    client.send({ type: "pingreq" });
    await client.expectNothing(1);
    at.ports.access.answerAll();
    await client.expect("suback", { reasonCodes: [0, 0x87, 1] });
    await client.expect("pingresp");
    expect(at.engine.index.subscriptionCount).toBe(2);
  });

  test("held input beyond heldBytesMax pauses the link, and it goes on when the answer is there", async () => {
    const at = await Fixture.start(["access"], { mqtt: { heldBytesMax: 65_536 } });
    const receiver = await at.subscriber("r", "t", 0);
    const own = ownLink(at);
    own.receive(encodePacket({ type: "connect", clientId: "own" }, 5));
    at.ports.access.answerAll();
    const large = encodePacket({ type: "publish", topic: "t", payload: new Uint8Array(20_000) }, 5);
    for (let i = 0; i < 3; i++) own.receive(large);
    expect(own.isPaused).toBe(false);
    own.receive(large);
    expect(own.isPaused).toBe(true);
    at.ports.access.decide();
    expect(own.isPaused).toBe(false);
    for (let i = 0; i < 4; i++) await receiver.expect("publish");
    own.destroy();
  });

  test("keep-alive stands still while input is held", async () => {
    const at = await Fixture.start(["access"]);
    const client = await at.harness.open(5);
    client.send({ type: "connect", clientId: "c", keepAliveSec: 10 });
    at.ports.access.answer();
    await client.expect("connack");
    client.send({ type: "publish", topic: "t" });
    await at.harness.advance(60);
    at.ports.access.decide();
    await client.ping();
    await at.harness.advance(14);
    expect(client.isClosed).toBe(false);
    await at.harness.advance(2);
    await client.expectDisconnect(0x8d);
  });
});

describe("authentication", () => {
  const method: ["authenticationMethod", string] = ["authenticationMethod", "M"];
  const data = (text: string): ["authenticationData", Uint8Array] => ["authenticationData", Buffer.from(text)];

  async function inExchange(): Promise<{ at: Fixture; client: RawClient }> {
    const at = await Fixture.start(["access"]);
    const client = await at.harness.open(5);
    client.send({ type: "connect", clientId: "c", properties: [method, data("1")] });
    return { at, client };
  }

  async function accepted(): Promise<{ at: Fixture; client: RawClient }> {
    const { at, client } = await inExchange();
    at.ports.access.answer({ reasonCode: 0, data: Buffer.from("done") });
    await client.expect("connack", { reasonCode: 0 });
    return { at, client };
  }

  test("refused late, with the reason in words", async () => {
    const at = await Fixture.start(["access"]);
    const client = await at.asking("c");
    client.send(publish(1));
    at.ports.access.answer({ reasonCode: 0x86, reasonString: "no" });
    await client.expect("connack", { reasonCode: 0x86, properties: [["reasonString", "no"]] });
    await client.expectClosed();
    expect(at.held()).toEqual([0, 0, 0]);
  });

  test("several steps, each answered late; state is the backend's own and data that of the step", async () => {
    const { at, client } = await inExchange();
    const { access } = at.ports;
    expect(access.requests[0]).toMatchObject({ method: "M", isReauthentication: false });
    for (const step of ["2", "3"]) {
      const request = access.answer({ reasonCode: 0x18, data: Buffer.from(`after ${step}`), reasonString: "go on" });
      request.state = step;
      await client.expect("auth", {
        reasonCode: 0x18,
        properties: [method, data(`after ${step}`), ["reasonString", "go on"]],
      });
      client.send({ type: "auth", reasonCode: 0x18, properties: [method, data(step)] });
      expect(access.requests[0]!.data!.toString()).toBe(step);
      expect(access.requests[0]!.state).toBe(step);
    }
    access.answer({ reasonCode: 0, data: Buffer.from("done") });
    const { properties } = await client.expect("connack", { reasonCode: 0 });
    expect(properties).toContainEqual(method);
    expect(properties).toContainEqual(["authenticationData", Uint8Array.from(Buffer.from("done"))]);
  });

  test("again: everything else goes on meanwhile, and success is told", async () => {
    const { at, client } = await accepted();
    client.send({ type: "auth", reasonCode: 0x19, properties: [method, data("again")] });
    expect(at.ports.access.requests[0]).toMatchObject({ isReauthentication: true });
    await client.ping();
    at.ports.access.answer({ reasonCode: 0x18, data: Buffer.from("?") });
    await client.expect("auth", { reasonCode: 0x18 });
    client.send({ type: "auth", reasonCode: 0x18, properties: [method, data("!")] });
    at.ports.access.answer();
    await client.expect("auth", { reasonCode: 0, properties: [method] });
    client.send({ type: "auth", reasonCode: 0x19, properties: [method] });
    at.ports.access.answer({ reasonCode: 0x87 });
    await client.expectDisconnect(0x87);
  });

  test("again: a step that the broker has not asked for reaches no backend", async () => {
    const { at, client } = await accepted();
    client.send({ type: "auth", reasonCode: 0x19, properties: [method, data("again")] });
    client.send({ type: "auth", reasonCode: 0x18, properties: [method, data("not asked for")] });
    expect(at.ports.access.requests).toHaveLength(1);
    await client.expectDisconnect(0x82);
  });

  test("given up: DISCONNECT between two steps", async () => {
    const { at, client } = await inExchange();
    at.ports.access.answer({ reasonCode: 0x18 });
    await client.expect("auth");
    await client.disconnect();
    expect(at.held()).toEqual([0, 0, 0]);
  });
});

describe("a connection that ends while an answer is under way leaves no session, timer or hold", () => {
  const ways: [string, (keyof Later)[], (client: RawClient, at: Fixture) => void][] = [
    ["authentication", ["access"], () => {}],
    ["claim", ["fabric"], () => {}],
    ["commit of CONNACK", ["store"], () => {}],
    ["verdict on PUBLISH", ["access"], (client, at) => (at.ports.access.answerAll(), client.send(publish(1)))],
    [
      "verdict on SUBSCRIBE",
      ["access"],
      (client, at) => {
        at.ports.access.answerAll();
        client.send({ type: "subscribe", packetId: 1, subscriptions: [{ filter: "t" }] });
      },
    ],
    [
      "announce",
      ["fabric"],
      (client, at) => {
        at.ports.fabric.answerAll();
        client.send({ type: "subscribe", packetId: 1, subscriptions: [{ filter: "t" }] });
      },
    ],
    ["forward", ["fabric"], (client, at) => (at.ports.fabric.answerAll(), client.send(publish(1)))],
  ];

  test.each(ways)("%s", async (_name, ports, go) => {
    const at = await Fixture.start(ports);
    const client = await at.asking("c", false);
    go(client, at);
    client.kill();
    at.answer();
    at.answer();
    expect([...at.held(), at.engine.index.subscriptionCount]).toEqual([0, 0, 0, 0]);
    const { metrics } = at.engine;
    expect(metrics.get("connections.closed")).toBe(metrics.get("connections.opened"));
    const next = await at.client("c", false);
    await next.ping();
  });

  test("CONNECT that nobody answers ends with the connect timeout", async () => {
    const at = await Fixture.start(["access"]);
    const client = await at.asking("c");
    await at.harness.advance(11);
    expect([client.isClosed, ...at.held()]).toEqual([true, 0, 0, 0]);
    at.ports.access.answer();
    expect(at.held()).toEqual([0, 0, 0]);
  });

  test("nothing is written to a link that a held DISCONNECT has ended", async () => {
    const at = await Fixture.start(["store"]);
    const link = ownLink(at);
    let lateCount = 0;
    const reserve = link.reserve.bind(link);
    link.reserve = (size) => {
      if (link.isClosed) lateCount++;
      return reserve(size);
    };
    link.receive(encodePacket({ type: "connect", clientId: "c", properties: DAY }, 5));
    link.receive(encodePacket(publish(1), 5));
    link.receive(encodePacket({ type: "disconnect" }, 5));
    at.ports.store.commit();
    at.ports.store.commit();
    expect([link.isClosed, lateCount]).toEqual([true, 0]);
  });
});
