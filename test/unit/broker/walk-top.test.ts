// The greatest few of many, without sorting them all.
import { expect, test } from "bun:test";
import fc from "fast-check";
import { walkTop } from "#broker/operation.ts";

test("what sorting all of them would give, those that are not meant left out", async () => {
  const values = fc.array(fc.option(fc.nat(20), { nil: undefined }), { maxLength: 60 });
  await fc.assert(
    fc.asyncProperty(values, fc.integer({ min: 1, max: 10 }), async (keys, limit) => {
      const found = await walkTop(
        limit,
        () => keys.length,
        (number) => keys[number],
      );
      const sorted = keys.flatMap((key) => key ?? []).toSorted((a, b) => b - a);
      expect(found.map((number) => keys[number]!)).toEqual(sorted.slice(0, limit));
      expect(new Set(found).size).toBe(found.length);
    }),
  );
});

test("others are served while a million are looked at, and what comes meanwhile may be among them", async () => {
  let turns = 0;
  let high = 1_000_000;
  const timer = setInterval(() => {
    turns++;
    high = 1_000_001;
  }, 1);
  const found = await walkTop(
    3,
    () => high,
    (number) => number,
  );
  clearInterval(timer);
  expect(turns).toBeGreaterThan(0);
  expect(found).toEqual([1_000_000, 999_999, 999_998]);
});
