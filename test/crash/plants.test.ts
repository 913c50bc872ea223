// Bugs planted into copies of the source: the harness finds each, so it would find them in the source.

import { expect, test } from "bun:test";
import { Dice } from "#test/simulation/weather.ts";
import { level } from "#test/support/level.ts";
import { crash } from "./campaign.ts";
import { shimMissing } from "./disk-shim.ts";
import { type Plant, copySource, edited, PLANTS, SMALL_LIMITS } from "./plants.ts";
import { ShimHooks } from "./shim-hooks.ts";

const RUNS_MAX = level === "long" ? 40 : 8;
const RUN_MS = 20_000;
const ROUND_COUNT = 4;
const plants = level === "long" ? PLANTS : level === "ci" ? PLANTS.filter(({ isQuick }) => isQuick) : [];

/** The first run that shows it as it should; undefined when none does. */
async function find(plant: Plant): Promise<number | undefined> {
  const root = copySource([plant]);
  const { isPower, syncMs = 0, shows, kind } = plant;
  const options = { roundCount: ROUND_COUNT, ...(kind === undefined ? {} : { kind }) };
  for (let seed = 1; seed <= RUNS_MAX; seed++) {
    const hooks = isPower || syncMs > 0 ? new ShimHooks({ syncMs, ...(isPower ? { cuts: new Dice(seed) } : {}) }) : {};
    const { violations } = await crash(seed, options, { spec: { root }, hooks, silenceMs: 1000 });
    if (violations.some(({ kind }) => shows.includes(kind))) return seed;
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

test.each([...PLANTS, ...SMALL_LIMITS].map((edit) => [edit.replace, edit] as const))(
  "the place of %j is in the source",
  (replace, edit) => {
    expect(edited(edit)).toContain(replace);
    expect(() => edited({ ...edit, find: "this text is nowhere" })).toThrow("0 times");
  },
);
