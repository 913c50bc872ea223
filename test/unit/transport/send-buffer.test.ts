import { expect, test } from "bun:test";
import { LARGE_BUFFER, SendBuffers } from "#transport/send-buffer.ts";

const LARGEST = 4 * LARGE_BUFFER;

test("each is large enough, and what is over the largest size has its own", () => {
  const buffers = new SendBuffers();
  const sizes = [1, 512, 513, 5000, 16_384, 16_385, LARGE_BUFFER, LARGEST, LARGEST + 1, 1_000_000];
  const lengths = sizes.map((size) => buffers.lend(size).length);
  expect(sizes.filter((size, i) => lengths[i]! < size)).toEqual([]);
  expect(lengths.slice(-4)).toEqual([LARGE_BUFFER, LARGEST, LARGEST + 1, 1_000_000]);
  expect(lengths[0]).toBeLessThan(LARGE_BUFFER);
  expect(buffers.lentBytes).toBe(lengths.reduce((sum, length) => sum + length, 0));
});

test.each([1, 5000, LARGE_BUFFER, LARGE_BUFFER + 1])(
  "a buffer for %d bytes that is given back is lent again",
  (size) => {
    const buffers = new SendBuffers();
    const [first, second] = [buffers.lend(size), buffers.lend(size)];
    buffers.giveBack(first);
    expect(buffers.lentBytes).toBe(second.length);
    expect(buffers.lend(size)).toBe(first);
    expect(buffers.lend(size)).not.toBe(second);
  },
);

test("a size of its own is not kept", () => {
  const buffers = new SendBuffers();
  const own = buffers.lend(LARGEST + 8);
  buffers.giveBack(own);
  expect(buffers.lentBytes).toBe(0);
  expect(buffers.lend(LARGEST + 8)).not.toBe(own);
});

test("after a storm only so many are kept", () => {
  const buffers = new SendBuffers();
  const lent = Array.from({ length: 1000 }, () => buffers.lend(LARGE_BUFFER));
  for (const buffer of lent) buffers.giveBack(buffer);
  const again = new Set(Array.from({ length: 1000 }, () => buffers.lend(LARGE_BUFFER)));
  const kept = lent.filter((buffer) => again.has(buffer)).length;
  expect(again.size).toBe(1000);
  expect(kept).toBeGreaterThan(0);
  expect(kept).toBeLessThan(1000);
});
