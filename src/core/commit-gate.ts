/**
 * Acknowledgements that wait for durability, of one connection, in the order in which they were earned.
 *
 *   numbers   [ store number | forward number ] …      acks   [ acknowledgement, or -1 for an action ] …    first ──► … count …
 *
 * An acknowledgement is a number whose meaning is the owner's, so that a QoS 1 stream allocates nothing here; actions are
 * for what is rare. What needs no commit passes straight through as long as nothing waits before it. Made when first
 * needed: a broker without durable store never has one.
 */
import { grown } from "#base/bytes.ts";

const FIRST_CAPACITY = 16;
const ACTION = -1;

export class CommitGate {
  private numbers = new Float64Array(2 * FIRST_CAPACITY);
  private acks = new Int32Array(FIRST_CAPACITY);
  private first = 0;
  private readonly actions: (() => void)[] = [];
  private durableSeq = 0;
  private forwardedSeq = 0;
  private isAdvancing = false;
  count = 0;

  /** Acknowledgements are handed to `release`. */
  constructor(private readonly release: (ack: number) => void = () => {}) {}

  /** Calls `action` once both numbers are reached and everything before it is released. */
  add(storeSeq: number, forwardSeq: number, action: () => void): void {
    this.actions.push(action);
    this.addAck(storeSeq, forwardSeq, ACTION);
  }

  /** Releases `ack`, 0 or more, once both numbers are reached and everything before it is released. */
  addAck(storeSeq: number, forwardSeq: number, ack: number): void {
    if (this.count === this.acks.length) this.grow();
    const at = (this.first + this.count++) & (this.acks.length - 1);
    this.numbers[2 * at] = storeSeq;
    this.numbers[2 * at + 1] = forwardSeq;
    this.acks[at] = ack;
  }

  /** Lets out, in order, what is covered now. A release may move the numbers again. */
  advance(durableSeq: number, forwardedSeq: number): void {
    this.durableSeq = durableSeq;
    this.forwardedSeq = forwardedSeq;
    if (this.isAdvancing) return;
    this.isAdvancing = true;
    try {
      while (this.count > 0 && this.isFirstCovered()) {
        const ack = this.acks[this.first];
        this.first = (this.first + 1) & (this.acks.length - 1);
        this.count--;
        if (ack === ACTION) this.actions.shift()!();
        else this.release(ack);
      }
    } finally {
      this.isAdvancing = false;
    }
  }

  private isFirstCovered(): boolean {
    const at = 2 * this.first;
    return this.numbers[at] <= this.durableSeq && this.numbers[at + 1] <= this.forwardedSeq;
  }

  /** Doubles both rings, unrolled so that the first comes first. */
  private grow(): void {
    const { first, acks, numbers } = this;
    this.acks = grown(acks.subarray(first), acks.length * 2);
    this.acks.set(acks.subarray(0, first), acks.length - first);
    this.numbers = grown(numbers.subarray(2 * first), numbers.length * 2);
    this.numbers.set(numbers.subarray(0, 2 * first), numbers.length - 2 * first);
    this.first = 0;
  }
}
