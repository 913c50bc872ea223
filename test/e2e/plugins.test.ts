import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type BrokerInProcess, startInProcess } from "./broker-in-process.ts";

let folder: string;
let count = 0;

beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "mantou-plugins-"));
});

afterAll(() => rmSync(folder, { recursive: true }));

/** Writes a plugin's file and returns its path; `start` is the body of its function. */
async function write(name: string, start: string, more = ""): Promise<string> {
  const path = join(folder, `${name}.ts`);
  const text = `
    import { definePlugin, z } from "mantou/plugin";
    ${more}
    export default definePlugin({
      name: "${name}", version: "1.0.0", description: "a test",
      config: z.strictObject({ topic: z.string().default("plugin/out") }),
      async start(api) { ${start} },
    });`;
  await Bun.write(path, text);
  return path;
}

const startWith = (...from: string[]): Promise<BrokerInProcess> =>
  startInProcess([`plugins=${JSON.stringify(from.map((each) => ({ from: each })))}`]);

describe("a plugin in a file outside of the package", () => {
  test("imports mantou/plugin, is started with the broker and sees its clients", async () => {
    const path = await write(
      "echo",
      `api.on("client.connected", ({ clientId }) => void api.publish(api.config.topic, clientId));
       api.subscribe("question/+", ({ topic, payload }) => void api.publish("answer", topic + " " + payload, { qos: 1 }));`,
    );
    await using world = await startWith(path);
    const watcher = await world.harness.connect({ clientId: "watcher" });
    await watcher.subscribe("#", 1);
    const client = await world.harness.connect({ clientId: "newcomer" });
    await client.publish("question/1", "why");
    const topics: string[] = [];
    while (topics.length < 3) {
      const message = await watcher.take("publish");
      await watcher.ack(message);
      topics.push(`${message.topic}: ${Buffer.from(message.payload)}`);
    }
    expect(topics.toSorted()).toEqual(["answer: question/1 why", "plugin/out: newcomer", "question/1: why"]);
    expect(world.broker.plugins.list()).toMatchObject([{ name: "echo", kind: "plugin", from: path, state: "running" }]);
  });

  test("that is changed is read anew by reload", async () => {
    const name = `changing${count++}`;
    const path = await write(name, `api.command({ name: "c", usage: "", description: "", run: () => 1 });`);
    await using world = await startWith(path);
    const { plugins } = world.broker;
    const ask = (): unknown => plugins.host.contributions().at(-1)?.commands[0]?.run([]);
    expect(await ask()).toBe(1);
    await write(name, `api.command({ name: "c", usage: "", description: "", run: () => 2 });`);
    await plugins.unload(name);
    await plugins.load(name);
    expect(await ask()).toBe(1);
    await plugins.reload(name);
    expect(await ask()).toBe(2);
    await write(name, "", "this is no program");
    expect(plugins.reload(name)).rejects.toThrow(/cannot be read/);
    await plugins.reload(name).catch(() => {});
    expect(await ask()).toBe(2);
  });

  test("that does not start stops the start of the broker with one line", async () => {
    const path = await write("broken", `throw new Error("no luck today");`);
    expect(startWith(path)).rejects.toThrow("plugin broken did not start: no luck today");
    await startWith(path).catch(() => {});
    expect(startWith(join(folder, "missing.ts"))).rejects.toThrow(/missing.ts: found nothing there, allowed: a file/);
    await startWith(join(folder, "missing.ts")).catch(() => {});
  });
});
