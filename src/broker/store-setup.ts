/** The store of the configuration: nothing kept, or the data directory by way of its thread. */
import { randomInt } from "node:crypto";
import { mkdirSync, statSync } from "node:fs";
import { dirname, join, resolve } from "node:path";
import type { Engine } from "#core/engine.ts";
import { VolatileStore } from "#core/local-ports.ts";
import type { Store } from "#core/ports.ts";
import { DurableStore } from "#store/durable-store.ts";
import { readSeed } from "#store/layout-sqlite.ts";
import { backUpInThread, openThreadLog } from "#store/thread-link.ts";
import type { Config } from "./config.ts";
import type { Logger } from "./log.ts";

const SEED_MAX = 0x7fff_ffff;

export interface OpenStore {
  readonly store: Store;
  /** Of the engine's hashes; kept with the data, since keys of publishers follow from it. */
  readonly seed: number;
  /** Restores what there is; clients that come meanwhile wait. */
  attach(engine: Engine): void;
  /** A tick's input has been handled. */
  tick(): void;
  /** The durable store, for its figures; undefined with `store.type: memory`. */
  readonly durable: DurableStore | undefined;
  /** Copies it to `backup/NAME` beside it. Rejects with MantouError `file_exists` or `backup_failed`; undefined as `durable`. */
  readonly backUp: ((name: string) => Promise<{ path: string; bytes: number }>) | undefined;
  /** Resolves when the store can do nothing any more, such as that it cannot be recovered. */
  readonly failed: Promise<Error>;
  /** Writes what waits, for so long at most, and gives the data directory free. */
  close(msMax: number): Promise<void>;
}

/** Throws MantouError `store_in_use`, `workers_changed`, `store_schema_newer` or `store_not_writable`. */
export async function openStore(
  config: Config,
  log: Logger,
  part?: { readonly dataDir: string; readonly seed: number },
): Promise<OpenStore> {
  if (config.store.type === "memory") {
    const nothing = (): void => {};
    const store = new VolatileStore();
    const seed = randomInt(1, SEED_MAX);
    const failed = new Promise<Error>(nothing);
    const none = { durable: undefined, backUp: undefined };
    return { store, ...none, seed, attach: nothing, tick: nothing, failed, close: async () => {} };
  }
  const dir = resolve(part?.dataDir ?? config.node.data);
  const backend = await openThreadLog({ dir, sync: config.store.sync });
  let isAttached = false;
  const { promise: failed, resolve: fail } = Promise.withResolvers<Error>();
  backend.onFault = fail;
  const alarm = new Alarm(() => store.tick());
  const store = new DurableStore({
    backend,
    nowMs: () => performance.now(),
    wakeAfter: (ms) => alarm.set(ms),
    onTrouble: (reason) => {
      if (reason === undefined) log.warn("the store can write again");
      else log.error(`the store cannot write (${reason}): what must be kept is refused until it can`);
    },
  });
  return {
    store,
    durable: store,
    async backUp(name) {
      const path = join(dir, "backup", name);
      mkdirSync(dirname(path), { recursive: true, mode: 0o700 });
      await backUpInThread(dir, path);
      return { path, bytes: statSync(path).size };
    },
    seed: readSeed(dir, part?.seed),
    attach(engine) {
      isAttached = true;
      const startMs = performance.now();
      store.attach(engine, ({ damage, ...counts }) => {
        for (const line of damage) log.error(`the store was damaged: ${line}`);
        const ms = Math.round(performance.now() - startMs);
        if (counts.sessionCount + counts.retainedCount > 0) log.info({ ...counts, ms }, "restored from the store");
      });
    },
    tick: () => store.tick(),
    failed,
    async close(msMax) {
      if (isAttached) await Promise.race([new Promise<void>((done) => store.flush(done)), Bun.sleep(msMax)]);
      alarm.stop();
      await backend.close();
    },
  };
}

/** One timer: the earliest that was asked for. */
class Alarm {
  private timer: ReturnType<typeof setTimeout> | undefined;
  private atMs = Infinity;

  constructor(private readonly ring: () => void) {}

  set(ms: number): void {
    const atMs = performance.now() + ms;
    if (this.timer !== undefined && this.atMs <= atMs) return;
    clearTimeout(this.timer);
    this.atMs = atMs;
    this.timer = setTimeout(() => {
      this.timer = undefined;
      this.ring();
    }, ms);
  }

  stop(): void {
    clearTimeout(this.timer);
  }
}
