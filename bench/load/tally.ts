/** What a process of the run has counted; those of all processes are merged into one result. */
import { Histogram, type HistogramData } from "./histogram.ts";

/** Counters, all of which add up over processes. */
const counterNames = [
  "connected",
  "failed",
  "refused",
  "dropped",
  "subscribed",
  "sent",
  "expected",
  "delivered",
  "duplicates",
  "reordered",
  "missing",
  "foreign",
  "wrongQos",
  "damaged",
  "retained",
  "unstamped",
  "nacks",
  "strayAcks",
  "stalls",
  "behind",
  "unacked",
  "unwritten",
  "pings",
  "pongs",
  "measuredSent",
  "measuredDelivered",
  "measuredBytes",
] as const;
type Counter = (typeof counterNames)[number];
export type Counts = Record<Counter, number>;

export type HistogramName = "latency" | "connack" | "ack" | "lateness";

export interface TallyData {
  readonly counts: Counts;
  readonly histograms: Readonly<Record<HistogramName, HistogramData>>;
  /** Why clients failed or were dropped, and how many. */
  readonly reasons: Readonly<Record<string, number>>;
  /** The measured window of this process. */
  readonly measuredSec: number;
  readonly cpuSec: number;
  /** From the first connect to the last client up or failed. */
  readonly connectSec: number;
  readonly connectCpuSec: number;
}

const REASONS_MAX = 20;

export class Tally {
  readonly counts: Counts = Object.fromEntries(counterNames.map((name) => [name, 0])) as Counts;
  /** Of messages: due (or sent) to received. */
  readonly latency: Histogram = new Histogram();
  /** Connect to CONNACK. */
  readonly connack: Histogram = new Histogram();
  /** Of QoS 1 and 2: due (or sent) to PUBACK or PUBCOMP. */
  readonly ack: Histogram = new Histogram();
  /** Of paced runs: due to sent. What it has is the generator's or the socket's own delay. */
  readonly lateness: Histogram = new Histogram();
  readonly reasons: Map<string, number> = new Map();
  isMeasuring = false;
  /** Latency is that of the messages due in the measured window, whenever they arrive. */
  windowStartNs = Number.POSITIVE_INFINITY;
  windowEndNs = Number.POSITIVE_INFINITY;
  measuredSec = 0;
  cpuSec = 0;
  connectSec = 0;
  connectCpuSec = 0;

  open(nowNs: number): void {
    this.isMeasuring = true;
    this.windowStartNs = nowNs;
  }

  close(nowNs: number): void {
    this.isMeasuring = false;
    this.windowEndNs = nowNs;
    this.measuredSec = (nowNs - this.windowStartNs) / 1e9;
  }

  addReason(why: string): void {
    const key = this.reasons.size < REASONS_MAX || this.reasons.has(why) ? why : "others";
    this.reasons.set(key, (this.reasons.get(key) ?? 0) + 1);
  }

  toData(): TallyData {
    return {
      counts: { ...this.counts },
      histograms: {
        latency: this.latency.toData(),
        connack: this.connack.toData(),
        ack: this.ack.toData(),
        lateness: this.lateness.toData(),
      },
      reasons: Object.fromEntries(this.reasons),
      measuredSec: this.measuredSec,
      cpuSec: this.cpuSec,
      connectSec: this.connectSec,
      connectCpuSec: this.connectCpuSec,
    };
  }
}

export function addCounts(all: readonly Counts[]): Counts {
  const add = (name: Counter): number => all.reduce((sum, counts) => sum + counts[name], 0);
  return Object.fromEntries(counterNames.map((name) => [name, add(name)])) as Counts;
}

export function mergeHistograms(all: readonly TallyData[], name: HistogramName): Histogram {
  const merged = new Histogram();
  for (const { histograms } of all) merged.merge(histograms[name]);
  return merged;
}

export function mergeReasons(all: readonly TallyData[]): Record<string, number> {
  const merged: Record<string, number> = {};
  for (const { reasons } of all)
    for (const [why, count] of Object.entries(reasons)) merged[why] = (merged[why] ?? 0) + count;
  return merged;
}
