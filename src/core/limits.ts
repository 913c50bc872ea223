/**
 * Every limit of the engine and of the MQTT connections above it: unit, default, range, and what happens at the limit.
 *
 * This table is the single source. The configuration schema, its documentation and the engine's own defaults are read
 * from it, so a limit that is not here does not exist. A unit is part of the name (`Sec`, `Bytes`, `Count`).
 */

interface NumberLimit {
  readonly default: number;
  readonly min: number;
  readonly max: number;
  /** What a client or operator sees when the limit is reached. */
  readonly at: string;
}

interface SwitchLimit {
  readonly default: boolean;
  readonly at: string;
}

interface ChoiceLimit<T extends string> {
  readonly default: T;
  readonly choices: readonly T[];
  readonly at: string;
}

export type DropPolicy = "oldest" | "newest" | "disconnect";
export type ShareStrategy = "random" | "round-robin" | "sticky" | "hash-client" | "hash-topic" | "local";

const KIB = 1024;
const MIB = 1024 * KIB;
const GIB = 1024 * MIB;
const U32 = 0xffff_ffff;

const n = (value: number, min: number, max: number, at: string): NumberLimit => ({ default: value, min, max, at });
const on = (value: boolean, at: string): SwitchLimit => ({ default: value, at });

export const limitTable = {
  mqtt: {
    packetBytesMax: n(MIB, 128, 268_435_460, "DISCONNECT 0x95 before the packet is buffered; 3.x: close"),
    connectTimeoutSec: n(10, 1, 3600, "a link without a complete CONNECT is closed"),
    keepAliveSecMax: n(65_535, 1, 65_535, "5.0: Server Keep Alive in CONNACK; 3.x: this value is enforced instead"),
    receiveMax: n(1024, 1, 65_535, "DISCONNECT 0x93 when more QoS 1/2 PUBLISH are unacknowledged; 3.x: close"),
    topicAliasMax: n(32, 0, 65_535, "DISCONNECT 0x94 for a greater alias; 0 switches aliases off both ways"),
    qosMax: n(2, 0, 2, "5.0: Maximum QoS in CONNACK and DISCONNECT 0x9B; 3.x: close; subscriptions are granted less"),
    retain: on(true, "false: DISCONNECT 0x9A (3.x: close), wills with retain are refused"),
    clientIdBytesMax: n(1024, 23, 65_535, "CONNACK 0x85; 3.x: 2"),
    topicBytesMax: n(4096, 16, 65_535, "PUBLISH: DISCONNECT 0x90; SUBSCRIBE: SUBACK 0x8F; 3.x: close, 0x80"),
    topicLevelsMax: n(128, 1, 65_535, "as topicBytesMax"),
    retrySec: n(0, 0, 65_535, "3.x only: unacknowledged packets are sent again after this time; 0: only on reconnect"),
    gatedCountMax: n(
      8192,
      16,
      1_000_000,
      "answers of a connection that wait for the disk or for other processes; beyond: its input waits",
    ),
    heldBytesMax: n(2 * MIB, 64 * KIB, GIB, "input of a link that waits for an answer; beyond: reading stops"),
  },
  session: {
    countMax: n(10_000_000, 1, 100_000_000, "CONNACK 0x97; 3.x: 3"),
    expirySecMax: n(
      U32,
      0,
      U32,
      "5.0: a longer expiry is shortened in CONNACK; 3.x persistent sessions live this long",
    ),
    outboxCountMax: n(1_000_000, 1, 16_777_216, "dropPolicy decides; counted as queue_full"),
    outboxBytesMax: n(GIB, KIB, 1024 * GIB, "as outboxCountMax"),
    inflightCountMax: n(
      1024,
      1,
      65_535,
      "further QoS 1/2 messages wait in the outbox; the client's Receive Maximum may lower it",
    ),
    willGraceSec: n(
      30,
      0,
      86_400,
      "after a crash of the broker, wills of persistent sessions wait this long at least for their clients to come back",
    ),
    subscriptionCountMax: n(100_000, 1, 100_000_000, "SUBACK 0x97; 3.x: 0x80"),
    queueQos0: on(false, "true: QoS 0 is queued for absent persistent sessions, as emqttd did"),
    dropPolicy: {
      default: "oldest",
      choices: ["oldest", "newest", "disconnect"],
      at: "what a full outbox does",
    } as ChoiceLimit<DropPolicy>,
  },
  messages: {
    bytesMax: n(
      2 * GIB,
      MIB,
      1024 * GIB,
      "bodies kept for queues, inflight, retained, wills; beyond: dropped, counted as memory_full",
    ),
  },
  retained: {
    countMax: n(1_000_000, 0, 100_000_000, "a new topic is routed but not kept; counted as retained_full"),
    payloadBytesMax: n(MIB, 0, 268_435_460, "as countMax; counted as retained_too_large"),
    expirySec: n(0, 0, U32, "kept this long when the message sets no expiry; 0: for ever"),
    replayBatch: n(
      512,
      1,
      65_536,
      "retained messages replayed to one subscriber in one turn; the rest follow in later turns",
    ),
  },
  shared: {
    strategy: {
      default: "round-robin",
      choices: ["random", "round-robin", "sticky", "hash-client", "hash-topic", "local"],
      at: "how a share group picks one member",
    } as ChoiceLimit<ShareStrategy>,
  },
  cache: {
    matchCountMax: n(65_536, 256, 4_194_304, "topics whose subscribers are remembered; older ones give way"),
  },
  send: {
    linkBytesMax: n(
      4 * MIB,
      64 * KIB,
      GIB,
      "unsent bytes of a link; beyond: QoS 0 is dropped as slow_subscriber, QoS 1/2 wait in the outbox",
    ),
    totalBytesMax: n(GIB, 16 * MIB, 1024 * GIB, "unsent bytes of all links; beyond: a link may hold 64 KiB"),
    stallSec: n(60, 1, 3600, "a link whose unsent bytes do not move is closed"),
  },
} as const;

type Table = typeof limitTable;
type ValueOf<T> =
  T extends ChoiceLimit<infer C> ? C : T extends NumberLimit ? number : T extends SwitchLimit ? boolean : never;

/** All limits with their values, by section. */
export type Limits = { -readonly [S in keyof Table]: { -readonly [K in keyof Table[S]]: ValueOf<Table[S][K]> } };

/** Some limits, for tests and for embedding. */
export type LimitOverrides = { [S in keyof Limits]?: Partial<Limits[S]> };

/** Defaults of the table with `overrides` on top. Values are taken as given: the configuration has checked them. */
export function makeLimits(overrides: LimitOverrides = {}): Limits {
  const out: Record<string, Record<string, unknown>> = {};
  for (const [section, entries] of Object.entries(limitTable)) {
    const values: Record<string, unknown> = {};
    for (const [key, limit] of Object.entries(entries)) values[key] = limit.default;
    out[section] = { ...values, ...overrides[section as keyof Limits] };
  }
  return out as Limits;
}
