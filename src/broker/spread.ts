/**
 * What a data directory holds, given to another number of worker processes (store/spread-sqlite.ts): where clients belong then, and
 * what modules and plugins keep beside the store.
 *
 *   DATA/plugins/NAME                     what all processes share: stays
 *   DATA/worker-N/plugins/NAME            a process's own; with one process it is in DATA/plugins too
 *     FILE.db of delayed, webhook, storage    journals: those of all processes become one, of the first process
 *     all else                                of the first process ──► the first process; that of others stays with what is set aside
 */
import { cpSync, existsSync, mkdirSync, readdirSync, statSync } from "node:fs";
import { dirname, join } from "node:path";
import { homeOf } from "#fabric/home.ts";
import { joinJournals } from "#modules/journal-file-sqlite.ts";
import type { Layouts } from "#store/layout-sqlite.ts";
import { type SpreadReport, spreadStore } from "#store/spread-sqlite.ts";
import { restoreData } from "#store/worker-backup-sqlite.ts";

/** Modules whose `.db` files are journals (modules/journal.ts). */
const JOURNAL = /^(delayed|webhook|storage)\/[^/]+\.db$/;
const OF_JOURNAL = /^(delayed|webhook|storage)\/[^/]+\.db(-wal|-shm)?$/;

export interface DataSpread extends SpreadReport {
  /** Plugins of which workers other than the first had something that was not carried over: it is in `aside`. */
  readonly leftPlugins: readonly string[];
}

/** Makes the data in `dir` that of `count` processes; undefined when it is already. No broker runs. Throws as `spreadStore`. */
export function spreadData(dir: string, count: number): DataSpread | undefined {
  let leftPlugins: string[] = [];
  const carry = (layouts: Layouts): void => void (leftPlugins = carryPlugins(layouts));
  const report = spreadStore({ dir, count, homeOf: (clientId, place) => homeOf(clientId, place), carry });
  return report && { ...report, leftPlugins };
}

/**
 * Puts a backup, a file or with workers a directory, in the place of the store in `dir`, which is set aside; what plugins keep stays.
 * Returns where, undefined when there was none. Throws as `restoreData`.
 */
export function restoreBackup(dir: string, backup: string): string | undefined {
  return restoreData(dir, backup, (layouts) => void carryPlugins(layouts));
}

function carryPlugins({ dir, next, from, to }: Layouts): string[] {
  const [first, ...others] = from;
  copyFiles(dir, next);
  copyFiles(first, to[0]);
  const journals = new Set(from.flatMap((each) => filesIn(each)).filter((path) => JOURNAL.test(path)));
  for (const path of journals) {
    const parts = from.map((each) => join(each, "plugins", path)).filter((part) => existsSync(part));
    joinJournals(parts, madeFor(to[0], path));
  }
  const left = others.flatMap((each) => filesIn(each)).filter((path) => !OF_JOURNAL.test(path));
  return [...new Set(left.map((path) => path.split("/")[0]))];
}

/** Of a file that both have the later one stays: one process has what is shared and what is its own in one place. */
function copyFiles(from: string, to: string): void {
  for (const path of filesIn(from)) {
    if (OF_JOURNAL.test(path)) continue;
    const [source, place] = [join(from, "plugins", path), madeFor(to, path)];
    const there = statSync(place, { throwIfNoEntry: false });
    if (!there || there.mtimeMs < statSync(source).mtimeMs) cpSync(source, place, { preserveTimestamps: true });
  }
}

/** Paths below `plugins`. */
function filesIn(dir: string): string[] {
  const plugins = join(dir, "plugins");
  if (!existsSync(plugins)) return [];
  return readdirSync(plugins, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map(({ parentPath, name }) =>
      join(parentPath, name)
        .slice(plugins.length + 1)
        .replaceAll("\\", "/"),
    );
}

function madeFor(dir: string, path: string): string {
  const place = join(dir, "plugins", path);
  mkdirSync(dirname(place), { recursive: true, mode: 0o700 });
  return place;
}
