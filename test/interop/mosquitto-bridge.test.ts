/**
 * A mosquitto broker that bridges every topic in both directions with ours, over each protocol version.
 *
 * 3.1 and 3.1.1 bridges set the top bit of the protocol level (mosquitto's `try_private`, its default), which asks the
 * broker not to send a bridge its own messages back and to keep the retain flag; a 5.0 bridge asks with subscription
 * options. Without either, each message would go round for ever.
 */
import { expect } from "bun:test";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { startBroker } from "#test/support/broker-process.ts";
import { missing, readLines } from "./fixture.ts";
import { publish, Subscriber, type Target } from "./mosquitto-clients.ts";
import { PassTable, type Version, versions } from "./pass-table.ts";

const START_MS = 5000;
const bridgeVersions = { "3.1": "mqttv31", "3.1.1": "mqttv311", "5.0": "mqttv50" } as const;

const table = new PassTable("mosquitto bridge");
// Debian keeps the broker where only root's PATH looks.
const mosquitto = Bun.which("mosquitto") ?? Bun.which("/usr/sbin/mosquitto") ?? "mosquitto";
const absent = missing([mosquitto, "mosquitto_pub", "mosquitto_sub", "stdbuf"]);

interface Mosquitto extends AsyncDisposable {
  readonly port: number;
}

/** Resolves when mosquitto has subscribed at the broker on `brokerPort`. */
async function startBridge(version: Version, brokerPort: number): Promise<Mosquitto> {
  const folder = mkdtempSync(join(tmpdir(), "mantou-bridge-"));
  const port = freePort();
  const lines = [
    `listener ${port} 127.0.0.1`,
    "allow_anonymous true",
    "log_dest stderr",
    "log_type all",
    "connection mantou",
    `address 127.0.0.1:${brokerPort}`,
    `bridge_protocol_version ${bridgeVersions[version]}`,
    "topic # both 2",
    "notifications false",
    "restart_timeout 1",
  ];
  writeFileSync(join(folder, "mosquitto.conf"), `${lines.join("\n")}\n`);
  const child = Bun.spawn([mosquitto, "-c", join(folder, "mosquitto.conf")], { stdout: "ignore", stderr: "pipe" });
  const subscribed = Promise.withResolvers<void>();
  let log = "";
  const read = readLines(child.stderr, (line) => {
    log += `${line}\n`;
    if (line.includes("received SUBACK") || line.includes("Received SUBACK")) subscribed.resolve();
  });
  const timer = setTimeout(() => subscribed.reject(new Error(`no bridge after ${START_MS} ms:\n${log}`)), START_MS);
  const stop = async (): Promise<void> => {
    clearTimeout(timer);
    child.kill("SIGTERM");
    await Promise.all([child.exited, read]);
    rmSync(folder, { recursive: true, force: true });
  };
  try {
    await subscribed.promise;
  } catch (error) {
    await stop();
    throw error;
  }
  clearTimeout(timer);
  return { port, [Symbol.asyncDispose]: stop };
}

function freePort(): number {
  const listener = Bun.listen({ hostname: "127.0.0.1", port: 0, socket: { data() {} } });
  const { port } = listener;
  listener.stop();
  return port;
}

/** What arrives at `subscriber` up to and with the message whose payload is `last`. */
async function until(subscriber: Subscriber, last: string): Promise<string[]> {
  const seen = [await subscriber.next()];
  while (!seen.at(-1)?.endsWith(` ${last}`)) seen.push(await subscriber.next());
  return seen;
}

for (const version of versions) {
  const feature = "every topic both ways, once, retained kept";
  if (absent !== undefined) {
    table.skip(version, feature, absent);
    continue;
  }
  table.test(version, feature, async () => {
    await using broker = await startBroker();
    await using bridge = await startBridge(version, broker.port);
    const ours: Target = { port: broker.port, version };
    const theirs: Target = { port: bridge.port, version };
    await using here = await Subscriber.start(ours, "#", ["-q", "2"]);
    await using there = await Subscriber.start(theirs, "#", ["-q", "2"]);

    const expected: string[] = [];
    for (const qos of [0, 1, 2]) {
      // Each waits for the far side, so whatever went round would come before the next.
      await publish(ours, "a/b", `from here ${qos}`, ["-q", `${qos}`]);
      expected.push(`a/b ${qos} 0 from here ${qos}`);
      expect(await until(there, `from here ${qos}`)).toEqual([`a/b ${qos} 0 from here ${qos}`]);
      await publish(theirs, "a/b", `from there ${qos}`, ["-q", `${qos}`]);
      expected.push(`a/b ${qos} 0 from there ${qos}`);
      expect(await until(there, `from there ${qos}`)).toEqual([`a/b ${qos} 0 from there ${qos}`]);
      expect(await until(here, `from there ${qos}`)).toEqual(expected.splice(0));
    }

    await publish(ours, "kept/here", "kept here", ["-q", "1", "-r"]);
    expect(await until(there, "kept here")).toEqual(["kept/here 1 0 kept here"]);
    await using lateThere = await Subscriber.start(theirs, "kept/#", ["-q", "2"]);
    expect(await lateThere.next()).toBe("kept/here 1 1 kept here");
    await publish(theirs, "kept/there", "kept there", ["-q", "1", "-r"]);
    expect(await until(here, "kept there")).toEqual(["kept/here 1 0 kept here", "kept/there 1 0 kept there"]);
    await using lateHere = await Subscriber.start(ours, "kept/there", ["-q", "2"]);
    expect(await lateHere.next()).toBe("kept/there 1 1 kept there");
    await broker.stop();
  });
}
