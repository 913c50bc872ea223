// The power is cut: what was not synced is gone, in whole or in parts, and everything that was acknowledged is still there.

import { expect, test } from "bun:test";
import { Dice } from "#test/simulation/weather.ts";
import { level, rounds } from "#test/support/level.ts";
import { crash, seeds, survive } from "./campaign.ts";
import { shimMissing } from "./disk-shim.ts";
import { rootOf } from "./plants.ts";
import { ShimHooks } from "./shim-hooks.ts";
import type { Verdict } from "./world.ts";

const RUN_MS = 40_000;
const runCount = rounds(1, 4, 30);
const roundCount = rounds(2, 4, 5);
const why = shimMissing();

function cut(seed: number, sync: string): Promise<Verdict> {
  const spec = { root: rootOf(seed), flags: ["--set", `store.sync=${sync}`] };
  const silenceMs = sync === "full" ? undefined : 1000;
  const dice = new Dice(seed);
  const hooks = new ShimHooks({ cuts: dice, syncMs: dice.pick([0, 0, 5, 25]) });
  return crash(seed, { roundCount }, { spec, hooks, ...(silenceMs === undefined ? {} : { silenceMs }) });
}

test.skipIf(why !== undefined)(
  `after a power cut nothing acknowledged is lost (${runCount} × ${roundCount} cuts; ${why ?? "with the shim"})`,
  () => survive(seeds(runCount), (seed) => cut(seed, "full")),
  runCount * RUN_MS,
);

test.skipIf(why !== undefined)(
  `a broker that does not wait for the disk is caught by a power cut (${why ?? "store.sync=off and normal"})`,
  async () => {
    for (const sync of level === "fast" ? ["off"] : ["off", "normal"]) {
      const verdicts = await Promise.all([cut(1, sync), cut(2, sync)]);
      const kinds = verdicts.flatMap(({ violations }) => violations.map(({ kind }) => kind));
      expect(kinds.some((kind) => kind === "lost" || kind === "session" || kind === "retained")).toBe(true);
    }
  },
  4 * RUN_MS,
);
