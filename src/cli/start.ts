/**
 * `mantou start`: the broker in the foreground, from its configuration to its exit code.
 *
 * A fault that nobody caught is logged as the bug it is, and the process goes on. Nothing a client sends may end the
 * process, and a bug that a client can reach is something a client can send; ending here would also drop every session
 * of the memory store for one client's fault. The parts that hold state fail earlier and narrower: an assertion or a
 * throw in a link's handlers closes that link. Before the broker is ready such a fault does end the process.
 */
import { constants } from "node:os";
import { resolve } from "node:path";
import { createLog, openLog, type Logger } from "#broker/log.ts";
import type { LineOutput } from "#broker/log-output.ts";
import { loadConfig, type Config, type ConfigFlags } from "#broker/config.ts";
import { noteUncaught } from "#broker/uncaught.ts";
import type { Host, RunningBroker, StopSignal } from "./host.ts";

const SIGNAL_EXIT = 128;

/** Resolves with the exit code once the broker has stopped. */
export async function start(flags: ConfigFlags, host: Host): Promise<number> {
  const read = () => loadConfig({ ...host.config, flags });
  const { config, originOf } = read();
  const stdout = host.logOutput(config.log.format);
  const log = openLog(config.log, stdout, { cwd: host.config.cwd });
  const stopAsked = awaitStopSignal(host);

  const broker = await host.startBroker(config, log, { flags, originOf, read });
  host.onFault(noteUncaught(log, broker.blame));
  const forgetPid = host.notePid(resolve(host.config.cwd ?? ".", config.node.data));
  host.onReload(() => void broker.reload().catch(() => {}));
  sayReady(config, broker, { log, stdout });

  const signal = await Promise.race([stopAsked, broker.failed]);
  if (signal instanceof Error) {
    log.fatal({ err: signal }, "the broker cannot go on");
    await broker.stop().catch(() => {});
    forgetPid();
    return 1;
  }
  log.info({ signal }, "stopping: a second signal ends the process at once");
  try {
    await broker.stop();
  } catch (error) {
    log.fatal({ err: error }, "stopping failed");
    return 1;
  } finally {
    forgetPid();
  }
  log.info("stopped");
  return 0;
}

/** Resolves with the first signal; the second ends the process. A signal during start-up waits for the start to end. */
function awaitStopSignal(host: Host): Promise<StopSignal> {
  const { promise, resolve } = Promise.withResolvers<StopSignal>();
  let isAsked = false;
  host.onSignal((signal) => {
    if (isAsked) return host.exit(SIGNAL_EXIT + constants.signals[signal]);
    isAsked = true;
    resolve(signal);
  });
  return promise;
}

/** Listeners by name, `admin` among them. */
function addressesOf(config: Config, { addresses, adminAddress }: RunningBroker): [string, string][] {
  const listeners = config.listeners.map(({ name }, index): [string, string] => [name, addresses[index]]);
  return adminAddress === undefined ? listeners : [...listeners, ["admin", adminAddress]];
}

/** Written to stdout whatever the level is, since scripts wait for it, and to the log where that is somewhere else too. */
function sayReady(config: Config, broker: RunningBroker, { log, stdout }: { log: Logger; stdout: LineOutput }): void {
  const addresses = addressesOf(config, broker);
  const line = `mantou ready${addresses.map(([name, address]) => ` ${name}=${address}`).join("")}`;
  const listeners = Object.fromEntries(addresses);
  const record = (to: Logger): void => to.child({}, { level: "info" }).info({ listeners }, line);
  const { format, to } = config.log;
  if (to !== "stdout") record(log);
  if (format === "text") stdout.write(`${line}\n`);
  else if (to !== "both") record(createLog({ level: "info", format }, stdout));
}
