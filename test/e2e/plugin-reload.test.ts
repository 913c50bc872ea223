// The sections `modules` and `plugins` are read again: what differs is loaded, unloaded or loaded anew; what is at fault stays as it was.

import { afterAll, beforeAll, expect, test } from "bun:test";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { startBroker } from "#broker/broker.ts";
import { loadConfig } from "#broker/config.ts";
import { createLog } from "#broker/log.ts";
import { harnessOf, type Harness, tcpTarget } from "#test/support/harness.ts";

let folder: string;

beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "mantou-plugin-reload-"));
});

afterAll(() => rmSync(folder, { recursive: true }));

/** Says its word at every message below `ask/`; `start` is what stands in its start besides. Returns its path. */
function write(file: string, name: string, start = "", more = ""): string {
  const path = join(folder, `${file}.ts`);
  writeFileSync(
    path,
    `import { definePlugin, z } from "mantou/plugin"; ${more}
     export default definePlugin({
       name: "${name}", version: "1", description: "a test", config: z.strictObject({ word: z.string().default("nothing") }),
       async start(api) {
         ${start}
         api.on("message.publish", ({ topic }) => void (topic.startsWith("ask/") && api.publish("said", api.name + " " + api.config.word)));
       },
     });`,
  );
  return path;
}

const entry = (from: string, word?: string) => ({ from, ...(word !== undefined && { options: { word } }) });

class World implements AsyncDisposable {
  set: string[] = [];
  readonly log: { readonly level: string; readonly msg: string; readonly [field: string]: unknown }[] = [];
  broker!: Awaited<ReturnType<typeof startBroker>>;
  harness!: Harness;

  static async start(...set: string[]): Promise<World> {
    const world = new World();
    world.set = set;
    const source = { read: () => world.read() };
    const output = { write: (line: string) => void world.log.push(JSON.parse(line)) };
    world.broker = await startBroker(world.read().config, createLog({ level: "info", format: "json" }, output), source);
    world.harness = harnessOf(tcpTarget(world.broker.addresses[0]!));
    return world;
  }

  read() {
    const set = ["broker.drainSecMax=0", "store.type=memory", ...this.set]; // the last one counts
    return loadConfig({ flags: { listen: ["tcp://127.0.0.1:0"], set }, env: {}, cwd: "/" });
  }

  async reload(...set: string[]) {
    this.set = set;
    const { changed, failed } = await this.broker.reload();
    return { changed: changed.filter((path) => path !== "listeners"), failed };
  }

  state(name: string): string | undefined {
    return this.broker.plugins.list().find((each) => each.name === name)?.state;
  }

  /** What plugins say to a message. */
  said(): string[] {
    const words: string[] = [];
    const { engine } = this.broker;
    const off = engine.hooks.messagePublish.add((message) => {
      if (message.topic === "said") words.push(message.payload.toString());
    });
    engine.publishText("ask/x", Buffer.from("x"));
    engine.turn();
    off();
    return words.toSorted();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.harness.stop();
    await this.broker.stop();
  }
}

const plugins = (...entries: object[]): string => `plugins=${JSON.stringify(entries)}`;
const rewrite = (to: string, pattern = "^x/(.+)$"): string =>
  `modules.rewrite.rules=${JSON.stringify([{ filter: "x/#", steps: [{ pattern, to }] }])}`;

/** Nobody listens there, and nothing is sent. */
const hook = (secret: string): string =>
  `modules.webhook.hooks=${JSON.stringify([{ name: "w", url: "http://127.0.0.1:1/", filters: ["nothing"], ...(secret && { secret }) }])}`;

test("modules are loaded, unloaded, and loaded anew, and a client that is connected notices nothing else", async () => {
  await using world = await World.start();
  const client = await world.harness.connect({ clientId: "c" });
  await client.subscribe("#");
  const arrivesAs = async (): Promise<string> => {
    await client.publish("x/1", "x");
    return (await client.take("publish")).topic;
  };
  expect(await arrivesAs()).toBe("x/1");
  expect(await world.reload(rewrite("y/$1"))).toEqual({ changed: ["modules.rewrite"], failed: [] });
  expect(await arrivesAs()).toBe("y/1");
  expect(await world.reload(rewrite("z/$1"))).toEqual({ changed: ["modules.rewrite"], failed: [] });
  expect(await arrivesAs()).toBe("z/1");
  expect(await world.reload(rewrite("z/$1"), hook(""))).toEqual({ changed: ["modules.webhook"], failed: [] });
  const wrong = await world.reload(rewrite("z/$1"), hook("env:NOT_THERE"), "modules.local.enabled=true");
  expect(wrong.changed).toEqual(["modules.local"]);
  expect(wrong.failed).toEqual([expect.stringMatching(/webhook did not start: .*NOT_THERE.*; the one before goes on/)]);
  expect(await arrivesAs()).toBe("z/1");
  expect(world.log.at(-2)).toMatchObject({ level: "error", problems: wrong.failed });
  const states = (): unknown[] => ["local", "rewrite", "webhook"].map((name) => world.state(name));
  expect(states()).toEqual(["running", "running", "running"]);
  const all = ["modules.rewrite", "modules.local", "modules.webhook"];
  expect(await world.reload()).toEqual({ changed: all, failed: [] });
  expect(await arrivesAs()).toBe("x/1");
  expect(states()).toEqual(["stopped", "stopped", "stopped"]);
  await client.ping();
});

test("delayed messages are kept over a reload, or it is said that they are gone, and meanwhile none goes to its literal topic", async () => {
  const data = join(folder, "delayed");
  const on = (countMax: number): string => `modules.delayed={enabled: true, countMax: ${countMax}}`;
  for (const kept of [["store.type=sqlite", `node.data=${data}`], []]) {
    await using world = await World.start(on(1000), ...kept);
    const watcher = await world.harness.connect({ version: 5 });
    await watcher.subscribe("due");
    const routed = new Set<string>();
    world.broker.engine.hooks.messagePublish.add(({ topic }) => void routed.add(topic.split("/")[0]!));
    const client = await world.harness.connect({ version: 5 });
    await client.publish("$delayed/2/due", "early", { qos: 1 });
    let isReloading = true;
    const reloading = world.reload(on(900), ...kept).finally(() => (isReloading = false));
    const codes = new Set<number>();
    while (isReloading) {
      const [{ reasonCode = 0 } = {}] = await client.publish("$delayed/3600/due", "x", { qos: 1 });
      codes.add(reasonCode);
    }
    expect(await reloading).toEqual({ changed: ["modules.delayed"], failed: [] });
    for (const code of codes) expect([0, 0x97]).toContain(code);
    const gone = world.log.filter(({ msg }) => msg === "delayed messages that were kept in memory are gone");
    if (kept.length > 0) await watcher.expect("publish", { topic: "due", payload: "early" }, 10_000);
    else expect(gone).toHaveLength(1);
    expect(routed.has("$delayed")).toBe(false);
  }
});

test("a secret that has changed is a change", async () => {
  const got: string[] = [];
  await using server = Bun.serve({
    port: 0,
    fetch: (request) => (got.push(request.headers.get("authorization") ?? ""), new Response()),
  });
  const hook = (authorization: string): string =>
    `modules.webhook.hooks=${JSON.stringify([{ name: "h", url: String(server.url), filters: ["t"], authorization }])}`;
  await using world = await World.start(hook("one"));
  const client = await world.harness.connect();
  const sendUntil = async (word: string): Promise<void> => {
    await client.publish("t", "x");
    while (got.at(-1) !== word) await Bun.sleep(10);
  };
  await sendUntil("one");
  expect(await world.reload(hook("one"))).toEqual({ changed: [], failed: [] });
  expect(await world.reload(hook("two"))).toEqual({ changed: ["modules.webhook"], failed: [] });
  await sendUntil("two");
});

test("plugins come, go and get other options; the others are not touched", async () => {
  const [a, b] = [write("a", "a"), write("b", "b")];
  await using world = await World.start(plugins(entry(a)));
  const faultsOf = (name: string): unknown => world.broker.plugins.list().find((each) => each.name === name);
  expect(await world.reload(plugins(entry(a), entry(b, "hello")))).toEqual({ changed: ["plugins"], failed: [] });
  expect(world.said()).toEqual(["a nothing", "b hello"]);
  expect(await world.reload(plugins(entry(a), entry(b, "hello")))).toEqual({ changed: [], failed: [] });
  write("a", "a", `throw new Error("it would not start any more");`); // but nobody asked it to
  expect(await world.reload(plugins(entry(a), entry(b, "bye")))).toEqual({ changed: ["plugins"], failed: [] });
  expect(world.said()).toEqual(["a nothing", "b bye"]);
  expect(await world.reload(plugins(entry(b, "bye")))).toEqual({ changed: ["plugins"], failed: [] });
  expect([world.said(), faultsOf("a")]).toEqual([["b bye"], undefined]);
  expect(await world.reload()).toEqual({ changed: ["plugins"], failed: [] });
  expect(world.said()).toEqual([]);
});

test("what is at fault leaves what was there: options, code, a start that throws, a file that is gone, a name that is taken", async () => {
  const [c, d] = [write("c", "c"), write("d", "d")];
  await using world = await World.start(plugins(entry(c, "one"), entry(d)));
  const both = ["c one", "d nothing"];
  const failsWith = async (words: RegExp, ...entries: object[]): Promise<void> => {
    const { changed, failed } = await world.reload(plugins(...entries));
    expect({ changed, failed }).toEqual({ changed: [], failed: [expect.stringMatching(words)] });
    expect(world.said()).toEqual(both);
  };
  await failsWith(/plugin c: options: Unrecognized key: "wort"/, { from: c, options: { wort: "two" } }, entry(d));
  write("c", "c", `throw new Error("no luck");`);
  await failsWith(/plugin c did not start: no luck; the one before goes on/, entry(c, "two"), entry(d));
  write("c", "c", "", "this is no program");
  await failsWith(/plugin .*c\.ts cannot be read: .*c\.ts:1:\d+: Expected/, entry(c, "two"), entry(d));
  rmSync(c);
  await failsWith(/c\.ts: found nothing there/, entry(c, "two"), entry(d));
  const twin = write("twin", "d");
  write("c", "c");
  await failsWith(/there is a plugin d already/, entry(c, "one"), entry(d), entry(twin));
  await failsWith(
    /broken did not start: no/,
    entry(c, "one"),
    entry(d),
    entry(write("broken", "broken", `throw "no";`)),
  );
  expect(world.state("broken")).toBeUndefined();
  expect(await world.reload(plugins(entry(c, "two"), entry(d)))).toEqual({ changed: ["plugins"], failed: [] });
  expect(world.said()).toEqual(["c two", "d nothing"]);
});

test("a plugin whose file has moved is the same one; one that was loaded by hand is taken over", async () => {
  const [e, moved] = [
    write("e", "e"),
    write("moved", "e", `if (api.config.word === "bad") throw new Error("bad word");`),
  ];
  await using world = await World.start(plugins(entry(e)));
  const { changed, failed } = await world.reload(plugins(entry(moved, "bad")));
  expect([changed, failed, world.said()]).toEqual([[], [expect.stringMatching(/bad word; the one/)], ["e nothing"]]);
  expect(await world.reload(plugins(entry(moved, "good")))).toEqual({ changed: ["plugins"], failed: [] });
  expect(world.said()).toEqual(["e good"]);
  await world.broker.plugins.unload("e");
  expect(await world.reload(plugins(entry(moved, "good")))).toEqual({ changed: [], failed: [] });
  expect(world.said()).toEqual([]); // unloaded by hand, it stays so until its entry changes
  expect(await world.reload(plugins(entry(moved, "better")))).toEqual({ changed: ["plugins"], failed: [] });
  expect(world.said()).toEqual(["e better"]);
});

test("what refuses when it fails does so until the new one is there: nobody slips in during a reload", async () => {
  const gate = write(
    "gate",
    "gate",
    `await Bun.sleep(300);
     api.on("client.authenticate", ({ client }) => (client.clientId === "known" ? "allow" : "deny"));
     api.onAsync("message.publish", async () => false, { below: "closed/+", whenFailed: "refuse" });`,
  );
  await using world = await World.start(plugins(entry(gate, "one")));
  const passed: string[] = [];
  const { messagePublish, messagePublishLater } = world.broker.engine.hooks;
  messagePublish.add(({ topic }) => void (topic.startsWith("closed/") && passed.push(topic)));
  const known = await world.harness.connect({ clientId: "known" });
  let isReloading = true;
  const reloading = world.reload(plugins(entry(gate, "two"))).finally(() => (isReloading = false));
  const tries: string[] = [];
  while (isReloading) {
    await known.publish("closed/door", "x");
    tries.push(
      await world.harness.connect().then(
        () => "in",
        () => "refused",
      ),
    );
  }
  await reloading;
  expect([tries.length > 2, new Set(tries), passed]).toEqual([true, new Set(["refused"]), []]);
  await world.broker.plugins.unload("gate");
  await known.publish("closed/door", "x");
  await known.ping();
  expect([messagePublishLater.isUsed, passed]).toEqual([false, ["closed/door"]]);
});

test("what a plugin imports from its folder is read anew with it", async () => {
  mkdirSync(join(folder, "parts"), { recursive: true });
  const helper = join(folder, "parts/word.ts");
  writeFileSync(helper, `export const word = "old";`);
  const path = write(
    "whole",
    "whole",
    `api.on("message.publish", ({ topic }) => void (topic.startsWith("ask/") && api.publish("said", word)));`,
    `import { word } from "./parts/word.ts";`,
  );
  await using world = await World.start(plugins(entry(path)));
  expect(world.said()).toEqual(["old", "whole nothing"]);
  writeFileSync(helper, `export const word = "new";`);
  await world.broker.plugins.reload("whole");
  expect(world.said()).toEqual(["new", "whole nothing"]);
});
