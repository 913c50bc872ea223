import { expect, test } from "bun:test";
import { PacerTable } from "#base/pacer-table.ts";

test("each key has a bucket of its own, which fills again", () => {
  const table = new PacerTable(2);
  expect([table.take("a", 0), table.take("a", 0), table.take("a", 0), table.take("b", 0)]).toEqual([
    true,
    true,
    false,
    true,
  ]);
  expect([table.take("a", 499), table.take("a", 500), table.take("a", 501)]).toEqual([false, true, false]);
});

test("of too many keys the longest unused is forgiven, the others are not", () => {
  const table = new PacerTable(1);
  expect(table.take("first", 0)).toBe(true);
  expect(table.take("second", 0)).toBe(true);
  expect(table.take("first", 0)).toBe(false); // used again, so "second" is the oldest
  for (let i = 0; i < 65_535; i++) table.take(`key ${i}`, 0);
  expect(table.take("first", 0)).toBe(false);
  expect(table.take("second", 0)).toBe(true);
});
