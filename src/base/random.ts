/**
 * A seeded generator (xorshift32, Marsaglia 2003): chance is handed in, so that a run can be repeated from its seed.
 * Not for secrets.
 */
export class Random {
  private state: number;

  /** `seed`: any 32-bit integer; 0 is replaced, since the generator would stay there. */
  constructor(seed: number) {
    this.state = seed | 0 || 0x6d2b79f5;
  }

  /** The next 32 bits, signed. */
  next(): number {
    let x = this.state;
    x ^= x << 13;
    x ^= x >>> 17;
    x ^= x << 5;
    this.state = x;
    return x;
  }

  /** A whole number in `[0, bound)`; `bound` from 1 to 2^31. */
  below(bound: number): number {
    return (this.next() >>> 0) % bound;
  }
}
