import { describe, expect, test } from "bun:test";
import { BlockPool, offsetOf, pageOf } from "#base/block-pool.ts";
import { MatchCache, MERGED } from "#core/match-cache.ts";
import { HAS_ID, NO_LOCAL, RETAIN_AS_PUBLISHED, TopicIndex } from "#core/topic-index.ts";

class Fixture {
  readonly pool = new BlockPool();
  readonly index = new TopicIndex(this.pool, 11);
  readonly cache: MatchCache;

  constructor(countMax = 1024) {
    this.cache = new MatchCache(this.pool, this.index, countMax);
  }

  add(session: number, filter: string, options = 0, id = 0): number {
    return this.index.add(session, Buffer.from(filter), options, id);
  }

  isKnown(topic: string): boolean {
    return this.slotOf(topic) >= 0;
  }

  fill(topic: string): number {
    const bytes = Buffer.from(topic);
    return this.cache.fill(bytes, 0, bytes.length, this.index.hash(bytes, 0, bytes.length));
  }

  slotOf(topic: string): number {
    const bytes = Buffer.from(topic);
    return this.cache.find(bytes, 0, bytes.length, this.index.hash(bytes, 0, bytes.length));
  }

  /** [target, options, subscriptions] of each target. */
  targets(slot: number): [number, number, number[]][] {
    const block = this.cache.listBlock[slot]!;
    const words = this.pool.words[pageOf(block)]!;
    const start = offsetOf(block) >>> 2;
    return Array.from({ length: this.cache.targetCount[slot]! }, (_, i) => {
      const [target, options, sub] = words.subarray(start + i * 3, start + i * 3 + 3);
      if ((options! & MERGED) === 0) return [target!, options!, [sub!]];
      const list = start - sub!;
      return [target!, options!, [...words.subarray(list + 1, list + 1 + words[list]!)]];
    });
  }
}

describe("a remembered topic", () => {
  test("is found by its bytes until a filter that could match it changes", () => {
    const at = new Fixture();
    at.add(1, "a/b");
    at.fill("a/b");
    at.fill("a/c");
    at.fill("x/y");
    const known = (): boolean[] => ["a/b", "a/c", "x/y"].map((topic) => at.isKnown(topic));
    const refill = (): void => void ["a/b", "a/c", "x/y"].map((topic) => at.fill(topic));
    expect([known(), at.isKnown("a/bb")]).toEqual([[true, true, true], false]);
    at.add(2, "a/b");
    expect(known()).toEqual([false, true, true]);
    refill();
    const wild = at.add(3, "a/+");
    expect(known()).toEqual([false, false, true]);
    refill();
    at.index.remove(wild);
    expect(known()).toEqual([false, false, true]);
    refill();
    at.add(4, "+/b");
    expect(known()).toEqual([false, false, false]);
    refill();
    at.index.change(at.index.find(2, Buffer.from("a/b")), 2, 0);
    expect(known()).toEqual([false, true, true]);
    at.add(5, "unrelated");
    at.add(5, "other/#");
    expect(known()).toEqual([false, true, true]);
  });

  test("with no subscriber is remembered too", () => {
    const at = new Fixture();
    expect(at.cache.targetCount[at.fill("nobody")]).toBe(0);
    expect(at.isKnown("nobody")).toBe(true);
  });

  test("lives in a table that doubles with use up to its limit, and stays true at any size", () => {
    const at = new Fixture(4096);
    at.add(1, "t/#");
    for (let i = 0; i < 20_000; i++) {
      const first = at.fill(`t/${i}`);
      expect(at.targets(first)).toHaveLength(1);
      if (at.isKnown(`t/${i}`)) continue;
      const second = at.fill(`t/${i}`); // it had to come twice to push out another
      expect(at.slotOf(`t/${i}`)).toBe(second);
    }
    expect(at.cache.slotCount).toBe(4096);
    const left = Array.from({ length: 20_000 }, (_, i) => at.slotOf(`t/${i}`)).filter((slot) => slot >= 0);
    expect(left.length).toBeLessThanOrEqual(4096);
    expect(left.length).toBeGreaterThan(2000);
    expect(new Set(left).size).toBe(left.length);
    for (const slot of left) expect(at.targets(slot)).toHaveLength(1);
  });

  test("gives its blocks back when others take its place", () => {
    const at = new Fixture(256);
    at.add(1, "t/#");
    for (let i = 0; i < 3000; i++) at.fill(`t/${i}`);
    const used = at.pool.usedBytes;
    for (let i = 3000; i < 9000; i++) at.fill(`t/${i}`);
    expect(at.pool.usedBytes).toBeLessThan(used * 1.1);
  });
});

describe("a target list", () => {
  test("has one entry a session: the highest QoS, and what is merged stands behind", () => {
    const at = new Fixture();
    const subs = [
      at.add(1, "a/b", 1),
      at.add(2, "a/+", 0, 9),
      at.add(1, "a/#", 2 | RETAIN_AS_PUBLISHED, 5),
      at.add(1, "#", NO_LOCAL),
      at.add(-1, "a/b"),
    ];
    const targets = at.targets(at.fill("a/b")).toSorted(([a], [b]) => a - b);
    expect(targets.map(([target]) => target)).toEqual([-1, 1, 2]);
    expect(targets[0]).toEqual([-1, 0, [subs[4]!]]);
    expect(targets[1]![1] & 3).toBe(2);
    expect(targets[1]![1] & MERGED).toBe(MERGED);
    expect(targets[1]![2].toSorted()).toEqual([subs[0]!, subs[2]!, subs[3]!].toSorted());
    expect(targets[2]).toEqual([2, HAS_ID, [subs[1]!]]);
  });

  test("keeps a thousand sessions with three overlapping filters apart", () => {
    const at = new Fixture();
    for (let session = 0; session < 1000; session++) {
      for (const filter of ["a/b", "a/+", "#"]) at.add(session, filter, session % 3);
    }
    const targets = at.targets(at.fill("a/b"));
    expect(targets).toHaveLength(1000);
    for (const [session, options, subs] of targets) {
      expect(options & 3).toBe(session % 3);
      expect(subs.map((sub) => at.index.target[sub])).toEqual([session, session, session]);
    }
  });
});
