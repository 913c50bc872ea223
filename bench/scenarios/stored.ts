/** What it costs those who publish that their messages go to a database as well, or wait on disk for a service that is away. */
import type { Scenario } from "./scenario.ts";
import { flow } from "./table.ts";

const qos1 = flow("pair", { qos: 1, windowCount: 20 });
/** Below what a database takes, so that nothing is lost. */
const pace = { part: "QoS 1, all it can", share: 0.1 };

export const stored: readonly Scenario[] = [
  {
    name: "stored-publish",
    title: "Pairs 50 → 50 with and without their messages being stored",
    purpose:
      "CPU for each message, all threads together, when every message is also written to SQLite, or to disk for a webhook whose receiver is away, against neither; at a tenth of what the broker can.",
    parts: [
      { name: "QoS 1, all it can", load: qos1, hasAllCores: true },
      { name: "QoS 1", load: qos1, hasAllCores: true, pace },
      { name: "QoS 1, to SQLite", load: qos1, hasAllCores: true, pace, access: { kind: "stored", where: "sqlite" } },
      { name: "QoS 1, receiver away", load: qos1, hasAllCores: true, pace, access: { kind: "stored", where: "away" } },
    ],
    goals: [],
    shows: ["messagesPerSec", "brokerUsPerMessage"],
    isOwnOnly: true,
  },
];
