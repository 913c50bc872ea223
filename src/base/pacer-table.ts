/** A token bucket for each of many keys. The table is bounded; the longest unused gives way, which at worst forgives it. */
import { Pacer } from "./pacer.ts";

const KEYS_MAX = 65_536;

export class PacerTable {
  private readonly pacers: Map<string, Pacer> = new Map();

  constructor(
    private readonly ratePerSec: number,
    private readonly burst: number = ratePerSec,
  ) {}

  /** Takes a token of the key's; false when there is none. */
  take(key: string, nowMs: number): boolean {
    const { pacers } = this;
    const pacer = pacers.get(key) ?? new Pacer(this.ratePerSec, this.burst);
    pacers.delete(key); // to the end: the first is the longest unused
    pacers.set(key, pacer);
    if (pacers.size > KEYS_MAX) pacers.delete(pacers.keys().next().value!);
    if (pacer.waitMs(nowMs) > 0) return false;
    pacer.take(nowMs);
    return true;
  }
}
