/**
 * The one list of access rules in `access.db`: written as a whole, so that its order is what was meant, and only over what was read.
 *
 *   GET ─► { revision, rules } ─ edited ─► PUT { revision, rules } ─┬─ still that revision: kept, revision + 1
 *                                                                   └─ else `rules_changed`: somebody else was faster
 */
import { MantouError } from "#base/error.ts";
import type { AccessDb } from "./access-db.ts";
import { parseRules, type WrittenRule } from "./acl-yaml.ts";

/** Every topic that is not remembered is held against them one after the other. */
export const RULE_COUNT_MAX = 1000;
const RULE_BYTES_MAX = 1024 * 1024;

export interface StoredRules {
  /** 0: there has never been one. */
  readonly revision: number;
  readonly rules: readonly WrittenRule[];
}

export class RuleList {
  constructor(
    private readonly db: () => AccessDb,
    /** Called after each change. */
    private readonly onChange: () => void = () => {},
  ) {}

  read(): StoredRules {
    const { revision, text } = this.db().ruleList();
    return { revision, rules: JSON.parse(text) as WrittenRule[] };
  }

  /** Returns the new revision. Throws MantouError `rule_invalid` or `rules_changed`. */
  replace(rules: readonly WrittenRule[], revision: number | undefined): number {
    if (rules.length > RULE_COUNT_MAX)
      throw new MantouError("rule_invalid", `rules: found ${rules.length}, allowed: at most ${RULE_COUNT_MAX}`);
    parseRules(rules);
    const text = JSON.stringify(rules);
    if (Buffer.byteLength(text) > RULE_BYTES_MAX)
      throw new MantouError("rule_invalid", `rules: allowed: at most ${RULE_BYTES_MAX} bytes of JSON`);
    const next = this.db().putRuleList(text, revision);
    if (next === undefined)
      throw new MantouError("rules_changed", `revision: found ${revision}, but the rules have been changed since`);
    this.onChange();
    return next;
  }
}
