/** Our broker with some number of workers, on every address of this machine's loopback, keeping nothing. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { type ChildProcess, spawn } from "#bench/compare/child-process.ts";

const MAIN = resolve(import.meta.dir, "../../src/main.ts");
const START_MS = 60_000;

export interface OwnBroker extends AsyncDisposable {
  readonly pid: number;
  readonly port: number;
  isRunning(): boolean;
}

export async function startOwnBroker(workers: number): Promise<OwnBroker> {
  const dir = mkdtempSync(join(tmpdir(), "mantou-bench-"));
  const listen = ["--listen", "tcp://0.0.0.0:0", "--workers", `${workers}`, "--data", dir];
  const settings = ["store.type=memory", "log.level=error", "broker.lagMsMax=60000"].flatMap((each) => ["--set", each]);
  const child = spawn([process.execPath, MAIN, "start", ...listen, ...settings], "anywhere");
  const port = await portOf(child);
  return {
    pid: child.pid,
    port,
    isRunning: () => child.isRunning(),
    async [Symbol.asyncDispose]() {
      await child.stop();
      rmSync(dir, { recursive: true, force: true });
    },
  };
}

async function portOf(child: ChildProcess): Promise<number> {
  const timer = setTimeout(() => child.signal("SIGKILL"), START_MS);
  let text = "";
  for await (const chunk of child.stdout) {
    text += Buffer.from(chunk).toString();
    const found = /mantou ready .*tcp:\/\/[\d.]+:(\d+)/.exec(text);
    if (!found) continue;
    clearTimeout(timer);
    return Number(found[1]);
  }
  throw new Error(`the broker did not start: ${child.errorText()}`);
}
