/**
 * Variables of statements, commands and documents that store events, and their values. A value is bound, one whole argument, or one
 * whole field; it is never pasted into a text that is parsed afterwards.
 *
 *   %c ${clientid}   %u ${username}   %a ${ipaddress}   %t ${topic}     as with access
 *   ${id} ${event} ${ts} ${time} ${node} ${qos} ${retain} ${payload} ${payloadbytes} ${payloadbase64} ${publisher} ${reason}
 */
import { type BoundText, bindText, type Template, type UnknownVariable, parseText } from "#base/template.ts";
import type { BrokerEvent } from "./event.ts";

const NAMES = [
  "id",
  "event",
  "ts",
  "time",
  "node",
  "clientid",
  "username",
  "ipaddress",
  "topic",
  "qos",
  "retain",
  "payload",
  "payloadbytes",
  "payloadbase64",
  "publisher",
  "reason",
] as const;

export type StorageVariable = (typeof NAMES)[number];

const SHORT: Readonly<Record<string, StorageVariable>> = {
  "%c": "clientid",
  "%u": "username",
  "%a": "ipaddress",
  "%t": "topic",
};

const SYNTAX = {
  word: "%[cuat]|\\$\\{[^}]*\\}",
  nameOf: (word: string): StorageVariable | undefined =>
    word.startsWith("${") ? NAMES.find((name) => name === word.slice(2, -1).toLowerCase()) : SHORT[word],
};

export const VARIABLES_ALLOWED = `variables of ${NAMES.map((name) => `\${${name}}`).join(", ")}`;

export type StorageTemplate = Template<StorageVariable>;
export type StorageValue = string | number | boolean | Buffer | Date | null;

export function parseTemplate(text: string): StorageTemplate | UnknownVariable {
  return parseText(text, SYNTAX);
}

/** For texts that the configuration's schema has checked. */
export function templateOf(text: string): StorageTemplate {
  const parsed = parseTemplate(text);
  if ("unknown" in parsed) throw new Error(`${parsed.unknown} is no variable`);
  return parsed;
}

export function bindStatement(
  sql: string,
  placeholder: (number: number) => string,
): BoundText<StorageVariable> | { fault: string } {
  return bindText(sql, placeholder, SYNTAX);
}

/** Null for what the event has not. */
export function valueOf(event: BrokerEvent, variable: StorageVariable, node: string): StorageValue {
  switch (variable) {
    case "node":
      return node;
    case "time":
      return new Date(event.ts);
    case "payload":
      return event.payload?.toString() ?? null;
    case "payloadbytes":
      return event.payload ?? null;
    case "payloadbase64":
      return event.payload?.toString("base64") ?? null;
    default:
      return event[variable] ?? null;
  }
}

/** One variable alone keeps its kind; among other words it becomes text, and what the event has not becomes nothing. */
export function fillTemplate(template: StorageTemplate, event: BrokerEvent, node: string): StorageValue {
  const [first] = template;
  if (template.length === 1 && typeof first === "object") return valueOf(event, first.variable, node);
  return template
    .map((part) => (typeof part === "string" ? part : textOf(valueOf(event, part.variable, node))))
    .join("");
}

export function textOf(value: StorageValue): string {
  if (value === null) return "";
  if (value instanceof Date) return value.toISOString();
  return String(value);
}
