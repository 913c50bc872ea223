/**
 * Tokens (JWT, RFC 7519): verified by `jose`, then turned into a grant. Shared by everything that finds a token in a
 * password or a cookie.
 *
 *   secret (HS…)  or  public key (PEM)  or  key set (JWKS by URL, read again every `refreshSec` and for an unknown key id)
 *
 *   claims   exp → the client is disconnected then        acl → its own rules, judged first
 *            usernameClaim → user name                     superuserClaim: true → super user
 *
 *   subscribe: { "b/%u/#": 1 }   filters and QoS, where `subscribeClaim` names the claim: subscribed to as the client comes in
 *   acl: { "pub": ["a/%c"], "sub": ["b/#"], "all": ["c"] }   allows these, and the rest is refused
 *   acl: [ { "permission": "deny", "action": "publish", "topic": "x/#" }, … ]   the first match decides
 *
 * `none` is no algorithm here, and a key is only used with algorithms of its own kind. Tokens are at most
 * `TOKEN_BYTES_MAX` long; verifications under way are bounded by their number, and those that wait for new keys by half of it: tokens
 * from elsewhere do not shut out others while the issuer hangs.
 */
import { createPublicKey } from "node:crypto";
import { createLocalJWKSet, errors, type JWTPayload, type JWTVerifyGetKey, jwtVerify } from "jose";
import { MantouError } from "#base/error.ts";
import { type AclRule, EVERYBODY } from "./acl-rule.ts";
import type { BackendHealth, BackendLog, Grant } from "./backend.ts";
import { type GuardOptions, RemoteGuard } from "./remote-guard.ts";
import { readReply } from "./reply-text.ts";
import { parseJsonSubscriptions } from "./subscription-list.ts";
import { parsePattern, type TopicPattern } from "./topic-pattern.ts";

const TOKEN_BYTES_MAX = 16 * 1024;
const KEY_SET_BYTES_MAX = 1024 * 1024;
const RUNNING_MAX = 1000;
const WAITING_MAX = RUNNING_MAX / 2;
/** An unknown key id may mean new keys; more often it means a token from elsewhere. */
const UNKNOWN_KEY_REFRESH_MS_MIN = 10_000;
const CLOCK_TOLERANCE_SEC = 5;

export const HMAC_ALGORITHMS = ["HS256", "HS384", "HS512"] as const;
export const KEY_ALGORITHMS = [
  "RS256",
  "RS384",
  "RS512",
  "PS256",
  "PS384",
  "PS512",
  "ES256",
  "ES384",
  "ES512",
  "EdDSA",
] as const;
export type Algorithm = (typeof HMAC_ALGORITHMS)[number] | (typeof KEY_ALGORITHMS)[number];

export type KeySource =
  | { readonly kind: "secret"; readonly secret: Uint8Array }
  | { readonly kind: "public"; readonly pem: string }
  | {
      readonly kind: "jwks";
      readonly url: string;
      /** PEM: who may have signed the issuer's certificate; undefined: whom the system trusts. */
      readonly ca?: string | undefined;
      readonly refreshSec: number;
      readonly guard: GuardOptions;
    };

export interface JwtOptions {
  readonly algorithms: readonly Algorithm[];
  readonly key: KeySource;
  readonly issuer?: string | undefined;
  readonly audience?: string | undefined;
  readonly isExpiryRequired: boolean;
  readonly usernameClaim?: string | undefined;
  readonly superuserClaim?: string | undefined;
  readonly aclClaim: string;
  readonly subscribeClaim?: string | undefined;
  /** Time between two refreshes for unknown key ids; for tests. */
  readonly refreshMsMin?: number;
  readonly nowSec: () => number;
}

export type JwtResult =
  | { readonly kind: "granted"; readonly grant: Grant; readonly claims: JWTPayload }
  /** `reason` is for the client; it says nothing that the token does not. */
  | { readonly kind: "refused"; readonly reason: string }
  | { readonly kind: "busy" | "unavailable" };

export class JwtVerifier {
  readonly counts = { verified: 0, refused: 0, busy: 0 };
  private key: Parameters<typeof jwtVerify>[1] | JWTVerifyGetKey | undefined;
  private running = 0;
  private waiting = 0;
  private readonly guard: RemoteGuard | undefined;
  private refreshedMs = -Infinity;
  private refreshing: Promise<void> | undefined;
  private timer: ReturnType<typeof setInterval> | undefined;

  constructor(
    private readonly options: JwtOptions,
    private readonly log: BackendLog,
  ) {
    if (options.key.kind === "jwks") this.guard = new RemoteGuard(options.key.guard);
  }

  /** Throws MantouError `access_invalid` for a key that is none. */
  load(): void {
    const { key } = this.options;
    if (key.kind === "secret") this.key = key.secret;
    if (key.kind !== "public") return;
    try {
      this.key = createPublicKey(key.pem);
    } catch {
      const allowed = "PEM that begins with -----BEGIN PUBLIC KEY----- or -----BEGIN CERTIFICATE-----";
      throw new MantouError("access_invalid", `publicKeyFile: found no public key, allowed: ${allowed}`);
    }
  }

  /** Rejects as `load`; a key set that cannot be fetched is tried again. */
  async start(): Promise<void> {
    const { key } = this.options;
    this.load();
    if (key.kind !== "jwks") return;
    await this.refresh();
    this.timer = setInterval(() => void this.refresh(), key.refreshSec * 1000);
    this.timer.unref();
  }

  stop(): void {
    clearInterval(this.timer);
    this.guard?.stop();
  }

  health(): BackendHealth {
    const keys = this.guard?.health();
    const isMissing = this.key === undefined;
    return {
      state: isMissing ? "down" : keys && keys.state !== "up" ? "degraded" : "up",
      detail: keys?.detail ?? (isMissing ? "no key set has been read yet" : undefined),
      counts: this.counts,
    };
  }

  /** Calls `done` once, later. */
  verify(token: string, done: (result: JwtResult) => void): void {
    if (token.length > TOKEN_BYTES_MAX) return this.refuse("the token is too long", done);
    if (this.key === undefined) {
      void this.refresh();
      return done({ kind: "unavailable" });
    }
    if (this.running >= RUNNING_MAX) {
      this.counts.busy++;
      return done({ kind: "busy" });
    }
    this.running++;
    this.check(token, true).then(
      (result) => {
        this.running--;
        if (result.kind === "granted") this.counts.verified++;
        else if (result.kind === "refused") this.counts.refused++;
        done(result);
      },
      () => {
        this.running--;
        this.refuse("the token is not valid", done);
      },
    );
  }

  private async check(token: string, mayRefresh: boolean): Promise<JwtResult> {
    const { algorithms, issuer, audience, isExpiryRequired, nowSec } = this.options;
    try {
      const { payload } = await jwtVerify(token, this.key as JWTVerifyGetKey, {
        algorithms: [...algorithms],
        clockTolerance: CLOCK_TOLERANCE_SEC,
        currentDate: new Date(nowSec() * 1000),
        ...(issuer === undefined ? {} : { issuer }),
        ...(audience === undefined ? {} : { audience }),
        ...(isExpiryRequired ? { requiredClaims: ["exp"] } : {}),
      });
      return this.grantOf(payload);
    } catch (error) {
      if (error instanceof errors.JWKSNoMatchingKey && mayRefresh && (await this.newKeys()))
        return this.check(token, false);
      const isExpired = error instanceof errors.JWTExpired;
      return { kind: "refused", reason: isExpired ? "the token has expired" : "the token is not valid" };
    }
  }

  private grantOf(claims: JWTPayload): JwtResult {
    const { usernameClaim, superuserClaim, aclClaim, subscribeClaim } = this.options;
    const username = usernameClaim === undefined ? undefined : claims[usernameClaim];
    if (usernameClaim !== undefined && (typeof username !== "string" || username === ""))
      return { kind: "refused", reason: `the token has no claim ${usernameClaim}` };
    const acl = claims[aclClaim];
    const rules = acl === undefined ? undefined : rulesOfClaim(acl);
    // Rules that cannot be understood may have been a refusal.
    if (rules === "invalid") return { kind: "refused", reason: `the token's claim ${aclClaim} is not valid` };
    const wanted = subscribeClaim === undefined ? undefined : claims[subscribeClaim];
    const subscriptions = wanted === undefined ? undefined : parseJsonSubscriptions(wanted);
    if (subscriptions && "fault" in subscriptions)
      return { kind: "refused", reason: `the token's claim ${subscribeClaim} is not valid` };
    const grant: Grant = {
      username: username as string | undefined,
      isSuperuser: superuserClaim !== undefined && claims[superuserClaim] === true,
      rules,
      subscriptions,
      expiresAtSec: claims.exp === undefined ? undefined : Math.floor(claims.exp),
    };
    return { kind: "granted", grant, claims };
  }

  private refuse(reason: string, done: (result: JwtResult) => void): void {
    this.counts.refused++;
    done({ kind: "refused", reason });
  }

  /** Waits for a key set that was asked for since the token came, with all who wait for it; false when it is too soon for one. */
  private async newKeys(): Promise<boolean> {
    const agoMs = performance.now() - this.refreshedMs;
    const isTooSoon = !this.refreshing && agoMs <= (this.options.refreshMsMin ?? UNKNOWN_KEY_REFRESH_MS_MIN);
    if (isTooSoon || this.waiting >= WAITING_MAX) return false;
    this.waiting++;
    await this.refresh();
    this.waiting--;
    return true;
  }

  /** Of all who ask for it at the same time one asks the issuer. */
  private refresh(): Promise<void> {
    this.refreshing ??= new Promise<void>((resolve) => this.fetchKeys(resolve)).finally(
      () => (this.refreshing = undefined),
    );
    return this.refreshing;
  }

  private fetchKeys(done: () => void): void {
    const { key } = this.options;
    if (key.kind !== "jwks") return done();
    this.refreshedMs = performance.now();
    this.guard!.ask(
      undefined, // a key set that was kept would be none
      (signal) => fetchKeySet(key, signal),
      (result) => {
        // The old keys stay in use while the new ones cannot be had.
        if (result.isAnswered) this.key = result.value;
        else this.log.warn("a key set could not be read", { url: withoutSecrets(key.url), why: result.why });
        done();
      },
    );
  }
}

async function fetchKeySet(
  { url, ca }: KeySource & { readonly kind: "jwks" },
  signal: AbortSignal,
): Promise<JWTVerifyGetKey> {
  const headers = { accept: "application/json" };
  const response = await fetch(url, { signal, redirect: "error", headers, ...(ca !== undefined && { tls: { ca } }) });
  if (!response.ok) {
    await response.body?.cancel();
    throw new Error(`HTTP ${response.status}`);
  }
  return createLocalJWKSet(JSON.parse(await readReply(response, KEY_SET_BYTES_MAX)));
}

function withoutSecrets(url: string): string {
  return url.replace(/\/\/[^/@]*@/, "//").replace(/\?.*$/s, "");
}

/** The rules of an `acl` claim; see the head of the file. */
export function rulesOfClaim(claim: unknown): AclRule[] | "invalid" {
  if (typeof claim !== "object" || claim === null) return "invalid";
  if (Array.isArray(claim)) {
    const rules = claim.map(ruleOfItem);
    return rules.includes(undefined) ? "invalid" : (rules as AclRule[]);
  }
  const rules: AclRule[] = [];
  for (const [key, topics] of Object.entries(claim)) {
    const action = CLAIM_ACTIONS[key];
    if (action === undefined || !Array.isArray(topics)) return "invalid";
    const patterns = topics.map(patternOf);
    if (patterns.includes(undefined)) return "invalid";
    rules.push({ effect: "allow", who: EVERYBODY, action, topics: patterns as TopicPattern[] });
  }
  rules.push({ effect: "deny", who: EVERYBODY, action: "all", topics: undefined });
  return rules;
}

const CLAIM_ACTIONS: Readonly<Record<string, AclRule["action"]>> = {
  pub: "publish",
  publish: "publish",
  sub: "subscribe",
  subscribe: "subscribe",
  all: "all",
};

function ruleOfItem(item: unknown): AclRule | undefined {
  if (typeof item !== "object" || item === null) return undefined;
  const { permission, action, topic } = item as Record<string, unknown>;
  const known = typeof action === "string" ? CLAIM_ACTIONS[action] : undefined;
  const pattern = patternOf(topic);
  if ((permission !== "allow" && permission !== "deny") || known === undefined || !pattern) return undefined;
  return { effect: permission, who: EVERYBODY, action: known, topics: [pattern] };
}

function patternOf(text: unknown): TopicPattern | undefined {
  if (typeof text !== "string") return undefined;
  return text.startsWith("eq ") ? parsePattern(text.slice(3), true) : parsePattern(text);
}
