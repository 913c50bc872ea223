/**
 * One run: a broker started afresh, a load against it, both ended. What else used the machine meanwhile is part of the
 * result, so that a disturbed run can be told and done again.
 */
import { readLines } from "./lines.ts";
import { serverProcesses, usageOf } from "#bench/load/server-usage.ts";
import { defined, type Metrics, type Outcome, type Part, type Scenario } from "#bench/scenarios/scenario.ts";
import { LOGIN } from "./access-files.ts";
import { type Broker, type RunningBroker, startBroker } from "./brokers.ts";
import { type ChildProcess, spawn } from "./child-process.ts";
import { storeNumbers, writtenBytes } from "./disk.ts";
import { clientCommand, companionCommand, type Generator } from "./generators.ts";
import { machineUsage } from "./machine-usage.ts";

/** No part of a scenario takes longer; a generator that hangs is ended and the run counts as failed. */
const PART_MS = 300_000;
const COMPANION_MS = 60_000;
/** Of one core, in per cent. */
const OTHER_CPU_MAX = 15;
const STEAL_MAX = 5;

export interface MeasureOptions {
  readonly generator: Generator;
  readonly durationSec: number;
  readonly warmupSec: number;
}

export interface Run extends Outcome {
  readonly scenario: string;
  readonly part: string;
  readonly broker: string;
  readonly round: number;
  readonly startedAt: string;
  /** Others had too much of the machine. */
  readonly isDisturbed: boolean;
}

export interface Place {
  readonly scenario: Scenario;
  readonly part: Part;
  readonly broker: Broker;
  readonly round: number;
  /** Why it cannot be run. */
  readonly why?: string;
}

/** Never throws for what a broker or generator does: that is a fault of the run. */
export async function measure(place: Place, options: MeasureOptions): Promise<Run> {
  const { scenario, part, broker, round } = place;
  const startedAt = new Date().toISOString();
  const outcome = await outcomeOf(place, options).catch((error: unknown) => ({
    metrics: {},
    faults: [error instanceof Error ? error.message : String(error)],
  }));
  const { otherCpuPct = 0, stealPct = 0 } = outcome.metrics as Outcome["metrics"];
  // What only gives a rate to others is a closed loop, whose latency mirrors its windows.
  const isPace = scenario.parts.some(({ pace }) => pace?.part === part.name);
  return {
    scenario: scenario.name,
    part: part.name,
    broker: broker.name,
    round,
    startedAt,
    ...outcome,
    metrics: isPace ? withoutLatency(outcome.metrics) : outcome.metrics,
    isDisturbed: otherCpuPct > OTHER_CPU_MAX || stealPct > STEAL_MAX,
  };
}

function withoutLatency({ p50Us: _1, p90Us: _2, p99Us: _3, p999Us: _4, maxUs: _5, ...rest }: Metrics): Metrics {
  return rest;
}

/** Of two runs of the same the one that counts: without faults first, then with less done by others. */
export function cleanerOf(a: Run, b: Run): Run {
  if (a.faults.length > 0 !== b.faults.length > 0) return a.faults.length > 0 ? b : a;
  const disturbance = ({ metrics }: Run): number => (metrics.otherCpuPct ?? 0) + (metrics.stealPct ?? 0);
  return disturbance(b) < disturbance(a) ? b : a;
}

async function outcomeOf({ scenario, part, broker, why }: Place, options: MeasureOptions): Promise<Outcome> {
  if (why !== undefined) return { metrics: {}, faults: [why] };
  const running = await startBroker(broker, {
    nodelay: scenario.wantsNoDelay === true,
    store: part.store ?? "memory",
    access: part.access,
    hasAllCores: part.hasAllCores === true,
    hasDoors: part.hasDoors === true,
    countsSyncs: part.countsSyncs === true,
  });
  let companion: ChildProcess | undefined;
  try {
    const lines = part.beside === undefined ? undefined : await startCompanion(part, running);
    companion = lines?.process;
    const outcome = await underLoad(part, options, running, companion?.pid);
    if (lines === undefined) return outcome;
    lines.process.signal("SIGTERM");
    const beside = await lines.last();
    return {
      metrics: { ...outcome.metrics, ...beside.metrics },
      faults: [...outcome.faults, ...beside.faults],
    };
  } finally {
    await companion?.stop();
    await running.stop();
  }
}

interface StartedCompanion {
  readonly process: ChildProcess;
  last(): Promise<Outcome>;
}

async function startCompanion(part: Part, { port, doors }: RunningBroker): Promise<StartedCompanion> {
  const child = spawn(companionCommand(part.beside!, port, doors), "generator");
  const ready = Promise.withResolvers<void>();
  let lastLine = "";
  const read = readLines(child.stdout, (line) => {
    lastLine = line;
    ready.resolve();
  });
  const timer = setTimeout(() => child.signal("SIGKILL"), COMPANION_MS);
  await Promise.race([ready.promise, child.ended]);
  clearTimeout(timer);
  if (lastLine === "") throw new Error(`${part.beside!.client} did not start: ${child.errorText()}`);
  const last = async (): Promise<Outcome> => {
    await Promise.all([read, child.ended]);
    return outcomeOfLine(lastLine, child, (line) => JSON.parse(line) as Outcome);
  };
  return { process: child, last };
}

async function underLoad(
  part: Part,
  { generator, durationSec, warmupSec }: MeasureOptions,
  running: RunningBroker,
  companionPid: number | undefined,
): Promise<Outcome> {
  const { load } = part;
  const { port, process: broker } = running;
  const { pid } = broker;
  const login = part.access === undefined ? {} : { login: LOGIN };
  const target = { port, brokerPid: pid, durationSec, warmupSec, ...login };
  // This process's own children are in its tree, the generator too while it runs: so only itself is counted.
  const others = [process.pid, ...(companionPid === undefined ? [] : [companionPid])];
  const brokerPids = serverProcesses(pid);
  // A client may have killed the broker.
  const brokerCpuSec = (): number => (broker.isRunning() ? usageOf(brokerPids).cpuSec : broker.cpuSec());
  const known = (): number => usageOf(others).cpuSec + brokerCpuSec();
  const before = { at: performance.now(), machine: machineUsage(), known: known(), written: writtenBytes(brokerPids) };

  const command = load.kind === "client" ? clientCommand(load, target) : generator.command(load, target);
  const child = spawn(command, "generator");
  const timer = setTimeout(() => child.signal("SIGKILL"), PART_MS);
  let lastLine = "";
  await readLines(child.stdout, (line) => (lastLine = line));
  await child.ended;
  clearTimeout(timer);

  const sec = (performance.now() - before.at) / 1000;
  const machine = machineUsage();
  const ours = known() - before.known + child.cpuSec();
  const outcome = outcomeOfLine(lastLine, child, (line) =>
    load.kind === "client" ? (JSON.parse(line) as Outcome) : generator.parse(line, load),
  );
  return {
    metrics: {
      ...diskMetrics(part, running, outcome, (writtenBytes(brokerPids) ?? Number.NaN) - (before.written ?? 0)),
      ...outcome.metrics,
      otherCpuPct: (Math.max(0, machine.busySec - before.machine.busySec - ours) / sec) * 100,
      stealPct: ((machine.stealSec - before.machine.stealSec) / sec) * 100,
    },
    faults: outcome.faults,
  };
}

/** Of a part on the disk whose generator says how many messages it sent. */
function diskMetrics(
  { store = "memory" }: Part,
  { dir }: RunningBroker,
  { sentCount }: Outcome,
  written: number,
): Metrics {
  if (store === "memory" || sentCount === undefined || sentCount === 0) return {};
  const bodies = storeNumbers(dir)?.bodies;
  return defined({
    writtenPct: bodies === undefined ? undefined : (bodies / sentCount) * 100,
    writtenBytesPerMessage: Number.isNaN(written) ? undefined : written / sentCount,
  });
}

function outcomeOfLine(line: string, child: ChildProcess, parse: (line: string) => Outcome): Outcome {
  try {
    return parse(line);
  } catch {
    const said = child.errorText() || line || "nothing";
    throw new Error(`the generator gave no result; it said: ${said.slice(0, 400)}`);
  }
}
