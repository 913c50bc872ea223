/**
 * Many clients against the engine on a fake clock and a bad network. MANTOU_SIM_SEED=<seed> repeats one run, a failure
 * names its seed; with MANTOU_SIM_TRACE=1 the run prints every packet at the broker's edge.
 */
import { describe, expect, test } from "bun:test";
import { level, rounds } from "#test/support/level.ts";
import { Violation } from "./model.ts";
import { plants } from "./plants.ts";
import { type Plant, World } from "./world.ts";

const given = process.env["MANTOU_SIM_SEED"];
/** Fixed, so that `bun run test` does not depend on chance; the long run goes where none has gone. */
const first = level === "long" ? Date.now() & 0x3fff_ffff : 1;

function run(seed: number): World {
  const world = new World(seed);
  if (process.env["MANTOU_SIM_TRACE"] !== undefined) world.trace = (line) => process.stdout.write(`${line}\n`);
  world.run();
  return world;
}

/** What the first run says that finds the planted bug, or undefined. */
function find(plant: Plant, seeds: number): string | undefined {
  for (let seed = 1; seed <= seeds; seed++) {
    const undo: (() => void)[] = [];
    try {
      new World(seed, (engine) => void undo.push(plant(engine) ?? (() => {}))).run();
    } catch (error) {
      if (error instanceof Violation) return error.message;
      throw error;
    } finally {
      for (const each of undo) each();
    }
  }
  return undefined;
}

describe("simulation", () => {
  test(
    "whatever happens, the broker keeps its promises",
    () => {
      if (given !== undefined) return void run(Number(given));
      for (let seed = first; seed < first + rounds(60, 500, 1500); seed++) run(seed);
    },
    rounds(60_000, 180_000, 3_600_000),
  );

  test("a run repeats to the byte", () => {
    const [a, b] = [run(5), run(5)];
    expect([b.digest, b.stepNo]).toEqual([a.digest, a.stepNo]);
    expect(run(6).digest).not.toBe(a.digest);
  });

  test.each(Object.entries(plants))("finds: %s", (_, plant) => {
    const found = find(plant, 150);
    expect(found).toContain("MANTOU_SIM_SEED=");
    expect(found).not.toContain("bug:"); // a crash would be found by anything
  });
});
