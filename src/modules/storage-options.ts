/** Options of the module `storage`. */
import { redisServerOptions } from "#access/backends/redis-server.ts";
import { serverOptions } from "#access/backends/sql-server.ts";
import { secret, z } from "#plugins/plugin.ts";
import { text } from "./options.ts";
import { hasNamesOfItsOwn, nameError, outletName, queueOptions, wantedEvents, wantedTopics } from "./outlet-options.ts";
import { bindStatement, parseTemplate, VARIABLES_ALLOWED } from "./storage-template.ts";

const WRITER = "whom the broker is to the server: a user who may do what the statements do";
const RULES_ALLOWED = "a list of rules, at least one";

/** What is done with events of some kinds and topics; an event may be a matter of several rules. */
function rulesOf<S extends z.ZodRawShape>(shape: S) {
  const rule = z.strictObject({ events: wantedEvents, filters: wantedTopics(), ...shape });
  return z
    .array(rule, { error: RULES_ALLOWED })
    .min(1, { error: RULES_ALLOWED })
    .meta({ description: "what is done with which events" });
}

const statementError = `an SQL statement with ${VARIABLES_ALLOWED}, where a value may stand`;

const sqlRules = rulesOf({
  statement: z
    .string({ error: statementError })
    .refine((sql) => sql.trim() !== "" && !("fault" in bindStatement(sql, () => "?")), { error: statementError })
    .meta({ description: "SQL: what is run for each event; values are bound" }),
});

const commandError = `a command, a key and so on, with ${VARIABLES_ALLOWED}`;

const redisRules = rulesOf({
  command: z
    .string({ error: commandError })
    .refine(isCommand, { error: commandError })
    .meta({ description: "redis: cut into words before the values are put in" }),
});

function isCommand(words: string): boolean {
  const [verb = "", ...args] = words.trim().split(/\s+/);
  return /^[A-Za-z.]+$/.test(verb) && args.length > 0 && args.every((word) => !("unknown" in parseTemplate(word)));
}

const documentError = `a document whose texts may have ${VARIABLES_ALLOWED}; but no names that begin with $`;

const mongoRules = rulesOf({
  collection: text("mongodb: where the documents go", "a name"),
  document: z
    .looseObject({}, { error: documentError })
    .refine(isDocument, { error: documentError })
    .meta({ description: "mongodb: what is kept of each event; `_id` is the event's `id` unless it says otherwise" }),
});

function isDocument(value: unknown): boolean {
  if (typeof value === "string") return !("unknown" in parseTemplate(value));
  if (typeof value !== "object" || value === null) return true;
  const entries = Object.entries(value);
  return entries.every(
    ([key, one]: [string, unknown]) => (Array.isArray(value) || !key.startsWith("$")) && isDocument(one),
  );
}

const common = { name: outletName, queue: queueOptions };

const target = z.discriminatedUnion(
  "type",
  [
    z.strictObject({ ...common, type: z.literal("postgresql"), server: serverOptions(5432, WRITER), rules: sqlRules }),
    z.strictObject({ ...common, type: z.literal("mysql"), server: serverOptions(3306, WRITER), rules: sqlRules }),
    z.strictObject({
      ...common,
      type: z.literal("sqlite"),
      file: text("sqlite: the database; it is made if it is not there", "a path"),
      schema: z.array(text("SQL", "an SQL statement"), { error: "a list of SQL statements" }).default([]).meta({
        description: "sqlite: statements that are run once at the start, such as CREATE TABLE IF NOT EXISTS …",
      }),
      rules: sqlRules,
    }),
    z.strictObject({ ...common, type: z.literal("redis"), server: redisServerOptions, rules: redisRules }),
    z.strictObject({
      ...common,
      type: z.literal("mongodb"),
      uri: secret("mongodb: the connection string: mongodb:// or mongodb+srv://"),
      database: text("mongodb: the database", "a name").default("mqtt"),
      rules: mongoRules,
    }),
  ],
  { error: "type: one of postgresql, mysql, sqlite, redis, mongodb" },
);

export const storageOptions = z.strictObject({
  targets: z
    .array(target, { error: "a list of targets" })
    .refine(hasNamesOfItsOwn, { error: nameError })
    .default([])
    .meta({ description: "databases that messages and events are written to, in batches" }),
});

export type Target = z.output<typeof target>;
export type TargetOf<T extends Target["type"]> = Extract<Target, { readonly type: T }>;
