// Clients that a plugin speaks for (`api.openClient`): they are what MQTT clients are, in one process and in several.

import { expect, test } from "bun:test";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import type { MantouError } from "#base/error.ts";
import type { ClientHandlers, ClientWish, GatewayClient, PluginApi, PluginMessage } from "#plugins/plugin.ts";
import { startBroker } from "#test/support/broker-process.ts";
import { harnessOf, tcpTarget } from "#test/support/harness.ts";
import { type BrokerInProcess, startInProcess } from "./broker-in-process.ts";

async function startWorld(...set: string[]) {
  const world = await startInProcess(set);
  const { host } = world.broker.plugins;
  let api!: PluginApi;
  const start = (given: PluginApi): void => void (api = given);
  const definition = { name: "gate", version: "1", description: "d", start };
  const name = await host.know({ kind: "plugin", from: "test", options: {}, read: async () => definition });
  await host.load(name);
  const messages: PluginMessage[] = [];
  const ends: number[] = [];
  const handlers: ClientHandlers = { message: (each) => messages.push(each), end: (code) => ends.push(code) };
  const open = (wish: ClientWish, more: ClientHandlers = {}): Promise<GatewayClient> =>
    api.openClient(wish, { ...handlers, ...more });
  const fault = (): { faultCount: number; lastFault: string } => host.list().find((each) => each.name === "gate")!;
  return { world, host, open, messages, ends, fault, [Symbol.asyncDispose]: () => world[Symbol.asyncDispose]() };
}

async function until(isTrue: () => boolean): Promise<void> {
  for (const endMs = performance.now() + 10_000; !isTrue(); await Bun.sleep(1))
    if (performance.now() > endMs) throw new Error("it has not come about");
}

test("publishes and subscribes, retained messages too, and is told what comes of it", async () => {
  await using scene = await startWorld();
  const { world, open, messages } = scene;
  const mqtt = await world.harness.connect({ clientId: "mqtt" });
  await mqtt.subscribe("up/#", 1);
  const client = await open({ clientId: "coap-1", address: "192.0.2.9", port: 5683 });
  expect(await client.publish("up/0", "zero")).toBe(0);
  expect(await client.publish("up/1", Buffer.alloc(70_000, "x"), { qos: 1, isRetain: true })).toBe(0);
  expect(await client.publish("nobody", "x", { qos: 1 })).toBe(0x10);
  await mqtt.expect("publish", { topic: "up/0", payload: "zero", qos: 0 });
  await mqtt.ack(await mqtt.expect("publish", { topic: "up/1", qos: 1 }));
  expect(await client.subscribe("up/1", 1)).toBe(1);
  expect(await client.subscribe("down/+")).toBe(0);
  await until(() => messages.length === 1);
  expect(messages[0]).toMatchObject({ topic: "up/1", qos: 1, isRetain: true, payload: Buffer.alloc(70_000, "x") });
  for (let i = 0; i < 300; i++) await mqtt.publish(`down/${i}`, `${i}`, { qos: 1 });
  await until(() => messages.length === 301);
  expect(messages.slice(1).map(({ payload }) => payload.toString())).toEqual(
    Array.from({ length: 300 }, (_, i) => `${i}`),
  );
  expect(await client.unsubscribe("down/+")).toBe(0);
  await mqtt.publish("down/late", "x", { qos: 1 });
  const rows = await world.broker.control("clients.list", { limit: 10 });
  expect(rows.items).toContainEqual(
    expect.objectContaining({
      clientId: "coap-1",
      address: "192.0.2.9",
      port: 5683,
      listener: "plugin:gate",
      version: 5,
    }),
  );
  expect(messages).toHaveLength(301);
});

test("access judges it, hooks see it, its will is published, another takes its session, an operator ends it", async () => {
  await using scene = await startWorld("modules.presence.enabled=false");
  const { world, open, ends } = scene;
  const seen: string[] = [];
  const { clientConnected, clientDisconnected, clientConnect } = world.engine.hooks;
  clientConnect.add((attempt) => void (attempt.client.username === "evil" && (attempt.reasonCode = 0x86)));
  clientConnected.add(({ clientId, listener }) => seen.push(`+${clientId} ${listener}`));
  clientDisconnected.add(({ clientId }, _code, by) => seen.push(`-${clientId} ${by}`));
  const refused = open({ clientId: "x", username: "evil", password: "p" });
  expect(await refused.catch((error: MantouError) => [error.code, error.details])).toEqual([
    "client_refused",
    { reasonCode: 0x86 },
  ]);
  const mqtt = await world.harness.connect({ clientId: "mqtt" });
  await mqtt.subscribe("wills/#");
  const will = (topic: string) => ({ will: { topic, payload: "gone" } });
  const first = await open({ clientId: "a", ...will("wills/a") });
  const second = await open({ clientId: "a", ...will("wills/a2") });
  await until(() => ends.length === 1);
  expect(() => first.publish("t", "x")).toThrow("client a has ended");
  const third = await open({ clientId: "b", ...will("wills/b") });
  second.close();
  third.close(4);
  await mqtt.expect("publish", { topic: "wills/a" });
  await mqtt.expect("publish", { topic: "wills/b" });
  await until(() => ends.length === 3);
  await open({ clientId: "c" });
  await world.broker.control("clients.kick", { clientId: "c" });
  await until(() => ends.length === 4);
  expect(ends).toEqual([0x8e, 0, 0, 0x98]);
  expect(seen.filter((line) => !line.includes("mqtt"))).toEqual([
    "+a plugin:gate",
    "-a broker",
    "+a plugin:gate",
    "+b plugin:gate",
    "-a client",
    "-b client",
    "+c plugin:gate",
    "-c broker",
  ]);
});

test("at QoS 2 each message goes once, both ways, from one client of a session to the next too", async () => {
  await using scene = await startWorld();
  const { world, open, messages, ends } = scene;
  const { engine } = world;
  const mqtt = await world.harness.connect({ clientId: "mqtt" });
  await mqtt.subscribe(["up", "late"], 1);
  const wish = { clientId: "g", isCleanStart: false, sessionExpirySec: 60 };
  const client = await open(wish);
  expect(await client.subscribe("down", 2)).toBe(2);
  expect(await Promise.all(["a", "b"].map((text) => client.publish("up", text, { qos: 2 })))).toEqual([0, 0]);
  expect(await client.publish("nobody", "x", { qos: 2 })).toBe(0x10);
  for (const payload of ["a", "b"]) await mqtt.ack(await mqtt.expect("publish", { topic: "up", payload }));
  for (let i = 0; i < 150; i++) engine.publishText("down", Buffer.from(`${i}`), { qos: 2 });
  await until(() => messages.length === 150);
  expect(new Set(messages.map(({ qos }) => qos))).toEqual(new Set([2]));
  expect(messages.map(({ payload }) => Number(payload))).toEqual(Array.from({ length: 150 }, (_, i) => i));
  const session = engine.sessions.find(Buffer.from("g"));
  expect([2, 3, 4].some((id) => engine.sessions.receiptsFor(session).has(id))).toBe(false);
  client.close();
  await until(() => ends.length === 1);
  // What an earlier client has not released stands in the session; the same ids mean other messages now.
  for (const id of [1, 2, 3]) engine.addReceipt(session, id);
  engine.publishText("down", Buffer.from("waiting"), { qos: 2 });
  const next = await open(wish);
  expect(await Promise.all(["1", "2", "3"].map((text) => next.publish("late", text, { qos: 2 })))).toEqual([0, 0, 0]);
  for (const payload of ["1", "2", "3"]) await mqtt.ack(await mqtt.expect("publish", { topic: "late", payload }));
  await until(() => messages.length === 151);
  expect(messages.at(-1)).toMatchObject({ qos: 2, payload: Buffer.from("waiting") });
});

test("a QoS that the broker does not take is refused, and the client goes on", async () => {
  await using scene = await startWorld("mqtt.qosMax=1");
  const client = await scene.open({ clientId: "g" });
  expect(await client.subscribe("t", 2)).toBe(1);
  expect(await client.publish("t", "x", { qos: 2 })).toBe(0x9b);
  expect(await client.publish("t", "x", { qos: 1 })).toBe(0);
});

test("what it does not take at QoS 1 waits with the broker; what it throws is refused and counted", async () => {
  await using scene = await startWorld();
  const { world, open, fault } = scene;
  const taken: PromiseWithResolvers<void>[] = [];
  const message = ({ payload }: PluginMessage): unknown => {
    if (payload.toString() === "bad") throw new Error("cannot take it");
    taken.push(Promise.withResolvers<void>());
    return taken.at(-1)!.promise;
  };
  const client = await open({ clientId: "slow" }, { message });
  await client.subscribe("t", 1);
  const mqtt = await world.harness.connect({ clientId: "mqtt" });
  for (let i = 0; i < 250; i++) await mqtt.publish("t", `${i}`, { qos: 1 });
  await until(() => taken.length === 100);
  await Bun.sleep(20);
  expect(taken).toHaveLength(100);
  for (let i = 0; i < 250; i++) {
    await until(() => taken.length > i);
    taken[i]!.resolve();
  }
  await mqtt.publish("t", "bad", { qos: 1 });
  await until(() => fault().faultCount === 1);
  await client.subscribe("t", 2);
  await mqtt.publish("t", "bad", { qos: 2 });
  await until(() => fault().faultCount === 2);
  await mqtt.publish("t", "good", { qos: 2 });
  await until(() => taken.length === 251);
  taken[250]!.resolve();
  expect(fault().lastFault).toBe("cannot take it");
  expect(world.engine.metrics.get("messages.dropped.expired")).toBe(0);
});

test("more than a megabyte in one turn is more than it takes: QoS 0 is dropped, and counted", async () => {
  await using scene = await startWorld();
  const { world, open, messages } = scene;
  const { engine } = world;
  const client = await open({ clientId: "crowded" });
  await client.subscribe("big");
  for (let i = 0; i < 40; i++) engine.publishText("big", Buffer.alloc(65_536));
  const dropped = engine.metrics.get("messages.dropped.slow_subscriber");
  expect(dropped).toBeGreaterThan(20);
  await until(() => messages.length === 40 - dropped);
  await Bun.sleep(1);
  engine.publishText("big", Buffer.alloc(65_536));
  await until(() => messages.length === 41 - dropped);
});

test("what the broker has not read is bounded in bytes: beyond it the client is busy, and is not when that is read", async () => {
  await using scene = await startWorld();
  const client = await scene.open({ clientId: "torrent" });
  for (const qos of [0, 1] as const) {
    const answers: Promise<number>[] = [];
    const flood = (): void => {
      for (let i = 0; i < 1000; i++) answers.push(client.publish("t", Buffer.alloc(64 * 1024), { qos }));
    };
    expect(flood).toThrow(expect.objectContaining({ code: "client_busy" }));
    expect(answers.length).toBe(256); // times 64 KiB and a few bytes: 16 MiB
    await Promise.all(answers);
    await new Promise((done) => void setImmediate(done)); // at QoS 0 they are answered before they are read
    expect(await client.publish("t", "x", { qos: 1 })).toBe(0x10);
  }
});

test("wrong words are an error at once; all its clients end with the plugin", async () => {
  await using scene = await startWorld();
  const { world, host, open, ends } = scene;
  for (const wish of [{ clientId: "x", address: "here" }, { clientId: "x".repeat(70_000) }])
    expect(open(wish)).rejects.toThrow(/found/);
  const clients = await Promise.all(Array.from({ length: 20 }, (_, i) => open({ clientId: i === 0 ? "" : `c${i}` })));
  expect(clients[0]!.clientId).toStartWith("mantou_");
  expect(() => clients[1]!.publish("a/#", "x")).toThrow("no topic name");
  expect(() => clients[1]!.subscribe("a/#/b")).toThrow("no topic filter");
  expect(world.engine.metrics.get("connections.opened") - world.engine.metrics.get("connections.closed")).toBe(20);
  await host.unload("gate");
  await until(() => ends.length === 20);
  expect([new Set(ends), world.engine.sessions.count]).toEqual([new Set([0]), 0]);
  expect(open({ clientId: "late" })).rejects.toThrow("has ended");
});

test("a plugin opens a client in its start: before anybody else comes in, and after the store is there", async () => {
  const dir = mkdtempSync(join(tmpdir(), "mantou-gateway-"));
  const start = (file: string, last: string): Promise<BrokerInProcess> => {
    const path = join(dir, file);
    const plugin = `
      import { definePlugin } from "mantou/plugin";
      export default definePlugin({ name: "early", version: "1", description: "d", async start(api) {
        const client = await api.openClient({ clientId: "early", isCleanStart: false, sessionExpirySec: 60 }, {});
        if (await client.publish("early", "x", { qos: 1, isRetain: true }) >= 0x80) throw new Error("refused");
        api.route("/late", () => new Response("late"));
        ${last}
      } });`;
    writeFileSync(path, plugin);
    return startInProcess([
      `plugins=[{from: ${JSON.stringify(path)}}]`,
      "store.type=sqlite",
      `node.data=${JSON.stringify(join(dir, "data"))}`,
    ]);
  };
  try {
    const failed = await start("failing.ts", "throw new Error('after all');").catch((error: Error) => error);
    expect(failed).toMatchObject({ message: "plugin early did not start: after all" });
    await using world = await start("right.ts", "return () => client.close();");
    expect(world.broker.plugins.list().find(({ name }) => name === "early")).toMatchObject({ state: "running" });
    expect(world.broker.plugins.mounts.map(({ path }) => path)).toContain("/plugins/early/late");
    const mqtt = await world.harness.connect({ clientId: "mqtt" });
    await mqtt.subscribe("early");
    await mqtt.expect("publish", { topic: "early", payload: "x" });
  } finally {
    rmSync(dir, { recursive: true, force: true });
  }
});

test("of three workers, each client is where its session belongs", async () => {
  const plugin = `
    import { definePlugin } from "mantou/plugin";
    export default definePlugin({
      name: "gate", version: "1", description: "d",
      async start(api) {
        const clients = [];
        const got = [];
        // The broker waits for this start, and the client for the broker.
        const own = await api.openClient({ clientId: "own-" + api.broker.worker }, {});
        await own.publish("here/" + api.broker.worker, "x", { qos: 1, isRetain: true });
        api.command({ name: "open", usage: "", description: "", run: async (ids) => {
          for (const clientId of ids) {
            const client = await api.openClient({ clientId }, { message: ({ topic, payload }) => got.push(topic + " " + payload) });
            await client.subscribe("to/" + clientId, 1);
            clients.push(client);
          }
          return "ok";
        } });
        api.command({ name: "say", usage: "", description: "", run: ([topic]) => Promise.all(clients.map((each) => each.publish(topic, each.clientId, { qos: 1 }))) });
        api.command({ name: "got", usage: "", description: "", run: () => got });
      },
    });`;
  await using broker = await startBroker(
    ["--workers", "3", "--set", "plugins=[{from: ./p.ts}]", "--set", "store.type=memory"],
    {
      files: { "p.ts": plugin },
    },
  );
  const harness = harnessOf(tcpTarget(broker.url));
  const ids = Array.from({ length: 8 }, (_, i) => `g${i}`);
  const ctl = (...words: string[]): Promise<string> => {
    const command = [process.execPath, resolve("src/main.ts"), "ctl", "--json", ...words];
    const child = Bun.spawn(command, { cwd: broker.cwd, stdout: "pipe", stderr: "inherit", stdin: "ignore" });
    return child.stdout.text();
  };
  await ctl("open", ...ids);
  const mqtt = await harness.connect({ clientId: "mqtt" });
  await mqtt.subscribe("here/+", 1);
  const here: string[] = [];
  for (const _ of "012") {
    const message = await mqtt.take("publish", undefined, 10_000);
    here.push(message.topic);
    await mqtt.ack(message);
  }
  expect(here.toSorted()).toEqual(["here/0", "here/1", "here/2"]);
  await mqtt.subscribe("from", 1);
  expect(JSON.parse(await ctl("say", "from"))).toEqual(ids.map(() => 0));
  const heard: string[] = [];
  while (heard.length < ids.length) {
    const message = await mqtt.take("publish", undefined, 10_000);
    heard.push(Buffer.from(message.payload).toString());
    await mqtt.ack(message);
  }
  expect(heard.toSorted()).toEqual(ids);
  for (const id of ids) await mqtt.publish(`to/${id}`, "hello", { qos: 1 });
  const all = ids.map((id) => `to/${id} hello`);
  for (const endMs = performance.now() + 10_000; performance.now() < endMs; await Bun.sleep(50))
    if ((JSON.parse(await ctl("got")) as string[]).length === all.length) break;
  expect((JSON.parse(await ctl("got")) as string[]).toSorted()).toEqual(all);
  // Each is found where its id says it is.
  for (const id of ids) expect(await ctl("clients", "show", id)).toContain(id);
  await harness.stop();
  await broker.stop();
}, 60_000);
