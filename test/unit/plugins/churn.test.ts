import { expect, test } from "bun:test";
import { heapStats } from "bun:jsc";
import { PluginHost } from "#plugins/host.ts";
import type { PluginApi } from "#plugins/plugin.ts";
import { TestBroker } from "#test/support/test-broker.ts";

test("loading and unloading a thousand times leaves nothing behind", async () => {
  const broker = new TestBroker();
  const { engine } = broker;
  const silent = (): void => {};
  let backends = 0;
  const host = new PluginHost({
    engine,
    node: "n@h",
    version: "1",
    worker: 0,
    dataDir: "/nowhere",
    sync: "memory",
    republish: async () => 0,
    setAlarm() {},
    makeProtocol: () => Promise.reject(new Error("none")) as never,
    readFigures: () => Promise.reject(new Error("none")),
    logOf: () => ({ debug: silent, info: silent, warn: silent, error: silent }),
    addBackend() {
      backends++;
      return () => backends--;
    },
  });
  /** It leaks all it can: nothing is taken back by itself, and it has no end. */
  const start = (api: PluginApi): void => {
    const held = Buffer.alloc(100_000, "held by listeners");
    api.on("message.publish", () => held.length > 0);
    api.on("client.disconnected", () => held.length);
    api.onAsync("client.subscribe", async () => held.length);
    api.on("client.authorize", () => (held.length > 0 ? "allow" : "deny"));
    api.setInterval(() => held.length, 3_600_000);
    api.setTimeout(() => held.length, 3_600_000);
    api.subscribe("t/#", () => held.length);
    api.subscribe("$share/g/t", () => held.length);
    api.counter("c_total", "c");
    api.gauge("g", "g", () => held.length);
    api.route("/", () => new Response(held));
    api.command({ name: "c", usage: "", description: "", run: () => held.length });
  };
  const definition = { name: "leaky", version: "1", description: "leaks", start };
  await host.know({ kind: "plugin", from: "x", options: {}, read: async () => definition });
  const churn = async (times: number): Promise<void> => {
    for (let i = 0; i < times; i++) {
      await host.load("leaky");
      broker.publish("t/1", "x");
      await host.unload("leaky");
    }
  };
  const objects = (): number => {
    Bun.gc(true);
    return heapStats().objectCount;
  };
  await churn(100);
  const [before, bytes] = [objects(), process.memoryUsage().rss];
  await churn(1000);
  expect(objects() - before).toBeLessThan(1000);
  // What the listeners held was 100 MB.
  expect(process.memoryUsage().rss - bytes).toBeLessThan(50_000_000);
  const { sessions, index, messages, hooks } = engine;
  expect([sessions.count, index.subscriptionCount, messages.count, backends]).toEqual([0, 0, 0, 0]);
  expect(
    [hooks.messagePublish, hooks.clientDisconnected, hooks.clientSubscribeLater].map(({ isUsed }) => isUsed),
  ).toEqual([false, false, false]);
});

test("one that hangs in its start or its end is given up, and taken back all the same", async () => {
  const broker = new TestBroker();
  const silent = (): void => {};
  const host = new PluginHost({
    engine: broker.engine,
    node: "n@h",
    version: "1",
    worker: 0,
    dataDir: "/nowhere",
    sync: "memory",
    republish: async () => 0,
    setAlarm() {},
    makeProtocol: () => Promise.reject(new Error("none")) as never,
    readFigures: () => Promise.reject(new Error("none")),
    logOf: () => ({ debug: silent, info: silent, warn: silent, error: silent }),
    addBackend: () => silent,
    startMsMax: 20,
    stopMsMax: 20,
  });
  const never = { kind: "plugin", from: "y", options: {}, read: () => new Promise<never>(() => {}) } as const;
  expect(await host.know(never).catch((error: Error) => error.message)).toBe(
    "plugin y cannot be read: it has not ended within 0.02 s",
  );
  let isHanging = true;
  let lateStops = 0;
  const late = Promise.withResolvers<() => void>();
  const start = (api: PluginApi): Promise<() => unknown> => {
    api.on("message.publish", () => false);
    return isHanging ? late.promise : Promise.resolve(() => new Promise(() => {}));
  };
  const definition = { name: "slow", version: "1", description: "hangs", start };
  await host.know({ kind: "plugin", from: "x", options: {}, read: async () => definition });
  expect(host.load("slow")).rejects.toThrow("plugin slow did not start: it has not started within 0.02 s");
  await host.load("slow").catch(() => {});
  expect(broker.engine.hooks.messagePublish.isUsed).toBe(false);
  late.resolve(() => lateStops++);
  await Bun.sleep(1);
  expect(lateStops).toBe(2); // it had started after all, twice
  isHanging = false;
  await host.load("slow");
  expect(broker.engine.hooks.messagePublish.isUsed).toBe(true);
  await host.unload("slow");
  expect(broker.engine.hooks.messagePublish.isUsed).toBe(false);
  expect(host.list()).toMatchObject([{ state: "stopped", lastFault: "it has not stopped within 0.02 s" }]);
});
