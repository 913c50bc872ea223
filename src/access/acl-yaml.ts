/**
 * Access rules in YAML, a list whose first match decides.
 *
 *   - { allow: subscribe, user: dashboard, topics: ["$SYS/#"] }
 *   - allow: all                       # publish and subscribe
 *     address: [127.0.0.1, "::1"]      # a list: one of these
 *     client: robot-7                  # several conditions: all of them
 *     topics: ["robots/%c/#"]
 *   - { deny: subscribe, topics: ["$SYS/#", { eq: "#" }] }
 *   - { allow: all }
 *
 * Without a condition a rule is for everybody, without topics for every topic. `user: "*"` is any user name but none.
 */
import { MantouError } from "#base/error.ts";
import type { AclRule, Who } from "./acl-rule.ts";
import { EVERYBODY } from "./acl-rule.ts";
import { parseRange } from "./address.ts";
import { parsePattern, patternFault, type TopicPattern } from "./topic-pattern.ts";
import { lineFault } from "./watched-file.ts";

const KEYS = ["allow", "deny", "user", "client", "address", "topics"];
const ACTIONS = ["publish", "subscribe", "all"] as const;

class RuleFault extends Error {}

/** Throws MantouError `access_file_invalid` with the line of the rule. */
export function parseYamlRules(text: string, file: string): AclRule[] {
  const starts = itemLines(text);
  let document: unknown;
  try {
    document = Bun.YAML.parse(text);
  } catch (error) {
    const reason = (error as Error).message.replace(/^YAML Parse error: /, "").toLowerCase();
    throw lineFault(file, brokenItemLine(text, starts), `found a YAML syntax error (${reason})`);
  }
  if (document === null || document === undefined) return [];
  if (!Array.isArray(document)) throw lineFault(file, 1, "found no list, allowed: a list of rules");
  return document.map((item: unknown, index) => {
    try {
      return ruleOf(item);
    } catch (error) {
      if (!(error instanceof RuleFault)) throw error;
      throw lineFault(file, starts[index] ?? 1, `rule ${index + 1}: ${error.message}`);
    }
  });
}

/** A rule as it is written: in YAML, or in JSON. */
export interface WrittenRule {
  readonly allow?: (typeof ACTIONS)[number] | undefined;
  readonly deny?: (typeof ACTIONS)[number] | undefined;
  readonly user?: string | readonly string[] | undefined;
  readonly client?: string | readonly string[] | undefined;
  readonly address?: string | readonly string[] | undefined;
  readonly topics?: readonly (string | { readonly eq: string })[] | undefined;
}

/** Rules that came as data. Throws MantouError `rule_invalid`. */
export function parseRules(rules: readonly WrittenRule[]): AclRule[] {
  return rules.map((rule, index) => {
    try {
      return ruleOf(rule);
    } catch (error) {
      if (!(error instanceof RuleFault)) throw error;
      throw new MantouError("rule_invalid", `rule ${index + 1}: ${error.message}`);
    }
  });
}

function ruleOf(item: unknown): AclRule {
  if (typeof item !== "object" || item === null || Array.isArray(item))
    throw new RuleFault(`found ${show(item)}, allowed: a mapping with the keys ${KEYS.join(", ")}`);
  const entry = item as Record<string, unknown>;
  for (const key of Object.keys(entry))
    if (!KEYS.includes(key)) throw new RuleFault(`found the key ${show(key)}, allowed: ${KEYS.join(", ")}`);
  if ("allow" in entry === "deny" in entry) throw new RuleFault("allowed: either allow or deny, and one of them");
  const effect = "allow" in entry ? "allow" : "deny";
  const action = ACTIONS.find((known) => known === entry[effect]);
  if (action === undefined)
    throw new RuleFault(`${effect}: found ${show(entry[effect])}, allowed: one of ${ACTIONS.join(", ")}`);
  return { effect, who: whoOf(entry), action, topics: topicsOf(entry["topics"]) };
}

function whoOf(entry: Record<string, unknown>): Who {
  const parts: Who[] = [];
  const add = (key: string, one: (text: string) => Who): void => {
    const texts = textsOf(key, entry[key]);
    if (texts.length === 1) parts.push(one(texts[0]));
    else if (texts.length > 1) parts.push({ kind: "or", parts: texts.map(one) });
  };
  add("user", (username) => ({ kind: "user", username: username === "*" ? undefined : username }));
  add("client", (clientId) => ({ kind: "client", clientId }));
  add("address", (text) => {
    const range = parseRange(text);
    if (!range) throw new RuleFault(`address: found ${show(text)}, allowed: an address or a range, such as 10.0.0.0/8`);
    return { kind: "address", range };
  });
  if (parts.length === 0) return EVERYBODY;
  return parts.length === 1 ? parts[0] : { kind: "and", parts };
}

/** Empty when the key is not there. A key without a value, or with an empty list, would be for everybody by mistake. */
function textsOf(key: string, value: unknown): string[] {
  if (value === undefined) return [];
  const texts = Array.isArray(value) ? (value as unknown[]) : [value];
  if (texts.length === 0 || texts.some((text) => typeof text !== "string" || text === ""))
    throw new RuleFault(`${key}: found ${show(value)}, allowed: a text or a list of texts`);
  return texts as string[];
}

function topicsOf(value: unknown): TopicPattern[] | undefined {
  if (value === undefined) return undefined;
  if (!Array.isArray(value) || value.length === 0)
    throw new RuleFault(`topics: found ${show(value)}, allowed: a list of filters`);
  return value.map((item: unknown) => {
    const literal = typeof item === "object" && item !== null ? (item as Record<string, unknown>)["eq"] : undefined;
    const text = literal ?? item;
    if (typeof text !== "string")
      throw new RuleFault(`topics: found ${show(item)}, allowed: a filter, or { eq: FILTER }`);
    const pattern = parsePattern(text, literal !== undefined);
    if (!pattern) throw new RuleFault(`topics: found ${show(text)}, allowed: a filter (${patternFault(text)})`);
    return pattern;
  });
}

function show(value: unknown): string {
  return value === undefined ? "nothing" : JSON.stringify(value).slice(0, 80);
}

/** Lines on which the items of a block list begin. */
function itemLines(text: string): number[] {
  const lines: number[] = [];
  let indent = -1;
  for (const [index, line] of text.split(/\r?\n/).entries()) {
    const at = /^( *)-(?= |$)/.exec(line)?.[1].length ?? -1;
    if (at >= 0 && indent < 0) indent = at;
    if (at >= 0 && at === indent) lines.push(index + 1);
  }
  return lines;
}

function brokenItemLine(text: string, starts: readonly number[]): number {
  const lines = text.split(/\r?\n/);
  const broken = starts.find((start, index) => {
    try {
      Bun.YAML.parse(lines.slice(start - 1, (starts[index + 1] ?? lines.length + 1) - 1).join("\n"));
      return false;
    } catch {
      return true;
    }
  });
  return broken ?? 1;
}
