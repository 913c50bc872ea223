/**
 * Stored passwords that say how they were made.
 *
 *   $argon2id$v=19$m=…,t=…,p=…$salt$key     argon2 (also argon2i, argon2d)
 *   $2b$10$…                                bcrypt (also 2a, 2y)
 *   $6$salt$key                             mosquitto: sha512(password + salt), base64; not crypt(3)'s $6$
 *   $7$iterations$salt$key                  mosquitto: pbkdf2 with sha512, base64
 */
export type Digest = "md5" | "sha1" | "sha256" | "sha512";

export type SelfDescribing =
  | { readonly kind: "argon2" | "bcrypt" }
  | { readonly kind: "digest"; readonly digest: Digest; readonly salt: Buffer; readonly key: Buffer }
  | {
      readonly kind: "pbkdf2";
      readonly digest: Digest;
      readonly iterations: number;
      readonly salt: Buffer;
      readonly key: Buffer;
    };

const BASE64 = /^[A-Za-z0-9+/]+={0,2}$/;
const SHA512_BYTES = 64;
/** A stored text is the operator's, but a slip of the key must not cost an hour a login. */
const ITERATIONS_MAX = 10_000_000;

export function parseSelfDescribing(text: string): SelfDescribing | undefined {
  if (/^\$argon2(id|i|d)\$v=\d+\$m=\d+,t=\d+,p=\d+\$[A-Za-z0-9+/]+\$[A-Za-z0-9+/]+$/.test(text))
    return { kind: "argon2" };
  if (/^\$2[aby]\$\d\d\$[./A-Za-z0-9]{53}$/.test(text)) return { kind: "bcrypt" };
  const parts = text.split("$");
  if (parts[0] !== "") return undefined;
  const [salt, key] = parts.slice(-2);
  if (!BASE64.test(salt ?? "") || !BASE64.test(key ?? "")) return undefined;
  const bytes = { salt: Buffer.from(salt, "base64"), key: Buffer.from(key, "base64") };
  if (parts[1] === "6" && parts.length === 4 && bytes.key.length === SHA512_BYTES)
    return { kind: "digest", digest: "sha512", ...bytes };
  const iterations = /^\d{1,8}$/.test(parts[2]) ? Number(parts[2]) : 0;
  if (parts[1] !== "7" || parts.length !== 5 || iterations < 1 || iterations > ITERATIONS_MAX) return undefined;
  if (bytes.key.length !== SHA512_BYTES) return undefined;
  return { kind: "pbkdf2", digest: "sha512", iterations, ...bytes };
}
