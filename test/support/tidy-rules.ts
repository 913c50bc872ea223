/**
 * The house rules as functions from (path, text) to problems, so that test/tidy.test.ts can run them over the tree and
 * also show, on small planted sources, that each one is able to fail.
 *
 * Code is read as a syntax tree: a name in a comment, in a string or behind a dot is never taken for a use.
 * Circles between files and unused code are not here; `bun run lint` finds them.
 */
import { type Comment, parseSync } from "oxc-parser";

export interface Problem {
  readonly path: string;
  readonly line: number;
  readonly says: string;
}

interface Node {
  readonly type: string;
  readonly start: number;
  readonly end: number;
  readonly [key: string]: unknown;
}

interface Source {
  readonly path: string;
  readonly text: string;
  readonly program: Node;
  readonly comments: readonly Comment[];
}

type Visit = (node: Node, parent: Node, key: string) => void;

/** A file imports from its own folder or from a folder with a lower number. */
const layerNumbers: Readonly<Record<string, number>> = {
  base: 0,
  core: 1,
  mqtt: 2,
  transport: 2,
  gateways: 2,
  access: 2,
  store: 2,
  fabric: 2,
  plugins: 3,
  modules: 4,
  broker: 5,
  admin: 6,
  // Beside src/, and it knows nothing of it: the limits of a machine, which the command line looks at.
  tuning: 6,
  cli: 7,
};
const topFiles = ["src/main.ts", "src/index.ts"];
/** Package entry points gather what users may import; nobody inside imports through them just to save a line. */
const entryFiles = ["src/index.ts", "src/core/engine.ts", "src/mqtt/codec/codec.ts", "src/plugins/plugin.ts"];

const fileLinesMax = 450;
const functionLinesMax = 70;
/** Stands in the comment right above a function that is one switch or one loop and would only read worse in pieces. */
const longFunctionMarker = /tidy: (dispatch|hot loop)\b/;

const impureGlobals = new Set([
  ..."Bun process console performance Date crypto fetch Worker globalThis require Promise".split(" "),
  ..."setTimeout setInterval setImmediate queueMicrotask clearTimeout clearInterval clearImmediate".split(" "),
]);

function isNode(value: unknown): value is Node {
  return typeof value === "object" && value !== null && typeof (value as Node).type === "string";
}

function walk(node: Node, visit: Visit): void {
  for (const key of Object.keys(node)) {
    const value = node[key];
    for (const child of Array.isArray(value) ? value : [value]) {
      if (!isNode(child)) continue;
      visit(child, node, key);
      walk(child, visit);
    }
  }
}

function parse(path: string, text: string): Source {
  const { program, comments, errors } = parseSync(path, text);
  const first = errors[0];
  if (first !== undefined) throw new Error(`${path}: ${first.message}`);
  return { path, text, program: program as unknown as Node, comments };
}

function lineAt(text: string, offset: number): number {
  let line = 1;
  for (let at = text.indexOf("\n"); at >= 0 && at < offset; at = text.indexOf("\n", at + 1)) line++;
  return line;
}

function problem(source: { path: string; text: string }, offset: number, says: string): Problem {
  return { path: source.path, line: lineAt(source.text, offset), says };
}

function isSource(path: string): boolean {
  return /^src\/.*\.tsx?$/.test(path);
}

function layerOf(path: string): string {
  return path.split("/")[1] ?? "";
}

/** Every place that names another module: import, export from, import() and import types. */
function specifiers(source: Source): { name: string; offset: number }[] {
  const found: { name: string; offset: number }[] = [];
  walk(source.program, (node) => {
    const from = node["source"];
    if (isNode(from) && typeof from["value"] === "string") found.push({ name: from["value"], offset: node.start });
  });
  return found;
}

function importFault(path: string, name: string): string | undefined {
  if (/(^|\/)\.\.(\/|$)/.test(name)) return `imports ${name}: ../ is not used, write #layer/file.ts`;
  if (name === "mantou" || name.startsWith("mantou/")) return `imports ${name}: inside src the files are named`;
  const isTop = topFiles.includes(path);
  if (name.startsWith("./")) {
    if (!/\.[a-z]+$/.test(name)) return `imports ${name} without its extension`;
    return /^\.\/(main|index)\.ts$/.test(name) && path.split("/").length === 2
      ? `imports ${name}: nothing stands above the entry files`
      : undefined;
  }
  if (!name.startsWith("#")) return undefined;
  const target = name.slice(1).split("/")[0] ?? "";
  const targetNumber = layerNumbers[target];
  if (targetNumber === undefined) return `imports ${name}: ${target} is not a layer`;
  if (!/\.[a-z]+$/.test(name)) return `imports ${name} without its extension`;
  const own = layerOf(path);
  if (isTop || target === own || targetNumber < (layerNumbers[own] ?? -1)) return undefined;
  return targetNumber === layerNumbers[own]
    ? `imports ${name}: ${own} and ${target} are siblings, only broker/ may know both`
    : `imports ${name}: ${own} is layer ${layerNumbers[own]}, ${target} is layer ${targetNumber}`;
}

export function layerProblems(path: string, text: string): Problem[] {
  if (!isSource(path)) return [];
  const source = parse(path, text);
  const problems: Problem[] = [];
  if (!topFiles.includes(path) && layerNumbers[layerOf(path)] === undefined)
    problems.push(problem(source, 0, "stands in no known layer"));
  for (const { name, offset } of specifiers(source)) {
    const fault = importFault(path, name);
    if (fault !== undefined) problems.push(problem(source, offset, fault));
  }
  return problems;
}

export function isPure(path: string): boolean {
  if (/^src\/(base|core|mqtt)\//.test(path)) return true;
  return /^src\/(store|fabric)\//.test(path) && !/-(sqlite|nats|link)\.ts$/.test(path);
}

/** A name that is looked up in scope, not a member behind a dot or a key. */
function isReference(parent: Node, key: string): boolean {
  if (key === "property" || key === "key") return parent["computed"] === true;
  if (key === "right") return parent.type !== "TSQualifiedName";
  return key !== "imported" && key !== "exported";
}

/** The simulator runs these very files, so clock, chance, I/O and anything asynchronous must come in through a port. */
export function purityProblems(path: string, text: string): Problem[] {
  if (!isSource(path) || !isPure(path)) return [];
  const source = parse(path, text);
  const problems: Problem[] = [];
  for (const { name, offset } of specifiers(source))
    if (!/^(\.\/|#)/.test(name)) problems.push(problem(source, offset, `is pure but imports ${name}`));
  walk(source.program, (node, parent, key) => {
    let used = "";
    if (node.type === "AwaitExpression" || (node.type === "ForOfStatement" && node["await"] === true)) used = "await";
    else if (node["async"] === true) used = "async";
    else if (node.type === "ImportExpression") used = "import()";
    else if (node.type === "Identifier" && isReference(parent, key)) {
      const name = String(node["name"]);
      if (impureGlobals.has(name)) used = name;
      else if (name === "Math" && isNode(parent["property"]) && parent["property"]["name"] === "random")
        used = "Math.random";
    }
    if (used !== "") problems.push(problem(source, node.start, `is pure but uses ${used}`));
  });
  return problems;
}

/** Re-exports hide where a thing lives and drag whole folders in; only package entry points gather. */
export function barrelProblems(path: string, text: string): Problem[] {
  if (!isSource(path) || entryFiles.includes(path)) return [];
  const source = parse(path, text);
  const body = source.program["body"] as Node[];
  const isReExport = (node: Node) =>
    node.type === "ExportAllDeclaration" || (node.type === "ExportNamedDeclaration" && isNode(node["source"]));
  const problems = body
    .filter((node) => node.type === "ExportAllDeclaration")
    .map((node) => problem(source, node.start, "re-exports with export *"));
  if (problems.length === 0 && body.length > 0 && body.every(isReExport))
    problems.push(problem(source, 0, "is a barrel: it only re-exports"));
  return problems;
}

export function sizeProblems(path: string, text: string): Problem[] {
  if (!isSource(path)) return [];
  const source = parse(path, text);
  const problems: Problem[] = [];
  const lines = text.replace(/\n$/, "").split("\n").length;
  if (lines > fileLinesMax) problems.push(problem(source, 0, `has ${lines} lines, ${fileLinesMax} are allowed`));
  const markers = source.comments.filter(({ value }) => longFunctionMarker.test(value));
  walk(source.program, (node) => {
    if (!/^(FunctionDeclaration|FunctionExpression|ArrowFunctionExpression)$/.test(node.type)) return;
    const from = lineAt(text, node.start);
    const length = lineAt(text, node.end) - from + 1;
    if (length <= functionLinesMax) return;
    if (markers.some(({ end }) => lineAt(text, end) === from - 1)) return;
    problems.push(problem(source, node.start, `has a function of ${length} lines, ${functionLinesMax} are allowed`));
  });
  return problems;
}

export function nameProblems(path: string, text: string): Problem[] {
  if (!/\.tsx?$/.test(path)) return [];
  const kebab = /^[a-z0-9]+([-.][a-z0-9]+)*(\.test|\.d)?(\.tsx?)?$/;
  return path
    .split("/")
    .filter((part) => !kebab.test(part))
    .map((part) => problem({ path, text }, 0, `${part} is not kebab-case`));
}

/** A clause id in square brackets, in a comment or a test title, is in the tables of test/conformance/clauses.ts. */
export function clauseProblems(path: string, text: string, known: ReadonlySet<string>): Problem[] {
  if (!/^(src|test)\/.*\.ts$/.test(path) || path.startsWith("test/conformance/clauses")) return [];
  return [...text.matchAll(/\[(MQTT3?-[^\]\n]*)\]/g)]
    .filter((match) => !known.has(match[1] ?? ""))
    .map((match) => problem({ path, text }, match.index, `${match[0]} is not a known clause`));
}

/** `here` is what this machine adds: the checkout's own path and the home directory. */
export function leakProblems(path: string, text: string, here: readonly string[]): Problem[] {
  const patterns = [
    /(?<![\w.])\/(home|Users)\/[A-Za-z0-9_]/g,
    /(?<![\w.])\/(root|work)\/[\w.]/g,
    /\bregistry\.[a-z0-9-]+\.[a-z]{2,}/g,
    /\b(localhost|127\.0\.0\.1|[\w.-]+):\d+\/(npm|repository)\b/g,
  ];
  if (path === "bun.lock") patterns.push(/\bhttps?:\/\/[^\s"]+/g);
  const problems = patterns
    .flatMap((pattern) => [...text.matchAll(pattern)])
    .map((match) => problem({ path, text }, match.index, `names a machine path or a registry: ${match[0]}`));
  for (const place of here)
    if (text.includes(place)) problems.push(problem({ path, text }, text.indexOf(place), `names ${place}`));
  return problems;
}

interface Manifest {
  readonly packageManager?: string;
  readonly engines?: Readonly<Record<string, string>>;
  readonly scripts?: Readonly<Record<string, string>>;
  readonly dependencies?: Readonly<Record<string, string>>;
  readonly devDependencies?: Readonly<Record<string, string>>;
}

export function manifestProblems(path: string, text: string): Problem[] {
  const manifest = JSON.parse(text) as Manifest;
  const problems = Object.entries({ ...manifest.dependencies, ...manifest.devDependencies })
    .filter(([, version]) => !/^\d+\.\d+\.\d+(-[\w.]+)?$/.test(version))
    .map(([name, version]) => problem({ path, text }, text.indexOf(`"${name}"`), `${name} ${version} is not pinned`));
  if (manifest.packageManager !== `bun@${manifest.engines?.["bun"]}`)
    problems.push(problem({ path, text }, 0, "packageManager and engines name different versions of bun"));
  const ci = manifest.scripts?.["test:ci"] ?? "";
  for (const [, folder] of (manifest.scripts?.["test"] ?? "").matchAll(/--path-ignore-patterns '([^'*]+)\/\*\*'/g))
    if (!ci.split(" ").includes(`./${folder}`))
      problems.push(problem({ path, text }, 0, `${folder} runs neither in test nor in test:ci`));
  return problems;
}

/** Scripts and the version of bun that documents and .ci/run speak of are those of package.json. */
export function mentionProblems(path: string, text: string, manifestText: string): Problem[] {
  if (!path.endsWith(".md") && path !== ".ci/run") return [];
  const manifest = JSON.parse(manifestText) as Manifest;
  const problems: Problem[] = [];
  for (const match of text.matchAll(/\bbun@(\d[\w.]*\w)/g))
    if (match[0] !== manifest.packageManager)
      problems.push(problem({ path, text }, match.index, `says ${match[0]}, package.json ${manifest.packageManager}`));
  for (const match of text.matchAll(/\bbun(?:@[\w.]+)? run (?:-[\w-]+ )*([a-z][\w:./-]*)/g)) {
    const name = match[1]?.replace(/[.:]$/, "") ?? "";
    if (!/[./]/.test(name) && manifest.scripts?.[name] === undefined)
      problems.push(problem({ path, text }, match.index, `there is no script ${name}`));
  }
  return problems;
}
