import { describe, expect, test } from "bun:test";
import { MantouError } from "#base/error.ts";
import { runCli } from "#cli/cli.ts";
import { FakeHost } from "./fake-host.ts";

const start = (host: FakeHost, ...flags: string[]) => runCli(["start", ...flags], host);

describe("ready", () => {
  test("one line on stdout lists each listener; SIGTERM drains: 0", async () => {
    let stopCount = 0;
    const host = new FakeHost({ stop: async () => void stopCount++ });
    const code = start(host, "--listen", "tcp://127.0.0.1:2883", "--listen", "tcp://[::1]:0");
    await host.ready;
    expect(host.stdout).toBe("mantou ready tcp=tcp://127.0.0.1:2883 tcp-2=tcp://[::1]:40001\n");
    expect(stopCount).toBe(0);
    host.signal("SIGTERM");
    expect(await code).toBe(0);
    expect(stopCount).toBe(1);
    expect(host.exits).toEqual([]);
    expect(host.stderr).toBe("");
    expect(host.stdout).toMatch(/info {2}stopping: .* signal=SIGTERM\n.*info {2}stopped\n$/);
  });

  test("in JSON it is a record like the others", async () => {
    const host = new FakeHost();
    const code = start(host, "--set", "log.format=json");
    await host.ready;
    host.signal("SIGINT");
    expect(await code).toBe(0);
    const records = host.stdout
      .trimEnd()
      .split("\n")
      .map((line) => JSON.parse(line) as Record<string, unknown>);
    expect(records[0]).toMatchObject({
      level: "info",
      msg: "mantou ready tcp=tcp://0.0.0.0:1883 ws=tcp://0.0.0.0:8083",
      listeners: { tcp: "tcp://0.0.0.0:1883", ws: "tcp://0.0.0.0:8083" },
    });
    expect(records.at(-1)?.["msg"]).toBe("stopped");
  });

  test.each(["text", "json"])("it is printed at level silent too (%s)", async (format) => {
    const host = new FakeHost();
    const code = start(host, "--set", "log.level=silent", "--set", `log.format=${format}`);
    await host.ready;
    host.signal("SIGTERM");
    await code;
    expect(host.stdout.trimEnd().split("\n")).toHaveLength(1);
    expect(host.stdout).toContain("mantou ready tcp=tcp://0.0.0.0:1883");
  });
});

test("SIGHUP has the configuration read again, and the broker goes on", async () => {
  let count = 0;
  const host = new FakeHost({ reload: async () => void count++ });
  const code = start(host);
  await host.ready;
  host.reload();
  expect(count).toBe(1);
  host.signal("SIGTERM");
  expect(await code).toBe(0);
});

describe("stop", () => {
  test.each([
    ["SIGTERM", 143],
    ["SIGINT", 130],
  ] as const)("a second signal, %s, ends the process at once: %d", async (signal, code) => {
    const drained = Promise.withResolvers<void>();
    const host = new FakeHost({ stop: () => drained.promise });
    const done = start(host);
    await host.ready;
    host.signal("SIGTERM");
    expect(host.exits).toEqual([]);
    host.signal(signal);
    expect(host.exits).toEqual([code]);
    drained.resolve();
    await done;
  });

  test("a signal during start-up stops the broker once it is up", async () => {
    const host = new FakeHost();
    const open = Promise.withResolvers<void>();
    let isStopped = false;
    host.startBroker = async () => {
      await open.promise;
      return {
        addresses: ["tcp://127.0.0.1:1"],
        stop: async () => void (isStopped = true),
        reload: async () => {},
        failed: new Promise<Error>(() => {}),
      };
    };
    const code = start(host);
    host.signal("SIGTERM");
    open.resolve();
    expect(await code).toBe(0);
    expect(isStopped).toBe(true);
  });

  test("a stop that fails is told: 1", async () => {
    const host = new FakeHost({ stop: () => Promise.reject(new Error("disk gone")) });
    const code = start(host);
    await host.ready;
    host.signal("SIGTERM");
    expect(await code).toBe(1);
    expect(host.stdout).toContain("fatal stopping failed\n    Error: disk gone");
  });
});

describe("a start that fails", () => {
  test("with a wrong configuration opens nothing: 1", async () => {
    const host = new FakeHost();
    expect(await start(host, "--set", "session.inflightCountMax=lots", "--set", "log.level=x")).toBe(1);
    expect(host.started).toEqual([]);
    expect(host.stdout).toBe("");
    expect(host.stderr).toBe(
      '--set: session.inflightCountMax: found "lots", allowed: a whole number from 1 to 65535\n' +
        '--set: log.level: found "x", allowed: one of trace, debug, info, warn, error, silent\n',
    );
  });

  test("with a fault of the world says it in one line: 1", async () => {
    const host = new FakeHost();
    host.startBroker = () => Promise.reject(new MantouError("listen_failed", "listener tcp: 0.0.0.0:1883 is in use"));
    expect(await start(host)).toBe(1);
    expect(host.stderr).toBe("listener tcp: 0.0.0.0:1883 is in use\n");
    expect(host.stdout).not.toContain("mantou ready");
  });

  test("with a bug shows where: 1", async () => {
    const host = new FakeHost();
    host.startBroker = () => Promise.reject(new TypeError("x is not a function"));
    expect(await start(host)).toBe(1);
    expect(host.stderr).toStartWith("a bug: TypeError: x is not a function\n    at ");
    expect(host.fault(new Error("uncaught"))).toBe(false);
  });
});

test("what nobody caught is logged, a bounded number of times, and the broker goes on", async () => {
  const host = new FakeHost();
  const code = start(host);
  await host.ready;
  for (let n = 0; n < 100; n++) expect(host.fault(n % 2 ? new Error("oops") : "rejected")).toBe(true);
  const lines = host.stdout.split("\n").filter((line) => line.includes("fatal a bug: nobody caught this error"));
  expect(lines.length).toBeGreaterThan(0);
  expect(lines.length).toBeLessThanOrEqual(10);
  expect(host.stdout).toContain("Error: oops");
  expect(host.stdout).toContain("Error: rejected");
  expect(host.exits).toEqual([]);
  host.signal("SIGTERM");
  expect(await code).toBe(0);
});
