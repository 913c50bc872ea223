/**
 * Leads a run over one crew in this process, or several in processes of their own:
 *
 *   connect all ─► settle ─► warm up ─► measure (server sampled at both ends) ─► drain ─► finish and merge
 */
import { Crew, type CrewPort, type CrewShare, type RunTimes } from "./crew.ts";
import { CrewProcess } from "./crew-process.ts";
import { isLoop, type Plan, processOfClient } from "./plan.ts";
import { type MachineUsage, machineUsage, serverProcesses, type Usage, usageOf } from "./server-usage.ts";
import { addCounts, type Counts, type TallyData } from "./tally.ts";

/** Subscriptions reach every part of the broker. */
const SETTLE_MS = 250;
const PROGRESS_MS = 1000;
const DRAIN_POLL_MS = 20;
const DRAIN_MS_MAX = 10_000;
/** Draining ends when nothing more has come for so long. */
const DRAIN_QUIET_MS = 2000;
const LIMIT_POLL_MS = 50;

export interface Sample {
  /** Undefined when the plan names no server process. */
  readonly server: Usage | undefined;
  readonly machine: MachineUsage;
}

export interface RunResult {
  readonly plan: Plan;
  readonly tallies: readonly TallyData[];
  /** At the begin and the end; empty when it never came to that. */
  readonly connecting: readonly Sample[];
  readonly measured: readonly Sample[];
  /** True when it never came to publishing. */
  readonly isAborted: boolean;
}

export async function runPlan(plan: Plan, print: (line: string) => void): Promise<RunResult> {
  const server = plan.serverPid > 0 ? serverProcesses(plan.serverPid) : [];
  const sample = (): Sample => ({ server: server.length > 0 ? usageOf(server) : undefined, machine: machineUsage() });
  const zeroMs = performance.timeOrigin + performance.now();
  const crews = await makeCrews(plan, zeroMs);
  const progress = new Progress(crews, print);
  const stop = (): void => crews.forEach((crew) => crew.stop());
  process.once("SIGINT", stop);
  try {
    const connecting = [sample()];
    const connected = addCounts(await Promise.all(crews.map((crew) => crew.connect())));
    connecting.push(sample());
    print(`${connected.connected} clients up`);
    const isAborted = connected.connected === 0 || (isLoop(plan.command) && connected.failed > 0);
    const measured: Sample[] = [];
    if (!isAborted) {
      const startNs = (performance.timeOrigin + performance.now() + SETTLE_MS - zeroMs) * 1e6;
      measured.push(...(await measure(plan, crews, { startNs, ...plan }, sample)));
      await drain(plan, crews);
    }
    progress.stop();
    const tallies = await Promise.all(crews.map((crew) => crew.finish()));
    return { plan, tallies, connecting, measured, isAborted };
  } finally {
    progress.stop();
    process.off("SIGINT", stop);
    for (const crew of crews) if (crew instanceof CrewProcess) crew.kill();
  }
}

async function makeCrews(plan: Plan, zeroMs: number): Promise<CrewPort[]> {
  const run = crypto.getRandomValues(new Uint32Array(1))[0];
  const share = (process: number): CrewShare => ({ plan, process, run, zeroMs });
  if (plan.processes === 1) return [new Crew(share(0), () => {})];
  const crews: CrewProcess[] = [];
  const passCredit = (deliveries: readonly number[]): void => {
    const byProcess = new Map<number, number[]>();
    for (let i = 0; i < deliveries.length; i += 2) {
      const process = processOfClient(plan, "pub", deliveries[i]);
      const list = byProcess.get(process);
      if (list === undefined) byProcess.set(process, [deliveries[i], deliveries[i + 1]]);
      else list.push(deliveries[i], deliveries[i + 1]);
    }
    for (const [process, list] of byProcess) crews[process].credit(list);
  };
  for (let process = 0; process < plan.processes; process++) crews.push(new CrewProcess(process, passCredit));
  await Promise.all(crews.map((crew, process) => crew.create(share(process))));
  return crews;
}

/** Runs, and returns the server's usage at the begin and the end of the measured window. */
async function measure(
  plan: Plan,
  crews: readonly CrewPort[],
  times: RunTimes,
  sample: () => Sample,
): Promise<Sample[]> {
  const ended = Promise.all(
    crews.map(async (crew) => {
      await crew.run(times);
      // One that was dropped from, or has sent all, ends it for all when it is a loop.
      if (isLoop(plan.command) && plan.limit === 0) crews.forEach((other) => other.stop());
    }),
  );
  await Promise.race([ended, Bun.sleep(SETTLE_MS + times.warmupSec * 1000)]);
  const begin = sample();
  const watch = setInterval(() => {
    if (plan.command === "sub" && plan.limit > 0) void stopAtLimit(plan.limit, crews);
  }, LIMIT_POLL_MS);
  await ended.finally(() => clearInterval(watch));
  return [begin, sample()];
}

async function stopAtLimit(limit: number, crews: readonly CrewPort[]): Promise<void> {
  const { delivered } = addCounts(await Promise.all(crews.map((crew) => crew.counts())));
  if (delivered >= limit) crews.forEach((crew) => crew.stop());
}

/** Waits for what is under way: deliveries of a loop, acknowledgements of a publisher. */
async function drain(plan: Plan, crews: readonly CrewPort[]): Promise<void> {
  if (plan.command === "sub" || plan.command === "conn") return;
  const startMs = performance.now();
  let last = -1;
  let lastMs = startMs;
  while (performance.now() - startMs < DRAIN_MS_MAX && performance.now() - lastMs < DRAIN_QUIET_MS) {
    const counts = addCounts(await Promise.all(crews.map((crew) => crew.counts())));
    const isDelivered = !isLoop(plan.command) || counts.delivered >= counts.expected;
    if (isDelivered && counts.unacked === 0 && counts.unwritten === 0) return;
    const moved = counts.delivered - counts.unacked - counts.unwritten;
    if (moved !== last) lastMs = performance.now();
    last = moved;
    await Bun.sleep(DRAIN_POLL_MS);
  }
}

/** A line a second: totals, and rates of the second. */
class Progress {
  private readonly timer: Timer;
  private last: Counts | undefined;
  private lastMs = performance.now();
  private readonly startMs = performance.now();
  private isStopped = false;

  constructor(
    private readonly crews: readonly CrewPort[],
    private readonly print: (line: string) => void,
  ) {
    this.timer = setInterval(() => void this.tick(), PROGRESS_MS);
  }

  stop(): void {
    this.isStopped = true;
    clearInterval(this.timer);
  }

  private async tick(): Promise<void> {
    const all = await Promise.all(this.crews.map((crew) => crew.counts())).catch(() => []);
    if (this.isStopped || all.length === 0) return;
    const counts = addCounts(all);
    const nowMs = performance.now();
    const rate = (name: "connected" | "sent" | "delivered"): number =>
      ((counts[name] - (this.last?.[name] ?? 0)) / (nowMs - this.lastMs)) * 1000;
    const faults = counts.duplicates + counts.reordered + counts.missing + counts.foreign + counts.dropped;
    this.print(
      [
        `${((nowMs - this.startMs) / 1000).toFixed(0).padStart(4)} s`,
        `clients ${counts.connected} (${rate("connected").toFixed(0)}/s)`,
        counts.failed > 0 ? `failed ${counts.failed}` : "",
        `sent ${counts.sent} (${rate("sent").toFixed(0)}/s)`,
        `received ${counts.delivered} (${rate("delivered").toFixed(0)}/s)`,
        faults > 0 ? `FAULTS ${faults}` : "",
      ]
        .filter((part) => part !== "")
        .join("  "),
    );
    this.last = { ...counts };
    this.lastMs = nowMs;
  }
}
