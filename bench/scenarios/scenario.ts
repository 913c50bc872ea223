/**
 * What a scenario is: data only, so that the same table serves `bun run bench scenario`, `compare` and `quick`, and any
 * generator. A scenario has one part or several; parts run one after another, each against a broker started afresh, and
 * goals compare a part with a peer's, with another part, or with a number.
 */

/** Publishers and subscribers. Without a rate it is a closed loop that keeps `outstandingCount` deliveries in flight. */
export interface FlowLoad {
  readonly kind: "flow";
  readonly mode: "pair" | "fanin" | "fanout";
  readonly publishers: number;
  readonly subscribers: number;
  readonly qos: 0 | 1 | 2;
  readonly payloadBytes?: number;
  /** Unacknowledged messages of each publisher, QoS 1 and 2. */
  readonly windowCount?: number;
  readonly outstandingCount?: number;
  /** Of all publishers together; latency then counts from the moment at which a message was due. */
  readonly ratePerSec?: number;
  readonly version?: 4 | 5;
}

/** One publisher, one subscriber, one message at a time. */
interface RoundTripLoad {
  readonly kind: "rtt";
  readonly qos: 0 | 1 | 2;
}

/** Clients connect, subscribe to a topic of their own, and stay. */
export interface ConnectLoad {
  readonly kind: "conn";
  readonly clients: number;
  readonly holdSec: number;
}

/** A bench client of our own, for what no general generator does: a file of `clients/` and its arguments. */
export interface ClientLoad {
  readonly kind: "client";
  readonly client: "storm" | "field" | "mixed" | "footprint";
  readonly args: readonly string[];
}

export type Load = FlowLoad | RoundTripLoad | ConnectLoad | ClientLoad;

/** Runs beside the load, from before it until after it. */
export interface Companion {
  readonly client: "crowd" | "churn";
  readonly args: readonly string[];
}

export interface Part {
  readonly name: string;
  readonly load: Load;
  readonly beside?: Companion;
  /** What it takes around the measured time beyond a start and a stop: connecting, filling. For the forecast only. */
  readonly aroundSec?: number;
}

export interface Goal {
  readonly text: string;
  readonly part: string;
  /** `speed` is messages per second, or CPU per message where the generator was the limit. */
  readonly metric: "speed" | MetricName;
  readonly bound: "at least" | "at most";
  /** Multiplies the reference; the bound itself when the reference is a number. */
  readonly factor: number;
  readonly reference: Reference;
}

export type Reference =
  | { readonly kind: "peer"; readonly broker: string }
  | { readonly kind: "best peer" }
  | { readonly kind: "part"; readonly part: string }
  | { readonly kind: "number" };

export interface Scenario {
  readonly name: string;
  readonly title: string;
  /** What a user learns from it. */
  readonly purpose: string;
  readonly parts: readonly Part[];
  readonly goals: readonly Goal[];
  /** The figures that tables and charts show of it. */
  readonly shows: readonly MetricName[];
  /** Nothing to learn from peers: by default only our own broker runs it. */
  readonly isOwnOnly?: boolean;
  /** Brokers get TCP_NODELAY where it is a setting: what is measured is a single small message. */
  readonly wantsNoDelay?: boolean;
  readonly roundsMax?: number;
}

export interface MetricKind {
  readonly title: string;
  readonly unit: "/s" | "µs" | "%" | "B";
  readonly isLowBetter: boolean;
}

const metric = (title: string, unit: MetricKind["unit"], isLowBetter: boolean): MetricKind => ({
  title,
  unit,
  isLowBetter,
});

export const metricKinds = {
  messagesPerSec: metric("delivered messages", "/s", false),
  brokerUsPerMessage: metric("broker CPU per delivered message", "µs", true),
  brokerCpuPct: metric("broker CPU", "%", true),
  generatorCpuPct: metric("generator CPU", "%", true),
  p50Us: metric("latency p50", "µs", true),
  p90Us: metric("latency p90", "µs", true),
  p99Us: metric("latency p99", "µs", true),
  p999Us: metric("latency p99.9", "µs", true),
  maxUs: metric("latency max", "µs", true),
  rssBytes: metric("broker memory", "B", true),
  connectsPerSec: metric("connects", "/s", false),
  brokerUsPerConnect: metric("broker CPU per connect", "µs", true),
  bytesPerClient: metric("broker memory per client", "B", true),
  bytesAboveBare: metric("memory per client above a bare socket", "B", true),
  subscribesPerSec: metric("subscriptions made", "/s", false),
  bytesPerSubscription: metric("broker memory per subscription", "B", true),
  changesPerSec: metric("subscribe and unsubscribe beside it", "/s", false),
  otherCpuPct: metric("other CPU on the machine", "%", true),
  stealPct: metric("CPU taken by the hypervisor", "%", true),
} as const satisfies Record<string, MetricKind>;

export type MetricName = keyof typeof metricKinds;
export type Metrics = Partial<Record<MetricName, number>>;

/** What one run of a load gave. A run with faults does not count. */
export interface Outcome {
  readonly metrics: Metrics;
  readonly faults: readonly string[];
}
