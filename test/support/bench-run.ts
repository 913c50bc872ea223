/** One small run of a part of a bench, for the tests of the benches. */
import { expect } from "bun:test";
import { find } from "#bench/compare/brokers.ts";
import { generatorOf } from "#bench/compare/generators.ts";
import { measure, type Run } from "#bench/compare/measure.ts";
import { scenarioOf } from "#bench/scenarios/catalog.ts";
import type { Part } from "#bench/scenarios/scenario.ts";

const TRIES = 3;

/** A busy machine makes a broker drop QoS 0, or stall: such a run has a fault and does not count, here as in the bench. */
export async function smallRun(
  scenarioName: string,
  partName: string,
  less: (part: Part) => Partial<Part>,
): Promise<Run> {
  const scenario = scenarioOf(scenarioName);
  const part = scenario.parts.find(({ name }) => name === partName)!;
  const place = { scenario, part: { ...part, ...less(part) }, broker: find("mantou")!, round: 1 };
  const options = { generator: generatorOf("own"), durationSec: 1, warmupSec: 0.3 };
  let run = await measure(place, options);
  for (let tries = 1; tries < TRIES && run.faults.length > 0; tries++) run = await measure(place, options);
  expect(run.faults).toEqual([]);
  return run;
}
