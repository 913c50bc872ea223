/**
 * Commands that a user gives for a broker: words as a shell would split them, with places to fill in. No shell runs them,
 * so the process that is measured and ended is the broker's own.
 *
 *   {port}     required somewhere: where the broker must listen on 127.0.0.1
 *   {dir}      an empty folder that goes with the broker
 *   {nodelay}  true for the scenarios that measure single small messages, else false
 */

import { UsageError } from "#bench/load/options.ts";

export interface TemplateValues {
  readonly port: number;
  readonly dir: string;
  readonly nodelay: boolean;
}

const NAME = /^[a-z0-9][a-z0-9._-]*$/i;

/** Words, with quotes and backslashes read as in a POSIX shell; nothing else of a shell is special. */
export function splitWords(text: string): string[] {
  const words: string[] = [];
  let word: string | undefined;
  let quote = "";
  for (let i = 0; i < text.length; i++) {
    const c = text[i];
    if (quote !== "") {
      if (c === quote) quote = "";
      else if (c === "\\" && quote === '"' && /["\\]/.test(text[i + 1] ?? "")) word += text[++i];
      else word += c;
    } else if (c === "'" || c === '"') {
      quote = c;
      word ??= "";
    } else if (c === "\\") word = (word ?? "") + (text[++i] ?? "");
    else if (/\s/.test(c)) {
      if (word !== undefined) words.push(word);
      word = undefined;
    } else word = (word ?? "") + c;
  }
  if (quote !== "") throw new UsageError(`${text}: a ${quote} is not closed`);
  if (word !== undefined) words.push(word);
  return words;
}

/** Throws for a template that could not work, before anything is started. */
export function checkTemplate(text: string): readonly string[] {
  const words = splitWords(text);
  if (words.length === 0) throw new UsageError("an empty command");
  const places = [...text.matchAll(/\{([a-z]+)\}/g)].map((match) => match[1]);
  const unknown = places.find((place) => !["port", "dir", "nodelay"].includes(place));
  if (unknown !== undefined) throw new UsageError(`${text}: {${unknown}} is not {port}, {dir} or {nodelay}`);
  if (!places.includes("port")) throw new UsageError(`${text}: {port} must say where the broker is to listen`);
  return words;
}

export function fill(words: readonly string[], values: TemplateValues): string[] {
  const texts: Record<string, string> = {
    port: String(values.port),
    dir: values.dir,
    nodelay: String(values.nodelay),
  };
  return words.map((word) => word.replace(/\{(port|dir|nodelay)\}/g, (_, place: string) => texts[place]));
}

/**
 * `mantou,mosquitto,flashmq=./flashmq.sh {port} a,b`: pieces between commas. One that is neither a known name nor starts
 * with NAME= belongs to the command before it, so that commands may hold commas.
 */
export function splitBrokers(text: string, known: readonly string[]): { name: string; command?: string }[] {
  const brokers: { name: string; command?: string }[] = [];
  for (const piece of text.split(",")) {
    const trimmed = piece.trim();
    const at = trimmed.indexOf("=");
    const last = brokers.at(-1);
    if (known.includes(trimmed)) brokers.push({ name: trimmed });
    else if (at > 0 && NAME.test(trimmed.slice(0, at)))
      brokers.push({ name: trimmed.slice(0, at), command: trimmed.slice(at + 1) });
    else if (last?.command !== undefined) last.command += `,${piece}`;
    else throw new UsageError(`${trimmed}: neither ${known.join(", ")} nor NAME=COMMAND`);
  }
  return brokers;
}
