import { expect, test } from "bun:test";
import { Histogram } from "#bench/load/histogram.ts";

const parts = [0, 0.001, 0.25, 0.5, 0.9, 0.99, 0.999, 1];

/** What the definition says: the smallest value that at least `part` of all do not exceed. */
function exactPercentile(sorted: readonly number[], part: number): number {
  return sorted[Math.max(1, Math.ceil(part * sorted.length)) - 1]!;
}

test("percentiles are those of the sorted values to within 0.8 %, from 1 ns to days", () => {
  let seed = 7;
  const random = (): number => (seed = (seed * 48_271) % 2_147_483_647) / 2_147_483_647;
  const values = Array.from({ length: 20_000 }, () => Math.floor(2 ** (random() * 50)));
  const histogram = new Histogram();
  for (const value of values) histogram.add(value);
  const sorted = values.toSorted((a, b) => a - b);
  for (const part of parts) {
    const exact = exactPercentile(sorted, part);
    expect(histogram.percentile(part)).toBeGreaterThanOrEqual(exact);
    expect(histogram.percentile(part)).toBeLessThanOrEqual(Math.max(exact + 1, exact * 1.008));
  }
  expect(histogram.max).toBe(sorted.at(-1)!);
  expect(histogram.mean).toBeCloseTo(values.reduce((a, b) => a + b) / values.length, 0);
});

test("values at the edges of steps keep their order and their place", () => {
  for (let shift = 0; shift < 50; shift++)
    for (const value of [2 ** shift - 1, 2 ** shift, 2 ** shift + 1]) {
      const histogram = new Histogram();
      histogram.add(value);
      histogram.add(2 ** 51 - 1);
      expect(Math.abs(histogram.percentile(0.5) - value)).toBeLessThanOrEqual(value / 128);
    }
});

test("merged histograms are the histogram of all values", () => {
  const whole = new Histogram();
  const halves = [new Histogram(), new Histogram()];
  for (let i = 0; i < 3000; i++) {
    whole.add(i * i * 17);
    halves[i % 2]!.add(i * i * 17);
  }
  const merged = Histogram.from(JSON.parse(JSON.stringify(halves[0]!.toData())));
  merged.merge(halves[1]!.toData());
  expect(merged.toData()).toEqual(whole.toData());
  expect(parts.map((part) => merged.percentile(part))).toEqual(parts.map((part) => whole.percentile(part)));
});

test("empty, negative and huge", () => {
  const histogram = new Histogram();
  expect([histogram.percentile(0.5), histogram.mean, histogram.max]).toEqual([0, 0, 0]);
  histogram.add(-5);
  expect(histogram.percentile(1)).toBe(0);
  histogram.add(2 ** 60);
  expect(histogram.percentile(1)).toBe(2 ** 51 - 1);
});
