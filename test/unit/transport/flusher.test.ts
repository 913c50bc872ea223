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

const STALE_MS = 200;

describe("what a tick took", () => {
  const start = async (): Promise<{ at: Fixture; tookMs: number[] }> => {
    await nextTick();
    const at = new Fixture();
    const tookMs: number[] = [];
    at.flusher.afterFlush = (startMs) => void tookMs.push(performance.now() - startMs);
    return { at, tookMs };
  };

  test("is counted from its first chunk until its bytes have left, once for all of them", async () => {
    const { at, tookMs } = await start();
    at.flusher.beforeData();
    Bun.sleepSync(20);
    at.flusher.add(at.link("a"));
    at.flusher.afterData(2000);
    at.flusher.beforeData();
    at.flusher.add(at.link("b"));
    at.flusher.afterData(2000);
    await nextTick();
    expect(tookMs).toHaveLength(1);
    expect(tookMs[0]).toBeGreaterThanOrEqual(20);
  });

  test("does not begin in an earlier tick: one whose chunk failed, one that sent nothing, one whose flush made more to send", async () => {
    const { at, tookMs } = await start();
    at.flusher.beforeData(); // and its handler throws
    await nextTick();
    Bun.sleepSync(STALE_MS);
    let isAgain = true;
    const a = at.link("a", () => {
      if (isAgain) at.flusher.add(a);
      isAgain = false;
    });
    at.flusher.add(a);
    await nextTick();
    await nextTick();
    expect(tookMs).toHaveLength(2);
    expect(Math.max(...tookMs)).toBeLessThan(STALE_MS);
  });
});
