/**
 * What an operation on a running broker is: plain JSON in, plain JSON out, checked by schemas on the way in, and a word on
 * which of several processes have to be asked. The operations themselves stand in `*-operations.ts`; control.ts runs them.
 *
 *   each   asked of all that are there, answers merged      stats, listeners, alarms, kick by filter
 *   all    a change: everywhere, or refused                 listeners.stop, config.set
 *   walk   a list, process after process, page by page      clients, sessions, subscriptions, topics, retained messages
 *   home   about one client id: the process that has it     clients.show, sessions.end
 *   one    whoever is asked knows, or does it               publish, bans, users, the configuration
 */
import { z } from "zod";
import { MantouError } from "#base/error.ts";
import type { Engine } from "#core/engine.ts";
import type { MqttContext } from "#mqtt/context.ts";
import type { LoadMonitor } from "#transport/load-monitor.ts";
import type { AccessSetup } from "./access-setup.ts";
import type { Commits } from "./commits.ts";
import type { ConfigReload } from "./config-reload.ts";
import type { Gauges } from "./gauges.ts";
import type { Histograms } from "./histograms.ts";
import type { OpenListeners } from "./listener-setup.ts";
import type { LiveConfig } from "./live-config.ts";
import type { OpenStore } from "./store-setup.ts";
import type { Observation } from "./observation.ts";
import type { PluginSetup } from "./plugin-setup.ts";

type Spread = "each" | "all" | "walk" | "home" | "one";

/** What the operations of one process reach. */
export interface ControlParts {
  readonly engine: Engine;
  readonly context: MqttContext;
  readonly listeners: OpenListeners;
  readonly access: AccessSetup;
  readonly kept: OpenStore;
  readonly load: LoadMonitor;
  readonly gauges: Gauges;
  readonly histograms: Histograms;
  readonly observation: Observation;
  readonly commits: Commits;
  readonly config: LiveConfig;
  readonly reload: ConfigReload;
  readonly plugins: PluginSetup;
  /** Wall clock, seconds. */
  readonly startedAtSec: number;
}

export interface Operation<P extends z.ZodType = z.ZodType, R extends z.ZodType = z.ZodType> {
  /** What it does, for whoever reads the list of operations. */
  readonly about: string;
  readonly spread: Spread;
  /** Spread `each`: one does it first; what that one refuses, the others are not asked. */
  readonly isOneFirst?: boolean;
  readonly params: P;
  readonly result: R;
  /** Spread `each` and `all`: one answer of several, at least one; `missing` are the numbers of the processes that gave none. */
  merge?(answers: z.output<R>[], missing: readonly number[]): z.output<R>;
  /** Throws or rejects with MantouError where the caller or the world is at fault. */
  run(parts: ControlParts, params: z.output<P>): z.output<R> | Promise<z.output<R>>;
}

/** Lets the types be inferred. */
export function operation<P extends z.ZodType, R extends z.ZodType>(op: Operation<P, R>): Operation<P, R> {
  return op;
}

// ---- what many operations have in common

export const nothing = z.object({});
/** Also as a query has it. */
export const flag = z.union([z.boolean(), z.enum(["true", "false"]).transform((text) => text === "true")]);
export const done = z.object({ count: z.int().min(0).meta({ description: "how many were concerned" }) });

/** What each process did. */
export function sumDone(answers: z.output<typeof done>[]): z.output<typeof done> {
  return { count: answers.reduce((sum, { count }) => sum + count, 0) };
}

const PAGE_COUNT_MAX = 1000;
const PAGE_COUNT = 100;

/** Of every list. */
export const pageParams = {
  limit: z.coerce
    .number()
    .int()
    .min(1)
    .max(PAGE_COUNT_MAX)
    .default(PAGE_COUNT)
    .meta({ description: "most rows of the answer" }),
  cursor: z
    .string()
    .regex(/^\d+(\.\d*)?$/, { error: "a cursor that an earlier answer gave" })
    .optional()
    .meta({ description: "where to go on: `cursor` of the answer before" }),
};

/** A page; there is more as long as it has a cursor, also when a filter left few rows or none. */
export function pageOf<T extends z.ZodType>(
  item: T,
): z.ZodObject<{ items: z.ZodArray<T>; cursor: z.ZodOptional<z.ZodString> }> {
  return z.object({
    items: z.array(item),
    cursor: z.string().optional().meta({ description: "there may be more; absent: this was the last page" }),
  });
}

export interface Page<T> {
  readonly items: T[];
  readonly cursor?: string | undefined;
}

/** How often the clock is looked at, how long others wait, and after how many and how long a page goes out as it is. */
const LOOK_COUNT = 1024;
const SLICE_MS = 5;
const WALK_COUNT_MIN = 100_000;
const WALK_MS = 200;

/**
 * Visits numbers from the cursor's on, below `high`, until the page is full; `rowOf` answers undefined for those that are
 * not meant. Between slices others are served; after `WALK_COUNT_MIN` numbers and `WALK_MS` the page goes out as it is, so that a filter
 * that finds nothing among millions holds nobody up.
 */
export async function walk<T>(
  { cursor, limit }: { cursor?: string | undefined; limit: number },
  high: () => number,
  rowOf: (number: number) => T | undefined,
): Promise<Page<T>> {
  const items: T[] = [];
  const startMs = performance.now();
  let sliceMs = startMs;
  let at = Number(cursor ?? 0);
  for (let visited = 1; at < high() && items.length < limit; visited++) {
    const row = rowOf(at++);
    if (row !== undefined) items.push(row);
    if (visited % LOOK_COUNT !== 0) continue;
    const nowMs = performance.now();
    if (visited >= WALK_COUNT_MIN && nowMs - startMs >= WALK_MS) break;
    if (nowMs - sliceMs < SLICE_MS) continue;
    await new Promise((resolve) => setImmediate(resolve));
    sliceMs = performance.now();
  }
  return at < high() ? { items, cursor: String(at) } : { items };
}

/**
 * The numbers below `high` with the greatest keys, the greatest first, at most `limit`; `keyOf` answers undefined for those that are
 * not meant. Keeps no more than those, and serves others between slices.
 */
export async function walkTop(
  limit: number,
  high: () => number,
  keyOf: (number: number) => number | undefined,
): Promise<number[]> {
  const numbers: number[] = [];
  const keys: number[] = [];
  let sliceMs = performance.now();
  for (let at = 0; at < high(); at++) {
    const key = keyOf(at);
    if (key !== undefined && (keys.length < limit || key > keys[keys.length - 1])) {
      let place = keys.length;
      while (place > 0 && keys[place - 1] < key) place--;
      keys.splice(place, 0, key);
      numbers.splice(place, 0, at);
      if (keys.length > limit) keys.length = numbers.length = limit;
    }
    if (at % LOOK_COUNT !== 0 || performance.now() - sliceMs < SLICE_MS) continue;
    await new Promise((resolve) => setImmediate(resolve));
    sliceMs = performance.now();
  }
  return numbers;
}

/** A page of a list that is at hand, for what is bounded. */
export function pageFrom<T>(
  all: readonly T[],
  { cursor, limit }: { cursor?: string | undefined; limit: number },
): Page<T> {
  const from = Number(cursor ?? 0);
  const items = all.slice(from, from + limit);
  return from + limit < all.length ? { items, cursor: String(from + limit) } : { items };
}

/** What a control rejects with whose process is not there. */
export const AWAY = "worker_away";

export function awayFault(node: number): MantouError {
  return new MantouError(AWAY, `worker ${node} is being started again, or stands still`);
}

export function notFound(what: string, name: string): MantouError {
  return new MantouError("not_found", `${what}: found no ${JSON.stringify(name)}`);
}

const ID_BYTES_MAX = 65_535;
export const clientIdParam = z.string().min(1).max(ID_BYTES_MAX).meta({ description: "client id" });
