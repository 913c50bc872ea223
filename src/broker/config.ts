/**
 * The configuration: defaults < file < environment < `--set` < `--listen`, checked as a whole.
 *
 * Every problem is reported at once, each on a line of its own that says where it was written, the key's path, what was
 * found and what is allowed. Nothing is started with a configuration that has one.
 */
import { readFileSync } from "node:fs";
import { resolve } from "node:path";
import type { Backend } from "#access/backend.ts";
import { MantouError } from "#base/error.ts";
import { parseBind } from "./bind-address.ts";
import type { z } from "zod";
import { configSchema, type Config } from "./config-schema.ts";
import type { listenerSchema } from "./listener-schema.ts";
import {
  applyData,
  applyEnvironment,
  applyFile,
  applyListen,
  applySet,
  applyWorkers,
  DEFAULT_FILE,
  type Environment,
  type ReadFile,
} from "./config-source.ts";
import { describeFound } from "./config-text.ts";
import { ConfigTree, type Origin } from "./config-tree.ts";

export type { Config } from "./config-schema.ts";

export interface ConfigFlags {
  /** Path of the file; without it `mantou.yaml` is read when it is there. */
  readonly config?: string | undefined;
  readonly data?: string | undefined;
  readonly workers?: string | undefined;
  readonly set?: readonly string[];
  readonly listen?: readonly string[];
}

export interface ConfigRequest {
  readonly flags?: ConfigFlags;
  readonly env?: Environment;
  readonly cwd?: string;
  /** Returns the text of an absolute path, or throws as `node:fs` does. */
  readonly readFile?: ReadFile;
}

export interface LoadedConfig {
  readonly config: Config;
  /** Where the value at a dotted path comes from: `originOf("session.inflightCountMax")`. */
  readonly originOf: (path: string) => Origin;
  /** The file that was read, as it was named. */
  readonly file: string | undefined;
}

/** Where the configuration came from, and what an application decides itself. */
export interface ConfigSource {
  /** Asked before the configured backends. */
  readonly backend?: Backend | undefined;
  readonly originOf?: LoadedConfig["originOf"];
  /** Throws MantouError `config_invalid`. */
  read(): LoadedConfig;
}

const APPLICATION: Origin = { source: "default", where: "application" };

/** Of a configuration that an application has made. */
export function sourceOf(config: Config, backend?: Backend): ConfigSource {
  return { backend, read: () => ({ config, originOf: () => APPLICATION, file: undefined }) };
}

/** @throws MantouError `config_invalid`; `details.problems` holds the lines of its message. */
export function loadConfig(request: ConfigRequest = {}): LoadedConfig {
  const { flags = {}, env = process.env, cwd = process.cwd(), readFile = readText } = request;
  const tree = new ConfigTree(configSchema);
  const file = applyFile(tree, flags.config, cwd, readFile);
  applyEnvironment(tree, env);
  applySet(tree, flags.set ?? []);
  applyData(tree, flags.data);
  applyWorkers(tree, flags.workers);
  applyListen(tree, flags.listen ?? []);
  return checked(tree, file);
}

/** @throws MantouError `config_invalid` */
function checked(tree: ConfigTree, file: string | undefined): LoadedConfig {
  const found = configSchema.safeParse(tree.root);
  reportValues(tree, found.error?.issues ?? []);
  reportDuplicates(tree);
  if (tree.problems.length > 0 || !found.success) {
    const problems = [...tree.problems];
    throw new MantouError("config_invalid", problems.join("\n"), { problems });
  }
  return { config: found.data, originOf: (path) => tree.originOf(path.split(".")), file };
}

/** Sections and keys as in the file; every one may be left out, and a quantity may have its unit, such as `1MiB`. */
export interface ConfigOptions extends Loose<Omit<Config, "listeners">> {
  readonly listeners?: readonly Loose<z.input<typeof listenerSchema>>[];
}

type Loose<T> = T extends number
  ? number | string
  : T extends readonly (infer E)[]
    ? readonly Loose<E>[]
    : T extends object
      ? { readonly [K in keyof T]?: Loose<T[K]> }
      : T;

const OPTIONS: Origin = { source: "default", where: "options" };

/** Modules that are on otherwise. */
const QUIET = { presence: { enabled: false }, sys: { intervalSec: 0 } };

/**
 * The configuration of a broker inside an application: no file and no environment are read, and what is not asked for is not
 * there: no listener, no store on disk, no log, no module; nor anonymous clients where a function of the application `decidesWhoComesIn`.
 *
 * @throws MantouError `config_invalid`, as `loadConfig`.
 */
export function configOf(options: ConfigOptions, { decidesWhoComesIn = false } = {}): Config {
  const tree = new ConfigTree(configSchema);
  const { listeners = [], ...rest } = options;
  const isKept = options.store !== undefined || options.node?.data !== undefined;
  tree.overlay({ log: { level: "silent" }, modules: QUIET }, () => OPTIONS);
  if (!isKept) tree.overlay({ store: { type: "memory" } }, () => OPTIONS);
  if (decidesWhoComesIn) tree.overlay({ access: { authenticate: [] } }, () => OPTIONS);
  tree.overlay(listeners.length > 0 ? options : rest, () => OPTIONS);
  if (options.workers !== undefined && options.workers !== 1)
    tree.report(OPTIONS, ["workers"], `found ${describeFound(options.workers)}, allowed in an application: 1`);
  const { config } = checked(tree, undefined);
  return listeners.length > 0 ? config : { ...config, listeners: [] };
}

/** The text of the configuration file, or undefined where there is none. */
export function readConfigText({ config = DEFAULT_FILE }: ConfigFlags): string | undefined {
  try {
    return readText(resolve(config));
  } catch {
    return undefined;
  }
}

/** The configuration with another text in the place of its file's. @throws MantouError `config_invalid` */
export function loadConfigText(flags: ConfigFlags, text: string | undefined): LoadedConfig {
  const readFile = (): string => {
    if (text === undefined) throw Object.assign(new Error("none"), { code: "ENOENT" });
    return text;
  };
  return loadConfig({ flags, readFile });
}

function readText(path: string): string {
  return readFileSync(path, "utf8");
}

interface Issue {
  readonly path: readonly PropertyKey[];
  /** The schema's messages say what is allowed. */
  readonly message: string;
}

function reportValues(tree: ConfigTree, issues: readonly Issue[]): void {
  const reported = new Set<string>();
  for (const issue of issues) {
    const path = issue.path.map(String);
    const key = path.join(".");
    if (reported.has(key) || tree.isBroken(path)) continue; // one value can break several rules of one list of allowed values
    reported.add(key);
    tree.report(tree.originOf(path), path, `found ${describeFound(tree.valueAt(path))}, allowed: ${issue.message}`);
  }
}

/** Two listeners may share neither name nor address; port 0 is a different port each time. */
function reportDuplicates(tree: ConfigTree): void {
  const names = new Map<string, string>();
  const addresses = new Map<string, string>();
  const listeners = tree.valueAt(["listeners"]) as readonly { name?: unknown; bind?: unknown }[];
  const check = (seen: Map<string, string>, key: "name" | "bind", index: number, same: string) => {
    const path = ["listeners", String(index), key];
    const first = seen.get(same);
    if (first === undefined) return void seen.set(same, path.join("."));
    const words = `found ${describeFound(listeners[index]?.[key])}, allowed: what no other listener has (${first} has it)`;
    tree.report(tree.originOf(path), path, words);
  };
  for (const [index, { name, bind }] of listeners.entries()) {
    if (typeof name === "string") check(names, "name", index, name);
    const address = typeof bind === "string" ? parseBind(bind) : undefined;
    if (address && address.port !== 0) check(addresses, "bind", index, `${address.host.toLowerCase()} ${address.port}`);
  }
}
