/**
 * Message rates, and what publishers meet while the broker is busy. Links are in memory and hand bytes over at once; the clock is
 * the test's.
 */
import { describe, expect, test } from "bun:test";
import { Pacer } from "#base/pacer.ts";
import { PacerTable } from "#base/pacer-table.ts";
import { Engine } from "#core/engine.ts";
import type { LimitOverrides } from "#core/limits.ts";
import { Connection } from "#mqtt/connection.ts";
import { MqttContext } from "#mqtt/context.ts";
import { limitRates } from "#mqtt/pacing.ts";
import { MemoryLink } from "#test/support/memory-link.ts";
import { decodePacket, frameLength } from "#test/support/packet-decoder.ts";
import { encodePacket, type Packet, type PacketInput, type PacketOf, type Version } from "#test/support/packets.ts";

class Broker {
  nowMs = 1_000_000;
  readonly engine: Engine;
  readonly context: MqttContext;
  readonly clientRates = new PacerTable(1);

  constructor(limits: LimitOverrides = {}) {
    this.engine = new Engine({ seed: 1, nowMs: this.nowMs, nowSec: 1000, limits });
    this.context = new MqttContext(this.engine);
  }

  count(name: Parameters<Engine["metrics"]["get"]>[0]): number {
    return this.engine.metrics.get(name);
  }

  advance(ms: number): void {
    for (let left = ms; left > 0; left -= 50) {
      this.nowMs += Math.min(50, left);
      this.engine.tick(this.nowMs, Math.floor(this.nowMs / 1000));
    }
  }

  open(pacer?: () => Pacer): Client {
    return new Client(this, pacer);
  }

  connect(clientId: string, rest: Partial<PacketOf<"connect">> = {}, pacer?: () => Pacer): Client {
    const client = this.open(pacer);
    client.send({ type: "connect", clientId, cleanStart: true, ...rest });
    expect(client.take()).toMatchObject([{ type: "connack", reasonCode: 0 }]);
    return client;
  }
}

class Client {
  readonly link = new MemoryLink();
  readonly packets: Packet[] = [];
  version: Version = 5;

  constructor(broker: Broker, makePacer: (() => Pacer) | undefined) {
    this.link.onData = (bytes) => {
      for (let rest = Buffer.from(bytes); rest.length > 0;) {
        const length = frameLength(rest)!;
        this.packets.push(decodePacket(rest.subarray(0, length), this.version));
        rest = rest.subarray(length);
      }
    };
    const connection = new Connection(broker.context, this.link, "test");
    limitRates(connection, { makePacer, clients: broker.clientRates });
    this.link.protocol = connection;
  }

  send(...packets: PacketInput[]): void {
    this.link.receive(Buffer.concat(packets.map((packet) => encodePacket(packet, this.version))));
  }

  /** What has come since it was last asked. */
  take(): Packet[] {
    return this.packets.splice(0);
  }

  publish(count: number, qos: 0 | 1 | 2 = 0, topic = "a"): void {
    const ids = Array.from({ length: count }, (_, i) => i + 1);
    this.send(
      ...ids.map(
        (packetId) => ({ type: "publish", topic, payload: `${packetId}`, qos, ...(qos && { packetId }) }) as const,
      ),
    );
  }

  subscribe(filter: string, qos: 0 | 1 | 2 = 0): void {
    this.send({ type: "subscribe", packetId: 1, subscriptions: [{ filter, qos }] });
    expect(this.take()).toMatchObject([{ type: "suback" }]);
  }

  acks(): number[] {
    return this.take().map((packet) => (packet as PacketOf<"puback">).packetId);
  }
}

function payloads(packets: readonly Packet[]): number[] {
  return packets.map((packet) => Number(Buffer.from((packet as PacketOf<"publish">).payload).toString()));
}

const upTo = (count: number): number[] => Array.from({ length: count }, (_, i) => i + 1);

describe("a message rate", () => {
  const tenASecond = () => new Pacer(10, 3);

  test("lets a burst in, then one message at a time as they are earned; nothing is lost and the order stays", () => {
    const broker = new Broker();
    const subscriber = broker.connect("subscriber");
    subscriber.subscribe("a");
    const publisher = broker.connect("publisher", {}, tenASecond);
    publisher.publish(20);
    expect(payloads(subscriber.take())).toEqual([1, 2, 3]);
    expect(publisher.link.isPaused).toBe(true);
    broker.advance(500);
    const came = payloads(subscriber.take());
    expect(came.length).toBeWithin(4, 7);
    broker.advance(2000);
    expect([1, 2, 3, ...came, ...payloads(subscriber.take())]).toEqual(upTo(20));
    expect(publisher.link.isPaused).toBe(false);
    expect(broker.count("connections.paused.message_rate")).toBeGreaterThan(5);
    expect(broker.count("messages.qos0.received")).toBe(20);
  });

  test("holds for QoS 1 as well; acknowledgements come with their messages", () => {
    const broker = new Broker();
    const publisher = broker.connect("publisher", {}, tenASecond);
    publisher.publish(6, 1);
    expect(publisher.acks()).toEqual([1, 2, 3]);
    broker.advance(1000);
    expect(publisher.acks()).toEqual([4, 5, 6]);
  });

  test("is of one connection: others are read on", () => {
    const broker = new Broker();
    const subscriber = broker.connect("subscriber");
    subscriber.subscribe("a");
    broker.connect("paced", {}, tenASecond).publish(50);
    subscriber.take();
    broker.connect("free").publish(50);
    expect(payloads(subscriber.take())).toEqual(upTo(50));
  });

  test("of one message a second does not end a client whose keep-alive is a second", () => {
    const broker = new Broker();
    const publisher = broker.connect("publisher", { keepAliveSec: 1 }, () => new Pacer(0.2, 1));
    publisher.publish(4);
    broker.advance(14_000); // five seconds a message
    expect(publisher.link.isClosed).toBe(false);
    broker.advance(2000);
    expect(broker.count("messages.qos0.received")).toBe(4);
    broker.advance(8000); // now it is silent itself
    expect(publisher.link.isClosed).toBe(true);
    expect(broker.count("connections.closed.keep_alive")).toBe(1);
  });

  test("of a client that leaves meanwhile: what it had sent before is handled, and its timer is gone", () => {
    const broker = new Broker();
    const publisher = broker.connect("publisher", {}, tenASecond);
    publisher.publish(6);
    publisher.link.destroy();
    broker.advance(1000);
    expect(broker.count("messages.qos0.received")).toBe(6);
    broker.advance(20_000);
    expect(broker.context.connectionCount).toBe(0);
  });
});

describe("a link that has held input back", () => {
  test("excuses the silence", () => {
    const broker = new Broker();
    const client = broker.connect("slow", { keepAliveSec: 1 });
    let isHolding = true;
    Object.assign(client.link, { takeHeldBack: () => isHolding });
    broker.advance(10_000);
    expect(client.link.isClosed).toBe(false);
    isHolding = false;
    broker.advance(3500);
    expect(client.link.isClosed).toBe(true);
  });
});

describe("connections of one client id", () => {
  test("beyond their rate are refused with 0x9F, 3.x with 3; later they come in", () => {
    const broker = new Broker();
    broker.connect("a");
    const second = broker.open();
    second.send({ type: "connect", clientId: "a", cleanStart: true });
    expect(second.take()).toMatchObject([{ type: "connack", reasonCode: 0x9f }]);
    expect(second.link.isClosed).toBe(true);
    const third = broker.open();
    third.version = 4;
    third.send({ type: "connect", clientId: "a", cleanStart: true });
    expect(third.take()).toMatchObject([{ type: "connack", reasonCode: 3 }]);
    broker.connect("b");
    expect(broker.count("connections.refused.client_rate")).toBe(2);
    broker.advance(1000);
    broker.connect("a");
  });
});

describe("a busy broker", () => {
  test("drops QoS 0 that clients publish, with a reason, until it is not busy any more", () => {
    const broker = new Broker();
    const dropped: unknown[] = [];
    broker.engine.hooks.messageDropped.add((clientId, reason) => void dropped.push([clientId, reason]));
    const client = broker.connect("a");
    client.subscribe("a");
    broker.context.setBusy(true);
    client.publish(2);
    expect(client.take()).toEqual([]);
    expect(dropped).toEqual([
      ["a", "overloaded"],
      ["a", "overloaded"],
    ]);
    expect(broker.count("messages.dropped.overloaded")).toBe(2);
    broker.context.setBusy(false);
    client.publish(2);
    expect(payloads(client.take())).toEqual([1, 2]);
  });

  test("does not read a flood of QoS 0 for half a second at a time, its keep-alive standing still", () => {
    const broker = new Broker();
    const client = broker.connect("flood", { keepAliveSec: 1 });
    broker.context.setBusy(true);
    client.publish(63);
    expect(client.link.isPaused).toBe(false);
    client.publish(200);
    expect(client.link.isPaused).toBe(true);
    expect(broker.count("messages.dropped.overloaded")).toBe(263); // nothing is kept in memory
    expect(broker.count("connections.paused.busy")).toBe(1);
    broker.advance(450);
    expect(client.link.isPaused).toBe(true);
    broker.advance(100);
    expect(client.link.isPaused).toBe(false);
    for (let i = 0; i < 5; i++) {
      client.publish(100);
      expect(client.link.isPaused).toBe(true);
      broker.advance(500);
    }
    expect(client.link.isClosed).toBe(false);
    broker.advance(3000);
    expect(client.link.isClosed).toBe(true);
    expect(broker.count("connections.closed.keep_alive")).toBe(1);
  });

  test("reads on what owes it acknowledgements", () => {
    const broker = new Broker();
    const client = broker.connect("both");
    client.subscribe("b", 1);
    broker.connect("other").publish(1, 1, "b");
    expect(client.take()).toHaveLength(1);
    broker.context.setBusy(true);
    client.publish(200);
    expect(client.link.isPaused).toBe(false);
    client.send({ type: "puback", packetId: 1 });
    client.publish(200);
    expect(client.link.isPaused).toBe(true);
  });

  test("acknowledges QoS 1 and 2 about three times a second, in order, and at once when it is over", () => {
    const broker = new Broker();
    const subscriber = broker.connect("subscriber");
    subscriber.subscribe("a", 2);
    const publisher = broker.connect("publisher");
    broker.context.setBusy(true);
    publisher.publish(3, 1);
    expect(payloads(subscriber.take())).toEqual([1, 2, 3]); // only the acknowledgement waits
    expect(publisher.acks()).toEqual([]);
    broker.advance(200);
    expect(publisher.acks()).toEqual([]);
    broker.advance(200);
    expect(publisher.acks()).toEqual([1, 2, 3]);
    publisher.publish(2, 2);
    broker.advance(100);
    expect(publisher.take()).toEqual([]);
    broker.context.setBusy(false);
    expect(publisher.take()).toMatchObject([
      { type: "pubrec", packetId: 1 },
      { type: "pubrec", packetId: 2 },
    ]);
    expect(broker.count("messages.slowed.busy")).toBe(5);
    publisher.publish(1, 1);
    expect(publisher.acks()).toEqual([1]);
  });

  test.each([4, 5] as const)(
    "holds a client of version %d that sends more than the receive maximum meanwhile",
    (version) => {
      const broker = new Broker({ mqtt: { receiveMax: 10 } });
      const publisher = broker.open();
      publisher.version = version;
      publisher.send({ type: "connect", clientId: "p", cleanStart: true });
      publisher.take();
      broker.context.setBusy(true);
      publisher.publish(30, 1);
      expect(broker.count("messages.qos1.received")).toBe(9);
      broker.advance(400);
      expect(publisher.acks()).toEqual(upTo(9));
      broker.context.setBusy(false);
      expect(publisher.acks()).toEqual(upTo(30).slice(9));
      expect(publisher.link.isClosed).toBe(false);
    },
  );

  test("refuses CONNECT with Server busy, and counts it", () => {
    const broker = new Broker();
    broker.context.setBusy(true);
    const client = broker.open();
    client.send({ type: "connect", clientId: "late", cleanStart: true });
    expect(client.take()).toMatchObject([{ type: "connack", reasonCode: 0x89 }]);
    expect(broker.count("connections.refused.busy")).toBe(1);
  });
});
