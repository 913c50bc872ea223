/**
 * Users and rules in an SQL database: PostgreSQL, MySQL and MariaDB, SQLite. Three queries, each optional:
 *
 *   authQuery    SELECT username, password, salt FROM mqtt_user WHERE username = '%u'      no row: ignored
 *   superQuery   SELECT username, is_superuser FROM mqtt_user WHERE username = '%u'
 *   aclQuery     SELECT allow, ipaddr, username, clientid, access, topic FROM mqtt_acl WHERE …   first row that matches decides
 *   subscribeQuery   SELECT topic, qos FROM mqtt_subs WHERE username = '%u'                    subscribed to as the client comes in
 *
 * Variables become bound parameters, also where they stand in quotation marks as emqttd had them. Columns are found by name.
 * Where a query returns `username` or `clientid` of a user, they must equal the client's to the letter: a database that
 * finds `alice` for `ALICE ` then lets nobody pass for another.
 *
 * A question that the server refuses because of the client's own words (a character it cannot hold) is denied, and does
 * not count against the server. Costs one query a question that the guard has not kept.
 */
import type { SQL } from "bun";
import { z } from "zod";
import { type Backend, type BackendParts, backendKind } from "#access/backend.ts";
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
import { guardOptions, passwordScheme, text } from "#access/option.ts";
import { RemoteGuard } from "#access/remote-guard.ts";
import { parseSubscriptions, type SubscriptionList } from "#access/subscription-list.ts";
import { bindTemplate, type BoundText, valuesOf, type VariableName } from "#access/template.ts";
import { MantouError } from "#base/error.ts";
import type { ClientInfo } from "#core/ports.ts";
import { connectionOptions, pathOf, serverOptions, type ServerPlace } from "./sql-server.ts";
import { SqlPool, type SqlRow, type SqlValue, WordsRefused } from "./sql-pool.ts";

const queryOptions = {
  authQuery: text("finds a user's `password`, and `salt` if there is one").optional(),
  superQuery: text("finds `is_superuser`").optional(),
  aclQuery: text("finds rules: `allow`, `ipaddr`, `username`, `clientid`, `access`, `topic`").optional(),
  subscribeQuery: text("finds what a client is subscribed to as it comes in: `topic`, `qos`").optional(),
  password: passwordScheme(),
  guard: guardOptions(),
};

const queryOptionsSchema = z.strictObject(queryOptions);
type QueryOptions = z.output<typeof queryOptionsSchema>;

const READER = "whom the broker is to the server: a user who may only read";

const ROLES = ["authenticate", "authorize"] as const;

export const postgresql = backendKind({
  type: "postgresql",
  roles: ROLES,
  options: z.strictObject({ server: serverOptions(5432, READER), ...queryOptions }),
  make: ({ server, ...options }, parts) =>
    makeBackend(options, parts, {
      connection: () => connectionOptions("postgres", server, placeOf(parts)),
      place: `${server.host}:${server.port}`,
      placeholder: (number) => `$${number}`,
    }),
});

export const mysql = backendKind({
  type: "mysql",
  roles: ROLES,
  options: z.strictObject({ server: serverOptions(3306, READER), ...queryOptions }),
  make: ({ server, ...options }, parts) =>
    makeBackend(options, parts, {
      connection: () => connectionOptions("mysql", server, placeOf(parts)),
      place: `${server.host}:${server.port}`,
      placeholder: () => "?",
    }),
});

export const sqlite = backendKind({
  type: "sqlite",
  roles: ROLES,
  options: z.strictObject({ file: text("path of the database; it is only read"), ...queryOptions }),
  make: ({ file, ...options }, parts) =>
    makeBackend(options, parts, {
      connection: () => ({ adapter: "sqlite", filename: pathOf(file, parts), readonly: true, create: false }),
      place: file,
      placeholder: () => "?",
    }),
});

function placeOf({ name, baseDir }: BackendParts): ServerPlace {
  return { label: `access: ${name}`, baseDir };
}

interface Dialect {
  /** Throws MantouError when a secret or file is missing. */
  readonly connection: () => SQL.Options;
  readonly place: string;
  readonly placeholder: (number: number) => string;
}

const ABOUT_A_TOPIC: readonly VariableName[] = ["topic", "action", "access"];

function makeBackend(options: QueryOptions, parts: BackendParts, dialect: Dialect): Backend {
  const { name, log } = parts;
  const guard = new RemoteGuard(options.guard);
  let pool: SqlPool | undefined;
  const fault = (what: string): void => log.warn("what a query has found cannot be used", { what });

  /** Undefined where the client has nothing that the query asks about. */
  const askerOf = (bound: BoundText): Fetch<readonly SqlRow[]> => {
    return (values, done) => {
      const list = bound.variables.map((variable): SqlValue => values[variable] ?? null);
      if (list.length > 0 && list.every((value) => value === null))
        return done({ isAnswered: true, value: [], isStale: false });
      // No database agrees with another about these.
      if (list.some((value) => value !== null && (value.includes("\0") || !value.isWellFormed())))
        return done({ isAnswered: true, value: "refused", isStale: false });
      const call = (signal: AbortSignal) => find(pool!, bound.text, list, signal);
      guard.ask(JSON.stringify([bound.text, ...list]), call, done, values.address);
    };
  };

  const queries = boundQueries(options, name, dialect);
  const { auth, superuser, acl, subscribe } = queries;
  const database = {
    get counts() {
      return pool?.counts ?? {};
    },
    check: () => void dialect.connection(),
    start: () => void (pool = new SqlPool(dialect.connection(), dialect.place)),
    stop: () => pool?.stop(),
    async tryOut(signal: AbortSignal) {
      for (const { text: sql, variables } of Object.values(queries).filter((bound) => bound !== undefined)) {
        const nothing = variables.map(() => null);
        await find(pool!, sql, nothing, signal);
      }
    },
  };
  return {
    name,
    ...lifeOf(guard, database, log),
    ...(auth && {
      authenticate: authenticateFetched(askerOf(auth), userOf, {
        passwords: parts.passwords,
        scheme: options.password,
        fault,
        query: "authQuery",
      }),
    }),
    ...(superuser && {
      isSuperuser: isSuperuserFetched(askerOf(superuser), (rows, client) =>
        rows.some((row) => isOf(row, client) && isTrue(row["is_superuser"])),
      ),
    }),
    ...(acl && {
      authorize: authorizeFetched(askerOf(acl), {
        valuesOf: ({ client, action, topic }) => {
          return { ...valuesOf(client), topic, action, access: action === "subscribe" ? "1" : "2" };
        },
        rulesOf: rulesOfRows,
        fault,
        query: "aclQuery",
      }),
    }),
    ...(subscribe && {
      subscriptions: subscriptionsFetched(askerOf(subscribe), listOf, { fault, query: "subscribeQuery" }),
    }),
  };
}

/** Throws MantouError `access_invalid`. */
function boundQueries(options: QueryOptions, name: string, dialect: Dialect): Record<Query, BoundText | undefined> {
  const boundOf = (key: QueryKey): BoundText | undefined =>
    options[key] === undefined ? undefined : bindQuery(options[key], key, name, dialect.placeholder);
  const bound = {
    auth: boundOf("authQuery"),
    superuser: boundOf("superQuery"),
    acl: boundOf("aclQuery"),
    subscribe: boundOf("subscribeQuery"),
  };
  if (Object.values(bound).every((one) => one === undefined))
    throw new MantouError(
      "access_invalid",
      `access: ${name}: found no query, allowed: authQuery, superQuery, aclQuery, subscribeQuery`,
    );
  return bound;
}

type Query = "auth" | "superuser" | "acl" | "subscribe";
type QueryKey = "authQuery" | "superQuery" | "aclQuery" | "subscribeQuery";

/** Throws MantouError `access_invalid`. */
function bindQuery(sql: string, key: string, name: string, placeholder: (number: number) => string): BoundText {
  const bound = bindTemplate(sql, placeholder);
  const refuse = (words: string): never => {
    throw new MantouError("access_invalid", `access: ${name}: ${key}: ${words}`);
  };
  if ("fault" in bound) return refuse(bound.fault);
  // It would be compared in the open, and with a plain text.
  if (bound.variables.includes("password")) return refuse("found the password, allowed: variables other than %P");
  const early = key === "aclQuery" ? undefined : bound.variables.find((variable) => ABOUT_A_TOPIC.includes(variable));
  if (early !== undefined) return refuse(`found \${${early}}, allowed: variables that are known at CONNECT`);
  return bound;
}

async function find(
  pool: SqlPool,
  sql: string,
  values: readonly SqlValue[],
  signal: AbortSignal,
): Promise<Fetched<readonly SqlRow[]>> {
  try {
    return await pool.query(sql, values, signal);
  } catch (error) {
    if (error instanceof WordsRefused) return "refused";
    throw error;
  }
}

function userOf(found: readonly SqlRow[], client: ClientInfo): StoredUser | Unusable | undefined {
  const rows = found.filter((row) => isOf(row, client));
  const [row] = rows;
  if (!row) return undefined;
  if (rows.length > 1) return { fault: "more than one row for a client" };
  if (!("password" in row || "password_hash" in row)) return { fault: "no column password" };
  return { hash: textOf(row["password"] ?? row["password_hash"]), salt: textOf(row["salt"]) };
}

function listOf(rows: readonly SqlRow[], client: ClientInfo): SubscriptionList | Unusable {
  return parseSubscriptions(rows.filter((row) => isOf(row, client)).map((row) => [row["topic"], row["qos"]]));
}

/** Where the row says whose it is, it says so to the letter. */
function isOf(row: SqlRow, { username, clientId }: ClientInfo): boolean {
  const isName = row["username"] === undefined || row["username"] === null || row["username"] === username;
  return isName && (row["clientid"] === undefined || row["clientid"] === null || row["clientid"] === clientId);
}

function textOf(value: unknown): string {
  return value === null || value === undefined ? "" : String(value as string | number);
}
