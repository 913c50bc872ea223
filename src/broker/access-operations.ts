/** Operations on who may come in: bans, the built-in table of users and client ids, and how the backends fare. */
import { z } from "zod";
import { BACKEND_STATES } from "#access/backend.ts";
import { RULE_COUNT_MAX } from "#access/rule-list.ts";
import { MantouError } from "#base/error.ts";
import { done, nothing, notFound, operation, pageFrom, pageOf, pageParams, clientIdParam } from "./operation.ts";

const text = z.string().min(1).max(65_535);
const banKind = z.enum(["clientId", "username", "address"]);
const ban = z.object({
  kind: banKind,
  value: text.meta({ description: "client id, user name, address or range of addresses" }),
  untilSec: z.int().optional().meta({ description: "wall clock; absent: for good" }),
  reason: z.string().max(1000).default(""),
});
const user = z.object({ username: text, isSuperuser: z.boolean() });
const client = z.object({
  clientId: z.string(),
  ranges: z.array(z.string()).meta({ description: "addresses it may come from; none: from anywhere" }),
});
const password = z.string().min(1).max(1024);
const nameCursor = {
  limit: pageParams.limit,
  cursor: z.string().optional().meta({ description: "the last name of the answer before" }),
};
const action = z.enum(["publish", "subscribe", "all"]);
const some = z.union([text, z.array(text).min(1).max(100)]);
const ruleKeys = "allow, deny, user, client, address, topics";
const rule = z
  .strictObject(
    {
      allow: action.optional().meta({ description: "either allow or deny" }),
      deny: action.optional(),
      user: some.optional().meta({ description: "user name, or one of several; * is any" }),
      client: some.optional().meta({ description: "client id, or one of several" }),
      address: some.optional().meta({ description: "address or range, or one of several" }),
      topics: z
        .array(z.union([text, z.strictObject({ eq: text })]))
        .min(1)
        .max(100)
        .optional()
        .meta({ description: "topic filters, with %c and %u; { eq } is the filter itself; absent: every topic" }),
    },
    {
      error: ({ code, keys }) =>
        code === "unrecognized_keys" ? `found ${(keys as string[]).join(", ")}, allowed: ${ruleKeys}` : undefined,
    },
  )
  .meta({ description: "as in docs/access/acl-file.md" });
const revision = z.int().min(0);
const backend = z.object({
  name: z.string(),
  type: z.string(),
  state: z.enum(BACKEND_STATES).optional().meta({ description: "absent: it cannot fail" }),
  detail: z.string().optional(),
  counts: z.record(z.string(), z.number()),
});

export const accessOperations = {
  "bans.list": operation({
    about: "who is kept out",
    spread: "one",
    params: z.object(pageParams),
    result: pageOf(ban),
    run: ({ access }, page) => pageFrom(access.bans.all(), page),
  }),
  "bans.put": operation({
    about: "keeps a client id, user name or address out, and ends the connections of those it concerns",
    spread: "one",
    params: ban,
    result: done,
    run({ access, engine: { nowSec } }, { untilSec, ...wish }) {
      if (untilSec !== undefined && untilSec <= nowSec)
        throw new MantouError("ban_invalid", `untilSec: found ${untilSec}, allowed: a time to come, after ${nowSec}`);
      access.ban({ ...wish, untilSec });
      return { count: 1 };
    },
  }),
  "bans.delete": operation({
    about: "lifts a ban",
    spread: "one",
    params: z.object({ kind: banKind, value: text }),
    result: done,
    run({ access }, { kind, value }) {
      if (!access.bans.remove(kind, value)) throw notFound("ban", `${kind} ${value}`);
      return { count: 1 };
    },
  }),
  "users.list": operation({
    about: "users of the built-in table, by name",
    spread: "one",
    params: z.object(nameCursor),
    result: pageOf(user),
    run({ access }, { limit, cursor }) {
      const items = access.users.list(cursor, limit);
      return items.length === limit ? { items, cursor: items.at(-1)!.username } : { items };
    },
  }),
  "users.show": operation({
    about: "one user of the built-in table",
    spread: "one",
    params: z.object({ username: text }),
    result: user,
    run({ access }, { username }) {
      const found = access.users.find(username);
      if (!found) throw notFound("username", username);
      return found;
    },
  }),
  "users.put": operation({
    about: "adds a user or gives him another password",
    spread: "one",
    params: z.object({ username: text, password, isSuperuser: z.boolean().default(false) }),
    result: done,
    async run({ access }, wish) {
      await access.users.put(wish.username, Buffer.from(wish.password), wish.isSuperuser);
      return { count: 1 };
    },
  }),
  "users.setSuperuser": operation({
    about: "makes a user a super user, who is asked nothing more, or no longer",
    spread: "one",
    params: z.object({ username: text, isSuperuser: z.boolean() }),
    result: done,
    run({ access }, { username, isSuperuser }) {
      if (!access.users.setSuperuser(username, isSuperuser)) throw notFound("username", username);
      return { count: 1 };
    },
  }),
  "users.delete": operation({
    about: "takes a user away; his clients are disconnected",
    spread: "one",
    params: z.object({ username: text }),
    result: done,
    run({ access }, { username }) {
      if (!access.users.delete(username)) throw notFound("username", username);
      return { count: 1 };
    },
  }),
  "clientIds.list": operation({
    about: "client ids of the built-in table, by name",
    spread: "one",
    params: z.object(nameCursor),
    result: pageOf(client),
    run({ access }, { limit, cursor }) {
      const rows = access.users.listClients(cursor, limit);
      const items = rows.map(({ clientId, ranges }) => ({ clientId, ranges: ranges.split(" ").filter(Boolean) }));
      return items.length === limit ? { items, cursor: items.at(-1)!.clientId } : { items };
    },
  }),
  "clientIds.put": operation({
    about: "lets a client id in, with or without password, from anywhere or from some addresses",
    spread: "one",
    params: z.object({
      clientId: clientIdParam,
      password: password.optional(),
      ranges: z.array(text).max(100).default([]),
    }),
    result: done,
    async run({ access }, wish) {
      const secret = wish.password === undefined ? undefined : Buffer.from(wish.password);
      await access.users.putClient(wish.clientId, secret, wish.ranges);
      return { count: 1 };
    },
  }),
  "clientIds.delete": operation({
    about: "takes a client id away; its client is disconnected",
    spread: "one",
    params: z.object({ clientId: clientIdParam }),
    result: done,
    run({ access }, { clientId }) {
      if (!access.users.deleteClient(clientId)) throw notFound("clientId", clientId);
      return { count: 1 };
    },
  }),
  "rules.read": operation({
    about: "access rules of the built-in table, in the order in which they are asked",
    spread: "one",
    params: nothing,
    result: z.object({ revision, rules: z.array(rule) }),
    run: ({ access }) => {
      const { revision: present, rules } = access.rules.read();
      return { revision: present, rules: rules as z.output<typeof rule>[] };
    },
  }),
  "rules.put": operation({
    about: "replaces the access rules of the built-in table, all or none; subscriptions are judged again by them",
    spread: "one",
    params: z.object({
      rules: z.array(rule).max(RULE_COUNT_MAX),
      revision: revision
        .optional()
        .meta({ description: "the one that was read: refused when they have been changed since" }),
    }),
    result: z.object({ revision }),
    run: ({ access }, wish) => ({ revision: access.rules.replace(wish.rules, wish.revision) }),
  }),
  "access.show": operation({
    about: "how the access backends fare, and what was counted",
    spread: "each",
    params: nothing,
    result: z.object({ backends: z.array(backend), counts: z.record(z.string(), z.number()) }),
    merge: ([first, ...others]) => ({
      backends: first.backends.map((each) =>
        others
          // One worker may have refused a configuration that the others took.
          .flatMap(({ backends }) => backends.find(({ name }) => name === each.name) ?? [])
          .reduce((worst, other) => {
            const isWorse = rank(other.state) > rank(worst.state);
            return { ...(isWorse ? other : worst), counts: sumCounts(worst.counts, other.counts) };
          }, each),
      ),
      counts: others.reduce((sum, { counts }) => sumCounts(sum, counts), first.counts),
    }),
    run: ({ access }) => ({
      backends: access.health().map(({ name, type, health }) => ({
        name,
        type,
        state: health?.state,
        detail: health?.detail,
        counts: { ...health?.counts },
      })),
      counts: { ...access.counts() },
    }),
  }),
};

function rank(state: (typeof BACKEND_STATES)[number] | undefined): number {
  return state === undefined ? -1 : BACKEND_STATES.indexOf(state);
}

export function sumCounts(
  a: Readonly<Record<string, number>>,
  b: Readonly<Record<string, number>>,
): Record<string, number> {
  const sums = { ...a };
  for (const [name, count] of Object.entries(b)) sums[name] = (sums[name] ?? 0) + count;
  return sums;
}
