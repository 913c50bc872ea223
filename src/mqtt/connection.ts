/**
 * One client's MQTT, on any link: cuts the byte stream into packets, hands each to its handler, and is the session's sink.
 *
 *   awaiting CONNECT ─► authenticating ─► opening ─► open ─► closed
 *                         (AUTH …)        (claim, commit)
 *
 * Input is handled in order, in place: only the tail of an unfinished packet is copied. While something that must come
 * first is under way (a verdict, a claim) the connection is *held*: what arrives waits, and past `mqtt.heldBytesMax` the
 * link stops reading. A fault closes this connection alone: handlers return a reason code, and `fail` says it in the
 * client's version. A throw from a handler is a bug of ours, counted, and closes this link only.
 */
import { CommitGate } from "#core/commit-gate.ts";
import type { MessageView } from "#core/message.ts";
import type { EndedBy } from "#core/hook-event.ts";
import { Metric } from "#core/metrics.ts";
import type { ClientInfo, Link, Protocol, Sink } from "#core/ports.ts";
import { encodeConnack, isConnackReason } from "./codec/connect.ts";
import { encodeDisconnect } from "./codec/disconnect.ts";
import { DISCONNECT, INCOMPLETE, PUBACK, PUBLISH, PUBREC, PUBREL, readFrame } from "./codec/frame.ts";
import {
  MALFORMED_PACKET,
  PACKET_TOO_LARGE,
  PROTOCOL_ERROR,
  SERVER_UNAVAILABLE,
  SESSION_TAKEN_OVER,
  UNSPECIFIED_ERROR,
  USE_ANOTHER_SERVER,
} from "./codec/reason-code.ts";
import { Client, Extras } from "./connection-extras.ts";
import { AWAITING_CONNECT, CLOSED, HANDLE_AGAIN, MOVED, OPEN } from "./connection-state.ts";
import type { MqttContext } from "./context.ts";
import { deliver } from "./deliver.ts";
import { dispatch } from "./dispatch.ts";
import { sendAck } from "./handle-ack.ts";
import { handlePublish } from "./handle-publish.ts";
import { PacketTail } from "./packet-tail.ts";
import type { OutboundAliases } from "./topic-alias.ts";

const noBytes = Buffer.alloc(0);
const BYTES_RECEIVED = Metric["bytes.received"];
const PACKETS_RECEIVED = Metric["packets.received"];
const PACKETS_SENT = Metric["packets.sent"];
const PUBLISH_SENT = Metric["packets.publish.sent"];
const PACKET_BYTES_NO_LIMIT = 0x7fff_ffff;
const REPORTED_BYTES_MAX = 256;

export class Connection implements Protocol, Sink {
  state = AWAITING_CONNECT;
  version = 0;
  /** Not before CONNACK. */
  isWritable = false;
  session = -1;
  windowMax = 0;
  /** The client's Maximum Packet Size. */
  packetBytesMax = PACKET_BYTES_NO_LIMIT;
  /** 1.5 times the keep-alive, 0 for none. */
  silenceMaxMs = 0;
  aliases: OutboundAliases | null = null;
  /** What few connections have for long; see `extras`. */
  rare: Extras | null = null;
  lastPacketMs: number;
  private tail: PacketTail | null = null;
  holdCount = 0;
  /** Timer of the CONNECT deadline, then of the keep-alive, or −1. */
  deadline: number;
  /** In the context. */
  readonly number: number;

  constructor(
    readonly context: MqttContext,
    readonly link: Link,
    readonly listener: string,
  ) {
    const { engine } = context;
    this.number = context.add(this);
    this.lastPacketMs = engine.nowMs;
    const deadlineMs = engine.nowMs + engine.limits.mqtt.connectTimeoutSec * 1000;
    this.deadline = engine.timers.arm(deadlineMs, context.deadlineKind, this.number);
    context.metrics.add("connections.opened");
  }

  get isV5(): boolean {
    return this.version === 5;
  }

  get isRetryAllowed(): boolean {
    return this.version !== 5;
  }

  private get isAlive(): boolean {
    return this.state !== CLOSED;
  }

  get isAwaitingCommit(): boolean {
    return this.gatedCount > 0;
  }

  get extras(): Extras {
    return (this.rare ??= new Extras());
  }

  /** Acknowledgements that wait for a commit. */
  get gatedCount(): number {
    return this.rare?.gate?.count ?? 0;
  }

  /** Who is there. Made anew unless it is kept. */
  info(): ClientInfo {
    const { rare, session, context } = this;
    if (rare?.client) return rare.client;
    const clientId = session < 0 ? (rare?.login?.clientId.toString() ?? "") : context.engine.sessions.clientId(session);
    return new Client(this, clientId, rare?.username);
  }

  // ---- input

  handleData(chunk: Buffer): void {
    if (this.state === CLOSED) return;
    this.context.metrics.counts[BYTES_RECEIVED] += chunk.length;
    if (this.holdCount > 0) return this.keepHeld(chunk);
    this.consume(chunk);
  }

  /** Input waits until `unhold`. */
  hold(): void {
    this.holdCount++;
  }

  /** Ends one hold; after the last, what waited is handled. */
  unhold(): void {
    const { rare } = this;
    if (--this.holdCount > 0 || this.state === CLOSED || !rare?.held) return;
    const { held } = rare;
    rare.held = null;
    if (rare.restTimer < 0) this.link.resume();
    this.lastPacketMs = this.context.engine.nowMs; // keep-alive stood still
    this.consume(held);
    if (rare.isOrphan && this.holdCount === 0 && this.isAlive) this.leave(0, "link");
  }

  private keepHeld(bytes: Buffer): void {
    const { extras } = this;
    extras.held = extras.held === null ? bytes : Buffer.concat([extras.held, bytes]);
    if (extras.held.length > this.context.engine.limits.mqtt.heldBytesMax) this.link.pause();
  }

  private consume(chunk: Buffer): void {
    let start = 0;
    try {
      if (this.tail !== null) {
        start = this.completeTail(this.tail, chunk);
        if (start < 0) return;
      }
      this.parse(chunk, start);
    } catch (error) {
      this.reportBug(error, chunk.subarray(0, REPORTED_BYTES_MAX));
    }
  }

  /** What a Message Expiry Interval counts from: now. */
  get expiryBaseSec(): number {
    return this.context.engine.lifeFromSec;
  }

  /** Largest packet that is read. */
  protected get inboundBytesMax(): number {
    return this.context.engine.limits.mqtt.packetBytesMax;
  }

  /** Handles all whole packets from `start` on and keeps the rest. */
  private parse(chunk: Buffer, start: number): void {
    const end = chunk.length;
    while (start < end && this.state !== CLOSED) {
      const size = readFrame(chunk, start, end);
      if (size === INCOMPLETE) break;
      if (size < 0) return this.refuse(MALFORMED_PACKET, chunk, start, end);
      if (size > this.inboundBytesMax) return this.refuse(PACKET_TOO_LARGE, chunk, start, end);
      if (start + size > end) break;
      const isDone = this.handlePacket(chunk, start, start + size);
      if (isDone) start += size;
      if (this.holdCount > 0) {
        if (start < end) this.keepHeld(chunk.subarray(start));
        return;
      }
    }
    if (start < end && this.state !== CLOSED) this.tail = new PacketTail(chunk, start);
    else if (this.state === CLOSED) this.context.takeMoved()?.handleData(start === 0 ? chunk : chunk.subarray(start));
  }

  /** One whole packet. False when it must be handled again after the hold. */
  protected handlePacket(bytes: Buffer, start: number, end: number): boolean {
    const { engine, metrics } = this.context;
    if (this.context.tap !== null) this.context.tap.received(this, bytes, start, end);
    this.lastPacketMs = engine.nowMs;
    metrics.counts[PACKETS_RECEIVED]++;
    let body = start + 1;
    while (bytes[body++] >= 0x80);
    if (this.isV5 && bytes[body - 1] === 0 && body - start > 2) {
      this.refuse(MALFORMED_PACKET, bytes, start, end); // [MQTT-1.5.5-1]
      return true;
    }
    const type = bytes[start] >> 4;
    const fault =
      this.state === OPEN && type === PUBLISH
        ? handlePublish(this, bytes, start, body, end)
        : dispatch(this, type, bytes, start, body, end);
    if (fault === MOVED) {
      this.abandon();
      return false;
    }
    if (fault === HANDLE_AGAIN) {
      this.context.tap?.postponed(this);
      metrics.counts[PACKETS_RECEIVED]--;
      return false;
    }
    if (fault > 0) this.refuse(fault, bytes, start, end);
    return true;
  }

  /** The peer broke the protocol: reported, told, closed. */
  protected refuse(reasonCode: number, bytes: Buffer, start: number, end: number): void {
    this.context.reporter.fault(this, reasonCode, bytes.subarray(start, Math.min(end, start + REPORTED_BYTES_MAX)));
    this.fail(reasonCode);
  }

  /** Completes the unfinished packet and handles it. Returns the offset after it in `chunk`, or −1 when that is all. */
  private completeTail(tail: PacketTail, chunk: Buffer): number {
    const size = tail.readSize(chunk, 0);
    if (size === INCOMPLETE) return -1;
    const isTooLarge = size > this.inboundBytesMax;
    if (size < 0 || isTooLarge) {
      this.refuse(isTooLarge ? PACKET_TOO_LARGE : MALFORMED_PACKET, tail.bytes, 0, tail.length);
      return -1;
    }
    const start = tail.taken;
    if (!tail.fill(chunk, start, size)) return -1;
    const end = start + tail.taken;
    this.tail = null;
    let isDone = this.handlePacket(tail.bytes, 0, size);
    const successor = this.state === CLOSED ? this.context.takeMoved() : null;
    if (successor) {
      successor.handleData(tail.bytes.subarray(0, size));
      if (end < chunk.length) successor.handleData(chunk.subarray(end));
      return -1;
    }
    while (!isDone && this.holdCount === 0) isDone = this.handlePacket(tail.bytes, 0, size);
    if (this.holdCount === 0) return end;
    const rest = chunk.subarray(end);
    this.keepHeld(isDone ? rest : Buffer.concat([tail.bytes.subarray(0, size), rest]));
    return -1;
  }

  // ---- output

  /** Sends a prebuilt packet; for what is rare. One that the client does not take ends the connection. [MQTT-3.1.2-24] */
  send(packet: Buffer): void {
    if (packet.length > this.packetBytesMax) return this.failTooLarge(packet);
    const { metrics, tap } = this.context;
    if (tap !== null) tap.sent(this, packet, 0, packet.length);
    metrics.counts[PACKETS_SENT]++;
    const at = this.link.reserve(packet.length);
    packet.copy(this.link.buffer, at);
    this.link.commit(at + packet.length);
  }

  private failTooLarge(packet: Buffer): void {
    const isDisconnect = packet[0] >> 4 === DISCONNECT;
    if (this.state === OPEN && !isDisconnect) this.fail(PACKET_TOO_LARGE);
    else if (!isDisconnect) this.close(PACKET_TOO_LARGE);
  }

  /** Sends an acknowledgement when all it stands for is safe: `engine.storeSeq` and `forwardSeq` say so. 3.x has no reason. */
  acknowledge(type: number, packetId: number, reasonCode: number): void {
    const reason = this.isV5 ? reasonCode : 0;
    const { storeSeq, forwardSeq, store, forwardedSeq } = this.context.engine;
    const isSafe = storeSeq <= store.durableSeq && forwardSeq <= forwardedSeq;
    const isWithheld = this.context.isBusy && (type === PUBACK || type === PUBREC);
    if (isSafe && this.gatedCount === 0 && !isWithheld) return this.sendAck(type, packetId, reason);
    if (isWithheld) this.context.engine.metrics.add("messages.slowed.busy");
    if (type === PUBACK) this.extras.unackedCount++;
    this.gate.addAck(storeSeq, forwardSeq, (type << 24) | (packetId << 8) | reason);
    this.watchGate();
  }

  /** Something waits in the gate: it is looked at after each commit, and when it is full the client is not read. */
  private watchGate(): void {
    const { extras } = this;
    this.context.gated.add(this);
    if (extras.isGateFull || this.gatedCount < this.context.gatedCountMax) return;
    extras.isGateFull = true;
    this.hold();
  }

  private get gate(): CommitGate {
    return (this.extras.gate ??= new CommitGate((ack) => this.sendGated(ack)));
  }

  private sendGated(ack: number): void {
    if (this.state === CLOSED) return;
    const type = ack >> 24;
    if (type === PUBACK) this.extras.unackedCount--;
    this.sendAck(type, (ack >> 8) & 0xffff, ack & 0xff);
  }

  /** Runs `action` when what the engine's last change waits for is safe, after all that waits already. [MQTT3-4.6.0-2] */
  afterCommit(action: () => void): void {
    const { storeSeq, forwardSeq, store, forwardedSeq } = this.context.engine;
    const isSafe = storeSeq <= store.durableSeq && forwardSeq <= forwardedSeq;
    if (isSafe && this.gatedCount === 0) return action();
    this.gate.add(storeSeq, forwardSeq, () => {
      if (this.state !== CLOSED) action();
    });
    this.watchGate();
  }

  advanceGate(): void {
    const { store, forwardedSeq } = this.context.engine;
    this.rare?.gate?.advance(store.durableSeq, forwardedSeq);
    if (this.gatedCount === 0) this.context.gated.delete(this);
    const { rare } = this;
    if (!rare?.isGateFull || this.gatedCount * 2 > this.context.gatedCountMax) return;
    rare.isGateFull = false;
    this.unhold();
  }

  private sendAck(type: number, packetId: number, reasonCode: number): void {
    sendAck(this, type, packetId, reasonCode);
  }

  deliver(view: MessageView, flags: number, packetId: number): boolean {
    if (!deliver(this, view, flags, packetId)) return false;
    if (this.context.tap !== null) this.context.tap.delivered(this, view, flags, packetId);
    const { counts } = this.context.metrics;
    counts[PACKETS_SENT]++;
    counts[PUBLISH_SENT]++;
    return true;
  }

  release(packetId: number): void {
    this.sendAck(PUBREL, packetId, 0);
  }

  handleWritable(isWritable: boolean): void {
    if (this.state !== OPEN) return;
    this.isWritable = isWritable;
    if (!isWritable) return;
    try {
      this.context.engine.resumeDelivery(this.session);
    } catch (error) {
      this.reportBug(error, noBytes);
    }
  }

  // ---- the end

  /** The broker ends the connection: the engine (take-over, quota), an operator, shut-down. */
  end(reasonCode: number): void {
    if (this.state !== CLOSED) this.fail(reasonCode);
  }

  /** Tells the client why, in the form its version and state allow, and closes. */
  fail(reasonCode: number): void {
    if (this.state === CLOSED) return;
    const { metrics } = this.context;
    if (reasonCode === MALFORMED_PACKET) metrics.add("connections.closed.malformed");
    else if (reasonCode === PROTOCOL_ERROR) metrics.add("connections.closed.protocol_error");
    else if (reasonCode === PACKET_TOO_LARGE) metrics.add("connections.closed.packet_too_large");
    else if (reasonCode === SESSION_TAKEN_OVER) metrics.add("connections.closed.taken_over");
    if (this.state === OPEN) {
      if (this.isV5) this.sendDisconnect(reasonCode); // [MQTT-4.13.1-1] [MQTT-4.13.2-1]
    } else if (this.isV5) {
      this.send(encodeConnack(5, false, isConnackReason(reasonCode) ? reasonCode : SERVER_UNAVAILABLE, {}));
    }
    this.close(reasonCode);
  }

  private sendDisconnect(reasonCode: number): void {
    const { serverReference, metrics } = this.context;
    const isMoving = reasonCode === USE_ANOTHER_SERVER;
    metrics.add("packets.disconnect.sent");
    this.send(encodeDisconnect(reasonCode, isMoving && serverReference !== "" ? { serverReference } : {}));
  }

  /** Sends what is unsent and closes the link; the session goes its way at once. */
  close(reasonCode: number, by: EndedBy = "broker"): void {
    if (this.state === CLOSED) return;
    this.leave(reasonCode, by);
    this.link.end();
  }

  handleClose(): void {
    if (this.state === CLOSED) return;
    if (this.holdCount > 0 && this.rare?.held && this.state === OPEN) return this.outliveLink(this.rare);
    try {
      this.leave(0, "link");
    } catch (error) {
      this.reportBug(error, noBytes);
    }
  }

  /** The link is gone, but the client had said more, a DISCONNECT perhaps: that is handled first, if the answers come soon. */
  private outliveLink(rare: Extras): void {
    const { engine, deadlineKind } = this.context;
    rare.isOrphan = true;
    this.isWritable = false;
    if (this.deadline >= 0) engine.timers.cancel(this.deadline);
    const deadlineMs = engine.nowMs + engine.limits.mqtt.connectTimeoutSec * 1000;
    this.deadline = engine.timers.arm(deadlineMs, deadlineKind, this.number);
  }

  /** Another protocol has the link from now on: nobody has heard of this client here. */
  private abandon(): void {
    const { engine, metrics } = this.context;
    metrics.add("connections.opened", -1);
    this.state = CLOSED;
    if (this.deadline >= 0) engine.timers.cancel(this.deadline);
    this.context.remove(this.number);
    this.tail = this.rare = null;
  }

  leave(reasonCode: number, by: EndedBy): void {
    const { engine } = this.context;
    const { session } = this;
    const info = engine.hooks.clientDisconnected.isUsed && this.state === OPEN ? this.info() : undefined;
    this.state = CLOSED;
    if (this.deadline >= 0) engine.timers.cancel(this.deadline);
    if (this.rare !== null && this.rare.restTimer >= 0) engine.timers.cancel(this.rare.restTimer);
    this.context.gated.delete(this);
    this.context.remove(this.number);
    this.tail = this.rare = null;
    this.context.metrics.add("connections.closed");
    if (session >= 0 && engine.sessions.sinks[session] === this) engine.detach(session);
    this.session = -1;
    if (info) engine.hooks.clientDisconnected.run(info, reasonCode, by);
  }

  private reportBug(error: unknown, packet: Buffer): void {
    this.context.metrics.add("bugs");
    this.context.reporter.bug(this, error, packet);
    try {
      this.fail(UNSPECIFIED_ERROR);
    } catch {
      this.link.destroy();
    }
  }
}
