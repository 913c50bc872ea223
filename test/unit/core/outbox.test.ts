import { expect, test } from "bun:test";
import { DELIVERY, GROUP, IDS, IdLists, MESSAGE, Outbox } from "#core/outbox.ts";

test("first in, first out, over the ring's end and while it grows", () => {
  const outbox = new Outbox();
  let next = 0;
  for (let round = 0; round < 50; round++) {
    for (let i = 0; i < 7; i++) outbox.push(next, next & 7, -next, next * 2, next++);
    const head = outbox.at(0, MESSAGE);
    expect([outbox.at(0, DELIVERY), outbox.at(0, IDS), outbox.at(0, GROUP)]).toEqual([head & 7, 0 - head, head * 2]);
    for (let i = 0; i < 5; i++) {
      expect(outbox.at(0, MESSAGE)).toBe(round * 5 + i);
      outbox.shift(round * 5 + i);
    }
  }
  expect(outbox.count).toBe(100);
  const waiting = Array.from({ length: 100 }, (_, i) => outbox.at(i, MESSAGE));
  expect(waiting).toEqual(Array.from({ length: 100 }, (_, i) => 250 + i));
  expect(outbox.bytes).toBe(waiting.reduce((sum, size) => sum + size, 0));
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
