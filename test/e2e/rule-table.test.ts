// Access rules of the built-in table in a running broker: written over what was read, and in force at once.
import { expect, setDefaultTimeout, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { startInProcess } from "./broker-in-process.ts";
import { eventually } from "./flow-client.ts";

setDefaultTimeout(60_000);

const GRANTED = 1;
const NOT_AUTHORIZED = 0x87;

test("what is allowed may be subscribed to, and is taken away when it is not allowed any more", async () => {
  const dir = mkdtempSync(join(tmpdir(), "mantou-rules-"));
  const access = { authorize: [{ type: "rule-table" }], noMatch: "deny" };
  await using own = await startInProcess([`node.data=${dir}`, `access=${JSON.stringify(access)}`]);
  const { control } = own.broker;
  const client = await own.harness.connect({ clientId: "r1", version: 5 });
  const codeOf = async (filter: string): Promise<number> => (await client.subscribe(filter, 1)).reasonCodes[0]!;
  expect(await codeOf("robots/r1/set")).toBe(NOT_AUTHORIZED);
  const rules = [{ allow: "all" as const, client: "r1", topics: ["robots/%c/#"] }];
  expect(await control("rules.put", { rules, revision: 0 })).toEqual({ revision: 1 });
  expect([await codeOf("robots/r1/set"), await codeOf("robots/r2/set")]).toEqual([GRANTED, NOT_AUTHORIZED]);
  expect(control("rules.put", { rules: [], revision: 0 })).rejects.toThrow("have been changed since");
  expect(control("rules.put", { rules: [{ allow: "all", topics: ["#/x"] }] })).rejects.toThrow("rule 1: topics");
  expect(control("rules.put", { rules: [{ allow: "nothing" as never }] })).rejects.toThrow("rules.0.allow");
  expect(await control("rules.read", {})).toEqual({ revision: 1, rules });
  expect((await control("access.show", {})).backends).toMatchObject([{}, { type: "rule-table", counts: { rules: 1 } }]);
  await control("rules.put", { rules: [] });
  await eventually(() => own.engine.index.subscriptionCount === 0);
  rmSync(dir, { recursive: true });
});
