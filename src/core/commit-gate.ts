/**
 * Acknowledgements that wait for durability, of one connection, in the order in which they were earned.
 *
 *   entry   [ store number | forward number | packet bytes ]
 *
 * What needs no commit passes straight through as long as nothing waits before it. Made when first needed: a broker
 * without durable store never has one.
 */

interface Waiting {
  readonly storeSeq: number;
  readonly forwardSeq: number;
  readonly release: () => void;
}

export class CommitGate {
  private readonly waiting: Waiting[] = [];
  private durableSeq = 0;
  private forwardedSeq = 0;
  private isAdvancing = false;

  get count(): number {
    return this.waiting.length;
  }

  /** Calls `release` once both numbers are reached and everything before it is released. */
  add(storeSeq: number, forwardSeq: number, release: () => void): void {
    this.waiting.push({ storeSeq, forwardSeq, release });
  }

  /** Lets out, in order, what is covered now. A release may move the numbers again. */
  advance(durableSeq: number, forwardedSeq: number): void {
    this.durableSeq = durableSeq;
    this.forwardedSeq = forwardedSeq;
    if (this.isAdvancing) return;
    this.isAdvancing = true;
    try {
      while (this.waiting.length > 0 && this.isCovered(this.waiting[0])) this.waiting.shift()!.release();
    } finally {
      this.isAdvancing = false;
    }
  }

  private isCovered({ storeSeq, forwardSeq }: Waiting): boolean {
    return storeSeq <= this.durableSeq && forwardSeq <= this.forwardedSeq;
  }
}
