/**
 * Every normative statement of MQTT 5.0 and 3.1.1, and the rules that tie them to the tests of v5/ and v3/.
 *
 * A covered clause needs a test whose title starts with its id in square brackets; a title may start with several.
 * Titles are read from the syntax tree, so a comment or a string never counts, nor a test that is skipped, left to do,
 * or inside a skipped describe. The id must stand in the literal text of `test(…)`, `test.each(…)(…)` and the like;
 * variables are not followed.
 */
import { parseSync } from "oxc-parser";
import type { Clause } from "./clause.ts";

export { clauses3 } from "./clauses-v3.ts";
export { clauses5 } from "./clauses-v5.ts";

interface Node {
  readonly type: string;
  readonly [key: string]: unknown;
}

/** What the titles leave to be wished for, as ids. */
export interface Gaps {
  /** Covered, but in no title. */
  readonly missing: string[];
  /** In a title, but in no table. */
  readonly unknown: string[];
  /** In a title, though the table says client-only or untestable. */
  readonly wrongStatus: string[];
}

const TEST_FUNCTIONS = ["test", "it"];
const IDLE_MODIFIERS = ["skip", "todo", "skipIf", "todoIf", "if"];

/** The clause ids at the start of every title of a test that runs, in order, repeated where repeated. */
export function titleIds(path: string, text: string): string[] {
  const { program, errors } = parseSync(path, text);
  if (errors[0]) throw new Error(`${path}: ${errors[0].message}`);
  const ids: string[] = [];
  walk(program, (node) => {
    if (node.type !== "CallExpression") return true;
    const names = calleeNames(node["callee"]);
    const isTest = TEST_FUNCTIONS.includes(names[0] ?? "");
    if (!isTest && names[0] !== "describe") return true;
    if (names.some((name) => IDLE_MODIFIERS.includes(name))) return false;
    if (isTest) ids.push(...leadingIds(literalStart((node["arguments"] as unknown[])[0])));
    return true;
  });
  return ids;
}

export function findGaps(clauses: readonly Clause[], ids: Iterable<string>): Gaps {
  const tested = new Set(ids);
  const known = new Map(clauses.map((clause) => [clause.id, clause]));
  const has = (id: string) => tested.has(id);
  return {
    missing: clauses.filter(({ id, status }) => status === "covered" && !has(id)).map(({ id }) => id),
    unknown: [...tested].filter((id) => !known.has(id)),
    wrongStatus: clauses.filter(({ id, status }) => status !== "covered" && has(id)).map(({ id }) => id),
  };
}

/** One line for each section, such as "MQTT-3.1.2   -1 -4 -7". */
export function bySection(ids: readonly string[]): string {
  const sections = new Map<string, string[]>();
  for (const id of ids) {
    const section = id.replace(/-\d+$/, "");
    const rest = id.slice(section.length);
    sections.set(section, [...(sections.get(section) ?? []), rest]);
  }
  return [...sections].map(([section, rests]) => `${section.padEnd(14)}${rests.join(" ")}`).join("\n");
}

/** What is wrong with a table in itself. */
export function tableProblems(clauses: readonly Clause[], prefix: string): string[] {
  const wellFormed = new RegExp(`^${prefix}[1-7]\\.\\d+\\.\\d+-[1-9]\\d*$`);
  return clauses.flatMap(({ id, says, status, why }, index) => {
    const problems: string[] = [];
    if (!wellFormed.test(id)) problems.push("is not a well-formed id");
    if (index > 0 && compareIds(clauses[index - 1]!.id, id) >= 0) problems.push("is repeated or out of order");
    if (says === "" || says.length > 100) problems.push("needs 1 to 100 characters of text");
    if (status !== "covered" && !why) problems.push(`is ${status} without a reason`);
    if (status === "covered" && why !== undefined) problems.push("is covered and needs no reason");
    return problems.map((problem) => `${id} ${problem}`);
  });
}

function compareIds(a: string, b: string): number {
  return a.localeCompare(b, "en", { numeric: true });
}

/** Bracketed ids, once or more at the start; what else starts like one is taken too, to be reported as unknown. */
function leadingIds(title: string): string[] {
  const start = /^(\s*\[MQTT[^\]]*\])+/.exec(title)?.[0] ?? "";
  return [...start.matchAll(/\[([^\]]*)\]/g)].map((match) => match[1] ?? "");
}

/** The text up to the first `${`, or "" when it is not a literal. */
function literalStart(node: unknown): string {
  if (!isNode(node)) return "";
  if (node.type === "Literal") return typeof node["value"] === "string" ? node["value"] : "";
  if (node.type !== "TemplateLiteral") return "";
  const first = (node["quasis"] as { value: { cooked: string | null } }[])[0];
  return first?.value.cooked ?? "";
}

/** `test.skip.each(rows)` is ["test", "skip", "each"]. */
function calleeNames(node: unknown): string[] {
  if (!isNode(node)) return [];
  if (node.type === "Identifier") return [node["name"] as string];
  if (node.type === "CallExpression") return calleeNames(node["callee"]);
  if (node.type !== "MemberExpression") return [];
  return [...calleeNames(node["object"]), ...calleeNames(node["property"])];
}

/** Goes into a node's children while `visit` says true. */
function walk(node: unknown, visit: (node: Node) => boolean): void {
  if (Array.isArray(node)) {
    for (const each of node) walk(each, visit);
  } else if (isNode(node) && visit(node)) {
    for (const child of Object.values(node)) walk(child, visit);
  }
}

function isNode(value: unknown): value is Node {
  return typeof value === "object" && value !== null && typeof (value as Node).type === "string";
}
