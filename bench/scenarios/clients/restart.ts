/** A broker that dies and starts again as it was: the same command, folder and cores, without being told. */
import { existsSync, readlinkSync } from "node:fs";
import { procText } from "#bench/compare/disk.ts";

const POLL_MS = 2;
const LISTEN_MS = 60_000;
const END_MS = 30_000;

export interface Restarted {
  readonly pid: number;
  /** `performance.now` when it was started, and when it took a connection. */
  readonly startedMs: number;
  readonly listeningMs: number;
  stop(): Promise<void>;
}

/** The new one is this process's child, and in its group. */
export async function killAndRestart(pid: number, port: number): Promise<Restarted> {
  const command = procText(pid, "cmdline").split("\0").slice(0, -1);
  const cpus = /^Cpus_allowed_list:\s+(\S+)/m.exec(procText(pid, "status"))![1];
  const cwd = readlinkSync(`/proc/${pid}/cwd`);
  process.kill(pid, "SIGKILL");
  // A thread may still be in a system call, with all files and sockets open: gone is what its parent has reaped.
  for (const end = performance.now() + END_MS; existsSync(`/proc/${pid}`); await Bun.sleep(POLL_MS))
    if (performance.now() > end) throw new Error("the killed broker does not end");
  const pinned = Bun.which("taskset") === null ? command : ["taskset", "-c", cpus, ...command];
  const startedMs = performance.now();
  const child = Bun.spawn(pinned, { cwd, stdin: "ignore", stdout: "ignore", stderr: "inherit" });
  while (!(await accepts(port))) {
    if (child.exitCode !== null) throw new Error(`the broker did not start again: exit code ${child.exitCode}`);
    if (performance.now() - startedMs > LISTEN_MS) throw new Error("the broker does not listen again");
    await Bun.sleep(POLL_MS);
  }
  return {
    pid: child.pid,
    startedMs,
    listeningMs: performance.now(),
    async stop() {
      child.kill("SIGKILL");
      await child.exited;
    },
  };
}

async function accepts(port: number): Promise<boolean> {
  const socket = { data: () => {} };
  const link = await Bun.connect({ hostname: "127.0.0.1", port, socket }).catch(() => undefined);
  link?.terminate();
  return link !== undefined;
}
