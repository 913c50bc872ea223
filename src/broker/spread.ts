/**
 * What a data directory holds, given to another number of worker processes (store/spread-sqlite.ts): where clients belong then, and
 * what modules and plugins keep beside the store.
 *
 *   plugins/delayed/delayed.db                of all ──► one journal, of worker 0
 *   plugins/auto-subscribe/subscriptions.json of all ──► put together ──► every worker
 *   plugins/NAME/                             of worker 0 ──► worker 0; what others have stays with what is set aside
 */
import { cpSync, existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { homeOf } from "#fabric/home.ts";
import { joinJournals } from "#modules/journal-file-sqlite.ts";
import { type SpreadReport, spreadStore } from "#store/spread-sqlite.ts";
import { restoreData } from "#store/worker-backup-sqlite.ts";

const PLUGINS = "plugins";
const JOURNAL = join(PLUGINS, "delayed", "delayed.db");
const LISTED = join(PLUGINS, "auto-subscribe", "subscriptions.json");

export interface DataSpread extends SpreadReport {
  /** Plugins of which workers other than the first had something that was not carried over: it is in `aside`. */
  readonly leftPlugins: readonly string[];
}

/** Makes the data in `dir` that of `count` processes; undefined when it is already. No broker runs. Throws as `spreadStore`. */
export function spreadData(dir: string, count: number): DataSpread | undefined {
  let leftPlugins: string[] = [];
  const report = spreadStore({
    dir,
    count,
    homeOf: (clientId, place) => homeOf(clientId, place),
    carry: (from, to) => (leftPlugins = carryPlugins(from, to)),
  });
  return report && { ...report, leftPlugins };
}

/**
 * Puts a backup, a file or with workers a directory, in the place of the store in `dir`, which is set aside; what plugins keep stays.
 * Returns where, undefined when there was none. Throws as `restoreData`.
 */
export function restoreBackup(dir: string, backup: string): string | undefined {
  return restoreData(dir, backup, carryPlugins);
}

function carryPlugins(from: readonly string[], to: readonly string[]): string[] {
  const [first, ...others] = from;
  for (const name of pluginsIn(first))
    if (name !== "delayed")
      cpSync(join(first, PLUGINS, name), join(to[0], PLUGINS, name), { recursive: true, preserveTimestamps: true });
  const journals = placesOf(from, JOURNAL);
  if (journals.length > 0) joinJournals(journals, madeFor(to[0], JOURNAL));
  const lists = placesOf(from, LISTED).map((path) => JSON.parse(readFileSync(path, "utf8")) as Record<string, object>);
  for (const dir of lists.length > 0 ? to : [])
    writeFileSync(madeFor(dir, LISTED), JSON.stringify(joined(lists)), { mode: 0o600 });
  const left = others.flatMap((dir) => pluginsIn(dir));
  return [...new Set(left)].filter((name) => name !== "delayed" && name !== "auto-subscribe");
}

/** Those of a client from all lists. */
function joined(lists: readonly Record<string, object>[]): Record<string, object> {
  const all: Record<string, object> = {};
  for (const list of lists)
    for (const [clientId, filters] of Object.entries(list)) all[clientId] = { ...all[clientId], ...filters };
  return all;
}

/** Plugins that have something in their directories. */
function pluginsIn(dir: string): string[] {
  const plugins = join(dir, PLUGINS);
  if (!existsSync(plugins)) return [];
  return readdirSync(plugins).filter((name) => readdirSync(join(plugins, name)).length > 0);
}

function placesOf(dirs: readonly string[], path: string): string[] {
  return dirs.map((dir) => join(dir, path)).filter((place) => existsSync(place));
}

function madeFor(dir: string, path: string): string {
  const place = join(dir, path);
  mkdirSync(join(place, ".."), { recursive: true, mode: 0o700 });
  return place;
}
