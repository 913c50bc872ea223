/**
 * `bun run bench compare`: brokers, or commits of this repository, side by side. Interleaved rounds on pinned cores,
 * medians with their spread, ratios, and a verdict for each goal; raw runs as JSON lines, reports as Markdown and HTML.
 */
import { appendFileSync, mkdirSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { parseArgs } from "node:util";
import { UsageError } from "#bench/load/options.ts";
import { scenarioOf, scenarios, seconds } from "#bench/scenarios/catalog.ts";
import { access } from "#bench/scenarios/access.ts";
import { durable } from "#bench/scenarios/durable.ts";
import { guide } from "#bench/scenarios/guide.ts";
import type { Scenario } from "#bench/scenarios/scenario.ts";
import { table } from "#bench/scenarios/table.ts";
import { type Broker, brokersOf, find, knownBrokers } from "./compare/brokers.ts";
import { checkOut } from "./compare/commits.ts";
import { generatorOf } from "./compare/generators.ts";
import { describeMachine, machineText } from "./compare/machine.ts";
import { type Head, parseLines, type ReportData, sectionsOf } from "./compare/report-data.ts";
import { renderHtml } from "./compare/report-html.ts";
import { renderMarkdown } from "./compare/report-markdown.ts";
import { places, type PlannedScenario, type Recorded, rotate, type RotationOptions } from "./compare/rotation.ts";
import { formatMetric } from "./compare/verdict.ts";

const FLAGS = {
  brokers: { type: "string", multiple: true },
  commits: { type: "string" },
  rounds: { type: "string", default: "3" },
  out: { type: "string" },
  generator: { type: "string", default: "own" },
  duration: { type: "string", default: "3" },
  warmup: { type: "string", default: "1" },
  once: { type: "boolean", default: false },
} as const;

const ROUNDS_MAX = 100;
const groups: Readonly<Record<string, readonly Scenario[]>> = { goals: table, guide, durable, access, all: scenarios };
/** Start, connect, settle, last messages and stop, around what is measured. */
const AROUND_SEC = 1.6;

export async function runCompare(args: readonly string[]): Promise<number> {
  const { values, positionals } = parseArgs({ args: [...args], options: FLAGS, strict: true, allowPositionals: true });
  const rounds = Number(values.rounds);
  if (!Number.isInteger(rounds) || rounds < 1 || rounds > ROUNDS_MAX) throw new UsageError(`--rounds ${values.rounds}`);
  if (values.brokers !== undefined && values.commits !== undefined)
    throw new UsageError("--brokers or --commits, not both");
  const generator = generatorOf(values.generator);
  const out = resolve(values.out ?? join("dist/bench", new Date().toISOString().slice(0, 19).replace(/[:T]/g, "-")));
  const commits = values.commits === undefined ? undefined : checkOut(values.commits.split(","));
  process.on("exit", () => commits?.remove());
  const brokers = commits?.brokers ?? brokersFor(values.brokers);
  const options: RotationOptions = {
    rounds,
    generator,
    isOnce: values.once,
    scenarios: planned(positionals, brokers),
    durationSec: seconds("duration", values.duration),
    warmupSec: seconds("warmup", values.warmup),
  };
  return compare(options, brokers, out);
}

function brokersFor(texts: readonly string[] | undefined): Broker[] {
  const brokers =
    texts === undefined
      ? knownBrokers.map(find).filter((broker) => broker !== undefined)
      : texts.flatMap((text) => brokersOf(text));
  const names = brokers.map(({ name }) => name);
  const twice = names.find((name, i) => names.indexOf(name) !== i);
  if (twice !== undefined) throw new UsageError(`--brokers has ${twice} twice`);
  return brokers;
}

/** What a group brings for our own broker only, peers run too when it is named. */
function planned(names: readonly string[], brokers: readonly Broker[]): PlannedScenario[] {
  const wanted = new Map<string, PlannedScenario>();
  for (const name of names.length === 0 ? ["goals"] : names) {
    const group = Object.hasOwn(groups, name) ? groups[name] : undefined;
    for (const scenario of group ?? [scenarioOf(name)]) {
      const own = brokers.filter(({ isOwn }) => isOwn);
      const runners = group !== undefined && scenario.isOwnOnly === true ? own : brokers;
      if (runners.length > 0 && (group === undefined || !wanted.has(scenario.name)))
        wanted.set(scenario.name, { scenario, brokers: runners });
    }
  }
  return [...wanted.values()];
}

async function compare(options: RotationOptions, brokers: readonly Broker[], out: string): Promise<number> {
  const head: Head = {
    type: "compare",
    startedAt: new Date().toISOString(),
    machine: describeMachine(),
    brokers: brokers.map(({ name, version, isOwn }) => ({ name, version, isOwn })),
    generator: options.generator.name,
    rounds: options.rounds,
    durationSec: options.durationSec,
    warmupSec: options.warmupSec,
    scenarios: options.scenarios.map(({ scenario }) => scenario.name),
  };
  mkdirSync(out, { recursive: true });
  const file = join(out, "runs.jsonl");
  writeFileSync(file, `${JSON.stringify(head)}\n`);
  const all = places(options);
  const total = all.length;
  const eachSec = options.durationSec + options.warmupSec + AROUND_SEC;
  const minutes = all.reduce((sum, { part }) => sum + eachSec + (part.aroundSec ?? 0), 0) / 60;
  process.stderr.write(`${machineText(head.machine)}\n${total} runs, about ${Math.ceil(minutes)} minutes\n`);

  let count = 0;
  const runs = await rotate(options, (run) => {
    appendFileSync(file, `${JSON.stringify({ type: "run", ...run })}\n`);
    if (run.isKept) count++;
    process.stderr.write(`[${count}/${total}] ${progressText(run)}\n`);
  });
  writeReports({ head, runs }, out);
  process.stderr.write(`\n${file}\n${join(out, "report.md")}\n${join(out, "report.html")}\n`);
  return runs.some(({ isKept, faults }) => isKept && faults.length > 0) ? 1 : 0;
}

function progressText(run: Recorded): string {
  const { messagesPerSec, acknowledgedPerSec, brokerUsPerMessage, p50Us, connectsPerSec, lastMessageUs } = run.metrics;
  const figures = [
    messagesPerSec === undefined ? "" : formatMetric("messagesPerSec", messagesPerSec),
    acknowledgedPerSec === undefined ? "" : `${formatMetric("acknowledgedPerSec", acknowledgedPerSec)} acknowledged`,
    lastMessageUs === undefined ? "" : `served again after ${formatMetric("lastMessageUs", lastMessageUs)}`,
    brokerUsPerMessage === undefined ? "" : `${formatMetric("brokerUsPerMessage", brokerUsPerMessage)} CPU`,
    connectsPerSec === undefined ? "" : `${formatMetric("connectsPerSec", connectsPerSec)} connects`,
    p50Us === undefined ? "" : `p50 ${formatMetric("p50Us", p50Us)}`,
    run.isDisturbed ? `disturbed, others used ${run.metrics.otherCpuPct?.toFixed(0)} % of a core` : "",
    run.isKept ? "" : "not kept",
    ...run.faults.map((fault) => `does not count: ${fault}`),
  ];
  const what = `${run.scenario}${run.part === "run" ? "" : ` (${run.part})`}, ${run.broker}, round ${run.round}`;
  return `${what}: ${figures.filter(Boolean).join(", ")}`;
}

function writeReports(data: ReportData, out: string): void {
  const sections = sectionsOf(data, scenarios);
  for (const { scenario, rows, verdicts } of sections) {
    const summaries = rows.map((row) => ({ type: "summary", scenario: scenario.name, ...row }));
    const lines = [...summaries, ...verdicts.map((verdict) => ({ type: "verdict", ...verdict }))];
    appendFileSync(join(out, "runs.jsonl"), lines.map((line) => `${JSON.stringify(line)}\n`).join(""));
  }
  const markdown = renderMarkdown(data.head, sections);
  writeFileSync(join(out, "report.md"), markdown);
  writeFileSync(join(out, "report.html"), renderHtml(data.head, sections));
  process.stdout.write(markdown);
}

/** `bun run bench report DIR`: the reports once more, from the runs of a comparison, finished or not. */
export async function runReport(args: readonly string[]): Promise<number> {
  const { positionals } = parseArgs({ args: [...args], options: {}, strict: true, allowPositionals: true });
  if (positionals.length !== 1) throw new UsageError("report DIR: the folder of a comparison");
  const data = parseLines(await Bun.file(join(positionals[0], "runs.jsonl")).text());
  const sections = sectionsOf(data, scenarios);
  writeFileSync(join(positionals[0], "report.md"), renderMarkdown(data.head, sections));
  writeFileSync(join(positionals[0], "report.html"), renderHtml(data.head, sections));
  return 0;
}
