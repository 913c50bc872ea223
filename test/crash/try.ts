/**
 * Runs of the harness from a shell: `bun test/crash/try.ts MODE SEED [COUNT [ROUNDS]]`, MODE one of the keys below.
 * ROOT=DIR runs the broker of another source tree.
 */
import { Dice } from "#test/simulation/weather.ts";
import { crash } from "./campaign.ts";
import { rootOf } from "./plants.ts";
import { ShimHooks } from "./shim-hooks.ts";

const MODES = ["kill", "power", "power-off", "power-normal"];

const [mode = "", first = "1", count = "1", roundCount = "4"] = process.argv.slice(2);
if (!MODES.includes(mode))
  throw new Error(`bun test/crash/try.ts MODE SEED [COUNT [ROUNDS]], MODE one of ${MODES.join(", ")}`);

const given = process.env["ROOT"];
const sync = mode.split("-")[1] ?? "full";
for (let seed = Number(first); seed < Number(first) + Number(count); seed++) {
  const startMs = performance.now();
  const spec = { root: given ?? rootOf(seed), flags: ["--set", `store.sync=${sync}`] };
  const dice = new Dice(seed);
  const hooks = mode === "kill" ? {} : new ShimHooks({ cuts: dice, syncMs: dice.pick([0, 0, 5, 25]) });
  const { history, violations, report } = await crash(seed, { roundCount: Number(roundCount) }, { spec, hooks });
  const tookMs = Math.round(performance.now() - startMs);
  const { messages, events } = history;
  console.log(
    `${seed}: ${tookMs} ms, ${messages.size} messages, ${events.length} events, ${violations.length} violations`,
  );
  if (report !== "") console.log(`${report}\n`);
}
