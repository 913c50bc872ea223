/** Modules and plugins of a broker that is several processes: presence of all clients, one voice on `$SYS`, hooks once each. */
import { expect, test } from "bun:test";
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
  await harness.stop();
  await broker.stop();
}, 60_000);
