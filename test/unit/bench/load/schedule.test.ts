import { describe, expect, test } from "bun:test";
import { Schedule } from "#bench/load/schedule.ts";

/** All that is due up to `nowNs`, as places in `own`. */
function take(schedule: Schedule, nowNs: number): number[] {
  const places: number[] = [];
  schedule.takeDue(nowNs, (place) => places.push(place));
  return places;
}

describe("the timetable", () => {
  test("message k is due at start + k intervals, publishers in turn", () => {
    const schedule = new Schedule(1000, 10, 3, [0, 1, 2]);
    expect(take(schedule, 999)).toEqual([]);
    expect(take(schedule, 1000)).toEqual([0]);
    expect(take(schedule, 1029)).toEqual([1, 2]);
    expect(schedule.nextDueNs).toBe(1030);
    expect(take(schedule, 1050)).toEqual([0, 1, 2]);
    expect(schedule.dueNs(2, 1)).toBe(1050);
  });

  test("a clock that stood still for a second skips nothing, and due times do not move", () => {
    const schedule = new Schedule(0, 1e5, 2, [0, 1]);
    expect(take(schedule, 1e5)).toHaveLength(2);
    const late = take(schedule, 1e9);
    expect(late).toHaveLength(9999);
    expect(schedule.nextDueNs).toBe(10_001 * 1e5);
    expect(schedule.dueCount(0, 1e9) + schedule.dueCount(1, 1e9)).toBe(10_001);
    // The first of those that waited is timed from when it was due: that is the correction.
    expect(1e9 - schedule.dueNs(0, 1)).toBe(1e9 - 2e5);
  });

  test("the processes of a run share one timetable", () => {
    const all = new Schedule(5, 7, 5, [0, 1, 2, 3, 4]);
    const shares = [
      { own: [0, 2, 4], schedule: new Schedule(5, 7, 5, [0, 2, 4]) },
      { own: [1, 3], schedule: new Schedule(5, 7, 5, [1, 3]) },
    ];
    for (const nowNs of [5, 40, 41, 300, 1000]) {
      const counts = [0, 0, 0, 0, 0];
      for (const { own, schedule } of shares) for (const place of take(schedule, nowNs)) counts[own[place]!]!++;
      const wanted = [0, 0, 0, 0, 0];
      for (const place of take(all, nowNs)) wanted[place]!++;
      expect(counts).toEqual(wanted);
    }
  });

  test("dueCount agrees with due times at and around each of them, for an interval with a fraction", () => {
    const schedule = new Schedule(123.25, 1e9 / 30_000, 7, [3]);
    for (let round = 0; round < 2000; round++) {
      const dueNs = schedule.dueNs(3, round);
      expect([schedule.dueCount(3, dueNs - 0.01), schedule.dueCount(3, dueNs)]).toEqual([round, round + 1]);
    }
    expect(schedule.dueCount(3, 0)).toBe(0);
  });

  test("a process without publishers is never due", () => {
    const schedule = new Schedule(0, 1, 3, []);
    expect([schedule.nextDueNs, take(schedule, 1e9)]).toEqual([Number.POSITIVE_INFINITY, []]);
  });
});
