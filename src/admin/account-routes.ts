/** Signing in and out, one's own password, accounts, API keys, the audit log. */
import { deleteCookie, getCookie, setCookie } from "hono/cookie";
import { z } from "zod";
import { MantouError } from "#base/error.ts";
import { operations } from "#broker/control.ts";
import type { Identity } from "./identity.ts";
import { isLocal, ROLES } from "./identity.ts";
import { addResource, type AdminParts, type App, type Asked, COOKIE, type Resource } from "./rest.ts";

const name = z.string().min(1).max(256);
const password = z.string().min(1).max(1024);
const role = z.enum(ROLES);
const done = z.object({ count: z.int() });
const nothing = z.object({});

const session = z.object({
  username: z.string(),
  role,
  way: z.enum(["session", "key", "socket"]),
  csrfToken: z.string().optional().meta({ description: "to be sent as X-CSRF-Token with what changes something" }),
  mustChangePassword: z.boolean().meta({ description: "it is still the well-known first password" }),
});

const account = z.object({ username: z.string(), role, isDefault: z.boolean() });
const key = z.object({
  id: z.string(),
  name: z.string(),
  role,
  createdBy: z.string(),
  createdAtSec: z.int(),
  expiresAtSec: z.int().optional(),
});
const auditEntry = z.object({
  seq: z.int(),
  atMs: z.int(),
  who: z.string(),
  way: z.string(),
  address: z.string(),
  action: z.string(),
  target: z.string(),
  outcome: z.int().meta({ description: "HTTP status" }),
});

/** Lets the types be inferred. */
function resource<P extends z.ZodType>(of: Resource<P>): Resource {
  return of as unknown as Resource;
}

/** A cluster's nodes: this one. */
function nodeRoutes({ control }: AdminParts): Resource[] {
  return [
    resource({
      method: "get",
      path: "/nodes",
      about: "the nodes of the cluster with their processes: this one",
      tag: "broker",
      role: "viewer",
      params: nothing,
      result: z.object({ items: z.array(operations["broker.info"].result) }),
      run: async () => ({ items: [await control("broker.info", {})] }),
    }),
  ];
}

export function addAccountRoutes(app: App, parts: AdminParts): void {
  for (const each of [...signInRoutes(parts), ...accountRoutes(parts), ...keyRoutes(parts), ...nodeRoutes(parts)])
    addResource(app, parts, each);
}

function signInRoutes({ accounts, sessionSec }: AdminParts): Resource[] {
  return [
    resource({
      method: "post",
      path: "/sign-in",
      about: "opens a session; its token comes in a cookie that no script can read",
      tag: "session",
      role: undefined,
      params: z.object({ username: name, password }),
      result: session,
      async run(wish, c) {
        const { peer } = c.env;
        const from = { address: peer.address, isLocal: isLocal(peer, c.req.raw.headers) };
        const { token, identity } = await accounts.signIn(wish.username, wish.password, from);
        setCookie(c, COOKIE, token, {
          httpOnly: true,
          sameSite: "Strict",
          secure: peer.isTls,
          path: "/",
          maxAge: sessionSec,
        });
        c.set("identity", identity);
        return sessionOf(identity);
      },
    }),
    resource({
      method: "get",
      path: "/session",
      about: "who I am",
      tag: "session",
      role: "viewer",
      params: nothing,
      result: session,
      run: (_, c) => sessionOf(c.var.identity!),
    }),
    resource({
      method: "post",
      path: "/sign-out",
      about: "ends the session",
      tag: "session",
      role: "viewer",
      params: nothing,
      result: done,
      run(_, c) {
        const token = getCookie(c, COOKIE);
        if (token !== undefined) accounts.signOut(token);
        deleteCookie(c, COOKIE, { path: "/" });
        return { count: 1 };
      },
    }),
    resource({
      method: "put",
      path: "/session/password",
      about: "changes one's own password; all of one's sessions end",
      tag: "session",
      role: "viewer",
      params: z.object({ oldPassword: password, password }),
      result: done,
      async run(wish, c) {
        const { name: username, way } = c.var.identity!;
        if (way !== "session") throw new MantouError("forbidden", "only who has signed in has a password");
        await accounts.changePassword(username, wish.oldPassword, wish.password, c.env.peer.address);
        return { count: 1 };
      },
    }),
  ];
}

function accountRoutes({ accounts, db }: AdminParts): Resource[] {
  const common = { tag: "admins", role: "administrator" } as const;
  return [
    resource({
      ...common,
      method: "get",
      path: "/admins",
      about: "accounts of those who operate the broker",
      params: nothing,
      result: z.object({ items: z.array(account) }),
      run: () => ({ items: accounts.list() }),
    }),
    resource({
      ...common,
      method: "put",
      path: "/admins/{username}",
      about: "adds an account, or changes its password, its role, or both; its sessions end",
      params: z.object({ username: name, password: password.optional(), role: role.optional() }),
      result: done,
      async run({ username, ...wish }) {
        await accounts.put(username, wish);
        return { count: 1 };
      },
    }),
    resource({
      ...common,
      method: "delete",
      path: "/admins/{username}",
      about: "takes an account away; an administrator must be left",
      params: z.object({ username: name }),
      result: done,
      run({ username }) {
        if (!accounts.delete(username))
          throw new MantouError("not_found", `username: found no ${JSON.stringify(username)}`);
        return { count: 1 };
      },
    }),
    resource({
      ...common,
      tag: "audit",
      method: "get",
      path: "/audit",
      about: "who did what, when, from where, with what outcome; the latest first",
      params: z.object({
        limit: z.coerce.number().int().min(1).max(1000).default(100),
        cursor: z
          .string()
          .regex(/^\d{1,15}$/)
          .optional(),
      }),
      result: z.object({ items: z.array(auditEntry), cursor: z.string().optional() }),
      run({ limit, cursor }) {
        const items = db().audit(limit, cursor === undefined ? undefined : Number(cursor));
        return { items, ...(items.length === limit && { cursor: String(items.at(-1)!.seq) }) };
      },
    }),
  ];
}

function keyRoutes({ accounts }: AdminParts): Resource[] {
  const common = { tag: "keys", role: "administrator" } as const;
  return [
    resource({
      ...common,
      method: "get",
      path: "/keys",
      about: "API keys, without their secrets",
      params: nothing,
      result: z.object({ items: z.array(key) }),
      run: () => ({ items: accounts.listKeys() }),
    }),
    resource({
      ...common,
      method: "post",
      path: "/keys",
      about: "makes an API key, which is shown this one time; a program sends it as Authorization: Bearer",
      params: z.object({ name, role: role.default("viewer"), expiresAtSec: z.int().min(0).optional() }),
      result: z.object({ id: z.string(), key: z.string() }),
      run: (wish, c: Asked) => accounts.addKey({ ...wish, createdBy: c.var.identity!.name }),
    }),
    resource({
      ...common,
      method: "delete",
      path: "/keys/{id}",
      about: "takes an API key away",
      params: z.object({ id: z.string().max(64) }),
      result: done,
      run({ id }) {
        if (!accounts.deleteKey(id)) throw new MantouError("not_found", `key: found no ${JSON.stringify(id)}`);
        return { count: 1 };
      },
    }),
  ];
}

function sessionOf({
  name: username,
  role: own,
  way,
  csrfToken,
  isDefault = false,
}: Identity): z.output<typeof session> {
  return { username, role: own, way, csrfToken, mustChangePassword: isDefault };
}
