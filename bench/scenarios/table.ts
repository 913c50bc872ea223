/** The scenarios that answer for a goal: publish rates, round trips, and what the broker does at a size. */
import type { FlowLoad, Goal, MetricName, Part, Reference, Scenario } from "./scenario.ts";

/** No latency: in a closed loop it only mirrors what is in flight. */
const RATE: readonly MetricName[] = ["messagesPerSec", "brokerUsPerMessage"];
const PACED: readonly MetricName[] = ["brokerUsPerMessage", "p50Us", "p99Us", "p999Us"];

export function flow(mode: FlowLoad["mode"], rest: Partial<Omit<FlowLoad, "kind" | "mode">> = {}): FlowLoad {
  const clients = { pair: [50, 50], fanin: [200, 1], fanout: [1, 500] }[mode];
  return { kind: "flow", mode, publishers: clients[0], subscribers: clients[1], qos: 0, ...rest };
}

const peer = (broker: string): Reference => ({ kind: "peer", broker });

/** So many times as fast as FlashMQ. */
function fasterThanFlashmq(factor: number): Goal {
  return {
    text: `${factor} × FlashMQ or more`,
    part: "run",
    metric: "speed",
    bound: "at least",
    factor,
    reference: peer("flashmq"),
  };
}

function rateScenario(name: string, title: string, purpose: string, load: FlowLoad, factor: number): Scenario {
  return {
    name,
    title,
    purpose,
    parts: [{ name: "run", load }],
    goals: [fasterThanFlashmq(factor)],
    shows: RATE,
  };
}

function roundTrip(qos: 0 | 1): Scenario {
  return {
    name: `rtt-qos${qos}`,
    title: `Round trip, QoS ${qos}`,
    purpose: `How long a single QoS ${qos} message takes through a broker that has nothing else to do.`,
    parts: [{ name: "run", load: { kind: "rtt", qos } }],
    goals: [
      {
        text: "p50 no slower than mosquitto",
        part: "run",
        metric: "p50Us",
        bound: "at most",
        factor: 1,
        reference: peer("mosquitto"),
      },
    ],
    shows: ["p50Us", "p99Us", "brokerUsPerMessage"],
    wantsNoDelay: true,
  };
}

function field(name: string, args: string): Part {
  const count = Number(/--subscriptions (\d+)/.exec(args)?.[1]);
  return { name, load: { kind: "client", client: "field", args: args.split(" ") }, aroundSec: count / 300_000 };
}

function within(text: string, part: string, base: string, factor: number): Goal {
  return { text, part, metric: "speed", bound: "at least", factor, reference: { kind: "part", part: base } };
}

export const table: readonly Scenario[] = [
  rateScenario(
    "pair",
    "Pairs 50 → 50, QoS 0",
    "The most messages that a core passes on when each topic has one publisher and one subscriber.",
    flow("pair"),
    2.5,
  ),
  rateScenario(
    "fanin",
    "Fan-in 200 → 1, QoS 0",
    "Many publishers, one subscriber with a wildcard: how fast one connection can be filled.",
    flow("fanin"),
    2,
  ),
  rateScenario(
    "fanout",
    "Fan-out 1 → 500, QoS 0",
    "One publisher, many subscribers: what a copy of a message costs.",
    flow("fanout"),
    2,
  ),
  rateScenario(
    "pair-qos1",
    "Pairs 50 → 50, QoS 1",
    "Acknowledged messages, at most 20 unacknowledged for each publisher.",
    flow("pair", { qos: 1, windowCount: 20 }),
    2,
  ),
  rateScenario(
    "pair-qos2",
    "Pairs 50 → 50, QoS 2",
    "Messages delivered exactly once: the full handshake on both sides.",
    flow("pair", { qos: 2, windowCount: 20 }),
    2,
  ),
  rateScenario(
    "pair-8k",
    "Pairs 50 → 50, 8 KiB",
    "Large payloads, where copying and the kernel cost more than MQTT.",
    flow("pair", { payloadBytes: 8192, outstandingCount: 1000 }),
    1.5,
  ),
  roundTrip(0),
  roundTrip(1),
  {
    name: "paced-20k",
    title: "Paced 20,000 messages/s",
    purpose:
      "A steady load far below the limit, as most brokers see it: CPU for each message, and how late the latest are.",
    parts: [{ name: "run", load: flow("pair", { ratePerSec: 20_000 }) }],
    goals: [
      {
        text: "CPU per message at most 0.9 × mosquitto",
        part: "run",
        metric: "brokerUsPerMessage",
        bound: "at most",
        factor: 0.9,
        reference: peer("mosquitto"),
      },
      {
        text: "p99 no worse than the best peer",
        part: "run",
        metric: "p99Us",
        bound: "at most",
        factor: 1,
        reference: { kind: "best peer" },
      },
    ],
    shows: PACED,
  },
  {
    name: "paced-100k",
    title: "Paced 100,000 messages/s",
    purpose: "Latency under a load that only fast brokers carry: shows whether throughput was bought with waiting.",
    parts: [{ name: "run", load: flow("pair", { ratePerSec: 100_000 }) }],
    goals: [
      {
        text: "p99 no worse than FlashMQ",
        part: "run",
        metric: "p99Us",
        bound: "at most",
        factor: 1,
        reference: peer("flashmq"),
      },
    ],
    shows: PACED,
  },
  {
    name: "mqtt5",
    title: "MQTT 5.0 with properties against 3.1.1",
    purpose: "What user properties, subscription identifiers and subscribers of three QoS on each topic cost.",
    parts: [
      { name: "3.1.1", load: { kind: "client", client: "mixed", args: ["--version", "4"] } },
      { name: "5.0", load: { kind: "client", client: "mixed", args: ["--version", "5"] } },
    ],
    goals: [
      {
        text: "CPU per message at most 1.5 × that of 3.1.1",
        part: "5.0",
        metric: "brokerUsPerMessage",
        bound: "at most",
        factor: 1.5,
        reference: { kind: "part", part: "3.1.1" },
      },
    ],
    shows: ["messagesPerSec", "brokerUsPerMessage"],
    isOwnOnly: true,
  },
  {
    name: "subs-1m",
    title: "A million subscriptions",
    purpose:
      "Each message for 1 to 10 of a million subscriptions, against a thousand: to as few topics, and to all 181,818.",
    parts: [
      field("1k exact", "--subscriptions 1000"),
      field("1M exact", "--subscriptions 1000000 --hot 182"),
      field("1M exact, all topics", "--subscriptions 1000000"),
      field("1k with +", "--subscriptions 1000 --wild 1"),
      field("1M with +", "--subscriptions 1000000 --wild 1 --hot 182"),
      field("1M with +, all topics", "--subscriptions 1000000 --wild 1"),
    ],
    goals: [
      within("exact, to the same 182 topics: within 30 %", "1M exact", "1k exact", 0.7),
      within("exact, to random topics of all: within 30 %", "1M exact, all topics", "1k exact", 0.7),
      within("with +, to the same 182 topics: within 30 %", "1M with +", "1k with +", 0.7),
      within("with +, to random topics of all: within 30 %", "1M with +, all topics", "1k with +", 0.7),
    ],
    shows: ["messagesPerSec", "brokerUsPerMessage", "subscribesPerSec", "bytesPerSubscription", "rssBytes"],
    isOwnOnly: true,
  },
  {
    name: "subs-10m",
    title: "Ten million subscriptions",
    purpose: "Ten million subscriptions to ten million topics: memory, and what a message to any of them costs.",
    parts: [
      field("1M", "--subscriptions 1000000 --matches 1 --clients 200"),
      field("10M", "--subscriptions 10000000 --matches 1 --clients 200"),
    ],
    goals: [
      {
        text: "fits in 2 GB",
        part: "10M",
        metric: "rssBytes",
        bound: "at most",
        factor: 2e9,
        reference: { kind: "number" },
      },
      {
        text: "CPU per message at most 2 × that of a million",
        part: "10M",
        metric: "brokerUsPerMessage",
        bound: "at most",
        factor: 2,
        reference: { kind: "part", part: "1M" },
      },
    ],
    shows: ["messagesPerSec", "brokerUsPerMessage", "subscribesPerSec", "bytesPerSubscription", "rssBytes"],
    isOwnOnly: true,
    roundsMax: 1,
  },
  {
    name: "churn",
    title: "Pairs beside 2,000 subscription changes a second",
    purpose: "Whether clients that subscribe and unsubscribe slow down those that publish.",
    parts: [
      { name: "quiet", load: flow("pair") },
      { name: "churn", load: flow("pair"), beside: { client: "churn", args: ["--rate", "2000"] } },
    ],
    goals: [within("within 20 % of the quiet figure", "churn", "quiet", 0.8)],
    shows: ["messagesPerSec", "brokerUsPerMessage", "changesPerSec"],
    isOwnOnly: true,
  },
  {
    name: "idle",
    title: "15,000 idle clients",
    purpose: "What it costs to let a client in and to keep it, subscribed and silent.",
    parts: [
      { name: "connect", load: { kind: "conn", clients: 15_000, holdSec: 3 }, aroundSec: 2 },
      { name: "above bare", load: { kind: "client", client: "footprint", args: [] }, aroundSec: 40 },
    ],
    goals: [
      {
        text: "CPU per connect at most 1.5 × mosquitto",
        part: "connect",
        metric: "brokerUsPerConnect",
        bound: "at most",
        factor: 1.5,
        reference: peer("mosquitto"),
      },
      {
        text: "at most 600 bytes a client above a bare Bun.listen socket",
        part: "above bare",
        metric: "bytesAboveBare",
        bound: "at most",
        factor: 600,
        reference: { kind: "number" },
      },
    ],
    shows: ["connectsPerSec", "brokerUsPerConnect", "p99Us", "bytesPerClient", "bytesAboveBare"],
  },
];
