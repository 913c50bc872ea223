/** Eclipse Paho for C, its synchronous client; what it does is in paho-c.c, compiled here. */
import { afterAll } from "bun:test";
import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { brokerOfFile, run } from "./fixture.ts";
import { PassTable, type Version, versions } from "./pass-table.ts";

const features: [scenario: string, feature: string, only?: readonly Version[]][] = [
  ["qos", "QoS 0, 1 and 2 round trip"],
  ["large", "payload of 900 KiB"],
  ["retained", "retained"],
  ["session", "persistent session with offline messages"],
  ["properties", "connect and publish with properties, reason codes", ["5.0"]],
];

const broker = brokerOfFile();
const table = new PassTable("Paho C");
const folder = mkdtempSync(join(tmpdir(), "mantou-paho-c-"));
const program = join(folder, "paho-c");
const absent = findAbsence();
if (absent === undefined) {
  const source = join(import.meta.dir, "paho-c.c");
  await run(["gcc", "-std=c11", "-Wall", "-Wextra", "-Werror", "-o", program, source, "-lpaho-mqtt3c"]);
}
afterAll(() => rmSync(folder, { recursive: true, force: true }));

function findAbsence(): string | undefined {
  const missing: string[] = [];
  if (Bun.which("gcc") === null) missing.push("gcc");
  if (!existsSync("/usr/include/MQTTClient.h")) missing.push("libpaho-mqtt-dev");
  if (missing.length === 0) return undefined;
  const why = `not installed: ${missing.join(", ")}`;
  if (process.env["CI"] !== undefined) throw new Error(why);
  return why;
}

for (const [scenario, feature, only = versions] of features) {
  for (const version of only) {
    if (absent !== undefined) table.skip(version, feature, absent);
    else
      table.test(version, feature, async () => {
        await run([program, broker().url, version, scenario]);
      });
  }
}
