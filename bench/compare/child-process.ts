/**
 * Processes of a run: each on the core it is meant for, in a group of its own so that it goes with all its children, also
 * when the run is interrupted.
 */
import { availableParallelism } from "node:os";

/** `anywhere`: on all cores. */
export type Side = "broker" | "generator" | "anywhere";

const STOP_MS = 5000;
const coreOf: Readonly<Record<Exclude<Side, "anywhere">, number>> = { broker: 0, generator: 1 };

export interface ChildProcess {
  readonly pid: number;
  readonly stdout: ReadableStream<Uint8Array>;
  /** Resolves with the exit code, or the signal's name. */
  readonly ended: Promise<number | string>;
  isRunning(): boolean;
  /** What it printed to stderr so far, the end of it. */
  errorText(): string;
  /** CPU seconds; after `ended`. */
  cpuSec(): number;
  signal(name: NodeJS.Signals): void;
  stop(): Promise<void>;
}

/** Undefined when broker and generator can have a core each; else why not. */
export function pinningFault(): string | undefined {
  if (Bun.which("taskset") === null) return "taskset is not installed: broker and generator share all cores";
  if (availableParallelism() < 2) return "there is one core: broker and generator share it";
  return undefined;
}

const running = new Set<ChildProcess>();
process.on("exit", () => {
  for (const child of running) child.signal("SIGKILL");
});
for (const name of ["SIGINT", "SIGTERM"] as const) process.on(name, () => process.exit(130));

export function spawn(command: readonly string[], side: Side, cwd?: string): ChildProcess {
  const isPinned = side !== "anywhere" && pinningFault() === undefined;
  const pinned = isPinned ? ["taskset", "-c", String(coreOf[side]), ...command] : [...command];
  const child = Bun.spawn(pinned, {
    ...(cwd === undefined ? {} : { cwd }),
    env: Object.fromEntries(Object.entries(process.env).filter(([name]) => !name.startsWith("MANTOU_"))),
    stdin: "ignore",
    stdout: "pipe",
    stderr: "pipe",
    detached: true,
  });
  let errors = "";
  void (async () => {
    for await (const chunk of child.stderr) errors = (errors + Buffer.from(chunk).toString()).slice(-4000);
  })();
  const ended = child.exited.then((code) => {
    running.delete(own);
    return child.signalCode ?? code;
  });
  const own: ChildProcess = {
    pid: child.pid,
    stdout: child.stdout,
    ended,
    isRunning: () => child.exitCode === null && child.signalCode === null,
    errorText: () => errors.trim(),
    cpuSec: () => Number(child.resourceUsage()?.cpuTime.total ?? 0) / 1e6,
    signal(name) {
      try {
        process.kill(-child.pid, name);
      } catch {
        child.kill(name);
      }
    },
    async stop() {
      own.signal("SIGTERM");
      const timer = setTimeout(() => own.signal("SIGKILL"), STOP_MS);
      await ended;
      clearTimeout(timer);
    },
  };
  running.add(own);
  return own;
}
