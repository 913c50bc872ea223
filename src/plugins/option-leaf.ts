/** Leaves of a configuration's schema, the broker's and a plugin's. The error message of each is its list of allowed values. */
import { z } from "zod";
import { parseUnit, type Unit, unitNames, unitOf } from "#base/unit.ts";

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

export function meta(key: string, description: string): LeafMeta {
  const unit = unitOf(key);
  return unit === undefined ? { description } : { description, unit };
}

/** An option that is a whole number. A `key` that ends with `Sec` or `Bytes` may carry a unit: `5m`, `1MiB`. */
export function wholeNumber(key: string, range: Range & { readonly initial: number }, description: string) {
  return numberLeaf(key, range).default(range.initial).meta(meta(key, description));
}
