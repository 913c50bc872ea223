/** The scenarios that users plan by: those of emqttd's guide, and clients that all come back at once. */
import type { Scenario } from "./scenario.ts";
import { flow } from "./table.ts";

export const guide: readonly Scenario[] = [
  {
    name: "push",
    title: "Push: one message to every client",
    purpose: "Broadcast to 5,000 connected clients, four times a second: when has the last of them got it?",
    parts: [{ name: "run", load: flow("fanout", { subscribers: 5000, ratePerSec: 4, outstandingCount: 50_000 }) }],
    goals: [],
    shows: ["maxUs", "p50Us", "p99Us", "brokerUsPerMessage", "rssBytes"],
  },
  {
    name: "messaging",
    title: "Instant messaging: acknowledged pairs",
    purpose: "200 conversations, each message acknowledged on both sides (QoS 1), 10,000 messages a second in all.",
    parts: [{ name: "run", load: flow("pair", { publishers: 200, subscribers: 200, qos: 1, ratePerSec: 10_000 }) }],
    goals: [],
    shows: ["brokerUsPerMessage", "p50Us", "p99Us", "p999Us"],
    wantsNoDelay: true,
  },
  {
    name: "hardware",
    title: "Smart hardware: round trip beside a crowd",
    purpose: "An acknowledged command to a device and back out, while 5,000 other devices are connected.",
    parts: [{ name: "run", load: { kind: "rtt", qos: 1 }, beside: { client: "crowd", args: ["--clients", "5000"] } }],
    goals: [],
    shows: ["p50Us", "p99Us", "p999Us", "brokerUsPerMessage"],
    wantsNoDelay: true,
  },
  {
    name: "telemetry",
    title: "Telemetry: many connections, one collector",
    purpose: "2,000 devices report 20,000 times a second in all; one collector takes everything with a wildcard.",
    parts: [{ name: "run", load: flow("fanin", { publishers: 2000, ratePerSec: 20_000 }) }],
    goals: [],
    shows: ["brokerUsPerMessage", "p50Us", "p99Us", "p999Us"],
  },
  {
    name: "storm",
    title: "Storm: 5,000 and 10,000 clients come back at once",
    purpose: "All clients lose their connection and return in the same moment: how long until the last one is served?",
    parts: [
      { name: "5,000", load: { kind: "client", client: "storm", args: ["--clients", "5000"] } },
      { name: "10,000", load: { kind: "client", client: "storm", args: ["--clients", "10000"] }, aroundSec: 5 },
    ],
    goals: [
      {
        text: "the last of 5,000 clients is back within 5 s",
        part: "5,000",
        metric: "maxUs",
        bound: "at most",
        factor: 5e6,
        reference: { kind: "number" },
      },
    ],
    shows: ["connectsPerSec", "brokerUsPerConnect", "p50Us", "p99Us", "maxUs", "busyPerSec"],
  },
];
