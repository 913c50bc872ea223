import { expect, test } from "bun:test";
import { Random } from "#base/random.ts";

const list = (random: Random, bound: number): number[] => Array.from({ length: 1000 }, () => random.below(bound));

test("the same seed gives the same numbers, another seed others, and 0 is a seed too", () => {
  expect(list(new Random(5), 1000)).toEqual(list(new Random(5), 1000));
  expect(list(new Random(5), 1000)).not.toEqual(list(new Random(6), 1000));
  expect(new Set(list(new Random(0), 1000)).size).toBeGreaterThan(500);
});

test("below stays below and reaches every number", () => {
  expect(new Set(list(new Random(1), 7))).toEqual(new Set([0, 1, 2, 3, 4, 5, 6]));
  expect(new Set(list(new Random(1), 1))).toEqual(new Set([0]));
  expect(Math.min(...list(new Random(1), 2 ** 31))).toBeGreaterThanOrEqual(0);
});
