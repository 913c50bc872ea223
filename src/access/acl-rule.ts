/**
 * One rule of an access list, whatever it was written in: files of three syntaxes, rows of a table, claims of a token.
 *
 *   { effect, who, action, topics }      the first rule whose who, action and one topic match decides
 */
import type { ClientInfo } from "#core/ports.ts";
import { type AddressRange, isInRange, parseRange } from "./address.ts";
import type { Action, Question } from "./backend.ts";
import { type Effect, isPatternMatch, parsePattern, patternFault, type TopicPattern } from "./topic-pattern.ts";
import { valuesOf } from "./template.ts";

export type Who =
  | { readonly kind: "all" }
  /** Clients without a user name. */
  | { readonly kind: "nameless" }
  /** `undefined` in place of a name: any user name, but one. */
  | { readonly kind: "user"; readonly username: string | undefined }
  | { readonly kind: "client"; readonly clientId: string | undefined }
  | { readonly kind: "address"; readonly range: AddressRange }
  | { readonly kind: "and" | "or"; readonly parts: readonly Who[] };

export interface AclRule {
  readonly effect: Effect;
  readonly who: Who;
  readonly action: Action | "all";
  /** Undefined: every topic, those that begin with `$` too. */
  readonly topics: readonly TopicPattern[] | undefined;
}

export const EVERYBODY: Who = { kind: "all" };

/** What the first matching rule says. */
export function decideByRules(rules: readonly AclRule[], question: Question): Effect | "ignore" {
  for (const rule of rules) if (isRuleMatch(rule, question)) return rule.effect;
  return "ignore";
}

function isRuleMatch({ effect, who, action, topics }: AclRule, question: Question): boolean {
  if (action !== "all" && action !== question.action) return false;
  if (!isMeant(who, question.client)) return false;
  if (topics === undefined) return true;
  const values = valuesOf(question.client);
  return topics.some((pattern) => isPatternMatch(pattern, effect, question.topic, values));
}

function isMeant(who: Who, client: ClientInfo): boolean {
  switch (who.kind) {
    case "all":
      return true;
    case "nameless":
      return (client.username ?? "") === "";
    case "user":
      return who.username === undefined ? client.username !== undefined : client.username === who.username;
    case "client":
      return who.clientId === undefined || client.clientId === who.clientId;
    case "address":
      return isInRange(client.address, who.range);
    case "and":
      return who.parts.every((part) => isMeant(part, client));
    case "or":
      return who.parts.some((part) => isMeant(part, client));
  }
}

/** A row of emqttd's access tables. Columns that are null or empty do not count; those that are given must all hold. */
export interface AclRow {
  /** 1, true, "1", "allow": allow. Anything else denies. */
  readonly allow?: unknown;
  readonly ipaddr?: unknown;
  /** `$all` is everybody. */
  readonly username?: unknown;
  readonly clientid?: unknown;
  /** 1 or "subscribe", 2 or "publish", 3 or "pubsub" or "all". */
  readonly access?: unknown;
  /** A filter, with `%u` and `%c`; `eq FILTER` is the filter itself. */
  readonly topic?: unknown;
}

/** The rule of a row, or why it is none. A row that cannot be understood must not be left out in silence: it may deny. */
export function ruleOfRow(row: AclRow): AclRule | { readonly fault: string } {
  const allow = textOf(row.allow).toLowerCase();
  const access = textOf(row.access).toLowerCase();
  const action = ACCESS[access];
  if (action === undefined) return { fault: `access ${access} is none of 1, 2, 3, subscribe, publish, pubsub` };
  const parts: Who[] = [];
  const username = textOf(row.username);
  const clientId = textOf(row.clientid);
  const address = textOf(row.ipaddr);
  if (username !== "" && username !== "$all") parts.push({ kind: "user", username });
  if (clientId !== "" && clientId !== "$all") parts.push({ kind: "client", clientId });
  if (address !== "") {
    const range = parseRange(address);
    if (!range) return { fault: `ipaddr ${address} is no address` };
    parts.push({ kind: "address", range });
  }
  const topic = textOf(row.topic);
  const isLiteral = topic.startsWith("eq ");
  const filter = isLiteral ? topic.slice(3).trim() : topic;
  const pattern = parsePattern(filter, isLiteral);
  if (!pattern) return { fault: `topic ${topic}: ${patternFault(filter)}` };
  const effect = ["1", "true", "allow", "t", "yes"].includes(allow) ? "allow" : "deny";
  return { effect, who: parts.length === 0 ? EVERYBODY : { kind: "and", parts }, action, topics: [pattern] };
}

const ACCESS: Readonly<Record<string, Action | "all">> = {
  "1": "subscribe",
  subscribe: "subscribe",
  "2": "publish",
  publish: "publish",
  "3": "all",
  pubsub: "all",
  all: "all",
};

function textOf(value: unknown): string {
  if (value === null || value === undefined) return "";
  return typeof value === "string" ? value : String(value as number | boolean | bigint);
}
