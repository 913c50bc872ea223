/**
 * `mantou ctl …`: questions and orders to a running broker, with the commands and the lines of emqttd_ctl, so that scripts which read
 * those go on working. With `--json` the same answers are JSON.
 *
 *   words ─► command of the table, else of a plugin ─► Control (admin socket) ─► Answer ─► lines, or JSON
 */
import { MantouError } from "#base/error.ts";
import type { Control } from "#broker/control.ts";
import { escapeControl } from "#broker/log-text.ts";

export interface CtlContext {
  readonly control: Control;
  /** A resource of REST, for what is no operation; `path` follows `/api/v1`. Rejects with MantouError. */
  rest(method: string, path: string, body?: unknown): Promise<unknown>;
  readonly isJson: boolean;
  readonly payload: "none" | "text" | "hex" | undefined;
  /** Seconds; undefined: as long as it goes. */
  readonly forSec: number | undefined;
  out(text: string): void;
  err(text: string): void;
  /** Asks for a password, or reads it from standard input. */
  password(name: string): Promise<string>;
  /** Resolves when the user wants it to end. */
  readonly interrupted: Promise<void>;
}

/** What a command has to say: the same as data and as lines. */
export interface Answer {
  /** Undefined: everything has been said. */
  readonly json: unknown;
  readonly lines: readonly string[];
}

export interface CtlCommand {
  readonly name: string;
  /** What may follow the name, each with what it does. */
  readonly usage: readonly (readonly [words: string, about: string])[];
  /** Undefined when the words make no sense: the usage is shown. */
  run(context: CtlContext, words: readonly string[]): Promise<Answer | undefined>;
}

/** Found nothing, or the broker said no: already told on stdout; the exit code says so. */
export class Refusal extends Error {
  constructor(readonly answer: Answer) {
    super("refused");
  }
}

const USAGE_WIDTH = 48;
/** emqttd_ctl listed no more than this. */
const LIST_COUNT_MAX = 9999;
const PAGE_COUNT = 1000;

export const OK: Answer = { json: { ok: true }, lines: ["ok"] };

export function notFound(): Refusal {
  return new Refusal({ json: { error: "not_found" }, lines: ["Not Found."] });
}

function usageOf({ name, usage }: Pick<CtlCommand, "name" | "usage">): string {
  return usage.map(([words, about]) => `${`${name} ${words}`.trim().padEnd(USAGE_WIDTH)}# ${about}\n`).join("");
}

/** Returns the exit code: 0 done, 1 not found or refused, 2 the words make no sense. */
export async function runCtl(
  table: readonly CtlCommand[],
  words: readonly string[],
  context: CtlContext,
): Promise<number> {
  const [name = "help", ...rest] = words;
  const command = table.find((each) => each.name === name);
  if (name === "help") {
    context.out([...table, ...(await pluginCommands(context))].map(usageOf).join(""));
    return words.length === 0 ? 2 : 0;
  }
  try {
    const answer = command ? await command.run(context, rest) : await runPlugin(context, name, rest);
    if (answer) return say(context, answer, 0);
  } catch (error) {
    if (error instanceof Refusal) return say(context, error.answer, 1);
    if (error instanceof MantouError && error.code === "not_found") return say(context, notFound().answer, 1);
    throw error;
  }
  if (!command) context.err(`there is no command ${escapeControl(name)}; mantou ctl help shows what there is\n`);
  else context.out(usageOf(command));
  return 2;
}

function say({ isJson, out }: CtlContext, { json, lines }: Answer, code: number): number {
  if (isJson && json !== undefined) out(`${JSON.stringify(json, null, 2)}\n`);
  if (!isJson && lines.length > 0) out(`${lines.map(escapeControl).join("\n")}\n`);
  return code;
}

async function pluginCommands({ control }: CtlContext): Promise<Pick<CtlCommand, "name" | "usage">[]> {
  const commands = await control("commands.list", {});
  return commands.map(({ name, usage, description }) => ({ name, usage: [[usage, description]] }));
}

/** Undefined when no plugin has it. */
async function runPlugin({ control }: CtlContext, name: string, args: readonly string[]): Promise<Answer | undefined> {
  const known = await control("commands.list", {});
  if (!known.some((command) => command.name === name)) return undefined;
  const { answer } = await control("commands.run", { name, args: [...args] });
  const text = typeof answer === "string" ? answer.trimEnd() : JSON.stringify(answer, null, 2);
  return { json: answer, lines: answer === null ? [] : text.split("\n") };
}

interface Page<T> {
  readonly items: readonly T[];
  readonly cursor?: string | undefined;
}

/** All rows of a list that is not too long. `what` is for the line that says it is. */
export async function listAll<T>(
  what: string,
  count: number,
  ask: (page: { limit: number; cursor?: string }) => Promise<Page<T>>,
): Promise<T[]> {
  const tooMany = (found: number): Refusal =>
    new Refusal({
      json: { error: "too_many", what, count: found },
      lines: [`Could not list, too many ${what}: ${found}`],
    });
  if (count > LIST_COUNT_MAX) throw tooMany(count);
  const rows: T[] = [];
  let cursor: string | undefined;
  do {
    const page: Page<T> = await ask({ limit: PAGE_COUNT, ...(cursor !== undefined && { cursor }) });
    rows.push(...page.items);
    if (rows.length > LIST_COUNT_MAX) throw tooMany(rows.length);
    cursor = page.cursor;
  } while (cursor !== undefined);
  return rows;
}

/** `NAME(WHO, key=value, key=value)`. */
export function record(name: string, who: string, fields: Readonly<Record<string, string | number | boolean>>): string {
  const rest = Object.entries(fields).map(([key, value]) => `, ${key}=${value}`);
  return `${name}(${who}${rest.join("")})`;
}

/** `key  : value`, the keys `width` wide. */
export function rows(
  width: number,
  entries: Iterable<readonly [key: string, value: string | number]>,
  indent = "",
): string[] {
  return [...entries].map(([key, value]) => `${indent}${key.padEnd(width)}: ${value}`);
}

/** As emqttd had names: `messages.qos0.sent` → `messages/qos0/sent`. */
export function slashed(name: string): string {
  return name.replaceAll(".", "/").replaceAll(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
}
