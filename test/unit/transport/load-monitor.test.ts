import { expect, test } from "bun:test";
import { LoadMonitor } from "#transport/load-monitor.ts";

const marks = { lagMsMax: 100, memoryBytesMax: 1000 };

test("a late tick makes busy for a second", () => {
  const load = new LoadMonitor(marks, 50, () => 0);
  expect([0, 50, 200, 300].map((nowMs) => load.tick(nowMs))).toEqual([false, false, false, false]);
  expect(load.tick(451)).toBe(true); // 101 late
  expect(load.lagMs).toBe(101);
  for (let nowMs = 501; nowMs < 1451; nowMs += 50) expect(load.tick(nowMs)).toBe(true);
  expect(load.tick(1451)).toBe(false);
  expect(load.lagMs).toBe(0);
});

test("what a start takes is no lag", () => {
  const load = new LoadMonitor(marks, 50, () => 0);
  load.hold();
  expect([0, 50, 5000].map((nowMs) => load.tick(nowMs))).toEqual([false, false, false]);
  load.begin();
  expect([9000, 9050].map((nowMs) => load.tick(nowMs))).toEqual([false, false]);
  expect([load.takeLagMs(), load.tick(9201)]).toEqual([0, true]);
});

test("the greatest lag is kept until somebody takes it", () => {
  const load = new LoadMonitor(marks, 50, () => 0);
  for (const nowMs of [0, 50, 170, 230]) load.tick(nowMs);
  expect(load.lagMs).toBe(10);
  expect([load.takeLagMs(), load.takeLagMs()]).toEqual([70, 0]);
});

test("memory beyond its mark makes busy until it is below again; it is asked for once a second", () => {
  let asked = 0;
  let bytes = 1000;
  const load = new LoadMonitor(
    marks,
    50,
    () => (asked++, bytes),
    () => {},
  );
  expect(load.tick(0)).toBe(false);
  bytes = 1001;
  for (let nowMs = 50; nowMs < 1000; nowMs += 50) expect(load.tick(nowMs)).toBe(false);
  expect(load.tick(1000)).toBe(true);
  bytes = 999;
  expect(load.tick(1050)).toBe(true);
  for (let nowMs = 1100; nowMs < 2000; nowMs += 50) load.tick(nowMs);
  expect(load.tick(2000)).toBe(false);
  expect(asked).toBe(3);
});

test("why it is busy is said; beyond the mark of memory a collection is asked for at once, then every half minute", () => {
  let collected = 0;
  let bytes = 0;
  const load = new LoadMonitor(
    marks,
    50,
    () => bytes,
    () => collected++,
  );
  load.tick(0);
  load.tick(300);
  expect(load.cause).toBe("lag");
  bytes = 2000;
  load.tick(1000);
  expect([load.cause, collected]).toEqual(["memory", 1]);
  for (let nowMs = 1050; nowMs < 31_000; nowMs += 50) load.tick(nowMs);
  expect(collected).toBe(1);
  load.tick(31_000);
  expect(collected).toBe(2);
  bytes = 0;
  load.tick(32_000);
  for (let nowMs = 32_050; nowMs < 33_100; nowMs += 50) load.tick(nowMs);
  expect(load.cause).toBeUndefined();
});

test("without a mark for memory it is nine tenths of the machine's", () => {
  const of = (bytes: number) =>
    new LoadMonitor(
      { ...marks, memoryBytesMax: 0 },
      50,
      () => bytes,
      () => {},
    ).tick(0);
  expect(of(1)).toBe(false);
  expect(of(Number.MAX_SAFE_INTEGER)).toBe(true);
});
