import { expect, test } from "bun:test";
import { Slab } from "#base/slab.ts";

test("numbers ascend from 0, and returned ones come first", () => {
  const slab = new Slab();
  expect([slab.take(), slab.take(), slab.take()]).toEqual([0, 1, 2]);
  slab.give(0);
  slab.give(2);
  expect(slab.count).toBe(1);
  expect([slab.take(), slab.take(), slab.take()]).toEqual([2, 0, 3]);
  expect([slab.count, slab.high]).toEqual([4, 4]);
});

test("any number of returned numbers is remembered", () => {
  const slab = new Slab();
  for (let i = 0; i < 1000; i++) slab.take();
  for (let i = 0; i < 1000; i++) slab.give(i);
  expect(slab.count).toBe(0);
  const again = new Set(Array.from({ length: 1000 }, () => slab.take()));
  expect(again.size).toBe(1000);
  expect(slab.high).toBe(1000);
});
