/** A comparison as data: what the JSON lines hold, and what both reports are made of. */
import { type MetricName, metricKinds, type Scenario } from "#bench/scenarios/scenario.ts";
import type { Machine } from "./machine.ts";
import { type Recorded, summariesOf } from "./rotation.ts";
import type { Summary } from "./statistics.ts";
import { formatMetric, judge, type Verdict } from "./verdict.ts";

export interface Head {
  readonly type: "compare";
  readonly startedAt: string;
  readonly machine: Machine;
  readonly brokers: readonly { readonly name: string; readonly version: string; readonly isOwn: boolean }[];
  readonly generator: string;
  readonly rounds: number;
  readonly durationSec: number;
  readonly warmupSec: number;
  readonly scenarios: readonly string[];
}

export interface ReportData {
  readonly head: Head;
  readonly runs: readonly Recorded[];
}

/** One broker in one part of a scenario. */
export interface Row {
  readonly broker: string;
  readonly part: string;
  /** Undefined when no run counts. */
  readonly summary: Summary | undefined;
  readonly runCount: number;
  readonly failedCount: number;
  readonly disturbedCount: number;
  /** Of the runs that do not count, each once. */
  readonly faults: readonly string[];
}

export interface Section {
  readonly scenario: Scenario;
  readonly rows: readonly Row[];
  readonly verdicts: readonly Verdict[];
}

/** One figure of all brokers: the table that answers a goal at a glance. */
export interface OverviewRow {
  readonly scenario: Scenario;
  readonly part: string;
  readonly metric: MetricName;
  /** By broker, in the order of the head; undefined for one that was not to run it. */
  readonly cells: readonly (OverviewCell | undefined)[];
}

export interface OverviewCell {
  /** Undefined when no run counts. */
  readonly summary: Summary | undefined;
  readonly isBest: boolean;
}

/** A row for each figure that a goal looks at, or for a scenario's first. */
export function overviewOf(sections: readonly Section[], head: Head): OverviewRow[] {
  return sections.flatMap(({ scenario, rows }) =>
    figuresOf(scenario).flatMap(({ part, metric }) => {
      const own = rows.filter((row) => row.part === part);
      const values = own.map(({ summary }) => summary?.[metric]?.median).filter((value) => value !== undefined);
      if (values.length === 0) return [];
      const best = metricKinds[metric].isLowBetter ? Math.min(...values) : Math.max(...values);
      const cells = head.brokers.map(({ name }) => {
        const row = own.find(({ broker }) => broker === name);
        if (row === undefined) return undefined;
        return { summary: row.summary, isBest: values.length > 1 && row.summary?.[metric]?.median === best };
      });
      return [{ scenario, part, metric, cells }];
    }),
  );
}

/** Those of the goals and of the parts that they are compared with, each once. */
function figuresOf({ goals, parts, shows }: Scenario): { part: string; metric: MetricName }[] {
  const found = new Map<string, { part: string; metric: MetricName }>();
  const add = (part: string, metric: MetricName): void => void found.set(`${part} ${metric}`, { part, metric });
  for (const { part, metric, reference } of goals) {
    const shown = metric === "speed" ? "messagesPerSec" : metric;
    if (reference.kind === "part") add(reference.part, shown);
    add(part, shown);
  }
  if (goals.length === 0) add(parts[0].name, shows[0]);
  return [...found.values()];
}

/** What else a cell says: CPU per message beside a rate, then how busy both sides were. */
export function cellNotes({ summary }: OverviewCell, metric: MetricName): string[] {
  const { brokerUsPerMessage: cpu, brokerCpuPct: broker, generatorCpuPct: generator } = summary ?? {};
  return [
    metric === "messagesPerSec" && cpu !== undefined
      ? `${formatMetric("brokerUsPerMessage", cpu.median)} CPU each`
      : "",
    broker === undefined ? "" : `broker ${broker.median.toFixed(0)} %`,
    generator === undefined ? "" : `generator ${generator.median.toFixed(0)} %`,
  ].filter(Boolean);
}

/** Lines that are neither head nor run are results, which are made again. */
export function parseLines(text: string): ReportData {
  const lines = text.split("\n").filter((line) => line !== "");
  const parsed = lines.map((line) => JSON.parse(line) as { type: string });
  const head = parsed.find((line): line is Head => line.type === "compare");
  if (head === undefined) throw new Error("no line of type compare");
  return { head, runs: parsed.filter((line): line is Recorded & { type: "run" } => line.type === "run") };
}

/** In the order of the head; scenarios without a run yet are left out. */
export function sectionsOf({ head, runs }: ReportData, scenarios: readonly Scenario[]): Section[] {
  const sections: Section[] = [];
  for (const name of head.scenarios) {
    const scenario = scenarios.find((candidate) => candidate.name === name);
    const own = runs.filter((run) => run.scenario === name && run.isKept);
    if (scenario === undefined || own.length === 0) continue;
    const summaries = summariesOf(own, scenario);
    const rows = scenario.parts.flatMap((part) =>
      head.brokers.flatMap(({ name: broker }) => {
        const mine = own.filter((run) => run.part === part.name && run.broker === broker);
        return mine.length === 0 ? [] : [rowOf(mine, summaries.get(broker)?.get(part.name))];
      }),
    );
    const verdicts = head.brokers
      .filter(({ isOwn, name: broker }) => isOwn && own.some((run) => run.broker === broker))
      .flatMap(({ name: broker }) => judge(scenario, broker, summaries));
    sections.push({ scenario, rows, verdicts });
  }
  return sections;
}

function rowOf(runs: readonly Recorded[], summary: Summary | undefined): Row {
  const failed = runs.filter(({ faults }) => faults.length > 0);
  return {
    broker: runs[0].broker,
    part: runs[0].part,
    summary,
    runCount: runs.length,
    failedCount: failed.length,
    disturbedCount: runs.filter(({ isDisturbed }) => isDisturbed).length,
    faults: [...new Set(failed.flatMap(({ faults }) => faults))],
  };
}
