/**
 * A log record as one line for people: `2026-11-23 10:00:00.123 info  listener: message key=value`.
 *
 * pino makes the record (levels, children, redaction, errors), this only lays it out. Whatever a client may have chosen
 * is made harmless: a control or direction character in it cannot start a line of its own or repaint the terminal.
 */

/** Control characters, line separators, and characters that turn the direction of what follows. */
const HARMFUL = /[\p{Cc}\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]/gu;
/** A value that reads unambiguously without quotation marks. */
const BARE = /^[^\s"'=\\\p{Cc}\p{Cf}]+$/u;
const LEFT_OUT = new Set(["level", "time", "pid", "hostname", "part", "msg", "err"]);

export function escapeControl(text: string): string {
  return text.replace(HARMFUL, (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, "0")}`);
}

/** `line` is a JSON record of pino's. Time is local, as people read it; JSON records carry UTC. */
export function formatRecord(line: string): string {
  const record = JSON.parse(line) as Record<string, unknown>;
  const part = record["part"] === undefined ? "" : `${escapeControl(String(record["part"]))}: `;
  const message = escapeControl(String(record["msg"] ?? ""));
  const head = `${formatTime(new Date(String(record["time"])))} ${String(record["level"]).padEnd(5)} ${part}${message}`;
  const fields = Object.entries(record).filter(([key]) => !LEFT_OUT.has(key));
  const tail = fields.map(([key, value]) => ` ${escapeControl(key)}=${formatValue(value)}`).join("");
  return `${head}${tail}${formatError(record["err"])}\n`;
}

/** A value of a `key=value`. */
export function formatValue(value: unknown): string {
  if (typeof value === "string" && BARE.test(value)) return value;
  return escapeControl(JSON.stringify(value));
}

/** The stack follows on indented lines: it cannot be taken for a record. */
function formatError(error: unknown): string {
  if (error === undefined || error === null) return "";
  const { stack, message } = error as { stack?: unknown; message?: unknown };
  const lines = String(stack ?? message ?? error).split("\n");
  return lines.map((line) => `\n    ${escapeControl(line.trim())}`).join("");
}

/** Local, to the millisecond. */
export function formatTime(time: Date): string {
  const two = (value: number) => String(value).padStart(2, "0");
  const date = `${time.getFullYear()}-${two(time.getMonth() + 1)}-${two(time.getDate())}`;
  const clock = `${two(time.getHours())}:${two(time.getMinutes())}:${two(time.getSeconds())}`;
  return `${date} ${clock}.${String(time.getMilliseconds()).padStart(3, "0")}`;
}
