/**
 * The configuration while it is put together: raw values from several sources, each with its origin.
 *
 * A source is laid over what is there, key by key; a list from a file replaces the list before it, a single element or
 * key of it can be set by its index. Only keys of the schema enter the tree, so its shape is right by construction (and
 * `__proto__` is just another unknown key); whether a leaf's value is allowed is the schema's business, later, when it
 * is known which source has won.
 */
import { z } from "zod";
import { describeFound, suggest } from "./config-text.ts";

export interface Origin {
  readonly source: "default" | "file" | "environment" | "--set" | "--data" | "--workers" | "--listen";
  /** As a person finds it again: `default`, `mantou.yaml:3`, `MANTOU__LOG__LEVEL`, `--set`, `--data`, `--listen`. */
  readonly where: string;
}

export type Path = readonly string[];
type OriginAt = (path: Path) => Origin;

/** The schema's shape: a mapping's keys, a list's element, or a leaf. */
export type Shape =
  | { readonly kind: "mapping"; readonly keys: ReadonlyMap<string, Shape> }
  | { readonly kind: "list"; readonly element: Shape }
  | { readonly kind: "leaf" };

export const pathText = (path: Path): string => path.join(".");

/** Shape and defaults in one walk; a default is `undefined` where the schema has none. */
function readSchema(schema: z.core.$ZodType): { shape: Shape; defaults: unknown } {
  let inner = schema;
  let defaults: unknown;
  while (inner instanceof z.ZodDefault || inner instanceof z.ZodPrefault || inner instanceof z.ZodOptional) {
    if (!(inner instanceof z.ZodOptional)) defaults = inner.def.defaultValue;
    inner = inner.def.innerType;
  }
  if (inner instanceof z.ZodArray)
    return { shape: { kind: "list", element: readSchema(inner.element).shape }, defaults };
  if (!(inner instanceof z.ZodObject)) return { shape: { kind: "leaf" }, defaults };
  const keys = new Map<string, Shape>();
  const values: Record<string, unknown> = {};
  for (const [key, child] of Object.entries(inner.shape as Record<string, z.core.$ZodType>)) {
    const read = readSchema(child);
    keys.set(key, read.shape);
    if (read.defaults !== undefined) values[key] = read.defaults;
  }
  return { shape: { kind: "mapping", keys }, defaults: values };
}

export class ConfigTree {
  readonly root: Record<string, unknown> = {};
  readonly problems: string[] = [];
  readonly #shape: Shape;
  readonly #origins = new Map<string, Origin>();
  /** Elements that stand empty because what was written there has been reported. */
  readonly #broken = new Set<string>();

  constructor(schema: z.core.$ZodType) {
    const { shape, defaults } = readSchema(schema);
    this.#shape = shape;
    this.overlay(defaults, () => ({ source: "default", where: "default" }));
  }

  /** Lays a whole document over the tree. */
  overlay(document: unknown, originAt: OriginAt): void {
    this.#place([], this.#shape, document, originAt);
  }

  /** Sets one path. With `anyCase`, keys are found whatever their case. */
  set(path: Path, value: unknown, origin: Origin, anyCase = false): void {
    let shape = this.#shape;
    const resolved: string[] = [];
    for (const key of path) {
      const next = this.#step(shape, resolved, key, anyCase);
      if (!next) return void this.#reportUnknown([...resolved, key], shape, origin);
      resolved.push(next.key);
      shape = next.shape;
    }
    this.#place(resolved, shape, value, () => origin);
  }

  /** Where the value at `path` comes from, or the nearest thing above it that was written. */
  originOf(path: Path): Origin {
    for (let length = path.length; length > 0; length--) {
      const origin = this.#origins.get(pathText(path.slice(0, length)));
      if (origin) return origin;
    }
    return { source: "default", where: "default" };
  }

  /** Whether `path` lies in something that has been reported already. */
  isBroken(path: Path): boolean {
    return path.some((_, index) => this.#broken.has(pathText(path.slice(0, index + 1))));
  }

  report(origin: Origin, path: Path, words: string): void {
    this.problems.push([origin.where, pathText(path), words].filter((part) => part !== "").join(": "));
  }

  valueAt(path: Path): unknown {
    return path.reduce<unknown>((value, key) => (value as Record<string, unknown> | undefined)?.[key], this.root);
  }

  #step(shape: Shape, above: Path, key: string, anyCase: boolean): { key: string; shape: Shape } | undefined {
    if (shape.kind === "leaf") return undefined;
    if (shape.kind === "list") {
      const count = (this.valueAt(above) as readonly unknown[] | undefined)?.length ?? 0;
      // One past the end adds an element; a gap would leave elements that nobody wrote.
      return /^\d{1,6}$/.test(key) && Number(key) <= count
        ? { key: String(Number(key)), shape: shape.element }
        : undefined;
    }
    const known = anyCase ? shape.keys.keys().find((name) => name.toLowerCase() === key.toLowerCase()) : key;
    const child = known === undefined ? undefined : shape.keys.get(known);
    return child && { key: known!, shape: child };
  }

  #place(path: Path, shape: Shape, value: unknown, originAt: OriginAt): void {
    const origin = originAt(path);
    if (shape.kind === "leaf") return this.#store(path, value, origin);
    if (shape.kind === "list") {
      if (!Array.isArray(value)) return this.report(origin, path, `found ${describeFound(value)}, allowed: a list`);
      this.#forget(path);
      this.#store(path, [], origin);
      value.forEach((element, index) => this.#place([...path, String(index)], shape.element, element, originAt));
      return;
    }
    if (value === null && !/^\d+$/.test(path.at(-1) ?? "")) return; // a section whose keys are all commented out
    if (typeof value !== "object" || value === null || Array.isArray(value)) {
      const allowed = `a mapping with the keys ${[...shape.keys.keys()].join(", ")}`;
      if (this.valueAt(path) === undefined) {
        this.#store(path, {}, origin); // a list has no holes
        this.#broken.add(pathText(path));
      }
      return this.report(origin, path, `found ${describeFound(value)}, allowed: ${allowed}`);
    }
    if (this.valueAt(path) === undefined) this.#store(path, {}, origin);
    for (const [key, child] of Object.entries(value)) {
      const childShape = shape.keys.get(key);
      if (childShape) this.#place([...path, key], childShape, child, originAt);
      else this.#reportUnknown([...path, key], shape, originAt([...path, key]));
    }
  }

  #store(path: Path, value: unknown, origin: Origin): void {
    const above = path.slice(0, -1);
    if (this.valueAt(above) === undefined) this.#store(above, {}, origin);
    (this.valueAt(above) as Record<string, unknown>)[path.at(-1)!] = value;
    this.#origins.set(pathText(path), origin);
  }

  #forget(path: Path): void {
    const prefix = `${pathText(path)}.`;
    for (const key of this.#origins.keys()) if (key.startsWith(prefix)) this.#origins.delete(key);
    for (const key of this.#broken) if (key.startsWith(prefix)) this.#broken.delete(key);
  }

  #reportUnknown(path: Path, shape: Shape, origin: Origin): void {
    if (shape.kind === "leaf") return this.report(origin, path, "found an unknown key, allowed: none below this one");
    if (shape.kind === "list") {
      const count = (this.valueAt(path.slice(0, -1)) as readonly unknown[]).length;
      return this.report(origin, path, `found an unknown element, allowed: a number from 0 to ${count}`);
    }
    const known = [...shape.keys.keys()];
    const meant = suggest(path.at(-1)!, known);
    const hint = meant === undefined ? "" : `; did you mean "${meant}"?`;
    this.report(origin, path, `found an unknown key, allowed: ${known.join(", ")}${hint}`);
  }
}
