/**
 * Several nodes that are one broker, under crashes of nodes and cuts between them. MANTOU_CLUSTER_SEED=<seed> repeats one run, a
 * failure names its seed; with MANTOU_SIM_TRACE=1 the run prints every packet at the broker's edge.
 */
import { describe, expect, test } from "bun:test";
import { level, rounds } from "#test/support/level.ts";
import { judgeEnd } from "./cluster-verdict.ts";
import { type ClusterPlant, ClusterWorld } from "./cluster-world.ts";

const given = process.env["MANTOU_CLUSTER_SEED"];
const first = level === "long" ? Date.now() & 0x3fff_ffff : 1;

function run(seed: number, plant?: ClusterPlant): ClusterWorld {
  const world = new ClusterWorld(seed, plant);
  world.finish = judgeEnd;
  if (process.env["MANTOU_SIM_TRACE"] !== undefined) world.trace = (line) => process.stdout.write(`${line}\n`);
  world.run();
  return world;
}

describe("a cluster", () => {
  test(
    "what was acknowledged arrives on whatever node",
    () => {
      if (given !== undefined) return void run(Number(given));
      let promised = 0;
      let crashes = 0;
      let cuts = 0;
      for (let seed = first; seed < first + rounds(20, 60, 8000); seed++) {
        const world = run(seed);
        promised += world.ledger.promisedCount;
        crashes += world.crashCount;
        cuts += world.cutCount;
      }
      // Runs in which nothing was promised, or nothing failed, would show nothing.
      expect([promised > 1000, crashes > 50, cuts > 50]).toEqual([true, true, true]);
    },
    rounds(60_000, 180_000, 3_600_000),
  );
});
