/**
 * Messages that wait for one session: a ring in first-in-first-out order.
 *
 *   ring   [ message | delivery | ids | group ] × capacity (power of two, from 4)     head ──► … count …
 *   delivery  QoS to deliver with (2 bits) | retain flag (4)
 *   ids       0 none, > 0 the one subscription identifier, < 0 a list in `IdLists`
 *   group     share group it was dispatched through, or -1: so that it can be given to another member
 *
 * 16 bytes a message. It counts the bodies' bytes, so that its limits can be kept. It owns one reference to each message.
 */
import { grownRing } from "#base/ring.ts";

const STRIDE = 4;
export const MESSAGE = 0;
export const DELIVERY = 1;
export const IDS = 2;
export const GROUP = 3;

export const DELIVERY_QOS = 3;
export const DELIVERY_RETAIN = 4;

export class Outbox {
  private ring = new Int32Array(4 * STRIDE);
  private head = 0;
  count = 0;
  bytes = 0;

  push(message: number, delivery: number, ids: number, group: number, size: number): void {
    const capacity = this.ring.length / STRIDE;
    if (this.count === capacity) {
      this.ring = grownRing(this.ring, this.head * STRIDE);
      this.head = 0;
    }
    const at = ((this.head + this.count) & (this.ring.length / STRIDE - 1)) * STRIDE;
    this.ring[at + MESSAGE] = message;
    this.ring[at + DELIVERY] = delivery;
    this.ring[at + IDS] = ids;
    this.ring[at + GROUP] = group;
    this.count++;
    this.bytes += size;
  }

  /** A field of the `position`-th waiting message, 0 being the oldest. */
  at(position: number, field: number): number {
    return this.ring[((this.head + position) & (this.ring.length / STRIDE - 1)) * STRIDE + field];
  }

  /** Takes the oldest off; read its fields before. */
  shift(size: number): void {
    this.head = (this.head + 1) & (this.ring.length / STRIDE - 1);
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
