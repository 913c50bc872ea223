/**
 * Several nodes that are one broker, under crashes of nodes and cuts between them. MANTOU_CLUSTER_SEED=<seed> repeats one run, a
 * failure names its seed; with MANTOU_SIM_TRACE=1 the run prints every packet at the broker's edge.
 */
import { describe, expect, test } from "bun:test";
import { level, rounds } from "#test/support/level.ts";
import { clusterPlants } from "./cluster-plants.ts";
import { judgeEnd } from "./cluster-verdict.ts";
import { type ClusterPlant, ClusterWorld } from "./cluster-world.ts";
import { Violation } from "./model.ts";

const given = process.env["MANTOU_CLUSTER_SEED"];
const first = level === "long" ? Date.now() & 0x3fff_ffff : 1;

/** What the first run says that finds the planted bug, or undefined. A run in which it makes the broker fall is no find. */
function find(plant: ClusterPlant, seeds: number): string | undefined {
  for (let seed = 1; seed <= seeds; seed++) {
    try {
      run(seed, plant);
    } catch (error) {
      if (error instanceof Violation && !error.message.includes("bug:")) return error.message;
    }
  }
  return undefined;
}

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
      for (let seed = first; seed < first + rounds(20, 60, 600); seed++) {
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

  test("a run repeats to the byte", () => {
    const [a, b] = [run(5), run(5)];
    expect([b.digest, b.stepNo]).toEqual([a.digest, a.stepNo]);
    expect(run(6).digest).not.toBe(a.digest);
  });

  // Those that take longest come last; all of them from test:ci on.
  test.each(Object.entries(clusterPlants).slice(0, rounds(3, Infinity, Infinity)))(
    "finds: %s",
    (_, plant) => {
      expect(find(plant, 200)).toContain("MANTOU_CLUSTER_SEED=");
    },
    60_000,
  );
});
