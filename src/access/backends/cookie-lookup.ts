/**
 * What a cookie's value is worth: the seam of `cookie.ts`. One file a kind, `cookie-NAME.ts`, and one line in its table.
 */
import type { z } from "zod";
import type { AuthenticateAnswer, BackendHealth, BackendParts } from "#access/backend.ts";
import type { ClientInfo } from "#core/ports.ts";

export interface CookieLookup {
  /** Rejects with a MantouError where it can never work; a server that is away is not such a case. */
  check(): Promise<void>;
  start(): Promise<void>;
  stop(): Promise<void>;
  health(): BackendHealth;
  /**
   * Calls `answer` once, as a backend's `authenticate` does. `value` is not empty, at most 16 KiB long, and has no control
   * characters, space, quotation mark, comma, semicolon or backslash (RFC 6265 §4.1.1). A grant without a user name lets
   * in only clients whose CONNECT has none: `cookie.ts` sees to that.
   */
  find(value: string, client: ClientInfo, answer: (answer: AuthenticateAnswer) => void): void;
}

export interface CookieLookupKind<S extends z.ZodObject = z.ZodObject> {
  readonly options: S;
  make(options: z.output<S>, cookie: string, parts: BackendParts): CookieLookup;
}

/** Lets the options be inferred. */
export function cookieLookup<const S extends z.ZodObject>(kind: CookieLookupKind<S>): CookieLookupKind<S> {
  return kind;
}
