import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, test } from "bun:test";
import type { Backend } from "#access/backend.ts";
import { MantouError } from "#base/error.ts";
import { PluginHost } from "#plugins/host.ts";
import { guardedBackend } from "#plugins/guarded-backend.ts";
import { definePlugin, type PluginApi, type PluginDefinition, z } from "#plugins/plugin.ts";
import { TestBroker } from "#test/support/test-broker.ts";

interface Bench {
  readonly host: PluginHost;
  readonly broker: TestBroker;
  readonly log: string[];
  readonly backends: Set<Backend>;
  /** Makes it known and loads it. */
  run(start: PluginDefinition["start"], more?: Partial<PluginDefinition>, options?: unknown): Promise<string>;
}

function makeBench(): Bench {
  const broker = new TestBroker();
  const log: string[] = [];
  const backends = new Set<Backend>();
  const write = (message: string, fields?: Record<string, unknown>): void => {
    log.push(`${message}${fields?.["err"] ? `: ${(fields["err"] as Error).message}` : ""}`);
  };
  const host = new PluginHost({
    engine: broker.engine,
    node: "n@h",
    version: "1",
    worker: 0,
    dataDir: join(tmpdir(), "mantou-no-plugin-data"),
    sync: "memory",
    republish: async () => 0,
    setAlarm() {},
    makeProtocol: () => Promise.reject(new Error("none")) as never,
    readFigures: () => Promise.reject(new Error("none")),
    logOf: () => ({ debug: write, info: write, warn: write, error: write }),
    addBackend(backend) {
      backends.add(backend);
      return () => backends.delete(backend);
    },
  });
  return {
    host,
    broker,
    log,
    backends,
    async run(start, more = {}, options) {
      const definition = { name: "p", version: "1", description: "d", start, ...more };
      const source = { kind: "plugin", from: "./p.ts", options, read: async () => definition } as const;
      const name = await host.know(source);
      await host.load(name);
      return name;
    },
  };
}

/** Puts on one of everything. */
function useAll(api: PluginApi, calls: string[]): void {
  api.on("client.connected", () => calls.push("hook"));
  api.setTimeout(() => calls.push("timeout"), 5);
  api.setInterval(() => calls.push("interval"), 5);
  api.subscribe("t/#", ({ topic }) => calls.push(topic));
  api.counter("things_total", "things").add(3);
  api.gauge("size", "size", () => 7);
  api.route("/r", () => new Response("r"));
  api.adminRoute("/", () => new Response("a"));
  api.command({ name: "hello", usage: "", description: "says hello", run: () => "hello" });
  api.backend({ name: "b", authenticate: (_attempt, answer) => answer({ verdict: "allow" }) });
  api.onUnload(() => calls.push("unload"));
}

describe("what a plugin is given", () => {
  test("is there while it runs, and nothing of it is left when it has ended", async () => {
    const { host, broker, backends, run } = makeBench();
    const calls: string[] = [];
    await run((api) => {
      useAll(api, calls);
      return () => calls.push("stop");
    });
    broker.publish("t/1", "x");
    const [{ routes, adminRoutes, commands, metrics }] = host.contributions();
    expect(metrics.map(({ name, kind, read }) => [name, kind, read()])).toEqual([
      ["mantou_p_faults_total", "counter", 0],
      ["mantou_p_things_total", "counter", 3],
      ["mantou_p_size", "gauge", 7],
    ]);
    expect([routes, adminRoutes].flat().map(({ path }) => path)).toEqual(["/plugins/p/r", "/plugins/p"]);
    expect(await commands[0].run([])).toBe("hello");
    expect([backends.size, broker.engine.sessions.count]).toEqual([1, 1]);
    await Bun.sleep(20);
    expect(calls).toContain("timeout");
    expect(calls).toContain("interval");
    expect(calls).toContain("t/1");

    await host.unload("p");
    expect(calls.slice(-2)).toEqual(["stop", "unload"]);
    calls.length = 0;
    broker.publish("t/2", "x");
    await Bun.sleep(20);
    expect(calls).toEqual([]);
    expect([backends.size, broker.engine.sessions.count]).toEqual([0, 0]);
    expect([host.contributions(), broker.engine.hooks.clientConnected.isUsed]).toEqual([[], false]);
    expect(host.list()).toMatchObject([{ name: "p", state: "stopped", faultCount: 0 }]);
  });

  test("options come checked, with their defaults; wrong ones are named with their path", async () => {
    const { host, run } = makeBench();
    const config = z.strictObject({ size: z.int().default(3), deep: z.object({ a: z.string() }).optional() });
    let seen: unknown;
    const start = (api: PluginApi): void => void (seen = api.config);
    await run(start, { config });
    expect(seen).toEqual({ size: 3 });
    const wrong = run(start, { name: "q", config }, { deep: { a: 1 } });
    expect(wrong).rejects.toThrow(/^plugin q: options: deep.a: Invalid input: expected string/);
    await wrong.catch(() => {});
    expect(run(start, { name: "none" }, { a: 1 })).rejects.toThrow("plugin none: found options (a), allowed: none");
    await host.stop();
  });

  test("a definition that is none, or whose name is taken, is refused in a line", async () => {
    const { host, run } = makeBench();
    const know = (read: () => Promise<unknown>) => host.know({ kind: "plugin", from: "x.ts", options: {}, read });
    expect(know(async () => undefined)).rejects.toThrow("x.ts: no plugin; allowed: an object with name");
    expect(know(() => Promise.reject(new Error("Cannot find module\nmore")))).rejects.toThrow(
      /^plugin x.ts cannot be read: Cannot find module$/,
    );
    await run(() => {});
    expect(run(() => {})).rejects.toThrow("there is a plugin p already");
    expect(run(() => {}, { name: "a b" })).rejects.toThrow("name: found a b");
    expect(run(() => {}, { description: "" })).rejects.toThrow('./p.ts: description: found "", allowed: a text');
    const config = { word: z.string() } as never;
    expect(run(() => {}, { name: "shapeless", config })).rejects.toThrow("./p.ts: config: allowed: a schema, such as");
    const failing = z.strictObject({}).transform(() => {
      throw new Error("no luck");
    });
    expect(run(() => {}, { name: "unlucky", config: failing })).rejects.toThrow("plugin unlucky: options: no luck");
  });
});

describe("a plugin that fails", () => {
  test("in its start: everything is taken back, and it can be loaded again", async () => {
    const { host, broker, run } = makeBench();
    let isBroken = true;
    const loading = run((api) => {
      useAll(api, []);
      if (isBroken) throw new Error("no luck");
    });
    expect(loading).rejects.toThrow("plugin p did not start: no luck");
    await loading.catch(() => {});
    expect(broker.engine.hooks.clientConnected.isUsed).toBe(false);
    expect(host.list()).toMatchObject([{ state: "failed", faultCount: 1, lastFault: "no luck" }]);
    isBroken = false;
    await host.load("p");
    expect(host.list()).toMatchObject([{ state: "running" }]);
    await host.stop();
  });

  test("in a hook, a subscription, a timer, a route, a command: counted and logged, and nobody else notices", async () => {
    const { host, broker, log, run } = makeBench();
    const fail = (): never => {
      throw new Error("oops");
    };
    await run((api) => {
      api.on("message.publish", fail);
      api.on("message.publish", async () => fail());
      api.subscribe("#", fail);
      api.setTimeout(fail, 1);
      api.route("/", fail);
      api.gauge("g", "g", fail);
      api.command({ name: "c", usage: "", description: "", run: fail });
      api.command({
        name: "wrong",
        usage: "",
        description: "",
        run: () => Promise.reject(new MantouError("x", "say it")),
      });
      api.onUnload(fail);
      return fail;
    });
    const sink = broker.open("a");
    broker.subscribe(sink, "#");
    broker.publish("t", "x");
    expect(sink.take()).toEqual(["x"]);
    await Bun.sleep(10);
    const [{ routes, metrics, commands }] = host.contributions();
    const response = await routes[0].fetch(new Request("http://h/plugins/p"), { address: "", port: 0, listener: "ws" });
    expect(response.status).toBe(500);
    expect(metrics[1].read()).toBeNaN();
    expect(commands[0].run([])).rejects.toThrow("plugin p: oops");
    expect(commands[1].run([])).rejects.toThrow("say it");
    await Bun.sleep(1);
    expect(host.list()[0]).toMatchObject({ state: "running", faultCount: 7, lastFault: "oops" });
    await host.unload("p");
    expect(host.list()[0]).toMatchObject({ state: "stopped", faultCount: 9 });
    expect(new Set(log)).toEqual(new Set(["a plugin failed; what it was asked to do is left out: oops"]));
    expect(broker.engine.hooks.messagePublish.isUsed).toBe(false);
  });

  test("adds what is none, or answers what is none: refused, or counted and left out", async () => {
    const { host, backends, run } = makeBench();
    await run((api) => {
      expect(() => api.counter("x_total", "x", { 'a b"': "x" })).toThrow("no name of a label");
      expect(() => api.counter("X", "x")).toThrow("no name of a metric");
      expect(() => api.route("x", () => new Response())).toThrow("starts with /");
      expect(() => api.command({ name: "X", usage: "", description: "", run: () => 1 })).toThrow(
        "no name of a command",
      );
      const taken = Array.from({ length: 1000 }, (_, i) => api.adminRoute(`/${i}`, () => new Response()));
      expect(() => api.adminRoute("/more", () => new Response())).toThrow("more than 1000");
      for (const undo of taken) undo();
      api.adminRoute("/more", () => new Response());
      api.route("/text", () => "text" as never);
      api.command({ name: "big", usage: "", description: "", run: () => ({ count: 1n }) });
      api.on("client.authenticate", () => "perhaps" as never);
      api.on("client.authorize", () => ({ verdict: "allow" }) as never);
      api.backend({ name: "b", authenticate: (_, answer) => answer(undefined as never) });
      api.backend({ name: "c", authenticate: (_, answer) => answer({ verdict: "allow" }) });
      api.onUnload(() => {
        throw new Error("x".repeat(10_000));
      });
    });
    const [{ routes, commands }] = host.contributions();
    const response = await routes[0]!.fetch(new Request("http://h/"), { address: "", port: 0, listener: "ws" });
    expect(response.status).toBe(500);
    const told = Promise.resolve(commands[0]!.run([]));
    expect(await told.catch((error: Error) => error)).toMatchObject({ code: "plugin_failed" });
    const answers: unknown[] = [];
    for (const { authenticate, authorize } of backends)
      answers.push(
        await new Promise((answer) => {
          authenticate?.({ client: {} } as never, answer);
          authorize?.({ client: {} } as never, answer);
        }),
      );
    const unavailable = { verdict: "unavailable" };
    expect(answers).toEqual([unavailable, "unavailable", unavailable, { verdict: "allow" }]);
    await host.unload("p");
    expect(host.list()[0]).toMatchObject({ faultCount: 6, lastFault: `${"x".repeat(500)}…` });
  });

  test("uses its api after its end: nothing happens, but for the count", async () => {
    const { host, broker, run } = makeBench();
    let api!: PluginApi;
    await run((given) => void (api = given));
    await host.unload("p");
    useAll(api, []);
    expect(api.publish("t", "x")).toBe(0);
    expect([broker.engine.sessions.count, broker.engine.hooks.clientConnected.isUsed]).toEqual([0, false]);
    expect(host.contributions()).toEqual([]);
    expect(host.list()[0].faultCount).toBe(12);
  });
});

test("operations wait for each other; reload puts the new definition in the place of the old", async () => {
  const { host } = makeBench();
  const calls: string[] = [];
  let version = 0;
  const make = (): PluginDefinition => {
    const own = ++version;
    return definePlugin({
      name: "p",
      version: String(own),
      description: "d",
      async start() {
        calls.push(`start ${own}`);
        await Bun.sleep(2);
        return () => calls.push(`stop ${own}`);
      },
    });
  };
  let kept = make();
  const read = async (isFresh: boolean): Promise<unknown> => (isFresh ? (kept = make()) : kept);
  await host.know({ kind: "plugin", from: "./p.ts", options: {}, read });
  const loads = [host.load("p"), host.reload("p"), host.unload("p"), host.unload("p"), host.load("p"), host.load("p")];
  const settled = await Promise.allSettled(loads);
  expect(settled.map((each) => (each.status === "rejected" ? (each.reason as MantouError).code : "done"))).toEqual([
    "done",
    "done",
    "done",
    "plugin_stopped",
    "done",
    "plugin_running",
  ]);
  expect(calls).toEqual(["start 1", "stop 1", "start 2", "stop 2", "start 2"]);
  expect(host.list()[0].version).toBe("2");
  expect(host.load("other")).rejects.toThrow("there is no plugin other");
});

test("a backend whose health cannot be told is degraded, and that is a fault", () => {
  const faults: unknown[] = [];
  const health = () => {
    throw new Error("no");
  };
  const backend = guardedBackend({ name: "b", health }, "p", (error) => void faults.push(error));
  expect(backend.health!()).toMatchObject({ state: "degraded" });
  expect(faults).toHaveLength(1);
});
