import { expect, test } from "bun:test";
import { DELIVERY, DELIVERY_LANE_SHIFT, GROUP, IDS, IdLists, MESSAGE, Outbox, Ring, SEQ } from "#core/outbox.ts";
import { Dice } from "#test/simulation/weather.ts";

test("first in, first out, over the ring's end and while it grows", () => {
  const outbox = new Outbox();
  let next = 0;
  for (let round = 0; round < 50; round++) {
    for (let i = 0; i < 7; i++) outbox.push(next, next & 7, -next, next * 2, next++);
    const { head: ring } = outbox.first()!;
    const head = ring.at(0, MESSAGE);
    expect([ring.at(0, DELIVERY), ring.at(0, IDS), ring.at(0, GROUP)]).toEqual([head & 7, 0 - head, head * 2]);
    for (let i = 0; i < 5; i++) {
      expect(ring.at(0, MESSAGE)).toBe(round * 5 + i);
      outbox.shift(outbox.first()!, round * 5 + i);
    }
  }
  expect(outbox.count).toBe(100);
  const waiting = Array.from({ length: 100 }, (_, i) => outbox.first()!.head.at(i, MESSAGE));
  expect(waiting).toEqual(Array.from({ length: 100 }, (_, i) => 250 + i));
  expect(outbox.bytes).toBe(waiting.reduce((sum, size) => sum + size, 0));
});

/** Sends all that is in memory; the messages in order. */
function drain(outbox: Outbox): number[] {
  const sent: number[] = [];
  for (let lane = outbox.first(); lane !== null; lane = outbox.first()) {
    sent.push(lane.head.at(0, MESSAGE));
    outbox.shift(lane, 1);
  }
  return sent;
}

test("higher priorities first, each in its own order", () => {
  const outbox = new Outbox();
  for (const [message, lane] of [
    [1, 0],
    [2, 3],
    [3, 7],
    [4, 0],
    [5, 3],
  ] as const) {
    outbox.push(message, 1 | (lane << DELIVERY_LANE_SHIFT), 0, -1, 1);
  }
  expect(outbox.lanes.map(({ number }) => number)).toEqual([7, 3, 0]);
  expect(drain(outbox)).toEqual([3, 2, 5, 1, 4]);
  expect([outbox.count, outbox.bytes]).toEqual([0, 0]);
});

test("with a page on disk what comes later waits behind it, and lower priorities too", () => {
  const outbox = new Outbox();
  const high = outbox.lane(2);
  for (let i = 0; i < 4; i++) outbox.push(i, 1 | (2 << DELIVERY_LANE_SHIFT), 0, -1, 1);
  outbox.push(99, 1, 0, -1, 1);
  // Messages 2 and 3 are written to a page.
  high.pages = [{ page: 1, count: 2, bytes: 2 }];
  high.head.moveTo(new Ring(), 2);
  outbox.push(4, 1 | (2 << DELIVERY_LANE_SHIFT), 0, -1, 1);
  expect(outbox.hasPages).toBe(true);
  expect(drain(outbox)).toEqual([0, 1]);
  expect([high.head.count, high.tail.count, outbox.first()]).toEqual([0, 1, null]);
  // They are read again.
  for (const message of [2, 3]) high.head.push(message, 1, 0, -1, 0);
  high.pages = [];
  high.join();
  expect(outbox.hasPages).toBe(false);
  outbox.push(5, 1 | (2 << DELIVERY_LANE_SHIFT), 0, -1, 1);
  expect(drain(outbox)).toEqual([2, 3, 4, 5, 99]);
  expect(outbox.count).toBe(0);
});

test("lists of identifiers: none and one need no list, numbers come back", () => {
  const lists = new IdLists();
  expect(lists.keep(Int32Array.of(5, 6), 0)).toBe(0);
  expect(lists.keep(Int32Array.of(5, 6), 1)).toBe(5);
  expect(lists.count).toBe(0);
  const source = Int32Array.of(5, 6, 7);
  const first = lists.keep(source, 2);
  const second = lists.keep(source, 3);
  source.fill(0);
  expect([...lists.get(first)]).toEqual([5, 6]);
  expect([...lists.get(second)]).toEqual([5, 6, 7]);
  expect(Math.max(first, second)).toBeLessThan(0);
  lists.release(first);
  lists.release(0);
  lists.release(9);
  expect(lists.count).toBe(1);
  expect(lists.keep(Int32Array.of(1, 2), 2)).toBe(first);
  expect([...lists.get(second)]).toEqual([5, 6, 7]);
});

test("a ring is a list, also with thousands of messages, moved and cut anywhere", () => {
  const dice = new Dice(7);
  const rings = [new Ring(), new Ring()];
  const lists: number[][] = [[], []];
  let next = 0;
  for (let round = 0; round < 400; round++) {
    const which = dice.below(2);
    const [ring, list] = [rings[which], lists[which]];
    const count = dice.pick([1, 7, 900, 3000]);
    const deed = dice.below(5);
    if (deed < 2) {
      for (let i = 0; i < count; i++, next++) {
        ring.push(next, 1, 0, next % 3 === 0 ? 5 : -1, next);
        list.push(next);
      }
    } else if (deed < 4) {
      for (let i = 0; i < count && list.length > 0; i++) {
        expect(ring.at(0, MESSAGE)).toBe(list.shift()!);
        ring.shift();
      }
    } else {
      const start = dice.below(list.length + 1);
      ring.moveTo(rings[1 - which], start);
      lists[1 - which].push(...list.splice(start));
    }
    for (let k = 0; k < 2; k++) {
      expect(rings[k].count).toBe(lists[k].length);
      expect(rings[k].groupedCount).toBe(lists[k].filter((n) => n % 3 === 0).length);
      for (let i = 0; i < 20 && i < lists[k].length; i++) {
        const at = dice.below(lists[k].length);
        expect([rings[k].at(at, MESSAGE), rings[k].at(at, SEQ)]).toEqual([lists[k][at], lists[k][at]]);
      }
    }
  }
  expect(next).toBeGreaterThan(50_000);
});
