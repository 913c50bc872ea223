/**
 * What a configuration may say, as a zod schema. The sections that limit something are made from `core/limits.ts`, so a
 * limit is written down once; the few other sections stand here.
 *
 * Every leaf's error message is its list of allowed values: `config.ts` puts path and finding before it. Keys that the
 * schema does not know are found earlier, by `config-tree.ts`, which knows where they were written.
 */
import { z } from "zod";
import { limitTable, type Limits } from "#core/limits.ts";
import { parseBind } from "./bind-address.ts";
import { parseUnit, unitNames, unitOf, unitPattern, type Unit } from "./config-unit.ts";

export const LISTENER_TYPES = ["tcp"] as const;
const LOG_LEVELS = ["trace", "debug", "info", "warn", "error", "silent"] as const;
export const BIND_ALLOWED = "HOST:PORT with a port from 0 to 65535, such as 0.0.0.0:1883 or [::1]:1883";

/** The length of a UTF-8 string is two bytes in a packet. */
const MQTT_STRING_BYTES_MAX = 65_535;
const CONTROL = /\p{Cc}/u;

type Table = Readonly<Record<string, Readonly<Record<string, (typeof limitTable.mqtt)["qosMax" | "retain"] | Choice>>>>;
interface Choice {
  readonly default: string;
  readonly choices: readonly string[];
  readonly at: string;
}
interface Range {
  readonly min: number;
  readonly max: number;
}

/** A type, not an interface: zod wants an index signature, which only a type alias has. */
type LeafMeta = { readonly description: string; readonly unit?: Unit };

function numberLeaf(key: string, { min, max }: Range) {
  const unit = unitOf(key);
  const suffix = unit === undefined ? "" : `, or with a unit (${unitNames(unit).join(", ")})`;
  const error = `a whole number from ${min} to ${max}${suffix}`;
  const whole = z.int({ error }).min(min, { error }).max(max, { error });
  if (unit === undefined) return whole;
  return z.preprocess((value) => (typeof value === "string" ? (parseUnit(value, unit) ?? value) : value), whole);
}

const choiceLeaf = <const T extends readonly [string, ...string[]]>(choices: T) =>
  z.enum(choices, { error: choices.length === 1 ? choices[0] : `one of ${choices.join(", ")}` });

function meta(key: string, description: string): LeafMeta {
  const unit = unitOf(key);
  return unit === undefined ? { description } : { description, unit };
}

function limitLeaf(key: string, limit: Table[string][string]): z.ZodType {
  const about = meta(key, limit.at);
  if ("choices" in limit)
    return choiceLeaf(limit.choices as [string, ...string[]])
      .default(limit.default)
      .meta(about);
  if ("min" in limit) return numberLeaf(key, limit).default(limit.default).meta(about);
  return z.boolean({ error: "true or false" }).default(limit.default).meta(about);
}

function limitSections() {
  const sections: Record<string, z.ZodType> = {};
  for (const [section, limits] of Object.entries(limitTable as Table)) {
    const leaves = Object.entries(limits).map(([key, limit]) => [key, limitLeaf(key, limit)] as const);
    sections[section] = z.strictObject(Object.fromEntries(leaves)).prefault({});
  }
  return sections as { [S in keyof Limits]: z.ZodType<Limits[S]> };
}

function mqttText(description: string) {
  const error = `text of at most ${MQTT_STRING_BYTES_MAX} bytes without control characters; empty: none`;
  return z
    .string({ error })
    .refine((text) => !CONTROL.test(text) && Buffer.byteLength(text) <= MQTT_STRING_BYTES_MAX, { error })
    .default("")
    .meta({ description });
}

const bindLeaf = z
  .string({ error: BIND_ALLOWED })
  .transform((text, context) => {
    const address = parseBind(text);
    if (address) return address;
    context.addIssue({ code: "custom", message: BIND_ALLOWED });
    return z.NEVER;
  })
  .meta({ description: "address to listen on; port 0 picks a free one" });

const NAME_ALLOWED = "a name of letters, digits, . _ -, at most 64, starting with a letter or digit";
const NODE_ALLOWED = "NAME@HOST of letters, digits, . _ - (in HOST also :), at most 255 characters";
const drainSec = { min: 0, max: 3600 };

const listener = z.strictObject({
  name: z
    .string({ error: NAME_ALLOWED })
    .regex(/^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/, { error: NAME_ALLOWED })
    .meta({ description: "what the log and the ready line call it; unique" }),
  type: choiceLeaf(LISTENER_TYPES).meta({ description: "what is spoken on it: tcp is MQTT over TCP" }),
  bind: bindLeaf,
  connectionsMax: numberLeaf("connectionsMax", { min: 1, max: 100_000_000 }).optional().meta({
    description: "connections accepted at a time; unset: what the process's descriptor limit leaves room for",
  }),
});

export const configSchema = z.strictObject({
  node: z
    .strictObject({
      name: z
        .string({ error: NODE_ALLOWED })
        .regex(/^(?=.{3,255}$)[A-Za-z0-9._-]+@[A-Za-z0-9._:-]+$/, { error: NODE_ALLOWED })
        .default("mantou@127.0.0.1")
        .meta({ description: "this broker's name" }),
    })
    .prefault({}),
  listeners: z
    .array(listener, { error: "a list of listeners" })
    .min(1, { error: "at least one listener" })
    .prefault([{ name: "tcp", type: "tcp", bind: "0.0.0.0:1883" }]),
  ...limitSections(),
  store: z
    .strictObject({
      type: choiceLeaf(["memory"]).default("memory").meta({ description: "memory keeps nothing over a restart" }),
    })
    .prefault({}),
  broker: z
    .strictObject({
      drainSecMax: numberLeaf("drainSecMax", drainSec)
        .default(5)
        .meta(meta("drainSecMax", "how long a stop waits for what is under way before links are cut")),
      responseInformation: mqttText(
        "5.0: Response Information for a client that requests it, a topic prefix for replies",
      ),
      serverReference: mqttText(
        "5.0: Server Reference, the other broker that a client is pointed to when this one drains",
      ),
    })
    .prefault({}),
  log: z
    .strictObject({
      level: choiceLeaf(LOG_LEVELS).default("info").meta({ description: "the least severe record that is written" }),
      format: choiceLeaf(["text", "json"])
        .default("text")
        .meta({ description: "text: a line for people; json: one object per line for machines" }),
    })
    .prefault({}),
});

export type Config = z.output<typeof configSchema>;
export type ListenerConfig = Config["listeners"][number];
export type LogConfig = Config["log"];

/** JSON Schema (2020-12) of the configuration file, for editors. */
export function configJsonSchema(): Record<string, unknown> {
  return z.toJSONSchema(configSchema, { io: "input", override: completeJsonSchema }) as Record<string, unknown>;
}

function completeJsonSchema({ zodSchema, jsonSchema }: { zodSchema: z.core.$ZodType; jsonSchema: JsonSchema }): void {
  const { def } = zodSchema._zod;
  // zod leaves the default out when the value passes through a transformation, and shows `{}` for a whole section.
  if (def.type === "default") jsonSchema.default = (def as z.core.$ZodDefaultDef).defaultValue;
  if (def.type === "prefault" && jsonSchema.type === "object") delete jsonSchema.default;
  const unit = jsonSchema["unit"] as Unit | undefined;
  if (unit === undefined) return;
  delete jsonSchema["unit"];
  const { minimum, maximum } = jsonSchema;
  delete jsonSchema.type;
  delete jsonSchema.minimum;
  delete jsonSchema.maximum;
  jsonSchema.anyOf = [
    { type: "integer", minimum: minimum!, maximum: maximum! },
    { type: "string", pattern: unitPattern(unit) },
  ];
}

type JsonSchema = z.core.JSONSchema.BaseSchema;
