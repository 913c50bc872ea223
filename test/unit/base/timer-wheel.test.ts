import { describe, expect, test } from "bun:test";
import { TimerWheel } from "#base/timer-wheel.ts";

const TICK_MS = 64;

class Clock {
  nowMs: number;
  readonly fired: { owner: number; atMs: number; kind: number }[] = [];
  readonly wheel: TimerWheel;
  onFire: (owner: number) => void = () => {};

  constructor(startMs = 0) {
    this.nowMs = startMs;
    this.wheel = new TimerWheel(startMs, (kind, owner) => {
      this.fired.push({ owner, atMs: this.nowMs, kind });
      this.onFire(owner);
    });
  }

  /** Ticks every `stepMs` until `untilMs`. */
  run(untilMs: number, stepMs = TICK_MS): void {
    while (this.nowMs < untilMs) {
      this.nowMs = Math.min(untilMs, this.nowMs + stepMs);
      this.wheel.tick(this.nowMs);
    }
  }

  owners(): number[] {
    return this.fired.map(({ owner }) => owner);
  }
}

/** Near, at each level's borders, and far. */
const delays = [
  0, 1, 63, 64, 65, 100, 4031, 4032, 4095, 4096, 4097, 4160, 8191, 60_000, 262_079, 262_143, 262_144, 262_145, 262_208,
  300_000, 524_288, 3_600_000, 16_777_215, 16_777_216, 16_777_280,
];

describe("a deadline", () => {
  test.each([0, 1, 63, 4_000_000, 1_700_000_000_123])(
    "from %d ms on: never early, at most two ticks late",
    (startMs) => {
      const clock = new Clock(startMs);
      delays.forEach((delay, i) => clock.wheel.arm(startMs + delay, i % 7, i));
      clock.run(startMs + 17_000_000);
      expect(clock.fired.length).toBe(delays.length);
      expect(clock.wheel.count).toBe(0);
      for (const { owner, atMs, kind } of clock.fired) {
        const late = atMs - (startMs + delays[owner]!);
        expect(late).toBeGreaterThanOrEqual(0);
        expect(late).toBeLessThanOrEqual(2 * TICK_MS);
        expect(kind).toBe(owner % 7);
      }
    },
  );

  test("that has passed fires at the next tick, not within arm", () => {
    const clock = new Clock(10_000);
    clock.wheel.arm(0, 0, 1);
    expect(clock.owners()).toEqual([]);
    clock.run(10_000 + TICK_MS);
    expect(clock.owners()).toEqual([1]);
  });

  test("years away waits, through jumps of the clock, and fires when it is reached", () => {
    const clock = new Clock(0);
    const dayMs = 86_400_000;
    clock.wheel.arm(3000 * dayMs, 0, 1);
    for (let day = 1; day < 3000; day++) {
      clock.nowMs = day * dayMs;
      clock.wheel.tick(clock.nowMs);
    }
    expect(clock.owners()).toEqual([]);
    clock.nowMs = 3000 * dayMs;
    clock.wheel.tick(clock.nowMs);
    expect(clock.owners()).toEqual([1]);
  });
});

describe("cancel", () => {
  test("of any timer in a slot leaves the others, and frees the number", () => {
    for (const gone of [0, 1, 2]) {
      const clock = new Clock();
      const timers = [0, 1, 2].map((owner) => clock.wheel.arm(500, 0, owner));
      clock.wheel.cancel(timers[gone]!);
      expect(clock.wheel.count).toBe(2);
      expect(clock.wheel.arm(500, 0, 3)).toBe(timers[gone]!);
      clock.run(1000);
      expect(clock.owners().toSorted()).toEqual([0, 1, 2, 3].filter((owner) => owner !== gone));
    }
  });

  test("from within another timer of the same slot", () => {
    const clock = new Clock();
    const timers = [0, 1].map((owner) => clock.wheel.arm(500, 0, owner));
    clock.onFire = (owner) => clock.wheel.cancel(timers[1 - owner]!);
    clock.run(1000);
    expect(clock.fired.length).toBe(1);
    expect(clock.wheel.count).toBe(0);
  });
});

test("a timer armed while firing comes later, so that one that arms itself does not stop the clock", () => {
  const clock = new Clock();
  clock.onFire = () => void (clock.fired.length < 5 && clock.wheel.arm(clock.nowMs, 0, 1));
  clock.wheel.arm(100, 0, 1);
  clock.run(1000);
  expect(clock.fired.map(({ atMs }) => atMs)).toEqual([128, 192, 256, 320, 384]);
});

describe("a clock that jumps", () => {
  test("ahead: everything due fires once, the rest keeps its deadline", () => {
    const clock = new Clock(1000);
    delays.forEach((delay, i) => clock.wheel.arm(1000 + delay, 0, i));
    clock.nowMs = 1000 + 1_000_000;
    clock.wheel.tick(clock.nowMs);
    const due = delays.flatMap((delay, i) => (delay <= 1_000_000 - TICK_MS ? [i] : []));
    expect(clock.owners().toSorted((a, b) => a - b)).toEqual(due);
    clock.run(1000 + 17_000_000);
    expect(clock.owners().length).toBe(delays.length);
    for (const { owner, atMs } of clock.fired.slice(due.length)) {
      expect(atMs - (1000 + delays[owner]!)).toBeWithin(0, 2 * TICK_MS + 1);
    }
  });

  test("ahead: what is due fires in the order of its deadlines", () => {
    const clock = new Clock();
    for (const owner of [3, 1, 4, 2, 5]) clock.wheel.arm(owner * 10_000, 0, owner);
    clock.nowMs = 1_000_000;
    clock.wheel.tick(clock.nowMs);
    expect(clock.owners()).toEqual([1, 2, 3, 4, 5]);
  });

  test("back: nothing fires early or twice", () => {
    const clock = new Clock(1_000_000);
    clock.wheel.arm(1_000_500, 0, 1);
    clock.wheel.tick(900_000);
    expect(clock.owners()).toEqual([]);
    clock.nowMs = 1_000_000;
    clock.run(1_001_000);
    expect(clock.owners()).toEqual([1]);
  });
});

test("a hundred thousand timers", () => {
  const clock = new Clock();
  for (let owner = 0; owner < 100_000; owner++) clock.wheel.arm((owner * 7919) % 200_000, 0, owner);
  clock.run(200_100);
  expect(clock.wheel.count).toBe(0);
  expect(new Set(clock.owners()).size).toBe(100_000);
});
