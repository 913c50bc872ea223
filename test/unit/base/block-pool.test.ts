import { describe, expect, test } from "bun:test";
import { BlockPool, offsetOf, pageOf } from "#base/block-pool.ts";

const PAGE_BYTES = 256 * 1024;

function sizeOf(pool: BlockPool, size: number): number {
  const before = pool.usedBytes;
  pool.give(pool.take(size));
  const address = pool.take(size);
  const bytes = pool.usedBytes - before;
  pool.give(address);
  return bytes;
}

describe("blocks", () => {
  test("are large enough, and waste less than a fifth from 64 bytes to 64 KiB", () => {
    const pool = new BlockPool();
    const wrong: string[] = [];
    for (let size = 0; size <= 65_536; size += size < 2100 ? 1 : 61) {
      const bytes = sizeOf(pool, size);
      const isWasteful = size > 64 && (bytes - size) / bytes >= 0.2;
      if (bytes < size || bytes % 8 !== 0 || isWasteful) wrong.push(`${size}: ${bytes}`);
    }
    expect(sizeOf(pool, 65_536)).toBe(65_536);
    expect(wrong).toEqual([]);
    expect(pool.usedBytes).toBe(0);
  });

  test("do not overlap, stay inside their page, and both views show the same memory", () => {
    const pool = new BlockPool();
    const blocks = Array.from({ length: 5000 }, (_, i) => ({ size: 1 + ((i * 37) % 700), address: -1, mark: i & 255 }));
    for (const block of blocks) {
      block.address = pool.take(block.size);
      const start = offsetOf(block.address);
      pool.bytes[pageOf(block.address)]!.fill(block.mark, start, start + block.size);
    }
    for (const { address, size, mark } of blocks) {
      const page = pool.bytes[pageOf(address)]!;
      const start = offsetOf(address);
      expect(start + size).toBeLessThanOrEqual(page.length);
      expect(page.subarray(start, start + size).every((byte) => byte === mark)).toBe(true);
    }
    const block = pool.take(16);
    pool.words[pageOf(block)]![offsetOf(block) >>> 2] = 0x01020304;
    expect(pool.bytes[pageOf(block)]!.readInt32LE(offsetOf(block))).toBe(0x01020304);
  });

  test("are used again: the last given is the next taken", () => {
    const pool = new BlockPool();
    pool.take(100);
    const second = pool.take(100);
    const third = pool.take(100);
    pool.give(second);
    pool.give(third);
    expect(pool.take(100)).toBe(third);
    expect(pool.take(100)).toBe(second);
  });

  test("taking and giving without end needs one page", () => {
    const pool = new BlockPool();
    const held: number[] = [];
    for (let i = 0; i < 20_000; i++) {
      held.push(pool.take(64));
      if (held.length > 50) pool.give(held.splice((i * 7) % 50, 1)[0]!);
    }
    expect(pool.pageBytes).toBe(PAGE_BYTES);
  });
});

describe("pages", () => {
  test("come one by one as a class fills them, and go when their blocks are free, the last stays", () => {
    const pool = new BlockPool();
    const perPage = PAGE_BYTES / 1024;
    const held = Array.from({ length: perPage * 4 }, () => pool.take(1024));
    expect(pool.pageBytes).toBe(4 * PAGE_BYTES);
    expect(pool.usedBytes).toBe(4 * PAGE_BYTES);
    for (const address of held) pool.give(address);
    expect(pool.usedBytes).toBe(0);
    expect(pool.pageBytes).toBe(PAGE_BYTES);
  });

  test("in whatever order blocks are given, at most one free page of a class is kept", () => {
    const pool = new BlockPool();
    const perPage = PAGE_BYTES / 8192;
    const held = Array.from({ length: perPage * 6 }, () => pool.take(8192));
    for (let i = 0; i < held.length; i++) pool.give(held[(i * 29) % held.length]!);
    expect(pool.pageBytes).toBe(PAGE_BYTES);
    const again = Array.from({ length: perPage * 6 }, () => pool.take(8192));
    expect(new Set(again).size).toBe(perPage * 6);
    expect(pool.pageBytes).toBe(6 * PAGE_BYTES);
  });

  test("a block over 64 KiB has a page of its own size that goes with it, and its number is used again", () => {
    const pool = new BlockPool();
    const huge = pool.take(100_001);
    expect(offsetOf(huge)).toBe(0);
    expect(pool.bytes[pageOf(huge)]!.length).toBe(100_008);
    expect(pool.usedBytes).toBe(100_008);
    pool.give(huge);
    expect([pool.usedBytes, pool.pageBytes]).toEqual([0, 0]);
    expect(pageOf(pool.take(70_000))).toBe(pageOf(huge));
  });
});
