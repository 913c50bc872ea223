/**
 * QoS 1 and 2 messages that were sent to one session and are not acknowledged, and the packet ids that go with them.
 *
 *   ring      [ message | delivery | ids | group | seq | packet id ] in sending order; a packet id of 0 is a hole
 *             head ──► published … cursor ──► not yet sent on this connection, or waiting for a commit …
 *   released  packet ids whose PUBREC came, in that order: PUBREL is out, PUBCOMP is awaited
 *
 * Acknowledgements mostly come in sending order, so the offset from the head's id finds an entry at once; otherwise the
 * window is searched. Ids start at 1, ascend, wrap after 65,535 and skip those in use. Holes are squeezed out when the
 * ring would have to grow. It owns one reference to each message.
 */
import { grownRing } from "#base/ring.ts";
import { DELIVERY, DELIVERY_SENT, GROUP, IDS, MESSAGE, SEQ } from "./outbox.ts";

const STRIDE = 6;
const PACKET_ID = 5;
const ID_MAX = 65_535;

export class Inflight {
  private ring = new Int32Array(4 * STRIDE);
  private head = 0;
  private length = 0; // entries and holes
  private released = new Uint16Array(4);
  private releasedHead = 0;
  releasedCount = 0;
  /** Messages awaiting PUBACK or PUBREC. */
  count = 0;
  /** Of these, sent on the present connection. */
  sentCount = 0;
  private cursor = 0; // position of the first entry not yet sent on this connection
  /** The packet id that was given last. */
  lastId = 0;
  private hasOvertaken = false; // an id in use was skipped: ids are no longer ascending along the ring

  /** What counts against the receiver's Receive Maximum. */
  get used(): number {
    return this.sentCount + this.releasedCount;
  }

  /** The packet id that has waited longest for PUBACK, PUBREC or PUBCOMP, or 0. */
  get oldestId(): number {
    return this.count > 0 ? this.ring[this.head * STRIDE + PACKET_ID] : this.releasedCount > 0 ? this.releasedAt(0) : 0;
  }

  /** Ids in use. */
  get total(): number {
    return this.count + this.releasedCount;
  }

  /** Enters a message that is being sent now; returns its packet id. The caller has checked the window. */
  push(message: number, delivery: number, ids: number, group: number): number {
    const packetId = this.nextId();
    this.append(message, delivery | DELIVERY_SENT, ids, group, packetId);
    this.sentCount++;
    this.cursor = this.length;
    return packetId;
  }

  /** Enters a message that is sent later, by way of `resendNext`; returns its packet id. */
  hold(message: number, delivery: number, ids: number, group: number): number {
    const packetId = this.nextId();
    this.append(message, delivery, ids, group, packetId);
    return packetId;
  }

  /** Enters a message as a store has it, packet id and all. */
  restore(message: number, delivery: number, ids: number, group: number, packetId: number): void {
    if (this.count > 0 && packetId < this.ring[this.offset(this.length - 1) + PACKET_ID]) this.hasOvertaken = true;
    this.append(message, delivery, ids, group, packetId);
  }

  private append(message: number, delivery: number, ids: number, group: number, packetId: number): void {
    if (this.length * STRIDE === this.ring.length) this.makeRoom();
    const at = this.offset(this.length++);
    this.ring[at + MESSAGE] = message;
    this.ring[at + DELIVERY] = delivery;
    this.ring[at + IDS] = ids;
    this.ring[at + GROUP] = group;
    this.ring[at + SEQ] = 0;
    this.ring[at + PACKET_ID] = packetId;
    this.count++;
  }

  /** Notes the store's number of the message entered last. */
  setLastSeq(seq: number): void {
    this.ring[this.offset(this.length - 1) + SEQ] = seq;
  }

  /** The message at a position was sent once: from now on it is a duplicate. */
  noteSent(position: number): void {
    this.ring[this.offset(position) + DELIVERY] |= DELIVERY_SENT;
  }

  /** Position of a packet id that awaits PUBACK or PUBREC on this connection, or -1. */
  find(packetId: number): number {
    if (this.count === 0 || packetId === 0) return -1;
    const first = this.ring[this.head * STRIDE + PACKET_ID];
    const guess = packetId >= first ? packetId - first : packetId - first + ID_MAX;
    if (guess < this.cursor && this.ring[this.offset(guess) + PACKET_ID] === packetId) return guess;
    for (let i = 0; i < this.cursor; i++) if (this.ring[this.offset(i) + PACKET_ID] === packetId) return i;
    return -1;
  }

  field(position: number, field: typeof MESSAGE | typeof DELIVERY | typeof IDS | typeof GROUP | typeof SEQ): number {
    return this.ring[this.offset(position) + field];
  }

  packetIdAt(position: number): number {
    return this.ring[this.offset(position) + PACKET_ID];
  }

  /** Number of positions, holes included; `packetIdAt` is 0 at a hole. */
  get positions(): number {
    return this.length;
  }

  /** Positions below this were sent on the present connection. */
  get sentPositions(): number {
    return this.cursor;
  }

  /** Takes an entry out; the caller owns its message again. */
  remove(position: number): void {
    this.ring[this.offset(position) + PACKET_ID] = 0;
    this.count--;
    if (position < this.cursor) this.sentCount--;
    while (this.length > 0 && this.ring[this.head * STRIDE + PACKET_ID] === 0) {
      this.head = (this.head + 1) & (this.ring.length / STRIDE - 1);
      this.length--;
      if (this.cursor > 0) this.cursor--;
    }
    if (this.total === 0) this.hasOvertaken = false;
  }

  /** PUBREC came: the id is kept until PUBCOMP. */
  release(packetId: number): void {
    if (this.releasedCount === this.released.length) {
      this.released = grownRing(this.released, this.releasedHead);
      this.releasedHead = 0;
    }
    this.released[(this.releasedHead + this.releasedCount++) & (this.released.length - 1)] = packetId;
  }

  releasedAt(position: number): number {
    return this.released[(this.releasedHead + position) & (this.released.length - 1)];
  }

  isReleased(packetId: number): boolean {
    return this.findReleased(packetId) >= 0;
  }

  /** PUBCOMP came: the id is free. False when it was not awaited. */
  complete(packetId: number): boolean {
    const position = this.findReleased(packetId);
    if (position < 0) return false;
    const mask = this.released.length - 1;
    for (let i = position; i > 0; i--) {
      this.released[(this.releasedHead + i) & mask] = this.released[(this.releasedHead + i - 1) & mask];
    }
    this.releasedHead = (this.releasedHead + 1) & mask;
    this.releasedCount--;
    if (this.total === 0) this.hasOvertaken = false;
    return true;
  }

  /** The connection ended: nothing counts as sent until it is sent again. */
  rewind(): void {
    this.cursor = 0;
    this.sentCount = 0;
  }

  /** Position of the next message to send on this connection, or -1. */
  nextUnsent(): number {
    while (this.cursor < this.length && this.ring[this.offset(this.cursor) + PACKET_ID] === 0) this.cursor++;
    return this.cursor < this.length ? this.cursor : -1;
  }

  /** What `nextUnsent` found is being sent. */
  advance(): void {
    this.cursor++;
    this.sentCount++;
  }

  private offset(position: number): number {
    return ((this.head + position) & (this.ring.length / STRIDE - 1)) * STRIDE;
  }

  private findReleased(packetId: number): number {
    for (let i = 0; i < this.releasedCount; i++) if (this.releasedAt(i) === packetId) return i;
    return -1;
  }

  private nextId(): number {
    do {
      this.lastId = this.lastId === ID_MAX ? 1 : this.lastId + 1;
    } while (this.isUsed(this.lastId)); // [MQTT-2.2.1-4]
    return this.lastId;
  }

  /** Ids ascend along the ring unless one was overtaken, so the next id can only meet the oldest. */
  private isUsed(packetId: number): boolean {
    if (this.releasedCount > 0 && this.isReleased(packetId)) return this.overtake();
    if (this.count === 0) return false;
    if (!this.hasOvertaken) return this.ring[this.head * STRIDE + PACKET_ID] === packetId && this.overtake();
    for (let i = 0; i < this.length; i++) if (this.ring[this.offset(i) + PACKET_ID] === packetId) return true;
    return false;
  }

  private overtake(): true {
    this.hasOvertaken = true;
    return true;
  }

  /** Squeezes holes out when a quarter or more are holes, else doubles the ring. */
  private makeRoom(): void {
    if (this.count * 4 > this.length * 3) {
      this.ring = grownRing(this.ring, this.head * STRIDE);
      this.head = 0;
      return;
    }
    let to = 0;
    let cursor = 0;
    for (let from = 0; from < this.length; from++) {
      if (from === this.cursor) cursor = to;
      const source = this.offset(from);
      if (this.ring[source + PACKET_ID] === 0) continue;
      const target = this.offset(to++);
      if (source !== target) this.ring.copyWithin(target, source, source + STRIDE);
    }
    this.cursor = this.cursor === this.length ? to : cursor;
    this.length = to;
  }
}
