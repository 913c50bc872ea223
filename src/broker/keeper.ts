/**
 * The keeper of a broker with several workers: starts them, starts them again when they die, and speaks for them.
 *
 *   keeper ─┬─ worker 0   each a broker of its own (broker.ts), with the clients whose ids belong to it, its store in
 *           ├─ worker 1   DATA/worker-N, and links to the others (worker-links.ts); all on the same ports (SO_REUSEPORT)
 *           └─ worker …
 *
 * The keeper handles no packet. It takes the lock of the data directory, binds each address once without sharing, so that a second
 * broker there is an error and not a silent sharer, and asks the workers what an operator wants to know. A worker whose keeper
 * is gone ends at once (worker.ts).
 */
import { chmodSync, mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { availableParallelism, tmpdir } from "node:os";
import { join, resolve } from "node:path";
import type { Subprocess } from "bun";
import { MantouError } from "#base/error.ts";
import { homeOf } from "#fabric/home.ts";
import { startFault } from "#store/fault-sqlite.ts";
import { claimLayout, readSeed } from "#store/layout-sqlite.ts";
import { StoreLock } from "#store/store-file-sqlite.ts";
import { type Config, type ConfigFlags, loadConfig } from "./config.ts";
import { type Control, type ParamsOf, spreadControl } from "./control.ts";
import { AWAY, awayFault } from "./operation.ts";
import { LiveChanges } from "./live-changes.ts";
import type { ListenerConfig } from "./listener-schema.ts";
import { type Logger, writeRecord } from "./log.ts";
import { SharedPorts } from "./shared-ports.ts";
import { answerTo, settle, type ToKeeper, type ToWorker } from "./worker-message.ts";

/** A worker that lived shorter is not started again at once. */
const STEADY_MS = 10_000;
const RESTART_MS = 1000;
/** How often it is looked whether workers answer, and after how long nobody waits for one that does not: less than whoever asks does. */
const PING_MS = 1000;
const MUTE_MS = 5000;
/** Beyond what a worker takes to drain and to close its store. */
const STOP_MORE_MS = 3000;

export interface Keeper {
  readonly addresses: readonly string[];
  /** Resolves when the broker cannot go on. */
  readonly failed: Promise<Error>;
  readonly control: Control;
  /** Each worker reads the configuration again. */
  reload(): Promise<void>;
  stop(): Promise<void>;
}

/** How many workers the configuration asks for. */
export function workerCountOf({ workers }: Config): number {
  return workers === "auto" ? availableParallelism() : workers;
}

/**
 * Starts the workers and resolves when all of them listen. `command` starts a process of them. Throws MantouError: what a worker
 * could not start for, `listen_failed`, `store_in_use`, or `workers_changed`.
 */
export async function startKeeper(
  config: Config,
  flags: ConfigFlags,
  log: Logger,
  command: readonly string[],
): Promise<Keeper> {
  const count = workerCountOf(config);
  const dir = resolve(config.node.data);
  const isKept = config.store.type !== "memory";
  const lock = isKept ? takeDirectory(dir) : undefined;
  const socketDir = mkdtempSync(join(tmpdir(), "mantou-"));
  chmodSync(socketDir, 0o700);
  const crew = new Crew(log, new LiveChanges(flags), config.broker.drainSecMax * 1000 + STOP_MORE_MS);
  const release = (): void => {
    lock?.release();
    rmSync(socketDir, { recursive: true, force: true });
  };
  try {
    if (isKept) claimLayout(dir, count);
    const seed = isKept ? readSeed(dir) : 1;
    const { changes } = crew;
    const ports = new SharedPorts(config.listeners);
    const controls = Array.from({ length: count }, (_, node) => crew.controlOf(node));
    const site = spreadControl(
      controls,
      (clientId) => homeOf(Buffer.from(clientId), { count, seed }),
      (node) => crew.isAway(node),
      (...done) => crew.note(...done),
    );
    crew.site = tryingPorts(site, ports, { flags, log, changes, tell: (message) => crew.tell(message) });
    await crew.start(command, count, (node) => ({
      kind: "start",
      flags,
      part: { node, count, seed, socketDir, dataDir: join(dir, `worker-${node}`), changes: changes.ofWorker },
      listeners: ports.listeners,
    }));
    return {
      addresses: crew.addresses,
      failed: new Promise<Error>(() => {}),
      control: crew.site,
      reload: () => crew.reload(),
      async stop() {
        await crew.stop();
        release();
      },
    };
  } catch (error) {
    await crew.stop();
    release();
    throw error;
  }
}

/** Throws MantouError `store_in_use` or `store_not_writable`. */
function takeDirectory(dir: string): StoreLock {
  try {
    mkdirSync(dir, { recursive: true, mode: 0o700 });
    return StoreLock.take(dir);
  } catch (error) {
    throw startFault(error, dir);
  }
}

interface Surroundings {
  readonly flags: ConfigFlags;
  readonly log: Logger;
  readonly changes: LiveChanges;
  tell(message: ToWorker): void;
}

/** The same, but listeners are tried out before workers open them: those that were closed, and those that are new in the configuration. */
function tryingPorts(site: Control, ports: SharedPorts, { flags, log, changes, tell }: Surroundings): Control {
  return async (name, params, onMissing) => {
    if (name === "listeners.start") {
      const listener = (params as ParamsOf<"listeners.start">).name;
      if (changes.isClosed(listener)) ports.tryAgain(listener);
    }
    if (name !== "config.reload") return site(name, params, onMissing);
    let next: readonly ListenerConfig[] | undefined;
    try {
      next = ports.next(loadConfig({ flags }).config.listeners);
      tell({ kind: "listeners", listeners: next });
    } catch (error) {
      if (!(error instanceof MantouError)) throw error;
      // What is wrong with the text, workers tell.
      if (error.code !== "config_invalid") {
        log.error({ problems: [error.message] }, "the configuration cannot be applied; the old one stays in force");
        throw error;
      }
    }
    const result = await site(name, params, onMissing);
    ports.listeners = next ?? ports.listeners;
    return result;
  };
}

/** Questions that a worker has not answered yet. */
type Asked = Map<number, { resolve(result: unknown): void; reject(error: unknown): void }>;

class Worker {
  readonly asked: Asked = new Map();
  process: Subprocess | undefined;
  addresses: readonly string[] = [];
  isReady = false;
  startedAtMs = 0;
  /** When it was asked for a sign of life that has not come; 0: it has. */
  pingedAtMs = 0;
  isMute = false;
  /** Of `LiveChanges.reloadCount`, what it has in force. */
  reloadCount = 0;
  /** Its clients are gone and nothing is on its way from it; it goes on serving the others. Or it has ended. */
  drained = Promise.withResolvers<void>();
}

/** The workers' processes. */
class Crew {
  private readonly workers: Worker[] = [];
  private readonly timers = new Set<Timer>();
  private readonly pinger = setInterval(() => this.ping(), PING_MS).unref();
  private lastId = 0;
  private isStopping = false;
  private command: readonly string[] = [];
  private orderFor: (node: number) => ToWorker = () => ({ kind: "stop" });

  constructor(
    private readonly log: Logger,
    readonly changes: LiveChanges,
    private readonly stopMsMax: number,
  ) {}

  /** All workers as one, for whoever asks, a worker among them. */
  site: Control = () => Promise.reject(new MantouError(AWAY, "the workers are starting"));

  /** Of worker 0, which has every listener. */
  get addresses(): readonly string[] {
    return this.workers[0]?.addresses ?? [];
  }

  /** Resolves when all workers listen; rejects when one cannot. */
  async start(command: readonly string[], count: number, orderFor: (node: number) => ToWorker): Promise<void> {
    this.command = command;
    this.orderFor = orderFor;
    const starts: Promise<void>[] = [];
    for (let node = 0; node < count; node++) {
      this.workers.push(new Worker());
      starts.push(new Promise((resolve, reject) => this.spawn(node, resolve, reject)));
    }
    await Promise.all(starts);
  }

  private spawn(node: number, ready: () => void, failed: (error: Error) => void): void {
    const worker = this.workers[node];
    worker.startedAtMs = performance.now();
    worker.pingedAtMs = 0;
    worker.isMute = false;
    worker.drained = Promise.withResolvers();
    let fault: Error | undefined;
    const process = Bun.spawn([...this.command], {
      stdio: ["ignore", "pipe", "inherit"],
      ipc: (message: ToKeeper) => {
        this.noteHeard(node);
        if (message.kind === "ready") {
          worker.isReady = true;
          worker.addresses = message.addresses;
          ready();
          this.catchUp(node);
        } else if (message.kind === "failed") fault = new MantouError(message.code, message.message);
        else this.handle(node, message);
      },
      onExit: (_process, code, signal) => {
        const how = String(signal ?? code);
        const wasReady = worker.isReady;
        this.handleExit(node);
        if (!wasReady)
          return failed(fault ?? new MantouError("worker_failed", `worker ${node} ended as it started: ${how}`));
        if (this.isStopping) return;
        this.log.error({ worker: node, how }, "a worker has ended; it is started again");
        this.restart(node);
      },
    });
    worker.process = process;
    void this.copyLog(process.stdout, node);
  }

  /** One that stands still, for whatever reason, is not waited for until it goes on. */
  private ping(): void {
    const nowMs = performance.now();
    for (const [node, worker] of this.workers.entries()) {
      if (!worker.isReady) continue;
      if (worker.pingedAtMs === 0) {
        worker.pingedAtMs = nowMs;
        this.send(node, { kind: "ping" });
      } else if (!worker.isMute && nowMs - worker.pingedAtMs > MUTE_MS) {
        worker.isMute = true;
        this.log.error({ worker: node }, "a worker stands still: it has not answered for five seconds");
        this.refuseAsked(node);
      }
    }
  }

  private noteHeard(node: number): void {
    const worker = this.workers[node];
    worker.pingedAtMs = 0;
    if (!worker.isMute) return;
    worker.isMute = false;
    this.log.info({ worker: node }, "the worker goes on");
    this.reloadLate(node);
  }

  /** What workers have done that one which is started again has to do as well. */
  note(operation: string, params: unknown, result: unknown): void {
    this.changes.note(operation, params, result);
    for (const [node, worker] of this.workers.entries())
      if (!this.isAway(node)) worker.reloadCount = this.changes.reloadCount;
  }

  /** The configuration was read again while it was starting, or stood still. */
  private reloadLate(node: number): void {
    const worker = this.workers[node];
    if (worker.reloadCount !== this.changes.reloadCount) this.send(node, { kind: "reload" });
    worker.reloadCount = this.changes.reloadCount;
  }

  /** A worker that has just begun to serve. */
  private catchUp(node: number): void {
    this.reloadLate(node);
    for (const trace of this.changes.tracesAt(Date.now())) {
      this.controlOf(node)("traces.start", trace).catch(({ message }: Error) =>
        this.log.warn({ worker: node, fault: message }, "a trace does not go on in this worker"),
      );
    }
  }

  private refuseAsked(node: number): void {
    const { asked } = this.workers[node];
    for (const { reject } of asked.values()) reject(awayFault(node));
    asked.clear();
  }

  private handle(node: number, message: ToKeeper): void {
    if (message.kind === "hello") {
      this.workers[node].reloadCount = this.changes.reloadCount;
      return this.send(node, this.orderFor(node));
    }
    if (message.kind === "ask") return void answerTo(this.site, message).then((answer) => this.send(node, answer));
    if (message.kind === "failures") return this.tellOthers(node, message);
    if (message.kind === "drained") return this.handleDrained(node);
    if (message.kind === "answer" || message.kind === "refusal") settle(this.workers[node].asked, message);
  }

  private tellOthers(node: number, message: ToWorker): void {
    for (const other of this.workers.keys()) if (other !== node && !this.isAway(other)) this.send(other, message);
  }

  /** The others may need it until they are drained as well, unless it stops alone. */
  private handleDrained(node: number): void {
    if (this.isStopping) this.workers[node].drained.resolve();
    else this.send(node, { kind: "close" });
  }

  private handleExit(node: number): void {
    const worker = this.workers[node];
    worker.drained.resolve();
    worker.isReady = false;
    worker.process = undefined;
    this.refuseAsked(node);
  }

  private restart(node: number): void {
    const { startedAtMs } = this.workers[node];
    const isSteady = performance.now() - startedAtMs > STEADY_MS;
    const timer = setTimeout(
      () => {
        this.timers.delete(timer);
        this.spawn(
          node,
          () => this.log.info({ worker: node }, "the worker is back"),
          (error) => {
            if (this.isStopping) return;
            this.log.error({ worker: node, fault: error.message }, "the worker could not start; it is tried again");
            this.restart(node);
          },
        );
      },
      isSteady ? 0 : RESTART_MS,
    );
    this.timers.add(timer);
  }

  /** A worker's records become the broker's. */
  private async copyLog(output: ReadableStream<Uint8Array>, node: number): Promise<void> {
    const decoder = new TextDecoder();
    let rest = "";
    for await (const chunk of output) {
      const lines = (rest + decoder.decode(chunk, { stream: true })).split("\n");
      rest = lines.pop()!;
      for (const line of lines) writeRecord(this.log, line, node);
    }
  }

  /** It does not run, or is starting, or stands still. */
  isAway(node: number): boolean {
    const { isReady, isMute } = this.workers[node];
    return !isReady || isMute;
  }

  /** What may be asked of one worker. */
  controlOf(node: number): Control {
    const ask = (name: string, params: unknown): Promise<unknown> =>
      new Promise((resolve, reject) => {
        const worker = this.workers[node];
        if (this.isAway(node)) return reject(awayFault(node));
        const id = ++this.lastId;
        worker.asked.set(id, { resolve, reject });
        this.send(node, { kind: "ask", id, name, params });
      });
    return ask as Control;
  }

  /** Rejects when none can, or none is there; those that are away do it later. */
  async reload(): Promise<void> {
    try {
      await this.site("config.reload", {});
    } catch (error) {
      if ((error as MantouError).code === AWAY)
        this.log.error({ fault: (error as Error).message }, "the configuration cannot be read again now");
      throw error;
    }
  }

  tell(message: ToWorker): void {
    for (let node = 0; node < this.workers.length; node++) this.send(node, message);
  }

  private send(node: number, message: ToWorker): void {
    try {
      this.workers[node].process?.send(message);
    } catch {
      // it is gone: its end is reported by itself
    }
  }

  async stop(): Promise<void> {
    this.isStopping = true;
    clearInterval(this.pinger);
    for (const timer of this.timers) clearTimeout(timer);
    this.tell({ kind: "stop" });
    const processes = this.workers.flatMap(({ process }) => process ?? []);
    const ends = Promise.all(processes.map(({ exited }) => exited));
    const late = Bun.sleep(this.stopMsMax);
    await Promise.race([Promise.all(this.workers.map(({ process, drained }) => process && drained.promise)), late]);
    this.tell({ kind: "close" });
    await Promise.race([ends, late]);
    for (const process of processes) process.kill("SIGKILL");
    await ends;
  }
}
