/**
 * Where plugins come from: a file, a folder of files, a package. They import `mantou/plugin`, which is the running broker's
 * own, wherever they stand and also in a compiled build.
 */
import { readdirSync, statSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, extname, isAbsolute, join, resolve, sep } from "node:path";
import { MantouError } from "#base/error.ts";
import type { PluginSource } from "#plugins/host.ts";
import * as contract from "#plugins/plugin.ts";

const SUFFIXES = [".ts", ".js", ".mjs"];
let isContractKnown = false;

export interface PluginFile extends PluginSource {
  readonly path: string;
}

/** One a plugin. @throws MantouError `plugin_invalid` */
export function findPlugins(from: string, options: unknown, baseDir: string): PluginFile[] {
  provideContract();
  return findFiles(from, baseDir).map((path) => ({
    kind: "plugin",
    from,
    path,
    options,
    read: (isFresh) => read(path, isFresh),
  }));
}

function findFiles(from: string, baseDir: string): string[] {
  const isPath = isAbsolute(from) || from.startsWith("./") || from.startsWith("../");
  const path = isPath ? resolve(baseDir, from) : from;
  try {
    if (!isPath || isPackage(path)) return [createRequire(join(baseDir, "mantou.yaml")).resolve(path)];
    if (!statSync(path).isDirectory()) return [path];
  } catch {
    throw new MantouError(
      "plugin_invalid",
      `plugins: ${from}: found nothing there, allowed: a file, a folder or a package`,
    );
  }
  const names = readdirSync(path).filter((name) => SUFFIXES.includes(extname(name)) && !name.includes(".test."));
  return names.toSorted().map((name) => join(path, name));
}

function isPackage(path: string): boolean {
  return statSync(path).isDirectory() && readdirSync(path).includes("package.json");
}

async function read(path: string, isFresh: boolean): Promise<unknown> {
  if (isFresh) forgetModules(path);
  return ((await import(path)) as { default?: unknown }).default;
}

/** The file, and what it may have imported from its folder; packages stay as they are. */
function forgetModules(path: string): void {
  const folder = dirname(path) + sep;
  const packages = `${sep}node_modules${sep}`;
  for (const key of Object.keys(require.cache))
    if (key.startsWith(folder) && !key.slice(folder.length - 1).includes(packages)) delete require.cache[key];
}

function provideContract(): void {
  if (isContractKnown) return;
  isContractKnown = true;
  Bun.plugin({
    name: "mantou/plugin",
    setup: (build) => void build.module("mantou/plugin", () => ({ exports: contract, loader: "object" })),
  });
}
