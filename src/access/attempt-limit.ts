/**
 * Brute force: whoever keeps failing with credentials has to wait before the next ones are looked at. Counted per address
 * (IPv6: per /64), since the names are what is being guessed.
 *
 *   failures in `windowSec`   ≤ failureCountMax   more: one attempt at a time, each 1 s, 2 s, 4 s … delaySecMax after the last
 *
 * Whoever sends his guesses all at once learns no more than that: what is under way when the bound is passed is answered Server
 * busy, right or wrong (`isOver`, of those that `admit` let go on free).
 *
 * Only failed credentials count: no ban, no server that is down, nothing a connection does later; and a success does not
 * make up for failures, or one valid account would open the door to the others. At most `WAITING_MAX` attempts of an address
 * wait; beyond, Server busy. Addresses are at most `ADDRESS_COUNT_MAX`; the one that failed longest ago is forgotten first.
 */
import { networkOf } from "./address.ts";
import { SERVER_BUSY } from "./reason.ts";

const ADDRESS_COUNT_MAX = 100_000;
const WAITING_MAX = 8;

export interface AttemptLimitOptions {
  /** Failures that cost nothing. */
  readonly failureCountMax: number;
  readonly windowSec: number;
  /** 0: nobody waits. */
  readonly delaySecMax: number;
  /** Monotonic milliseconds, and a timer; for tests. */
  readonly nowMs?: () => number;
  readonly after?: (delayMs: number, call: () => void) => void;
}

interface Record {
  failures: number;
  /** When the failures are forgotten: `windowSec` after the last one. */
  untilMs: number;
  /** When the next attempt may be looked at. */
  nextMs: number;
  waiting: number;
}

/** Failures by network, as `networkOf` names it. */
export type Failures = readonly (readonly [network: string, count: number])[];

export class AttemptLimit {
  readonly counts = { failures: 0, delayed: 0, refused: 0 };
  /** Told of the network of each failure here. */
  onFailure: (network: string) => void = () => {};
  private readonly records = new Map<string, Record>();
  private readonly nowMs: () => number;
  private readonly after: (delayMs: number, call: () => void) => void;

  constructor(private options: AttemptLimitOptions) {
    this.nowMs = options.nowMs ?? (() => performance.now());
    this.after = options.after ?? ((delayMs, call) => void setTimeout(call, delayMs));
  }

  /** Other bounds from now on; what has been counted stays. */
  replace(bounds: Pick<AttemptLimitOptions, "failureCountMax" | "windowSec" | "delaySecMax">): void {
    this.options = { ...this.options, ...bounds };
  }

  get addressCount(): number {
    return this.records.size;
  }

  /** The address has failed more often than costs nothing. */
  isOver(address: string): boolean {
    if (this.options.delaySecMax === 0) return false;
    return (this.find(address)?.failures ?? 0) > this.options.failureCountMax;
  }

  /**
   * Calls `go` once: with 0 when the credentials may be looked at, at once or after a delay; with a refusal. `isFree`: the address had
   * not failed too often.
   */
  admit(address: string, go: (refusal: 0 | typeof SERVER_BUSY, isFree: boolean) => void): void {
    const record = this.isOver(address) ? this.find(address) : undefined;
    if (!record) return go(0, true);
    const nowMs = this.nowMs();
    if (record.waiting >= WAITING_MAX) {
      this.counts.refused++;
      return go(SERVER_BUSY, false);
    }
    const atMs = Math.max(nowMs, record.nextMs);
    record.nextMs = atMs + this.delayMs(record);
    if (atMs === nowMs) return go(0, false);
    this.counts.delayed++;
    record.waiting++;
    this.after(atMs - nowMs, () => {
      record.waiting--;
      go(0, false);
    });
  }

  /** The credentials were wrong. */
  noteFailure(address: string): void {
    const key = networkOf(address);
    if (key === undefined) return;
    this.counts.failures++;
    this.add(key, 1);
    this.onFailure(key);
  }

  /** What other worker processes were told; it is one account with what is noted here. */
  noteElsewhere(failures: Failures): void {
    for (const [key, count] of failures) this.add(key, count);
  }

  private add(key: string, count: number): void {
    const nowMs = this.nowMs();
    const record = this.findKey(key) ?? { failures: 0, untilMs: 0, nextMs: 0, waiting: 0 };
    record.failures += count;
    record.untilMs = nowMs + this.options.windowSec * 1000;
    if (record.failures > this.options.failureCountMax)
      record.nextMs = Math.max(record.nextMs, nowMs + this.delayMs(record));
    this.records.delete(key); // so that it becomes the youngest
    this.records.set(key, record);
    if (this.records.size > ADDRESS_COUNT_MAX) this.records.delete(this.records.keys().next().value!);
  }

  private find(address: string): Record | undefined {
    if (this.records.size === 0) return undefined;
    const key = networkOf(address);
    return key === undefined ? undefined : this.findKey(key);
  }

  private findKey(key: string): Record | undefined {
    const record = this.records.get(key);
    if (!record || this.nowMs() < record.untilMs || record.waiting > 0) return record;
    this.records.delete(key);
    return undefined;
  }

  private delayMs({ failures }: Record): number {
    const steps = Math.min(30, failures - this.options.failureCountMax - 1);
    return Math.min(this.options.delaySecMax, 2 ** steps) * 1000;
  }
}
