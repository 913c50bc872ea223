/**
 * Users and rules in MongoDB, as emqttd's plugin had them; each of the three is optional:
 *
 *   auth    mqtt_user   { username: "alice", password: "…", salt: "…" }
 *   super   mqtt_user   { username: "alice", is_superuser: true }
 *   acl     mqtt_acl    { username: "alice", publish: ["a/%c"], subscribe: ["b/#"], pubsub: ["home/%u/#"] }
 *
 *   selector   { username: "%u" }, { $or: [{ username: "%u" }, { clientid: "%c" }] }
 *
 * A client's words become one whole string value each and are never read as anything else; under operators that would
 * read them, such as `$regex` and `$where`, a variable stops the start. Strings are compared to the letter whatever the
 * collection's collation.
 *
 * Rules allow; what no rule covers is left to the next backend. Costs one query a question that the guard has not kept.
 */
import { type Document, MongoClient } from "mongodb";
import { z } from "zod";
import { type AclRule, decideByRules, ruleOfRow } from "#access/acl-rule.ts";
import { answerOf, unanswered } from "#access/answer.ts";
import {
  type Backend,
  type BackendParts,
  backendKind,
  DENY_CREDENTIALS,
  IGNORE,
  UNAVAILABLE,
} from "#access/backend.ts";
import { guardOptions, passwordScheme, secret, text } from "#access/option.ts";
import { type Guarded, RemoteGuard } from "#access/remote-guard.ts";
import {
  expandText,
  isTemplate,
  parseTemplate,
  type TemplateValues,
  templateOf,
  valuesOf,
  type VariableName,
} from "#access/template.ts";
import { MantouError } from "#base/error.ts";

/** Operators under which a text is a value and nothing else. */
const PLAIN_OPERATORS = ["$and", "$or", "$nor", "$eq", "$ne", "$in", "$nin", "$all", "$elemMatch"];
const DOCUMENTS_MAX = 1000;
const RULES_MAX = 10_000;

const selectorError = `a selector whose texts may have variables such as %u, %c, %a, as a whole or in part; but the password, and only under ${PLAIN_OPERATORS.join(", ")}`;

function find(collection: string) {
  return {
    collection: text("where to look").default(collection),
    selector: z
      .looseObject({}, { error: selectorError })
      .refine((selector) => isSelector(selector, false), { error: selectorError })
      .default({ username: "%u" })
      .meta({ description: "which documents are a client's" }),
  };
}

function isSelector(value: unknown, isRead: boolean): boolean {
  if (typeof value === "string") {
    const parsed = parseTemplate(value);
    if (!isTemplate(parsed)) return false;
    return parsed.every(
      (part) =>
        typeof part === "string" || !(isRead || ["password", "topic", "action", "access"].includes(part.variable)),
    );
  }
  if (typeof value !== "object" || value === null) return true;
  return Object.entries(value).every(([key, one]: [string, unknown]) =>
    isSelector(one, isRead || (key.startsWith("$") && !PLAIN_OPERATORS.includes(key))),
  );
}

export const mongodb = backendKind({
  type: "mongodb",
  roles: ["authenticate", "authorize"],
  options: z.strictObject({
    server: z.strictObject({
      uri: secret("the connection string: mongodb:// or mongodb+srv://"),
      database: text("the database").default("mqtt"),
    }),
    auth: z
      .strictObject({
        ...find("mqtt_user"),
        passwordField: text("the stored password").default("password"),
        saltField: text("its salt, if there is one").default("salt"),
      })
      .optional(),
    super: z
      .strictObject({ ...find("mqtt_user"), field: text("true or 1: a super user").default("is_superuser") })
      .optional(),
    acl: z.strictObject(find("mqtt_acl")).optional(),
    password: passwordScheme(),
    guard: guardOptions(),
  }),
  make({ server, auth, super: superuser, acl, password: scheme, guard: limits }, parts): Backend {
    const { name, log, passwords } = parts;
    const guard = new RemoteGuard(limits);
    if (!auth && !superuser && !acl)
      throw new MantouError("access_invalid", `access: ${name}: found no query, allowed: auth, super, acl`);
    let client: MongoClient | undefined;
    const fault = (what: string): void => log.warn("what a query has found cannot be used", { what });
    const askerOf = (query: Query, countMax: number): Asker =>
      asker(guard, query, async (selector, signal) => {
        const collection = client!.db(server.database).collection(query.collection);
        return collection
          .find(selector, { limit: countMax, collation: { locale: "simple" }, maxTimeMS: limits.deadlineMs, signal })
          .toArray();
      });
    return {
      name,
      async start() {
        client = clientOf(server.uri.reveal(), limits, name);
        tryOut(guard, client, server.database, parts);
      },
      async stop() {
        guard.stop();
        await client?.close(true);
      },
      health: () => guard.health(),
      ...(auth && {
        authenticate: authenticateBy(askerOf(auth, 2), auth, fault, (bytes, stored, answer) =>
          passwords.check(bytes, { ...stored, scheme }, (verdict) => {
            if (verdict === "malformed") fault("auth: a password that is not stored as `password` says");
            answer(answerOf(verdict));
          }),
        ),
      }),
      ...(superuser && { isSuperuser: isSuperuserBy(askerOf(superuser, 2), superuser.field) }),
      ...(acl && { authorize: authorizeBy(askerOf(acl, DOCUMENTS_MAX + 1), fault) }),
    };
  },
});

/** Throws MantouError `access_invalid`, without the text: it may have a password in it. */
function clientOf(
  uri: string,
  { deadlineMs, runningMax }: { deadlineMs: number; runningMax: number },
  name: string,
): MongoClient {
  try {
    return new MongoClient(uri, {
      appName: "mantou",
      maxPoolSize: runningMax,
      maxIdleTimeMS: 60_000,
      // Sooner than the guard, so that it learns why.
      serverSelectionTimeoutMS: Math.ceil(deadlineMs / 2),
      connectTimeoutMS: deadlineMs,
      socketTimeoutMS: deadlineMs,
      waitQueueTimeoutMS: deadlineMs,
    });
  } catch {
    throw new MantouError(
      "access_invalid",
      `access: ${name}: server.uri: found something else, allowed: a connection string`,
    );
  }
}

/** Nobody waits for it: so that the log and the health know of a server that is away before the first client comes. */
function tryOut(guard: RemoteGuard, client: MongoClient, database: string, { log }: BackendParts): void {
  guard.ask(
    undefined,
    () => client.db(database).command({ ping: 1 }),
    (result) => {
      if (!result.isAnswered && result.why !== "stopped")
        log.warn("the server has not answered when it was tried out", { detail: guard.health().detail });
    },
  );
}

interface Query {
  readonly collection: string;
  readonly selector: object;
}

/** `unknown`: the client has not what is asked about. `refused`: its words go into no query. */
type Found = readonly Document[] | "unknown" | "refused";
type Asker = (values: TemplateValues, done: (found: Guarded<Found>) => void) => void;

function asker(
  guard: RemoteGuard,
  { collection, selector }: Query,
  query: (selector: Document, signal: AbortSignal) => Promise<Document[]>,
): Asker {
  const variables = variablesOf(selector);
  return (values, done) => {
    const used = variables.map((variable) => values[variable]);
    const answer = (value: Found): void => done({ isAnswered: true, value, isStale: false });
    if (used.some((value) => value === undefined || value === "")) return answer("unknown");
    if (used.some((value) => value!.includes("\0") || !value!.isWellFormed())) return answer("refused");
    const composed = compose(selector, values);
    const key = JSON.stringify([collection, composed]);
    guard.ask<Found>(key, (signal) => query(composed as Document, signal), done);
  };
}

function variablesOf(value: unknown): VariableName[] {
  if (typeof value === "string")
    return templateOf(value).flatMap((part) => (typeof part === "string" ? [] : [part.variable]));
  if (typeof value !== "object" || value === null) return [];
  return Object.values(value).flatMap(variablesOf);
}

/** The same with the values in place; keys are the configuration's. */
function compose(value: unknown, values: TemplateValues): unknown {
  if (typeof value === "string") return expandText(templateOf(value), values);
  if (Array.isArray(value)) return value.map((one: unknown) => compose(one, values));
  if (typeof value !== "object" || value === null) return value;
  return Object.fromEntries(Object.entries(value).map(([key, one]) => [key, compose(one, values)]));
}

type Stored = { readonly hash: string; readonly salt: string };
type Check = (password: Buffer, stored: Stored, answer: Parameters<NonNullable<Backend["authenticate"]>>[1]) => void;

function authenticateBy(
  ask: Asker,
  { passwordField, saltField }: { readonly passwordField: string; readonly saltField: string },
  fault: (what: string) => void,
  check: Check,
): NonNullable<Backend["authenticate"]> {
  return ({ client, password }, answer) =>
    ask(valuesOf(client), (found) => {
      if (!found.isAnswered) return answer(unanswered(found.why));
      if (found.value === "refused") return answer(DENY_CREDENTIALS);
      if (found.value === "unknown" || found.value.length === 0) return answer(IGNORE);
      if (found.value.length > 1) {
        fault("auth: more than one document for a client");
        return answer(UNAVAILABLE);
      }
      const hash = textOf(found.value[0], passwordField);
      if (password === undefined || password.length === 0 || hash === "") return answer(DENY_CREDENTIALS);
      check(password, { hash, salt: textOf(found.value[0], saltField) }, answer);
    });
}

/** Empty where there is no text. */
function textOf(document: Document, field: string): string {
  const value: unknown = Object.hasOwn(document, field) ? document[field] : undefined;
  return typeof value === "string" ? value : "";
}

function isSuperuserBy(ask: Asker, field: string): NonNullable<Backend["isSuperuser"]> {
  return (client, answer) =>
    ask(valuesOf(client), (found) => {
      const documents = found.isAnswered && typeof found.value === "object" ? found.value : [];
      answer(documents.some((document) => Object.hasOwn(document, field) && isTrue(document[field])));
    });
}

function isTrue(value: unknown): boolean {
  return ["1", "true"].includes(String(value as string | number | boolean).toLowerCase());
}

function authorizeBy(ask: Asker, fault: (what: string) => void): NonNullable<Backend["authorize"]> {
  /** Rules of documents that the guard has kept. */
  const rulesOf = new WeakMap<object, readonly AclRule[] | { readonly fault: string }>();
  return (question, answer) =>
    ask(valuesOf(question.client), (found) => {
      if (!found.isAnswered) return answer("unavailable");
      if (typeof found.value === "string") return answer(found.value === "unknown" ? "ignore" : "deny");
      let rules = rulesOf.get(found.value);
      if (!rules) rulesOf.set(found.value, (rules = rulesOfDocuments(found.value)));
      if ("fault" in rules) {
        fault(`acl: ${rules.fault}`);
        return answer("unavailable");
      }
      answer(decideByRules(rules, question));
    });
}

function rulesOfDocuments(documents: readonly Document[]): readonly AclRule[] | { readonly fault: string } {
  if (documents.length > DOCUMENTS_MAX) return { fault: `more than ${DOCUMENTS_MAX} documents for a client` };
  const rules: AclRule[] = [];
  for (const document of documents)
    for (const access of ["publish", "subscribe", "pubsub"]) {
      const topics: unknown = document[access] ?? [];
      if (!Array.isArray(topics)) return { fault: `${access} is no list of filters` };
      for (const topic of topics as unknown[]) {
        if (typeof topic !== "string") return { fault: `${access} has what is no filter` };
        const rule = ruleOfRow({ allow: 1, access, topic });
        if ("fault" in rule) return rule;
        rules.push(rule);
        if (rules.length > RULES_MAX) return { fault: `more than ${RULES_MAX} rules for a client` };
      }
    }
  return rules;
}
