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

  get count(): number {
    return this.waiting.length;
  }

  /** Calls `release` once both numbers are reached and everything before it is released. */
  add(storeSeq: number, forwardSeq: number, release: () => void): void {
    this.waiting.push({ storeSeq, forwardSeq, release });
  }

  /** Lets out, in order, what is covered now. */
  advance(durableSeq: number, forwardedSeq: number): void {
    let done = 0;
    for (const { storeSeq, forwardSeq, release } of this.waiting) {
      if (storeSeq > durableSeq || forwardSeq > forwardedSeq) break;
      done++;
      release();
    }
    if (done > 0) this.waiting.splice(0, done);
  }
}
