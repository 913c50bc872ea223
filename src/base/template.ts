/**
 * Texts with variables. Which variables there are, and what makes a value harmless in a place, is the caller's; values are put in once.
 *
 *   "device/%c/${username}"  ─ parseText ─►  ["device/", {clientid}, "/", {username}]  ─ expandTemplate ─►  text
 *   "… WHERE name = '%u'"    ─ bindText  ─►  "… WHERE name = $1", [username]            values are bound, never part of the text
 */

interface Variable<N extends string> {
  readonly variable: N;
}

export type Template<N extends string> = readonly (string | Variable<N>)[];

/** What looks like a variable and is none. */
export interface UnknownVariable {
  readonly unknown: string;
}

/** What variables look like, and which one a word of that look is. */
export interface VariableSyntax<N extends string> {
  /** Source of a regular expression without groups. */
  readonly word: string;
  nameOf(word: string): N | undefined;
}

/** What is no variable is itself. */
export function parseText<N extends string>(
  text: string,
  { word, nameOf }: VariableSyntax<N>,
): Template<N> | UnknownVariable {
  const parts: (string | Variable<N>)[] = [];
  let at = 0;
  for (const match of text.matchAll(new RegExp(word, "g"))) {
    const variable = nameOf(match[0]);
    if (variable === undefined) return { unknown: match[0] };
    if (match.index > at) parts.push(text.slice(at, match.index));
    parts.push({ variable });
    at = match.index + match[0].length;
  }
  if (at < text.length) parts.push(text.slice(at));
  return parts;
}

/** Undefined when a value is missing or `escape` refuses it. */
export function expandTemplate<N extends string>(
  template: Template<N>,
  valueOf: (variable: N) => string | undefined,
  escape: (value: string) => string | undefined = (value) => value,
): string | undefined {
  let text = "";
  for (const part of template) {
    if (typeof part === "string") {
      text += part;
      continue;
    }
    const value = valueOf(part.variable);
    const escaped = value === undefined ? undefined : escape(value);
    if (escaped === undefined) return undefined;
    text += escaped;
  }
  return text;
}

export interface BoundText<N extends string> {
  readonly text: string;
  /** To be bound in this order; one that is used twice stands twice. A missing value is bound as NULL. */
  readonly variables: readonly N[];
}

/**
 * SQL with placeholders where the variables stood. `'%u'`, emqttd's way, loses its quotation marks; a variable within a
 * longer quotation could not be bound and is a fault, returned as `fault`.
 */
export function bindText<N extends string>(
  sql: string,
  placeholder: (number: number) => string,
  { word, nameOf }: VariableSyntax<N>,
): BoundText<N> | { fault: string } {
  const plain = new RegExp(`(?<word>${word})`, "y");
  const quoted = new RegExp(`(?<mark>['"]?)(?<word>${word})\\k<mark>`, "y");
  const variables: N[] = [];
  let text = "";
  let quote = "";
  for (let at = 0; at < sql.length;) {
    const pattern = quote === "" ? quoted : plain;
    pattern.lastIndex = at;
    const found = pattern.exec(sql);
    if (!found) {
      const c = sql[at++];
      if (quote === "" && (c === "'" || c === '"')) quote = c;
      else if (c === quote) quote = "";
      text += c;
      continue;
    }
    const name = found.groups!["word"];
    const variable = nameOf(name);
    if (variable === undefined) return { fault: `${name} is no variable` };
    if (quote !== "") return { fault: `${name} stands inside a longer quotation, where nothing can be bound` };
    variables.push(variable);
    text += placeholder(variables.length);
    at += found[0].length;
  }
  return { text, variables };
}
