/** The package's entry points: each usable alone, and none with what it has no use for. */
import { expect, test } from "bun:test";
import { readFileSync } from "node:fs";

interface Bundle {
  /** Files of this repository, and packages. */
  readonly files: readonly string[];
  readonly packages: readonly string[];
  /** What is left to be imported when it runs. */
  readonly imports: readonly string[];
}

async function bundle(entry: string, target: "bun" | "browser"): Promise<Bundle> {
  const { outputs, metafile } = await Bun.build({ entrypoints: [entry], target, metafile: true });
  const inputs = Object.keys(metafile!.inputs);
  const packageOf = (path: string): string | undefined =>
    /node_modules\/((?:@[^/]+\/)?[^/]+)(?!.*node_modules)/.exec(path)?.[1];
  expect(outputs).toHaveLength(1);
  return {
    files: inputs.filter((path) => packageOf(path) === undefined),
    packages: [...new Set(inputs.map(packageOf).filter((name) => name !== undefined))],
    imports: Object.values(metafile!.outputs).flatMap((output) => output.imports.map(({ path }) => path)),
  };
}

const { exports: entries } = JSON.parse(readFileSync("package.json", "utf8")) as {
  exports: Record<string, { default: string }>;
};

test.each([
  ["./core", /^src\/(core|base)\//],
  ["./codec", /^src\/(mqtt\/codec|core|base)\//],
])("%s needs no package and nothing of the runtime: it can be bundled for anywhere", async (name, allowed) => {
  const { files, packages, imports } = await bundle(entries[name]!.default, "browser");
  expect(packages).toEqual([]);
  expect(imports).toEqual([]);
  expect(files.filter((path) => !allowed.test(path))).toEqual([]);
});

test("a broker inside an application carries neither administration nor command line", async () => {
  const { files, packages } = await bundle(entries["."]!.default, "bun");
  expect(files).toContain("src/broker/embedded-broker.ts");
  expect(files.filter((path) => /^src\/(admin|cli|main)\b/.test(path))).toEqual([]);
  const foreign = /^(hono|@hono\/.*|preact|uplot|prom-client|@opentelemetry\/.*|commander|zod-openapi)$/;
  expect(packages.filter((name) => foreign.test(name))).toEqual([]);
});

test.each(Object.keys(entries))("%s is found by its name", async (name) => {
  const module = await import(name.replace(".", "mantou"));
  expect(Object.keys(module)).not.toEqual([]);
});
