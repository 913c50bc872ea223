/**
 * A client's bytes in, other clients' bytes out: everything but the sockets. An operation of the pairs is one message from
 * the chunk with its PUBLISH to the last acknowledgement of both sides.
 */
import { MqttContext } from "#mqtt/context.ts";
import {
  type Client,
  connectPacket,
  CountingLink,
  makeEngine,
  openClient,
  packet,
  publishPacket,
  subscribePacket,
} from "./fixture.ts";
import { Connection } from "#mqtt/connection.ts";
import { type Recorder, type Suite, sized } from "./recorder.ts";

/** Messages in a chunk and unacknowledged at once; it divides 65,535, so that a window never wraps. */
const WINDOW = 15;
const TOPIC = "site/12/line/device4711/state";

export const suite: Suite = {
  about: "bytes in, bytes out: a connection on a link in memory (src/mqtt/connection.ts)",
  async run(recorder) {
    for (const qos of [0, 1, 2] as const) for (const version of [4, 5] as const) await pair(recorder, qos, version);
    for (const qos of [0, 1] as const) await fanOut(recorder, qos, sized(recorder, 500));
    await connects(recorder);
    await mixedV5(recorder);
  },
};

async function pair(recorder: Recorder, qos: 0 | 1 | 2, version: 4 | 5): Promise<void> {
  const context = new MqttContext(makeEngine());
  const subscriber = openClient({ version, context, clientId: "s" });
  const publisher = openClient({ version, context, clientId: "p" });
  subscriber.connection.handleData(subscribePacket(TOPIC, qos, version));
  const sent = windowOf(publishPacket(TOPIC, 64, qos, version), 4 + TOPIC.length, qos);
  const acks = new Acks(subscriber, qos);
  const released = windowOf(packet({ cmd: "pubrel", messageId: 1 }), 2, qos);
  await recorder.time(`pair, QoS ${qos}, ${version === 5 ? "5.0" : "3.1.1"}, 64 B`, WINDOW * 20, () => {
    for (let i = 0; i < 20; i++) {
      publisher.connection.handleData(sent);
      if (qos === 2) publisher.connection.handleData(released);
      acks.answer(WINDOW);
    }
    return publisher.link.written + subscriber.link.written;
  });
  const lost = context.engine.messages.count + context.engine.metrics.get("bugs");
  if (lost > 0) throw new Error(`pair QoS ${qos}: ${lost} messages left unacknowledged`);
}

/** WINDOW packets in one chunk, with packet ids from 1 on. */
function windowOf(one: Buffer, idAt: number, qos: number): Buffer {
  const packets = Array.from({ length: WINDOW }, (_, i) => {
    const copy = Buffer.from(one);
    if (qos > 0) copy.writeUInt16BE(i + 1, idAt);
    return copy;
  });
  return Buffer.concat(packets);
}

/** A subscriber's acknowledgements; it knows the ids that the broker uses: 1 to 65,535, over and over. */
class Acks {
  private readonly first: Buffer;
  private readonly second = windowOf(packet({ cmd: "pubcomp", messageId: 1 }), 2, 1);
  private lastId = 0;

  constructor(
    private readonly client: Client,
    private readonly qos: number,
  ) {
    this.first = windowOf(packet({ cmd: qos === 2 ? "pubrec" : "puback", messageId: 1 }), 2, 1);
  }

  answer(count: number): void {
    if (this.qos === 0) return;
    const { first, second } = this;
    for (let i = 0; i < count; i++) {
      this.lastId = this.lastId === 65_535 ? 1 : this.lastId + 1;
      const at = i * 4 + 2;
      first[at] = second[at] = this.lastId >> 8;
      first[at + 1] = second[at + 1] = this.lastId & 0xff;
    }
    this.client.connection.handleData(count === WINDOW ? first : first.subarray(0, count * 4));
    if (this.qos === 2) this.client.connection.handleData(count === WINDOW ? second : second.subarray(0, count * 4));
  }
}

async function fanOut(recorder: Recorder, qos: 0 | 1, subscribers: number): Promise<void> {
  const context = new MqttContext(makeEngine());
  const acks = Array.from({ length: subscribers }, (_, i) => {
    const client = openClient({ version: 4, context, clientId: `s${i}` });
    client.connection.handleData(subscribePacket(TOPIC, qos, 4));
    return new Acks(client, qos);
  });
  const publisher = openClient({ version: 4, context, clientId: "p" });
  const sent = windowOf(publishPacket(TOPIC, 64, qos, 4), 4 + TOPIC.length, qos);
  await recorder.time(`fan-out to ${subscribers}, QoS ${qos}, a delivery`, WINDOW * subscribers, () => {
    publisher.connection.handleData(sent);
    for (let i = 0; i < acks.length; i++) acks[i].answer(WINDOW);
    return context.engine.metrics.counts[0];
  });
}

/** One topic, ten 5.0 subscribers: QoS 0 and 1 in turn, each with an identifier; the publisher sends user properties. */
async function mixedV5(recorder: Recorder): Promise<void> {
  const bodies = ([4, 5] as const).map((version) => {
    const context = new MqttContext(makeEngine());
    const acks = Array.from({ length: 10 }, (_, i) => {
      const client = openClient({ version, context, clientId: `s${i}` });
      const qos = (i & 1) as 0 | 1;
      client.connection.handleData(subscribePacket(TOPIC, qos, version, version === 5 ? i + 1 : 0));
      return new Acks(client, qos);
    });
    const publisher = openClient({ version, context, clientId: "p" });
    const properties = { userProperties: { unit: "C", from: "a" } };
    const sent = windowOf(publishPacket(TOPIC, 64, 1, version, properties), 4 + TOPIC.length, 1);
    return () => {
      publisher.connection.handleData(sent);
      for (let i = 0; i < acks.length; i++) acks[i].answer(WINDOW);
      return context.engine.metrics.counts[0];
    };
  });
  const [v4, v5] = bodies;
  const ways = { "3.1.1": v4, "5.0 with user properties and identifiers": v5 };
  await recorder.compare("ten subscribers, QoS 0 and 1, a delivery", WINDOW * 10, ways, 1.5);
}

async function connects(recorder: Recorder): Promise<void> {
  const ways = [
    ["3.1.1", connectPacket("device-4711", 4)],
    ["5.0", connectPacket("device-4711", 5, { sessionExpiryInterval: 0, receiveMaximum: 20 })],
  ] as const;
  for (const [name, connect] of ways) {
    const version = name === "5.0" ? 5 : 4;
    const context = new MqttContext(makeEngine());
    const subscribe = subscribePacket("site/12/+/state", 0, version);
    const disconnect = packet({ cmd: "disconnect" });
    const link = new CountingLink();
    const visit = (isSubscribing: boolean): number => {
      for (let i = 0; i < 100; i++) {
        const connection = new Connection(context, link, "bench");
        connection.handleData(connect);
        if (isSubscribing) connection.handleData(subscribe);
        connection.handleData(disconnect);
      }
      return link.written;
    };
    await recorder.time(`CONNECT and DISCONNECT, ${name}`, 100, () => visit(false));
    await recorder.time(`CONNECT, SUBSCRIBE, DISCONNECT, ${name}`, 100, () => visit(true));
    if (context.engine.sessions.count > 0) throw new Error("a session was left");
  }
}
