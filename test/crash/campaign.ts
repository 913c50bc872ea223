/** Runs of a test: which seeds, and how a failing one is told. */
import { level } from "#test/support/level.ts";
import { drawPlan, type PlanOptions } from "./script.ts";
import { runPlan, type RunOptions, type Verdict } from "./world.ts";

const given = process.env["MANTOU_CRASH_SEED"];

/** MANTOU_CRASH_SEED=<seed> makes each test run just that seed. The night's seeds are new each time. */
export function seeds(count: number): number[] {
  if (given !== undefined) return [Number(given)];
  const first = level === "long" ? Math.floor(Date.now() / 1000) % 1_000_000 : 1;
  return Array.from({ length: count }, (_, i) => first + i);
}

export function crash(seed: number, plan: PlanOptions, options: Omit<RunOptions, "plan">): Promise<Verdict> {
  return runPlan({ ...options, plan: drawPlan(seed, plan) });
}

/** Two at a time. Throws with the report of the first run whose broker broke a promise. */
export async function survive(list: readonly number[], run: (seed: number) => Promise<Verdict>): Promise<void> {
  const left = [...list];
  const failures: string[] = [];
  const work = async (): Promise<void> => {
    for (let seed = left.shift(); seed !== undefined && failures.length === 0; seed = left.shift()) {
      const { report } = await run(seed);
      if (report !== "") failures.push(`MANTOU_CRASH_SEED=${seed} repeats this run as far as time allows\n${report}`);
    }
  };
  await Promise.all([work(), work()]);
  if (failures.length > 0) throw new Error(failures.join("\n\n"));
}
