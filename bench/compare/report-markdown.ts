/** The report as Markdown: goals first, then a table for each scenario. */
import { type MetricName, metricKinds } from "#bench/scenarios/scenario.ts";
import { machineText } from "./machine.ts";
import { cellNotes, type Head, overviewOf, type Row, type Section } from "./report-data.ts";
import { type Spread } from "./statistics.ts";
import { formatMetric, times, type Verdict } from "./verdict.ts";

export function renderMarkdown(head: Head, sections: readonly Section[]): string {
  return [
    `# ${cell(head.brokers.map(({ name }) => name).join(", "))}`,
    "",
    cell(`${head.startedAt.slice(0, 10)}; ${machineText(head.machine)}.`),
    "",
    ...head.brokers.map(({ name, version }) => `- ${cell(`${name}: ${version}`)}`),
    "",
    methodText(head),
    "",
    ...goalLines(sections),
    ...overviewLines(sections, head),
    ...sections.flatMap((section) => sectionLines(section, head)),
  ].join("\n");
}

export function methodText({ rounds, durationSec, warmupSec, generator }: Head): string {
  const runs = rounds === 1 ? "One round" : `Medians of ${rounds} rounds, brokers in turn`;
  const load = generator === "own" ? "our own generator" : generator;
  return (
    `${runs}; each run ${durationSec} s after ${warmupSec} s of warm-up against a broker started afresh; load by ${load}. ` +
    "In parentheses the smallest and largest run. Runs with loss, duplicates, reordering or lost connections do not count. " +
    "Where the generator used more than 90 % of its core, brokers are compared by CPU per message."
  );
}

function goalLines(sections: readonly Section[]): string[] {
  const verdicts = sections.flatMap(({ scenario, verdicts: own }) => own.map((verdict) => ({ scenario, verdict })));
  if (verdicts.length === 0) return [];
  const rows = verdicts.map(({ scenario, verdict }) => [
    cell(scenario.title),
    cell(`${verdict.goal}${verdict.broker === "mantou" ? "" : ` (${verdict.broker})`}`),
    stateText(verdict),
    cell(verdict.text),
  ]);
  return ["## Goals", "", ...table(["scenario", "goal", "", "measured"], rows), ""];
}

function overviewLines(sections: readonly Section[], head: Head): string[] {
  const rows = overviewOf(sections, head).map(({ scenario, part, metric, cells }) => [
    cell(`${scenario.title}${scenario.parts.length > 1 ? `, ${part}` : ""}`),
    metricKinds[metric].title,
    ...cells.map((one) => {
      if (one === undefined) return "";
      const spread = one.summary?.[metric];
      if (spread === undefined) return "does not count";
      const text = formatMetric(metric, spread.median);
      return [one.isBest ? `**${text}**` : text, ...cellNotes(one, metric)].join("; ");
    }),
  ]);
  if (rows.length === 0) return [];
  const heads = ["scenario", "figure", ...head.brokers.map(({ name }) => name)];
  return ["## Side by side", "", "Percentages are of one core.", "", ...table(heads, rows), ""];
}

function stateText({ state, isClear }: Verdict): string {
  return state === "open" || isClear ? state : `${state}, spreads overlap`;
}

function sectionLines({ scenario, rows }: Section, head: Head): string[] {
  const names = shownOf(scenario.shows, rows);
  const hasParts = scenario.parts.length > 1;
  const subject = head.brokers[0].name;
  const hasRatios = rows.some(({ broker }) => broker !== subject);
  const heads = [
    "broker",
    ...(hasParts ? ["part"] : []),
    ...names.map((name) => metricKinds[name].title),
    ...(hasRatios ? [`${subject} by messages/s`, `${subject} by CPU`] : []),
    "runs",
  ];
  const body = rows.map((row) => [
    cell(row.broker),
    ...(hasParts ? [cell(row.part)] : []),
    ...names.map((name) => spreadText(name, row.summary?.[name])),
    ...(hasRatios ? ratioCells(row, rows, subject) : []),
    cell(runText(row)),
  ]);
  return [`## ${scenario.title}`, "", scenario.purpose, "", ...table(heads, body), ""];
}

const busy: readonly MetricName[] = ["brokerCpuPct", "generatorCpuPct", "otherCpuPct", "stealPct"];

/** The scenario's figures that anybody has, and how busy everybody was. */
export function shownOf(shows: readonly MetricName[], rows: readonly Row[]): MetricName[] {
  return [...shows, ...busy].filter((name) => rows.some(({ summary }) => summary?.[name] !== undefined));
}

function spreadText(name: MetricName, spread: Spread | undefined): string {
  if (spread === undefined) return "";
  const { median, min, max, count } = spread;
  const middle = formatMetric(name, median);
  return count === 1 ? middle : `${middle} (${formatMetric(name, min)} – ${formatMetric(name, max)})`;
}

/** How many times the subject is this row's broker, in the same part. */
export function ratiosOf(row: Row, rows: readonly Row[], subject: string): { rate?: number; cpu?: number } {
  if (row.broker === subject) return {};
  const own = rows.find(({ broker, part }) => broker === subject && part === row.part)?.summary;
  const rate = [own?.messagesPerSec, row.summary?.messagesPerSec];
  const cpu = [row.summary?.brokerUsPerMessage, own?.brokerUsPerMessage];
  const divide = ([a, b]: (Spread | undefined)[]): number | undefined =>
    a === undefined || b === undefined || b.median === 0 ? undefined : a.median / b.median;
  const [byRate, byCpu] = [divide(rate), divide(cpu)];
  return { ...(byRate === undefined ? {} : { rate: byRate }), ...(byCpu === undefined ? {} : { cpu: byCpu }) };
}

function ratioCells(row: Row, rows: readonly Row[], subject: string): string[] {
  const { rate, cpu } = ratiosOf(row, rows, subject);
  return [rate, cpu].map((ratio) => (ratio === undefined ? "" : times(ratio)));
}

export function runText({ runCount, failedCount, disturbedCount, faults }: Row): string {
  return [
    String(runCount),
    failedCount > 0 ? `${failedCount} failed: ${faults.join("; ")}` : "",
    disturbedCount > 0 ? `${disturbedCount} disturbed` : "",
  ]
    .filter(Boolean)
    .join(", ");
}

function table(heads: readonly string[], rows: readonly (readonly string[])[]): string[] {
  const line = (cells: readonly string[]): string => `| ${cells.join(" | ")} |`;
  return [line(heads.map(cell)), line(heads.map(() => "---")), ...rows.map(line)];
}

/** Names come from the command line: nothing in them may end a cell or start markup. */
function cell(text: string): string {
  return text.replace(/[\r\n]+/g, " ").replace(/[\\|<>`*_[\]]/g, (c) => `\\${c}`);
}
