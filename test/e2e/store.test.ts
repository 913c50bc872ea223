// The durable store as an operator meets it: kill -9, a second broker, a compiled executable.

import { afterAll, describe, expect, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { type BrokerOptions, startBroker } from "#test/support/broker-process.ts";
import { harnessOf, tcpTarget } from "#test/support/harness.ts";

const ROOT = resolve(import.meta.dir, "../..");
const folder = mkdtempSync(join(tmpdir(), "mantou-store-"));
afterAll(() => rmSync(folder, { recursive: true }));

/** Acknowledged, killed, started again: it must be there. */
async function survives(data: string, options: BrokerOptions = {}): Promise<void> {
  await using first = await startBroker(["--data", data], options);
  const before = harnessOf(tcpTarget(first.url));
  const subscriber = await before.connect({
    clientId: "stays",
    cleanStart: true,
    properties: [["sessionExpiryIntervalSec", 1000]],
  });
  await subscriber.subscribe("a/#", 1);
  subscriber.kill();
  const publisher = await before.connect({ clientId: "speaks" });
  await publisher.publish("a/b", "kept", { qos: 1, retain: true });
  await first.kill();

  await using second = await startBroker(["--data", data], options);
  const after = harnessOf(tcpTarget(second.url));
  const again = await after.connect({
    clientId: "stays",
    cleanStart: false,
    properties: [["sessionExpiryIntervalSec", 1000]],
  });
  await again.expect("publish", { topic: "a/b", payload: "kept", qos: 1 });
  const other = await after.connect({ clientId: "new" });
  await other.subscribe("a/#", 1);
  await other.expect("publish", { topic: "a/b", payload: "kept", retain: true });
  await after.stop();
  await second.stop();
}

describe("the data directory", () => {
  test("has after kill -9 what was acknowledged before", () => survives(join(folder, "killed")), 30_000);

  test("belongs to one broker: a second is refused in one line, and the first goes on", async () => {
    const data = join(folder, "shared");
    await using first = await startBroker(["--data", data]);
    const second = startBroker(["--data", data]);
    await expect(second).rejects.toThrow(/is in use: another broker/);
    const harness = harnessOf(tcpTarget(first.url));
    await (await harness.connect()).ping();
    await harness.stop();
    await first.stop();
  }, 30_000);

  test("is kept by a compiled executable too", async () => {
    const outDir = join(folder, "dist");
    const build = [process.execPath, "packaging/build.ts", "--out", outDir];
    const { exitCode, stdout, stderr } = Bun.spawnSync(build, { cwd: ROOT, stderr: "pipe" });
    expect(`${exitCode} ${stderr}`).toBe("0 ");
    const outfile = stdout.toString().split("\n")[0]!;
    await survives(join(folder, "compiled"), { command: [outfile] });
  }, 60_000);
});
