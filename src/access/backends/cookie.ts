/**
 * A browser's cookie, as it came with the WebSocket's upgrade request: whoever is logged in on the page is on the broker.
 *
 *   cookie: sid=abc  ─► origin right? ─► lookup: a token, or a session that a service or Redis knows ─► a grant with the user's name
 *
 * A browser sends its cookies also for a page of somebody else who opens a WebSocket to this broker. So the page's origin
 * must be the host that was asked, or one of `origins`. Programs that are no browsers send no origin and no cookie that
 * is not theirs.
 *
 * Clients without this cookie are ignored. A user name in CONNECT never stands where the cookie names nobody.
 */
import { z } from "zod";
import type { AuthenticateAnswer, Backend, BackendParts } from "#access/backend.ts";
import { backendKind, IGNORE } from "#access/backend.ts";
import { text } from "#access/option.ts";
import { NOT_AUTHORIZED } from "#access/reason.ts";
import { MantouError } from "#base/error.ts";
import type { ClientInfo } from "#core/ports.ts";
import { cookieHttp } from "./cookie-http.ts";
import { cookieJwt } from "./cookie-jwt.ts";
import type { CookieLookup } from "./cookie-lookup.ts";
import { cookieRedis } from "./cookie-redis.ts";

const COOKIE_BYTES_MAX = 16 * 1024;
const NAME = /^[!#$%&'*+.^_`|~0-9A-Za-z-]+$/;
const VALUE = /^[\x21\x23-\x2b\x2d-\x3a\x3c-\x5b\x5d-\x7e]+$/;
const NO_RIGHT: AuthenticateAnswer = { verdict: "deny", code: NOT_AUTHORIZED };
const originError = "origins, such as https://app.example or https://app.example:8443";

const origin = z.string({ error: originError }).refine(isOrigin, { error: originError });

export const cookie = backendKind({
  type: "cookie",
  roles: ["authenticate"],
  options: z.strictObject({
    cookie: text("the cookie's name").regex(NAME, { error: "a cookie's name" }),
    origins: z
      .array(origin, { error: `a list of ${originError}` })
      .default([])
      .meta({ description: "pages that may use the cookie, besides those of the host that was asked" }),
    jwt: cookieJwt.options.optional(),
    http: cookieHttp.options.optional(),
    redis: cookieRedis.options.optional(),
  }),
  make({ cookie: name, origins, jwt, http, redis }, parts): Backend {
    const lookups = [
      ...(jwt ? [cookieJwt.make(jwt, name, parts)] : []),
      ...(http ? [cookieHttp.make(http, name, parts)] : []),
      ...(redis ? [cookieRedis.make(redis, name, parts)] : []),
    ];
    return backendOf(theOnly(lookups, parts), { name, origins }, parts);
  },
});

function theOnly(lookups: readonly CookieLookup[], { name }: BackendParts): CookieLookup {
  if (lookups.length === 1) return lookups[0];
  throw new MantouError("access_invalid", `access: ${name}: found ${lookups.length} of jwt, http, redis, allowed: one`);
}

function backendOf(
  lookup: CookieLookup,
  { name, origins }: { readonly name: string; readonly origins: readonly string[] },
  parts: BackendParts,
): Backend {
  return {
    name: parts.name,
    mayGrant: true,
    check: () => lookup.check(),
    start: () => lookup.start(),
    stop: () => lookup.stop(),
    health: () => lookup.health(),
    authenticate({ client }, answer) {
      const headers = client.identity?.headers;
      const value = headers && cookieOf(headers["cookie"] ?? "", name);
      if (!headers || value === undefined) return answer(IGNORE);
      if (!isSameSite(headers, origins)) return answer(NO_RIGHT);
      if (value.length > COOKIE_BYTES_MAX || !VALUE.test(value)) return answer({ verdict: "deny" });
      lookup.find(value, client, (found) => answer(named(found, client)));
    },
  };
}

/** A name that only the client says is not the cookie's. */
function named(answer: AuthenticateAnswer, client: ClientInfo): AuthenticateAnswer {
  if (answer.verdict !== "allow" || client.username === undefined) return answer;
  return answer.grant?.username === undefined ? NO_RIGHT : answer;
}

/** The first of that name, which is the one with the longest path (RFC 6265 §5.4); undefined when there is none. */
function cookieOf(header: string, name: string): string | undefined {
  for (const pair of header.split(";")) {
    const equals = pair.indexOf("=");
    if (equals < 0 || pair.slice(0, equals).trim() !== name) continue;
    const value = pair.slice(equals + 1).trim();
    return value.length > 1 && value.startsWith('"') && value.endsWith('"') ? value.slice(1, -1) : value;
  }
  return undefined;
}

function isSameSite(headers: Readonly<Record<string, string>>, origins: readonly string[]): boolean {
  const { origin: from, host } = headers;
  if (from === undefined) return true;
  const page = from.toLowerCase();
  const isOwn = host !== undefined && [`https://${host.toLowerCase()}`, `http://${host.toLowerCase()}`].includes(page);
  return isOwn || origins.includes(page);
}

function isOrigin(words: string): boolean {
  return URL.canParse(words) && new URL(words).origin === words;
}
