/**
 * How late an event loop comes to its timers, which is how long a packet may lie before it is read: a timer every 2 ms, and
 * by how much more than that it came after the one before. Timers have steps of a millisecond, so that much is no lag.
 */
import { existsSync, readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { Histogram } from "#bench/load/histogram.ts";

const STEP_MS = 2;
/** Of a broker with the probe (`lag-probe.ts`) in its folder. */
export const LAG_FILE = "loop-lag.json";
const ANSWER_MS = 10_000;

export interface Lag {
  readonly p99Us: number;
  readonly maxUs: number;
}

export class LoopLag {
  private histogram = new Histogram();
  private lastMs = performance.now();

  /** Does not keep the process alive. */
  constructor() {
    setInterval(() => {
      const nowMs = performance.now();
      this.note(nowMs - this.lastMs - STEP_MS);
      this.lastMs = nowMs;
    }, STEP_MS).unref();
  }

  /** A loop that stands still for long is late for every packet that comes meanwhile, not for one. */
  private note(lateMs: number): void {
    this.histogram.add(lateMs * 1e6);
    for (let rest = lateMs - STEP_MS; rest > 0; rest -= STEP_MS) this.histogram.add(rest * 1e6);
  }

  /** Since the start or the last call. */
  take(): Lag {
    const { histogram } = this;
    this.histogram = new Histogram();
    return { p99Us: histogram.percentile(0.99) / 1000, maxUs: histogram.max / 1000 };
  }
}

/** As `take`, of the broker's process. Throws when it has no probe, or does not answer. */
export async function takeLagOf(pid: number, folder: string): Promise<Lag> {
  const path = join(folder, LAG_FILE);
  if (!existsSync(path)) throw new Error("the broker has no probe for the lag of its loop");
  rmSync(path);
  process.kill(pid, "SIGUSR2");
  for (const end = performance.now() + ANSWER_MS; !existsSync(path); await Bun.sleep(5))
    if (performance.now() > end) throw new Error("the broker does not say how late its loop is");
  return JSON.parse(readFileSync(path, "utf8")) as Lag;
}
