/** What the figures were measured on: a number without its machine says nothing. */
import { availableParallelism, cpus, release, totalmem } from "node:os";
import { pinningFault } from "./child-process.ts";

export interface Machine {
  readonly cpu: string;
  readonly cores: number;
  readonly memoryBytes: number;
  readonly kernel: string;
  readonly bun: string;
  /** How broker and generator share the cores. */
  readonly pinning: string;
}

export function describeMachine(): Machine {
  return {
    cpu: cpus()[0]?.model.trim() ?? "unknown",
    cores: availableParallelism(),
    memoryBytes: totalmem(),
    kernel: `${process.platform} ${release()} ${process.arch}`,
    bun: Bun.version,
    pinning: pinningFault() ?? "broker on core 0, generator on core 1",
  };
}

export function machineText(machine: Machine): string {
  const memory = `${(machine.memoryBytes / 2 ** 30).toFixed(0)} GiB`;
  return `${machine.cores} × ${machine.cpu}, ${memory}, ${machine.kernel}, Bun ${machine.bun}; ${machine.pinning}; loopback`;
}
