/** Marks of messages between processes, and the stamps that order retained values. */
import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { MessageView } from "#core/message.ts";
import {
  isAskedFor,
  markRetained,
  markShared,
  readRetained,
  readShared,
  RETAINED_MARKS,
  SHARED_MARKS,
  ValueStamps,
} from "#core/peer-mark.ts";
import { check } from "#test/support/fuzz.ts";

const NOW_MS = 1_800_000_000_000;
const ID_MAX = 268_435_455;

describe("stamps", () => {
  test("ascend whatever the clock does, and are no other process's", () => {
    const step = fc.tuple(fc.nat(2), fc.integer({ min: -5000, max: 5000 }));
    check(
      fc.property(fc.array(step, { maxLength: 200 }), (steps) => {
        let nowMs = NOW_MS;
        const all = [0, 1, 63].map((node) => new ValueStamps(node, () => nowMs));
        const seen = new Set<number>();
        const last = [0, 0, 0];
        for (const [which, ms] of steps) {
          nowMs += ms;
          const stamp = all[which]!.next();
          expect(stamp).toBeGreaterThan(last[which]!);
          expect(Number.isSafeInteger(stamp)).toBe(true);
          expect(seen.has(stamp)).toBe(false);
          last[which] = stamp;
          seen.add(stamp);
        }
      }),
      200,
    );
  });

  test("are greater than each that was seen, though that clock was ahead", () => {
    const ahead = new ValueStamps(2, () => NOW_MS + 60_000);
    const behind = new ValueStamps(1, () => NOW_MS);
    const stamp = ahead.next();
    behind.see(stamp);
    expect(behind.next()).toBeGreaterThan(stamp);
  });

  test("of a later moment are greater, whichever process's they are", () => {
    expect(new ValueStamps(0, () => NOW_MS + 1).next()).toBeGreaterThan(new ValueStamps(63, () => NOW_MS).next());
  });

  test("work with a clock that was never set, and are refused for too many processes", () => {
    const stamps = new ValueStamps(3, () => 0);
    expect(stamps.next()).toBeGreaterThan(0);
    expect(() => new ValueStamps(64, () => 0)).toThrow(RangeError);
  });
});

describe("marks", () => {
  test("bring stamp and QoS to the other process, as identifiers that a PUBLISH may have", () => {
    const fields = fc.tuple(fc.bigInt({ min: 1n, max: 2n ** 52n - 1n }), fc.nat(2), fc.boolean());
    check(
      fc.property(fields, ([stamp, qos, isValueOnly]) => {
        const view = new MessageView();
        view.valueStamp = Number(stamp);
        view.qos = qos;
        markRetained(view, isValueOnly);
        expect(view.idCount).toBe(RETAINED_MARKS);
        for (const id of view.ids.subarray(0, 2)) expect([id >= 0, id <= ID_MAX]).toEqual([true, true]);
        view.valueStamp = 0;
        view.qos = Math.max(qos, 1); // as it is sent
        expect(readRetained(view)).toBe(isValueOnly);
        expect([view.valueStamp, view.qos]).toEqual([Number(stamp), qos]);
      }),
      500,
    );
  });

  test.each([0, 1, -1, 0x7fff_ffff, -0x8000_0000])("of a share group's message say who published it: %d", (key) => {
    const view = new MessageView();
    view.publisherKey = key;
    markShared(view, [5, ID_MAX]);
    expect(view.idCount).toBe(SHARED_MARKS);
    for (const id of view.ids.subarray(0, 3)) expect([id > 0, id <= ID_MAX]).toEqual([true, true]);
    readShared(view);
    expect(view.publisherKey).toBe(key & ID_MAX || 1);
  });
});

describe("what a process that starts asks for", () => {
  test("is everything when it has nothing", () => {
    const { mark } = new ValueStamps(1, () => NOW_MS);
    const value = new ValueStamps(2, () => NOW_MS - 1e9).next();
    expect(isAskedFor(value, mark, 1)).toBe(true);
  });

  test("is else its own that are as new as the newest that it has, or newer", () => {
    let nowMs = NOW_MS;
    const own = new ValueStamps(1, () => nowMs);
    const kept = own.next();
    nowMs += 300;
    const lost = own.next();
    const restarted = new ValueStamps(1, () => nowMs);
    restarted.see(kept);
    const other = new ValueStamps(2, () => nowMs).next();
    const old = new ValueStamps(1, () => NOW_MS - 5000).next();
    const asked = [kept, lost, other, old].map((stamp) => isAskedFor(stamp, restarted.mark, 1));
    expect(asked).toEqual([true, true, false, false]);
    expect(restarted.mark).toBeLessThanOrEqual(ID_MAX);
  });
});
