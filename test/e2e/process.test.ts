// The broker as a process: how it starts, what it says when it cannot, and how it ends.

import { describe, expect, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { networkInterfaces, tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { startBroker } from "#test/support/broker-process.ts";
import { harnessOf, tcpTarget } from "#test/support/harness.ts";
import { FlowClient } from "./flow-client.ts";

const ENTRY = resolve(import.meta.dir, "../../src/main.ts");
const hasIpv6 = Object.values(networkInterfaces()).some((list) => list?.some(({ address }) => address === "::1"));

/** A start that must fail: its exit code and what it printed. */
function failedStart(...flags: string[]): { code: number | null; text: string } {
  const cwd = mkdtempSync(join(tmpdir(), "mantou-e2e-"));
  const env = Object.fromEntries(Object.entries(process.env).filter(([name]) => !name.startsWith("MANTOU_")));
  const options = { cwd, env, timeout: 10_000, stdout: "pipe", stderr: "pipe" } as const;
  const { exitCode, stdout, stderr } = Bun.spawnSync([process.execPath, ENTRY, "start", ...flags], options);
  rmSync(cwd, { recursive: true });
  return { code: exitCode, text: `${stdout}${stderr}` };
}

describe("start", () => {
  test("on an empty directory: listens, says so in one line, and serves", async () => {
    const startedMs = performance.now();
    await using broker = await startBroker();
    expect(performance.now() - startedMs).toBeLessThan(5000); // a second is promised; a busy machine may need more
    const lines = broker.output().split("\n");
    expect(lines.filter((line) => line.startsWith("mantou ready"))).toEqual([
      `mantou ready tcp=tcp://127.0.0.1:${broker.port}`,
    ]);
    const harness = harnessOf(tcpTarget(broker.url));
    const client = await harness.connect();
    await client.subscribe("a");
    await client.publish("a", "hello");
    await client.expect("publish", { topic: "a", payload: "hello" });
    await harness.stop();
    await broker.stop();
  });

  test("every listener is in the ready line, which is a record when the log is", async () => {
    const listen = ["--listen", "tcp://127.0.0.1:0", "--listen", "tcp://127.0.0.1:0"];
    await using broker = await startBroker([...listen, "--set", "log.format=json", "--set", "log.level=error"]);
    const addresses = [...broker.addresses.values()];
    expect(addresses).toHaveLength(2);
    expect(new Set(addresses).size).toBe(2);
    for (const url of addresses) {
      const harness = harnessOf(tcpTarget(url));
      await (await harness.connect({ version: 4 })).ping();
      await harness.stop();
    }
    for (const line of broker.output().trim().split("\n")) expect(JSON.parse(line)).toHaveProperty("msg");
  });

  test.skipIf(!hasIpv6)("listens on IPv6 (skipped where there is no ::1)", async () => {
    await using broker = await startBroker(["--listen", "tcp://[::1]:0"]);
    expect(broker.url).toBe(`tcp://[::1]:${broker.port}`);
    using client = await FlowClient.connect(broker.port, { host: "::1", clientId: "a" });
    client.send({ type: "pingreq" });
    await client.until(() => client.packets.some(({ type }) => type === "pingresp"));
    await expect(FlowClient.open(broker.port)).rejects.toThrow();
  });

  test("an unknown key stops it with the key's path", () => {
    const { code, text } = failedStart("--listen", "tcp://127.0.0.1:0", "--set", "mqtt.packetSizeMax=1");
    expect(code).toBe(1);
    expect(text).toContain("mqtt.packetSizeMax");
    expect(text).not.toContain("mantou ready");
  });

  test("a busy port stops it with the address, and the one that has the port goes on", async () => {
    await using broker = await startBroker();
    const { code, text } = failedStart("--listen", "tcp://127.0.0.1:0", "--listen", broker.url);
    expect(code).toBe(1);
    expect(text).toContain(`127.0.0.1:${broker.port}`);
    expect(text).not.toContain("mantou ready");
    const harness = harnessOf(tcpTarget(broker.url));
    await (await harness.connect()).ping();
    await harness.stop();
  });

  test("a wrong flag is a usage error", () => {
    const { code, text } = failedStart("--lisen", "tcp://127.0.0.1:0");
    expect(code).toBe(2);
    expect(text).toContain("--lisen");
  });
});

describe("stop", () => {
  test("SIGTERM tells 5.0 clients why, closes the others, and ends with 0 at once", async () => {
    await using broker = await startBroker();
    const harness = harnessOf(tcpTarget(broker.url));
    const v5 = await harness.connect({ version: 5 });
    const v4 = await harness.connect({ version: 4 });
    const v3 = await harness.connect({ version: 3 });
    const mute = await harness.open();
    const startedMs = performance.now();
    await Promise.all([
      broker.stop(),
      v5.expectDisconnect(0x8b),
      v4.expectClosed(),
      v3.expectClosed(),
      mute.expectClosed(),
    ]);
    expect(performance.now() - startedMs).toBeLessThan(4000); // the drain limit is 5 s and must not be what ends it
    expect(await broker.ended).toBe(0);
    await harness.stop();
  });

  test("a client that does not close holds it up no longer than the drain limit", async () => {
    await using broker = await startBroker(["--set", "broker.drainSecMax=1"]);
    using client = await FlowClient.connect(broker.port, { version: 5, isHalfOpen: true, clientId: "a" });
    await broker.stop();
    expect(client.packets).toMatchObject([{ type: "disconnect", reasonCode: 0x8b }]);
  });

  test("while it drains nobody new comes in, and a second signal ends it at once", async () => {
    await using broker = await startBroker(["--set", "broker.drainSecMax=60", "--set", "send.linkBytesMax=64MiB"]);
    using reader = await FlowClient.connect(broker.port, { clientId: "reader" });
    await reader.subscribe("a", 0);
    reader.pause();
    using writer = await FlowClient.connect(broker.port, { clientId: "writer" });
    const payload = Buffer.alloc(500_000);
    for (let i = 0; i < 60; i++) writer.send({ type: "publish", topic: "a", payload }); // more than the kernel takes
    writer.send({ type: "pingreq" });
    await writer.until(() => writer.packets.length > 0);
    process.kill(broker.pid, "SIGTERM");
    await broker.line(/stopping/);
    await writer.until(() => writer.isEnded);
    await expect(FlowClient.open(broker.port)).rejects.toThrow();
    process.kill(broker.pid, "SIGINT");
    expect(await broker.ended).toBe(130);
  });

  test("after kill -9 it starts again on the same port", async () => {
    await using first = await startBroker();
    const harness = harnessOf(tcpTarget(first.url));
    const client = await harness.connect();
    await first.kill();
    await client.expectClosed();
    await using second = await startBroker([], { port: first.port });
    expect(second.url).toBe(first.url);
    await (await harness.connect()).ping();
    await harness.stop();
  });
});
