/** The conditions of one cluster run: those of a crash run, and how many nodes there are and how bad it is between them. */
import { type CrashWeather, drawCrashWeather } from "./crash-weather.ts";
import type { Dice } from "./weather.ts";

export interface ClusterWeather extends CrashWeather {
  readonly nodeCount: number;
  /** Percent of steps and connections between nodes. */
  readonly cuts: number;
}

export function drawClusterWeather(dice: Dice): ClusterWeather {
  const drawn = drawCrashWeather(dice);
  const { session, ...limits } = drawn.limits;
  return {
    ...drawn,
    // What a node drops for want of room it drops for whole other nodes.
    isCrowded: false,
    hasFewPlaces: false,
    failures: 0,
    limits: { ...limits, messages: {}, session: { ...session, outboxCountMax: 1_000_000 } },
    nodeCount: dice.between(2, 4),
    clientCount: dice.between(3, 8),
    crashes: dice.pick([0, 0.5, 1, 2]),
    cuts: dice.pick([0, 1, 3]),
  };
}
