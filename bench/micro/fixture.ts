/** What several suites need: a seeded engine, sinks and links that only count, topics by number. */
import { Engine, type LimitOverrides, MessageView, type Sink } from "#core/engine.ts";
import type { Access, Link } from "#core/ports.ts";
import { Random } from "#base/random.ts";
import { decodePublish } from "#mqtt/codec/publish.ts";
import { Connection } from "#mqtt/connection.ts";
import { MqttContext } from "#mqtt/context.ts";
import { generate, type IConnectPacket, type IPublishPacket } from "mqtt-packet";

export const SEED = 4711;

/** Everybody may do everything, unless there is an `access`. */
export function makeEngine(limits: LimitOverrides = {}, access?: Access): Engine {
  return new Engine({ seed: SEED, nowMs: 1_000_000, nowSec: 1_000, limits, ...(access && { access }) });
}

/** Takes everything at once and remembers the packet ids it owes an acknowledgement. */
export class CountingSink implements Sink {
  isWritable = true;
  windowMax = 65_535;
  readonly isRetryAllowed = false;
  session = -1;
  count = 0;
  /** Packet ids since the last `owed.count = 0`. */
  readonly owed = { ids: new Uint16Array(65_536), count: 0 };

  deliver(view: MessageView, _flags: number, packetId: number): boolean {
    this.count += view.payloadEnd - view.payloadStart;
    if (packetId !== 0) this.owed.ids[this.owed.count++] = packetId;
    return true;
  }

  release(packetId: number): void {
    this.count += packetId;
  }

  end(): void {}
}

export function openSink(engine: Engine, clientId: string): CountingSink {
  const sink = new CountingSink();
  const request = { clientId: Buffer.from(clientId), isCleanStart: true, expirySec: 0, will: undefined };
  engine.open(request, sink, ({ session }) => (sink.session = session));
  engine.attach(sink.session);
  return sink;
}

/** Writes into one buffer over and over, as a socket that always has room. */
export class CountingLink implements Link {
  readonly remoteAddress = "127.0.0.1";
  readonly remotePort = 50_000;
  readonly buffer: Buffer = Buffer.alloc(1 << 17);
  readonly unsentBytes = 0;
  written = 0;
  private at = 0;

  reserve(size: number): number {
    if (this.at + size > this.buffer.length) this.at = 0;
    return this.at;
  }

  commit(end: number): void {
    this.written += end - this.at;
    this.at = end;
  }

  writeLarge(_bytes: Buffer, start: number, end: number): void {
    this.written += end - start;
  }

  end(): void {}
  destroy(): void {}
  pause(): void {}
  resume(): void {}
}

export function packet(fields: Parameters<typeof generate>[0], version = 4): Buffer {
  return generate(fields, { protocolVersion: version });
}

export function publishPacket(
  topic: string,
  payload: number,
  qos: 0 | 1 | 2,
  version: number,
  properties?: IPublishPacket["properties"],
): Buffer {
  const fields: IPublishPacket = {
    cmd: "publish",
    topic,
    payload: Buffer.alloc(payload, 120),
    qos,
    dup: false,
    retain: false,
    ...(qos === 0 ? {} : { messageId: 1 }),
    ...(properties && version === 5 ? { properties } : {}),
  };
  return packet(fields, version);
}

/** A view of a PUBLISH, as the connection makes it from a chunk. */
export function viewOf(frame: Buffer, version: number): MessageView {
  const view = new MessageView();
  const fault = decodePublish(frame, 0, bodyOf(frame), frame.length, version === 5, view);
  if (fault !== 0) throw new Error(`not a PUBLISH: ${fault}`);
  return view;
}

/** Where a packet's body begins. */
export function bodyOf(frame: Buffer): number {
  let at = 1;
  while (frame[at++] >= 0x80);
  return at;
}

/** Topics one after the other in one buffer, as a chunk would hold them: `[at[i], at[i + 1])`. */
export interface TopicList {
  readonly bytes: Buffer;
  readonly at: Int32Array;
  readonly count: number;
}

export function listTopics(topics: readonly string[]): TopicList {
  const at = new Int32Array(topics.length + 1);
  topics.forEach((topic, i) => (at[i + 1] = at[i] + topic.length));
  return { bytes: Buffer.from(topics.join(""), "latin1"), at, count: topics.length };
}

/** `count` numbers below `bound`, in no order. */
export function randomNumbers(count: number, bound: number): number[] {
  const random = new Random(SEED);
  return Array.from({ length: count }, () => random.below(bound));
}

/** Shapes of filters, with a topic that each matches. About 30 bytes, four or five levels. */
export const shapes = {
  exact: {
    filter: (i: number) => `site/${i % 100}/line/device${i}/state`,
    topic: (i: number) => `site/${i % 100}/line/device${i}/state`,
  },
  "+": {
    filter: (i: number) => `site/+/line/device${i}`,
    topic: (i: number) => `site/${i % 100}/line/device${i}`,
  },
  "#": {
    filter: (i: number) => `site/${i % 100}/device${i}/#`,
    topic: (i: number) => `site/${i % 100}/device${i}/state`,
  },
} as const;

export type Shape = keyof typeof shapes | "mixed";

/** Mixed: seven exact filters, two with `+`, one with `#` in ten. */
export function shapeOf(shape: Shape, i: number): { filter: string; topic: string } {
  const kind = shape !== "mixed" ? shape : i % 10 < 7 ? "exact" : i % 10 < 9 ? "+" : "#";
  return { filter: shapes[kind].filter(i), topic: shapes[kind].topic(i) };
}

export interface Client {
  readonly connection: Connection;
  readonly link: CountingLink;
}

interface ClientWay {
  readonly version: 3 | 4 | 5;
  readonly context?: MqttContext;
  readonly clientId?: string;
  /** Several connections may write to one. */
  readonly link?: CountingLink;
  readonly properties?: IConnectPacket["properties"];
}

/** A connection that has got its CONNACK. */
export function openClient(way: ClientWay): Client {
  const { version, clientId = "c" } = way;
  const context = way.context ?? new MqttContext(makeEngine());
  const link = way.link ?? new CountingLink();
  const connection = new Connection(context, link, "bench");
  connection.handleData(connectPacket(clientId, version, way.properties));
  if (connection.session < 0) throw new Error("no session");
  return { connection, link };
}

export function connectPacket(clientId: string, version: 3 | 4 | 5, properties?: IConnectPacket["properties"]): Buffer {
  const protocolId = version === 3 ? "MQIsdp" : "MQTT";
  const fields = {
    cmd: "connect",
    protocolId,
    protocolVersion: version,
    clean: true,
    clientId,
    keepalive: 60,
  } as const;
  return packet(properties && version === 5 ? { ...fields, properties } : fields, version);
}

export function subscribePacket(filter: string, qos: 0 | 1 | 2, version: number, id = 0): Buffer {
  const properties = id === 0 ? {} : { properties: { subscriptionIdentifier: id } };
  return packet({ cmd: "subscribe", messageId: 1, subscriptions: [{ topic: filter, qos }], ...properties }, version);
}
