import { describe, expect, test } from "bun:test";
import { Pacer } from "#base/pacer.ts";

describe("a bucket", () => {
  test("holds its burst, is waited for when empty, and fills at its rate", () => {
    const pacer = new Pacer(10, 5);
    for (let i = 0; i < 5; i++) {
      expect(pacer.waitMs(1000)).toBe(0);
      pacer.take(1000);
    }
    expect(pacer.available(1000)).toBe(0);
    expect(pacer.waitMs(1000)).toBe(100);
    expect(pacer.waitMs(1100)).toBe(0);
    expect(pacer.available(1250)).toBe(2);
    expect(pacer.available(1_000_000)).toBe(5);
  });

  test("may go into debt", () => {
    const pacer = new Pacer(1000, 100);
    pacer.take(0, 1100);
    expect(pacer.available(0)).toBe(0);
    expect(pacer.waitMs(0)).toBe(1001);
    expect(pacer.available(1050)).toBe(50);
  });

  test("is full before anything was ever taken, whatever the clock says", () => {
    expect(new Pacer(1, 3).available(0)).toBe(3);
    expect(new Pacer(1, 3).available(1e9)).toBe(3);
  });

  test("over any time gives rate × time + burst and no more", () => {
    const pacer = new Pacer(50, 20);
    let taken = 0;
    for (let nowMs = 0; nowMs < 10_000; nowMs += 3) {
      const size = pacer.available(nowMs);
      pacer.take(nowMs, size);
      taken += size;
    }
    expect(taken).toBeGreaterThanOrEqual(515);
    expect(taken).toBeLessThanOrEqual(520);
  });
});
