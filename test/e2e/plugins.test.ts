import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Properties } from "#test/support/packets.ts";
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

const pluginsOf = ({ broker }: BrokerInProcess) => broker.plugins.list().filter(({ kind }) => kind === "plugin");

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
    expect(pluginsOf(world)).toMatchObject([{ name: "echo", kind: "plugin", from: path, state: "running" }]);
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

test("a plugin reads the properties of a message, if it wants to", async () => {
  const path = await write(
    "properties",
    `api.on("message.publish", (message) => {
       const { contentType, userProperties = [], responseTopic } = propertiesOf(message);
       message.payload = Buffer.from(JSON.stringify([contentType, userProperties, responseTopic?.toString()]));
     });`,
    `import { propertiesOf } from "mantou/plugin";`,
  );
  await using world = await startWith(path);
  const v5 = await world.harness.connect({ version: 5, clientId: "v5" });
  const v4 = await world.harness.connect({ version: 4, clientId: "v4" });
  await v5.subscribe("t");
  const properties: Properties = [
    ["contentType", "text/x"],
    ["responseTopic", "r"],
    ["userProperty", ["k", "v"]],
  ];
  await v5.publish("t", "x", { properties });
  await v5.expect("publish", { payload: `["text/x",[["k","v"]],"r"]` });
  await v4.publish("t", "x");
  await v5.expect("publish", { payload: `[null,[],null]` });
});

describe("a plugin that decides", () => {
  test("who may come in and what they may do: asked before the backends, late or not; unloaded, nobody is asked", async () => {
    const path = await write(
      "gate",
      `api.on("client.authenticate", async ({ client }) => {
         await Bun.sleep(1);
         if (client.username === "ann") return "allow";
         if (client.username === "bob") return { verdict: "deny", code: 0x8a };
         if (client.username === "eve") throw new Error("no answer");
       });
       api.on("client.authorize", async ({ client, action, topic }) => {
         await Bun.sleep(1);
         return topic.startsWith("secret") ? (client.username === "ann" ? "allow" : "deny") : undefined;
       });`,
    );
    await using world = await startInProcess();
    const before = await world.harness.connect({ version: 5, clientId: "before" });
    await before.subscribe("#", 1);
    const { plugins, access } = world.broker;
    const [source] = (await import("#broker/plugin-source.ts")).findPlugins(path, {}, "/");
    await plugins.load(await plugins.host.know(source!));
    expect(access.chain.isOpen).toBe(false);

    const codes: number[] = [];
    for (const username of ["ann", "bob", "eve", "other"]) {
      const client = await world.harness.open(5);
      client.send({ type: "connect", clientId: username, username, cleanStart: true });
      codes.push((await client.expect("connack")).reasonCode);
      if (username !== "ann") continue;
      const [puback] = await client.publish("secret/1", "by ann", { qos: 1 });
      expect(puback!.reasonCode).toBe(0);
    }
    expect(codes).toEqual([0, 0x8a, 0x88, 0]);
    // A client that was there before is judged as well.
    const [refused] = await before.publish("secret/2", "x", { qos: 1 });
    expect(refused!.reasonCode).toBe(0x87);
    expect((await before.subscribe(["secret/#", "open"], 1)).reasonCodes).toEqual([0x87, 1]);
    expect(pluginsOf(world)).toMatchObject([{ name: "gate", faultCount: 1, lastFault: "no answer" }]);

    await plugins.unload("gate");
    expect(access.chain.isOpen).toBe(true);
    const [accepted] = await before.publish("secret/3", "x", { qos: 1 });
    expect(accepted!.reasonCode).toBe(0);
  });

  test("by a hook that waits: one client is held, a hook that fails or hangs counts as not there, or refuses", async () => {
    const path = await write(
      "waiting",
      `api.onAsync("message.publish", async (message) => {
         if (message.topic === "slow") await Bun.sleep(30);
         if (message.topic === "hang") await new Promise(() => {});
         if (message.topic === "fail") throw new Error("planted");
         message.payload = Buffer.from(message.payload + "!");
       }, { waitMsMax: 40 });
       api.onAsync("client.subscribe", () => new Promise(() => {}), { waitMsMax: 10, whenFailed: "refuse" });`,
    );
    await using world = await startInProcess();
    const watcher = await world.harness.connect({ version: 5 });
    await watcher.subscribe("#");
    const { plugins } = world.broker;
    const [source] = (await import("#broker/plugin-source.ts")).findPlugins(path, {}, "/");
    await plugins.load(await plugins.host.know(source!));
    const other = await world.harness.connect();
    for (const topic of ["slow", "fail", "hang"]) await watcher.publish(topic, "1");
    await watcher.publish("last", "1");
    await other.publish("quick", "1");
    const got: string[] = [];
    while (got.length < 5) {
      const { topic, payload } = await watcher.take("publish");
      got.push(`${topic} ${Buffer.from(payload)}`);
    }
    expect(got).toEqual(["quick 1!", "slow 1!", "fail 1", "hang 1", "last 1!"]);
    expect((await other.subscribe("t")).reasonCodes).toEqual([0x87]);
    expect(pluginsOf(world)).toMatchObject([{ faultCount: 3, state: "running" }]);
  });
});
