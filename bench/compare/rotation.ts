/**
 * The order of runs: for each round, scenario and part the brokers one after another (A B C, A B C, …), each started
 * afresh, so that what drifts on the machine meets all of them alike. A run that others disturbed is done once more, and
 * the cleaner of the two counts.
 */
import type { Load, Part, Scenario } from "#bench/scenarios/scenario.ts";
import type { Broker } from "./brokers.ts";
import { cleanerOf, measure, type MeasureOptions, type Place, type Run } from "./measure.ts";
import { type Summary, summarize } from "./statistics.ts";
import type { Summaries } from "./verdict.ts";

export interface RotationOptions extends MeasureOptions {
  readonly rounds: number;
  readonly scenarios: readonly PlannedScenario[];
  /** Disturbed runs stand as they are. */
  readonly isOnce: boolean;
}

export interface PlannedScenario {
  readonly scenario: Scenario;
  readonly brokers: readonly Broker[];
}

export interface Recorded extends Run {
  /** It is the one that counts of its place. */
  readonly isKept: boolean;
}

export function places({ scenarios, rounds }: Pick<RotationOptions, "rounds" | "scenarios">): Place[] {
  const all: Place[] = [];
  for (let round = 1; round <= rounds; round++)
    for (const { scenario, brokers } of scenarios) {
      if (round > (scenario.roundsMax ?? rounds)) continue;
      for (const part of scenario.parts)
        for (const broker of brokers) if (canRun(part, broker)) all.push({ scenario, part, broker, round });
    }
  return all;
}

/** The footprint bench starts the checkout's own broker, whoever else is compared. */
function canRun({ load, store = "memory", access, countsSyncs }: Part, broker: Broker): boolean {
  const { name, isOwn, stores = [], hasAccess } = broker;
  if (access !== undefined && hasAccess !== true) return false;
  if (store !== "memory" && !stores.includes(store)) return false;
  if (countsSyncs === true && (!isOwn || Bun.which("strace") === null)) return false;
  return load.kind !== "client" || load.client !== "footprint" || (isOwn && name === "mantou");
}

/** Calls back with each run as it ends, those that do not count included. */
export async function rotate(options: RotationOptions, onRun: (run: Recorded) => void): Promise<Recorded[]> {
  const recorded: Recorded[] = [];
  const record = (run: Run, isKept: boolean): void => {
    const one = { ...run, isKept };
    recorded.push(one);
    onRun(one);
  };
  for (const unpaced of places(options)) {
    const place = atPace(unpaced, recorded);
    const first = await measure(place, options);
    if (!first.isDisturbed || options.isOnce) {
      record(first, true);
      continue;
    }
    const second = await measure(place, options);
    const kept = cleanerOf(first, second);
    for (const run of [first, second]) record(run, run === kept);
  }
  return recorded;
}

/** With the rate that follows from another part's run; as it is when that one gave none. */
export function atPace(place: Place, recorded: readonly Recorded[]): Place {
  const { scenario, part, broker, round } = place;
  const { pace } = part;
  if (pace === undefined) return place;
  const isBase = (run: Recorded): boolean =>
    run.isKept && run.scenario === scenario.name && run.part === pace.part && run.broker === broker.name;
  const base = recorded.find((run) => isBase(run) && run.round === round && run.faults.length === 0);
  const most = base?.metrics.acknowledgedPerSec ?? base?.metrics.messagesPerSec;
  if (most === undefined) return { ...place, why: `no valid run of ${pace.part} to take the rate from` };
  return { ...place, part: { ...part, load: paced(part.load, Math.round(most * pace.share)) } };
}

function paced(load: Load, ratePerSec: number): Load {
  if (load.kind === "client") return { ...load, args: [...load.args, "--rate", String(ratePerSec)] };
  return load.kind === "flow" ? { ...load, ratePerSec } : load;
}

/** Medians by scenario, broker and part, of the runs that count: kept, and without faults. */
export function summariesOf(runs: readonly Recorded[], scenario: Scenario): Summaries {
  const summaries = new Map<string, Map<string, Summary>>();
  for (const run of runs) {
    if (run.scenario !== scenario.name || !run.isKept || run.faults.length > 0) continue;
    const parts = summaries.get(run.broker) ?? new Map<string, Summary>();
    summaries.set(run.broker, parts);
    if (parts.has(run.part)) continue;
    const same = runs.filter(
      (other) =>
        other.isKept &&
        other.faults.length === 0 &&
        other.scenario === run.scenario &&
        other.broker === run.broker &&
        other.part === run.part,
    );
    parts.set(run.part, summarize(same.map(({ metrics }) => metrics)));
  }
  return summaries;
}
