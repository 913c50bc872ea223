import { expect, test } from "bun:test";
import { U16Set } from "#base/u16-set.ts";

test("adds, finds and deletes, and says what it did", () => {
  const set = new U16Set();
  expect([set.add(1), set.add(65_535), set.add(1)]).toEqual([true, true, false]);
  expect([set.has(1), set.has(2), set.has(65_535)]).toEqual([true, false, true]);
  expect([set.delete(2), set.delete(1), set.delete(1)]).toEqual([false, true, false]);
  expect([...set.values()]).toEqual([65_535]);
  expect(set.count).toBe(1);
});

test("holds every packet id there is, and gives each back", () => {
  const set = new U16Set();
  for (let id = 1; id <= 65_535; id++) set.add(id);
  expect(set.count).toBe(65_535);
  for (let id = 1; id <= 65_535; id += 2) set.delete(id);
  let wrong = 0;
  for (let id = 1; id <= 65_535; id++) if (set.has(id) !== (id % 2 === 0)) wrong++;
  expect([wrong, set.count]).toEqual([0, 32_767]);
});
