// A client that does nothing by itself: tests send packets or bytes and say what must come back.
//
// It works over any Pipe and holds one inbox of decoded packets in order of arrival. `next` and the `expect…` methods read
// the inbox from its front, so nothing a broker sends goes unseen; the calls that complete a handshake (`subscribe`,
// `publish`, …) take only their own answer out of it, because deliveries may legally come in between.
// Bytes may arrive inside `write` itself (in memory) or later (TCP); both ways look the same to a test.

import { isDeepStrictEqual } from "node:util";
import { decodePacket, frameLength } from "./packet-decoder.ts";
import { describePacket, encodePacket, hex, prop, toHex } from "./packets.ts";
import type {
  ConnackPacket,
  Loose,
  Packet,
  PacketInput,
  PacketInputOf,
  PacketOf,
  PacketType,
  Properties,
  PubackPacket,
  PubcompPacket,
  PublishPacket,
  PubrecPacket,
  SubackPacket,
  Subscription,
  UnsubackPacket,
  Version,
} from "./packets.ts";

/** MANTOU_TEST_SETTLE_MS: what messages may take on their way between the processes of the broker that is judged. */
const SETTLE_MS = Number(process.env["MANTOU_TEST_SETTLE_MS"] ?? 0);

export interface Pipe {
  write(bytes: Uint8Array): void;
  /** Abrupt. `onClose` need not follow. */
  close(): void;
  onData: (bytes: Uint8Array) => void;
  onClose: () => void;
}

/** Any field of CONNECT. Defaults: a counted client id, clean start, keep alive 0, the version's protocol name and level. */
export type ConnectOptions = Omit<PacketInputOf<"connect">, "type">;
export type SubscribeOptions = Omit<Loose<Subscription>, "filter"> & { properties?: Properties; packetId?: number };
export interface PublishOptions {
  qos?: number;
  retain?: boolean;
  dup?: boolean;
  properties?: Properties;
  packetId?: number;
}
/** Fields to compare; a payload may be given as a string. */
export type Fields<T extends PacketType> = Omit<Loose<PacketOf<T>>, "type">;

type Arrival = { packet: Packet; bytes: Uint8Array } | { error: Error };

const TIMEOUT_MS = 1000;
const FROM_CLIENT_ONLY: PacketType[] = ["connect", "subscribe", "unsubscribe", "pingreq"];

let clientCount = 0;

export class RawClient {
  readonly version: Version;
  /** As sent in CONNECT, or as assigned by the broker. */
  clientId = "";
  /** The CONNACK that accepted this client. */
  connack: ConnackPacket | undefined;
  /** Acknowledge each received QoS 1 and 2 PUBLISH at once. A PUBREL is then answered and not shown. */
  autoAck = false;
  /** The broker closed, or this side was killed. */
  isClosed = false;

  readonly #pipe: Pipe;
  readonly #inbox: Arrival[] = [];
  readonly #watchers = new Set<() => void>();
  #tail: Uint8Array = new Uint8Array(0);
  #lastPacketId = 0;

  constructor(pipe: Pipe, version: Version) {
    this.#pipe = pipe;
    this.version = version;
    pipe.onData = (bytes) => this.#receive(bytes);
    pipe.onClose = () => this.#close();
  }

  send(packet: PacketInput | Uint8Array): void {
    this.#pipe.write(packet instanceof Uint8Array ? packet : encodePacket(packet, this.version));
  }

  /** The next packet must be a CONNACK, with any reason code. */
  async connect(options: ConnectOptions = {}): Promise<ConnackPacket> {
    const clientId = options.clientId ?? `t${++clientCount}`;
    if (typeof clientId === "string") this.clientId = clientId;
    this.send({ type: "connect", ...options, clientId });
    return this.expect("connack");
  }

  /** Sends DISCONNECT and waits until the broker has closed, so that its effects can be looked for. */
  async disconnect(options: { reasonCode?: number; properties?: Properties } = {}): Promise<void> {
    this.send({ type: "disconnect", ...options });
    await this.#wait("close after DISCONNECT", TIMEOUT_MS, () => this.isClosed || undefined);
  }

  /** Closes abruptly, without DISCONNECT. */
  kill(): void {
    this.#pipe.close();
    this.#close();
  }

  async next(timeoutMs = TIMEOUT_MS): Promise<Packet> {
    return (await this.#shift("a packet", timeoutMs)).packet;
  }

  async expect<T extends PacketType>(
    type: T,
    fields: Fields<T> = {} as Fields<T>,
    timeoutMs = TIMEOUT_MS,
  ): Promise<PacketOf<T>> {
    const { packet, bytes } = await this.#shift(type, timeoutMs);
    const problems = packet.type === type ? differences(packet, fields) : [`expected ${type}, got ${packet.type}`];
    if (problems.length > 0) {
      throw new Error(`${problems.join("\n")}\nin ${describePacket(packet)}\n   [${toHex(bytes.subarray(0, 200))}]`);
    }
    return packet as PacketOf<T>;
  }

  async expectBytes(expected: string | Uint8Array, timeoutMs = TIMEOUT_MS): Promise<Packet> {
    const want = toHex(typeof expected === "string" ? hex(expected) : expected);
    const { packet, bytes } = await this.#shift(want, timeoutMs);
    const got = toHex(bytes);
    if (got !== want) {
      let same = 0;
      while (want[same] === got[same]) same++;
      const mark = " ".repeat(same - (same % 3)) + "^^";
      throw new Error(`expected ${want}\n     got ${got}\n         ${mark}\n  that is ${describePacket(packet)}`);
    }
    return packet;
  }

  /** The broker closes, and nothing is unread. */
  async expectClosed(timeoutMs = TIMEOUT_MS): Promise<void> {
    await this.#wait("close", timeoutMs, () => {
      this.#refuseUnread("close");
      return this.isClosed || undefined;
    });
  }

  /** 5.0: DISCONNECT with this code, then close. */
  async expectDisconnect(reasonCode: number): Promise<PacketOf<"disconnect">> {
    const packet = await this.expect("disconnect", { reasonCode });
    await this.expectClosed();
    return packet;
  }

  /**
   * The broker ends the connection because of what was sent. 5.0: CONNACK before it has accepted, DISCONNECT after, with this code or
   * one of these, then close; 3.x: close alone.
   */
  async expectRejected(reasonCode: number | number[]): Promise<void> {
    if (this.version === 5) {
      const packet = await this.expect(this.connack === undefined ? "connack" : "disconnect");
      const allowed = [reasonCode].flat();
      if (!allowed.includes(packet.reasonCode!)) {
        throw new Error(`expected reason code ${toHex(Uint8Array.from(allowed))} in ${describePacket(packet)}`);
      }
    }
    await this.expectClosed();
  }

  /** Really waits. Prefer `settle`, which needs no time. */
  async expectNothing(durationMs: number): Promise<void> {
    let isOver = false;
    setTimeout(() => {
      isOver = true;
      this.#changed();
    }, durationMs);
    await this.#wait("nothing", durationMs + TIMEOUT_MS, () => {
      this.#refuseUnread("nothing");
      return isOver || undefined;
    });
  }

  /** PINGREQ and its PINGRESP; packets before it stay in the inbox. */
  async ping(): Promise<void> {
    this.send({ type: "pingreq" });
    await this.take("pingresp");
  }

  /**
   * All unread packets up to the answer of a PINGREQ sent now: whatever the broker had for this client by then. What another client
   * published counts only once the broker has handled it: await that client's QoS 1 or 2 `publish`, or its own `settle`, first.
   */
  async settle(): Promise<Packet[]> {
    if (SETTLE_MS > 0) await new Promise((resolve) => setTimeout(resolve, SETTLE_MS));
    this.send({ type: "pingreq" });
    const count = await this.#wait("pingresp", TIMEOUT_MS, () => {
      const index = this.#find((packet) => packet.type === "pingresp");
      return index < 0 ? undefined : index;
    });
    const seen = this.#inbox.splice(0, count + 1).slice(0, count);
    return seen.map((arrival) => (arrival as { packet: Packet }).packet);
  }

  /** Takes the first packet of a type (and packet id) out of the inbox, whatever stands before it. */
  async take<T extends PacketType>(type: T, packetId?: number, timeoutMs = TIMEOUT_MS): Promise<PacketOf<T>> {
    const what = packetId === undefined ? type : `${type} of packet id ${packetId}`;
    const packet = await this.#wait(what, timeoutMs, () => {
      const index = this.#find(
        (each) => each.type === type && (packetId === undefined || ("packetId" in each && each.packetId === packetId)),
      );
      return index < 0 ? undefined : (this.#inbox.splice(index, 1)[0] as { packet: Packet }).packet;
    });
    return packet as PacketOf<T>;
  }

  /** Options hold for all filters given as strings; properties and packet id for the packet. */
  async subscribe(
    filters: string | (string | Loose<Subscription>)[],
    options: number | SubscribeOptions = 0,
  ): Promise<SubackPacket> {
    const {
      properties,
      packetId = this.nextPacketId(),
      ...rest
    } = typeof options === "number" ? { qos: options } : options;
    const subscriptions = [filters].flat().map((each) => (typeof each === "string" ? { ...rest, filter: each } : each));
    this.send({ type: "subscribe", packetId, ...(properties && { properties }), subscriptions });
    return this.take("suback", packetId);
  }

  async unsubscribe(
    filters: string | string[],
    options: { properties?: Properties; packetId?: number } = {},
  ): Promise<UnsubackPacket> {
    const packetId = options.packetId ?? this.nextPacketId();
    this.send({ type: "unsubscribe", ...options, packetId, filters: [filters].flat() });
    return this.take("unsuback", packetId);
  }

  /** Completes the handshake. Returns the broker's answers: none, [PUBACK], [PUBREC, PUBCOMP], or [PUBREC] when that refuses. */
  async publish(
    topic: string,
    payload: string | Uint8Array = "",
    options: PublishOptions = {},
  ): Promise<(PubackPacket | PubrecPacket | PubcompPacket)[]> {
    const { qos = 0 } = options;
    if (qos === 0) {
      this.send({ type: "publish", ...options, topic, payload });
      return [];
    }
    const packetId = options.packetId ?? this.nextPacketId();
    this.send({ type: "publish", ...options, packetId, topic, payload });
    if (qos === 1) return [await this.take("puback", packetId)];
    const pubrec = await this.take("pubrec", packetId);
    if ((pubrec.reasonCode ?? 0) >= 0x80) return [pubrec];
    this.send({ type: "pubrel", packetId });
    return [pubrec, await this.take("pubcomp", packetId)];
  }

  /** Acknowledges a received PUBLISH to the end: PUBACK, or PUBREC, the broker's PUBREL, PUBCOMP. */
  async ack(publish: PublishPacket): Promise<void> {
    const { qos, packetId } = publish;
    if (qos === 0 || packetId === undefined) return;
    if (qos === 1) {
      this.send({ type: "puback", packetId });
      return;
    }
    this.send({ type: "pubrec", packetId });
    await this.take("pubrel", packetId);
    this.send({ type: "pubcomp", packetId });
  }

  /** 1, 2, … 65535, 1; does not know which are in use. */
  nextPacketId(): number {
    this.#lastPacketId = (this.#lastPacketId % 0xffff) + 1;
    return this.#lastPacketId;
  }

  #receive(bytes: Uint8Array): void {
    this.#tail = joined(this.#tail, bytes);
    for (;;) {
      let frame: Uint8Array;
      try {
        const length = frameLength(this.#tail);
        if (length === undefined) break;
        frame = this.#tail.slice(0, length);
        this.#tail = this.#tail.slice(length); // before the packet is handled: an automatic answer may bring bytes in here again
      } catch (error) {
        this.#inbox.push({ error: error as Error });
        this.#tail = new Uint8Array(0);
        break;
      }
      this.#handleFrame(frame);
    }
    this.#changed();
  }

  #handleFrame(bytes: Uint8Array): void {
    let packet: Packet;
    try {
      packet = decodePacket(bytes, this.version);
      refuseFromBroker(packet, this.version);
    } catch (error) {
      this.#inbox.push({ error: error as Error });
      return;
    }
    if (packet.type === "connack" && packet.reasonCode === 0) {
      this.connack = packet;
      const assigned = prop(packet, "assignedClientIdentifier");
      if (typeof assigned === "string") this.clientId = assigned;
    }
    const isHidden = this.autoAck && packet.type === "pubrel";
    if (!isHidden) this.#inbox.push({ packet, bytes });
    if (this.autoAck) this.#answer(packet);
  }

  #answer(packet: Packet): void {
    if (packet.type === "pubrel") this.send({ type: "pubcomp", packetId: packet.packetId });
    if (packet.type !== "publish" || packet.qos === 0) return;
    this.send({ type: packet.qos === 1 ? "puback" : "pubrec", packetId: packet.packetId! });
  }

  #close(): void {
    if (this.isClosed) return;
    this.isClosed = true;
    if (this.#tail.length > 0)
      this.#inbox.push({ error: new Error(`closed in the middle of a packet [${toHex(this.#tail)}]`) });
    this.#changed();
  }

  #changed(): void {
    for (const watcher of this.#watchers) watcher();
  }

  #shift(what: string, timeoutMs: number): Promise<{ packet: Packet; bytes: Uint8Array }> {
    return this.#wait(what, timeoutMs, () => {
      const arrival = this.#inbox.shift();
      if (arrival !== undefined && "error" in arrival) throw arrival.error;
      return arrival;
    });
  }

  /** The index of the first match, or -1. A malformed packet before it is thrown. */
  #find(matches: (packet: Packet) => boolean): number {
    return this.#inbox.findIndex((arrival) => {
      if ("error" in arrival) throw arrival.error;
      return matches(arrival.packet);
    });
  }

  #refuseUnread(expected: string): void {
    if (this.#inbox.length > 0) throw new Error(`expected ${expected}, but unread: ${this.#describeInbox()}`);
  }

  #describeInbox(): string {
    return (
      this.#inbox
        .map((arrival) => ("error" in arrival ? arrival.error.message : describePacket(arrival.packet)))
        .join("\n  ") || "nothing"
    );
  }

  /** Polls now and at each arrival or close until there is a value, the link is closed, or the time is over. */
  #wait<T>(what: string, timeoutMs: number, poll: () => T | undefined): Promise<T> {
    const failure = new Error(); // made here, because its stack still names the test's line
    return new Promise((resolve, reject) => {
      const finish = (settle: () => void) => {
        this.#watchers.delete(attempt);
        clearTimeout(timer);
        settle();
      };
      const fail = (why: string) => {
        failure.message = `expected ${what}, but ${why}; unread: ${this.#describeInbox()}`;
        finish(() => reject(failure));
      };
      const attempt = () => {
        try {
          const value = poll();
          if (value !== undefined) finish(() => resolve(value));
          else if (this.isClosed) fail("the connection is closed");
        } catch (error) {
          failure.message = (error as Error).message;
          finish(() => reject(failure));
        }
      };
      const timer = setTimeout(() => fail(`none came within ${timeoutMs} ms`), timeoutMs);
      this.#watchers.add(attempt);
      attempt();
    });
  }
}

function joined(first: Uint8Array, second: Uint8Array): Uint8Array {
  const bytes = new Uint8Array(first.length + second.length);
  bytes.set(first);
  bytes.set(second, first.length);
  return bytes;
}

/** What is well-formed, but never comes from a broker. */
function refuseFromBroker(packet: Packet, version: Version): void {
  const fault = (why: string) => new Error(`the broker must not send this: ${why}: ${describePacket(packet)}`);
  if (FROM_CLIENT_ONLY.includes(packet.type)) throw fault("a client's packet");
  if (packet.type === "auth" && packet.reasonCode === 0x19) throw fault("re-authenticate");
  if (packet.type !== "disconnect") return;
  if (version !== 5) throw fault("3.x has no DISCONNECT from the broker");
  if (packet.reasonCode === 0x04) throw fault("disconnect with will");
  if (prop(packet, "sessionExpiryIntervalSec") !== undefined) throw fault("session expiry interval");
}

/** One line for each given field that the packet has otherwise. */
function differences(packet: object, fields: object): string[] {
  const actual = packet as Record<string, unknown>;
  return Object.entries(fields).flatMap(([name, expected]) => {
    if (isDeepStrictEqual(plain(actual[name]), plain(expected, actual[name]))) return [];
    return [`${name}: expected ${show(expected)}, got ${show(actual[name])}`];
  });
}

/** Bytes of any class as Uint8Array, and a string that stands for bytes as these bytes. */
function plain(value: unknown, counterpart?: unknown): unknown {
  if (typeof value === "string" && counterpart instanceof Uint8Array) return new TextEncoder().encode(value);
  if (value instanceof Uint8Array) return Uint8Array.from(value);
  if (!Array.isArray(value)) return value;
  return value.map((each, index) => plain(each, Array.isArray(counterpart) ? counterpart[index] : undefined));
}

function show(value: unknown): string {
  if (value === undefined) return "none";
  return JSON.stringify(value, (_, each) => (each instanceof Uint8Array ? `<${toHex(each)}>` : each));
}
