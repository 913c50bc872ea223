/**
 * Goals against medians. Speed is a ratio of messages per second, unless the generator used more than 90 % of its core on
 * either side: then it held the faster broker back, and the ratio is that of broker CPU per delivered message. Both
 * ratios are shown. A broker whose runs all failed has no figures, so goals that need it stay open.
 */
import { type Goal, type MetricName, metricKinds, type Scenario } from "#bench/scenarios/scenario.ts";
import type { Spread, Summary } from "./statistics.ts";

const GENERATOR_CPU_MAX = 90;

/** Summaries of one scenario, by broker and part. */
export type Summaries = ReadonlyMap<string, ReadonlyMap<string, Summary>>;

export interface Verdict {
  readonly scenario: string;
  readonly goal: string;
  readonly broker: string;
  readonly state: "met" | "missed" | "open";
  /** The ratio that decides, ours to the reference's, so that more is better for "at least". */
  readonly ratio?: number;
  /** With speed, the other of the two ratios. */
  readonly otherRatio?: number;
  readonly metric?: MetricName;
  /** What was compared, and by how much it was met or missed. */
  readonly text: string;
  /** False when the spreads of the two sides are so wide that the verdict could have been the other. */
  readonly isClear: boolean;
}

interface Sides {
  readonly ours: Summary;
  readonly theirs: Summary;
  /** Of the reference, for people. */
  readonly name: string;
}

export function judge(scenario: Scenario, broker: string, summaries: Summaries): Verdict[] {
  return scenario.goals.map((goal) => ({
    scenario: scenario.name,
    goal: goal.text,
    broker,
    ...judgeGoal(goal, broker, summaries),
  }));
}

type Judgement = Omit<Verdict, "scenario" | "goal" | "broker">;

function open(text: string): Judgement {
  return { state: "open", text, isClear: false };
}

function judgeGoal(goal: Goal, broker: string, summaries: Summaries): Judgement {
  const ours = summaries.get(broker)?.get(goal.part);
  if (ours === undefined) return open(`${broker} has no valid run`);
  if (goal.reference.kind === "number") return judgeNumber(goal, ours);
  const reference = referenceOf(goal, broker, summaries);
  if (typeof reference === "string") return open(reference);
  const sides = { ours, theirs: reference.summary, name: reference.name };
  return goal.metric === "speed" ? judgeSpeed(goal, sides) : judgeMetric(goal, goal.metric, sides);
}

/** A string says why there is none. */
function referenceOf(goal: Goal, broker: string, summaries: Summaries): { name: string; summary: Summary } | string {
  const { reference } = goal;
  if (reference.kind === "part") {
    const summary = summaries.get(broker)?.get(reference.part);
    return summary === undefined ? `no valid run of ${reference.part}` : { name: reference.part, summary };
  }
  const peers = [...summaries].filter(([name]) => name !== broker);
  if (reference.kind === "peer") {
    const [name, parts] = peers.find(([peer]) => peer.toLowerCase() === reference.broker) ?? [];
    const summary = parts?.get(goal.part);
    if (name === undefined) return `${reference.broker} was not measured`;
    return summary === undefined ? `${name} has no valid run` : { name, summary };
  }
  const metric = goal.metric as MetricName;
  const measured = peers.flatMap(([name, parts]) => {
    const summary = parts.get(goal.part);
    return summary?.[metric] === undefined ? [] : [{ name, summary, value: summary[metric].median }];
  });
  measured.sort((a, b) => (a.value - b.value) * (metricKinds[metric].isLowBetter ? 1 : -1));
  return measured[0] ?? "no peer was measured";
}

function judgeNumber(goal: Goal, ours: Summary): Judgement {
  const metric = goal.metric as MetricName;
  const spread = ours[metric];
  if (spread === undefined) return open(`no ${metricKinds[metric].title}`);
  const ratio = spread.median / goal.factor;
  const isMet = holds(goal, spread.median, goal.factor);
  const isClear = holds(goal, spread.min, goal.factor) === holds(goal, spread.max, goal.factor);
  return {
    state: stateOf(isMet),
    ratio,
    metric,
    isClear,
    text: `${formatMetric(metric, spread.median)}, bound ${formatMetric(metric, goal.factor)}`,
  };
}

function judgeMetric(goal: Goal, metric: MetricName, { ours, theirs, name }: Sides): Judgement {
  const [a, b] = [ours[metric], theirs[metric]];
  if (a === undefined || b === undefined) return open(`no ${metricKinds[metric].title} of both sides`);
  const ratio = a.median / b.median;
  return {
    state: stateOf(holds(goal, ratio, goal.factor)),
    ratio,
    metric,
    isClear: isClear(goal, a.min / b.max, a.max / b.min),
    text: `${formatMetric(metric, a.median)} against ${formatMetric(metric, b.median)} of ${name}: ${times(ratio)}`,
  };
}

function judgeSpeed(goal: Goal, { ours, theirs, name }: Sides): Judgement {
  const rate = ratioOf(ours.messagesPerSec, theirs.messagesPerSec);
  // Less CPU for a message is more speed.
  const cpu = ratioOf(theirs.brokerUsPerMessage, ours.brokerUsPerMessage);
  const isGeneratorLimit = [ours, theirs].some((side) => (side.generatorCpuPct?.median ?? 0) > GENERATOR_CPU_MAX);
  const deciding = isGeneratorLimit ? cpu : rate;
  if (deciding === undefined) return open("no messages per second or CPU per message of both sides");
  const other = isGeneratorLimit ? rate : cpu;
  const by = isGeneratorLimit ? "CPU per message, for the generator was the limit" : "messages/s";
  const beside = isGeneratorLimit ? "messages/s" : "CPU per message";
  return {
    state: stateOf(holds(goal, deciding.median, goal.factor)),
    ratio: deciding.median,
    ...(other === undefined ? {} : { otherRatio: other.median }),
    metric: isGeneratorLimit ? "brokerUsPerMessage" : "messagesPerSec",
    isClear: isClear(goal, deciding.min, deciding.max),
    text: `${times(deciding.median)} ${name} by ${by}${other === undefined ? "" : ` (${times(other.median)} by ${beside})`}`,
  };
}

interface Ratio {
  readonly median: number;
  readonly min: number;
  readonly max: number;
}

/** Worst and best case are those of the two spreads, so they are wider than the truth. */
function ratioOf(a: Spread | undefined, b: Spread | undefined): Ratio | undefined {
  if (a === undefined || b === undefined || b.min === 0) return undefined;
  return { median: a.median / b.median, min: a.min / b.max, max: a.max / b.min };
}

function holds({ bound }: Goal, value: number, limit: number): boolean {
  return bound === "at least" ? value >= limit : value <= limit;
}

function isClear(goal: Goal, low: number, high: number): boolean {
  return holds(goal, low, goal.factor) === holds(goal, high, goal.factor);
}

function stateOf(isMet: boolean): "met" | "missed" {
  return isMet ? "met" : "missed";
}

export function times(ratio: number): string {
  return `${ratio >= 10 ? ratio.toFixed(0) : ratio.toFixed(2)} ×`;
}

/** Three digits at most before the unit's own prefix. */
export function formatMetric(name: MetricName, value: number): string {
  const { unit } = metricKinds[name];
  if (unit === "/s") return `${short(value)}/s`;
  if (unit === "%") return `${value.toFixed(0)} %`;
  if (unit === "B") return formatBytes(value);
  if (unit === "") return short(value);
  if (value >= 1e6) return `${digits(value / 1e6)} s`;
  return value >= 1000 ? `${digits(value / 1000)} ms` : `${digits(value)} µs`;
}

function formatBytes(value: number): string {
  if (value >= 1e9) return `${digits(value / 1e9)} GB`;
  if (value >= 1e6) return `${digits(value / 1e6)} MB`;
  return value >= 10_000 ? `${digits(value / 1000)} kB` : `${value.toFixed(0)} B`;
}

function short(value: number): string {
  if (value >= 1e6) return `${digits(value / 1e6)} M`;
  return value >= 1000 ? `${digits(value / 1000)} k` : digits(value);
}

function digits(value: number): string {
  if (value >= 100) return value.toFixed(0);
  return value >= 10 ? value.toFixed(1) : value.toFixed(2);
}
