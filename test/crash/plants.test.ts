// Bugs planted into copies of the source: the harness finds each, so it would find them in the source.

import { expect, test } from "bun:test";
import { Dice } from "#test/simulation/weather.ts";
import { level } from "#test/support/level.ts";
import { crash } from "./campaign.ts";
import { shimMissing } from "./disk-shim.ts";
import { type Plant, copySource, edited, PLANTS, SMALL_LIMITS } from "./plants.ts";
import { ShimHooks } from "./shim-hooks.ts";
import type { Verdict } from "./world.ts";

const RUNS_MAX = level === "long" ? 40 : 8;
const RUN_MS = 20_000;
const ROUND_COUNT = 4;
const CONTROL_RUNS = 5;
const plants = level === "long" ? PLANTS : level === "ci" ? PLANTS.filter(({ isQuick }) => isQuick) : [];

type Settings = Pick<Plant, "isPower" | "syncMs" | "kind">;

function run(root: string, seed: number, { isPower, syncMs = 0, kind }: Settings): Promise<Verdict> {
  const options = { roundCount: ROUND_COUNT, ...(kind === undefined ? {} : { kind }) };
  const hooks = isPower || syncMs > 0 ? new ShimHooks({ syncMs, ...(isPower ? { cuts: new Dice(seed) } : {}) }) : {};
  return crash(seed, options, { spec: { root }, hooks, silenceMs: 1000 });
}

/** The first run that shows it as it should; undefined when none does. */
async function find(plant: Plant): Promise<number | undefined> {
  const root = copySource([plant]);
  for (let seed = 1; seed <= RUNS_MAX; seed++) {
    const { violations } = await run(root, seed, plant);
    if (violations.some(({ kind }) => plant.shows.includes(kind))) return seed;
  }
  return undefined;
}

for (const plant of plants) {
  test.skipIf(plant.isPower && shimMissing() !== undefined)(
    `a broker that ${plant.name} is found out`,
    async () => {
      const seed = await find(plant);
      expect(seed).toBeDefined();
    },
    RUNS_MAX * RUN_MS,
  );
}

// Else a plant might be found for what the settings alone do.
test.skipIf(level !== "long" || shimMissing() !== undefined)(
  "the source without a plant is clean under the settings of each (test:long)",
  async () => {
    const root = copySource([]);
    const settings = new Map(PLANTS.map((plant) => [`${plant.isPower} ${plant.syncMs} ${plant.kind}`, plant]));
    for (const each of settings.values()) {
      for (let seed = 1; seed <= CONTROL_RUNS; seed++) expect((await run(root, seed, each)).report).toBe("");
    }
  },
  4 * CONTROL_RUNS * RUN_MS,
);

test.each([...PLANTS, ...SMALL_LIMITS].map((edit) => [edit.replace, edit] as const))(
  "the place of %j is in the source",
  (replace, edit) => {
    expect(edited(edit)).toContain(replace);
    expect(() => edited({ ...edit, find: "this text is nowhere" })).toThrow("0 times");
  },
);
