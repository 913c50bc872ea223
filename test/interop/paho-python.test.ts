/** Eclipse Paho for Python, the version that Debian ships; what it does is in paho-python.py. */
import { join } from "node:path";
import { brokerOfFile, run } from "./fixture.ts";
import { PassTable, type Version, versions } from "./pass-table.ts";

// Debian's own python: its packages are not in the reach of another one that may come first on PATH.
const python = "/usr/bin/python3";
const script = join(import.meta.dir, "paho-python.py");

const broker = brokerOfFile();
const table = new PassTable("Paho Python");
const absent = await findAbsence();

async function findAbsence(): Promise<string | undefined> {
  try {
    await run([python, "-c", "import paho.mqtt.client"]);
    return undefined;
  } catch (error) {
    if (process.env["CI"] !== undefined) throw error;
    return "not installed: python3-paho-mqtt";
  }
}

const features: [scenario: string, feature: string, only?: readonly Version[]][] = [
  ["qos", "QoS 0, 1 and 2, both ways, in order"],
  ["large", "payload of 900 KiB"],
  ["retained", "retained"],
  ["will", "will"],
  ["session", "persistent session with offline messages"],
  ["unsubscribe", "unsubscribe"],
  ["shared", "shared subscription"],
  ["properties", "properties of a message", ["5.0"]],
  ["assigned", "assigned client id, reason codes", ["5.0"]],
];

for (const [scenario, feature, only = versions] of features) {
  for (const version of only) {
    if (absent !== undefined) table.skip(version, feature, absent);
    else
      table.test(version, feature, async () => {
        await run([python, script, `${broker().port}`, version, scenario]);
      });
  }
}
