/**
 * A finished run as figures and as a verdict. The names are those of the JSON line; units are in the names.
 *
 * A run is worth nothing when messages were lost, doubled, reordered, foreign or damaged (exit 3), and failed when clients
 * could not connect or were dropped (exit 1).
 */
import type { RunResult, Sample } from "./coordinator.ts";
import type { Histogram } from "./histogram.ts";
import { isLoop } from "./plan.ts";
import { addCounts, mergeHistograms, mergeReasons } from "./tally.ts";

/** Above this part of a core the generator may be the limit. */
const BUSY_PART = 0.9;
/** Of a core, by others. */
const NOISE_PART = 0.2;
/** A publisher that has fallen behind by more than this part of a second's messages did not keep up. */
const BEHIND_SEC = 0.1;

export function figuresOf(result: RunResult) {
  const { plan, tallies } = result;
  const counts = addCounts(tallies.map((tally) => tally.counts));
  const perSec = (name: "measuredSent" | "measuredDelivered" | "measuredBytes"): number =>
    tallies.reduce((sum, { counts: own, measuredSec }) => sum + (measuredSec > 0 ? own[name] / measuredSec : 0), 0);
  const loop = isLoop(plan.command);
  const measuredSec = Math.max(0, ...tallies.map((tally) => tally.measuredSec));
  const connectSec = Math.max(0, ...tallies.map((tally) => tally.connectSec));
  const messages = plan.subs > 0 ? counts.measuredDelivered : counts.measuredSent;
  const generatorCpuSec = tallies.reduce((sum, { cpuSec }) => sum + cpuSec, 0);
  const busiest = plan.command === "conn" ? tallies.map(connectPart) : tallies.map(measuredPart);
  return {
    bench: plan.command,
    atSec: Math.floor(Date.now() / 1000),
    version: plan.version,
    transport: `${plan.isWebSocket ? "ws" : "mqtt"}${plan.isTls ? "s" : ""}`,
    qos: plan.qosCycle.length === 1 ? plan.qosCycle[0] : plan.qosCycle.join(""),
    payloadBytes: plan.payloadBytes,
    pubs: plan.pubs,
    subs: plan.subs,
    processes: plan.processes,
    ratePerSec: plan.ratePerSec,
    window: plan.window,
    outstanding: plan.outstanding,
    connected: counts.connected,
    failed: counts.failed,
    refused: counts.refused,
    dropped: counts.dropped,
    connectSec: round(connectSec, 3),
    connectsPerSec: round(connectSec > 0 ? counts.connected / connectSec : 0, 0),
    connackUs: percentilesUs(mergeHistograms(tallies, "connack")),
    measuredSec: round(measuredSec, 3),
    sent: counts.sent,
    received: counts.delivered,
    sentPerSec: round(perSec("measuredSent"), 1),
    receivedPerSec: round(perSec("measuredDelivered"), 1),
    receivedBytesPerSec: round(perSec("measuredBytes"), 0),
    lost: loop ? counts.expected - counts.delivered : counts.missing,
    duplicates: counts.duplicates,
    reordered: counts.reordered,
    foreign: counts.foreign,
    wrongQos: counts.wrongQos,
    damaged: counts.damaged,
    retained: counts.retained,
    unstamped: counts.unstamped,
    nacks: counts.nacks,
    strayAcks: counts.strayAcks,
    unacked: counts.unacked,
    stalls: counts.stalls,
    behind: counts.behind,
    pings: counts.pings,
    pongs: counts.pongs,
    latencyUs: percentilesUs(mergeHistograms(tallies, "latency")),
    ackUs: percentilesUs(mergeHistograms(tallies, "ack")),
    latenessUs: percentilesUs(mergeHistograms(tallies, "lateness")),
    generatorCpuSec: round(generatorCpuSec, 3),
    /** Of the busiest process, in parts of a core. */
    generatorBusy: round(Math.max(0, ...busiest), 3),
    generatorUsPerMessage: round(messages > 0 ? (generatorCpuSec * 1e6) / messages : 0, 3),
    server: serverFigures(result.measured, measuredSec, messages),
    connecting: serverFigures(result.connecting, connectSec, counts.connected),
    ...machineFigures(result.measured, measuredSec, generatorCpuSec),
    reasons: mergeReasons(tallies),
  };
}

export type Figures = ReturnType<typeof figuresOf>;

function measuredPart({ cpuSec, measuredSec }: { cpuSec: number; measuredSec: number }): number {
  return measuredSec > 0 ? cpuSec / measuredSec : 0;
}

function connectPart({ connectCpuSec, connectSec }: { connectCpuSec: number; connectSec: number }): number {
  return connectSec > 0 ? connectCpuSec / connectSec : 0;
}

/** What the server used from the first to the last sample; `units` are the messages or clients it did it for. */
function serverFigures([first, ...rest]: readonly Sample[], sec: number, units: number) {
  const begin = first?.server;
  const end = rest.at(-1)?.server;
  if (begin === undefined || end === undefined) return undefined;
  const cpuSec = end.cpuSec - begin.cpuSec;
  return {
    cpuSec: round(cpuSec, 2),
    busy: round(sec > 0 ? cpuSec / sec : 0, 3),
    usPerUnit: round(units > 0 ? (cpuSec * 1e6) / units : 0, 3),
    rssBytes: end.rssBytes,
    rssGrowthBytes: end.rssBytes - begin.rssBytes,
    processes: end.processes,
  };
}

/** What else ran on the machine, in parts of a core: a run with much of it says little. */
function machineFigures([begin, end]: readonly Sample[], sec: number, generatorCpuSec: number) {
  if (begin === undefined || end === undefined || sec === 0) return { otherBusy: 0, steal: 0 };
  const serverSec = (end.server?.cpuSec ?? 0) - (begin.server?.cpuSec ?? 0);
  const busySec = end.machine.busySec - begin.machine.busySec - generatorCpuSec - serverSec;
  return {
    /** With the server in it when its process is not known. */
    otherBusy: round(Math.max(0, busySec) / sec, 3),
    steal: round((end.machine.stealSec - begin.machine.stealSec) / sec, 3),
  };
}

export interface PercentilesUs {
  readonly count: number;
  readonly mean: number;
  readonly p50: number;
  readonly p90: number;
  readonly p99: number;
  readonly p999: number;
  readonly max: number;
}

function percentilesUs(histogram: Histogram): PercentilesUs {
  const at = (part: number): number => round(histogram.percentile(part) / 1000, 1);
  return {
    count: histogram.count,
    mean: round(histogram.mean / 1000, 1),
    p50: at(0.5),
    p90: at(0.9),
    p99: at(0.99),
    p999: at(0.999),
    max: round(histogram.max / 1000, 1),
  };
}

function round(value: number, digits: number): number {
  return Number(value.toFixed(digits));
}

const faultNames = ["lost", "duplicates", "reordered", "foreign", "wrongQos", "damaged", "strayAcks"] as const;

/** What makes the run worthless: "3 lost, 1 duplicates". */
export function messageFaults(figures: Figures): string[] {
  return faultNames.filter((name) => figures[name] !== 0).map((name) => `${figures[name]} ${name}`);
}

export function connectionFaults(figures: Figures): string[] {
  const names = ["failed", "dropped", "nacks", "unacked"] as const;
  return names.filter((name) => figures[name] > 0).map((name) => `${figures[name]} ${name}`);
}

export function warningsOf(figures: Figures): string[] {
  const warnings: string[] = [];
  if (figures.generatorBusy > BUSY_PART)
    warnings.push(
      `the generator used ${percent(figures.generatorBusy)} of a core: it may be the limit. Compare server CPU per message, or use --processes`,
    );
  if (figures.behind > figures.ratePerSec * BEHIND_SEC && figures.ratePerSec > 0)
    warnings.push(
      `${figures.behind} messages were due and not sent: the rate was not reached, and their latency is not in the figures`,
    );
  if (figures.server !== undefined && figures.otherBusy + figures.steal > NOISE_PART)
    warnings.push(
      `other work used ${percent(figures.otherBusy + figures.steal)} of a core meanwhile: trust CPU per message only`,
    );
  if (figures.stalls > 0) warnings.push(`nothing arrived for a second, ${figures.stalls} times`);
  if (figures.pings - figures.pongs > figures.dropped)
    warnings.push(`${figures.pings - figures.pongs} pings unanswered`);
  return warnings;
}

export function percent(part: number): string {
  return `${(part * 100).toFixed(0)} %`;
}

export function exitCodeOf(figures: Figures, isAborted: boolean): number {
  if (messageFaults(figures).length > 0) return 3;
  return isAborted || connectionFaults(figures).length > 0 ? 1 : 0;
}
