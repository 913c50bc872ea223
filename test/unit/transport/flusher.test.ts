import { describe, expect, test } from "bun:test";
import { Flusher } from "#transport/flusher.ts";

const nextTick = (): Promise<void> => new Promise((resolve) => void setImmediate(resolve));

class Fixture {
  readonly flusher = new Flusher(() => {});
  readonly flushed: string[] = [];

  link(name: string, onFlush = (): void => {}): { flush: () => void } {
    return {
      flush: () => {
        this.flushed.push(name);
        onFlush();
      },
    };
  }
}

describe("the first small event after a quiet tick", () => {
  test("is answered at once", async () => {
    const at = new Fixture();
    at.flusher.add(at.link("a"));
    expect(at.flushed).toEqual([]);
    at.flusher.afterData(100);
    expect(at.flushed).toEqual(["a"]);
    await nextTick();
    expect(at.flushed).toEqual(["a"]);
  });

  test("waits for the end of the tick when it is large, or reaches many links", async () => {
    const large = new Fixture();
    large.flusher.add(large.link("a"));
    large.flusher.afterData(100_000);
    const many = new Fixture();
    for (let i = 0; i < 50; i++) many.flusher.add(many.link(`${i}`));
    many.flusher.afterData(100);
    expect([large.flushed, many.flushed]).toEqual([[], []]);
    await nextTick();
    expect([large.flushed.length, many.flushed.length]).toEqual([1, 50]);
  });
});

test("the second event of a tick waits, and so does the first after a busy tick", async () => {
  const at = new Fixture();
  const [a, b] = [at.link("a"), at.link("b")];
  at.flusher.afterData(10);
  at.flusher.add(a);
  at.flusher.add(b);
  at.flusher.afterData(10);
  expect(at.flushed).toEqual([]);
  await nextTick();
  expect(at.flushed).toEqual(["a", "b"]);
  at.flusher.add(a);
  at.flusher.afterData(10);
  expect(at.flushed).toEqual(["a", "b"]);
  await nextTick();
  expect(at.flushed).toEqual(["a", "b", "a"]);
});

test("what a timer or another process made dirty leaves with the tick", async () => {
  const at = new Fixture();
  at.flusher.add(at.link("a"));
  await nextTick();
  expect(at.flushed).toEqual(["a"]);
});

test("a flush that makes another link, or its own, dirty again does not lose it", async () => {
  const at = new Fixture();
  let left = 2;
  const b = at.link("b");
  const a = at.link("a", () => {
    if (left-- > 0) {
      at.flusher.add(a);
      at.flusher.add(b);
    }
  });
  at.flusher.add(a);
  await nextTick();
  expect(at.flushed).toEqual(["a"]);
  for (let i = 0; i < 5; i++) await nextTick();
  expect(at.flushed.filter((name) => name === "a")).toHaveLength(3);
  expect(at.flushed.filter((name) => name === "b")).toHaveLength(2);
});
