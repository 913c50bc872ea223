/** One life of the broker in a crash run: what a crash takes away. */
import { Engine } from "#core/engine.ts";
import { MqttContext } from "#mqtt/context.ts";
import { DurableStore } from "#store/durable-store.ts";
import type { MemoryLog } from "#test/support/memory-log.ts";
import { CrashDisk } from "./crash-disk.ts";
import type { CrashWeather } from "./crash-weather.ts";

export interface Life {
  readonly disk: CrashDisk;
  readonly store: DurableStore;
  readonly engine: Engine;
  readonly context: MqttContext;
}

/** Changes the broker in each of its lives, to see whether that is found. What it returns undoes what outlives them. */
export type CrashPlant = (life: Life) => (() => void) | void;

interface LifeOptions {
  readonly log: MemoryLog;
  readonly weather: CrashWeather;
  readonly seed: number;
  /** Monotonic milliseconds, and wall clock seconds at the start. */
  readonly nowMs: () => number;
  readonly nowSec: number;
  readonly onWork: () => void;
  readonly onBug: (error: unknown) => void;
}

/** A broker that has not restored yet what the disk has. */
export function makeLife({ log, weather, seed, nowMs, nowSec, onWork, onBug }: LifeOptions): Life {
  const disk = new CrashDisk(log, weather.isInstant);
  const store = new DurableStore({
    backend: disk,
    nowMs,
    wakeAfter: () => {}, // `tick` comes with every step
    limits: weather.store,
  });
  const engine = new Engine({ limits: weather.limits, seed, nowMs: nowMs(), nowSec, store, onWork, onBug });
  const reporter = { fault: () => {}, bug: (_: unknown, error: unknown) => onBug(error) };
  return { disk, store, engine, context: new MqttContext(engine, { reporter }) };
}
