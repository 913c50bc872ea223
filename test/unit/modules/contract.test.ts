import { expect, test } from "bun:test";
import { readdirSync, readFileSync } from "node:fs";
import { modules } from "#modules/module-table.ts";

/**
 * Modules prove the contract by having nothing else. No part of the broker are these: where a thread's code lies, texts with variables, and the
 * ways to servers that access has as well.
 */
const ALLOWED = [
  "#base/thread-url.ts",
  "#base/template.ts",
  "#access/backends/redis-server.ts",
  "#access/backends/sql-server.ts",
];

test("modules import of the broker only what plugins may", () => {
  const imports = readdirSync("src/modules").flatMap((name) => {
    const text = readFileSync(`src/modules/${name}`, "utf8");
    return [...text.matchAll(/(?:from|import\()\s*"([^"]+)"/g)].map((match) => match[1]!);
  });
  const own = imports.filter((name) => name.startsWith("#") && !ALLOWED.includes(name));
  expect(new Set(own)).toEqual(new Set(["#plugins/plugin.ts"]));
});

test("each module has a page of documentation and a name of its own", () => {
  const page = readFileSync("docs/modules.md", "utf8");
  const names = Object.values(modules).map(({ name }) => name);
  expect(new Set(names).size).toBe(names.length);
  for (const [key, { name }] of Object.entries(modules)) {
    expect(page).toContain(`\`${name}\``);
    expect(page).toContain(`modules.${key}`);
  }
});
