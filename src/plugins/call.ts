/** What calls into plugins need: promises told from values, deadlines, faults of whoever uses the api in words. */
import { MantouError } from "#base/error.ts";

const WORDS_MAX = 500;

export function isPromise(value: unknown): value is Promise<unknown> {
  return typeof (value as { then?: unknown } | undefined | null)?.then === "function";
}

export function wrong(words: string): MantouError {
  return new MantouError("plugin_invalid", words);
}

/** Rejects when `call` takes longer. */
export async function before<T>(limitMs: number, words: string, call: () => Promise<T>): Promise<T> {
  const { promise, reject } = Promise.withResolvers<never>();
  const timer = setTimeout(() => reject(new Error(`${words} within ${limitMs / 1000} s`)), limitMs);
  try {
    return await Promise.race([call(), promise]);
  } finally {
    clearTimeout(timer);
  }
}

/** What was thrown, in words that may be kept and shown. */
export function wordsOf(error: unknown): string {
  const words = error instanceof Error ? error.message : String(error);
  return words.length > WORDS_MAX ? `${words.slice(0, WORDS_MAX)}…` : words;
}
