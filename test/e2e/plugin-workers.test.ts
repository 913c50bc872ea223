/** Modules and plugins of a broker that is several processes: presence of all clients, one voice on `$SYS`, hooks once each. */
import { expect, test } from "bun:test";
import { join } from "node:path";
import { resolve } from "node:path";
import { startBroker } from "#test/support/broker-process.ts";
import { harnessOf, tcpTarget } from "#test/support/harness.ts";

const NODE = "$SYS/brokers/mantou@127.0.0.1";
const PLUGIN = `
import { definePlugin } from "mantou/plugin";
export default definePlugin({
  name: "marks", version: "1", description: "marks each message once",
  start(api) {
    api.on("message.publish", (message) => {
      if (message.topic.startsWith("t/")) message.payload = Buffer.from(message.payload + "+");
    });
    api.onAsync("message.publish", async (message) => {
      message.payload = Buffer.from(message.payload + "-");
    });
    const heard: string[] = [];
    api.subscribe("t/#", ({ payload }) => heard.push(payload.toString()));
    api.adminRoute("/echo", async (request, { address }) => {
      const { pathname, search } = new URL(request.url);
      if (search === "?large") return new Response("x".repeat(1024 * 1024 + 1));
      const text = [request.method, pathname, search, await request.text(), request.headers.get("x-mine"), address].join(" ");
      return new Response(text, { status: 201, headers: { "x-theirs": "yes" } });
    });
    api.command({ name: "heard", usage: "", description: "", run: () => heard });
  },
});`;

test("one broker of three workers", async () => {
  const flags = ["--workers", "3", "--set", "modules.sys.intervalSec=1", "--set", "plugins=[{from: ./p.ts}]"];
  await using broker = await startBroker([...flags, "--set", "store.type=memory", "--set", "broker.lagMsMax=600000"], {
    files: { "p.ts": PLUGIN },
  });
  const harness = harnessOf(tcpTarget(broker.url));
  const watcher = await harness.connect({ clientId: "watcher" });
  await watcher.subscribe([`${NODE}/clients/+/connected`, `${NODE}/stats/+/count`, `${NODE}/uptime`, "t/#"], 1);
  const ids = Array.from({ length: 8 }, (_, i) => `client-${i}`);
  const clients = await Promise.all(ids.map((clientId) => harness.connect({ clientId })));
  for (const [i, client] of clients.entries()) await client.publish("t/x", String(i), { qos: 1 });

  const connected = new Set<string>();
  const marked: string[] = [];
  const stats = new Map<string, string>();
  const uptimes: string[] = [];
  while (connected.size < 8 || marked.length < 8 || stats.get("clients") !== "9" || uptimes.length < 3) {
    const message = await watcher.take("publish", undefined, 20_000);
    await watcher.ack(message);
    const { topic } = message;
    const payload = Buffer.from(message.payload).toString();
    if (topic === "t/x") marked.push(payload);
    else if (topic.endsWith("/connected")) connected.add((JSON.parse(payload) as { clientid: string }).clientid);
    else if (topic.endsWith("/uptime")) uptimes.push(payload);
    else stats.set(topic.split("/").at(-2)!, payload);
  }
  expect([...connected].toSorted()).toEqual(ids);
  // Each hook ran once, where the client is.
  expect(marked.toSorted()).toEqual(ids.map((_, i) => `${i}-+`));
  // One process tells the time: no second stands twice, whichever worker the watcher is at.
  expect(new Set(uptimes).size).toBe(uptimes.length);
  // The watcher, and the plugin in each process.
  expect(stats.get("subscribers")).toBe("4");
  await askRoutes(join(broker.cwd, "data", "admin.sock"));
  await harness.stop();
  await broker.stop();
}, 60_000);

/** What plugins answer to administrators comes from a worker, and is bounded on the way. */
async function askRoutes(unix: string): Promise<void> {
  const echo = (path: string, init: RequestInit = {}) => fetch(`http://admin/plugins/marks/${path}`, { unix, ...init });
  const answer = await echo("echo/a?b=1", { method: "POST", body: "hello", headers: { "x-mine": "1" } });
  expect([answer.status, answer.headers.get("x-theirs")]).toEqual([201, "yes"]);
  expect(await answer.text()).toBe("POST /plugins/marks/echo/a ?b=1 hello 1 ");
  expect((await echo("other")).status).toBe(404);
  expect((await echo("echo?large")).status).toBe(502);
  expect((await echo("echo", { method: "POST", body: "x".repeat(1024 * 1024 + 1) })).status).toBe(413);
}

test.each(["1", "2"])(
  "what a plugin throws where nobody catches it is its fault, and the broker goes on (%s workers)",
  async (workers) => {
    const plugin = `
    import { definePlugin } from "mantou/plugin";
    export default definePlugin({ name: "leaky", version: "1", description: "leaks", start(api) {
      if (api.broker.worker !== 0) return;
      setTimeout(() => { throw new Error("in a timer of its own"); }, 2000);
      setTimeout(() => void Promise.reject(new Error("in a promise of its own")), 2500);
    } });`;
    await using broker = await startBroker(
      ["--workers", workers, "--set", "plugins=[{from: ./p.ts}]", "--set", "store.type=memory"],
      {
        files: { "p.ts": plugin },
      },
    );
    expect(await broker.line(/error leaky: nobody caught this error of a plugin/)).toBeString();
    await broker.line(/in a promise of its own/);
    const command = [process.execPath, resolve("src/main.ts"), "ctl", "plugins", "list"];
    const child = Bun.spawn(command, { cwd: broker.cwd, stdout: "pipe", stdin: "ignore" });
    expect(await child.stdout.text()).toContain("faults: 2, the last one: in a promise of its own");
    const harness = harnessOf(tcpTarget(broker.url));
    await (await harness.connect()).ping();
    await harness.stop();
    await broker.stop();
  },
  60_000,
);
