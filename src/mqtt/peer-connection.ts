/**
 * A connection between two processes of one broker: MQTT 5.0 over a Unix socket, both sides alike once it is open.
 *
 *   one side ── CONNECT, client id `$worker/N` ──► other side        each opens the session that stands for the other
 *            ◄── CONNACK ──
 *   then both: SUBSCRIBE for each filter that is wanted here, then for `$synced`; later as filters come and go
 *              PUBLISH and its acknowledgements, from the session's queue: what was acknowledged to a client reaches the other process
 *
 * So forwards are what the engine does anyway for a persistent session: they wait while the other process is down, on disk too, arrive
 * in order, at QoS 1 at least once, at QoS 2 exactly once. What MQTT has no place for stands in peer-mark.ts. A SUBSCRIBE names
 * one filter; its Subscription Identifier says, of a shared one, how many members there are connected, none that all are away.
 */
import type { EndedBy } from "#core/hook-event.ts";
import { type MessageView, NEVER } from "#core/message.ts";
import { SHARED_MARKS } from "#core/peer-mark.ts";
import { PEER_PREFIX } from "#core/peers.ts";
import type { Link } from "#core/ports.ts";
import { FLAG_DUP, SENT, addId } from "#core/delivery.ts";
import { acked, decodeAck } from "./codec/ack.ts";
import { decodeConnect, encodeConnack, withHeader } from "./codec/connect.ts";
import {
  CONNACK,
  CONNECT,
  DISCONNECT,
  PUBACK,
  PUBCOMP,
  PUBLISH,
  PUBREC,
  PUBREL,
  SUBACK,
  SUBSCRIBE,
  UNSUBSCRIBE,
} from "./codec/frame.ts";
import { checkPublishProperties, publishProperties, SUBSCRIPTION_IDENTIFIER } from "./codec/properties.ts";
import { PROTOCOL_ERROR, QUOTA_EXCEEDED } from "./codec/reason-code.ts";
import { decodeSubscribe, decodeUnsubscribe, encodeSuback } from "./codec/subscribe.ts";
import { Connection } from "./connection.ts";
import { CLOSED, HANDLE_AGAIN, OPEN, OPENING } from "./connection-state.ts";
import type { MqttContext } from "./context.ts";
import { startKeepAlive } from "./keep-alive.ts";

const SYNCED = Buffer.from("$synced");
const WINDOW_MAX = 65_535;
/** What a packet may grow by on its way between processes. */
const MARK_BYTES = 64 * 1024;

const SILENT_SEC_MAX = 10;

/** Who runs the connections of a process to the others. */
export interface PeerHost {
  /** This process's number. */
  readonly node: number;
  /** The connection to process `peer.node` is open: it wants to be told of all filters, then `finishSync`. */
  handleOpen(peer: PeerConnection): void;
  /** The other process has told all it wants. */
  handleSynced(peer: PeerConnection): void;
  /** Called once, whether or not it was open. */
  handleGone(peer: PeerConnection): void;
  /** The wall clock, read now; seconds, maybe with a fraction. */
  readSec(): number;
}

export class PeerConnection extends Connection {
  /** The other process, −1 until it has said who it is. */
  node: number;
  /** What to do when a SUBSCRIBE is answered, oldest first. */
  private readonly unanswered: (null | (() => void)[])[] = [];
  /** Seconds in which none of them was answered. */
  private silentSec = 0;
  private lastPacketId = 0;
  /** Subscriptions of an earlier connection that the other process has not said again. */
  private stale: Set<number> | null = null;
  private isLinkWritable = true;

  /** `node`: the process to be asked, or −1 to wait for its CONNECT. */
  constructor(
    context: MqttContext,
    link: Link,
    private readonly host: PeerHost,
    node: number,
  ) {
    super(context, link, "worker");
    this.node = node;
    this.version = 5;
    if (node < 0) return;
    const clientId = Buffer.from(`${PEER_PREFIX}${host.node}`);
    const head = Buffer.from([0, 4, 0x4d, 0x51, 0x54, 0x54, 5, 0, 0, 0, 0, 0, clientId.length]);
    this.write(withHeader(CONNECT << 4, Buffer.concat([head, clientId])));
  }

  /** Processes of a machine have one clock: an expiry goes between them as it is, so that no second is lost or won on the way. */
  override get expiryBaseSec(): number {
    return 0;
  }

  // ---- what the fabric asks for

  /** Tells the other process of a filter; `complete` is called when it knows, or when the connection ends. */
  subscribe(filter: Buffer, connectedCount: number, complete?: () => void): void {
    this.ask(filter, connectedCount, complete);
  }

  private ask(filter: Buffer, number: number, complete?: () => void): void {
    const id = number === 0 ? [] : [SUBSCRIPTION_IDENTIFIER, ...varint(number)];
    const head = Buffer.from([...this.nextId(), id.length, ...id, filter.length >> 8, filter.length & 0xff]);
    this.write(withHeader((SUBSCRIBE << 4) | 2, Buffer.concat([head, filter, Buffer.from([2])])));
    this.unanswered.push(complete ? [complete] : null);
  }

  unsubscribe(filter: Buffer): void {
    const head = Buffer.from([...this.nextId(), 0, filter.length >> 8, filter.length & 0xff]);
    this.write(withHeader((UNSUBSCRIBE << 4) | 2, Buffer.concat([head, filter])));
  }

  /** `complete` is called when everything said so far is known there. */
  whenKnown(complete: () => void): void {
    const last = this.unanswered.length - 1;
    if (last < 0) return complete();
    this.unanswered[last] ??= [];
    this.unanswered[last].push(complete);
  }

  /**
   * All filters have been told: others of an earlier connection are not wanted any more. A process that has just started says too
   * which retained values it lacks.
   */
  finishSync(complete: () => void): void {
    const peers = this.context.engine.peers!;
    this.ask(SYNCED, peers.valuesMark(this.node), () => {
      if (this.state !== CLOSED) peers.noteAnswered(this.node);
      complete();
    });
  }

  /**
   * To be called each second: ends the connection when the other process has answered nothing for long, as one that stands still. It
   * may not be waited for: those who subscribe here would be too.
   */
  checkSilence(): void {
    if (this.unanswered.length === 0) this.silentSec = 0;
    else if (++this.silentSec > SILENT_SEC_MAX) this.close(0);
  }

  // ---- packets

  protected override get inboundBytesMax(): number {
    return super.inboundBytesMax + MARK_BYTES;
  }

  protected override handlePacket(bytes: Buffer, start: number, end: number): boolean {
    let body = start + 1;
    while (bytes[body++] >= 0x80);
    const fault = this.dispatch(bytes, start, body, end);
    if (fault === HANDLE_AGAIN) return false;
    if (fault > 0) this.refuse(fault, bytes, start, end);
    return true;
  }

  private dispatch(bytes: Buffer, start: number, body: number, end: number): number {
    const type = bytes[start] >> 4;
    if (this.state !== OPEN) return this.greet(type, bytes, body, end);
    switch (type) {
      case PUBLISH:
        return this.handleForward(bytes, start, body, end);
      case PUBACK:
      case PUBREC:
      case PUBREL:
      case PUBCOMP:
        return this.handleAck(type, bytes, body, end);
      case SUBSCRIBE:
        return this.handleSubscribe(bytes, body, end);
      case UNSUBSCRIBE:
        return this.handleUnsubscribe(bytes, body, end);
      case SUBACK:
        this.silentSec = 0;
        for (const complete of this.unanswered.shift() ?? []) complete();
        return 0;
      case DISCONNECT: // another connection has taken its place there
        this.close(0);
        return 0;
      default:
        return PROTOCOL_ERROR;
    }
  }

  private greet(type: number, bytes: Buffer, body: number, end: number): number {
    const isAsked = this.node < 0;
    if (type !== (isAsked ? CONNECT : CONNACK)) return PROTOCOL_ERROR;
    if (isAsked) {
      const packet = decodeConnect(bytes, body, end);
      if ("reasonCode" in packet) return packet.reasonCode;
      const clientId = packet.clientId.toString();
      const node = Number(clientId.slice(PEER_PREFIX.length));
      const isPeer = clientId.startsWith(PEER_PREFIX) && Number.isInteger(node) && node !== this.host.node;
      if (!isPeer) return PROTOCOL_ERROR;
      this.node = node;
    }
    this.open(isAsked);
    return 0;
  }

  private open(isAsked: boolean): void {
    const { engine } = this.context;
    this.state = OPENING;
    this.hold();
    const clientId = Buffer.from(`${PEER_PREFIX}${this.node}`);
    engine.open(
      { clientId, isCleanStart: false, expirySec: NEVER, will: undefined, isPeer: true },
      this,
      ({ session }) => {
        if (this.state === CLOSED) return session < 0 ? undefined : engine.detach(session);
        if (session < 0) return this.fail(QUOTA_EXCEEDED);
        this.session = session;
        this.afterCommit(() => this.start(isAsked));
      },
    );
  }

  private start(isAsked: boolean): void {
    const { engine } = this.context;
    const { index } = engine;
    if (isAsked) this.write(encodeConnack(5, true, 0, {}));
    this.state = OPEN;
    this.windowMax = WINDOW_MAX;
    startKeepAlive(this);
    engine.peers!.add(this.session);
    this.stale = new Set();
    for (let sub = index.firstOfSession(this.session); sub >= 0; sub = index.nextOf[sub]) this.stale.add(sub);
    this.host.handleOpen(this);
    this.unhold();
  }

  private handleSubscribe(bytes: Buffer, body: number, end: number): number {
    const { engine } = this.context;
    const packet = decodeSubscribe(bytes, body, end, true);
    if (typeof packet === "number") return packet;
    const [{ filter, id }] = packet.items;
    engine.begin();
    if (filter.equals(SYNCED)) this.handleSynced(id);
    else {
      const sub = engine.subscriptions.addPeer(this.session, filter, id);
      this.stale?.delete(sub);
    }
    this.afterCommit(() => this.write(encodeSuback(SUBACK, packet.packetId, Uint8Array.of(2), 5)));
    return 0;
  }

  /** The other process has said all that it wants: from now on it is sent that. What it lacks is in its queue when that is answered. */
  private handleSynced(mark: number): void {
    const { engine } = this.context;
    engine.routed(() => {
      for (const sub of this.stale ?? []) engine.subscriptions.dropPeer(this.session, sub);
    });
    this.stale = null;
    this.isWritable = this.isLinkWritable;
    engine.attach(this.session);
    engine.begin();
    if (mark > 0) engine.peers!.sendValues(this.session, mark, this.node);
    const { storeSeq } = engine;
    this.host.handleSynced(this);
    engine.noteSeq(storeSeq);
  }

  override handleWritable(isWritable: boolean): void {
    this.isLinkWritable = isWritable;
    if (this.stale === null) super.handleWritable(isWritable);
  }

  private handleUnsubscribe(bytes: Buffer, body: number, end: number): number {
    const { engine } = this.context;
    const packet = decodeUnsubscribe(bytes, body, end, true);
    if (typeof packet === "number") return packet;
    engine.routed(() => {
      for (const filter of packet.filters) engine.subscriptions.removePeer(this.session, filter);
    });
    return 0;
  }

  private handleForward(bytes: Buffer, start: number, body: number, end: number): number {
    const { engine, incoming: view } = this.context;
    const packetId = decodeForward(bytes, start, body, end, view);
    if (packetId < 0) return -packetId;
    if (view.expiryStart >= 0) this.takeExpiry(view);
    const { qos } = view; // as it was sent: retained messages may have been published at less
    if (qos === 2 && engine.sessions.receiptsFor(this.session).has(packetId)) {
      engine.awaitAll();
      this.acknowledge(PUBREC, packetId, 0);
      return 0;
    }
    // Not acknowledged, it comes again when the connection does.
    if (qos > 0 && !engine.store.isWritable && engine.isRefused(view)) return QUOTA_EXCEEDED;
    // Its group is not known before all processes have said what they want.
    if (view.idCount === SHARED_MARKS && !engine.peers!.isSynced) return this.handleLater();
    engine.peers!.publishForwarded(view);
    if (qos === 0) return 0;
    if (qos === 2) engine.addReceipt(this.session, packetId);
    this.acknowledge(qos === 1 ? PUBACK : PUBREC, packetId, 0);
    return 0;
  }

  /** The other process may have read the clock since this one did: nobody must be told of more than was given. [MQTT-3.3.2-6] */
  private takeExpiry({ bytes, expiryStart, expiryAtSec }: MessageView): void {
    const { engine } = this.context;
    const wallSec = this.host.readSec();
    engine.nowSec = engine.delivery.nowSec = Math.max(engine.nowSec, Math.floor(wallSec));
    engine.lifeFromSec = Math.max(engine.lifeFromSec, Math.ceil(wallSec));
    bytes.writeUInt32BE(Math.max(0, expiryAtSec - engine.lifeFromSec), expiryStart); // as hooks read it
  }

  private handleLater(): typeof HANDLE_AGAIN {
    this.hold();
    this.context.engine.peers!.whenSynced(() => {
      if (this.state !== CLOSED) this.unhold();
    });
    return HANDLE_AGAIN;
  }

  private handleAck(type: number, bytes: Buffer, body: number, end: number): number {
    const { engine } = this.context;
    const fault = decodeAck(bytes, body, end, true);
    if (fault !== 0) return fault;
    const { packetId, reasonCode } = acked;
    if (type === PUBACK) engine.acknowledge(this.session, packetId, reasonCode, 1);
    else if (type === PUBREC) {
      engine.receive(this.session, packetId);
      this.acknowledge(PUBREL, packetId, 0);
    } else if (type === PUBREL) {
      engine.removeReceipt(this.session, packetId);
      this.acknowledge(PUBCOMP, packetId, 0);
    } else engine.complete(this.session, packetId);
    return 0;
  }

  /** What goes to another process is no message that a client was sent. */
  override deliver(view: MessageView, flags: number, packetId: number): boolean {
    const isSent = super.deliver(view, flags, packetId);
    if (isSent && (flags & FLAG_DUP) === 0) this.context.engine.metrics.counts[SENT[(flags >> 1) & 3]]--;
    return isSent;
  }

  override leave(reasonCode: number, by: EndedBy): void {
    if (this.state === OPEN) this.state = OPENING; // no client has gone
    super.leave(reasonCode, by);
    this.host.handleGone(this);
    for (const completes of this.unanswered.splice(0)) for (const complete of completes ?? []) complete();
  }

  private nextId(): [number, number] {
    this.lastPacketId = (this.lastPacketId % 65_535) + 1;
    return [this.lastPacketId >> 8, this.lastPacketId & 0xff];
  }

  private write(packet: Buffer): void {
    const at = this.link.reserve(packet.length);
    packet.copy(this.link.buffer, at);
    this.link.commit(at + packet.length);
  }
}

function varint(value: number): number[] {
  const out: number[] = [];
  for (; value >= 0x80; value >>>= 7) out.push((value & 0x7f) | 0x80);
  out.push(value);
  return out;
}

/**
 * Points `view` at a PUBLISH from another process, its marks in `ids`. Returns the packet id, 0 at QoS 0, or a negated reason
 * code. The topic was valid when it was published.
 */
function decodeForward(bytes: Buffer, start: number, body: number, end: number, view: MessageView): number {
  const flags = bytes[start];
  view.bytes = bytes;
  view.qos = (flags >> 1) & 3;
  view.isRetain = (flags & 1) !== 0;
  view.isV5 = true;
  view.topicStart = body + 2;
  view.topicEnd = view.packetIdStart = body + 2 + bytes.readUInt16BE(body);
  let at = view.topicEnd;
  let packetId = 0;
  if (view.qos !== 0) {
    packetId = bytes.readUInt16BE(at);
    at += 2;
  }
  const length = readVarint(bytes, at);
  at = varintEnd;
  view.propertiesEnd = view.payloadStart = at + length;
  view.payloadEnd = end;
  view.idCount = 0;
  while (at < view.propertiesEnd && bytes[at] === SUBSCRIPTION_IDENTIFIER) {
    addId(view, readVarint(bytes, at + 1));
    at = varintEnd;
  }
  view.propertiesStart = at;
  view.frameStart = view.idCount === 0 ? start : -1;
  const fault = view.propertiesEnd > end ? PROTOCOL_ERROR : checkPublishProperties(bytes, at, view.propertiesEnd);
  if (fault !== 0) return -fault;
  const { expirySec, expiryStart } = publishProperties;
  view.expiryAtSec = expirySec < 0 ? NEVER : expirySec; // the other process counts from 0
  view.expiryStart = expiryStart;
  view.publisher = -1;
  view.publisherKey = 0;
  view.slot = -1;
  view.message = -1;
  return packetId;
}

let varintEnd = 0;

function readVarint(bytes: Buffer, at: number): number {
  let value = 0;
  for (let shift = 0; shift < 28; shift += 7) {
    const byte = bytes[at++];
    value |= (byte & 0x7f) << shift;
    if (byte < 0x80) break;
  }
  varintEnd = at;
  return value;
}
