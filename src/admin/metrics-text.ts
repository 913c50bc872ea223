/** The metrics as the text that Prometheus scrapes. */
import type { MetricObjectWithValues, MetricValue } from "prom-client";
import type { Control } from "#broker/control.ts";
import { type Family, type Histogram, readMetrics } from "./metric-families.ts";

type Value = MetricValue<string> & { readonly metricName?: string };

/** Asks the broker and writes the text of a scrape. */
export async function scrape(control: Control): Promise<{ text: string; contentType: string }> {
  const { Registry } = await import("prom-client"); // no start waits for it
  const registry = new Registry();
  for (const family of await readMetrics(control)) {
    const { name, help, type } = family;
    const values = valuesOf(family);
    const get = async (): Promise<MetricObjectWithValues<MetricValue<string>>> =>
      ({ name, help, type, values, aggregator: "sum" }) as never;
    registry.registerMetric({ name, get } as never);
  }
  return { text: await registry.metrics(), contentType: registry.contentType };
}

function valuesOf(family: Family): readonly Value[] {
  return family.type === "histogram" ? bucketsOf(family.name, family.histogram) : family.values;
}

function bucketsOf(name: string, { bounds, counts, sum, count }: Histogram): Value[] {
  let below = 0;
  const buckets = bounds.map((bound, i) => {
    below += counts[i];
    return { value: below, labels: { le: String(bound) }, metricName: `${name}_bucket` };
  });
  return [
    ...buckets,
    { value: count, labels: { le: "+Inf" }, metricName: `${name}_bucket` },
    { value: sum, labels: {}, metricName: `${name}_sum` },
    { value: count, labels: {}, metricName: `${name}_count` },
  ];
}
