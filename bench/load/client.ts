/**
 * An MQTT client of the generator: CONNECT, SUBSCRIBE, then packets cut in place from what its link brings. An unfinished
 * packet's bytes are kept; from the next chunk only those that complete it are copied.
 *
 *   new ─► connecting ─► CONNACK ─► (SUBSCRIBE ─► SUBACK) ─► up ─► closed
 */
import { INCOMPLETE, MALFORMED, readFrame } from "#mqtt/codec/frame.ts";
import type { Inbox } from "./inbox.ts";
import { Link, type LinkOptions, type LinkUser } from "./link.ts";
import { DISCONNECT, encodeConnect, encodeSubscribe, PINGREQ, readServerLimits, type ServerLimits } from "./packet.ts";
import type { Plan } from "./plan.ts";
import type { Publisher } from "./publisher.ts";
import type { Tally } from "./tally.ts";

export type ClientKind = "idle" | "pub" | "sub";

/** What the clients of a process share. */
export interface ClientHost {
  readonly plan: Plan;
  readonly tally: Tally;
  readonly inbox: Inbox;
  readonly linkOptions: LinkOptions;
  nowNs(): number;
  /** The client has bytes to send, or may have messages to publish: visit it this tick. */
  touch(client: Client): void;
  /** An event of this client is handled. */
  afterEvent(bytes: number): void;
  /** CONNACK has come; the publisher of a publishing client. */
  makePublisher(client: Client, limits: ServerLimits): Publisher | undefined;
  handleUp(client: Client): void;
  handleClosed(client: Client, why: string): void;
}

export interface ClientOptions {
  readonly kind: ClientKind;
  /** Over the run, from 0 in each kind. */
  readonly index: number;
  readonly id: string;
  /** The topic that a publisher publishes to, or the filter that others subscribe to; "" for none. */
  readonly topic: string;
}

const PARTIAL_BYTES = 256;
const NO_LIMITS: ServerLimits = { receiveMax: 65_535, topicAliasMax: 0 };

export class Client implements LinkUser {
  isUp = false;
  isClosed = false;
  /** It is in the list of those to visit this tick. */
  isTouched = false;
  publisher: Publisher | undefined;
  lastOutNs = 0;
  private connectedNs = 0;
  private readonly link: Link;
  private partial: Buffer | undefined;
  private partialLength = 0;
  private eventBytes = 0;

  constructor(
    private readonly host: ClientHost,
    readonly options: ClientOptions,
  ) {
    this.link = new Link(host.linkOptions, this);
  }

  /** The kernel takes no more of its bytes for now. */
  get isBlocked(): boolean {
    return !this.isClosed && this.link.isBlocked;
  }

  connect(source: string | undefined): void {
    this.connectedNs = this.host.nowNs();
    this.link.connect(source);
  }

  /** Once a tick, if touched: publish and write. */
  visit(isRunning: boolean): void {
    this.isTouched = false;
    if (this.isClosed) return;
    const nowNs = this.host.nowNs(); // own, not the tick's: the writes of those before it are no part of its latency
    const isMore = isRunning && this.isUp && this.publisher?.pump(this.link, nowNs) === true;
    if (this.link.pendingBytes > 0) this.lastOutNs = nowNs;
    this.link.flush();
    if (isMore && !this.link.isBlocked) this.host.touch(this);
  }

  ping(): void {
    this.link.append(PINGREQ);
    this.host.touch(this);
  }

  disconnect(): void {
    if (this.isClosed) return;
    this.isClosed = true;
    if (this.isUp) this.link.append(DISCONNECT);
    this.link.end();
  }

  // ---- link

  handleOpen(): void {
    this.lastOutNs = this.host.nowNs();
    this.link.append(encodeConnect(this.host.plan, this.options.id));
    this.link.flush();
  }

  handleDrain(): void {
    this.host.touch(this);
  }

  handleClose(why: string): void {
    if (this.isClosed) return;
    this.isClosed = true;
    this.host.handleClosed(this, why);
  }

  handleEnd(): void {
    this.host.afterEvent(this.eventBytes);
    this.eventBytes = 0;
  }

  handleBytes(bytes: Buffer, start: number, end: number): void {
    const nowNs = this.host.nowNs();
    this.eventBytes += end - start;
    let at = this.partial === undefined ? start : this.completePartial(bytes, start, end, nowNs);
    while (at < end && !this.isClosed) {
      const length = readFrame(bytes, at, end);
      if (length === MALFORMED) return this.protocolFault("a packet whose length has five bytes");
      if (length === INCOMPLETE || at + length > end) return this.keepPartial(bytes, at, end, length);
      this.handlePacket(bytes, at, at + length, nowNs);
      at += length;
    }
  }

  private keepPartial(bytes: Buffer, at: number, end: number, length: number): void {
    this.partial = Buffer.allocUnsafe(length > 0 ? length : PARTIAL_BYTES);
    this.partialLength = bytes.copy(this.partial, 0, at, end);
  }

  /** Copies what completes the kept packet and handles it; returns the offset after it. */
  private completePartial(bytes: Buffer, start: number, end: number, nowNs: number): number {
    let at = start;
    for (;;) {
      const partial = this.partial!;
      const length = readFrame(partial, 0, this.partialLength);
      if (length === MALFORMED) {
        this.protocolFault("a packet whose length has five bytes");
        return end;
      }
      const wanted = length === INCOMPLETE ? this.partialLength + 1 : length;
      if (wanted > partial.length) {
        this.partial = Buffer.allocUnsafe(wanted);
        partial.copy(this.partial, 0, 0, this.partialLength);
      }
      if (this.partialLength === length) break;
      if (at === end) return end;
      const taken = bytes.copy(this.partial!, this.partialLength, at, Math.min(end, at + wanted - this.partialLength));
      at += taken;
      this.partialLength += taken;
    }
    const packet = this.partial!;
    this.partial = undefined;
    this.handlePacket(packet, 0, this.partialLength, nowNs);
    return at;
  }

  // ---- packets

  private handlePacket(bytes: Buffer, at: number, end: number, nowNs: number): void {
    let body = at + 2;
    while (bytes[body - 1] >= 0x80) body++;
    switch (bytes[at] >> 4) {
      case 3:
        return this.handlePublish(bytes, bytes[at], body, end, nowNs);
      case 4:
      case 5:
      case 7:
        return this.handleAck(bytes, bytes[at] >> 4, body, end, nowNs);
      case 6:
        return this.sendAck(0x70, bytes[body], bytes[body + 1]);
      case 2:
        return this.handleConnack(bytes, body, end, nowNs);
      case 9:
        return this.handleSuback(bytes[end - 1]);
      case 13:
        this.host.tally.counts.pongs++;
        return;
      case 14:
        return this.handleDisconnect(end - body > 0 ? bytes[body] : 0);
      default:
        return this.protocolFault(`a packet of type ${bytes[at] >> 4}`);
    }
  }

  private handlePublish(bytes: Buffer, first: number, body: number, end: number, nowNs: number): void {
    let at = body + 2 + ((bytes[body] << 8) | bytes[body + 1]);
    const qos = (first >> 1) & 3;
    if (qos > 0) {
      this.sendAck(qos === 1 ? 0x40 : 0x50, bytes[at], bytes[at + 1]);
      at += 2;
    }
    if (this.host.plan.version === 5) {
      let length = 0;
      for (let shift = 0; ; shift += 7) {
        const byte = bytes[at++];
        length |= (byte & 0x7f) << shift;
        if (byte < 0x80) break;
      }
      at += length;
    }
    if (at > end) return this.protocolFault("a PUBLISH that is too short");
    this.host.inbox.accept(this.options.index, first, bytes, at, end, nowNs);
  }

  private handleAck(bytes: Buffer, type: number, body: number, end: number, nowNs: number): void {
    const id = (bytes[body] << 8) | bytes[body + 1];
    const reasonCode = end - body > 2 ? bytes[body + 2] : 0;
    if (this.publisher === undefined) return this.protocolFault("an acknowledgement of nothing");
    if (this.publisher.handleAck(type, id, reasonCode, nowNs)) this.sendAck(0x62, bytes[body], bytes[body + 1]);
    else this.host.touch(this);
  }

  private sendAck(first: number, high: number, low: number): void {
    const at = this.link.reserve(4);
    const { buffer } = this.link;
    buffer[at] = first;
    buffer[at + 1] = 2;
    buffer[at + 2] = high;
    buffer[at + 3] = low;
    this.link.commit(at + 4);
    this.host.touch(this);
  }

  private handleConnack(bytes: Buffer, body: number, end: number, nowNs: number): void {
    const { host, options } = this;
    if (bytes[body + 1] !== 0) {
      host.tally.counts.refused++;
      return this.fault(`refused with code ${bytes[body + 1]}`);
    }
    host.tally.connack.add(nowNs - this.connectedNs);
    const limits = host.plan.version === 5 ? readServerLimits(bytes, body, end) : NO_LIMITS;
    this.publisher = host.makePublisher(this, limits);
    if (options.kind === "pub" || options.topic === "") return this.setUp();
    this.link.append(encodeSubscribe(host.plan, options.topic));
    host.touch(this);
  }

  private handleSuback(code: number): void {
    if (code >= 0x80) {
      this.host.tally.counts.refused++;
      return this.fault(`subscription refused with code ${code}`);
    }
    this.host.tally.counts.subscribed++;
    this.setUp();
  }

  private setUp(): void {
    this.isUp = true;
    this.host.handleUp(this);
  }

  private handleDisconnect(reasonCode: number): void {
    this.fault(`disconnected by the server with code ${reasonCode}`);
  }

  private protocolFault(what: string): void {
    this.fault(`the server sent ${what}`);
  }

  private fault(why: string): void {
    this.handleClose(why);
    this.link.end();
  }
}
