/**
 * SCRAM (RFC 5802, RFC 7677), the server's side, for MQTT 5 enhanced authentication: the client proves that it knows the
 * password without sending it, and the broker that it knows the client's keys.
 *
 *   CONNECT  n,,n=user,r=CLIENT                  ─►
 *                                                ◄─  AUTH     r=CLIENT+SERVER,s=salt,i=iterations
 *   AUTH     c=biws,r=CLIENT+SERVER,p=proof      ─►
 *                                                ◄─  CONNACK  v=signature
 *
 * Neither channel binding nor another authorization identity. An unknown user is asked on with a made-up salt that is the
 * same each time, in every process and after a restart, and refused at the end, so that nobody learns who exists. A login costs a few HMACs.
 */
import { createHash, createHmac, pbkdf2, randomBytes, timingSafeEqual } from "node:crypto";
import type { ScramRow } from "./access-db.ts";

export const SCRAM_MECHANISMS = ["SCRAM-SHA-256", "SCRAM-SHA-512"] as const;

const MESSAGE_BYTES_MAX = 4096;
const SALT_BYTES = 16;
const ITERATIONS = 15_000;

type Digest = "sha256" | "sha512";
const digestOf = (mechanism: string): Digest => (mechanism === "SCRAM-SHA-512" ? "sha512" : "sha256");
const hmac = (digest: Digest, key: Buffer, text: string | Buffer): Buffer =>
  createHmac(digest, key).update(text).digest();
const hash = (digest: Digest, bytes: Buffer): Buffer => createHash(digest).update(bytes).digest();

/** Between the two messages of a client. */
export interface ScramState {
  readonly username: string;
  /** `n,,` or `y,,` with the rest: what `c=` must repeat. */
  readonly header: string;
  readonly nonce: string;
  /** client-first-bare,server-first: the beginning of what is signed. */
  readonly signed: string;
  readonly keys: ScramRow;
  readonly isKnown: boolean;
}

export interface ScramUsers {
  keysOf(username: string): ScramRow | undefined;
  /** What the salts of unknown users are made of: known users' stay the same too. */
  readonly secret: Buffer;
}

/** Takes the first message. Undefined when it is malformed or asks for what is not there. */
export function beginScram(
  data: Buffer | undefined,
  mechanism: string,
  users: ScramUsers,
): { readonly state: ScramState; readonly reply: Buffer } | undefined {
  const text = textOf(data);
  const [, header, authzid, bare, rawName, clientNonce] =
    /^([ny],(?:a=([^,]*))?,)(n=([^,]+),r=([\x21-\x2b\x2d-\x7e]+)(?:,.*)?)$/s.exec(text) ?? [];
  if (bare === undefined) return undefined;
  const username = nameOf(rawName);
  if (username === undefined || username === "") return undefined;
  if (authzid !== undefined && authzid !== "" && nameOf(authzid) !== username) return undefined;
  const known = users.keysOf(username);
  const keys = known ?? unknownKeys(username, mechanism, users.secret);
  const nonce = clientNonce + randomBytes(18).toString("base64");
  const reply = `r=${nonce},s=${keys.salt.toString("base64")},i=${keys.iterations}`;
  const state = { username, header, nonce, signed: `${bare},${reply}`, keys, isKnown: known !== undefined };
  return { state, reply: Buffer.from(reply) };
}

/** Takes the second message. The server's signature when the proof is right. */
export function finishScram(data: Buffer | undefined, mechanism: string, state: ScramState): Buffer | undefined {
  const digest = digestOf(mechanism);
  const text = textOf(data);
  const [, withoutProof, binding, nonce, proofText] =
    /^(c=([A-Za-z0-9+/=]+),r=([^,]+)(?:,(?!p=)[^,]*)*),p=([A-Za-z0-9+/]+={0,2})$/s.exec(text) ?? [];
  if (withoutProof === undefined || nonce !== state.nonce) return undefined;
  if (Buffer.from(binding, "base64").toString() !== state.header) return undefined;
  const signed = `${state.signed},${withoutProof}`;
  const signature = hmac(digest, state.keys.storedKey, signed);
  const proof = Buffer.from(proofText, "base64");
  if (proof.length !== signature.length) return undefined;
  const clientKey = Buffer.from(proof.map((byte, i) => byte ^ signature[i]));
  const isProven = timingSafeEqual(hash(digest, clientKey), state.keys.storedKey);
  if (!isProven || !state.isKnown) return undefined;
  return Buffer.from(`v=${hmac(digest, state.keys.serverKey, signed).toString("base64")}`);
}

/** The keys of a password, for each mechanism; off the loop. */
export function makeScramKeys(password: Buffer, iterations = ITERATIONS): Promise<ScramRow[]> {
  const normal = password.toString("utf8").normalize("NFKC");
  return Promise.all(
    SCRAM_MECHANISMS.map(async (mechanism) => {
      const digest = digestOf(mechanism);
      const salt = randomBytes(SALT_BYTES);
      const salted = await derive(normal, salt, iterations, digest);
      const storedKey = hash(digest, hmac(digest, salted, "Client Key"));
      return { mechanism, salt, iterations, storedKey, serverKey: hmac(digest, salted, "Server Key") };
    }),
  );
}

function derive(password: string, salt: Buffer, iterations: number, digest: Digest): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    pbkdf2(password, salt, iterations, digest === "sha256" ? 32 : 64, digest, (error, key) => {
      if (error) reject(error);
      else resolve(key);
    });
  });
}

function unknownKeys(username: string, mechanism: string, secret: Buffer): ScramRow {
  const digest = digestOf(mechanism);
  const made = (what: string): Buffer => hmac(digest, secret, `${what} ${mechanism} ${username}`);
  const salt = made("salt").subarray(0, SALT_BYTES);
  return { mechanism, salt, iterations: ITERATIONS, storedKey: made("stored"), serverKey: made("server") };
}

function textOf(data: Buffer | undefined): string {
  return data === undefined || data.length > MESSAGE_BYTES_MAX ? "" : data.toString("utf8");
}

/** `=2C` and `=3D` stand for comma and equals sign; any other `=` is a fault. */
function nameOf(raw: string): string | undefined {
  const name = raw.replaceAll("=2C", ",").replaceAll("=3D", "\u0000");
  return name.includes("=") ? undefined : name.replaceAll("\u0000", "=");
}
