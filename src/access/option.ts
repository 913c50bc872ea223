/**
 * Options of backends: leaves of their zod schemas. As everywhere in the configuration, a leaf's error message is the list
 * of what is allowed. A key that ends in `Sec` or `Bytes` may carry a unit; that is read before the schema sees it. Leaves
 * check and do not convert (but for `secret`), so that the configuration can be shown as it was written: `make` converts.
 */
import { z } from "zod";
import { parseRange } from "./address.ts";
import { Secret } from "./secret.ts";
import { isTemplate, parseTemplate } from "./template.ts";

export function wholeNumber(min: number, max: number, description: string) {
  const error = `a whole number from ${min} to ${max}`;
  return z.int({ error }).min(min, { error }).max(max, { error }).meta({ description });
}

export function choice<const T extends readonly [string, ...string[]]>(choices: T, description: string) {
  return z.enum(choices, { error: `one of ${choices.join(", ")}` }).meta({ description });
}

export function flag(description: string) {
  return z.boolean({ error: "true or false" }).meta({ description });
}

/** Not empty. */
export function text(description: string) {
  const error = "a text that is not empty";
  return z.string({ error }).min(1, { error }).meta({ description });
}

/** A secret in the text itself, or where to find it: `env:NAME`, `file:PATH`. Shown nowhere. */
export function secret(description: string) {
  const error = "a text that is not empty, env:NAME or file:PATH";
  return z
    .string({ error })
    .min(1, { error })
    .transform((value) => new Secret(value))
    .meta({ description });
}

/** A text with variables: `templateOf` it. */
export function template(description: string) {
  const error = "a text with variables, such as %u, %c, %a, ${username}, ${clientid}, ${address}";
  return z
    .string({ error })
    .min(1, { error })
    .refine((value) => isTemplate(parseTemplate(value)), { error })
    .meta({ description });
}

/** Addresses and ranges: `rangesOf` them. */
export function ranges(description: string) {
  const error = "addresses or ranges, such as 10.0.0.0/8, 192.168.1.7, 2001:db8::/32";
  const range = z.string({ error }).refine((value) => parseRange(value) !== undefined, { error });
  return z.array(range, { error: `a list of ${error}` }).meta({ description });
}

/** How a stored password was made: `password` of a backend that reads hashes. */
export function passwordScheme() {
  const digests = ["md5", "sha1", "sha256", "sha512"] as const;
  return z
    .strictObject({
      algorithm: choice(
        ["auto", "plain", ...digests, "pbkdf2", "bcrypt", "argon2id"],
        "how the stored hash was made; auto: the hash says so itself ($argon2id$, $2b$, $6$, $7$)",
      ).default("auto"),
      salt: choice(["none", "before", "after"], "digests only: where the salt stands").default("none"),
      encoding: choice(["hex", "base64"], "digests and pbkdf2: how the hash is written").default("hex"),
      iterations: wholeNumber(1, 10_000_000, "pbkdf2 only").default(100_000),
      digest: choice(digests, "pbkdf2 only").default("sha256"),
    })
    .prefault({});
}

/** `guard` of a backend that asks a server: limits of `RemoteGuard`. */
export function guardOptions() {
  return z
    .strictObject({
      deadlineMs: wholeNumber(10, 600_000, "an answer that takes longer counts as none").default(5000),
      runningMax: wholeNumber(1, 10_000, "requests to the server at a time").default(16),
      waitingMax: wholeNumber(0, 1_000_000, "requests that wait for one of these; beyond: Server busy").default(2000),
      failureCountMax: wholeNumber(1, 1000, "failures in a row after which the server is left alone").default(5),
      openMs: wholeNumber(10, 3_600_000, "for how long, before it is tried again").default(2000),
      cacheCountMax: wholeNumber(0, 10_000_000, "answers kept").default(10_000),
      cacheSec: wholeNumber(0, 86_400, "for how long an answer is kept; 0: not at all").default(0),
      staleSec: wholeNumber(0, 86_400 * 30, "how much longer it serves while the server fails; 0: never").default(0),
    })
    .prefault({});
}
