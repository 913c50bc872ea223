/**
 * Deadlines for a million owners, moved on by the caller's clock (Varghese and Lauck 1987, hashed hierarchical wheels).
 *
 *   level 0: 64 slots of 1 tick   level 1: 64 slots of 64 ticks   …   level 4: 64^4 ticks a slot
 *   a tick is 64 ms, so the wheel spans 2 years; a later deadline waits in the last level and is placed again
 *
 *   slot heads   head[level * 64 + slot]          timers by number: next, previous, slot, deadline (ticks), kind, owner
 *
 * A timer costs 23 bytes. Arm and cancel are a few writes; nothing is allocated until the columns double. A timer fires
 * once, never early, at most two ticks late when the caller ticks often enough.
 */
import { grown } from "./bytes.ts";
import { Slab } from "./slab.ts";

const TICK_MS = 64;
const SLOT_BITS = 6;
const SLOTS = 1 << SLOT_BITS;
const LEVELS = 5;
const SPAN = SLOTS ** LEVELS;

export class TimerWheel {
  private readonly numbers = new Slab();
  private readonly head = new Int32Array(SLOTS * LEVELS).fill(-1);
  private nextOf = new Int32Array(64);
  private previousOf = new Int32Array(64);
  private slotOf = new Uint16Array(64);
  private deadline = new Float64Array(64); // ticks
  private kind = new Uint8Array(64);
  private owner = new Int32Array(64);
  private current: number; // the last tick that fired

  /** `fire(kind, owner)` is called for each deadline reached; it may arm and cancel. */
  constructor(
    nowMs: number,
    private readonly fire: (kind: number, owner: number) => void,
  ) {
    this.current = Math.floor(nowMs / TICK_MS);
  }

  get count(): number {
    return this.numbers.count;
  }

  /** Arms a timer that fires once `deadlineMs` has passed; returns its number, which is free again after firing. */
  arm(deadlineMs: number, kind: number, owner: number): number {
    const timer = this.numbers.take();
    if (timer >= this.owner.length) this.grow();
    this.deadline[timer] = Math.max(Math.ceil(deadlineMs / TICK_MS), this.current + 1);
    this.kind[timer] = kind;
    this.owner[timer] = owner;
    this.place(timer);
    return timer;
  }

  cancel(timer: number): void {
    this.unlink(timer);
    this.numbers.give(timer);
  }

  /** Fires all that is due at `nowMs`. A clock that jumps far ahead costs one pass over the timers, not over the ticks. */
  tick(nowMs: number): void {
    const target = Math.floor(nowMs / TICK_MS);
    if (target - this.current > SLOTS * SLOTS) return this.jump(target);
    while (this.current < target) {
      this.current++;
      this.cascade();
      this.fireSlot(this.current & (SLOTS - 1));
    }
  }

  private cascade(): void {
    let unit = this.current;
    for (let level = 1; level < LEVELS && (unit & (SLOTS - 1)) === 0; level++) {
      unit = Math.floor(unit / SLOTS);
      this.replaceSlot(level * SLOTS + (unit & (SLOTS - 1)));
    }
  }

  private fireSlot(slot: number): void {
    while (this.head[slot] >= 0) {
      const timer = this.head[slot];
      this.unlink(timer);
      if (this.deadline[timer] > this.current) {
        this.place(timer); // a deadline beyond the wheel's span
        continue;
      }
      const kind = this.kind[timer];
      const owner = this.owner[timer];
      this.numbers.give(timer);
      this.fire(kind, owner);
    }
  }

  private jump(target: number): void {
    const timers: number[] = [];
    for (let slot = 0; slot < this.head.length; slot++) {
      for (let t = this.head[slot]; t >= 0; t = this.nextOf[t]) timers.push(t);
    }
    timers.sort((a, b) => this.deadline[b] - this.deadline[a]); // a slot is a stack
    for (const t of timers) this.unlink(t);
    this.current = target - 1;
    for (const t of timers) {
      this.deadline[t] = Math.max(this.deadline[t], target);
      this.place(t);
    }
    this.current = target;
    this.cascade();
    this.fireSlot(target & (SLOTS - 1));
  }

  private replaceSlot(slot: number): void {
    let timer = this.head[slot];
    this.head[slot] = -1;
    while (timer >= 0) {
      const next = this.nextOf[timer];
      this.place(timer);
      timer = next;
    }
  }

  private place(timer: number): void {
    const due = Math.min(this.deadline[timer], this.current + SPAN - 1);
    let level = 0;
    let unit = due;
    let distance = due - this.current;
    while (distance >= SLOTS && level < LEVELS - 1) {
      level++;
      unit = Math.floor(unit / SLOTS);
      distance = unit - Math.floor(this.current / SLOTS ** level);
    }
    const slot = level * SLOTS + (unit & (SLOTS - 1));
    const first = this.head[slot];
    this.nextOf[timer] = first;
    this.previousOf[timer] = -1;
    this.slotOf[timer] = slot;
    if (first >= 0) this.previousOf[first] = timer;
    this.head[slot] = timer;
  }

  private unlink(timer: number): void {
    const next = this.nextOf[timer];
    const previous = this.previousOf[timer];
    if (previous >= 0) this.nextOf[previous] = next;
    else this.head[this.slotOf[timer]] = next;
    if (next >= 0) this.previousOf[next] = previous;
  }

  private grow(): void {
    const capacity = this.owner.length * 2;
    this.nextOf = grown(this.nextOf, capacity);
    this.previousOf = grown(this.previousOf, capacity);
    this.slotOf = grown(this.slotOf, capacity);
    this.deadline = grown(this.deadline, capacity);
    this.kind = grown(this.kind, capacity);
    this.owner = grown(this.owner, capacity);
  }
}
