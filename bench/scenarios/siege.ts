/** What those who behave notice of those who do not. Each part has a broker of its own, with TLS and WebSocket beside TCP. */
import type { Goal, MetricName, Part, Scenario } from "./scenario.ts";

const P99_US_MAX = 10_000;
const SHOWS: readonly MetricName[] = [
  "p50Us",
  "p99Us",
  "maxUs",
  "lagP99Us",
  "lagMaxUs",
  "rssBytes",
  "besiegersPerSec",
  "generatorLagP99Us",
];

function siege(name: string, kind: number, clients: number, aroundSec = 3): Part {
  const args = ["--case", String(kind), "--clients", String(clients)];
  return {
    name,
    hasDoors: true,
    load: { kind: "client", client: "bystand", args: [] },
    beside: { client: "siege", args },
    aroundSec,
  };
}

function unnoticed(part: string): Goal {
  const reference = { kind: "number" } as const;
  return {
    text: `${part}: p99 of others below 10 ms`,
    part,
    metric: "p99Us",
    bound: "at most",
    factor: P99_US_MAX,
    reference,
  };
}

const parts: readonly Part[] = [
  { name: "calm", hasDoors: true, load: { kind: "client", client: "bystand", args: [] }, aroundSec: 3 },
  siege("a flood of QoS 0", 0, 1),
  siege("ten floods of QoS 0", 0, 10),
  siege("full windows of QoS 1", 1, 10),
  siege("a deaf subscriber", 2, 1),
  siege("2,000 that say half", 3, 2000),
  siege("a flood of TLS handshakes", 4, 50),
];

export const sieges: readonly Scenario[] = [
  {
    name: "siege",
    title: "1,000 messages a second between 20 pairs, beside clients that misbehave",
    purpose:
      "Publishers that are too fast, a subscriber that does not read, half-open connections and TLS handshakes without end: what the pairs notice, and what memory it takes.",
    parts,
    goals: parts.map(({ name }) => unnoticed(name)),
    shows: SHOWS,
    isOwnOnly: true,
  },
];
