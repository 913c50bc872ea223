/**
 * Texts with variables, and what makes a client's words harmless in each place they are put.
 *
 *   "device/%c/${username}"  ─ parseTemplate ─►  ["device/", {clientid}, "/", {username}]  ─ expand… ─►  text
 *
 * A client chooses its client id, user name and password, and with them tries to be more than it is: `#` in a filter,
 * `*)(uid=*` in a directory search, a line break in a header. So there is one function per place, and none that just
 * pastes. Values are put in once: a `%c` inside a user name stays a `%c`.
 *
 *   topic filter   expandFilter       a value with / + # or nothing: the rule does not match (a deny rule matches more)
 *   URL            expandUrl          percent-encoded, also in paths; a value `.` or `..` is refused
 *   form, JSON     expandText         raw: the form or JSON encoder escapes the value as a whole
 *   header         expandHeader       control characters are refused
 *   LDAP filter    expandLdapFilter   RFC 4515 §3        LDAP name   expandLdapName   RFC 4514 §2.4
 *   SQL            bindTemplate       placeholders; values are bound, never part of the text
 *   Redis, Mongo   expandText         one whole argument, one whole string: never split again, never parsed
 */
import {
  bindText,
  type BoundText as SharedBoundText,
  expandTemplate,
  parseText,
  type Template as SharedTemplate,
  type VariableSyntax,
} from "#base/template.ts";
import type { ClientInfo } from "#core/ports.ts";

const SHORT: Readonly<Record<string, VariableName>> = {
  "%u": "username",
  "%c": "clientid",
  "%a": "address",
  "%P": "password",
  "%t": "topic",
  "%A": "access",
  $u: "username",
  $c: "clientid",
};
const NAMES = [
  "username",
  "clientid",
  "address",
  "password",
  "topic",
  "action",
  "access",
  "listener",
  "commonname",
  "subject",
  "fingerprint",
] as const;

export type VariableName = (typeof NAMES)[number];
export type Template = SharedTemplate<VariableName>;
/** What is undefined is unknown: no user name, no certificate. `access` is emqttd's: 1 subscribe, 2 publish. */
export type TemplateValues = Readonly<Partial<Record<VariableName, string | undefined>>>;

/** `%c`, `%u`, `%a` … and `${clientid}` … are variables, everything else is itself. An unknown `${name}` is returned as the error's text. */
export function parseTemplate(text: string): Template | { readonly unknown: string } {
  return parseText(text, SYNTAX);
}

/** A topic filter of a rule: also `$c` and `$u`, as whole levels, as emqttd has them. */
export function parseFilterTemplate(text: string): Template | { readonly unknown: string } {
  return parseText(text, FILTER_SYNTAX);
}

const nameOf = (word: string): VariableName | undefined =>
  word.startsWith("${") ? NAMES.find((known) => known === word.slice(2, -1).toLowerCase()) : SHORT[word];

const SYNTAX: VariableSyntax<VariableName> = { word: "%[ucaPtA]|\\$\\{[^}]*\\}", nameOf };
const FILTER_SYNTAX: VariableSyntax<VariableName> = {
  word: "%[uca]|\\$\\{[^}]*\\}|(?<=^|/)\\$[uc](?=/|$)",
  nameOf,
};

export function isTemplate(parsed: Template | { readonly unknown: string }): parsed is Template {
  return !("unknown" in parsed);
}

/** For texts that the program itself wrote, or that the configuration's schema has checked. */
export function templateOf(text: string): Template {
  const parsed = parseTemplate(text);
  if (!isTemplate(parsed)) throw new Error(`${parsed.unknown} is no variable`);
  return parsed;
}

/** What every client has. */
export function valuesOf(client: ClientInfo): TemplateValues {
  const { clientId, username, address, listener, identity } = client;
  const certificate = identity?.certificate;
  return {
    clientid: clientId,
    username,
    address,
    listener,
    commonname: certificate?.commonName === "" ? undefined : certificate?.commonName,
    subject: certificate?.subject,
    fingerprint: certificate?.fingerprint,
  };
}

function expand(
  template: Template,
  values: TemplateValues,
  escape?: (value: string) => string | undefined,
): string | undefined {
  return expandTemplate(template, (variable) => values[variable], escape);
}

/** Unescaped: for what takes the result as one whole value. Undefined when a value is missing. */
export function expandText(template: Template, values: TemplateValues): string | undefined {
  return expand(template, values);
}

/** Undefined when a value is missing, or would be understood as a step in a path. */
export function expandUrl(template: Template, values: TemplateValues): string | undefined {
  return expand(template, values, escapeUrl);
}

/** Undefined when a value is missing or has control characters. Header values are bytes: the rest is percent-encoded beyond ASCII. */
export function expandHeader(template: Template, values: TemplateValues): string | undefined {
  return expand(template, values, escapeHeader);
}

export function expandLdapFilter(template: Template, values: TemplateValues): string | undefined {
  return expand(template, values, escapeLdapFilter);
}

export function expandLdapName(template: Template, values: TemplateValues): string | undefined {
  return expand(template, values, escapeLdapName);
}

export function escapeUrl(value: string): string | undefined {
  if (value === "." || value === ".." || !value.isWellFormed()) return undefined;
  return encodeURIComponent(value).replace(/[!'()*]/g, (c) => `%${hex2(c.charCodeAt(0))}`);
}

export function escapeHeader(value: string): string | undefined {
  if (/\p{Cc}/u.test(value) || !value.isWellFormed()) return undefined;
  return value.replace(/[^\x20-\x7e]+/gu, (part) => encodeURIComponent(part));
}

/** RFC 4515 §3: `\ * ( )` and NUL as `\xx`; the rest of UTF-8 may stand. */
export function escapeLdapFilter(value: string): string {
  // oxlint-disable-next-line no-control-regex -- NUL is one of the five
  return value.replace(/[\\*()\u0000]/g, (c) => `\\${hex2(c.charCodeAt(0))}`);
}

/** RFC 4514 §2.4, more than it demands: every character that has a meaning anywhere in a name is `\xx`. */
export function escapeLdapName(value: string): string {
  // oxlint-disable-next-line no-control-regex -- they are escaped here
  return value.replace(/[\\,+"<>;=#\u0000-\u001f]|^ | $/g, (c) => `\\${hex2(c.charCodeAt(0))}`);
}

function hex2(code: number): string {
  return code.toString(16).toUpperCase().padStart(2, "0");
}

export type BoundText = SharedBoundText<VariableName>;

/** See `bindText` of base/template.ts. */
export function bindTemplate(sql: string, placeholder: (number: number) => string): BoundText | { fault: string } {
  return bindText(sql, placeholder, SYNTAX);
}
