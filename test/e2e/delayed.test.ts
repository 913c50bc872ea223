/** `$delayed/SECONDS/TOPIC` in a whole broker: on time, as it was sent, judged by its real topic, within limits, over a kill. */
import { afterAll, describe, expect, test } from "bun:test";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setFailure, shimEnvironment, shimMissing } from "#test/crash/disk-shim.ts";
import { startBroker } from "#test/support/broker-process.ts";
import type { ConnectOptions } from "#test/support/client.ts";
import { harnessOf, tcpTarget } from "#test/support/harness.ts";
import type { Properties } from "#test/support/wire.ts";
import { startInProcess } from "./broker-in-process.ts";

const ON = "modules.delayed.enabled=true";
const folder = mkdtempSync(join(tmpdir(), "mantou-delayed-"));
afterAll(() => rmSync(folder, { recursive: true }));

const LATE = Array.from({ length: 20 }, (_, i) => `${i}`);
const SESSION: ConnectOptions & { version: 5 } = {
  version: 5,
  clientId: "watcher",
  cleanStart: false,
  properties: [["sessionExpiryIntervalSec", 1000]],
};

interface Listed {
  readonly answer: { readonly messages: readonly { readonly id: string; readonly topic: string }[] };
}

describe("a delayed message", () => {
  test("comes when it is due, as it was sent, the earliest first; it is no drop", async () => {
    await using world = await startInProcess([ON]);
    const watcher = await world.harness.connect({ version: 5, clientId: "watcher" });
    await watcher.subscribe("#", 2);
    const publisher = await world.harness.connect({ version: 5, clientId: "publisher" });
    const startMs = Date.now();
    const properties: Properties = [
      ["messageExpiryIntervalSec", 100],
      ["userProperty", ["k", "v"]],
      ["contentType", "text/plain"],
    ];
    const [later] = await publisher.publish("$delayed/2/a/later", "2", { qos: 2 });
    await publisher.publish("$delayed/1/a/b", "1", { qos: 1, retain: true, properties });
    await publisher.publish("$delayed/0/now", "0");
    expect(later!.reasonCode).toBe(0);
    await watcher.expect("publish", { topic: "now", payload: "0", qos: 0 });
    const message = await watcher.take("publish", undefined, 10_000);
    expect(Date.now() - startMs).toBeGreaterThanOrEqual(999);
    expect(message).toMatchObject({ topic: "a/b", qos: 1, retain: false });
    expect(message.properties).toEqual(properties);
    await watcher.ack(message);
    const last = await watcher.take("publish", undefined, 10_000);
    expect(last).toMatchObject({ topic: "a/later", qos: 2 });
    expect(Date.now() - startMs).toBeGreaterThanOrEqual(1999);
    const newcomer = await world.harness.connect({ version: 5, clientId: "newcomer" });
    await newcomer.subscribe("a/b");
    await newcomer.expect("publish", { topic: "a/b", payload: "1", retain: true });
    expect(world.engine.metrics.get("messages.dropped.stopped_by_hook")).toBe(0);
    const waiting = (await world.broker.control("plugins.metrics", {})).filter(({ name }) =>
      /delayed_(messages|published)/.test(name),
    );
    expect(waiting.map(({ value }) => value)).toEqual([3, 0]);
  });

  test("is listed, and may be cancelled", async () => {
    await using world = await startInProcess([ON]);
    const client = await world.harness.connect({ version: 5, clientId: "c" });
    await client.publish("$delayed/1000/a", "xyz", { qos: 1 });
    await client.publish("$delayed/1/b", "b", { qos: 1 });
    await client.subscribe("#");
    const ask = (...args: string[]): Promise<unknown> =>
      world.broker.control("commands.run", { name: "delayed", args });
    const { messages } = ((await ask("list")) as Listed).answer;
    expect(messages).toMatchObject([
      { id: "0-1", topic: "a", qos: 1, retain: false, payloadBytes: 3, clientid: "c" },
      { id: "0-2", topic: "b" },
    ]);
    expect((await ask("list", "0-1")) as Listed).toMatchObject({ answer: { messages: [{ id: "0-2" }] } });
    expect(await ask("cancel", "0-1")).toEqual({ answer: { cancelled: true } });
    expect(await ask("cancel", "0-1")).toEqual({ answer: { cancelled: false } });
    await client.expect("publish", { topic: "b" });
    const fault = (args: string[]): Promise<string> =>
      ask(...args).then(
        () => "none",
        (error: unknown) => (error as Error).message,
      );
    expect(await fault(["cancel", "x"])).toMatch(/allowed: an ID/);
    expect(await fault([])).toMatch(/allowed: list/);
  });

  test("is refused beyond the limits, and where the topic is none: 5.0 is told, 3.x closed rather than told wrong", async () => {
    await using world = await startInProcess([ON, "modules.delayed.countMax=1", "modules.delayed.secMax=1000"]);
    const client = await world.harness.connect({ version: 5 });
    const codeOf = async (topic: string): Promise<number> =>
      (await client.publish(topic, "x", { qos: 1 }))[0]!.reasonCode!;
    for (const topic of [
      "$delayed/x/a",
      "$delayed/-1/a",
      "$delayed/1.5/a",
      "$delayed/1001/a",
      "$delayed/5",
      "$delayed/5/",
    ])
      expect([topic, await codeOf(topic)]).toEqual([topic, 0x90]);
    expect(await codeOf("$delayed/5/$delayed/5/a")).toBe(0x90);
    expect(await codeOf("$delayed/1000/a")).toBe(0);
    expect(await codeOf("$delayed/1000/b")).toBe(0x97);
    const old = await world.harness.connect({ version: 4 });
    old.send({ type: "publish", topic: "$delayed/1000/c", payload: "x", qos: 1, packetId: 1 });
    await old.expectClosed();
    const quiet = await world.harness.connect({ version: 4 });
    await quiet.publish("$delayed/1000/c", "x");
    await quiet.ping();
    const counts = (await world.broker.control("plugins.metrics", {})).filter(({ name }) =>
      name.endsWith("delayed_refused_total"),
    );
    expect(counts.map(({ labels, value }) => [labels?.["reason"], value])).toEqual([
      ["topic", 7],
      ["limit", 3],
      ["disk", 0],
    ]);
    expect(world.engine.metrics.get("messages.dropped.stopped_by_hook")).toBe(10);
  });

  test("its publisher is judged by the real topic, over HTTP as well", async () => {
    const rules = join(folder, "acl.yaml");
    writeFileSync(rules, "- { allow: publish, topics: [open/#] }\n- { allow: subscribe, topics: ['#'] }\n");
    const access = [`access.authorize=[{ type: acl-file, file: ${rules} }]`, "access.noMatch=deny"];
    await using world = await startInProcess([ON, ...access]);
    const client = await world.harness.connect({ version: 5 });
    await client.subscribe("#");
    const codeOf = async (topic: string): Promise<number> =>
      (await client.publish(topic, "x", { qos: 1 }))[0]!.reasonCode!;
    expect([await codeOf("$delayed/0/open/a"), await codeOf("$delayed/0/shut/a")]).toEqual([0, 0x87]);
    await client.expect("publish", { topic: "open/a" });
    expect([await codeOf("$delayed/0/open/a"), await codeOf("$delayed/open/a")]).toEqual([0, 0x87]);
    await client.expect("publish", { topic: "open/a" });

    const [mount] = world.broker.plugins.mounts;
    const post = async (topic: string): Promise<number> => {
      const body = JSON.stringify({ topic, message: "by http", qos: 1 });
      const headers = { "content-type": "application/json" };
      const request = new Request("http://h/mqtt/publish", { method: "POST", body, headers });
      return (await mount!.fetch(request, { address: "127.0.0.1", port: 1, listener: "ws" })).status;
    };
    expect([await post("$delayed/0/open/b"), await post("$delayed/0/shut/b")]).toEqual([200, 403]);
    await client.expect("publish", { topic: "open/b", payload: "by http" });
  });

  const missing = shimMissing();
  test.skipIf(missing !== undefined)(
    `is refused, not acknowledged, while the disk is full ${missing ?? ""}`,
    async () => {
      const data = mkdtempSync(join(folder, "full-"));
      const control = join(folder, "control");
      const env = shimEnvironment({ dir: data, journal: join(folder, "shim-journal"), control });
      await using broker = await startBroker(["--data", data, "--workers", "1", "--set", ON], { env });
      const harness = harnessOf(tcpTarget(broker.url));
      const client = await harness.connect({ version: 5 });
      await client.subscribe("#");
      const codeOf = async (topic: string): Promise<number> =>
        (await client.publish(topic, "x".repeat(10_000), { qos: 1 }))[0]!.reasonCode!;
      expect(await codeOf("$delayed/1000/a")).toBe(0);
      setFailure(control, "no space");
      expect(await codeOf("$delayed/0/b")).toBe(0x97);
      await broker.line(/could not be kept/);
      setFailure(control, "none");
      expect(await codeOf("$delayed/0/c")).toBe(0);
      await client.expect("publish", { topic: "c" });
      await harness.stop();
    },
    30_000,
  );

  test("that was acknowledged survives kill -9, and comes late rather than never", async () => {
    const data = join(folder, "data");
    await using first = await startBroker(["--data", data, "--set", ON]);
    const before = harnessOf(tcpTarget(first.url));
    const watcher = await before.connect(SESSION);
    await watcher.subscribe("late/#", 1);
    watcher.kill();
    const publisher = await before.connect({ version: 5 });
    await Promise.all(LATE.map((i) => publisher.publish(`$delayed/1/late/${i}`, "x", { qos: 1 })));
    await publisher.publish("$delayed/2/late/last", "x", { qos: 2, retain: true });
    await first.kill();
    await Bun.sleep(1000);
    await using second = await startBroker(["--data", data, "--set", ON]);
    const after = harnessOf(tcpTarget(second.url));
    const again = await after.connect(SESSION);
    for (const name of [...LATE, "last"]) await again.ack(await again.expect("publish", { topic: `late/${name}` }));
    await after.stop();
  }, 30_000);
});
