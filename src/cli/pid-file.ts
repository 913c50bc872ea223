/**
 * Which process runs a broker on a data directory: `mantou.pid` in it, with the number and nothing else, as scripts expect.
 *
 * A process may have ended without taking its file away, and its number may have been given to another one. So a number counts only if its
 * process was there when the file was written.
 */
import { mkdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";

const NAME = "mantou.pid";
/** Of `/proc/PID/stat`: fixed on Linux for programs. */
const TICKS_PER_SEC = 100;
/** Times of files and of processes are not that exact. */
const SLACK_MS = 2000;

/** Notes this process; what is returned takes the note away. A directory that cannot be written has none. */
export function notePid(dir: string): () => void {
  const path = join(dir, NAME);
  try {
    mkdirSync(dir, { recursive: true });
    writeFileSync(path, `${process.pid}\n`);
  } catch {
    return () => {};
  }
  return () => {
    if (readPid(path) === process.pid) rmSync(path, { force: true });
  };
}

/** The process that runs on `dir`, or undefined. */
export function runningPid(dir: string): number | undefined {
  const path = join(dir, NAME);
  const pid = readPid(path);
  if (pid === undefined || !isAlive(pid)) return undefined;
  const startMs = startOf(pid);
  return startMs !== undefined && startMs > statSync(path).mtimeMs + SLACK_MS ? undefined : pid;
}

export function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === "EPERM";
  }
}

function readPid(path: string): number | undefined {
  try {
    const pid = Number(readFileSync(path, "utf8"));
    return Number.isInteger(pid) && pid > 0 ? pid : undefined;
  } catch {
    return undefined;
  }
}

/** Wall clock, milliseconds; undefined where the system does not say. */
function startOf(pid: number): number | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
    const ticks = Number(stat.slice(stat.lastIndexOf(")") + 2).split(" ")[19]);
    const bootSec = Number(/^btime (\d+)$/m.exec(readFileSync("/proc/stat", "utf8"))?.[1]);
    return (bootSec + ticks / TICKS_PER_SEC) * 1000;
  } catch {
    return undefined;
  }
}
