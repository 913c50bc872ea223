/** What nobody caught in a process of the broker: a plugin's own where its stack says so, else a bug. The process goes on. */
import { LimitedLog } from "./limited-log.ts";
import type { Logger } from "./log.ts";

const LINES_PER_SEC = 5;

/** `blame` says whether a plugin has it to its account now. Returns what such faults are given to. */
export function noteUncaught(log: Logger, blame: (error: Error) => boolean = () => false): (fault: unknown) => void {
  const faults = new LimitedLog(log, { linesPerSec: LINES_PER_SEC, nowMs: () => performance.now() });
  return (fault) => {
    const err = fault instanceof Error ? fault : new Error(String(fault));
    if (!blame(err)) faults.write("fatal", "fault", "a bug: nobody caught this error; the broker goes on", { err });
  };
}
