/**
 * Out of a session's queue: what waits is sent as far as window and link allow, what is in flight is sent again after a
 * reconnect, and acknowledged messages leave.
 *
 *   outbox ─ pump ─► inflight ─► sink ─► PUBACK: acknowledge
 *                       └─ exactly once and stored: sent when the store has it (pumpCommitted) ─► PUBREC: receive ─► PUBCOMP
 */
import { addId, type Delivery, type DeliveryParts, FLAG_DUP, FLAG_RETAIN, SENT, SEQ_MASK } from "./delivery.ts";
import type { Hooks } from "./hooks.ts";
import type { Inflight } from "./inflight.ts";
import { type MessagePool, MessageView } from "./message.ts";
import {
  DELIVERY,
  DELIVERY_QOS,
  DELIVERY_RETAIN,
  DELIVERY_SENT,
  GROUP,
  IDS,
  type Lane,
  MESSAGE,
  type Outbox,
  SEQ,
} from "./outbox.ts";
import type { Sink, Store } from "./ports.ts";
import type { SessionQueue, SessionTable } from "./session-table.ts";

/** With fewer messages than this in memory, the next page is fetched. */
const REFILL_BELOW = 256;

export class Sender {
  private readonly messages: MessagePool;
  private readonly sessions: SessionTable;
  private readonly counts: Float64Array;
  private readonly hooks: Hooks;
  private readonly store: Store;
  private readonly stored = new MessageView();

  constructor(
    parts: DeliveryParts,
    private readonly delivery: Delivery,
  ) {
    this.messages = parts.messages;
    this.sessions = parts.sessions;
    this.counts = parts.metrics.counts;
    this.hooks = parts.hooks;
    this.store = parts.store;
  }

  /** Sends what a session has waiting, as far as its window and its link allow. */
  pump(session: number): void {
    const queue = this.sessions.queueOf(session);
    const sink = this.sessions.sinks[session];
    if (queue === null || sink === null) return;
    if (queue.inflight.sentCount !== queue.inflight.count) this.resend(session, queue, sink);
    const { outbox, inflight } = queue;
    while (outbox.count > 0 && sink.isWritable && this.sessions.sinks[session] === sink) {
      const lane = outbox.first();
      if (lane === null) break;
      const delivery = lane.head.at(0, DELIVERY);
      const isAcked = (delivery & DELIVERY_QOS) !== 0;
      if (isAcked && inflight.total >= sink.windowMax) return; // [MQTT-3.3.4-9]
      this.sendOldest(session, queue, sink, lane);
    }
    if (outbox.hasPages) this.refill(session, outbox);
  }

  /** Messages on disk are fetched while those in memory are being sent. */
  private refill(session: number, outbox: Outbox): void {
    for (const lane of outbox.lanes) {
      if (lane.pages.length > 0 && !lane.isLoading && lane.head.count < REFILL_BELOW) {
        this.store.refill(session, lane.number);
      }
    }
  }

  private sendOldest(session: number, queue: SessionQueue, sink: Sink, lane: Lane): void {
    const { outbox, inflight } = queue;
    const { head } = lane;
    const message = head.at(0, MESSAGE);
    const view = this.stored;
    const delivery = head.at(0, DELIVERY);
    if (this.isExpired(session, message, delivery)) {
      return this.delivery.dropHead(session, queue, lane, "expired"); // [MQTT-3.3.2-5]
    }
    const ids = head.at(0, IDS);
    const group = head.at(0, GROUP);
    const seq = head.at(0, SEQ);
    const qos = delivery & DELIVERY_QOS;
    outbox.shift(lane, this.messages.bytesOf(message));
    const isStored = this.sessions.isStored[session] !== 0;
    if (qos !== 0 && ((isStored && qos === 2) || inflight.sentCount !== inflight.count)) {
      inflight.hold(message, delivery, ids, group);
      if (isStored) this.assigned(session, inflight, lane.number, seq);
      if (qos === 2 && isStored) this.delivery.holdBack(session, 0);
      return;
    }
    this.messages.load(message, view);
    this.loadIds(view, ids);
    const flags = (qos << 1) | (delivery & DELIVERY_RETAIN ? FLAG_RETAIN : 0);
    const packetId = qos === 0 ? 0 : inflight.push(message, delivery, ids, group);
    const isSent = sink.deliver(view, flags, packetId);
    if (isSent) {
      this.counts[SENT[qos]]++;
      this.delivery.noteLeft(message);
    }
    const isGone = this.sessions.queueOf(session) !== queue; // it ended with that, and freed what it had in flight
    if (isSent && qos !== 0) {
      if (isStored && !isGone) this.assigned(session, inflight, lane.number, seq);
    } else {
      if (isStored && !isGone) this.store.shift(session, lane.number, seq, message);
      if (qos !== 0 && !isGone) inflight.remove(inflight.find(packetId));
    }
    if (!isSent) this.delivery.drop("packet_too_large", session, view);
    else if (this.hooks.messageDelivered.isUsed && !isGone) this.delivery.noteDelivered(session, view);
    if (qos === 0 || (!isSent && !isGone)) this.delivery.free(message, ids);
  }

  /** Another process is told of a retained value that has expired: it has taken the place of the one that is there. */
  private isExpired(session: number, message: number, delivery: number): boolean {
    if (this.messages.expiryOf(message) > this.delivery.nowSec) return false;
    return this.sessions.isPeer[session] === 0 || (delivery & DELIVERY_RETAIN) === 0;
  }

  /** The message that `inflight` has last came from a lane, where it had the number `seq`. */
  private assigned(session: number, inflight: Inflight, lane: number, seq: number): void {
    const last = inflight.positions - 1;
    const qos = inflight.field(last, DELIVERY) & DELIVERY_QOS;
    const packetId = inflight.packetIdAt(last);
    const number = this.store.assign(session, lane, seq, packetId, inflight.field(last, MESSAGE), qos);
    inflight.setLastSeq(number & SEQ_MASK);
    this.delivery.noteSeq(number);
  }

  /** What is in flight and not yet sent on this connection, in order: again after a reconnect, or now that it is safe. */
  private resend(session: number, queue: SessionQueue, sink: Sink): void {
    const { inflight } = queue;
    while (inflight.used < sink.windowMax && sink.isWritable && this.sessions.sinks[session] === sink) {
      const position = inflight.nextUnsent(); // [MQTT-4.4.0-1]
      if (position < 0) return;
      const delivery = inflight.field(position, DELIVERY);
      const qos = delivery & DELIVERY_QOS;
      if (qos === 2 && !this.store.isDurable(inflight.field(position, SEQ))) return;
      const isFirst = (delivery & DELIVERY_SENT) === 0;
      if (isFirst && this.isExpired(session, inflight.field(position, MESSAGE), delivery)) {
        this.messages.load(inflight.field(position, MESSAGE), this.stored);
        this.delivery.drop("expired", session, this.stored); // [MQTT-3.3.2-5]
        this.takeOut(session, inflight, position);
        continue;
      }
      inflight.advance();
      inflight.noteSent(position);
      const message = inflight.field(position, MESSAGE);
      const isSent = this.sendAgain(queue, sink, position, isFirst ? 0 : FLAG_DUP);
      if (this.sessions.queueOf(session) !== queue) return;
      if (isSent) {
        if (isFirst) this.noteFirst(session, qos, message);
        continue;
      }
      this.delivery.drop("packet_too_large", session, this.stored); // [MQTT-3.1.2-25]
      const packetId = inflight.packetIdAt(position);
      if (qos !== 2 || isFirst) {
        this.takeOut(session, inflight, position);
        continue;
      }
      this.received(session, queue, position); // the client may have had it before: its id comes free by PUBREL only
      if (this.sessions.isStored[session] !== 0) this.delivery.holdBack(session, packetId);
      else sink.release(packetId);
    }
  }

  private noteFirst(session: number, qos: number, message: number): void {
    this.counts[SENT[qos]]++;
    this.delivery.noteLeft(message);
    if (this.hooks.messageDelivered.isUsed) this.delivery.noteDelivered(session, this.stored);
  }

  private sendAgain(queue: SessionQueue, sink: Sink, position: number, dup: number): boolean {
    const { inflight } = queue;
    const delivery = inflight.field(position, DELIVERY);
    const flags = ((delivery & DELIVERY_QOS) << 1) | (delivery & DELIVERY_RETAIN ? FLAG_RETAIN : 0) | dup;
    this.messages.load(inflight.field(position, MESSAGE), this.stored);
    this.loadIds(this.stored, inflight.field(position, IDS));
    return sink.deliver(this.stored, flags, inflight.packetIdAt(position)); // [MQTT-3.3.1-1] [MQTT-4.4.0-1]
  }

  /** A new connection has the session: PUBREL first; `pump` then sends PUBLISH, and what waited. */
  resume(session: number): void {
    const queue = this.sessions.queueOf(session);
    const sink = this.sessions.sinks[session];
    if (queue === null || sink === null) return;
    const { inflight } = queue;
    for (let i = 0; i < inflight.releasedCount; i++) sink.release(inflight.releasedAt(i)); // [MQTT-4.4.0-1]
  }

  /** 3.x by configuration: everything unacknowledged once more on the same connection. */
  retry(session: number): void {
    const queue = this.sessions.queueOf(session);
    const sink = this.sessions.sinks[session];
    if (queue === null || sink === null || !sink.isWritable || sink.isAwaitingCommit) return;
    const { inflight } = queue;
    for (let i = 0; i < inflight.releasedCount; i++) sink.release(inflight.releasedAt(i));
    for (let i = 0; i < inflight.sentPositions; i++) {
      if (inflight.packetIdAt(i) !== 0) this.sendAgain(queue, sink, i, FLAG_DUP);
    }
  }

  /** Where a message of a QoS is in the window that waits for its acknowledgement; −1 when the id is not awaited at it. */
  positionOf({ inflight }: SessionQueue, packetId: number, qos: number): number {
    const position = inflight.find(packetId);
    return position >= 0 && (inflight.field(position, DELIVERY) & DELIVERY_QOS) === qos ? position : -1;
  }

  /** Takes it out of the window: the client has it, or has refused it. */
  acknowledge(session: number, { inflight }: SessionQueue, position: number, reasonCode: number): void {
    const message = inflight.field(position, MESSAGE);
    if (reasonCode >= 0x80) {
      this.messages.load(message, this.stored); // offered to nobody else [MQTT-4.8.2-6]
      this.delivery.drop("refused", session, this.stored);
    } else if (this.hooks.messageAcked.isUsed) {
      this.delivery.noteAcked(session, message, inflight.packetIdAt(position));
    }
    this.takeOut(session, inflight, position);
  }

  /** PUBREC: the message is delivered, its id is kept until PUBCOMP. False when the id was not awaited. */
  receive(session: number, queue: SessionQueue, packetId: number): boolean {
    const { inflight } = queue;
    const position = inflight.find(packetId);
    if (position < 0 || (inflight.field(position, DELIVERY) & DELIVERY_QOS) !== 2) return false;
    this.received(session, queue, position);
    return true;
  }

  private received(session: number, { inflight }: SessionQueue, position: number): void {
    const message = inflight.field(position, MESSAGE);
    const ids = inflight.field(position, IDS);
    const packetId = inflight.packetIdAt(position);
    if (this.hooks.messageAcked.isUsed) this.delivery.noteAcked(session, message, packetId);
    inflight.remove(position);
    inflight.release(packetId);
    this.delivery.free(message, ids);
    if (this.sessions.isStored[session] !== 0) this.delivery.noteSeq(this.store.append("received", session, packetId));
  }

  private takeOut(session: number, inflight: Inflight, position: number): void {
    const message = inflight.field(position, MESSAGE);
    const ids = inflight.field(position, IDS);
    const seq = inflight.field(position, SEQ);
    const packetId = inflight.packetIdAt(position);
    inflight.remove(position);
    this.delivery.free(message, ids);
    if (this.sessions.isStored[session] !== 0) this.store.settle(session, packetId, seq, message);
  }

  /** The store has made more safe: what waited for that goes out. */
  pumpCommitted(pump: (session: number) => void): void {
    const { held, heldSinks } = this.delivery;
    const { store } = this;
    let at = 0;
    for (; at < held.length && held[at] <= store.durableSeq; at += 3) {
      const session = held[at + 1];
      const packetId = held[at + 2];
      const sink = heldSinks[at / 3];
      if (packetId === 0) pump(session);
      else if (sink !== null && this.sessions.sinks[session] === sink) sink.release(packetId); // else `resume` does
    }
    if (at === 0) return;
    held.splice(0, at);
    heldSinks.splice(0, at / 3);
  }

  private loadIds(view: MessageView, ids: number): void {
    view.idCount = 0;
    if (ids > 0) view.ids[view.idCount++] = ids;
    else if (ids < 0) for (const id of this.delivery.idLists.get(ids)) addId(view, id);
  }
}
