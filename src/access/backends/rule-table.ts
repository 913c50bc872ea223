/** Access rules of the built-in table, managed by REST and the dashboard. */
import { z } from "zod";
import { type AclRule, decideByRules } from "#access/acl-rule.ts";
import { parseRules } from "#access/acl-yaml.ts";
import { type Backend, backendKind } from "#access/backend.ts";
import { RuleList } from "#access/rule-list.ts";

export const ruleTable = backendKind({
  type: "rule-table",
  roles: ["authorize"],
  options: z.strictObject({}),
  make(_options, { name, accessDb, log }): Backend {
    const list = new RuleList(accessDb);
    let known = -1;
    /** Null: there are some that cannot be understood, and one of them may deny. */
    let rules: readonly AclRule[] | null = [];
    let fault = "";
    const read = (): void => {
      if (accessDb().ruleList().revision === known) return;
      try {
        const stored = list.read();
        rules = parseRules(stored.rules);
        known = stored.revision;
      } catch (error) {
        rules = null;
        fault = (error as Error).message;
        log.warn("the rules of access.db cannot be understood", { fault });
      }
    };
    return {
      name,
      start: async () => read(),
      handleDbChange: read,
      authorize: (question, answer) => answer(rules === null ? "unavailable" : decideByRules(rules, question)),
      health: () =>
        rules === null
          ? { state: "down", detail: fault, counts: {} }
          : { state: "up", counts: { rules: rules.length } },
    };
  },
});
