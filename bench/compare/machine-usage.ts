/** What the whole machine does, from /proc/stat: seconds over all cores. */
import { readFileSync } from "node:fs";

/** USER_HZ: 100 on every architecture that Bun runs on. */
const TICKS_PER_SEC = 100;

export interface MachineUsage {
  readonly busySec: number;
  /** Taken by the hypervisor. */
  readonly stealSec: number;
}

export function machineUsage(): MachineUsage {
  return parseMachine(readFileSync("/proc/stat", "latin1"));
}

/** The first line: user nice system idle iowait irq softirq steal … */
export function parseMachine(text: string): MachineUsage {
  const ticks = text.split("\n")[0].split(/\s+/).slice(1).map(Number);
  const [user, nice, system, , , irq, softirq, steal] = ticks;
  return {
    busySec: (user + nice + system + irq + softirq) / TICKS_PER_SEC,
    stealSec: steal / TICKS_PER_SEC,
  };
}
