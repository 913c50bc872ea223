/** A token in place of a password. What is no token is ignored; a token that does not hold is refused. */
import { readFileSync } from "node:fs";
import { resolve } from "node:path";
import { z } from "zod";
import {
  type AuthenticateAnswer,
  type Backend,
  type BackendParts,
  backendKind,
  IGNORE,
  UNAVAILABLE,
} from "#access/backend.ts";
import {
  type Algorithm,
  HMAC_ALGORITHMS,
  type JwtResult,
  JwtVerifier,
  KEY_ALGORITHMS,
  type KeySource,
} from "#access/jwt.ts";
import { choice, flag, guardOptions, secret, text, wholeNumber } from "#access/option.ts";
import type { GuardOptions } from "#access/remote-guard.ts";
import { SERVER_BUSY } from "#access/reason.ts";
import type { Secret } from "#access/secret.ts";
import { MantouError } from "#base/error.ts";

/** Where the keys come from; for every backend that takes tokens. */
export const keyOptions = {
  algorithms: z
    .array(choice([...HMAC_ALGORITHMS, ...KEY_ALGORITHMS], "an algorithm"), { error: "a list of algorithms" })
    .min(1, { error: "at least one algorithm" })
    .meta({ description: "algorithms that are taken: either HS… with a secret, or others with public keys" }),
  secret: secret("HS…: the shared secret, at least 32 bytes").optional(),
  secretEncoding: choice(["text", "base64"], "how the secret is written").default("text"),
  publicKeyFile: text("path of a public key in PEM").optional(),
  jwksUrl: text("where the issuer's key set is read").optional(),
  caFile: text("jwksUrl: PEM: who may have signed its server's certificate; unset: whom the system trusts").optional(),
  refreshSec: wholeNumber(10, 86_400, "how often it is read again").default(300),
  guard: guardOptions(),
  issuer: text("what iss must be").optional(),
  audience: text("what aud must have in it").optional(),
  isExpiryRequired: flag("a token without exp is refused").default(false),
  usernameClaim: text("the claim that becomes the user name; unset: CONNECT's stays").optional(),
  superuserClaim: text("the claim that, when true, makes a super user; unset: nobody").optional(),
  aclClaim: text("the claim that holds the client's own rules").default("acl"),
  subscribeClaim: text("the claim that holds what it is subscribed to as it comes in; unset: nothing").optional(),
};

const keyOptionsSchema = z.strictObject(keyOptions);
export type KeyOptions = z.output<typeof keyOptionsSchema>;

const SECRET_BYTES_MIN = 32;

export const jwt = backendKind({
  type: "jwt",
  roles: ["authenticate"],
  options: z.strictObject({
    ...keyOptions,
    clientIdClaim: text("the claim that the client id must equal; unset: any client id").optional(),
  }),
  make(options, parts): Backend {
    const verifier = makeVerifier(options, parts);
    const { clientIdClaim } = options;
    return {
      name: parts.name,
      mayGrant: true,
      check: async () => verifier.load(),
      start: () => verifier.start(),
      stop: async () => verifier.stop(),
      health: () => verifier.health(),
      authenticate({ client, password }, answer) {
        const token = password?.toString("latin1");
        if (token === undefined || !isToken(token)) return answer(IGNORE);
        verifier.verify(token, (result) => {
          const isOther =
            result.kind === "granted" &&
            clientIdClaim !== undefined &&
            result.claims[clientIdClaim] !== client.clientId;
          answer(isOther ? { verdict: "deny" } : answerOfToken(result));
        });
      },
    };
  },
});

/** Three parts, as only a signed token has them. */
export function isToken(text: string): boolean {
  return /^[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+$/.test(text);
}

export function answerOfToken(result: JwtResult): AuthenticateAnswer {
  switch (result.kind) {
    case "granted":
      return { verdict: "allow", grant: result.grant };
    case "refused":
      return { verdict: "deny", reasonString: result.reason };
    case "busy":
      return { verdict: "deny", code: SERVER_BUSY };
    case "unavailable":
      return UNAVAILABLE;
  }
}

/** Throws MantouError `access_invalid` when the options do not say one source of keys that fits the algorithms. */
export function makeVerifier(options: KeyOptions, { name, baseDir, nowSec, log }: BackendParts): JwtVerifier {
  const { secret: word, publicKeyFile, jwksUrl, algorithms } = options;
  const fault = (words: string): MantouError => new MantouError("access_invalid", `access: ${name}: ${words}`);
  const given = [word, publicKeyFile, jwksUrl].filter((source) => source !== undefined).length;
  if (given !== 1) throw fault(`found ${given} of secret, publicKeyFile and jwksUrl, allowed: one`);
  const isHmac = (algorithm: Algorithm): boolean => (HMAC_ALGORITHMS as readonly string[]).includes(algorithm);
  if (word !== undefined ? !algorithms.every(isHmac) : algorithms.some(isHmac))
    throw fault(`algorithms: found ${algorithms.join(", ")}, allowed: HS… with a secret, others with public keys`);
  return new JwtVerifier({ ...options, key: keySource(options, baseDir, fault), nowSec }, log);
}

function keySource(options: KeyOptions, baseDir: string, fault: (words: string) => MantouError): KeySource {
  const { secret: word, secretEncoding, publicKeyFile, jwksUrl, caFile, refreshSec, guard } = options;
  const read = (key: string, file: string): string => {
    const path = resolve(baseDir, file);
    try {
      return readFileSync(path, "utf8");
    } catch (error) {
      throw fault(`${key}: ${path}: ${(error as NodeJS.ErrnoException).code}`);
    }
  };
  if (caFile !== undefined && jwksUrl === undefined) throw fault("found caFile, allowed: with jwksUrl");
  if (word !== undefined) return { kind: "secret", secret: secretBytes(word, secretEncoding, fault) };
  if (publicKeyFile !== undefined) return { kind: "public", pem: read("publicKeyFile", publicKeyFile) };
  const ca = caFile === undefined ? undefined : read("caFile", caFile);
  return { kind: "jwks", url: jwksUrl!, ca, refreshSec, guard: guard satisfies GuardOptions };
}

function secretBytes(word: Secret, encoding: "text" | "base64", fault: (words: string) => MantouError): Buffer {
  const bytes = Buffer.from(word.reveal(), encoding === "text" ? "utf8" : "base64");
  if (bytes.length < SECRET_BYTES_MIN)
    throw fault(`secret: found ${bytes.length} bytes, allowed: ${SECRET_BYTES_MIN} or more`);
  return bytes;
}
