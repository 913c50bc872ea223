/** `mantou start --detach` and `mantou stop`: a broker without a terminal, as emqttd's `start` and `stop`. */
import { resolve } from "node:path";
import { MantouError } from "#base/error.ts";
import { type ConfigFlags, loadConfig } from "#broker/config.ts";
import type { Host } from "./host.ts";
import { isAlive, runningPid } from "./pid-file.ts";

const POLL_MS = 50;
/** What a stop may take beyond `broker.drainSecMax`. */
const STOP_MORE_SEC = 10;

/** Returns when the broker is ready, with its ready line printed, or with the exit code of one that could not start. */
export async function startDetached(flags: ConfigFlags, host: Host): Promise<number> {
  const { config, originOf } = loadConfig({ ...host.config, flags });
  const pid = runningPid(resolve(host.config.cwd ?? ".", config.node.data));
  if (pid !== undefined) throw new MantouError("broker_running", `mantou is running already, process ${pid}`);
  // Nobody reads its stdout.
  const isLogSaid = originOf("log.to").source !== "default";
  const words = [...wordsOf(flags), ...(isLogSaid ? [] : ["--set", "log.to=files"])];
  const { code, said, pid: child } = await host.detach(["start", ...words]);
  host.out(said.out);
  host.err(said.err);
  if (code !== undefined) return code;
  host.out(`mantou runs in the background, process ${child}; mantou stop ends it\n`);
  return 0;
}

function wordsOf({ config, data, set = [], listen = [], workers }: ConfigFlags): string[] {
  return [
    ...(config === undefined ? [] : ["--config", config]),
    ...(data === undefined ? [] : ["--data", data]),
    ...(workers === undefined ? [] : ["--workers", workers]),
    ...set.flatMap((each) => ["--set", each]),
    ...listen.flatMap((each) => ["--listen", each]),
  ];
}

/** Drains and ends the broker of the data directory. Throws MantouError `broker_not_running` or `broker_stays`. */
export async function stop(flags: ConfigFlags, host: Host): Promise<number> {
  const { config } = loadConfig({ ...host.config, flags });
  const dir = resolve(host.config.cwd ?? ".", config.node.data);
  const pid = runningPid(dir);
  if (pid === undefined) throw new MantouError("broker_not_running", `mantou is not running on ${dir}`);
  host.kill(pid);
  const deadlineMs = performance.now() + (config.broker.drainSecMax + STOP_MORE_SEC) * 1000;
  while (isAlive(pid)) {
    if (performance.now() > deadlineMs)
      throw new MantouError("broker_stays", `process ${pid} does not end; kill -9 ${pid}`);
    await Bun.sleep(POLL_MS);
  }
  host.out("ok\n");
  return 0;
}
