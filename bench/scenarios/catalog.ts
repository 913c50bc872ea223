/** All scenarios by name, and `bun run bench scenario NAME`: one of them against our own broker, or another. */
import { parseArgs } from "node:util";
import { brokersOf } from "#bench/compare/brokers.ts";
import { generatorOf } from "#bench/compare/generators.ts";
import { describeMachine, machineText } from "#bench/compare/machine.ts";
import { type Recorded, rotate, summariesOf } from "#bench/compare/rotation.ts";
import { formatMetric, judge } from "#bench/compare/verdict.ts";
import { UsageError } from "#bench/load/options.ts";
import { access } from "./access.ts";
import { durable } from "./durable.ts";
import { guide } from "./guide.ts";
import { type MetricName, metricKinds, type Scenario } from "./scenario.ts";
import { sieges } from "./siege.ts";
import { stored } from "./stored.ts";
import { table } from "./table.ts";

export const scenarios: readonly Scenario[] = [...table, ...guide, ...durable, ...access, ...stored, ...sieges];

const FLAGS = {
  broker: { type: "string", default: "mantou" },
  generator: { type: "string", default: "own" },
  duration: { type: "string", default: "4" },
  warmup: { type: "string", default: "1" },
  json: { type: "boolean", default: false },
} as const;

/** Throws for a name that is none. */
export function scenarioOf(name: string): Scenario {
  const found = scenarios.find((scenario) => scenario.name === name);
  if (found === undefined) throw new UsageError(`there is no scenario ${name}\n\n${list()}`);
  return found;
}

function list(): string {
  return `Scenarios:\n${scenarios.map(({ name, title }) => `  ${name.padEnd(18)}${title}\n`).join("")}`;
}

export async function runScenario(args: readonly string[]): Promise<number> {
  const { values, positionals } = parseArgs({ args: [...args], options: FLAGS, strict: true, allowPositionals: true });
  if (positionals.length !== 1) {
    process.stdout.write(list());
    return positionals.length === 0 ? 0 : 2;
  }
  const scenario = scenarioOf(positionals[0]);
  const brokers = brokersOf(values.broker);
  const options = {
    rounds: 1,
    isOnce: true,
    scenarios: [
      {
        scenario,
        brokers,
      },
    ],
    generator: generatorOf(values.generator),
    durationSec: seconds("duration", values.duration),
    warmupSec: seconds("warmup", values.warmup),
  };
  const print = values.json
    ? (run: Recorded) => void process.stdout.write(`${JSON.stringify(run)}\n`)
    : (run: Recorded) => void process.stdout.write(runText(scenario, run));
  if (!values.json) process.stdout.write(`${scenario.title}\n${scenario.purpose}\n${machineText(describeMachine())}\n`);
  const runs = await rotate(options, print);
  if (!values.json) process.stdout.write(goalText(scenario, brokers[0].name, runs));
  return runs.some(({ faults }) => faults.length > 0) ? 1 : 0;
}

export function seconds(name: string, text: string): number {
  const value = Number(text);
  if (!(value >= 0 && value <= 600) || text === "") throw new UsageError(`--${name} ${text}: seconds, 0 to 600`);
  return value;
}

/** The scenario's figures, then how busy both sides were. */
function runText(scenario: Scenario, run: Recorded): string {
  const names: MetricName[] = [...scenario.shows, "brokerCpuPct", "generatorCpuPct", "otherCpuPct", "stealPct"];
  const lines = names
    .filter((name) => run.metrics[name] !== undefined)
    .map((name) => `  ${metricKinds[name].title.padEnd(40)}${formatMetric(name, run.metrics[name]!).padStart(12)}\n`);
  const faults = run.faults.map((fault) => `  does not count: ${fault}\n`);
  const head = scenario.parts.length > 1 ? `${run.broker}, ${run.part}` : run.broker;
  return `\n${head}\n${lines.join("")}${faults.join("")}`;
}

function goalText(scenario: Scenario, broker: string, runs: readonly Recorded[]): string {
  const verdicts = judge(scenario, broker, summariesOf(runs, scenario));
  return verdicts.map(({ goal, state, text }) => `\ngoal: ${goal}: ${state}, ${text}\n`).join("");
}
