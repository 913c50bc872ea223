import { expect, test } from "bun:test";
import { resolve } from "node:path";
import { loadConfig } from "#broker/config.ts";
import { limitTable } from "#core/limits.ts";
import { DOC_FILE, EXAMPLE_FILE, exampleYaml, replaceTables } from "./config-doc.ts";

// When one of these fails: bun test/unit/broker/config-doc.ts

test("the tables of docs/configuration.md are the schema's", async () => {
  const page = await Bun.file(DOC_FILE).text();
  expect(page).toBe(replaceTables(page));
  for (const limits of Object.values(limitTable))
    for (const [key, { at }] of Object.entries(limits))
      expect(page).toMatch(new RegExp(`^\\| \`${key}\` *\\| .* \\| ${RegExp.escape(at)} *\\|$`, "m"));
});

test("docs/mantou.example.yaml has every key, at its default", async () => {
  expect(await Bun.file(EXAMPLE_FILE).text()).toBe(exampleYaml());
  const cwd = resolve(".");
  const { config, originOf } = loadConfig({ flags: { config: EXAMPLE_FILE }, env: {}, cwd });
  const defaults = loadConfig({ env: {}, cwd: "/", readFile: noFile });
  expect(config).toEqual(defaults.config);
  for (const [section, limits] of Object.entries(limitTable))
    for (const key of Object.keys(limits))
      expect(originOf(`${section}.${key}`).where).toMatch(/^docs\/mantou\.example\.yaml:\d+$/);
});

function noFile(): string {
  throw Object.assign(new Error("none"), { code: "ENOENT" });
}
