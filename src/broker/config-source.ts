/** Where configuration comes from besides the defaults: a YAML file, the environment, `--set` and `--listen`. */
import { resolve } from "node:path";
import { describeFound } from "./config-text.ts";
import { pathText, type ConfigTree, type Origin, type Path } from "./config-tree.ts";
import { parseBind } from "./bind-address.ts";
import { BIND_ALLOWED, LISTENER_TYPES, PATH_ALLOWED } from "./listener-schema.ts";
import { findSyntaxError, readYamlLines } from "./yaml-lines.ts";

export const DEFAULT_FILE = "mantou.yaml";
const ENVIRONMENT_PREFIX = /^MANTOU__/i;
/** Other names of types, as URLs know them; the port serves HTTP publish too. */
const LISTEN_TYPES: Readonly<Record<string, string>> = {
  ...Object.fromEntries(LISTENER_TYPES.map((type) => [type, type])),
  http: "ws",
  https: "wss",
};
const ADMIN = "admin";
const LISTEN_ALLOWED = [...Object.keys(LISTEN_TYPES), ADMIN]
  .map((scheme) => `${scheme}://${scheme === "unix" ? "/PATH" : "HOST:PORT"}`)
  .join(", ");

export type ReadFile = (path: string) => string;
export type Environment = Readonly<Record<string, string | undefined>>;

const READ_FAULTS: Readonly<Record<string, string>> = {
  ENOENT: "no such file",
  EISDIR: "a directory",
  ENOTDIR: "no such file",
  EACCES: "a file that this user may not read",
  EPERM: "a file that this user may not read",
};

/** Lays the file over the tree; returns the name of the file that was read, if any. */
export function applyFile(
  tree: ConfigTree,
  file: string | undefined,
  cwd: string,
  readFile: ReadFile,
): string | undefined {
  const name = file ?? DEFAULT_FILE;
  const origin: Origin = { source: "file", where: name };
  let text: string;
  try {
    text = readFile(resolve(cwd, name)).replace(/^\ufeff/, "");
  } catch (error) {
    const { code = "", message } = error as NodeJS.ErrnoException;
    if (file === undefined && code === "ENOENT") return undefined;
    const found = name === "" ? "nothing" : (READ_FAULTS[code] ?? message);
    tree.report(
      { source: "file", where: name === "" ? "--config" : name },
      [],
      `found ${found}, allowed: a readable YAML file`,
    );
    return undefined;
  }
  let document: unknown;
  try {
    document = Bun.YAML.parse(text);
  } catch (error) {
    const { line, column } = findSyntaxError(text, Bun.YAML.parse);
    const reason = (error as Error).message.replace(/^YAML Parse error: /, "").toLowerCase();
    tree.report({ ...origin, where: `${name}:${line}:${column}` }, [], `found a YAML syntax error (${reason})`);
    return name;
  }
  if (document === null || document === undefined) return name; // an empty file, or only comments
  if (typeof document !== "object" || Array.isArray(document)) {
    tree.report(origin, [], `found ${describeFound(document)}, allowed: one mapping of sections`);
    return name;
  }
  const { lines, duplicates } = readYamlLines(text);
  for (const { path, line, firstLine } of duplicates)
    tree.report(
      { ...origin, where: `${name}:${line}` },
      path.split("."),
      `found again, allowed: once (first on line ${firstLine})`,
    );
  tree.overlay(document, (path) => ({ ...origin, where: withLine(name, lines, path) }));
  return name;
}

function withLine(name: string, lines: ReadonlyMap<string, number>, path: Path): string {
  for (let length = path.length; length > 0; length--) {
    const line = lines.get(pathText(path.slice(0, length)));
    if (line !== undefined) return `${name}:${line}`;
  }
  return name;
}

/** `MANTOU__SESSION__INFLIGHTCOUNTMAX=50`: keys in any case, `__` between levels, elements of lists by index. */
export function applyEnvironment(tree: ConfigTree, environment: Environment): void {
  const names = Object.keys(environment).filter((name) => ENVIRONMENT_PREFIX.test(name));
  // Numbers by value, so that elements 2 … 10 of a list are added in order.
  names.sort(new Intl.Collator("en", { numeric: true }).compare);
  for (const name of names) {
    const path = name.replace(ENVIRONMENT_PREFIX, "").split("__");
    tree.set(path, parseValue(environment[name] ?? ""), { source: "environment", where: name }, true);
  }
}

/** `session.inflightCountMax=50` */
export function applySet(tree: ConfigTree, assignments: readonly string[]): void {
  const origin: Origin = { source: "--set", where: "--set" };
  for (const assignment of assignments) {
    const equals = assignment.indexOf("=");
    if (equals > 0)
      tree.set(assignment.slice(0, equals).trim().split("."), parseValue(assignment.slice(equals + 1)), origin);
    else
      tree.report(
        origin,
        [],
        `found ${describeFound(assignment)}, allowed: KEY=VALUE, such as session.inflightCountMax=50`,
      );
  }
}

/** `--data DIR` is `node.data`. */
export function applyData(tree: ConfigTree, dir: string | undefined): void {
  if (dir !== undefined) tree.set(["node", "data"], dir, { source: "--data", where: "--data" });
}

/** `--workers N` is `workers`. */
export function applyWorkers(tree: ConfigTree, workers: string | undefined): void {
  if (workers !== undefined) tree.set(["workers"], parseValue(workers), { source: "--workers", where: "--workers" });
}

/**
 * `tcp://127.0.0.1:2883`, `unix:///run/mantou.sock`, `tls://0.0.0.0:8883?cert=a.pem&key=b.pem`: with any of these, nothing else is
 * opened; `admin://127.0.0.1:18083` is where operators reach the broker. What follows the question mark are further keys of the
 * listener, or of `admin`, their values as after `--set`.
 */
export function applyListen(tree: ConfigTree, addresses: readonly string[]): void {
  if (addresses.length === 0) return;
  const origin: Origin = { source: "--listen", where: "--listen" };
  const listeners: unknown[] = [];
  let admin: Record<string, unknown> = { bind: "" };
  for (const address of addresses) {
    const [, given = "", bind = "", query = ""] =
      /^([A-Za-z][A-Za-z0-9+.-]*):\/\/([^?]*)(?:\?(.*))?$/.exec(address) ?? [];
    const scheme = given.toLowerCase();
    const type = scheme === ADMIN ? ADMIN : LISTEN_TYPES[scheme];
    if (type === undefined) tree.report(origin, [], `found ${describeFound(address)}, allowed: ${LISTEN_ALLOWED}`);
    else if (!parseBind(bind))
      tree.report(origin, [], `found ${describeFound(address)}, allowed: ${scheme}:// and ${bindAllowed(type)}`);
    else {
      const more = [...new URLSearchParams(query)].map(([key, text]) => [key, parseValue(text)] as const);
      const name = listeners.length === 0 ? scheme : `${scheme}-${listeners.length + 1}`;
      if (type === ADMIN) admin = { ...Object.fromEntries(more), bind };
      else listeners.push({ name, ...Object.fromEntries(more), type, bind });
    }
  }
  tree.overlay({ admin, ...(listeners.length > 0 && { listeners }) }, () => origin);
}

function bindAllowed(type: string): string {
  return type === "unix" ? PATH_ALLOWED : BIND_ALLOWED;
}

/** A value is YAML; what YAML cannot read (`[::1]:1883`) is taken as the text it is, and so is nothing at all. */
function parseValue(text: string): unknown {
  if (text.trim() === "") return "";
  try {
    return Bun.YAML.parse(text);
  } catch {
    return text;
  }
}
