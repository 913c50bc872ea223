/**
 * A cookie that names a session in Redis, where a web application keeps it.
 *
 *   hash    HGET prefix+value field        the field is the user name
 *   json    GET prefix+value               a JSON object; `field` may be a path such as `user.name`
 *   text    GET prefix+value               the value is the user name
 *
 * With `secret` the cookie is signed as Express does it, `s:ID.SIGNATURE` percent-encoded, and ID is looked up. A session
 * that is not there, or that has no user name, lets nobody in. Sessions without a signature are as secret as their names
 * are hard to guess.
 */
import { createHmac } from "node:crypto";
import { z } from "zod";
import { unanswered } from "#access/answer.ts";
import { type AuthenticateAnswer, DENY_CREDENTIALS } from "#access/backend.ts";
import { lifeOf } from "#access/fetched.ts";
import { choice, guardOptions, secret, text } from "#access/option.ts";
import { isEqualSecret } from "#access/password.ts";
import { RemoteGuard } from "#access/remote-guard.ts";
import { MantouError } from "#base/error.ts";
import { cookieLookup } from "./cookie-lookup.ts";
import { redisServerOptions, RedisServer, WrongType } from "./redis-server.ts";

export const cookieRedis = cookieLookup({
  options: z.strictObject({
    server: redisServerOptions,
    prefix: text("what stands before the cookie's value in the key, such as sess:"),
    kind: choice(["hash", "json", "text"], "what a session is").default("hash"),
    field: text("hash, json: where its user name is; json: also a path such as user.name").optional(),
    secret: secret("the cookie is signed with it, as Express does").optional(),
    guard: guardOptions(),
  }),
  make({ server: serverOptions, prefix, kind, field, secret: signing, guard: limits }, _cookie, parts) {
    if ((kind === "text") !== (field === undefined))
      throw new MantouError(
        "access_invalid",
        `access: ${parts.name}: redis: allowed: field with hash and json, and only there`,
      );
    const guard = new RemoteGuard(limits);
    const server = new RedisServer(serverOptions, limits.deadlineMs, {
      label: `access: ${parts.name}`,
      baseDir: parts.baseDir,
    });
    let key: string | undefined;
    const usernameOf = async (session: string, signal: AbortSignal): Promise<string | undefined> => {
      const words = kind === "hash" ? ["HGET", prefix + session, field!] : ["GET", prefix + session];
      try {
        const found = await server.ask(words, signal);
        if (typeof found !== "string") return undefined;
        return kind === "json" ? nameIn(found, field!.split(".")) : found;
      } catch (error) {
        if (error instanceof WrongType) return undefined;
        throw error;
      }
    };
    const life = lifeOf(guard, server, parts.log);
    return {
      ...life,
      async check() {
        signing?.reveal();
        await life.check();
      },
      async start() {
        key = signing?.reveal();
        await life.start();
      },
      find(value, client, answer) {
        const session = key === undefined ? value : signedPart(value, key);
        if (session === undefined) return answer(DENY_CREDENTIALS);
        guard.ask(
          guard.secretKey(session),
          (signal) => usernameOf(session, signal),
          (result) => {
            if (!result.isAnswered) return answer(unanswered(result.why));
            answer(admit(result.value));
          },
          client.address,
        );
      },
    };
  },
});

function admit(username: string | undefined): AuthenticateAnswer {
  if (username === undefined || username === "" || username.includes("\0")) return DENY_CREDENTIALS;
  return { verdict: "allow", grant: { username } };
}

function nameIn(words: string, path: readonly string[]): string | undefined {
  let value: unknown;
  try {
    value = JSON.parse(words);
  } catch {
    return undefined;
  }
  for (const key of path) {
    if (typeof value !== "object" || value === null || !Object.hasOwn(value, key)) return undefined;
    value = (value as Record<string, unknown>)[key];
  }
  return typeof value === "string" ? value : undefined;
}

/** What was signed; undefined when it was not. */
function signedPart(value: string, key: string): string | undefined {
  let words: string;
  try {
    words = decodeURIComponent(value);
  } catch {
    return undefined;
  }
  const dot = words.lastIndexOf(".");
  if (!words.startsWith("s:") || dot < 3) return undefined;
  const session = words.slice(2, dot);
  const signature = createHmac("sha256", key).update(session).digest("base64").replace(/=+$/, "");
  return isEqualSecret(Buffer.from(signature), Buffer.from(words.slice(dot + 1))) ? session : undefined;
}
