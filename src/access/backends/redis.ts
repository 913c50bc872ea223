/**
 * Users and rules in Redis, read by commands as emqttd's plugin had them, each optional:
 *
 *   authCommand    HGET mqtt_user:%u password              the stored password; also HMGET, HGETALL, GET
 *   superCommand   HGET mqtt_user:%u is_superuser          1 or true; also GET, SISMEMBER
 *   aclCommand     SMEMBERS mqtt_acl:%u                    `publish FILTER`, `subscribe FILTER`, `pubsub FILTER`
 *                  HGETALL mqtt_acl:%u                     filter → publish, subscribe, pubsub, or 1, 2, 3 as in tables
 *   subscribeCommand   HGETALL mqtt_subs:%u                filter → QoS: subscribed to as the client comes in
 *
 * A command is cut into words before the variables are put in, so a client's words stay inside theirs. Two variables in one
 * word are told apart by the text between them: a client whose words hold that text is refused, for `a:b` and `c` would
 * make the key of `a` and `b:c`.
 *
 * Rules allow; what no rule covers is left to the next backend. Costs one command a question that the guard has not kept.
 */
import { z } from "zod";
import type { AclRule } from "#access/acl-rule.ts";
import { type Backend, backendKind } from "#access/backend.ts";
import {
  authenticateFetched,
  authorizeFetched,
  type Fetch,
  type Fetched,
  isSuperuserFetched,
  isTrue,
  lifeOf,
  rulesOfRows,
  type StoredUser,
  subscriptionsFetched,
  type Unusable,
} from "#access/fetched.ts";
import { guardOptions, passwordScheme } from "#access/option.ts";
import { RemoteGuard } from "#access/remote-guard.ts";
import { parseSubscriptions } from "#access/subscription-list.ts";
import { isTemplate, parseTemplate, type Template, type TemplateValues, templateOf } from "#access/template.ts";
import { MantouError } from "#base/error.ts";
import { redisServerOptions, RedisServer, WrongType } from "./redis-server.ts";

/** By the option: which commands, and how many words follow the key. */
const COMMANDS = {
  authCommand: { GET: [0, 0], HGET: [1, 1], HMGET: [1, 10], HGETALL: [0, 0] },
  superCommand: { GET: [0, 0], HGET: [1, 1], SISMEMBER: [1, 1] },
  aclCommand: { SMEMBERS: [0, 0], HGETALL: [0, 0] },
  subscribeCommand: { HGETALL: [0, 0] },
} as const satisfies Record<string, Readonly<Record<string, readonly [number, number]>>>;

function command(key: keyof typeof COMMANDS, description: string) {
  const error = `${Object.keys(COMMANDS[key]).join(", ")}, a key and what follows it, with variables such as %u, %c, %a`;
  return z
    .string({ error })
    .refine((words) => isCommand(key, words), { error })
    .meta({ description })
    .optional();
}

function isCommand(key: keyof typeof COMMANDS, line: string): boolean {
  const [name, ...args] = line.trim().split(/\s+/);
  const counts: Readonly<Record<string, readonly [number, number]>> = COMMANDS[key];
  const allowed = Object.hasOwn(counts, name.toUpperCase()) ? counts[name.toUpperCase()] : undefined;
  if (!allowed || args.length - 1 < allowed[0] || args.length - 1 > allowed[1]) return false;
  return args.every((word) => isTemplate(parseTemplate(word)));
}

export const redis = backendKind({
  type: "redis",
  roles: ["authenticate", "authorize"],
  options: z.strictObject({
    server: redisServerOptions,
    authCommand: command("authCommand", "finds a user's stored password, and its salt"),
    superCommand: command("superCommand", "finds whether a user is a super user"),
    aclCommand: command("aclCommand", "finds a client's rules"),
    subscribeCommand: command("subscribeCommand", "finds what a client is subscribed to as it comes in"),
    password: passwordScheme(),
    guard: guardOptions(),
  }),
  make({ server: serverOptions, password: scheme, guard: limits, ...commands }, parts): Backend {
    const { authCommand, superCommand, aclCommand, subscribeCommand } = commands;
    const { name, log, passwords } = parts;
    const guard = new RemoteGuard(limits);
    const server = new RedisServer(serverOptions, limits.deadlineMs, {
      label: `access: ${parts.name}`,
      baseDir: parts.baseDir,
    });
    if (Object.values(commands).every((line) => line === undefined))
      throw invalid(name, `found no command, allowed: ${Object.keys(COMMANDS).join(", ")}`);
    const fault = (what: string): void => log.warn("what a command has found cannot be used", { what });
    const askerOf = (key: keyof typeof COMMANDS, line: string): Fetch<Found> =>
      asker(guard, server, commandOf(key, line, name), fault);
    return {
      name,
      ...lifeOf(guard, server, log),
      ...(authCommand !== undefined && {
        authenticate: authenticateFetched(askerOf("authCommand", authCommand), onReply(readerOf(authCommand, name)), {
          passwords,
          scheme,
          fault,
          query: "authCommand",
        }),
      }),
      ...(superCommand !== undefined && {
        isSuperuser: isSuperuserFetched(askerOf("superCommand", superCommand), onReply(isTrue)),
      }),
      ...(aclCommand !== undefined && {
        authorize: authorizeFetched(askerOf("aclCommand", aclCommand), {
          rulesOf: onReply((reply) => rulesOfReply(reply, /^\s*hgetall\s/i.test(aclCommand))),
          fault,
          query: "aclCommand",
        }),
      }),
      ...(subscribeCommand !== undefined && {
        subscriptions: subscriptionsFetched(
          askerOf("subscribeCommand", subscribeCommand),
          onReply((reply) => parseSubscriptions(pairsOf(reply))),
          { fault, query: "subscribeCommand" },
        ),
      }),
    };
  },
});

function invalid(name: string, words: string): MantouError {
  return new MantouError("access_invalid", `access: ${name}: ${words}`);
}

/** Throws MantouError `access_invalid`. */
function commandOf(key: string, line: string, name: string): readonly Template[] {
  const [verb, ...words] = line.trim().split(/\s+/);
  const templates = words.map(templateOf);
  for (const [index, template] of templates.entries())
    for (const [at, part] of template.entries()) {
      if (typeof part === "string") continue;
      if (["password", "topic", "action", "access"].includes(part.variable))
        throw invalid(
          name,
          `${key}: found \${${part.variable}}, allowed: variables that are known at CONNECT, but the password`,
        );
      if (typeof template[at + 1] === "object")
        throw invalid(
          name,
          `${key}: found two variables side by side in ${words[index]}, allowed: with a text between them`,
        );
    }
  return [[verb.toUpperCase()], ...templates];
}

/** `unknown`: the client has not what the command asks about. `refused`: its words go into no command. */
function compose(templates: readonly Template[], values: TemplateValues): readonly string[] | "unknown" | "refused" {
  const words: string[] = [];
  for (const template of templates) {
    let word = "";
    for (const [at, part] of template.entries()) {
      const value = typeof part === "string" ? part : values[part.variable];
      if (value === undefined || value === "") return "unknown";
      if (typeof part !== "string") {
        const between = at + 2 < template.length ? (template[at + 1] as string) : undefined;
        if (value.includes("\0") || !value.isWellFormed()) return "refused";
        if (between !== undefined && value.includes(between)) return "refused";
      }
      word += value;
    }
    words.push(word);
  }
  return words;
}

/** The reply in an object of its own, so that what is made of it can be kept with it. */
interface Found {
  readonly reply: unknown;
}

const onReply =
  <R>(read: (reply: unknown) => R) =>
  ({ reply }: Found): R =>
    read(reply);

function asker(
  guard: RemoteGuard,
  server: RedisServer,
  templates: readonly Template[],
  fault: (what: string) => void,
): Fetch<Found> {
  return (values, done) => {
    const words = compose(templates, values);
    if (typeof words === "string") return done({ isAnswered: true, value: words, isStale: false });
    const call = async (signal: AbortSignal): Promise<Fetched<Found>> => {
      try {
        return { reply: await server.ask(words, signal) };
      } catch (error) {
        if (!(error instanceof WrongType)) throw error;
        fault(`${words[0]}: a key with a value of another kind`);
        return "refused";
      }
    };
    guard.ask(JSON.stringify(words), call, done, values.address);
  };
}

/** What `authCommand` has found; undefined where there is no such user. */
type Reader = (reply: unknown) => StoredUser | undefined;

function readerOf(line: string, name: string): Reader {
  const [verb, , ...fields] = line.trim().split(/\s+/);
  const names = fields.map((field) => field.toLowerCase());
  switch (verb.toUpperCase()) {
    case "HMGET":
      if (!names.includes("password") && !names.includes("password_hash"))
        throw invalid(
          name,
          "authCommand: found no field password, allowed: password or password_hash, salt, is_superuser",
        );
      return (reply) => userOf(names.map((field, at) => [field, (reply as unknown[])[at]]));
    case "HGETALL":
      return (reply) => userOf(pairsOf(reply).map(([field, value]) => [field.toLowerCase(), value]));
    default:
      return (reply) => userOf([["password", reply]]);
  }
}

function userOf(fields: readonly (readonly [string, unknown])[]): StoredUser | undefined {
  const found = new Map(fields.filter(([, value]) => value !== null));
  if (found.size === 0) return undefined;
  const textOf = (field: string): string | undefined => found.get(field) as string | undefined;
  return {
    hash: textOf("password") ?? textOf("password_hash") ?? "",
    salt: textOf("salt") ?? "",
    isSuperuser: isTrue(found.get("is_superuser")),
  };
}

/** A hash comes as a list of fields and values in turn, or as an object. */
function pairsOf(reply: unknown): (readonly [field: string, value: unknown])[] {
  if (!Array.isArray(reply)) return Object.entries(reply as object);
  const words = reply as string[];
  return Array.from({ length: words.length / 2 }, (_, at) => [words[2 * at], words[2 * at + 1]]);
}

/** Members of a set, or a hash's filters and what may be done with them. */
function rulesOfReply(reply: unknown, isHash: boolean): readonly AclRule[] | Unusable {
  const rows = isHash
    ? pairsOf(reply).map(([topic, access]) => ({ topic, access }))
    : (reply as string[]).map((member) => /^(?<access>\S+)\s+(?<topic>.+)$/s.exec(member)?.groups ?? {});
  return rulesOfRows(rows.map(({ access, topic }) => ({ allow: 1, access, topic })));
}
