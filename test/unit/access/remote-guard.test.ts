import { afterEach, describe, expect, test } from "bun:test";
import { lifeOf } from "#access/fetched.ts";
import { AnsweredFault, type Guarded, type GuardOptions, RemoteGuard } from "#access/remote-guard.ts";

import { until } from "#test/unit/transport/until.ts";

const guards: RemoteGuard[] = [];
afterEach(() => {
  for (const guard of guards.splice(0)) guard.stop();
});

/** A server that answers when it is told to. */
class Server {
  readonly calls: {
    name: string;
    resolve: (value: string) => void;
    reject: (error: Error) => void;
    signal: AbortSignal;
  }[] = [];

  call(name: string): (signal: AbortSignal) => Promise<string> {
    return (signal) => new Promise((resolve, reject) => this.calls.push({ name, resolve, reject, signal }));
  }

  async answer(value: string): Promise<void> {
    this.calls.shift()!.resolve(value);
    await Promise.resolve();
  }

  async fail(error = new Error("no")): Promise<void> {
    this.calls.shift()!.reject(error);
    await Promise.resolve();
    await Promise.resolve();
  }
}

function setUp(options: Partial<GuardOptions> = {}) {
  const clock = { ms: 0 };
  const guard = new RemoteGuard({
    deadlineMs: 60_000,
    runningMax: 2,
    waitingMax: 2,
    failureCountMax: 3,
    openMs: 1000,
    cacheCountMax: 2,
    cacheSec: 10,
    staleSec: 0,
    nowMs: () => clock.ms,
    ...options,
  });
  guards.push(guard);
  const server = new Server();
  const results: Record<string, Guarded<string>> = {};
  let count = 0;
  const ask = (key: string | undefined, address?: string): string => {
    const name = key ?? "?";
    const id = `${name}#${count++}`;
    const done = (result: Guarded<string>): void => {
      expect(results[id]).toBeUndefined();
      results[id] = result;
    };
    guard.ask(key, server.call(name), done, address);
    return id;
  };
  /** What was answered, in a word. */
  const said = (id: string): string | undefined => {
    const result = results[id];
    if (!result) return undefined;
    return result.isAnswered ? (result.isStale ? `old ${result.value}` : result.value) : result.why;
  };
  return { guard, server, clock, ask, said };
}

test("an answer is kept for its time, a question under way is shared, and no key means neither", async () => {
  const { server, clock, ask, said, guard } = setUp();
  const [first, same, other] = [ask("a"), ask("a"), ask(undefined)];
  expect(server.calls).toHaveLength(2);
  await server.answer("1");
  await server.answer("2");
  expect([said(first), said(same), said(other)]).toEqual(["1", "1", "2"]);
  clock.ms = 9999;
  expect(said(ask("a"))).toBe("1");
  const unkept = ask(undefined);
  expect(said(unkept)).toBeUndefined();
  await server.answer("3");
  clock.ms = 10_000;
  expect(said(ask("a"))).toBeUndefined();
  await server.answer("4");
  expect(said(ask("a"))).toBe("4");
  expect(guard.health()).toMatchObject({ state: "up", counts: { shared: 1, cached: 2, running: 0, waiting: 0 } });
});

test("the oldest answer gives way", async () => {
  const { server, ask, said } = setUp();
  for (const key of ["a", "b", "c"]) {
    ask(key);
    await server.answer(key);
  }
  expect([said(ask("b")), said(ask("c")), said(ask("a"))]).toEqual(["b", "c", undefined]);
});

test("so many run, so many wait in order, the rest are busy at once", async () => {
  const { server, ask, said } = setUp();
  const ids = ["a", "b", "c", "d", "e"].map((key) => ask(key));
  expect(server.calls.map(({ name }) => name)).toEqual(["a", "b"]);
  expect(said(ids[4]!)).toBe("busy");
  await server.answer("1");
  expect(server.calls.map(({ name }) => name)).toEqual(["b", "c"]);
  await server.answer("2");
  await server.answer("3");
  await server.answer("4");
  expect(ids.map(said)).toEqual(["1", "2", "3", "4", "busy"]);
});

describe("a server that fails", () => {
  test("is left alone after so many failures in a row, and probed with one call", async () => {
    const { server, clock, ask, said, guard } = setUp();
    for (let i = 0; i < 3; i++) {
      const id = ask(undefined);
      await server.fail();
      expect(said(id)).toBe("failed");
    }
    expect(guard.health()).toMatchObject({ state: "down", detail: "no", counts: { opened: 1 } });
    expect(said(ask(undefined))).toBe("open");
    clock.ms = 1000;
    const probe = ask(undefined);
    expect(said(ask(undefined))).toBe("open"); // one is enough
    await server.fail();
    expect(said(probe)).toBe("failed");
    expect(said(ask(undefined))).toBe("open");
    clock.ms = 2000;
    const second = ask(undefined);
    await server.answer("back");
    expect(said(second)).toBe("back");
    expect(guard.health().state).toBe("up");
    ask(undefined);
    expect(server.calls).toHaveLength(1);
  });

  test("a success in between starts the count anew", async () => {
    const { server, ask, guard } = setUp();
    for (let i = 0; i < 2; i++) {
      ask(undefined);
      await server.fail();
      ask(undefined);
      await server.fail();
      ask(undefined);
      await server.answer("x");
    }
    expect(guard.counts.opened).toBe(0);
  });

  test("and one that answers with a fault is there: no client shuts the others out by provoking it", async () => {
    const { server, ask, said, guard } = setUp({ failureCountMax: 1 });
    for (let i = 0; i < 100; i++) {
      const id = ask(`odd ${i}`, "10.0.0.1");
      await server.fail(new AnsweredFault("HTTP 500"));
      expect(said(id)).toBe("failed");
    }
    expect(guard.health()).toMatchObject({ state: "degraded", detail: "HTTP 500", counts: { opened: 0, failed: 100 } });
    const other = ask("even", "10.0.0.2");
    await server.answer("in");
    expect(said(other)).toBe("in");
    expect(guard.health().state).toBe("up");
  });

  test("and a probe that is answered with a fault has found it there", async () => {
    const { server, clock, ask, said } = setUp({ failureCountMax: 1 });
    ask("a");
    await server.fail();
    expect(said(ask("b"))).toBe("open");
    clock.ms = 1000;
    ask("c");
    await server.fail(new AnsweredFault("HTTP 503"));
    expect(said(ask("d"))).toBeUndefined();
  });

  test("for one address only does not do so for the others: they try it at once, one after the other", async () => {
    const { server, ask, said, guard } = setUp();
    const shut = async (): Promise<void> => {
      for (let i = 0; i < 3; i++) {
        ask(`odd ${i}`, "10.0.0.1");
        await server.fail();
      }
      expect(said(ask("odd", "10.0.0.1"))).toBe("open");
    };
    await shut();
    const other = ask("even", "10.0.0.2");
    expect(said(ask("other", "10.0.0.3"))).toBe("open"); // one is enough
    await server.answer("in");
    expect(said(other)).toBe("in");
    expect(guard.health().state).toBe("up");
    // It is away for all: each address finds that out once, and without crowding.
    await shut();
    ask("uneven", "10.0.0.2");
    await server.fail();
    for (const address of ["10.0.0.2", "10.0.0.1", undefined]) expect(said(ask("again", address))).toBe("open");
    expect(server.calls).toHaveLength(0);
  });

  test("those who wait when the breaker opens are not sent after the others", async () => {
    const { server, ask, said } = setUp({ failureCountMax: 1, runningMax: 1 });
    const [first, second, third] = [ask("a"), ask("b"), ask("c")];
    await server.fail();
    expect([said(first), said(second), said(third)]).toEqual(["failed", "open", "open"]);
    expect(server.calls).toHaveLength(0);
  });

  test("what is old serves only where it may, and not for ever", async () => {
    for (const staleSec of [0, 20]) {
      const { server, clock, ask, said } = setUp({ staleSec, failureCountMax: 1 });
      ask("a");
      await server.answer("1");
      clock.ms = 15_000;
      const failed = ask("a");
      await server.fail();
      const open = ask("a");
      expect([said(failed), said(open)]).toEqual(staleSec === 0 ? ["failed", "open"] : ["old 1", "old 1"]);
      clock.ms = 30_000;
      const tooOld = ask("a");
      await server.fail();
      expect(said(tooOld)).toBe("failed");
    }
  });

  test("a call that throws is a failure like any other", async () => {
    const { guard } = setUp();
    const result = await new Promise<Guarded<string>>((resolve) =>
      guard.ask(
        "k",
        () => {
          throw new Error("at once");
        },
        resolve,
      ),
    );
    expect(result).toMatchObject({ isAnswered: false, why: "failed" });
  });
});

describe("a server that hangs", () => {
  const until = async (condition: () => boolean): Promise<void> => {
    for (const deadlineMs = performance.now() + 20_000; !condition();) {
      if (performance.now() > deadlineMs) throw new Error("it never came true");
      await Bun.sleep(1);
    }
  };

  test("is waited for no longer than the deadline, its call is aborted, its late answer ignored", async () => {
    const { server, ask, said, guard } = setUp({ deadlineMs: 5, cacheSec: 100 });
    const id = ask("a");
    await until(() => said(id) !== undefined);
    expect(said(id)).toBe("late");
    expect(server.calls[0]!.signal.aborted).toBe(true);
    await server.answer("too late");
    expect(said(ask("a"))).toBeUndefined();
    expect(guard.counts.late).toBe(1);
  });

  test("its places are given to others, and those who only waited are not held against it", async () => {
    const nowMs = (): number => performance.now();
    const { server, ask, said, guard } = setUp({ deadlineMs: 20, runningMax: 1, failureCountMax: 2, nowMs });
    const ids = [ask("a"), ask("b"), ask("c")];
    await until(() => ids.every((id) => said(id) !== undefined));
    expect(ids.map(said)).toEqual(["late", "late", "late"]);
    expect(guard.counts.opened).toBe(0);
    expect(guard.health().counts).toMatchObject({ running: 0, waiting: 0 });
    expect(server.calls.length).toBeGreaterThan(0);
  });

  test("is not what it looks like while others are answered: the late question is to blame", async () => {
    const { server, clock, ask, said, guard } = setUp({ deadlineMs: 20, failureCountMax: 1, runningMax: 100 });
    clock.ms = 100;
    const late = ask("odd", "10.0.0.1");
    ask("even", "10.0.0.1");
    server.calls.splice(1, 1)[0]!.resolve("in");
    await Promise.resolve();
    clock.ms = 120;
    while (said(late) === undefined) await Bun.sleep(5);
    expect(said(late)).toBe("late");
    expect(guard.health()).toMatchObject({ state: "up", counts: { late: 1, opened: 0 } });
    // Alone it counts.
    clock.ms = 200;
    const alone = ask("odd", "10.0.0.1");
    clock.ms = 220;
    while (said(alone) === undefined) await Bun.sleep(5);
    expect(guard.health()).toMatchObject({ state: "down", counts: { late: 2, opened: 1 } });
  });

  test("when the guard stops, everybody is answered and nobody is let in any more", () => {
    const { server, ask, said, guard } = setUp({ runningMax: 1 });
    const ids = [ask("a"), ask("b")];
    guard.stop();
    expect([...ids.map(said), said(ask("c"))]).toEqual(["stopped", "stopped", "stopped"]);
    expect(server.calls[0]!.signal.aborted).toBe(true);
  });
});

test("after clear nothing is known, not even what was under way", async () => {
  const { server, ask, said, guard } = setUp();
  ask("a");
  await server.answer("1");
  ask("b");
  guard.clear();
  const again = ask("b"); // does not share the answer of before
  await server.answer("old");
  expect(said(again)).toBeUndefined();
  expect(said(ask("b"))).toBeUndefined();
  await server.answer("new");
  expect(said(again)).toBe("new");
  expect(said(ask("a"))).toBeUndefined();
});

test("a secret key tells its parts apart and does not show them", () => {
  const { guard } = setUp();
  const key = guard.secretKey("user", "password");
  expect(key).toBe(guard.secretKey("user", Buffer.from("password")));
  expect(key).not.toBe(guard.secretKey("userp", "assword"));
  expect(key).not.toContain("password");
});

test("a server that is down is tried out until it is back, also if nobody asks for anything", async () => {
  const { guard } = setUp({ failureCountMax: 1, openMs: 0 });
  let isUp = false;
  let triedCount = 0;
  const server = {
    check() {},
    start() {},
    stop() {},
    async tryOut() {
      triedCount++;
      if (!isUp) throw new Error("no");
    },
  };
  const life = lifeOf(guard, server, { info() {}, warn() {} }, 5);
  await life.start();
  await until(() => triedCount > 3 && life.health().state === "down");
  isUp = true;
  await until(() => life.health().state === "up");
  const count = triedCount;
  await Bun.sleep(50); // ten times as long as between two tries
  expect(triedCount).toBe(count);
  await life.stop();
});
