/** A worker process: one of several brokers that are one, run by its keeper (keeper.ts). */
import type { AttemptLimit } from "#access/attempt-limit.ts";
import { MantouError } from "#base/error.ts";
import { startBroker, type RunningBroker } from "./broker.ts";
import { type ConfigFlags, type LoadedConfig, loadConfig, loadConfigText } from "./config.ts";
import { reloaded } from "./config-reload.ts";
import type { Control } from "./control.ts";
import type { ListenerConfig } from "./listener-schema.ts";
import type { ConfigTexts } from "./live-changes.ts";
import { createLog } from "./log.ts";
import { noteUncaught } from "./uncaught.ts";
import { answerTo, type Question, settle, type ToKeeper, type ToWorker } from "./worker-message.ts";

/** How often a worker looks whether its keeper is alive, should the channel not tell. */
const LOOK_MS = 500;

/** Failed credentials of so long are told together. */
const SHARE_MS = 20;

/** Listeners with their ports. */
let picked: readonly ListenerConfig[] = [];
/** What this worker has asked of the broker as a whole. */
const asked = new Map<number, Question>();
let lastId = 0;

/** The operations of all workers as one, by way of the keeper. */
const askSite = ((name: string, params: unknown) =>
  new Promise((resolve, reject) => {
    const id = ++lastId;
    asked.set(id, { resolve, reject });
    say({ kind: "ask", id, name, params });
  })) as Control;

/** Serves its keeper; ends the process when the keeper says so, or is gone. */
export function runWorker(): void {
  const keeper = process.ppid;
  let broker: RunningBroker | undefined;
  const die = (): never => process.exit(1); // nothing may be acknowledged any more
  process.on("disconnect", die);
  setInterval(() => process.ppid === keeper || die(), LOOK_MS);
  for (const signal of ["SIGINT", "SIGHUP"]) process.on(signal, () => {}); // a terminal's, meant for the keeper
  const closing = Promise.withResolvers<void>();
  const othersDrained = async (): Promise<void> => {
    if (!process.connected) return;
    say({ kind: "drained" });
    await closing.promise;
  };
  let isStopping = false;
  const stop = async (): Promise<void> => {
    if (isStopping) return; // a signal to all processes, and the keeper's word
    isStopping = true;
    process.off("disconnect", die);
    await broker?.stop(othersDrained);
    process.exit(0);
  };
  process.on("SIGTERM", () => void stop());
  process.on("message", (message: ToWorker) => {
    if (message.kind === "stop") void stop();
    else if (message.kind === "close") closing.resolve();
    else if (message.kind === "ping") say({ kind: "pong" });
    else if (message.kind === "listeners") picked = message.listeners;
    else if (message.kind === "reload")
      void broker?.reload().catch(() => {}); // its log says why
    else if (message.kind === "failures") broker?.access.attempts.noteElsewhere(message.failures);
    else if (message.kind === "ask") void answerTo(broker?.control, message).then(say);
    else if (message.kind === "answer" || message.kind === "refusal") settle(asked, message);
    else
      void start(message).then(
        (started) => (broker = started),
        (error: unknown) => {
          const isKnown = error instanceof MantouError;
          const message = isKnown ? error.message : String((error as Error).stack);
          say({ kind: "failed", code: isKnown ? error.code : "bug", message });
          process.exitCode = 1;
          setImmediate(() => process.disconnect!()); // once that is said
        },
      );
  });
  say({ kind: "hello" });
}

async function start({ flags, part, listeners }: ToWorker & { kind: "start" }): Promise<RunningBroker> {
  picked = listeners;
  const read = (): LoadedConfig => adopt(loadConfig({ flags }));
  const { config, originOf } = adopt(loadAsOthers(flags, part.changes.texts));
  const log = createLog({ level: config.log.level, format: "json" });
  const broker = await startBroker(config, log, { originOf, read }, { ...part, site: askSite });
  const note = noteUncaught(log, (error) => broker.plugins.host.blame(error));
  for (const kind of ["uncaughtException", "unhandledRejection"]) process.on(kind, note);
  void broker.failed.then((error) => {
    log.fatal({ err: error }, "the worker cannot go on");
    process.exit(1);
  });
  shareFailures(broker.access.attempts);
  say({ kind: "ready", addresses: broker.addresses });
  return broker;
}

/** Whoever guesses is not to have as many guesses in every worker. */
function shareFailures(attempts: AttemptLimit): void {
  const untold = new Map<string, number>();
  attempts.onFailure = (network) => {
    if (untold.size === 0)
      setTimeout(() => {
        if (process.connected) say({ kind: "failures", failures: [...untold] });
        untold.clear();
      }, SHARE_MS);
    untold.set(network, (untold.get(network) ?? 0) + 1);
  };
}

/** What is in force in the others, whatever the file says by now. */
function loadAsOthers(flags: ConfigFlags, { start, live, plugins }: ConfigTexts): LoadedConfig {
  const first = loadConfigText(flags, start);
  if (live === start && plugins === start) return first;
  const loaded = loadConfigText(flags, live);
  return { ...loaded, config: reloaded(first.config, loaded.config, loadConfigText(flags, plugins).config) };
}

/** Listeners as all workers have them: with the ports that were picked. */
function adopt(loaded: LoadedConfig): LoadedConfig {
  const listeners = loaded.config.listeners.map((listener) => {
    const known = picked.find(({ name }) => name === listener.name);
    const isOpen = listener.bind.path === undefined && listener.bind.port === 0;
    return isOpen && known ? { ...listener, bind: known.bind } : listener;
  });
  return { ...loaded, config: { ...loaded.config, listeners } };
}

function say(message: ToKeeper): void {
  process.send!(message);
}
