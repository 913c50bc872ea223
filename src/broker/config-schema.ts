/**
 * What a configuration may say, as a zod schema. The sections that limit something are made from `core/limits.ts`, so a
 * limit is written down once; the few other sections stand here.
 *
 * Every leaf's error message is its list of allowed values: `config.ts` puts path and finding before it. Keys that the
 * schema does not know are found earlier, by `config-tree.ts`, which knows where they were written.
 */
import { z } from "zod";
import { limitTable, type Limits } from "#core/limits.ts";
import { isShared, isTopicFilter } from "#core/topic.ts";
import { accessSchema } from "./access-schema.ts";
import { adminSchema } from "./admin-schema.ts";
import { alarmSchema } from "./alarm-schema.ts";
import { choiceLeaf, meta, numberLeaf } from "./config-leaf.ts";
import { unitPattern, type Unit } from "#base/unit.ts";
import { listenerSchema } from "./listener-schema.ts";
import { logSchema } from "./log-schema.ts";
import { modulesSchema, pluginsSchema } from "./plugin-schema.ts";

/** The length of a UTF-8 string is two bytes in a packet. */
const MQTT_STRING_BYTES_MAX = 65_535;
const CONTROL = /\p{Cc}/u;

type Table = Readonly<Record<string, Readonly<Record<string, (typeof limitTable.mqtt)["qosMax" | "retain"] | Choice>>>>;
interface Choice {
  readonly default: string;
  readonly choices: readonly string[];
  readonly at: string;
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

const NODE_ALLOWED = "NAME@HOST of letters, digits, . _ - (in HOST also :), at most 255 characters";
const PATH_ALLOWED = "path of a directory";
const FILTER_ALLOWED = "a topic filter, such as alarm/#, without share name";

function isFilter(text: string): boolean {
  const filter = Buffer.from(text);
  const { topicBytesMax, topicLevelsMax } = limitTable.mqtt;
  const limits = { topicBytesMax: topicBytesMax.max, topicLevelsMax: topicLevelsMax.max };
  return !isShared(filter) && isTopicFilter(filter, 0, filter.length, limits);
}

export const WORKERS_MAX = 64;
const WORKERS_ALLOWED = `auto, or a whole number from 1 to ${WORKERS_MAX}`;

const drainSec = { min: 0, max: 3600 };

export const configSchema = z.strictObject({
  node: z
    .strictObject({
      name: z
        .string({ error: NODE_ALLOWED })
        .regex(/^(?=.{3,255}$)[A-Za-z0-9._-]+@[A-Za-z0-9._:-]+$/, { error: NODE_ALLOWED })
        .default("mantou@127.0.0.1")
        .meta({ description: "this broker's name" }),
      data: z
        .string({ error: PATH_ALLOWED })
        .min(1, { error: PATH_ALLOWED })
        .default("./data")
        .meta({ description: "directory of what the broker keeps; made when it is first needed" }),
    })
    .prefault({}),
  workers: z
    .union(
      [z.literal("auto"), z.int().min(1, { error: WORKERS_ALLOWED }).max(WORKERS_MAX, { error: WORKERS_ALLOWED })],
      { error: WORKERS_ALLOWED },
    )
    .default(1)
    .meta({ description: "processes that share the listeners' ports; auto: as many as the machine has processors" }),
  listeners: z
    .array(listenerSchema, { error: "a list of listeners" })
    .min(1, { error: "at least one listener" })
    .prefault([
      { name: "tcp", type: "tcp", bind: "0.0.0.0:1883" },
      { name: "ws", type: "ws", bind: "0.0.0.0:8083" },
    ]),
  admin: adminSchema,
  ...limitSections(),
  priorities: z
    .array(
      z.strictObject({
        filter: z
          .string({ error: FILTER_ALLOWED })
          .refine(isFilter, { error: FILTER_ALLOWED })
          .meta({ description: "topics that are sent earlier than others, when messages wait" }),
        priority: numberLeaf("priority", { min: 1, max: 7 }).meta({
          description: "7 is sent first; other topics have 0",
        }),
      }),
      { error: "a list of filters with their priorities" },
    )
    .prefault([]),
  store: z
    .strictObject({
      type: choiceLeaf(["sqlite", "memory"])
        .default("sqlite")
        .meta({ description: "sqlite: kept in node.data; memory: nothing is kept over a restart" }),
      sync: choiceLeaf(["full", "normal", "off"]).default("full").meta({
        description:
          "full: an acknowledgement means it is on disk; normal: survives the end of the process, not a power cut; off: as normal, and the file may be damaged by a power cut",
      }),
    })
    .prefault({}),
  access: accessSchema,
  modules: modulesSchema,
  plugins: pluginsSchema,
  broker: z
    .strictObject({
      drainSecMax: numberLeaf("drainSecMax", drainSec)
        .default(5)
        .meta(meta("drainSecMax", "how long a stop waits for what is under way before links are cut")),
      lagMsMax: numberLeaf("lagMsMax", { min: 10, max: 600_000 })
        .default(1000)
        .meta(
          meta("lagMsMax", "milliseconds that the event loop may come late; beyond: busy, new clients are refused"),
        ),
      memoryBytesMax: numberLeaf("memoryBytesMax", { min: 0, max: 1024 ** 5 })
        .default(0)
        .meta(meta("memoryBytesMax", "resident memory; beyond: busy; 0: nine tenths of the machine's or container's")),
      httpConnectionsMax: numberLeaf("httpConnectionsMax", { min: 1, max: 10_000_000 })
        .default(10_000)
        .meta(
          meta(
            "httpConnectionsMax",
            "HTTP connections of a process; beyond: idle ones are closed, then its HTTP and WebSocket listeners rest until there are fewer",
          ),
        ),
      responseInformation: mqttText(
        "5.0: Response Information for a client that requests it, a topic prefix for replies",
      ),
      serverReference: mqttText(
        "5.0: Server Reference, the other broker that a client is pointed to when this one drains",
      ),
    })
    .prefault({}),
  alarms: alarmSchema,
  log: logSchema,
});

export type Config = z.output<typeof configSchema>;

/** JSON Schema (2020-12) of the configuration file, for editors. */
export function configJsonSchema(): Record<string, unknown> {
  return z.toJSONSchema(configSchema, { io: "input", override: completeJsonSchema }) as Record<string, unknown>;
}

function completeJsonSchema({ zodSchema, jsonSchema }: { zodSchema: z.core.$ZodType; jsonSchema: JsonSchema }): void {
  const { def } = zodSchema._zod;
  // zod leaves the default out when the value passes through a transformation, and shows `{}` for a whole section.
  if (def.type === "default") jsonSchema.default = (def as z.core.$ZodDefaultDef).defaultValue;
  if (def.type === "prefault" && jsonSchema.type === "object") delete jsonSchema.default;
  if ("initial" in jsonSchema) {
    jsonSchema.default = jsonSchema["initial"] as JsonSchema["default"];
    delete jsonSchema["initial"];
  }
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
