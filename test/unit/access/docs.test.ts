/** What docs/access says: every backend has a page, every option stands on it, every example of a configuration is one. */
import { expect, test } from "bun:test";
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseErlangRules } from "#access/acl-erlang.ts";
import { parseMosquittoRules } from "#access/acl-mosquitto.ts";
import { parseYamlRules } from "#access/acl-yaml.ts";
import type { BackendKind } from "#access/backend.ts";
import { backendKinds } from "#access/backend-table.ts";
import { AUTO_SCHEME, PasswordChecker } from "#access/password.ts";
import type { AccessConfig } from "#broker/access-schema.ts";
import { AccessSetup } from "#broker/access-setup.ts";
import { loadConfig } from "#broker/config.ts";
import { LimitedLog } from "#broker/limited-log.ts";
import { createLog } from "#broker/log.ts";

const kinds: readonly BackendKind[] = backendKinds;
const pages = ["docs/access.md", ...readdirSync("docs/access").map((name) => `docs/access/${name}`)];
const examplesOf = (page: string, language: string): string[] =>
  [...readFileSync(page, "utf8").matchAll(new RegExp(`\`\`\`${language}\n([\\s\\S]*?)\`\`\``, "g"))].map(
    ([, text]) => text!,
  );

test.each(kinds.map((kind) => [kind.type, kind] as const))(
  "%s has a page with its options and an example",
  (type, kind) => {
    const page = readFileSync(`docs/access/${type}.md`, "utf8");
    for (const key of Object.keys(kind.options.shape)) expect(page).toMatch(new RegExp(`^\\| \`${key}\` `, "m"));
    expect(examplesOf(`docs/access/${type}.md`, "yaml").some((example) => example.includes(`type: ${type}`))).toBe(
      true,
    );
    expect(readFileSync("docs/access.md", "utf8")).toContain(`(access/${type}.md)`);
  },
);

test("every example of a configuration is valid", () => {
  const folder = mkdtempSync(join(tmpdir(), "mantou-docs-"));
  let count = 0;
  for (const page of pages)
    for (const example of examplesOf(page, "yaml")) {
      if (!example.startsWith("access:")) continue;
      count++;
      writeFileSync(join(folder, "mantou.yaml"), example);
      const { config } = loadConfig({ cwd: folder, env: {} });
      expect(() => setUp(config.access, folder)).not.toThrow();
    }
  expect(count).toBeGreaterThan(kinds.length);
  rmSync(folder, { recursive: true });
});

test("the stored passwords of the examples are those of `secret`", async () => {
  const stored = pages.flatMap((page) =>
    [...readFileSync(page, "utf8").matchAll(/(?:argon2id|2b|6|7)\$[^\s"'|`…]{40,}/g)].map(([text]) => `$${text}`),
  );
  expect(stored.length).toBeGreaterThan(4);
  const passwords = new PasswordChecker();
  for (const hash of stored) {
    const verdict = new Promise((resolve) => {
      passwords.check(Buffer.from("secret"), { hash, scheme: AUTO_SCHEME }, resolve);
    });
    expect({ hash, verdict: await verdict }).toEqual({ hash, verdict: "match" });
  }
});

/** As far as a start goes without any server or file. */
function setUp(config: AccessConfig, folder: string): AccessSetup {
  const log = createLog({ level: "silent", format: "json" });
  const limitedLog = new LimitedLog(log, { linesPerSec: 1, nowMs: () => 0 });
  const parts = { dataDir: folder, baseDir: folder, log, limitedLog, seed: 1, isSpeaker: true, nowSec: () => 0 };
  return new AccessSetup({ config, ...parts });
}

test("every example of rules is understood", () => {
  const page = "docs/access/acl-file.md";
  const [yaml] = examplesOf(page, "yaml").filter((example) => example.startsWith("-"));
  expect(parseYamlRules(yaml!, page)).toHaveLength(4);
  expect(parseErlangRules(examplesOf(page, "erlang")[0]!, page)).toHaveLength(5);
  expect(parseMosquittoRules(examplesOf(page, "text")[0]!, page)).toHaveLength(5);
});
