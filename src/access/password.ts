/**
 * Is this the password? Digests are computed at once, what is slow on purpose waits in a bounded queue for the thread pool.
 *
 *   plain md5 sha1 sha256 sha512          ─► at once (about a microsecond)
 *   pbkdf2 bcrypt argon2id  ─► [ waiting, at most waitingMax ] ─► at most runningMax at a time, off the loop
 *                               └─ full, or waited for longer than waitingMsMax: "busy", the client is told Server busy
 *
 * Comparisons take the same time wherever the first difference is. The formats stand in `password-format.ts`.
 */
import { createHash, pbkdf2, randomBytes, timingSafeEqual } from "node:crypto";
import { availableParallelism } from "node:os";
import { type Digest, parseSelfDescribing } from "./password-format.ts";

export interface PasswordScheme {
  /** `auto`: the stored text says how it was made ($argon2id$, $2b$, $6$, $7$). */
  readonly algorithm: "auto" | "plain" | Digest | "pbkdf2" | "bcrypt" | "argon2id";
  /** Where the salt stands, for digests: digest(salt + password) is `before`. */
  readonly salt: "none" | "before" | "after";
  /** How hash and pbkdf2's key are written. Upper and lower case hexadecimal digits are equal. */
  readonly encoding: "hex" | "base64";
  /** pbkdf2 only. */
  readonly iterations: number;
  readonly digest: Digest;
}

export interface StoredPassword {
  readonly hash: string;
  /** Undefined or empty: none. Its UTF-8 bytes are used as they are. */
  readonly salt?: string | undefined;
  readonly scheme: PasswordScheme;
}

/** `malformed`: what is stored cannot be what the scheme says; the operator's fault, never a match. */
export type PasswordVerdict = "match" | "mismatch" | "busy" | "malformed";

export const AUTO_SCHEME: PasswordScheme = {
  algorithm: "auto",
  salt: "none",
  encoding: "hex",
  iterations: 1,
  digest: "sha256",
};

/** What to compare an unknown user's password with; undefined where nobody has one. */
export function decoyOf(hash: string | undefined, scheme = AUTO_SCHEME): StoredPassword | undefined {
  return hash === undefined ? undefined : { hash, scheme };
}

export interface PasswordQueueOptions {
  /** Slow hashes computed at the same time; default: one less than there are cores, at least one. */
  readonly runningMax?: number;
  /** Slow hashes that may wait; beyond: busy. */
  readonly waitingMax?: number;
  /**
   * One that has waited for longer is not computed any more: busy. Less than `mqtt.connectTimeoutSec` and than clients
   * wait for, or a full queue holds only those who have left, and nobody ever comes in.
   */
  readonly waitingMsMax?: number;
  /** Monotonic milliseconds; for tests. */
  readonly nowMs?: () => number;
  /** For passwords that are stored from now on; argon2id. */
  readonly memoryKiB?: number;
  readonly timeCost?: number;
}

/** A pbkdf2 key that was cut off would match too much. */
const KEY_BYTES_MIN = 16;

const REFUSED_PER_TURN = 50;

type Slow = () => Promise<boolean>;

interface Waiting {
  readonly sinceMs: number;
  readonly run: () => void;
  readonly refuse: () => void;
}

export class PasswordChecker {
  readonly counts = { checked: 0, busy: 0, malformed: 0 };
  waitingMax: number;
  private readonly runningMax: number;
  private readonly cost: { memoryCost: number; timeCost: number };
  private readonly waitingMsMax: number;
  private readonly nowMs: () => number;
  private readonly waiting: Waiting[] = [];
  private running = 0;

  constructor(options: PasswordQueueOptions = {}) {
    this.runningMax = options.runningMax ?? Math.max(1, availableParallelism() - 1);
    this.waitingMax = options.waitingMax ?? 1024;
    this.waitingMsMax = options.waitingMsMax ?? 5000;
    this.nowMs = options.nowMs ?? (() => performance.now());
    this.cost = { memoryCost: options.memoryKiB ?? 19_456, timeCost: options.timeCost ?? 2 };
  }

  get waitingCount(): number {
    return this.waiting.length;
  }

  /** The bytes of `password` must stay until `done` is called: at once for digests, later for what is slow. */
  check(password: Buffer, stored: StoredPassword, done: (verdict: PasswordVerdict) => void): void {
    this.counts.checked++;
    const test = testOf(password, stored);
    if (test === undefined) {
      this.counts.malformed++;
      return done("malformed");
    }
    if (typeof test === "boolean") return done(test ? "match" : "mismatch");
    this.enqueue(
      () => {
        test().then(
          (isMatch) => this.leave(() => done(isMatch ? "match" : "mismatch")),
          () => {
            this.counts.malformed++;
            this.leave(() => done("malformed"));
          },
        );
      },
      () => done("busy"),
    );
  }

  /** An argon2id text to store; undefined when the queue is full. An empty password is refused by the caller. */
  hash(password: Buffer, done: (text: string | undefined) => void): void {
    this.enqueue(
      () => {
        Bun.password.hash(password, { algorithm: "argon2id", ...this.cost }).then(
          (text) => this.leave(() => done(text)),
          () => this.leave(() => done(undefined)),
        );
      },
      () => done(undefined),
    );
  }

  private enqueue(run: () => void, refuse: () => void): void {
    if (this.running < this.runningMax) {
      this.running++;
      run();
    } else if (this.waiting.length < this.waitingMax) {
      this.waiting.push({ sinceMs: this.nowMs(), run, refuse });
    } else {
      this.counts.busy++;
      refuse();
    }
  }

  /** One has ended: the next begins before the answer is given, which may ask again. */
  private leave(answer: () => void): void {
    const late: Waiting[] = [];
    let next = this.waiting.shift();
    for (const nowMs = this.nowMs(); next && nowMs - next.sinceMs > this.waitingMsMax; next = this.waiting.shift())
      late.push(next);
    if (next) next.run();
    else this.running--;
    answer();
    this.refuseLate(late);
  }

  /** A few in a turn: a thousand refusals at once would hold the loop. */
  private refuseLate(late: Waiting[]): void {
    const some = late.splice(0, REFUSED_PER_TURN);
    this.counts.busy += some.length;
    for (const { refuse } of some) refuse();
    if (late.length > 0) setImmediate(() => this.refuseLate(late));
  }
}

/** The answer where it is cheap, the work where it is not, undefined where the stored text makes no sense. */
function testOf(password: Buffer, { hash, salt = "", scheme }: StoredPassword): boolean | Slow | undefined {
  switch (scheme.algorithm) {
    case "auto":
      return testSelfDescribing(password, hash);
    case "plain":
      return isEqualSecret(password, Buffer.from(hash));
    case "bcrypt":
      return parseSelfDescribing(hash)?.kind === "bcrypt" ? () => Bun.password.verify(password, hash) : undefined;
    case "argon2id":
      return parseSelfDescribing(hash)?.kind === "argon2" ? () => Bun.password.verify(password, hash) : undefined;
    case "pbkdf2": {
      const key = decode(hash, scheme.encoding);
      if (key === undefined || key.length < KEY_BYTES_MIN) return undefined;
      return () => isPbkdf2({ ...scheme, password, salt: Buffer.from(salt), key });
    }
    default: {
      const expected = decode(hash, scheme.encoding);
      const bytes = Buffer.from(scheme.salt === "none" ? "" : salt);
      const parts = scheme.salt === "before" ? [bytes, password] : [password, bytes];
      const found = digestOf(scheme.algorithm, parts);
      if (expected?.length !== found.length) return undefined;
      return timingSafeEqual(found, expected);
    }
  }
}

function testSelfDescribing(password: Buffer, text: string): boolean | Slow | undefined {
  const parsed = parseSelfDescribing(text);
  if (!parsed) return undefined;
  switch (parsed.kind) {
    case "argon2":
    case "bcrypt":
      return () => Bun.password.verify(password, text);
    case "pbkdf2":
      return () => isPbkdf2({ password, ...parsed });
    case "digest": {
      const found = digestOf(parsed.digest, [password, parsed.salt]);
      return found.length === parsed.key.length ? timingSafeEqual(found, parsed.key) : undefined;
    }
  }
}

interface Pbkdf2 {
  readonly password: Buffer;
  readonly salt: Buffer;
  readonly key: Buffer;
  readonly iterations: number;
  readonly digest: Digest;
}

function isPbkdf2({ password, salt, key, iterations, digest }: Pbkdf2): Promise<boolean> {
  return new Promise((resolve, reject) => {
    pbkdf2(password, salt, iterations, key.length, digest, (error, found) => {
      if (error) reject(error);
      else resolve(timingSafeEqual(found, key));
    });
  });
}

function digestOf(digest: Digest, parts: readonly Buffer[]): Buffer {
  const hash = createHash(digest);
  for (const part of parts) hash.update(part);
  return hash.digest();
}

function decode(text: string, encoding: "hex" | "base64"): Buffer | undefined {
  const trimmed = text.trim();
  if (encoding === "hex") return /^([0-9a-fA-F]{2})+$/.test(trimmed) ? Buffer.from(trimmed, "hex") : undefined;
  return /^[A-Za-z0-9+/]+={0,2}$/.test(trimmed) ? Buffer.from(trimmed, "base64") : undefined;
}

const comparisonKey = randomBytes(32);

/** Equal secrets of any length, in a time that does not tell where they differ. */
export function isEqualSecret(a: Buffer, b: Buffer): boolean {
  return timingSafeEqual(digestOf("sha256", [comparisonKey, a]), digestOf("sha256", [comparisonKey, b]));
}
