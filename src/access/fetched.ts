/**
 * What backends have in common whose users and rules lie in a server: they are fetched by query or command through a
 * `RemoteGuard`, which keeps them for a while, and judged here.
 *
 *   client ─► Fetch ─► "unknown": the client has not what is asked about ─► ignore
 *                   ├► "refused": its words go into no query             ─► deny
 *                   └► what was found ─► user: password checked here; rules: made once of each thing that is kept
 */
import type { ClientInfo } from "#core/ports.ts";
import { type AclRule, decideByRules, ruleOfRow } from "./acl-rule.ts";
import { answerOf, unanswered } from "./answer.ts";
import {
  type AuthenticateAnswer,
  type Backend,
  type BackendLog,
  DENY_CREDENTIALS,
  IGNORE,
  type Question,
  UNAVAILABLE,
} from "./backend.ts";
import type { PasswordChecker, PasswordScheme, StoredPassword } from "./password.ts";
import { type SubscriptionList, subscriptionsFor } from "./subscription-list.ts";
import type { Guarded, RemoteGuard } from "./remote-guard.ts";
import { type TemplateValues, valuesOf } from "./template.ts";

/** More than this is no client's list of rules but a query without its condition. */
const RULES_MAX = 10_000;

export type Fetched<T> = T | "unknown" | "refused";
export type Fetch<T> = (values: TemplateValues, done: (found: Guarded<Fetched<T>>) => void) => void;

export interface StoredUser {
  /** Empty: nobody has this password. */
  readonly hash: string;
  readonly salt: string;
  readonly isSuperuser?: boolean;
}

/** A fault: what was found cannot be used, for this reason. */
export interface Unusable {
  readonly fault: string;
}

export interface StoredPasswords {
  readonly passwords: PasswordChecker;
  readonly scheme: PasswordScheme;
  /** Tells what was found that cannot be used. */
  readonly fault: (what: string) => void;
  /** The query's name, for that. */
  readonly query: string;
}

/** `read` returns undefined where there is no such user. */
export function authenticateFetched<T>(
  fetch: Fetch<T>,
  read: (found: T, client: ClientInfo) => StoredUser | Unusable | undefined,
  { passwords, scheme, fault, query }: StoredPasswords,
): NonNullable<Backend["authenticate"]> {
  let decoy: StoredPassword | undefined;
  const ignore = (): AuthenticateAnswer => ({ verdict: "ignore", decoy });
  return ({ client, password }, answer) =>
    fetch(valuesOf(client), (found) => {
      if (!found.isAnswered) return answer(unanswered(found.why));
      if (found.value === "unknown") return answer(IGNORE);
      if (found.value === "refused") return answer(DENY_CREDENTIALS);
      const user = read(found.value as T, client);
      if (!user) return answer(ignore());
      if ("fault" in user) {
        fault(`${query}: ${user.fault}`);
        return answer(UNAVAILABLE);
      }
      const { hash, salt, isSuperuser } = user;
      if (password === undefined || password.length === 0 || hash === "") return answer(DENY_CREDENTIALS);
      const stored = { hash, salt, scheme };
      passwords.check(password, stored, (verdict) => {
        if (verdict !== "malformed") decoy = stored;
        if (verdict === "malformed") fault(`${query}: a password that is not stored as \`password\` says`);
        answer(answerOf(verdict, { isSuperuser }));
      });
    });
}

export function isSuperuserFetched<T>(
  fetch: Fetch<T>,
  judge: (found: T, client: ClientInfo) => boolean,
): NonNullable<Backend["isSuperuser"]> {
  return (client, answer) =>
    fetch(valuesOf(client), (found) => {
      const isFound = found.isAnswered && found.value !== "unknown" && found.value !== "refused";
      answer(isFound && judge(found.value as T, client));
    });
}

interface FetchedRules<T> {
  /** Where the query may ask about more than the client. */
  readonly valuesOf?: (question: Question) => TemplateValues;
  readonly rulesOf: (found: T) => readonly AclRule[] | Unusable;
  readonly fault: (what: string) => void;
  readonly query: string;
}

export function authorizeFetched<T extends object>(
  fetch: Fetch<T>,
  { valuesOf: values = ({ client }) => valuesOf(client), rulesOf, fault, query }: FetchedRules<T>,
): NonNullable<Backend["authorize"]> {
  /** Rules of what the guard has kept. */
  const known = new WeakMap<object, readonly AclRule[] | Unusable>();
  return (question, answer) =>
    fetch(values(question), (found) => {
      if (!found.isAnswered) return answer("unavailable");
      const { value } = found;
      if (typeof value === "string") return answer(value === "unknown" ? "ignore" : "deny");
      let rules = known.get(value);
      if (!rules) known.set(value, (rules = rulesOf(value)));
      if ("fault" in rules) {
        fault(`${query}: ${rules.fault}`);
        return answer("unavailable");
      }
      answer(decideByRules(rules, question));
    });
}

export function subscriptionsFetched<T>(
  fetch: Fetch<T>,
  listOf: (found: T, client: ClientInfo) => SubscriptionList | Unusable,
  { fault, query }: Pick<StoredPasswords, "fault" | "query">,
): NonNullable<Backend["subscriptions"]> {
  return (client, answer) =>
    fetch(valuesOf(client), (found) => {
      if (!found.isAnswered) return answer("unavailable");
      if (found.value === "unknown" || found.value === "refused") return answer([]);
      const list = listOf(found.value as T, client);
      if ("fault" in list) {
        fault(`${query}: ${list.fault}`);
        return answer("unavailable");
      }
      answer(subscriptionsFor(list, client));
    });
}

/** Rules of rows; one that is no rule spoils all, since it may have been a deny. */
export function rulesOfRows(rows: readonly Parameters<typeof ruleOfRow>[0][]): readonly AclRule[] | Unusable {
  if (rows.length > RULES_MAX) return { fault: `more than ${RULES_MAX} rules for a client` };
  const rules: AclRule[] = [];
  for (const row of rows) {
    const rule = ruleOfRow(row);
    if ("fault" in rule) return rule;
    rules.push(rule);
  }
  return rules;
}

/** A boolean, a number, a bit, a text. */
export function isTrue(value: unknown): boolean {
  const text = value === null || value === undefined ? "" : String(value as string | number | boolean);
  return ["1", "true", "t", "yes"].includes(text.toLowerCase());
}

interface Server {
  readonly counts?: Readonly<Record<string, number>>;
  check(): void | Promise<void>;
  start(): void | Promise<void>;
  stop(): void | Promise<void>;
  /** Asks for something small. */
  tryOut(signal: AbortSignal): Promise<unknown>;
}

/** How often a server that is down is tried out, so that its health, and an alarm, tell when it is back also if nobody comes. */
const RETRY_MS = 5000;

/** A backend's life is its guard's and its server's. Nobody waits for the try: it tells of a server that is away before clients come. */
export function lifeOf(
  guard: RemoteGuard,
  server: Server,
  log: BackendLog,
  retryMs = RETRY_MS,
): Required<Pick<Backend, "check" | "start" | "stop" | "health">> {
  let timer: Timer | undefined;
  const tryOut = (done: (result: Guarded<unknown>) => void): void =>
    guard.ask(undefined, (signal) => server.tryOut(signal), done);
  const retry = (): void => {
    if (guard.health().state === "down") tryOut(() => {});
  };
  return {
    async check() {
      await server.check();
    },
    async start() {
      await server.start();
      tryOut((result) => {
        if (result.isAnswered || result.why === "stopped") return;
        log.warn("the server has not answered when it was tried out", { detail: guard.health().detail });
      });
      timer = setInterval(retry, retryMs);
      timer.unref();
    },
    async stop() {
      clearInterval(timer);
      guard.stop();
      await server.stop();
    },
    health() {
      const { counts, ...rest } = guard.health();
      return { ...rest, counts: { ...counts, ...server.counts } };
    },
  };
}

const utf8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

/** Undefined for bytes that are no text: replaced characters would make two passwords one. */
export function strictTextOf(bytes: Buffer): string | undefined {
  try {
    return utf8.decode(bytes);
  } catch {
    return undefined;
  }
}
