/** A word that no log, no shown configuration and no error message may hold: every way of printing it hides it. */
import { createHmac, randomBytes } from "node:crypto";
import { readFileSync } from "node:fs";
import { MantouError } from "#base/error.ts";

const HIDDEN = "(secret)";
const markKey = randomBytes(32);

export class Secret {
  readonly #source: string;

  /** The secret itself, `env:NAME` or `file:PATH`. */
  constructor(source: string) {
    this.#source = source;
  }

  /** The word; a file's without the line break at its end. Throws MantouError `secret_missing`. */
  reveal(): string {
    const [, kind, place = ""] = /^(env|file):(.+)$/s.exec(this.#source) ?? [];
    if (kind === "env") {
      const value = process.env[place];
      if (value === undefined || value === "")
        throw new MantouError("secret_missing", `environment variable ${place}: not set`);
      return value;
    }
    if (kind === undefined) return this.#source;
    try {
      return readFileSync(place, "utf8").replace(/\r?\n$/, "");
    } catch (error) {
      throw new MantouError("secret_missing", `${place}: ${(error as NodeJS.ErrnoException).code ?? "not readable"}`);
    }
  }

  /** The same text for the same word in the same place, as long as the process lives; it shows neither. */
  mark(): string {
    let word = "";
    try {
      word = this.reveal();
    } catch {
      // it is missing: whoever needs it says so
    }
    return createHmac("sha256", markKey)
      .update(JSON.stringify([this.#source, word]))
      .digest("base64");
  }

  toString(): string {
    return HIDDEN;
  }

  toJSON(): string {
    return HIDDEN;
  }

  [Symbol.for("nodejs.util.inspect.custom")](): string {
    return HIDDEN;
  }
}

/** A copy in which each secret is its mark: two secrets would look the same to whoever compares. */
export function marked(value: unknown): unknown {
  if (value instanceof Secret) return value.mark();
  if (Array.isArray(value)) return value.map(marked);
  if (typeof value !== "object" || value === null) return value;
  return Object.fromEntries(Object.entries(value).map(([key, leaf]) => [key, marked(leaf)]));
}
