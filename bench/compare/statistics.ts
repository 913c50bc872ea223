/** Medians, spreads and percentiles. Few runs each, so nothing here pretends to more than order statistics. */
import { type MetricName, type Metrics, metricKinds } from "#bench/scenarios/scenario.ts";

export interface Spread {
  readonly median: number;
  readonly min: number;
  readonly max: number;
  readonly count: number;
}

export type Summary = Partial<Record<MetricName, Spread>>;

export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
}

export function spread(values: readonly number[]): Spread {
  return { median: median(values), min: Math.min(...values), max: Math.max(...values), count: values.length };
}

/** The smallest value that `share` (0 to 1) of the values do not exceed; `sorted` is ascending. */
export function percentile(sorted: readonly number[], share: number): number {
  if (sorted.length === 0) return 0;
  return sorted[Math.max(0, Math.ceil(share * sorted.length) - 1)];
}

/** A metric that some runs lack is summed up over those that have it. */
export function summarize(runs: readonly Metrics[]): Summary {
  const summary: Summary = {};
  for (const name of Object.keys(metricKinds) as MetricName[]) {
    const values = runs.map((run) => run[name]).filter((value) => value !== undefined);
    if (values.length > 0) summary[name] = spread(values);
  }
  return summary;
}
