/** What the command line needs of its process, so that a test can be one. */
import { DescriptorOutput, writeToDescriptor, type LineOutput } from "#broker/log-output.ts";
import type { Config, ConfigFlags, ConfigRequest, ConfigSource } from "#broker/config.ts";
import { stdoutOutput, type Logger } from "#broker/log.ts";
import { detach, type Detached } from "./own-process.ts";
import { notePid } from "./pid-file.ts";

/** Of a process that the keeper starts. */
export const WORKER_COMMAND = "worker";

export type StopSignal = "SIGTERM" | "SIGINT";

export interface RunningBroker {
  /** Of each listener, in the order of the configuration, such as `tcp://127.0.0.1:1883`. */
  readonly addresses: readonly string[];
  /** Of admin, such as `http://0.0.0.0:18083`; undefined where none was asked for. */
  readonly adminAddress?: string | undefined;
  /** Resolves when the broker cannot go on. */
  readonly failed: Promise<Error>;
  /** Reads the configuration again; what comes of it, faults too, is in the log. */
  reload(): Promise<unknown>;
  /** Counts a fault that nobody caught as a plugin's, where it is one's. */
  readonly blame?: (error: Error) => boolean;
  /** Drains and resolves when nothing is left open. */
  stop(): Promise<void>;
}

export interface Host {
  readonly config: Omit<ConfigRequest, "flags">;
  out(text: string): void;
  err(text: string): void;
  logOutput(format: Config["log"]["format"]): LineOutput;
  /** One process or several, as the configuration says. */
  startBroker(config: Config, log: Logger, source: ConfigSource & { flags: ConfigFlags }): Promise<RunningBroker>;
  /** Serves the keeper that started this process. Never returns. */
  runWorker(): Promise<never>;
  onSignal(handler: (signal: StopSignal) => void): void;
  /** SIGHUP. */
  onReload(handler: () => void): void;
  /** What nobody caught. While a handler is there, such a fault does not end the process. */
  onFault(handler: (fault: unknown) => void): void;
  exit(code: number): void;
  /** Notes that this process serves a data directory; what is returned takes the note away. */
  notePid(dir: string): () => void;
  /** Asks a process to stop. */
  kill(pid: number): void;
  /** Starts this program in the background, with these words, until it is ready or has ended (`code`). */
  detach(words: readonly string[]): Promise<Detached>;
}

export function processHost(): Host {
  const out = plainOutput(1);
  const err = plainOutput(2);
  return {
    config: { env: process.env, cwd: process.cwd() },
    out: (text) => out.write(text),
    err: (text) => err.write(text),
    logOutput: stdoutOutput,
    // Only `start` pays for loading the broker.
    startBroker: async (...parts) => (await import("./site.ts")).startSite(...parts),
    runWorker: async () => {
      (await import("#broker/worker.ts")).runWorker();
      return new Promise(() => {});
    },
    onSignal: (handler) => {
      for (const signal of ["SIGTERM", "SIGINT"] as const) process.on(signal, () => handler(signal));
    },
    onReload: (handler) => void process.on("SIGHUP", handler),
    onFault: (handler) => {
      process.on("uncaughtException", handler);
      process.on("unhandledRejection", handler);
    },
    exit: (code) => process.exit(code),
    notePid,
    kill: (pid) => void process.kill(pid, "SIGTERM"),
    detach,
  };
}

function plainOutput(descriptor: number): LineOutput {
  return new DescriptorOutput(writeToDescriptor(descriptor), () => "");
}
