// Rules of the built-in table: what may be written, over what was read, and what the backend makes of it.
import { Database } from "bun:sqlite";
import { join } from "node:path";
import { afterAll, expect, test } from "bun:test";
import type { AuthorizeAnswer } from "#access/backend.ts";
import { ruleTable } from "#access/backends/rule-table.ts";
import { RULE_COUNT_MAX, RuleList } from "#access/rule-list.ts";
import { MantouError } from "#base/error.ts";
import { fixture, knownClient } from "#test/contract/backend-contract.ts";

const warnings: string[] = [];
const { parts, db, stop } = fixture("rule-table", { log: { info() {}, warn: (text) => void warnings.push(text) } });
let changeCount = 0;
const list = new RuleList(
  () => db,
  () => void changeCount++,
);
afterAll(() => stop());

function codeOf(action: () => unknown): string {
  try {
    action();
    return "done";
  } catch (error) {
    return error instanceof MantouError ? error.code : String(error);
  }
}

test("a list is replaced as a whole, and only over the one that was read", () => {
  expect(list.read()).toEqual({ revision: 0, rules: [] });
  expect(list.replace([{ allow: "publish", topics: ["a/#"] }], 0)).toBe(1);
  expect(codeOf(() => list.replace([], 0))).toBe("rules_changed");
  expect(list.read()).toEqual({ revision: 1, rules: [{ allow: "publish", topics: ["a/#"] }] });
  expect(list.replace([{ deny: "all" }], undefined)).toBe(2);
  expect(changeCount).toBe(2);
});

test("what is no rule, and too much, is refused with the place, and nothing is changed", () => {
  const wrong = [{ allow: "all" }, { deny: "all", topics: ["a/#/b"] }] as const;
  expect(() => list.replace(wrong, undefined)).toThrow(/^rule 2: topics: found "a\/#\/b"/);
  expect(codeOf(() => list.replace([{}], undefined))).toBe("rule_invalid");
  expect(codeOf(() => list.replace([{ allow: "all", address: "nowhere" }], undefined))).toBe("rule_invalid");
  const many = Array.from({ length: RULE_COUNT_MAX + 1 }, () => ({ deny: "all" }) as const);
  expect(codeOf(() => list.replace(many, undefined))).toBe("rule_invalid");
  const large = Array.from({ length: 600 }, () => ({ deny: "all", user: "x".repeat(2000) }) as const);
  expect(codeOf(() => list.replace(large, undefined))).toBe("rule_invalid");
  expect(list.read()).toEqual({ revision: 2, rules: [{ deny: "all" }] });
});

test("the backend reads them when they have changed; what it cannot understand decides nothing", async () => {
  const backend = ruleTable.make({}, parts);
  const ask = (topic: string): AuthorizeAnswer => {
    let said: AuthorizeAnswer = "unavailable";
    backend.authorize!({ client: knownClient, action: "publish", topic }, (answer) => (said = answer));
    return said;
  };
  await backend.start!();
  expect([ask("a"), backend.health!().counts]).toEqual(["deny", { rules: 1 }]);
  list.replace([{ allow: "publish", topics: ["a"] }], undefined);
  expect(ask("a")).toBe("deny");
  backend.handleDbChange!();
  expect([ask("a"), ask("b")]).toEqual(["allow", "ignore"]);
  const raw = new Database(join(parts.baseDir, "access.db"));
  raw.run('UPDATE ruleList SET revision = revision + 1, rules = \'[{"forbid":"all"}]\'');
  raw.close();
  backend.handleDbChange!();
  expect([ask("a"), backend.health!().state, warnings.length]).toEqual(["unavailable", "down", 1]);
  list.replace([], undefined);
  backend.handleDbChange!();
  expect([ask("a"), backend.health!().state]).toEqual(["ignore", "up"]);
});
