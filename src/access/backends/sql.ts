/**
 * Users and rules in an SQL database: PostgreSQL, MySQL and MariaDB, SQLite. Three queries, each optional:
 *
 *   authQuery    SELECT username, password, salt FROM mqtt_user WHERE username = '%u'      no row: ignored
 *   superQuery   SELECT username, is_superuser FROM mqtt_user WHERE username = '%u'
 *   aclQuery     SELECT allow, ipaddr, username, clientid, access, topic FROM mqtt_acl WHERE …   first row that matches decides
 *
 * Variables become bound parameters, also where they stand in quotation marks as emqttd had them. Columns are found by name.
 * Where a query returns `username` or `clientid` of a user, they must equal the client's to the letter: a database that
 * finds `alice` for `ALICE ` then lets nobody pass for another.
 *
 * A question that the server refuses because of the client's own words (a character it cannot hold) is denied, and does
 * not count against the server. Costs one query a question that the guard has not kept.
 */
import type { SQL } from "bun";
import { readFileSync } from "node:fs";
import { isAbsolute, join } from "node:path";
import { z } from "zod";
import { type AclRow, type AclRule, decideByRules, ruleOfRow } from "#access/acl-rule.ts";
import { answerOf, unanswered } from "#access/answer.ts";
import {
  type Backend,
  type BackendParts,
  backendKind,
  DENY_CREDENTIALS,
  IGNORE,
  UNAVAILABLE,
} from "#access/backend.ts";
import { choice, guardOptions, passwordScheme, secret, text, wholeNumber } from "#access/option.ts";
import { type Guarded, RemoteGuard } from "#access/remote-guard.ts";
import { bindTemplate, type BoundText, type TemplateValues, valuesOf, type VariableName } from "#access/template.ts";
import { MantouError } from "#base/error.ts";
import type { ClientInfo } from "#core/ports.ts";
import { SqlPool, type SqlRow, type SqlValue, WordsRefused } from "./sql-pool.ts";

const queryOptions = {
  authQuery: text("finds a user's `password`, and `salt` if there is one").optional(),
  superQuery: text("finds `is_superuser`").optional(),
  aclQuery: text("finds rules: `allow`, `ipaddr`, `username`, `clientid`, `access`, `topic`").optional(),
  password: passwordScheme(),
  guard: guardOptions(),
};

const queryOptionsSchema = z.strictObject(queryOptions);
type QueryOptions = z.output<typeof queryOptionsSchema>;

function serverOptions(port: number) {
  return z.strictObject({
    host: text("name or address of the server").default("127.0.0.1"),
    port: wholeNumber(1, 65_535, "its port").default(port),
    database: text("the database"),
    username: text("whom the broker is to the server: a user who may only read"),
    password: secret("this user's password").optional(),
    tls: choice(["off", "verify"], "verify: TLS, and the certificate and its name must be right").default("off"),
    caFile: text("PEM: who may have signed it; unset: those whom the system trusts").optional(),
  });
}

type ServerOptions = z.output<ReturnType<typeof serverOptions>>;

const ROLES = ["authenticate", "authorize"] as const;

export const postgresql = backendKind({
  type: "postgresql",
  roles: ROLES,
  options: z.strictObject({ server: serverOptions(5432), ...queryOptions }),
  make: ({ server, ...options }, parts) =>
    makeBackend(options, parts, {
      connection: () => connectionOptions("postgres", server, parts),
      place: `${server.host}:${server.port}`,
      placeholder: (number) => `$${number}`,
    }),
});

export const mysql = backendKind({
  type: "mysql",
  roles: ROLES,
  options: z.strictObject({ server: serverOptions(3306), ...queryOptions }),
  make: ({ server, ...options }, parts) =>
    makeBackend(options, parts, {
      connection: () => connectionOptions("mysql", server, parts),
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

interface Dialect {
  /** Throws MantouError when a secret or file is missing. */
  readonly connection: () => SQL.Options;
  readonly place: string;
  readonly placeholder: (number: number) => string;
}

/** Closed when unused for this long; opened anew after that long, so that a server that has moved is found. */
const IDLE_SEC = 60;
const LIFETIME_SEC = 1800;
/** More than this is no client's list of rules but a query without its condition. */
const ROWS_MAX = 10_000;

function connectionOptions(
  adapter: "postgres" | "mysql",
  { host, port, database, username, password, tls, caFile }: ServerOptions,
  parts: BackendParts,
): SQL.Options {
  return {
    adapter,
    // Without one, DATABASE_URL and its like would have a say; all that matters in it is said by what follows.
    url: `${adapter}://localhost`,
    hostname: host,
    port,
    database,
    username,
    password: password?.reveal() ?? "",
    tls: tls === "off" ? "disable" : { rejectUnauthorized: true, ...caOf(caFile, parts) },
    max: 1,
    idleTimeout: IDLE_SEC,
    maxLifetime: LIFETIME_SEC,
    // The guard's deadline is what counts.
    connectionTimeout: 0,
    bigint: false,
  };
}

function caOf(file: string | undefined, parts: BackendParts): { ca?: string } {
  if (file === undefined) return {};
  const path = pathOf(file, parts);
  try {
    return { ca: readFileSync(path, "utf8") };
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code ?? "not readable";
    throw new MantouError("access_invalid", `access: ${parts.name}: caFile: ${path}: ${code}`);
  }
}

function pathOf(file: string, { baseDir }: BackendParts): string {
  return isAbsolute(file) ? file : join(baseDir, file);
}

const ABOUT_A_TOPIC: readonly VariableName[] = ["topic", "action", "access"];

interface Asker {
  (values: TemplateValues, done: (found: Guarded<Found>) => void): void;
}

/** Rows, or that the server does not take this client's words. */
type Found = readonly SqlRow[] | "refused";

function makeBackend(options: QueryOptions, parts: BackendParts, dialect: Dialect): Backend {
  const { name, log } = parts;
  const guard = new RemoteGuard(options.guard);
  let pool: SqlPool | undefined;
  const boundOf = (key: "authQuery" | "superQuery" | "aclQuery"): BoundText | undefined =>
    options[key] === undefined ? undefined : bindQuery(options[key], key, name, dialect.placeholder);
  const fault = (what: string): void => log.warn("what a query has found cannot be used", { what });

  /** Undefined where the client has nothing that the query asks about. */
  const askerOf = (bound: BoundText): Asker => {
    return (values, done) => {
      const list = bound.variables.map((variable): SqlValue => values[variable] ?? null);
      if (list.length > 0 && list.every((value) => value === null))
        return done({ isAnswered: true, value: [], isStale: false });
      // No database agrees with another about these.
      if (list.some((value) => value !== null && (value.includes("\0") || !value.isWellFormed())))
        return done({ isAnswered: true, value: "refused", isStale: false });
      guard.ask(JSON.stringify([bound.text, ...list]), (signal) => find(pool!, bound.text, list, signal), done);
    };
  };

  const auth = boundOf("authQuery");
  const superuser = boundOf("superQuery");
  const acl = boundOf("aclQuery");
  if (!auth && !superuser && !acl)
    throw new MantouError(
      "access_invalid",
      `access: ${name}: found no query, allowed: authQuery, superQuery, aclQuery`,
    );

  return {
    name,
    async start() {
      pool = new SqlPool(dialect.connection(), dialect.place);
      for (const bound of [auth, superuser, acl]) if (bound) tryOut(guard, pool, bound, parts);
    },
    async stop() {
      guard.stop();
      await pool?.stop();
    },
    health() {
      const { counts, ...rest } = guard.health();
      return { ...rest, counts: { ...counts, ...pool?.counts } };
    },
    ...(auth && { authenticate: authenticateBy(askerOf(auth), options, parts, fault) }),
    ...(superuser && { isSuperuser: isSuperuserBy(askerOf(superuser)) }),
    ...(acl && { authorize: authorizeBy(askerOf(acl), fault) }),
  };
}

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

async function find(pool: SqlPool, sql: string, values: readonly SqlValue[], signal: AbortSignal): Promise<Found> {
  try {
    return await pool.query(sql, values, signal);
  } catch (error) {
    if (error instanceof WordsRefused) return "refused";
    throw error;
  }
}

/** Nobody waits for it: a server that is down at start is asked again by the first client. */
function tryOut(guard: RemoteGuard, pool: SqlPool, { text: sql, variables }: BoundText, { log }: BackendParts): void {
  guard.ask(
    undefined,
    async (signal) => {
      await find(
        pool,
        sql,
        variables.map(() => null),
        signal,
      );
    },
    (result) => {
      if (!result.isAnswered && result.why !== "stopped")
        log.warn("a query has failed when it was tried out", { sql, detail: guard.health().detail });
    },
  );
}

function authenticateBy(
  ask: Asker,
  { password: scheme }: QueryOptions,
  { passwords }: BackendParts,
  fault: (what: string) => void,
): NonNullable<Backend["authenticate"]> {
  return ({ client, password }, answer) =>
    ask(valuesOf(client), (found) => {
      if (!found.isAnswered) return answer(unanswered(found.why));
      if (found.value === "refused") return answer(DENY_CREDENTIALS);
      const rows = found.value.filter((row) => isOf(row, client));
      if (rows.length === 0) return answer(IGNORE);
      const [row] = rows;
      if (rows.length > 1 || !("password" in row || "password_hash" in row)) {
        fault(rows.length > 1 ? "authQuery: more than one row for a client" : "authQuery: no column password");
        return answer(UNAVAILABLE);
      }
      const hash = textOf(row["password"] ?? row["password_hash"]);
      if (password === undefined || password.length === 0 || hash === "") return answer(DENY_CREDENTIALS);
      passwords.check(password, { hash, salt: textOf(row["salt"]), scheme }, (verdict) => {
        if (verdict === "malformed") fault("authQuery: a password that is not stored as `password` says");
        answer(answerOf(verdict));
      });
    });
}

function isSuperuserBy(ask: Asker): NonNullable<Backend["isSuperuser"]> {
  return (client, answer) =>
    ask(valuesOf(client), (found) => {
      const rows = found.isAnswered && found.value !== "refused" ? found.value : [];
      answer(rows.some((row) => isOf(row, client) && isTrue(row["is_superuser"])));
    });
}

function authorizeBy(ask: Asker, fault: (what: string) => void): NonNullable<Backend["authorize"]> {
  /** Rules of rows that the guard has kept. */
  const rulesOf = new WeakMap<readonly SqlRow[], readonly AclRule[] | { readonly fault: string }>();
  return (question, answer) => {
    const { client, action, topic } = question;
    ask({ ...valuesOf(client), topic, action, access: action === "subscribe" ? "1" : "2" }, (found) => {
      if (!found.isAnswered) return answer("unavailable");
      const { value: rows } = found;
      if (rows === "refused") return answer("deny");
      let rules = rulesOf.get(rows);
      if (!rules) rulesOf.set(rows, (rules = rulesOfRows(rows)));
      if ("fault" in rules) {
        fault(`aclQuery: ${rules.fault}`);
        return answer("unavailable");
      }
      answer(decideByRules(rules, question));
    });
  };
}

function rulesOfRows(rows: readonly SqlRow[]): readonly AclRule[] | { readonly fault: string } {
  if (rows.length > ROWS_MAX) return { fault: `more than ${ROWS_MAX} rows for a client` };
  const rules: AclRule[] = [];
  for (const row of rows) {
    const rule = ruleOfRow(row satisfies AclRow);
    if ("fault" in rule) return rule;
    rules.push(rule);
  }
  return rules;
}

/** Where the row says whose it is, it says so to the letter. */
function isOf(row: SqlRow, { username, clientId }: ClientInfo): boolean {
  const isName = row["username"] === undefined || row["username"] === null || row["username"] === username;
  return isName && (row["clientid"] === undefined || row["clientid"] === null || row["clientid"] === clientId);
}

function textOf(value: unknown): string {
  return value === null || value === undefined ? "" : String(value as string | number);
}

/** PostgreSQL's boolean, MySQL's number, a bit, a text. */
function isTrue(value: unknown): boolean {
  return ["1", "true", "t", "yes"].includes(textOf(value).toLowerCase());
}
