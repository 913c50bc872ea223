import { expect, test } from "bun:test";
import { BlockPool } from "#base/block-pool.ts";
import { ByteTable } from "#base/byte-table.ts";
import { hashBytes } from "#base/bytes.ts";

const bytesOf = (key: string): Buffer => Buffer.from(key);
const hashOf = (key: string): number => hashBytes(bytesOf(key), 0, bytesOf(key).length, 5);

function add(table: ByteTable, key: string, hash = hashOf(key)): number {
  return table.add(bytesOf(key), 0, bytesOf(key).length, hash);
}

function find(table: ByteTable, key: string, hash = hashOf(key)): number {
  return table.find(bytesOf(key), 0, bytesOf(key).length, hash);
}

test("numbers are stable while the table grows, and keys come back", () => {
  const table = new ByteTable(new BlockPool());
  const numbers = Array.from({ length: 3000 }, (_, i) => add(table, `client-${i}`));
  expect(new Set(numbers).size).toBe(3000);
  expect(table.count).toBe(3000);
  expect(table.capacity).toBeGreaterThanOrEqual(3000);
  numbers.forEach((number, i) => {
    expect(find(table, `client-${i}`)).toBe(number);
    expect(table.textOf(number)).toBe(`client-${i}`);
  });
  expect(find(table, "client-3000")).toBe(-1);
  expect(table.hashOf(numbers[7]!)).toBe(hashOf("client-7"));
});

test("a key is a copy: neither the caller's buffer nor the answer of keyOf reaches it", () => {
  const table = new ByteTable(new BlockPool());
  const source = bytesOf("..key..");
  const number = table.add(source, 2, 5, 1);
  source.fill(0);
  table.keyOf(number).fill(0);
  expect(table.keyOf(number)).toEqual(bytesOf("key"));
  expect(table.find(bytesOf("key"), 0, 3, 1)).toBe(number);
});

test("the empty key, a key of 65,535 bytes, and keys that are not text", () => {
  const table = new ByteTable(new BlockPool());
  const long = Buffer.alloc(65_535, 0xff);
  const empty = table.add(long, 3, 3, 9);
  const number = table.add(long, 0, long.length, 9);
  expect(table.find(long, 0, 0, 9)).toBe(empty);
  expect(table.find(long, 0, long.length, 9)).toBe(number);
  expect(table.keyOf(number).equals(long)).toBe(true);
});

test("equal hashes: keys are told apart by length and bytes, and removal leaves no gap before a follower", () => {
  const table = new ByteTable(new BlockPool());
  const keys = ["a", "b", "ab", "ba", "c", "abc"];
  const numbers = new Map(keys.map((key) => [key, add(table, key, 63)]));
  for (const gone of ["b", "a", "ab"]) {
    table.remove(numbers.get(gone)!);
    numbers.delete(gone);
    for (const key of keys) expect(find(table, key, 63)).toBe(numbers.get(key) ?? -1);
  }
});

test("removal gives the key's block back and its number out again", () => {
  const pool = new BlockPool();
  const table = new ByteTable(pool);
  const first = add(table, "first");
  add(table, "second");
  const used = pool.usedBytes;
  table.remove(first);
  expect(pool.usedBytes).toBeLessThan(used);
  expect(table.count).toBe(1);
  expect(add(table, "third")).toBe(first);
  expect(find(table, "first")).toBe(-1);
});
