/**
 * The house rules over the whole tree, and for each rule a planted source that must fail and one that must not, so
 * that a rule that has gone blind is noticed. The rules themselves are in test/support/tidy-rules.ts.
 */
import { describe, expect, test } from "bun:test";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { homedir } from "node:os";
import { join, resolve } from "node:path";
import { parseLevel } from "#test/support/level.ts";
import {
  barrelProblems,
  clauseProblems,
  isPure,
  layerProblems,
  leakProblems,
  manifestProblems,
  mentionProblems,
  nameProblems,
  type Problem,
  purityProblems,
  sizeProblems,
} from "#test/support/tidy-rules.ts";

const root = resolve(import.meta.dir, "..");
const generated = new Set([
  ".git",
  ...read(".gitignore")
    .split("\n")
    .map((line) => line.replaceAll("/", "")),
]);

function read(path: string): string {
  return readFileSync(join(root, path), "utf8");
}

function list(folder: string): string[] {
  return readdirSync(join(root, folder), { withFileTypes: true }).flatMap((entry) => {
    const path = join(folder, entry.name);
    if (generated.has(path)) return [];
    return entry.isDirectory() ? list(path) : [path];
  });
}

const tree = new Map(list(".").map((path) => [path, read(path)]));

/** What every file of the tree says to a rule, one readable line each. */
function all(rule: (path: string, text: string) => Problem[], paths = [...tree.keys()]): string[] {
  return paths.flatMap((path) => rule(path, tree.get(path) ?? "")).map((at) => `${at.path}:${at.line} ${at.says}`);
}

function says(problems: Problem[]): string[] {
  return problems.map((at) => at.says);
}

async function knownClauses(): Promise<Set<string>> {
  if (!existsSync(join(root, "test/conformance/clauses.ts"))) return new Set();
  const { clauses3, clauses5 } = await import("#test/conformance/clauses.ts");
  return new Set([...clauses3, ...clauses5].map((clause) => clause.id));
}

describe("layers", () => {
  test("files import from their own folder or from below", () => {
    expect(all(layerProblems)).toEqual([]);
  });

  const banned: [string, string, RegExp][] = [
    ["src/base/slab.ts", "#core/engine.ts", /layer 0, core is layer 1/],
    ["src/core/engine.ts", "#mqtt/connection.ts", /layer 1, mqtt is layer 2/],
    ["src/mqtt/connection.ts", "#store/memory-store.ts", /siblings/],
    ["src/admin/rest.ts", "#cli/main.ts", /layer 6, cli is layer 7/],
    ["src/broker/start.ts", "#test/support/level.ts", /not a layer/],
    ["src/broker/start.ts", "#tuning/verdict.ts", /broker is layer 5, tuning is layer 6/],
    ["src/mqtt/codec/frame.ts", "../connection.ts", /\.\.\//],
    ["src/mqtt/connection.ts", "./codec/../deliver.ts", /\.\.\//],
    ["src/core/engine.ts", "./router", /extension/],
    ["src/core/engine.ts", "#base/slab", /extension/],
    ["src/cli/start.ts", "mantou/core", /are named/],
    ["src/index.ts", "./main.ts", /above the entry files/],
  ];
  test.each(banned)("%s must not import %s", (path, name, why) => {
    const forms = [
      `import { a } from "${name}";`,
      `import type { A } from "${name}";`,
      `export { a } from "${name}";`,
      `export type A = import("${name}").A;`,
      `const a = import("${name}");`,
      `import "${name}";`,
    ];
    for (const text of forms) {
      const found = says(layerProblems(path, `const first = 1;\n${text}\n`));
      expect(found).toHaveLength(1);
      expect(found[0]).toMatch(why);
    }
  });

  const allowed: [string, string][] = [
    ["src/core/engine.ts", "./router.ts"],
    ["src/core/engine.ts", "#base/slab.ts"],
    ["src/mqtt/codec/frame.ts", "#mqtt/connection.ts"],
    ["src/mqtt/connection.ts", "./codec/frame.ts"],
    ["src/broker/start.ts", "#store/memory-store.ts"],
    ["src/broker/start.ts", "node:fs"],
    ["src/main.ts", "#cli/main.ts"],
    ["src/cli/doctor.ts", "#tuning/verdict.ts"],
    ["src/index.ts", "./broker/broker.ts"],
  ];
  test.each(allowed)("%s may import %s", (path, name) => {
    expect(layerProblems(path, `import { a } from "${name}";\n`)).toEqual([]);
  });

  test("a path in a comment or a string is no import, and a folder without a number is a problem", () => {
    expect(layerProblems("src/core/a.ts", `// import "../x.ts"\nexport const a = 'from "../x.ts"';\n`)).toEqual([]);
    expect(says(layerProblems("src/helpers/a.ts", "export const a = 1;\n"))).toEqual(["stands in no known layer"]);
  });
});

describe("purity", () => {
  test("pure files know no I/O, clock, chance or promise", () => {
    expect(all(purityProblems)).toEqual([]);
  });

  const impure = [
    `import { a } from "bun";`,
    `import { a } from "bun:sqlite";`,
    `import { a } from "node:fs";`,
    `import pino from "pino";`,
    `export const a = Date.now();`,
    `export const a = new Date();`,
    `export const a = Math.random();`,
    `export const a = performance.now();`,
    `export const a = process.pid;`,
    `export const a = Bun.version;`,
    `console.log(1);`,
    `setTimeout(f, 1);`,
    `setInterval(f, 1);`,
    `setImmediate(f);`,
    `queueMicrotask(f);`,
    `export async function f() {}`,
    `export const f = async () => 1;`,
    `export const a = await b;`,
    `export function f(): Promise<void> {}`,
    `export const a = Promise.resolve();`,
    `export const a = globalThis.process;`,
  ];
  test.each(impure)("%s is refused", (text) => {
    expect(purityProblems("src/core/a.ts", text)).not.toEqual([]);
    expect(purityProblems("src/broker/a.ts", text)).toEqual([]);
  });

  const pure = [
    `// Date.now() and await are only words here\nexport const a = "setTimeout(process)";`,
    `export const f = (clock: { now(): number; Date: number }) => clock.now() + clock.Date;`,
    `export const a = Math.floor(1.5);`,
    `import { a } from "./b.ts";\nimport { c } from "#base/c.ts";`,
  ];
  test.each(pure)("%s is fine", (text) => {
    expect(purityProblems("src/core/a.ts", text)).toEqual([]);
  });

  test("store and fabric are pure but for the files that touch the world", () => {
    const paths = "base/a core/a mqtt/codec/a store/recovery fabric/interest store/log-sqlite fabric/worker-link".split(
      " ",
    );
    expect(paths.filter((path) => isPure(`src/${path}.ts`))).toEqual(paths.slice(0, 5));
    expect(["transport/tcp", "access/chain", "broker/start"].some((path) => isPure(`src/${path}.ts`))).toBe(false);
  });
});

describe("shape", () => {
  test("no barrel files", () => {
    expect(all(barrelProblems)).toEqual([]);
    expect(barrelProblems("src/core/all.ts", `export const a = 1;\nexport * from "./b.ts";`)).toHaveLength(1);
    expect(
      barrelProblems("src/core/all.ts", `export { b } from "./b.ts";\nexport type { C } from "./c.ts";`),
    ).toHaveLength(1);
    expect(barrelProblems("src/index.ts", `export * from "./b.ts";`)).toEqual([]);
    expect(barrelProblems("src/core/a.ts", `export { b } from "./b.ts";\nexport const a = 1;`)).toEqual([]);
  });

  test("files and functions stay small", () => {
    expect(all(sizeProblems)).toEqual([]);
    const lines = (count: number) => "  x();\n".repeat(count);
    expect(sizeProblems("src/core/a.ts", "x();\n".repeat(450))).toEqual([]);
    expect(sizeProblems("src/core/a.ts", "x();\n".repeat(451))).toHaveLength(1);
    expect(sizeProblems("src/core/a.ts", `export function f() {\n${lines(68)}}\n`)).toEqual([]);
    expect(sizeProblems("src/core/a.ts", `export function f() {\n${lines(69)}}\n`)).toHaveLength(1);
    expect(sizeProblems("src/core/a.ts", `class A {\n  f() {\n${lines(69)}}\n}\n`)).toHaveLength(1);
    expect(sizeProblems("src/core/a.ts", `const f = () => {\n${lines(69)}};\n`)).toHaveLength(1);
    expect(sizeProblems("src/core/a.ts", `// tidy: hot loop\nexport function f() {\n${lines(69)}}\n`)).toEqual([]);
    expect(sizeProblems("src/core/a.ts", `/** Why.\n * tidy: dispatch */\nfunction f() {\n${lines(69)}}\n`)).toEqual(
      [],
    );
    expect(sizeProblems("src/core/a.ts", `// tidy: because\nfunction f() {\n${lines(69)}}\n`)).toHaveLength(1);
    expect(sizeProblems("src/core/a.ts", `// tidy: dispatch\n\nfunction f() {\n${lines(69)}}\n`)).toHaveLength(1);
  });

  test("file names are kebab-case", () => {
    expect(all(nameProblems)).toEqual([]);
    expect(nameProblems("src/core/topicIndex.ts", "")).toHaveLength(1);
    expect(nameProblems("src/Core/topic_index.ts", "")).toHaveLength(2);
    expect(nameProblems("test/unit/core/topic-index.test.ts", "")).toEqual([]);
  });
});

describe("words", () => {
  test("clause ids are known", async () => {
    const known = await knownClauses();
    expect(all((path, text) => clauseProblems(path, text, known))).toEqual([]);
    const planted = new Set(["MQTT-1.2.3-4", "MQTT3-1.2.3-4"]);
    const at = (id: string) => clauseProblems("src/mqtt/a.ts", `// [${id}]\n`, planted);
    expect([...at("MQTT-1.2.3-4"), ...at("MQTT3-1.2.3-4"), ...at("see MQTT-1.2.3-5")]).toEqual([]);
    for (const id of ["MQTT-1.2.3-5", "MQTT-1.2.3", "MQTT3-1.2.3-40", "MQTT-1.2.3-4, MQTT-1.2.3-5"])
      expect(at(id)).toHaveLength(1);
  });

  test("the files that the map of the sources names are there", () => {
    const map = readFileSync(join(root, "src/README.md"), "utf8");
    const named = [...map.matchAll(/`([a-z0-9/-]+\/[a-z0-9-]+\.ts)`/g)].map((match) => match[1]!);
    expect(named.length).toBeGreaterThan(20);
    const missing = named.filter((path) => !existsSync(join(root, "src", path)) && !existsSync(join(root, path)));
    expect(missing).toEqual([]);
  });

  test("no path of a machine, no registry host", () => {
    expect(all((path, text) => leakProblems(path, text, [`${root}/`, `${homedir()}/`]))).toEqual([]);
    const at = (text: string, path = "README.md") => leakProblems(path, text, ["/srv/checkout/"]);
    const hosts = ["registry", "example", "org"].join(".");
    for (const text of [`/ho${"me"}/ann/x`, `"/ro${"ot"}/x"`, hosts, "in /srv/checkout/src"])
      expect(at(text)).toHaveLength(1);
    expect(at("https://example.org/x", "bun.lock")).toHaveLength(1);
    expect(at("https://example.org/x and src/home/page.ts and ./data")).toEqual([]);
  });

  test("package.json pins every package, and every test runs somewhere", () => {
    expect(all(manifestProblems, ["package.json"])).toEqual([]);
    const manifest = (more: object) =>
      manifestProblems(
        "package.json",
        JSON.stringify({ packageManager: "bun@1.2.3", engines: { bun: "1.2.3" }, ...more }),
      );
    expect(manifest({ dependencies: { a: "1.2.3" }, devDependencies: { b: "1.0.0-rc.1" } })).toEqual([]);
    for (const version of ["^1.2.3", "~1.2.3", "latest", "1.x", "*", ">=1.0.0"])
      expect(manifest({ devDependencies: { a: version } })).toHaveLength(1);
    expect(manifest({ engines: { bun: "1.2.4" } })).toHaveLength(1);
    const scripts = {
      test: "bun test ./test --path-ignore-patterns 'test/slow/**'",
      "test:ci": "bun test ./test/slow",
    };
    expect(manifest({ scripts })).toEqual([]);
    expect(manifest({ scripts: { ...scripts, "test:ci": "bun test ./test/slower" } })).toHaveLength(1);
  });

  test("documents name scripts that exist and the bun that is pinned", () => {
    expect(all((path, text) => mentionProblems(path, text, read("package.json")))).toEqual([]);
    const manifest = `{"packageManager":"bun@1.2.3","scripts":{"test:ci":"x"}}`;
    const at = (text: string) => says(mentionProblems("README.md", text, manifest));
    expect(at("`npx --yes bun@1.2.3 run test:ci`, `bun run ./a.ts`, `bun run`.")).toEqual([]);
    expect(at("Type `bun run brew`.")).toEqual(["there is no script brew"]);
    expect(at("npx bun@1.2.4 run test:ci")).toHaveLength(1);
    expect(at("npx bun@1.2.3 run test")).toEqual(["there is no script test"]);
  });

  test("a wrong test level is an error", () => {
    expect([parseLevel(undefined), parseLevel("ci")]).toEqual(["fast", "ci"]);
    expect(() => parseLevel("slow")).toThrow("fast, ci, long");
  });
});
