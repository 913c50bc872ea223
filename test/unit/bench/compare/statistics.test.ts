import { expect, test } from "bun:test";
import { median, percentile, spread, summarize } from "#bench/compare/statistics.ts";

test("median of odd and even numbers of values, in any order", () => {
  expect(median([9, 1, 5])).toBe(5);
  expect(median([4, 1, 3, 2])).toBe(2.5);
  expect(median([10, 9, 100])).toBe(10); // as numbers, not as text
  expect(median([7])).toBe(7);
});

test("spread", () => {
  expect(spread([3, 1, 2])).toEqual({ median: 2, min: 1, max: 3, count: 3 });
});

test("percentile is a value that was there", () => {
  const sorted = Array.from({ length: 100 }, (_, i) => i + 1);
  expect(percentile(sorted, 0.5)).toBe(50);
  expect(percentile(sorted, 0.99)).toBe(99);
  expect(percentile(sorted, 1)).toBe(100);
  expect(percentile(sorted, 0)).toBe(1);
  expect(percentile([42], 0.99)).toBe(42);
  expect(percentile([], 0.5)).toBe(0);
});

test("summaries are by metric, over the runs that have it", () => {
  const summary = summarize([{ messagesPerSec: 10, p50Us: 5 }, { messagesPerSec: 30 }, { messagesPerSec: 20 }]);
  expect(summary).toEqual({
    messagesPerSec: { median: 20, min: 10, max: 30, count: 3 },
    p50Us: { median: 5, min: 5, max: 5, count: 1 },
  });
  expect(summarize([])).toEqual({});
});
