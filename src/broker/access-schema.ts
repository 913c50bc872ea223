/**
 * The `access` section of the configuration: two lists of backends, made from `access/backend-table.ts`, and what holds for
 * all of them. A backend's entry is one leaf to the tree of sources: it is written as a whole, and checked by the options of
 * its type.
 */
import { z } from "zod";
import { backendKinds } from "#access/backend-table.ts";
import type { BackendKind } from "#access/backend.ts";
import { choiceLeaf, meta, numberLeaf } from "./config-leaf.ts";
import { parseUnit, unitOf } from "#base/unit.ts";

type Role = BackendKind["roles"][number];

/** What every backend has besides the options of its type. */
export interface BackendConfig extends Readonly<Record<string, unknown>> {
  readonly type: string;
  readonly name?: string | undefined;
  readonly whenUnavailable: "deny" | "ignore" | "allow";
}

/** In `authorize`, the backend that stands in `authenticate` under that name: one pool, one set of options. */
export const SAME = "same";

const NAME = /^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/;
const nameAllowed = "a name of letters, digits, . _ -, at most 64, starting with a letter or digit";

function common(type: string) {
  const unavailable = ["deny", "ignore", "allow"] as const;
  return {
    type: z.literal(type),
    name: z.string({ error: nameAllowed }).regex(NAME, { error: nameAllowed }).optional(),
    whenUnavailable: z.enum(unavailable, { error: `one of ${unavailable.join(", ")}` }).default("deny"),
  };
}

/** Unknown keys are a fault of the mapping they stand in. */
function strictMapping(shape: z.core.$ZodLooseShape) {
  const error = (issue: { code?: string | undefined; keys?: unknown }): string | undefined => {
    if (issue.code === "unrecognized_keys") {
      const unknown = (issue.keys as string[]).join(", ");
      return `the keys ${Object.keys(shape).join(", ")} (not ${unknown})`;
    }
    return issue.code === "invalid_type" ? `a mapping with the keys ${Object.keys(shape).join(", ")}` : undefined;
  };
  return z.strictObject(shape as z.ZodRawShape, { error });
}

/** `5m` where a key counts seconds, in the depth of a backend's options too. */
function readUnits(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(readUnits);
  if (typeof value !== "object" || value === null) return value;
  const entries = Object.entries(value).map(([key, leaf]): [string, unknown] => {
    const unit = unitOf(key);
    return [key, typeof leaf === "string" && unit !== undefined ? (parseUnit(leaf, unit) ?? leaf) : readUnits(leaf)];
  });
  return Object.fromEntries(entries);
}

function backendLeaf(role: Role): z.ZodType<BackendConfig> {
  const kinds: readonly BackendKind[] = backendKinds;
  const options = kinds
    .filter(({ roles }) => roles.includes(role))
    .map(({ type, options }) => strictMapping({ ...common(type), ...options.shape }));
  if (role === "authorize")
    options.push(strictMapping({ type: z.literal(SAME), as: z.string({ error: nameAllowed }) }));
  const types = options.map(({ shape }) => (shape["type"] as z.ZodLiteral<string>).value);
  const error = `a mapping whose type is one of ${types.join(", ")}`;
  const union = z.discriminatedUnion("type", options as unknown as [z.ZodObject<{ type: z.ZodLiteral<string> }>], {
    error: (issue) => (issue.code === "invalid_union" ? `one of ${types.join(", ")}` : error),
  });
  return z.preprocess(readUnits, union) as unknown as z.ZodType<BackendConfig>;
}

const DAY_SEC = 86_400;

function secondsLeaf(key: string, min: number, value: number, description: string) {
  return numberLeaf(key, { min, max: DAY_SEC }).default(value).meta(meta(key, description));
}

export const accessSchema = z
  .strictObject({
    authenticate: z
      .array(backendLeaf("authenticate"), { error: "a list of backends" })
      .prefault([{ type: "anonymous" }])
      .meta({ description: "backends asked in order who may come in; whom all of them ignore is refused" }),
    authorize: z
      .array(backendLeaf("authorize"), { error: "a list of backends" })
      .prefault([])
      .meta({ description: "backends asked in order whether a client may publish or subscribe" }),
    noMatch: choiceLeaf(["allow", "deny"])
      .default("allow")
      .meta({ description: "what holds when none of them has an answer" }),
    deniedPublish: choiceLeaf(["drop", "disconnect"])
      .default("drop")
      .meta({ description: "3.x: a refused PUBLISH is acknowledged and dropped, or ends the connection" }),
    cacheCountMax: numberLeaf("cacheCountMax", { min: 0, max: 65_536 })
      .refine((count) => count === 0 || (count >= 8 && Number.isInteger(Math.log2(count))), {
        error: "0, or a power of two from 8 to 65536",
      })
      .default(256)
      .meta({ description: "topics per session whose answer is kept, a power of two from 8; 0: none" }),
    cacheSec: secondsLeaf("cacheSec", 0, 60, "how long an answer is kept; a change that the broker learns of voids it"),
    hashWaitingMax: numberLeaf("hashWaitingMax", { min: 0, max: 1_000_000 })
      .default(1024)
      .meta({ description: "slow password hashes that wait for a thread; beyond: CONNACK 0x89; 3.x: 3" }),
    failureCountMax: numberLeaf("failureCountMax", { min: 0, max: 1_000_000 })
      .default(20)
      .meta({ description: "failed credentials of an address that cost nothing; after more, its attempts wait" }),
    failureWindowSec: secondsLeaf("failureWindowSec", 1, 60, "after this time without a failure they are forgotten"),
    failureDelaySecMax: secondsLeaf("failureDelaySecMax", 0, 5, "longest wait between two attempts; 0: nobody waits"),
    flappingCountMax: numberLeaf("flappingCountMax", { min: 0, max: 1_000_000 })
      .default(0)
      .meta({ description: "disconnects of a client id that ban it for a while; 0: never" }),
    flappingWindowSec: secondsLeaf("flappingWindowSec", 1, 60, "time within which they count"),
    flappingBanSec: secondsLeaf("flappingBanSec", 1, 300, "how long the ban lasts"),
  })
  .prefault({});

export type AccessConfig = z.output<typeof accessSchema>;
