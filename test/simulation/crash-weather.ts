/** The conditions of one crash run, drawn from its seed: small limits, so that pages and checkpoints come all the time. */
import type { LimitOverrides } from "#core/engine.ts";
import type { StoreLimits } from "#store/store-parts.ts";
import type { Dice } from "./weather.ts";

export interface CrashWeather {
  readonly clientCount: number;
  readonly stepCount: number;
  readonly limits: LimitOverrides;
  readonly store: StoreLimits;
  readonly receiveMax: number;
  readonly willGraceSec: number;
  /** Memory for messages is short: what waits goes to disk at once, and some is refused. */
  readonly isCrowded: boolean;
  readonly hasFewPlaces: boolean;
  /** Wills, and the hook that sees them. */
  readonly hasWills: boolean;
  /** Reads complete at once. */
  readonly isInstant: boolean;
  /** What was written and not synced is all lost. */
  readonly isHard: boolean;
  // Percent of steps, links and clients.
  readonly crashes: number;
  readonly commits: number;
  readonly failures: number;
  readonly breaks: number;
  readonly stalls: number;
  readonly transfers: number;
  readonly acts: number;
  readonly wraps: number;
}

export function drawCrashWeather(dice: Dice): CrashWeather {
  const receiveMax = dice.pick([1024, 1024, 5, 20]);
  const isCrowded = dice.chance(15);
  const hasFewPlaces = dice.chance(20);
  const willGraceSec = dice.pick([0, 1, 3]);
  return {
    clientCount: dice.between(3, 7),
    stepCount: dice.pick([150, 250, 400]),
    receiveMax,
    willGraceSec,
    isCrowded,
    hasFewPlaces,
    hasWills: dice.chance(50),
    isInstant: dice.chance(20),
    isHard: dice.chance(60),
    crashes: dice.pick([1, 2, 4]),
    commits: dice.pick([10, 30, 70]),
    failures: dice.pick([0, 0, 1]),
    breaks: dice.pick([0, 1, 3]),
    stalls: dice.pick([0, 1, 3]),
    transfers: dice.pick([40, 75, 95]),
    acts: dice.pick([20, 45, 70]),
    wraps: dice.pick([0, 0, 2]),
    limits: {
      mqtt: { receiveMax },
      session: {
        inflightCountMax: dice.pick([1, 2, 5, 1024, 1024]),
        outboxCountMax: hasFewPlaces ? dice.between(3, 30) : 1_000_000,
        dropPolicy: dice.pick(["oldest", "newest"] as const),
        queueQos0: dice.chance(20),
        willGraceSec,
      },
      messages: { bytesMax: isCrowded ? 12_000 : 1 << 30 },
      retained: { replayBatch: dice.pick([512, 2]) },
      shared: { strategy: dice.pick(["random", "round-robin", "sticky", "hash-client", "local"] as const) },
    },
    store: {
      pageCount: dice.pick([2, 3, 8, 30]),
      pageBytes: dice.pick([300, 2000, 100_000]),
      logBytesMax: dice.pick([200, 1000, 5000, 100_000]),
      checkpointSec: dice.pick([1, 1, 5]),
    },
  };
}
