/** The seeded generator of one run, and the run's conditions drawn from it: limits, faults, who is there. */
import { Random } from "#base/random.ts";
import type { LimitOverrides } from "#core/engine.ts";
import type { DropPolicy, ShareStrategy } from "#core/limits.ts";

export class Dice {
  private readonly random: Random;

  constructor(seed: number) {
    this.random = new Random(Math.imul(seed + 1, 0x9e3779b1));
    for (let i = 0; i < 8; i++) this.random.next();
  }

  below(bound: number): number {
    return this.random.below(bound);
  }

  between(low: number, high: number): number {
    return low + this.below(high - low + 1);
  }

  /** True `percent` times in a hundred. */
  chance(percent: number): boolean {
    return this.below(1000) < percent * 10;
  }

  pick<T>(list: readonly T[]): T {
    return list[this.below(list.length)]!;
  }

  shuffled<T>(list: readonly T[]): T[] {
    const out = [...list];
    for (let i = out.length - 1; i > 0; i--) {
      const j = this.below(i + 1);
      [out[i], out[j]] = [out[j]!, out[i]!];
    }
    return out;
  }
}

export interface Weather {
  readonly clientCount: number;
  readonly stepCount: number;
  readonly limits: LimitOverrides;
  readonly isDelayed: boolean;
  readonly hasWills: boolean;
  /** Percent of steps and links. */
  readonly breaks: number;
  readonly stalls: number;
  readonly transfers: number;
  readonly commits: number;
  /** Chance of an action of a client in a step. */
  readonly acts: number;
  // Values the twin needs, as in `limits`.
  readonly receiveMax: number;
  readonly inflightCountMax: number;
  readonly outboxCountMax: number;
  readonly dropPolicy: DropPolicy;
  readonly expirySecMax: number;
  readonly retainedExpirySec: number;
  readonly queueQos0: boolean;
  readonly retrySec: number;
  /** Now and then a session's packet ids come to their end and begin anew. */
  readonly wraps: number;
}

const strategies: ShareStrategy[] = ["random", "round-robin", "sticky", "hash-client", "hash-topic", "local"];

/**
 * With `dropPolicy: disconnect` and a durable store a client that subscribes to what it publishes can be ended again and
 * again: the end takes its PUBACK that waits for a commit along, so it publishes anew and its outbox is full anew.
 */
const avoidsOverflowLoop = true;

export function drawWeather(dice: Dice): Weather {
  const isDelayed = dice.chance(45);
  const receiveMax = dice.pick([1024, 1024, 3, 20]);
  const inflightCountMax = dice.pick([1, 2, 5, 1024, 1024]);
  const outboxCountMax = dice.pick([1_000_000, 1_000_000, 1_000_000, dice.between(2, 12)]);
  const drawnPolicy = dice.pick<DropPolicy>(["oldest", "newest", "disconnect"]);
  const dropPolicy = drawnPolicy === "disconnect" && isDelayed && avoidsOverflowLoop ? "oldest" : drawnPolicy;
  const expirySecMax = dice.pick([NO_LIMIT, NO_LIMIT, 20]);
  const retainedExpirySec = dice.pick([0, 0, 8]);
  const queueQos0 = dice.chance(20);
  const retrySec = dice.pick([0, 0, 0, 1]);
  return {
    clientCount: dice.between(3, 9),
    stepCount: dice.pick([120, 250, 400]),
    isDelayed,
    hasWills: dice.chance(70),
    breaks: dice.pick([0, 1, 1, 3]),
    stalls: dice.pick([0, 1, 4]),
    transfers: dice.pick([35, 70, 95]),
    commits: dice.pick([15, 50]),
    acts: dice.pick([20, 45, 70]),
    receiveMax,
    inflightCountMax,
    outboxCountMax,
    dropPolicy,
    expirySecMax,
    retainedExpirySec,
    queueQos0,
    retrySec,
    wraps: retrySec > 0 ? 0 : dice.pick([0, 0, 2]), // a retry is acknowledged twice: ids must not come back at once
    limits: {
      mqtt: { receiveMax, topicAliasMax: dice.pick([0, 3, 32]), retrySec },
      session: { inflightCountMax, outboxCountMax, dropPolicy, expirySecMax, queueQos0 },
      retained: { expirySec: retainedExpirySec, replayBatch: dice.pick([512, 1, 3]) },
      shared: { strategy: dice.pick(strategies) },
      cache: { matchCountMax: dice.pick([256, 65_536]) },
    },
  };
}

const NO_LIMIT = 0xffff_ffff;
