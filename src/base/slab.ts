/**
 * Numbers for things that live in columns: `take` hands out the lowest-cost free number, `give` takes it back.
 *
 *   free:  [ 7 | 3 | 12 ]  a stack of returned numbers      high: numbers ever handed out
 *
 * The owner grows its columns when `take` returns a number past their end.
 */
export class Slab {
  private returned = new Int32Array(16);
  private returnedCount = 0;
  private highest = 0;

  /** Numbers in use. */
  get count(): number {
    return this.highest - this.returnedCount;
  }

  /** One more than the largest number ever handed out. */
  get high(): number {
    return this.highest;
  }

  take(): number {
    if (this.returnedCount > 0) return this.returned[--this.returnedCount];
    return this.highest++;
  }

  give(index: number): void {
    if (this.returnedCount === this.returned.length) {
      const next = new Int32Array(this.returned.length * 2);
      next.set(this.returned);
      this.returned = next;
    }
    this.returned[this.returnedCount++] = index;
  }
}
