import { expect, test } from "bun:test";
import { homeOf } from "#fabric/home.ts";

test("a client id has one home, and clients are spread over all", () => {
  const counts = [0, 0, 0, 0, 0];
  for (let i = 0; i < 5000; i++) {
    const home = homeOf(Buffer.from(`device-${i}`), { count: 5, seed: 77 });
    expect(homeOf(Buffer.from(`device-${i}`), { count: 5, seed: 77 })).toBe(home);
    counts[home]!++;
  }
  for (const count of counts) expect(Math.abs(count - 1000)).toBeLessThan(150);
});

test("who knows the ids does not know the homes", () => {
  const homes = (seed: number): string =>
    Array.from({ length: 64 }, (_, i) => homeOf(Buffer.from(`c${i}`), { count: 4, seed })).join("");
  expect(homes(1)).not.toBe(homes(2));
});

test("one process is everybody's home", () => {
  expect(homeOf(Buffer.from("any"), { count: 1, seed: 3 })).toBe(0);
});
