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
  /** Clients keep their sessions (clean session 0). */
  readonly isPersistent?: boolean;
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
  readonly client:
    "storm" | "field" | "mixed" | "footprint" | "absent" | "backlog" | "login-storm" | "remote-logins" | "bystand";
  readonly args: readonly string[];
}

export type Load = FlowLoad | RoundTripLoad | ConnectLoad | ClientLoad;

/** Runs beside the load, from before it until after it. */
export interface Companion {
  readonly client: "crowd" | "churn" | "siege";
  readonly args: readonly string[];
}

/** Where brokers keep sessions and messages; on the disk, what an acknowledgement waits for is said as our own broker does. */
export type StoreKind = "memory" | "full" | "normal" | "off";

/** What the broker's configuration has: who may come in and do what, beside the clients that the load measures (those have a password that costs nothing). */
export type AccessKind =
  /** A file of users and one of about twenty rules. */
  | { readonly kind: "files" }
  /** As `files`, and a user whose password is slow on purpose; `isCheap` for tests. */
  | {
      readonly kind: "slow password";
      readonly algorithm: "argon2id" | "bcrypt";
      readonly waitingMax: number;
      readonly isCheap?: boolean;
    }
  /** Everybody may do everything; every message is written to an SQLite file, or is to go to a service that is away. */
  | { readonly kind: "stored"; readonly where: "sqlite" | "away" }
  /** As `files`, and an HTTP service that is asked about all others; who runs it is the load's client. */
  | { readonly kind: "service"; readonly guard: { readonly deadlineMs: number; readonly openMs: number } };

export interface Part {
  readonly name: string;
  readonly load: Load;
  /** Everybody may do everything by default. Only for brokers of this repository. */
  readonly access?: AccessKind;
  /** The broker listens for TLS and WebSocket too, and says how late its loop is. Only for brokers of this repository. */
  readonly hasDoors?: boolean;
  /** The broker is not kept on one core: what is measured is that another thread works beside its loop. */
  readonly hasAllCores?: boolean;
  /** In memory by default. A part on the disk runs for brokers that can. */
  readonly store?: StoreKind;
  /** The load's rate is this share of what another part of the same broker reached in this round. */
  readonly pace?: { readonly part: string; readonly share: number };
  /** Under strace, which slows the broker down: only where it is installed, and only for our own. */
  readonly countsSyncs?: boolean;
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
  /** "" for a number of things. */
  readonly unit: "/s" | "µs" | "%" | "B" | "";
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
  restingRssBytes: metric("broker memory with the backlog waiting", "B", true),
  acknowledgedPerSec: metric("acknowledged messages", "/s", false),
  brokerUsPerAck: metric("broker CPU per acknowledged message", "µs", true),
  writtenPct: metric("messages that had to be written", "%", true),
  fileBytesPerMessage: metric("growth of the files per message", "B", true),
  writtenBytesPerMessage: metric("pages written to the disk per message", "B", true),
  syncsPerSec: metric("syncs of the disk", "/s", true),
  batchesPerSec: metric("batches written", "/s", true),
  listenUs: metric("from start until it listens", "µs", true),
  firstMessageUs: metric("from start until the first client's first message", "µs", true),
  lastMessageUs: metric("from start until the first client's last message", "µs", true),
  fileBytes: metric("files with the backlog", "B", true),
  drainedFileBytes: metric("files after it was fetched", "B", true),
  shrinkUs: metric("until the files were small", "µs", true),
  connectsPerSec: metric("connects", "/s", false),
  brokerUsPerConnect: metric("broker CPU per connect", "µs", true),
  bytesPerClient: metric("broker memory per client", "B", true),
  bytesAboveBare: metric("memory per client above a bare socket", "B", true),
  subscribesPerSec: metric("subscriptions made", "/s", false),
  bytesPerSubscription: metric("broker memory per subscription", "B", true),
  changesPerSec: metric("subscribe and unsubscribe beside it", "/s", false),
  loginsPerSec: metric("logins", "/s", false),
  loginP50Us: metric("CONNECT to CONNACK p50", "µs", true),
  loginP99Us: metric("CONNECT to CONNACK p99", "µs", true),
  busyPerSec: metric("told that the server is busy", "/s", true),
  unavailablePerSec: metric("told that the server is unavailable", "/s", true),
  gaveUpPerSec: metric("clients that gave up", "/s", true),
  unansweredCount: metric("logins under way", "", true),
  lagP99Us: metric("lag of the broker's loop p99", "µs", true),
  lagMaxUs: metric("lag of the broker's loop max", "µs", true),
  calmLagP99Us: metric("lag of the broker's loop p99, before", "µs", true),
  generatorLagP99Us: metric("lag of the generator's loop p99", "µs", true),
  calmP99Us: metric("latency p99, before", "µs", true),
  growthBytes: metric("growth of broker memory meanwhile", "B", true),
  firstLoginUs: metric("from the service's return to the first login", "µs", true),
  recoveredUs: metric("from its return to half of the logins of before", "µs", true),
  besiegersPerSec: metric("messages, connections or handshakes of the besiegers", "/s", false),
  otherCpuPct: metric("other CPU on the machine", "%", true),
  stealPct: metric("CPU taken by the hypervisor", "%", true),
} as const satisfies Record<string, MetricKind>;

export type MetricName = keyof typeof metricKinds;
export type Metrics = Partial<Record<MetricName, number>>;

/** Without those that could not be measured. */
export function defined(values: Readonly<Partial<Record<MetricName, number | undefined>>>): Metrics {
  return Object.fromEntries(Object.entries(values).filter(([, value]) => value !== undefined));
}

/** What one run of a load gave. A run with faults does not count. */
export interface Outcome {
  readonly metrics: Metrics;
  readonly faults: readonly string[];
  /** Messages published in all, before and after the measured time too. */
  readonly sentCount?: number;
}
