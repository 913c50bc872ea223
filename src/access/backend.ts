/**
 * The contract of an access backend: what it is asked, what it answers, how it is made.
 *
 *   CONNECT ─► chain ─► authenticate ─► authenticate ─► …      first allow or deny ends it; all ignore: refused
 *              then  ─► isSuperuser …                          first yes ends it; a super user is asked nothing more
 *                    ─► subscriptions …                        all that are listed anywhere
 *   PUBLISH, SUBSCRIBE ─► authorize ─► authorize ─► …          first allow or deny ends it; all ignore: `noMatch`
 *
 * A question is answered exactly once, by callback: before the call returns where the answer is at hand (files, tables),
 * later where a server or a hash has to be waited for. Whoever asked waits alone; a backend never blocks the loop, never
 * throws for what a client sent, and bounds what it keeps and whom it lets wait (`remote-guard.ts`, `password.ts`).
 *
 * Whoever cannot answer says "unavailable" and leaves the consequence to the chain (`whenUnavailable`).
 */
import type { z } from "zod";
import type { AuthenticateRequest, ClientInfo, GrantedSubscription } from "#core/ports.ts";
import type { AclRule } from "./acl-rule.ts";
import type { PasswordChecker, StoredPassword } from "./password.ts";
import type { SubscriptionList } from "./subscription-list.ts";
import type { RefusalCode } from "./reason.ts";
import type { AccessDb } from "./access-db.ts";

/**
 * One way in. `client.identity` has what the transport knows: certificate, upgrade headers. `state` is the backend's
 * own between the steps of an exchange that it has answered with `continue`. Bytes stay valid until the answer.
 */
export type Attempt = Omit<AuthenticateRequest, "complete">;

/** What comes with being let in. */
export interface Grant {
  /** Every publish and subscribe is allowed. */
  readonly isSuperuser?: boolean | undefined;
  /** The user this client is from now on, for rules, templates and bans; without it the user name of CONNECT. */
  readonly username?: string | undefined;
  /** The client's own rules, judged before any backend. Backends whose grants have these set `mayGrant`. */
  readonly rules?: readonly AclRule[] | undefined;
  /** What the client is subscribed to as it comes in, if its rules allow it. */
  readonly subscriptions?: SubscriptionList | undefined;
  /** Wall clock, seconds: then the client is disconnected. Backends whose grants have this set `mayGrant`. */
  readonly expiresAtSec?: number | undefined;
}

export type AuthenticateAnswer =
  /**
   * `decoy`: what a known user's password would have been compared with. If nobody else knows the client it is, before
   * the refusal, so that the time taken does not tell who is known.
   */
  | { readonly verdict: "ignore"; readonly decoy?: StoredPassword | undefined }
  | { readonly verdict: "unavailable" }
  /** `data`: the last word of an enhanced authentication. */
  | { readonly verdict: "allow"; readonly grant?: Grant | undefined; readonly data?: Buffer | undefined }
  /** `code` is 0x86, bad user name or password, unless said otherwise: that counts against the client's address. */
  | { readonly verdict: "deny"; readonly code?: RefusalCode | undefined; readonly reasonString?: string | undefined }
  /** One more step of an enhanced authentication; the client's answer comes to this backend with the same `state`. */
  | { readonly verdict: "continue"; readonly data: Buffer | undefined };

export type Action = "publish" | "subscribe";

export interface Question {
  /** `username` is the granted one, where there is one. */
  readonly client: ClientInfo;
  readonly action: Action;
  /** Topic name, or filter without the share's prefix. Wildcards of a filter are part of the text. */
  readonly topic: string;
}

export type AuthorizeAnswer = "allow" | "deny" | "ignore" | "unavailable";

export type SubscriptionsAnswer = readonly GrantedSubscription[] | "unavailable";

/** From good to bad. */
export const BACKEND_STATES = ["up", "degraded", "down"] as const;

export interface BackendHealth {
  readonly state: (typeof BACKEND_STATES)[number];
  /** Why it is not up; for people, without secrets. */
  readonly detail?: string | undefined;
  /** Numbers worth showing, such as users or requests. */
  readonly counts: Readonly<Record<string, number>>;
}

export interface Backend {
  /** As configured, or its type. */
  readonly name: string;
  /** Enhanced authentication methods it speaks. An attempt with a method goes only to backends that list it. */
  readonly methods?: readonly string[];
  /** Its grants may carry rules or an expiry: the chain then has to know its clients, and nothing is open. */
  readonly mayGrant?: boolean;
  authenticate?(attempt: Attempt, answer: (answer: AuthenticateAnswer) => void): void;
  /** Asked once, when the client has been let in and there is an authorization to skip. Cannot tell: false. */
  isSuperuser?(client: ClientInfo, answer: (isSuperuser: boolean) => void): void;
  /** Asked once, when the client has been let in: what it is subscribed to without having to ask. */
  subscriptions?(client: ClientInfo, answer: (answer: SubscriptionsAnswer) => void): void;
  authorize?(question: Question, answer: (answer: AuthorizeAnswer) => void): void;
  /** Reads the files and secrets that `start` will need, and opens nothing; rejects as `start` does. It is not started then. */
  check?(): Promise<void>;
  /** Opens files, tables, pools. Rejects with a MantouError when it can never work; a server that is down is no reason. */
  start?(): Promise<void>;
  /** Gives everything back. What is still asked is answered "unavailable", at once or within its deadline. */
  stop?(): Promise<void>;
  health?(): BackendHealth;
  /** Another process has written into `access.db`. */
  handleDbChange?(): void;
}

/** Which live clients: all the conditions given must hold. */
export interface ClientMatch {
  readonly clientId?: string | undefined;
  readonly username?: string | undefined;
  /** Of whom `holds` is true. */
  readonly holds?: ((client: ClientInfo) => boolean) | undefined;
}

/** What a backend is made with. */
export interface BackendParts {
  readonly name: string;
  /** Paths of the configuration are relative to this directory. */
  readonly baseDir: string;
  /** Wall clock in seconds. */
  readonly nowSec: () => number;
  readonly log: BackendLog;
  readonly passwords: PasswordChecker;
  /** The broker's own table of users, bans and so on; opened at the first call. */
  readonly accessDb: () => AccessDb;
  /** What has been decided may be wrong from now on: every decision is asked for anew. */
  readonly invalidate: () => void;
  /** These clients lose their right to be here: their connections are ended with Not authorized. */
  readonly revoke: (match: ClientMatch) => void;
}

/** Written rate-limited. No secrets, no passwords, no tokens. */
export interface BackendLog {
  info(message: string, fields?: Record<string, unknown>): void;
  warn(message: string, fields?: Record<string, unknown>): void;
}

/** A kind of backend: one line of `backend-table.ts`. */
export interface BackendKind<S extends z.ZodObject = z.ZodObject> {
  readonly type: string;
  /** In which lists it may stand. */
  readonly roles: readonly ("authenticate" | "authorize")[];
  /** Its options, without those that every backend has (type, name, whenUnavailable). */
  readonly options: S;
  make(options: z.output<S>, parts: BackendParts): Backend;
}

/** Lets the options be inferred. */
export function backendKind<const S extends z.ZodObject>(kind: BackendKind<S>): BackendKind<S> {
  return kind;
}

export const IGNORE: AuthenticateAnswer = { verdict: "ignore" };
export const UNAVAILABLE: AuthenticateAnswer = { verdict: "unavailable" };
export const DENY_CREDENTIALS: AuthenticateAnswer = { verdict: "deny" };
