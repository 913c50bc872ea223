/**
 * CPU time and memory of the server and the processes it has started, and the machine's CPU time, from /proc. The tree is found once: sampling it must
 * not cost what is measured. CPU time counts in ticks of 10 ms, so windows below a second are coarse.
 */
import { readdirSync, readFileSync } from "node:fs";

/** Linux reports in USER_HZ, which is 100 on every architecture that Bun runs on. */
const TICKS_PER_SEC = 100;
const PAGE_BYTES = 4096;

export interface Usage {
  readonly cpuSec: number;
  readonly rssBytes: number;
  readonly processes: number;
}

/** CPU seconds of all cores since the machine started. */
export interface MachineUsage {
  readonly busySec: number;
  /** Taken by the hypervisor. */
  readonly stealSec: number;
}

interface Stat {
  readonly parent: number;
  readonly cpuSec: number;
  readonly rssBytes: number;
}

/** Throws when there is no process `pid`. */
export function serverProcesses(pid: number): number[] {
  if (statOf(pid) === undefined) throw new RangeError(`--server-pid ${pid}: there is no such process`);
  const parents = new Map<number, number>();
  for (const name of readdirSync("/proc")) {
    const stat = /^\d+$/.test(name) ? statOf(Number(name)) : undefined;
    if (stat !== undefined) parents.set(Number(name), stat.parent);
  }
  const tree = [pid];
  for (let i = 0; i < tree.length; i++) for (const [child, parent] of parents) if (parent === tree[i]) tree.push(child);
  return tree;
}

export function usageOf(pids: readonly number[]): Usage {
  const stats = pids.map(statOf).filter((stat) => stat !== undefined);
  return {
    cpuSec: stats.reduce((sum, { cpuSec }) => sum + cpuSec, 0),
    rssBytes: stats.reduce((sum, { rssBytes }) => sum + rssBytes, 0),
    processes: stats.length,
  };
}

export function machineUsage(): MachineUsage {
  const [user = 0, nice = 0, system = 0, , , irq = 0, softirq = 0, steal = 0] = readFileSync("/proc/stat", "latin1")
    .split("\n", 1)[0]
    .split(/\s+/)
    .slice(1)
    .map((ticks) => Number(ticks) / TICKS_PER_SEC);
  return { busySec: user + nice + system + irq + softirq, stealSec: steal };
}

function statOf(pid: number): Stat | undefined {
  try {
    return parseStat(readFileSync(`/proc/${pid}/stat`, "latin1"));
  } catch {
    return undefined; // ended
  }
}

/** The fields after the name in parentheses, which may itself have spaces and parentheses (proc_pid_stat(5)). */
export function parseStat(text: string): Stat {
  const fields = text.slice(text.lastIndexOf(")") + 2).split(" ");
  return {
    parent: Number(fields[1]),
    cpuSec: (Number(fields[11]) + Number(fields[12])) / TICKS_PER_SEC,
    rssBytes: Number(fields[21]) * PAGE_BYTES,
  };
}
