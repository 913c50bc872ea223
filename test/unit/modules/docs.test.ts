/** What docs/modules says: every option stands on the page, every example of a configuration is one. */
import { expect, test } from "bun:test";
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { configJsonSchema } from "#broker/config-schema.ts";
import { loadConfig } from "#broker/config.ts";

interface Node {
  readonly properties?: Readonly<Record<string, Node>>;
  readonly items?: Node;
  readonly oneOf?: readonly Node[];
  readonly anyOf?: readonly Node[];
}

/** Of the options of a module, also those within others. */
function keysOf({ properties = {}, items, oneOf = [], anyOf = [] }: Node): string[] {
  const own = Object.entries(properties).flatMap(([key, node]) => [key, ...keysOf(node)]);
  return [...own, ...[...(items ? [items] : []), ...oneOf, ...anyOf].flatMap(keysOf)];
}

const modules = (configJsonSchema() as Node).properties!["modules"]!.properties!;

test.each(readdirSync("docs/modules"))("%s has all options, and examples that are valid", (file) => {
  const page = readFileSync(`docs/modules/${file}`, "utf8");
  const keys = new Set(keysOf(modules[file.replace(".md", "")]!));
  // What two modules share stands on one page, to which the other leads.
  const linked = [...page.matchAll(/\((\w+\.md)#/g)].map(([, name]) => readFileSync(`docs/modules/${name}`, "utf8"));
  const isSaid = (key: string): boolean => [page, ...linked].some((text) => text.includes(`| \`${key}\` `));
  expect([...keys].filter((key) => !isSaid(key))).toEqual([]);
  const folder = mkdtempSync(join(tmpdir(), "mantou-docs-"));
  const examples = [...page.matchAll(/```yaml\n(modules:[\s\S]*?)```/g)].map(([, text]) => text!);
  expect(examples.length).toBeGreaterThan(0);
  for (const example of examples) {
    writeFileSync(join(folder, "mantou.yaml"), example);
    expect(() => loadConfig({ cwd: folder, env: {} })).not.toThrow();
  }
  rmSync(folder, { recursive: true });
});
