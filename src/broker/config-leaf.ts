/** Leaves of the configuration's schema. The error message of each is its list of allowed values. */
import { z } from "zod";
import { parseUnit, unitNames, unitOf, type Unit } from "./config-unit.ts";

interface Range {
  readonly min: number;
  readonly max: number;
}

/** A type, not an interface: zod wants an index signature, which only a type alias has. */
export type LeafMeta = { readonly description: string; readonly unit?: Unit };

export function numberLeaf(key: string, { min, max }: Range) {
  const unit = unitOf(key);
  const suffix = unit === undefined ? "" : `, or with a unit (${unitNames(unit).join(", ")})`;
  const error = `a whole number from ${min} to ${max}${suffix}`;
  const whole = z.int({ error }).min(min, { error }).max(max, { error });
  if (unit === undefined) return whole;
  return z.preprocess((value) => (typeof value === "string" ? (parseUnit(value, unit) ?? value) : value), whole);
}

export const choiceLeaf = <const T extends readonly [string, ...string[]]>(choices: T) =>
  z.enum(choices, { error: choices.length === 1 ? choices[0] : `one of ${choices.join(", ")}` });

export function meta(key: string, description: string): LeafMeta {
  const unit = unitOf(key);
  return unit === undefined ? { description } : { description, unit };
}
