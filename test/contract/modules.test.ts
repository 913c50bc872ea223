import { afterAll, expect, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { modules } from "#modules/module-table.ts";
import { pluginContract } from "./plugin-contract.ts";

const folder = mkdtempSync(join(tmpdir(), "mantou-modules-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const data = `node.data=${folder}`;
const json = (value: unknown): string => JSON.stringify(value);

/** Options with which each has something to do. */
const options: Record<(typeof modules)[keyof typeof modules]["name"], readonly string[]> = {
  presence: [],
  sys: [],
  "auto-subscribe": [`modules.autoSubscribe.subscriptions=${json([{ filter: "own/%c", qos: 1 }])}`],
  rewrite: [`modules.rewrite.rules=${json([{ filter: "old/#", steps: [{ pattern: "^old/(.*)$", to: "new/$1" }] }])}`],
  exclusive: [],
  local: [],
  delayed: [],
  webhook: [],
  storage: [],
  "topic-metrics": [`modules.topicMetrics.filters=["x/#"]`],
  "retained-policy": [`modules.retainedPolicy.rules=${json([{ filter: "x/#", expirySec: 60 }])}`],
  audit: [`modules.audit=${json({ filters: ["#"], clients: true, file: join(folder, "audit.jsonl") })}`],
};

for (const [name, set] of Object.entries(options)) pluginContract(name, [data, ...set]);

test("every module keeps to the contract", () => {
  expect(Object.keys(options).toSorted()).toEqual(
    Object.values(modules)
      .map(({ name }) => name)
      .toSorted(),
  );
});
