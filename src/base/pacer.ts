/**
 * A token bucket kept as one number: the time at which it is full again. `ratePerSec` tokens flow in each second, it holds
 * `burst` of them, and it may go into debt, which is waited for.
 */
export class Pacer {
  private fullAtMs = 0;
  private readonly tokenMs: number;
  private readonly burstMs: number;

  constructor(ratePerSec: number, burst: number) {
    this.tokenMs = 1000 / ratePerSec;
    this.burstMs = Math.max(1, burst) * this.tokenMs;
  }

  /** How long until `count` tokens are there; 0: they are. More than the bucket holds: until it is full. */
  waitMs(nowMs: number, count = 1): number {
    const neededMs = Math.min(count * this.tokenMs, this.burstMs);
    return Math.max(0, Math.max(0, this.fullAtMs - nowMs) + neededMs - this.burstMs);
  }

  take(nowMs: number, count = 1): void {
    this.fullAtMs = Math.max(this.fullAtMs, nowMs) + count * this.tokenMs;
  }

  /** Whole tokens in the bucket. */
  available(nowMs: number): number {
    const missingMs = Math.max(0, this.fullAtMs - nowMs);
    return Math.max(0, Math.floor((this.burstMs - missingMs) / this.tokenMs + 1e-6));
  }

  isFull(nowMs: number): boolean {
    return this.fullAtMs <= nowMs;
  }
}
