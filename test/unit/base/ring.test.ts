import { expect, test } from "bun:test";
import { grownRing } from "#base/ring.ts";

test("the ring is unrolled from its start and doubled", () => {
  expect(grownRing(Int32Array.of(3, 4, 1, 2), 2)).toEqual(Int32Array.of(1, 2, 3, 4, 0, 0, 0, 0));
  expect(grownRing(Uint16Array.of(1, 2), 0)).toEqual(Uint16Array.of(1, 2, 0, 0));
});
