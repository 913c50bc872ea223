/**
 * Topic filters of rules against what a client wants, for SUBSCRIBE both ways round:
 *
 *   allow   the rule must cover the whole filter     rule a/+   covers a/b, a/+      not a/#, a
 *   deny    one topic in common is enough            rule a/b   touches a/+, a/#, #
 *
 * so a wildcard in a SUBSCRIBE neither slips past a deny nor widens an allow. A wildcard at the first level never stands
 * for a level that begins with `$` (MQTT 5.0 §4.7.2).
 *
 * A variable whose value has `/`, `+` or `#`, is empty or missing makes no pattern: an allow rule then does not match,
 * and in a deny rule everything from that level on counts as `#`.
 */
import { parseFilterTemplate, isTemplate, type Template, type TemplateValues } from "./template.ts";

export interface TopicPattern {
  readonly template: Template;
  /** emqttd's `eq`: the text itself, wildcards included, and nothing else. */
  readonly isLiteral: boolean;
  /** Levels, when there is no variable in it. */
  readonly levels: readonly string[] | undefined;
}

export type Effect = "allow" | "deny";

/** Undefined when the text names an unknown variable, or is no filter: see `patternFault`. */
export function parsePattern(text: string, isLiteral = false): TopicPattern | undefined {
  const template = parseFilterTemplate(text);
  if (!isTemplate(template) || patternFault(text) !== undefined) return undefined;
  const levels = template.every((part) => typeof part === "string") ? text.split("/") : undefined;
  return { template, isLiteral, levels };
}

/** The text as it is: no variables in it. */
export function plainPattern(text: string): TopicPattern | undefined {
  if (filterFault(text) !== undefined) return undefined;
  return { template: [text], isLiteral: false, levels: text.split("/") };
}

/** Why the text is no topic filter of a rule. */
export function patternFault(text: string): string | undefined {
  const template = parseFilterTemplate(text);
  return isTemplate(template) ? filterFault(text) : `${template.unknown} is no variable`;
}

function filterFault(text: string): string | undefined {
  if (text === "") return "a topic filter is not empty";
  if (text.includes("\u0000") || !text.isWellFormed()) return "a topic filter is UTF-8 without NUL";
  const levels = text.split("/");
  for (const [at, level] of levels.entries()) {
    if (level.includes("#") && (level !== "#" || at !== levels.length - 1)) return "# stands alone, as the last level";
    if (level.includes("+") && level !== "+") return "+ stands alone in its level";
  }
  return undefined;
}

/** True when the rule's pattern applies to a topic (publish) or filter (subscribe). */
export function isPatternMatch(pattern: TopicPattern, effect: Effect, wanted: string, values: TemplateValues): boolean {
  if (pattern.isLiteral) return literalOf(pattern.template, effect, values) === wanted;
  const levels = pattern.levels ?? levelsOf(pattern.template, effect, values);
  if (levels === undefined) return false;
  return effect === "allow" ? isCovered(levels, wanted.split("/")) : isTouched(levels, wanted.split("/"), 0);
}

/** A client that is called `+` must not get by its name the wildcards that `eq` takes for themselves. */
function literalOf(template: Template, effect: Effect, values: TemplateValues): string | undefined {
  let text = "";
  for (const part of template) {
    const value = typeof part === "string" ? part : values[part.variable];
    if (value === undefined) return undefined;
    if (typeof part !== "string" && effect === "allow" && !isPlaceable(value)) return undefined;
    text += value;
  }
  return text;
}

/** A level, or a part of one, and no more. */
function isPlaceable(value: string): boolean {
  return /^[^/+#\u0000]+$/.test(value); // oxlint-disable-line no-control-regex -- no filter may hold NUL
}

/** The filter's levels with the values in place; see the head of the file for values that cannot be placed. */
export function levelsOf(template: Template, effect: Effect, values: TemplateValues): readonly string[] | undefined {
  let text = "";
  for (const part of template) {
    const value = typeof part === "string" ? part : values[part.variable];
    const isFine = typeof part === "string" || (value !== undefined && isPlaceable(value));
    if (!isFine) return effect === "allow" ? undefined : [...text.split("/").slice(0, -1), "#"];
    text += value;
  }
  // A value may begin with `$` at the first level; it is a literal level like any other.
  return text.split("/");
}

/** Every topic of `wanted` is one of `rule`. */
function isCovered(rule: readonly string[], wanted: readonly string[]): boolean {
  for (let at = 0; at < rule.length; at++) {
    const own = rule[at];
    const level = wanted[at];
    const isReserved = at === 0 && level !== undefined && level.startsWith("$");
    if (own === "#") return !isReserved;
    if (level === undefined) return false;
    if (own === "+") {
      if (level === "#" || isReserved) return false;
    } else if (own !== level) {
      return false;
    }
  }
  return wanted.length === rule.length;
}

/** Some topic belongs to both. */
function isTouched(rule: readonly string[], wanted: readonly string[], at: number): boolean {
  for (; ; at++) {
    const own = rule[at];
    const level = wanted[at];
    if (own === undefined && level === undefined) return true;
    if (at === 0) {
      const isWild = (word: string | undefined): boolean => word === "#" || word === "+";
      if (isWild(own) && level.startsWith("$")) return false;
      if (isWild(level) && own.startsWith("$")) return false;
    }
    if (own === "#" || level === "#") return true; // `a/#` is also `a`
    if (own === undefined || level === undefined) return false;
    if (own !== "+" && level !== "+" && own !== level) return false;
  }
}
