/**
 * `bun run bench quick`: what this machine gives a newcomer, in less than two minutes: our broker, and mosquitto when it
 * is installed, in four scenarios, with what was the limit in each.
 */
import { parseArgs } from "node:util";
import { scenarioOf } from "#bench/scenarios/catalog.ts";
import type { MetricName, Scenario } from "#bench/scenarios/scenario.ts";
import { type Broker, find } from "./compare/brokers.ts";
import { generatorOf } from "./compare/generators.ts";
import { describeMachine, machineText } from "./compare/machine.ts";
import { rotate, summariesOf } from "./compare/rotation.ts";
import type { Summary } from "./compare/statistics.ts";
import { formatMetric } from "./compare/verdict.ts";

const SCENARIOS = ["pair", "fanout", "pair-qos1", "rtt-qos0"];
const ROUNDS = 2;
const DURATION_SEC = 3;
const WARMUP_SEC = 1;
/** Of a core, in per cent: more is all of it. */
const BUSY_MIN = 90;
const OTHER_MAX = 15;

export async function runQuick(args: readonly string[]): Promise<number> {
  const options = { generator: { type: "string", default: "own" } } as const;
  const { values } = parseArgs({ args: [...args], options, strict: true });
  const brokers = ["mantou", "mosquitto"].map(find).filter((broker) => broker !== undefined);
  const scenarios = SCENARIOS.map(scenarioOf);
  process.stdout.write(`${machineText(describeMachine())}\n${versionText(brokers)}`);
  process.stderr.write(
    `about ${Math.ceil(ROUNDS * SCENARIOS.length * brokers.length * (DURATION_SEC + WARMUP_SEC + 1.6))} s …\n`,
  );
  const runs = await rotate(
    {
      rounds: ROUNDS,
      isOnce: true,
      generator: generatorOf(values.generator),
      durationSec: DURATION_SEC,
      warmupSec: WARMUP_SEC,
      scenarios: scenarios.map((scenario) => ({
        scenario,
        brokers,
      })),
    },
    () => process.stderr.write("."),
  );
  process.stderr.write("\n");
  process.stdout.write(`\n${line(["", "broker", "messages/s", "CPU a message", "p50", "limit"])}`);
  for (const scenario of scenarios) {
    const summaries = summariesOf(runs, scenario);
    for (const { name } of brokers) {
      const faults = runs.flatMap((run) => (run.broker === name && run.scenario === scenario.name ? run.faults : []));
      const summary = summaries.get(name)?.get("run");
      const cells = summary === undefined ? ["does not count", "", "", faults.join("; ")] : cellsOf(scenario, summary);
      process.stdout.write(line([name === brokers[0].name ? scenario.title : "", name, ...cells]));
    }
  }
  process.stdout.write(`\n${scenarios.map(({ title, purpose }) => `${title}: ${purpose}\n`).join("")}${CLOSING}`);
  return runs.some(({ faults }) => faults.length > 0) ? 1 : 0;
}

const CLOSING = `
One broker at a time, on one core; ${ROUNDS} runs each, medians. With spreads, goals and pictures: bun run bench compare
`;

function versionText(brokers: readonly Broker[]): string {
  const texts = brokers.map(({ name, version }) => `${name} ${version}`);
  const missing = brokers.some(({ name }) => name === "mosquitto") ? "" : "; mosquitto is not installed";
  return `${texts.join("; ")}${missing}\n`;
}

const widths = [24, 11, 14, 15, 10, 0];

function line(cells: readonly string[]): string {
  return `${cells
    .map((cell, i) => cell.padEnd(widths[i]))
    .join("")
    .trimEnd()}\n`;
}

/** Latency is one only where a message waits for nothing but itself. */
function cellsOf(scenario: Scenario, summary: Summary): string[] {
  const text = (name: MetricName): string =>
    summary[name] === undefined ? "" : formatMetric(name, summary[name].median);
  const latency = scenario.shows.includes("p50Us") ? text("p50Us") : "";
  return [text("messagesPerSec"), text("brokerUsPerMessage"), latency, limitOf(summary)];
}

/** What kept the figure from being higher, as far as CPU times tell. */
export function limitOf(summary: Summary): string {
  const pct = (name: "brokerCpuPct" | "generatorCpuPct" | "otherCpuPct"): number => summary[name]?.median ?? 0;
  const [broker, generator, other] = [pct("brokerCpuPct"), pct("generatorCpuPct"), pct("otherCpuPct")];
  const shares = `(broker ${broker.toFixed(0)} %, generator ${generator.toFixed(0)} % of a core)`;
  if (other > OTHER_MAX)
    return `other programs, which used ${other.toFixed(0)} % of a core: not the true figure ${shares}`;
  if (generator > BUSY_MIN && broker > BUSY_MIN) return `both sides ${shares}`;
  if (broker > BUSY_MIN) return `the broker's core ${shares}`;
  if (generator > BUSY_MIN) return `the generator, the broker can do more ${shares}`;
  return `waiting for each other, not CPU ${shares}`;
}
