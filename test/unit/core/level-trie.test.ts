import { expect, test } from "bun:test";
import { BlockPool } from "#base/block-pool.ts";
import { LevelTrie, ROOT } from "#core/level-trie.ts";

const add = (trie: LevelTrie, parent: number, level: string, hash = 7): number =>
  trie.add(parent, Buffer.from(level), 0, Buffer.byteLength(level), hash);
const find = (trie: LevelTrie, parent: number, level: string, hash = 7): number =>
  trie.find(parent, Buffer.from(level), 0, Buffer.byteLength(level), hash);

test("children are told apart by parent and bytes even when every hash is the same", () => {
  const trie = new LevelTrie(new BlockPool());
  const a = add(trie, ROOT, "a");
  const b = add(trie, ROOT, "b");
  const nested = add(trie, a, "b");
  const empty = add(trie, a, "");
  expect(new Set([ROOT, a, b, nested, empty]).size).toBe(5);
  expect(add(trie, a, "b")).toBe(nested);
  expect([find(trie, ROOT, "b"), find(trie, a, "b"), find(trie, b, "b"), find(trie, a, "")]).toEqual([
    b,
    nested,
    -1,
    empty,
  ]);
  expect([trie.levelText(nested), trie.firstByte(nested), trie.firstByte(empty)]).toEqual(["b", 0x62, 0]);
});

test("a node without uses goes, then its ancestors without others, and their blocks with them", () => {
  const pool = new BlockPool();
  const trie = new LevelTrie(pool);
  const a = add(trie, ROOT, "a");
  const b = add(trie, a, "b");
  const c = add(trie, b, "c");
  trie.use(c);
  trie.use(a);
  const gone: number[] = [];
  trie.unuse(c, (node) => gone.push(node));
  expect(gone).toEqual([c, b]);
  expect([find(trie, a, "b"), find(trie, ROOT, "a")]).toEqual([-1, a]);
  trie.unuse(a, (node) => gone.push(node));
  expect(gone).toEqual([c, b, a]);
  expect([trie.count, pool.usedBytes]).toEqual([1, 0]);
});

test("nodes without level bytes are no child by name", () => {
  const trie = new LevelTrie(new BlockPool());
  const plus = trie.addUnkeyed(ROOT);
  trie.use(plus);
  expect([trie.levelText(plus), trie.firstByte(plus), trie.parent[plus], find(trie, ROOT, "")]).toEqual([
    "",
    0,
    ROOT,
    -1,
  ]);
  trie.unuse(plus, () => {});
  expect(trie.count).toBe(1);
});

test("thousands of siblings, half of them removed", () => {
  const trie = new LevelTrie(new BlockPool());
  const nodes = Array.from({ length: 4000 }, (_, i) => add(trie, ROOT, `n${i}`, i % 50));
  for (const node of nodes) trie.use(node);
  nodes.forEach((node, i) => i % 2 === 0 && trie.unuse(node, () => {}));
  const wrong = nodes.filter((node, i) => find(trie, ROOT, `n${i}`, i % 50) !== (i % 2 === 0 ? -1 : node));
  expect(wrong).toEqual([]);
  expect(trie.count).toBe(2001);
});
