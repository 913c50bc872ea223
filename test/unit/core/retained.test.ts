import { describe, expect, test } from "bun:test";
import { BlockPool } from "#base/block-pool.ts";
import { MessagePool, MessageView } from "#core/message.ts";
import type { RetainedCursor } from "#core/ports.ts";
import { RetainedIndex } from "#core/retained.ts";
import { viewOf } from "#test/support/test-broker.ts";

class Fixture {
  readonly pool = new BlockPool();
  readonly messages = new MessagePool(this.pool, 1e9);
  readonly index = new RetainedIndex(this.pool, this.messages, 5);

  set(topic: string, payload = topic): number {
    const view = viewOf(topic, payload);
    view.publisherKey = payload.length;
    return this.index.set(view, this.messages.keep(view));
  }

  find(topic: string): number {
    return this.index.find(Buffer.from(`.${topic}.`), 1, Buffer.byteLength(topic) + 1);
  }

  remove(topic: string): void {
    this.index.remove(this.find(topic));
  }

  lookUp(filter: string): RetainedCursor {
    let cursor: RetainedCursor | undefined;
    this.index.lookUp(Buffer.from(filter), (answer) => (cursor = answer));
    return cursor!;
  }

  all(filter: string): string[] {
    return take(this.lookUp(filter)).toSorted();
  }
}

/** Payloads that a cursor still gives, at most `count`. */
function take(cursor: RetainedCursor, count = Infinity): string[] {
  const view = new MessageView();
  const payloads: string[] = [];
  while (payloads.length < count && cursor.next(view)) payloads.push(view.payload().toString());
  return payloads;
}

describe("look-up", () => {
  const topics = ["a", "a/b", "a/b/c", "a/", "/", "/a", "b/b", "$SYS", "$SYS/x", "$SYS/x/y"];

  test.each([
    ["a", ["a"]],
    ["a/b", ["a/b"]],
    ["a/+", ["a/", "a/b"]],
    ["+", ["a"]],
    ["+/b", ["a/b", "b/b"]],
    ["+/+", ["/", "/a", "a/", "a/b", "b/b"]],
    ["/+", ["/", "/a"]],
    ["a/#", ["a", "a/", "a/b", "a/b/c"]],
    ["+/#", ["/", "/a", "a", "a/", "a/b", "a/b/c", "b/b"]],
    ["#", ["/", "/a", "a", "a/", "a/b", "a/b/c", "b/b"]],
    ["$SYS", ["$SYS"]],
    ["$SYS/#", ["$SYS", "$SYS/x", "$SYS/x/y"]],
    ["$SYS/+", ["$SYS/x"]],
    ["+/x", []],
    ["a/b/c/d", []],
    ["nothing/#", []],
  ])("[MQTT-4.7.2-1] %s", (filter, expected) => {
    const at = new Fixture();
    for (const topic of topics) at.set(topic);
    expect(at.all(filter)).toEqual(expected);
  });
});

describe("values", () => {
  test("are replaced, counted once a topic, and leave no memory behind", () => {
    const at = new Fixture();
    const node = at.set("a/b", "old");
    expect(at.set("a/b", "new")).toBe(node);
    at.set("a/b/c", "below");
    expect([at.index.count, at.all("#"), at.messages.count]).toEqual([2, ["below", "new"], 2]);
    expect([at.find("a"), at.find("a/b"), at.find("a/b/c/d")]).toEqual([-1, node, -1]);
    at.remove("a/b");
    expect([at.find("a/b"), at.all("#")]).toEqual([-1, ["below"]]);
    at.remove("a/b/c");
    expect([at.index.count, at.messages.count, at.pool.usedBytes]).toEqual([0, 0, 0]);
  });

  test("bring their publisher's key and have no timer of a topic that stood there before", () => {
    const at = new Fixture();
    at.index.timer[at.set("a", "12345")] = 7;
    const view = new MessageView();
    expect(at.lookUp("a").next(view)).toBe(true);
    expect(view.publisherKey).toBe(5);
    at.remove("a");
    expect(at.index.timer[at.set("b")]).toBe(-1);
  });

  test("thousands of topics, walked and removed", () => {
    const at = new Fixture();
    for (let i = 0; i < 3000; i++) at.set(`site/${i % 50}/${i}`, `${i}`);
    expect(at.all("#")).toHaveLength(3000);
    expect(at.all("site/7/+")).toHaveLength(60);
    for (let i = 0; i < 3000; i++) at.remove(`site/${i % 50}/${i}`);
    expect([at.all("#"), at.pool.usedBytes]).toEqual([[], 0]);
  });
});

describe("a cursor under way", () => {
  test("skips what is set or replaced after it was made: the subscriber has that already", () => {
    const at = new Fixture();
    for (const topic of ["a/1", "a/2", "a/3"]) at.set(topic);
    const cursor = at.lookUp("a/+");
    const seen = take(cursor, 1);
    for (const topic of ["a/1", "a/2", "a/3"]) if (topic !== seen[0]) at.set(topic, "replaced");
    at.set("a/4");
    expect(take(cursor)).toEqual([]);
    expect(at.all("a/#")).toHaveLength(4);
  });

  test("skips what is removed, also where it stands, also when it comes back, and goes on behind it", () => {
    const at = new Fixture();
    const topics = Array.from({ length: 20 }, (_, i) => `a/${i}`);
    for (const topic of topics) at.set(topic);
    const cursor = at.lookUp("#");
    const seen = take(cursor, 5);
    const rest = topics.filter((topic) => !seen.includes(topic));
    for (const topic of seen) at.remove(topic);
    for (const topic of rest.slice(0, 8)) at.remove(topic);
    at.set(rest[0]!, "back");
    expect(take(cursor).toSorted()).toEqual(rest.slice(8).toSorted());
  });

  test("outlives the whole tree, and lets go of what it held", () => {
    const at = new Fixture();
    for (const topic of ["a/b/c", "a/b/d", "e"]) at.set(topic);
    const cursor = at.lookUp("#");
    take(cursor, 1);
    for (const topic of ["a/b/c", "a/b/d", "e"]) at.remove(topic);
    expect(take(cursor)).toEqual([]);
    expect(at.pool.usedBytes).toBe(0);
  });

  test("that is given up lets go of what it held", () => {
    const at = new Fixture();
    for (const topic of ["a/b/c", "a/b/d", "e"]) at.set(topic);
    const cursor = at.lookUp("#");
    take(cursor, 1);
    cursor.close();
    expect(take(cursor)).toEqual([]);
    for (const topic of ["a/b/c", "a/b/d", "e"]) at.remove(topic);
    expect(at.pool.usedBytes).toBe(0);
  });
});
