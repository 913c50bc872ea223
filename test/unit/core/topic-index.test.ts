import { describe, expect, test } from "bun:test";
import { BlockPool } from "#base/block-pool.ts";
import { HAS_ID, TopicIndex } from "#core/topic-index.ts";

const make = (): TopicIndex => new TopicIndex(new BlockPool(), 3);
const add = (index: TopicIndex, session: number, filter: string, options = 0, id = 0): number =>
  index.add(session, Buffer.from(filter), options, id);

function match(index: TopicIndex, topic: string): number[] {
  const bytes = Buffer.from(`xx${topic}yy`);
  const end = bytes.length - 2;
  index.match(bytes, 2, end, index.hash(bytes, 2, end));
  return [...index.found.subarray(0, index.foundCount)].map((sub) => index.target[sub]!).toSorted((a, b) => a - b);
}

const cases: [filter: string, matching: string[], others: string[]][] = [
  ["a/b", ["a/b"], ["a", "a/b/", "a/b/c", "/a/b", "A/b", "a/bb"]],
  ["a/+", ["a/b", "a/"], ["a", "a/b/c", "b/b", "a/b/"]],
  ["+", ["a", "b"], ["/a", "a/b", "$SYS"]],
  ["+/+", ["a/b", "/b", "a/", "/"], ["a", "a/b/c", "$SYS/b"]],
  ["/+", ["/a", "/"], ["a", "/a/b"]],
  ["a/#", ["a", "a/b", "a/b/c", "a/", "a//"], ["aa", "b", "b/a"]],
  ["#", ["a", "/", "a/b/c", "/a"], ["$SYS", "$SYS/a", "$"]],
  ["+/b/#", ["a/b", "a/b/c", "/b"], ["a", "b", "a/c/b", "$SYS/b"]],
  ["a/+/c", ["a/b/c", "a//c"], ["a/c", "a/b/c/d", "a/b/b/c"]],
  ["$SYS/#", ["$SYS", "$SYS/a/b"], ["SYS", "$SY", "a"]],
  ["$SYS/+", ["$SYS/a"], ["$SYS", "$SYS/a/b"]],
  ["//", ["//"], ["/", "///", ""]],
  ["+/+/#", ["a/b", "a/b/c", "//"], ["a", "$a/b"]],
];

describe("match", () => {
  test.each(cases)("[MQTT-4.7.2-1] [MQTT-4.7.3-4] %s", (filter, matching, others) => {
    const index = make();
    add(index, 4, filter);
    expect(matching.filter((topic) => match(index, topic).length !== 1)).toEqual([]);
    expect(others.filter((topic) => match(index, topic).length !== 0)).toEqual([]);
  });

  test("all filters at once give each its own, and none when all are gone", () => {
    const pool = new BlockPool();
    const index = new TopicIndex(pool, 3);
    const subs = cases.map(([filter], session) => add(index, session, filter));
    expect(index.filterCount).toBe(cases.length);
    for (const [topic] of cases.flatMap(([, matching]) => matching.map((each) => [each]))) {
      const expected = cases.flatMap(([, matching, others], session) =>
        matching.includes(topic!) ? [session] : others.includes(topic!) ? [] : [-1],
      );
      const found = match(index, topic!);
      for (const [session, claim] of expected.entries()) {
        if (claim === session) expect(found).toContain(session);
      }
    }
    for (const sub of subs) index.remove(sub);
    for (const [, matching] of cases) for (const topic of matching) expect(match(index, topic)).toEqual([]);
    expect([index.subscriptionCount, index.filterCount, index.keyCount, pool.usedBytes]).toEqual([0, 0, 0, 0]);
  });

  test("a topic of a thousand levels", () => {
    const index = make();
    const deep = Array.from({ length: 1000 }, (_, i) => i).join("/");
    add(index, 1, deep);
    add(index, 2, `${deep}/#`);
    add(index, 3, Array.from({ length: 1000 }, () => "+").join("/"));
    expect(match(index, deep)).toEqual([1, 2, 3]);
  });

  test("many subscribers of one filter, some of whom leave", () => {
    const index = make();
    const subs = Array.from({ length: 500 }, (_, session) => add(index, session, "a/+"));
    subs.forEach((sub, session) => session % 3 === 0 && index.remove(sub));
    expect(match(index, "a/b")).toEqual(Array.from({ length: 500 }, (_, s) => s).filter((s) => s % 3 !== 0));
  });
});

describe("subscriptions", () => {
  test("are found by session and filter, changed in place, and give their filter back", () => {
    const index = make();
    for (const [session, [filter]] of cases.entries()) add(index, session, filter);
    for (const [session, [filter]] of cases.entries()) {
      const sub = index.find(session, Buffer.from(filter));
      expect(index.target[sub]).toBe(session);
      expect(index.filterOf(sub).toString()).toBe(filter);
      expect(index.find(session + 1, Buffer.from(filter))).toBe(-1);
    }
    const sub = index.find(0, Buffer.from("a/b"));
    index.change(sub, 2, 77);
    expect([index.options[sub], index.id[sub]]).toEqual([2 | HAS_ID, 77]);
    index.change(sub, 1, 0);
    expect([index.options[sub], index.id[sub]]).toEqual([1, 0]);
    expect(index.find(0, Buffer.from("never/+/seen"))).toBe(-1);
  });

  test("of one session are listed, the latest first, until the last is gone", () => {
    const index = make();
    const subs = ["a", "b/+", "#"].map((filter) => add(index, 900, filter));
    const list = (): number[] => {
      const all: number[] = [];
      for (let sub = index.firstOfSession(900); sub >= 0; sub = index.nextOf[sub]!) all.push(sub);
      return all;
    };
    expect(list()).toEqual(subs.toReversed());
    index.remove(subs[1]!);
    expect(list()).toEqual([subs[2]!, subs[0]!]);
    index.remove(subs[2]!);
    index.remove(subs[0]!);
    expect([list(), index.firstOfSession(901)]).toEqual([[], -1]);
  });

  test("members of a share group are listed with their session and matched by the group's own entry alone", () => {
    const index = make();
    const member = index.addMember(5, 3, 1, 0);
    const anchor = add(index, -4, "a");
    expect(match(index, "a")).toEqual([-4]);
    expect([index.groupOf(member), index.groupOf(anchor), index.findMember(5, 3), index.findMember(5, 2)]).toEqual([
      3,
      -1,
      member,
      -1,
    ]);
    expect(index.firstOfSession(5)).toBe(member);
    index.remove(member);
    expect([index.findMember(5, 3), match(index, "a")]).toEqual([-1, [-4]]);
  });
});
