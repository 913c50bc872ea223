// What is asked of one process is asked of three workers: real clients, and the conformance suite over TCP.

import { expect, test } from "bun:test";
import { resolve } from "node:path";
import { startBroker } from "#test/support/broker-process.ts";
import { level } from "#test/support/level.ts";

const ROOT = resolve(import.meta.dir, "../..");
const WORKERS = "3";
const RUN_MS = 600_000;
/** What a message may take from one worker to another while the machine is busy. */
const SETTLE_MS = "40";

/**
 * What only one process promises: that members of a share group take exact turns whoever publishes, and that what one client has
 * been brought is known to the next at once.
 */
const NOT_OF_WORKERS = "^(?!.*(: will$|shared subscription))";

/** Sections in which workers could differ; at night the whole suite. */
const SECTIONS = [
  "v5/3.1.2-session",
  "v5/3.3-publish-actions",
  "v5/3.8-subscribe",
  "v5/4.3-quality-of-service",
  "v5/4.8-shared-subscriptions",
  "v3/3.1-session",
  "v3/4.3-delivery",
].map((name) => `./test/conformance/${name}.test.ts`);

test(
  "the conformance suite finds three workers to be one broker",
  async () => {
    // Longer topics than the default allows are asked for over TCP too.
    await using broker = await startBroker(["--workers", WORKERS, "--set", "mqtt.topicBytesMax=65535"]);
    const files = level === "long" ? ["./test/conformance"] : SECTIONS;
    const { failed, passedCount } = await runTests(files, {
      MANTOU_TEST_TARGET: broker.url,
      MANTOU_TEST_SETTLE_MS: SETTLE_MS,
    });
    expect(failed).toEqual([]);
    expect(passedCount).toBeGreaterThan(80);
  },
  RUN_MS,
);

test(
  "MQTT.js and the mosquitto clients find three workers to be one broker",
  async () => {
    const files = level === "long" ? ["mqtt-js", "mqtt-js-5", "paho-python", "paho-c", "listeners"] : ["mqtt-js-5"];
    const own = files.map((name) => `./test/interop/${name}.test.ts`);
    const mosquitto = ["./test/interop/mosquitto.test.ts", "-t", NOT_OF_WORKERS];
    const { failed, passedCount } = await runTests([...own, ...mosquitto], { MANTOU_TEST_WORKERS: WORKERS });
    expect(failed).toEqual([]);
    expect(passedCount).toBeGreaterThan(20);
  },
  RUN_MS,
);

/** Runs tests in a process of their own: what they are to meet is said by the environment. */
async function runTests(
  files: readonly string[],
  env: Readonly<Record<string, string>>,
): Promise<{ failed: string[]; passedCount: number }> {
  const child = Bun.spawn([process.execPath, "test", "--timeout", "60000", ...files], {
    cwd: ROOT,
    env: { ...process.env, ...env },
    stdout: "ignore",
    stderr: "pipe",
  });
  const text = await child.stderr.text();
  await child.exited;
  const failed = [...text.matchAll(/^\(fail\) (.*?)(?: \[[\d.]+ms\])?$/gm)].map(([, name]) => name!);
  const passed = /^ *(\d+) pass$/m.exec(text);
  if (!passed) throw new Error(`no result:\n${text.slice(-2000)}`);
  return { failed: [...new Set(failed)], passedCount: Number(passed[1]) };
}
