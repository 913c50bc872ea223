/**
 * A client that a plugin speaks for: what a gateway from another protocol is made of.
 *
 *   plugin ─ publish, subscribe ─► packets ─► protocol.handleData      the MQTT 5.0 connection of any other client, with all it is asked and
 *   plugin ◄─ message, end ◄──── packets ◄─ this link's buffer ◄──┘    held to; of several workers that of the worker that has its session
 *
 * It is a link whose other end is the plugin. Both directions wait for the next turn of the loop, so that nothing is handled while the
 * engine routes. What the plugin is slow to take at QoS 1 and 2 stays unacknowledged, and so with the broker.
 */
import { isIP } from "node:net";
import { MantouError } from "#base/error.ts";
import { MessageView } from "#core/message.ts";
import type { Link, Protocol } from "#core/ports.ts";
import { acked, decodeAck, encodeAck } from "#mqtt/codec/ack.ts";
import { withHeader } from "#mqtt/codec/connect.ts";
import {
  CONNACK,
  DISCONNECT,
  PUBACK,
  PUBCOMP,
  PUBLISH,
  PUBREC,
  PUBREL,
  readFrame,
  SUBACK,
  SUBSCRIBE,
  UNSUBACK,
  UNSUBSCRIBE,
} from "#mqtt/codec/frame.ts";
import { allProperties, encodeProperties, type Properties, readProperties } from "#mqtt/codec/properties.ts";
import { decodePublish, published } from "#mqtt/codec/publish.ts";
import { Reader } from "#mqtt/codec/reader.ts";
import type { ClientHandlers, ClientWish, GatewayClient, PublishOptions } from "./plugin.ts";
import { isTopicFilter, isTopicName } from "./topic.ts";

/** Messages at QoS 1 and 2 that the plugin has at once. */
const WINDOW = 100;
/** Calls without an answer. */
const UNANSWERED_MAX = 10_000;
/** Bytes that the broker has not read, since it holds this client's input or its window is full. */
const UNSAID_BYTES_MAX = 16 * 1024 * 1024;
/** Bytes for the plugin beyond which the broker takes it for a slow client, until the next turn. */
const UNREAD_BYTES_MAX = 1024 * 1024;
/** Reason codes of MQTT 5.0. */
const UNSPECIFIED_ERROR = 0x80;
const QOS_NOT_SUPPORTED = 0x9b;
const SUCCESS = 0;

type Answer = PromiseWithResolvers<number>;

export class PluginClient implements Link, GatewayClient {
  clientId: string;
  readonly remoteAddress: string;
  readonly remotePort: number;
  buffer: Buffer = Buffer.allocUnsafe(256);
  unsentBytes = 0;
  /** What handles its packets; another one once it is known where its session is. */
  protocol: Protocol | null = null;
  /** Called when it has ended, or was refused. */
  whenOver: () => void = () => {};
  /** Accepted, or refused. */
  private readonly opened = Promise.withResolvers<void>();
  private isOver = false;
  private isLeaving = false;
  private isFinished = false;
  private isPaused = false;
  private isScheduled = false;
  private isBlocked = false;
  private reasonCode = SUCCESS;
  private outbound: Buffer[] = [];
  /** Of `outbound` and `waiting`. */
  private unsaidBytes = 0;
  private readonly answers = new Map<number, Answer>();
  /** Reason codes of PUBREC, until PUBCOMP. */
  private readonly received = new Map<number, number>();
  private lastPacketId = 0;
  /** A packet id that is new here may be one that the client before did not release. */
  private isResumed = false;
  /** Publishes that wait for the broker's window. */
  private readonly waiting: Buffer[] = [];
  private publishingCount = 0;
  private receiveMax = 65_535;
  private qosMax = 2;

  /** @throws MantouError `plugin_invalid` */
  constructor(
    wish: ClientWish,
    private readonly handlers: ClientHandlers,
    private readonly fault: (error: unknown) => void,
  ) {
    const { clientId, address = "127.0.0.1", port = 0, will } = wish;
    if (isIP(address) === 0) throw invalid(`address: found ${address}, allowed: an IP address`);
    if (will && !isTopicName(will.topic)) throw invalid(`${will.topic} is no topic name`);
    this.clientId = clientId;
    this.remoteAddress = address;
    this.remotePort = port;
    this.send(connectPacket(wish));
  }

  /** Rejects with MantouError `client_refused`. */
  async open(protocol: Protocol): Promise<this> {
    this.protocol = protocol;
    this.schedule();
    await this.opened.promise;
    return this;
  }

  // ---- GatewayClient

  publish(topic: string, payload: string | Uint8Array, options: PublishOptions = {}): Promise<number> {
    const { qos = 0, isRetain = false } = options;
    if (!isTopicName(topic)) throw invalid(`${topic} is no topic name`);
    if (![0, 1, 2].includes(qos)) throw invalid(`qos: found ${qos}, allowed: 0, 1, 2`);
    this.checkOpen();
    if (qos > this.qosMax) return Promise.resolve(QOS_NOT_SUPPORTED); // the broker would end the client
    const first = (PUBLISH << 4) | (qos << 1) | (isRetain ? 1 : 0);
    const bytes = Buffer.from(payload as Uint8Array);
    if (qos === 0) {
      this.send(withHeader(first, Buffer.concat([prefixed(topic), NO_PROPERTIES, bytes])));
      return Promise.resolve(SUCCESS);
    }
    const id = this.nextId();
    const publish = withHeader(first, Buffer.concat([prefixed(topic), id16(id), NO_PROPERTIES, bytes]));
    const packet = qos === 2 && this.isResumed ? Buffer.concat([ackPacket(PUBREL, id), publish]) : publish;
    this.waiting.push(packet);
    this.unsaidBytes += packet.length;
    const answer = this.answerTo(id);
    this.publishWaiting();
    return answer;
  }

  subscribe(filter: string, qos: 0 | 1 | 2 = 0): Promise<number> {
    return this.ask(SUBSCRIBE, filter, Buffer.from([qos]));
  }

  unsubscribe(filter: string): Promise<number> {
    return this.ask(UNSUBSCRIBE, filter, Buffer.alloc(0));
  }

  close(reasonCode = SUCCESS): void {
    if (this.isOver || this.isLeaving) return;
    this.isLeaving = true;
    this.isPaused = false;
    this.send(withHeader(DISCONNECT << 4, Buffer.from([reasonCode])));
  }

  // ---- Link

  reserve(size: number): number {
    const at = this.unsentBytes;
    if (at + size > this.buffer.length) {
      const larger = Buffer.allocUnsafe((at + size) * 2);
      this.buffer.copy(larger, 0, 0, at);
      this.buffer = larger;
    }
    return at;
  }

  commit(end: number): void {
    this.unsentBytes = end;
    this.schedule();
    if (this.isBlocked || end <= UNREAD_BYTES_MAX) return;
    this.isBlocked = true;
    this.protocol?.handleWritable(false);
  }

  writeLarge(bytes: Buffer, start: number, end: number): void {
    const at = this.reserve(end - start);
    bytes.copy(this.buffer, at, start, end);
    this.commit(at + end - start);
  }

  /** The broker's; what it has said is read still. */
  end(): void {
    this.destroy();
  }

  destroy(): void {
    if (this.isOver) return;
    this.isOver = true;
    this.outbound = [];
    this.protocol?.handleClose();
    this.schedule();
  }

  pause(): void {
    this.isPaused = true;
  }

  resume(): void {
    this.isPaused = false;
    this.schedule();
  }

  /** A plugin's silence is no lost peer's. */
  takeHeldBack(): boolean {
    return true;
  }

  // ---- to the broker

  private ask(type: number, filter: string, options: Buffer): Promise<number> {
    if (!isTopicFilter(filter)) throw invalid(`${filter} is no topic filter`);
    this.checkOpen();
    const id = this.nextId();
    this.send(withHeader((type << 4) | 2, Buffer.concat([id16(id), NO_PROPERTIES, prefixed(filter), options])));
    return this.answerTo(id);
  }

  private checkOpen(): void {
    if (this.isOver || this.isLeaving) throw new MantouError("client_ended", `client ${this.clientId} has ended`);
    const { clientId } = this;
    if (this.answers.size >= UNANSWERED_MAX)
      throw new MantouError("client_busy", `client ${clientId}: ${UNANSWERED_MAX} calls have no answer yet`);
    if (this.unsaidBytes > UNSAID_BYTES_MAX)
      throw new MantouError("client_busy", `client ${clientId}: ${UNSAID_BYTES_MAX} bytes have not been read yet`);
  }

  private answerTo(id: number): Promise<number> {
    const answer = Promise.withResolvers<number>();
    this.answers.set(id, answer);
    return answer.promise;
  }

  private nextId(): number {
    if (this.lastPacketId === 65_535) this.isResumed = false;
    do this.lastPacketId = (this.lastPacketId % 65_535) + 1;
    while (this.answers.has(this.lastPacketId));
    return this.lastPacketId;
  }

  private publishWaiting(): void {
    while (this.waiting.length > 0 && this.publishingCount < this.receiveMax) {
      this.publishingCount++;
      const packet = this.waiting.shift()!;
      this.unsaidBytes -= packet.length; // `send` counts it
      this.send(packet);
    }
  }

  private send(packet: Buffer): void {
    this.outbound.push(packet);
    this.unsaidBytes += packet.length;
    this.schedule();
  }

  private schedule(): void {
    if (this.isScheduled) return;
    this.isScheduled = true;
    setImmediate(() => {
      this.isScheduled = false;
      const wasOver = this.isOver;
      this.read();
      this.flush();
      if (this.isLeaving) this.destroy(); // were its input held, the broker would not hear of it
      if (wasOver) this.finish(); // now all that it said has been read
    });
  }

  private flush(): void {
    if (this.isPaused || this.isOver || this.outbound.length === 0 || !this.protocol) return;
    const packets = Buffer.concat(this.outbound);
    this.outbound = [];
    this.unsaidBytes -= packets.length;
    this.protocol.handleData(packets);
  }

  // ---- from the broker

  private read(): void {
    // What it says meanwhile goes elsewhere.
    const { buffer, unsentBytes: end } = this;
    this.buffer = Buffer.allocUnsafe(256);
    this.unsentBytes = 0;
    let at = 0;
    while (at < end) {
      const size = readFrame(buffer, at, end);
      if (size < 0 || at + size > end) break;
      this.handle(buffer, at, at + size);
      at += size;
    }
    if (at < end) this.writeLarge(buffer, at, end); // nothing has been said meanwhile
    if (!this.isBlocked || this.isOver) return;
    this.isBlocked = false;
    this.protocol?.handleWritable(true);
  }

  private handle(bytes: Buffer, start: number, end: number): void {
    let body = start + 1;
    while (bytes[body++]! >= 0x80);
    const type = bytes[start]! >> 4;
    if (type === PUBLISH) this.handlePublish(bytes, start, body, end);
    else if (type === CONNACK)
      this.handleConnack(bytes[body + 1]!, bytes[body] === 1, new Reader(bytes, body + 2, end));
    else if (type === DISCONNECT) this.reasonCode = end > body ? bytes[body]! : SUCCESS;
    else if (type === SUBACK || type === UNSUBACK) this.settle(bytes.readUInt16BE(body), bytes[end - 1]!);
    else if (decodeAck(bytes, body, end, true) === 0) this.handleAck(type, acked.packetId, acked.reasonCode);
  }

  private handleAck(type: number, packetId: number, reasonCode: number): void {
    if (type === PUBREL) return this.send(ackPacket(PUBCOMP, packetId));
    if (type === PUBREC && reasonCode < UNSPECIFIED_ERROR) {
      this.received.set(packetId, reasonCode);
      return this.send(ackPacket(PUBREL, packetId));
    }
    if (type === PUBCOMP && !this.received.has(packetId)) return; // it was released before its use
    const outcome = this.received.get(packetId) ?? reasonCode;
    this.received.delete(packetId);
    this.publishingCount--;
    this.settle(packetId, outcome);
    this.publishWaiting();
  }

  private handleConnack(reasonCode: number, isResumed: boolean, reader: Reader): void {
    this.reasonCode = reasonCode;
    this.isResumed = isResumed;
    if (reasonCode !== SUCCESS) return; // it closes the link
    const { assignedClientIdentifier, receiveMaximum, maximumQos = 2 } = readProperties(reader, allProperties);
    this.qosMax = maximumQos;
    this.clientId = assignedClientIdentifier ?? this.clientId;
    this.receiveMax = receiveMaximum ?? this.receiveMax;
    this.opened.resolve();
  }

  private settle(id: number, reasonCode: number): void {
    this.answers.get(id)?.resolve(reasonCode);
    this.answers.delete(id);
  }

  private handlePublish(bytes: Buffer, start: number, body: number, end: number): void {
    const view = new MessageView();
    if (decodePublish(bytes, start, body, end, true, view) !== 0) return;
    const { packetId } = published;
    const message = { topic: view.topicText(), payload: view.payload(), qos: view.qos, isRetain: view.isRetain };
    const taken = Promise.try(() => this.handlers.message?.(message));
    void taken
      .then(
        () => SUCCESS,
        (error: unknown) => {
          this.fault(error);
          return UNSPECIFIED_ERROR;
        },
      )
      .then((reasonCode) => {
        if (packetId === 0 || this.isOver) return;
        this.send(ackPacket(message.qos === 2 ? PUBREC : PUBACK, packetId, reasonCode));
      });
  }

  private finish(): void {
    if (this.isFinished) return;
    this.isFinished = true;
    this.whenOver();
    const words = `client ${this.clientId}: reason code 0x${this.reasonCode.toString(16).padStart(2, "0")}`;
    for (const { reject, promise } of this.answers.values()) {
      promise.catch(() => {});
      reject(new MantouError("client_ended", words));
    }
    this.answers.clear();
    this.waiting.length = 0;
    this.opened.promise.then(
      () => Promise.try(() => this.handlers.end?.(this.reasonCode)).catch((error: unknown) => this.fault(error)),
      () => {},
    );
    this.opened.reject(new MantouError("client_refused", words, { reasonCode: this.reasonCode }));
  }
}

function ackPacket(type: number, packetId: number, reasonCode = SUCCESS): Buffer {
  const ack = Buffer.allocUnsafe(5);
  return ack.subarray(0, encodeAck(ack, 0, type, packetId, reasonCode));
}

const NO_PROPERTIES = Buffer.from([0]);

function connectPacket({
  clientId,
  username,
  password,
  will,
  isCleanStart = true,
  sessionExpirySec = 0,
}: ClientWish): Buffer {
  const properties: Properties = { sessionExpirySec, receiveMaximum: WINDOW };
  const flags =
    (isCleanStart ? 2 : 0) |
    (will ? 4 | ((will.qos ?? 0) << 3) | (will.isRetain ? 0x20 : 0) : 0) |
    (password === undefined ? 0 : 0x40) |
    (username === undefined ? 0 : 0x80);
  const parts = [
    Buffer.from([0, 4, 0x4d, 0x51, 0x54, 0x54, 5, flags, 0, 0]),
    encodeProperties(properties),
    prefixed(clientId),
  ];
  if (will) parts.push(NO_PROPERTIES, prefixed(will.topic), prefixed(will.payload));
  if (username !== undefined) parts.push(prefixed(username));
  if (password !== undefined) parts.push(prefixed(password));
  return withHeader(1 << 4, Buffer.concat(parts));
}

function prefixed(text: string | Uint8Array): Buffer {
  const bytes = Buffer.from(text as Uint8Array);
  if (bytes.length > 65_535)
    throw invalid(`found ${bytes.length} bytes, allowed: 65535 in an id, a name, a topic or a will`);
  return Buffer.concat([id16(bytes.length), bytes]);
}

function id16(value: number): Buffer {
  return Buffer.from([value >> 8, value & 0xff]);
}

function invalid(words: string): MantouError {
  return new MantouError("plugin_invalid", words);
}
