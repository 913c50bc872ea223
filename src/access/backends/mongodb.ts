/**
 * Users and rules in MongoDB, as emqttd's plugin had them; each of the three is optional:
 *
 *   auth    mqtt_user   { username: "alice", password: "…", salt: "…" }
 *   super   mqtt_user   { username: "alice", is_superuser: true }
 *   acl     mqtt_acl    { username: "alice", publish: ["a/%c"], subscribe: ["b/#"], pubsub: ["home/%u/#"] }
 *   subscribe   mqtt_subs   { username: "alice", topic: "home/%u/#", qos: 1 }         subscribed to as the client comes in
 *
 *   selector   { username: "%u" }, { $or: [{ username: "%u" }, { clientid: "%c" }] }
 *
 * A client's words become one whole string value each and are never read as anything else; under operators that would
 * read them, such as `$regex` and `$where`, a variable stops the start. Strings are compared to the letter whatever the
 * collection's collation.
 *
 * Rules allow; what no rule covers is left to the next backend. Costs one query a question that the guard has not kept.
 */
import type { Document, MongoClient } from "mongodb";
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
import { guardOptions, passwordScheme, secret, text } from "#access/option.ts";
import { RemoteGuard } from "#access/remote-guard.ts";
import { parseSubscriptions } from "#access/subscription-list.ts";
import {
  expandText,
  isTemplate,
  parseTemplate,
  type TemplateValues,
  templateOf,
  type VariableName,
} from "#access/template.ts";
import { MantouError } from "#base/error.ts";

/** Operators under which a text is a value and nothing else. */
const PLAIN_OPERATORS = ["$and", "$or", "$nor", "$eq", "$ne", "$in", "$nin", "$all", "$elemMatch"];
const DOCUMENTS_MAX = 1000;

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
    subscribe: z.strictObject(find("mqtt_subs")).optional(),
    password: passwordScheme(),
    guard: guardOptions(),
  }),
  make({ server, password: scheme, guard: limits, ...queries }, parts): Backend {
    const { auth, super: superuser, acl, subscribe } = queries;
    const { name, log, passwords } = parts;
    const guard = new RemoteGuard(limits);
    if (Object.values(queries).every((one) => one === undefined))
      throw new MantouError("access_invalid", `access: ${name}: found no query, allowed: auth, super, acl, subscribe`);
    let client: MongoClient | undefined;
    const database = {
      check: async () => void (await clientOf(server.uri.reveal(), limits, name)),
      start: async () => void (client = await clientOf(server.uri.reveal(), limits, name)),
      stop: () => client?.close(true),
      tryOut: () => client!.db(server.database).command({ ping: 1 }),
    };
    const fault = (what: string): void => log.warn("what a query has found cannot be used", { what });
    const askerOf = (query: Query, countMax: number): Fetch<readonly Document[]> =>
      asker(guard, query, async (selector, signal) => {
        const collection = client!.db(server.database).collection(query.collection);
        return collection
          .find(selector, { limit: countMax, collation: { locale: "simple" }, maxTimeMS: limits.deadlineMs, signal })
          .toArray();
      });
    return {
      name,
      ...lifeOf(guard, database, log),
      ...(auth && {
        authenticate: authenticateFetched(askerOf(auth, 2), (documents) => userOf(documents, auth), {
          passwords,
          scheme,
          fault,
          query: "auth",
        }),
      }),
      ...(superuser && {
        isSuperuser: isSuperuserFetched(askerOf(superuser, 2), (documents) =>
          documents.some((one) => Object.hasOwn(one, superuser.field) && isTrue(one[superuser.field])),
        ),
      }),
      ...(acl && {
        authorize: authorizeFetched(askerOf(acl, DOCUMENTS_MAX + 1), {
          rulesOf: rulesOfDocuments,
          fault,
          query: "acl",
        }),
      }),
      ...(subscribe && {
        subscriptions: subscriptionsFetched(
          askerOf(subscribe, DOCUMENTS_MAX + 1),
          (documents) => parseSubscriptions(documents.map(({ topic, qos }) => [topic, qos])),
          { fault, query: "subscribe" },
        ),
      }),
    };
  },
});

/** Rejects with MantouError `access_invalid`, without the text: it may have a password in it. */
async function clientOf(
  uri: string,
  { deadlineMs, runningMax }: { deadlineMs: number; runningMax: number },
  name: string,
): Promise<MongoClient> {
  const driver = await import("mongodb"); // a third of what a start takes, and few need it
  try {
    return new driver.MongoClient(uri, {
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

interface Query {
  readonly collection: string;
  readonly selector: object;
}

function asker(
  guard: RemoteGuard,
  { collection, selector }: Query,
  query: (selector: Document, signal: AbortSignal) => Promise<Document[]>,
): Fetch<readonly Document[]> {
  const variables = variablesOf(selector);
  return (values, done) => {
    const used = variables.map((variable) => values[variable]);
    const answer = (value: "unknown" | "refused"): void => done({ isAnswered: true, value, isStale: false });
    if (used.some((value) => value === undefined || value === "")) return answer("unknown");
    if (used.some((value) => value!.includes("\0") || !value!.isWellFormed())) return answer("refused");
    const composed = compose(selector, values);
    const key = JSON.stringify([collection, composed]);
    guard.ask<Fetched<readonly Document[]>>(key, (signal) => query(composed as Document, signal), done, values.address);
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

/** Empty where there is no text. */
function textOf(document: Document, field: string): string {
  const value: unknown = Object.hasOwn(document, field) ? document[field] : undefined;
  return typeof value === "string" ? value : "";
}

function rulesOfDocuments(documents: readonly Document[]): readonly AclRule[] | Unusable {
  if (documents.length > DOCUMENTS_MAX) return { fault: `more than ${DOCUMENTS_MAX} documents for a client` };
  const rows: { allow: 1; access: string; topic: string }[] = [];
  for (const document of documents)
    for (const access of ["publish", "subscribe", "pubsub"]) {
      const topics: unknown = document[access] ?? [];
      if (!Array.isArray(topics)) return { fault: `${access} is no list of filters` };
      for (const topic of topics as unknown[]) {
        if (typeof topic !== "string") return { fault: `${access} has what is no filter` };
        rows.push({ allow: 1, access, topic });
      }
    }
  return rulesOfRows(rows);
}

function userOf(
  documents: readonly Document[],
  { passwordField, saltField }: { readonly passwordField: string; readonly saltField: string },
): StoredUser | Unusable | undefined {
  if (documents.length > 1) return { fault: "more than one document for a client" };
  const [document] = documents;
  return document && { hash: textOf(document, passwordField), salt: textOf(document, saltField) };
}
