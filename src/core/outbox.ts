/**
 * Messages that wait for one session: first in, first out, by priority.
 *
 *   ring   [ message | delivery | ids | group | seq ] × capacity (power of two, 4 to 1024)     first ──► … ringCount …
 *   blocks   1024 such rows each, for what comes when the ring is full; an empty ring is replaced by the first block
 *   delivery  QoS to deliver with (2 bits) | retain flag (4) | lane (3 bits) | was sent (64)
 *   ids       0 none, > 0 the one subscription identifier, < 0 a list in `IdLists`
 *   group     share group it was dispatched through, or -1: so that it can be given to another member
 *   seq       low 31 bits of the number under which the store has it, 0 for none
 *
 *   lane   head ──► pages on disk ──► tail        one for each priority, the higher ones are sent first
 *
 * 20 bytes a message in memory. A durable store moves what a client does not fetch to pages on disk and back; then only
 * the head's messages can be sent, and what comes later joins the tail. `count` and `bytes` include what is on disk. A ring
 * owns one reference to each of its messages.
 */
import { grownRing } from "#base/ring.ts";

const STRIDE = 5;
export const MESSAGE = 0;
export const DELIVERY = 1;
export const IDS = 2;
export const GROUP = 3;
export const SEQ = 4;

export const DELIVERY_QOS = 3;
export const DELIVERY_RETAIN = 4;
/** The message's priority, 0 to 7: the lane it waits in. */
export const DELIVERY_LANE_SHIFT = 3;
const DELIVERY_LANE = 7 << DELIVERY_LANE_SHIFT;
/** It was sent before: the next time it is a duplicate. */
export const DELIVERY_SENT = 64;

/** Messages of a block: what a ring grows by, so that a long queue is never copied. */
const BLOCK_COUNT = 1024;
const BLOCK_SHIFT = 10;

/** Fields of waiting messages in the order in which they came. */
export class Ring {
  private ring: Int32Array = new Int32Array(4 * STRIDE);
  private first = 0;
  /** Messages in `ring`. */
  private ringCount = 0;
  /** What came when `ring` had reached a block's size: all full but the last. */
  private blocks: Int32Array[] = noBlocks;
  private blockedCount = 0;
  /** Messages that came through a share group. */
  groupedCount = 0;

  get count(): number {
    return this.ringCount + this.blockedCount;
  }

  push(message: number, delivery: number, ids: number, group: number, seq: number): void {
    if (group >= 0) this.groupedCount++;
    if (this.blockedCount > 0 || this.ringCount === BLOCK_COUNT) {
      return this.pushBlocked(message, delivery, ids, group, seq);
    }
    if (this.ringCount * STRIDE === this.ring.length) {
      this.ring = grownRing(this.ring, this.first * STRIDE);
      this.first = 0;
    }
    const at = this.offset(this.ringCount++);
    this.ring[at + MESSAGE] = message;
    this.ring[at + DELIVERY] = delivery;
    this.ring[at + IDS] = ids;
    this.ring[at + GROUP] = group;
    this.ring[at + SEQ] = seq;
  }

  private pushBlocked(message: number, delivery: number, ids: number, group: number, seq: number): void {
    const place = this.blockedCount++;
    if (place === 0) this.blocks = [];
    if (place >>> BLOCK_SHIFT === this.blocks.length) this.blocks.push(new Int32Array(BLOCK_COUNT * STRIDE));
    const block = this.blocks[place >>> BLOCK_SHIFT];
    const at = (place & (BLOCK_COUNT - 1)) * STRIDE;
    block[at + MESSAGE] = message;
    block[at + DELIVERY] = delivery;
    block[at + IDS] = ids;
    block[at + GROUP] = group;
    block[at + SEQ] = seq;
  }

  /** A field of the `position`-th message, 0 being the oldest. */
  at(position: number, field: number): number {
    if (position < this.ringCount) return this.ring[this.offset(position) + field];
    const place = position - this.ringCount;
    return this.blocks[place >>> BLOCK_SHIFT][(place & (BLOCK_COUNT - 1)) * STRIDE + field];
  }

  /** Takes the oldest off. */
  shift(): void {
    if (this.ring[this.first * STRIDE + GROUP] >= 0) this.groupedCount--;
    this.first = (this.first + 1) & (this.ring.length / STRIDE - 1);
    if (--this.ringCount > 0 || this.blockedCount === 0) return;
    this.ring = this.blocks.shift()!;
    this.first = 0;
    this.ringCount = Math.min(BLOCK_COUNT, this.blockedCount);
    this.blockedCount -= this.ringCount;
  }

  /** Moves the messages from `start` on to the end of another ring. */
  moveTo(other: Ring, start: number): void {
    for (let i = start; i < this.count; i++) {
      const group = this.at(i, GROUP);
      if (group >= 0) this.groupedCount--;
      other.push(this.at(i, MESSAGE), this.at(i, DELIVERY), this.at(i, IDS), group, this.at(i, SEQ));
    }
    if (start >= this.count) return;
    this.blockedCount = Math.max(0, start - this.ringCount);
    this.blocks.length = Math.ceil(this.blockedCount / BLOCK_COUNT);
    this.ringCount = Math.min(start, this.ringCount);
  }

  private offset(position: number): number {
    return ((this.first + position) & (this.ring.length / STRIDE - 1)) * STRIDE;
  }
}

const noBlocks: Int32Array[] = [];

/** A run of waiting messages on disk. */
export interface Page {
  readonly page: number;
  readonly count: number;
  readonly bytes: number;
}

export class Lane {
  head: Ring = new Ring();
  /** In the order in which they will be sent. */
  pages: Page[] = noPages;
  /** Empty unless there are pages. */
  tail: Ring = noRing;
  /** Bytes of the bodies in memory, and of these the tail's. */
  memoryBytes = 0;
  tailBytes = 0;
  /** The first page is being read. */
  isLoading = false;

  constructor(readonly number: number) {}

  /** Where the next message to come goes. */
  get back(): Ring {
    if (this.pages.length === 0) return this.head;
    if (this.tail === noRing) this.tail = new Ring();
    return this.tail;
  }

  /** The last page is in memory, or gone: the tail follows the head. */
  join(): void {
    if (this.pages.length > 0 || this.tail === noRing) return;
    if (this.head.count === 0) this.head = this.tail;
    else this.tail.moveTo(this.head, 0);
    this.tail = noRing;
    this.tailBytes = 0;
  }
}

const noPages: Page[] = [];
const noRing = new Ring();

export class Outbox {
  /** From the highest priority to the lowest. */
  readonly lanes: Lane[] = [new Lane(0)];
  count = 0;
  bytes = 0;
  /** Number of the next page on disk. */
  nextPage = 0;

  push(message: number, delivery: number, ids: number, group: number, size: number, seq = 0): void {
    const number = (delivery & DELIVERY_LANE) >> DELIVERY_LANE_SHIFT;
    const lane = number === 0 ? this.lanes[this.lanes.length - 1] : this.lane(number);
    lane.back.push(message, delivery, ids, group, seq);
    lane.memoryBytes += size;
    if (lane.pages.length > 0) lane.tailBytes += size;
    this.count++;
    this.bytes += size;
  }

  /** Some messages are on disk. */
  get hasPages(): boolean {
    const { lanes } = this;
    for (let i = 0; i < lanes.length; i++) if (lanes[i].pages.length > 0) return true;
    return false;
  }

  /** The lane of a priority. */
  lane(number: number): Lane {
    const at = this.lanes.findIndex((lane) => lane.number <= number);
    if (this.lanes[at].number !== number) this.lanes.splice(at, 0, new Lane(number));
    return this.lanes[at];
  }

  /** The lane whose head is to be sent next; null when nothing is in memory. */
  first(): Lane | null {
    const { lanes } = this;
    for (let i = 0; i < lanes.length; i++) {
      if (lanes[i].head.count > 0) return lanes[i];
      if (lanes[i].pages.length > 0) return null; // on its way: a lower lane must not pass it
    }
    return null;
  }

  /** Takes a lane's oldest off; read its fields before. */
  shift(lane: Lane, size: number): void {
    lane.head.shift();
    lane.memoryBytes -= size;
    this.count--;
    this.bytes -= size;
  }
}

/** Lists of two or more subscription identifiers: rare, so plain arrays with numbers. */
export class IdLists {
  private readonly lists: (Int32Array | undefined)[] = [];
  private readonly free: number[] = [];

  get count(): number {
    return this.lists.length - this.free.length;
  }

  /** Stores `ids[0, count)`: 0 for none, the identifier itself for one, a negative number for a list. */
  keep(ids: Int32Array, count: number): number {
    if (count === 0) return 0;
    if (count === 1) return ids[0];
    const number = this.free.pop() ?? this.lists.length;
    this.lists[number] = ids.slice(0, count);
    return -1 - number;
  }

  /** The list behind a negative number. */
  get(stored: number): Int32Array {
    return this.lists[-1 - stored]!;
  }

  release(stored: number): void {
    if (stored >= 0) return;
    this.lists[-1 - stored] = undefined;
    this.free.push(-1 - stored);
  }
}
