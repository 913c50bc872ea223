import { describe, expect, test } from "bun:test";
import { createHash, pbkdf2Sync } from "node:crypto";
import { parseSelfDescribing } from "#access/password-format.ts";
import {
  AUTO_SCHEME,
  isEqualSecret,
  PasswordChecker,
  type PasswordScheme,
  type PasswordVerdict,
  type StoredPassword,
} from "#access/password.ts";

const checker = new PasswordChecker({ memoryKiB: 64, timeCost: 1 });
const check = (password: string, stored: StoredPassword, by = checker): Promise<PasswordVerdict> =>
  new Promise((resolve) => by.check(Buffer.from(password), stored, resolve));

const digest = (algorithm: string, text: string, encoding: "hex" | "base64" = "hex"): string =>
  createHash(algorithm).update(text).digest(encoding);

async function cases(): Promise<[string, StoredPassword][]> {
  const scheme = (more: Partial<PasswordScheme>): PasswordScheme => ({ ...AUTO_SCHEME, ...more });
  const made: [string, StoredPassword][] = [["plain", { hash: "pässword", scheme: scheme({ algorithm: "plain" }) }]];
  for (const algorithm of ["md5", "sha1", "sha256", "sha512"] as const) {
    made.push([algorithm, { hash: digest(algorithm, "pässword"), scheme: scheme({ algorithm }) }]);
    made.push([
      `${algorithm} upper case`,
      { hash: digest(algorithm, "pässword").toUpperCase(), scheme: scheme({ algorithm }) },
    ]);
    const before = scheme({ algorithm, salt: "before" });
    made.push([`salt before ${algorithm}`, { hash: digest(algorithm, "sältpässword"), salt: "sält", scheme: before }]);
    const after = scheme({ algorithm, salt: "after", encoding: "base64" });
    made.push([
      `salt after ${algorithm}`,
      { hash: digest(algorithm, "pässwordsält", "base64"), salt: "sält", scheme: after },
    ]);
  }
  const key = pbkdf2Sync("pässword", "sält", 10, 32, "sha256").toString("hex");
  made.push(["pbkdf2", { hash: key, salt: "sält", scheme: scheme({ algorithm: "pbkdf2", iterations: 10 }) }]);
  const bcrypt = await Bun.password.hash("pässword", { algorithm: "bcrypt", cost: 4 });
  const argon2 = await Bun.password.hash("pässword", { algorithm: "argon2id", memoryCost: 64, timeCost: 1 });
  made.push(["bcrypt", { hash: bcrypt, scheme: scheme({ algorithm: "bcrypt" }) }]);
  made.push(["bcrypt 2y", { hash: bcrypt.replace("$2b$", "$2y$"), scheme: AUTO_SCHEME }]);
  made.push(["argon2id", { hash: argon2, scheme: scheme({ algorithm: "argon2id" }) }]);
  made.push(["argon2id by itself", { hash: argon2, scheme: AUTO_SCHEME }]);
  const salt = Buffer.from("0123456789ab");
  const six = createHash("sha512").update("pässword").update(salt).digest("base64");
  made.push(["mosquitto $6$", { hash: `$6$${salt.toString("base64")}$${six}`, scheme: AUTO_SCHEME }]);
  const seven = pbkdf2Sync("pässword", salt, 101, 64, "sha512").toString("base64");
  made.push(["mosquitto $7$", { hash: `$7$101$${salt.toString("base64")}$${seven}`, scheme: AUTO_SCHEME }]);
  return made;
}

for (const [name, stored] of await cases())
  test(`${name}: the password matches, others do not`, async () => {
    expect(await check("pässword", stored)).toBe("match");
    for (const other of ["", "pässwor", "pässword ", "Pässword", "p", `${stored.hash}x`])
      expect(await check(other, stored)).toBe("mismatch");
    if (stored.salt !== undefined) expect(await check("pässword", { ...stored, salt: "salt" })).toBe("mismatch");
  });

test("what cannot be what the scheme says is malformed, never a match", async () => {
  for (const algorithm of ["md5", "sha1", "sha256", "sha512", "pbkdf2", "bcrypt", "argon2id", "auto"] as const)
    for (const hash of ["", "x", "zz", "abc", "$2b$", "$argon2id$x", "$6$a$b", "$7$0$YQ==$YQ==", "abcd"]) {
      const verdict = await check("", { hash, scheme: { ...AUTO_SCHEME, algorithm } });
      expect({ algorithm, hash, verdict }).toEqual({ algorithm, hash, verdict: "malformed" });
    }
});

test("a stored text says what it is, or nothing", () => {
  const key = Buffer.alloc(64).toString("base64");
  expect(parseSelfDescribing(`$6$YQ==$${key}`)).toMatchObject({ kind: "digest" });
  for (const text of [
    "",
    "plain",
    "$6$YQ==$YQ==",
    `$6$$${key}`,
    `$7$x$YQ==$${key}`,
    `$7$99999999$YQ==$${key}`,
    `$5$YQ==$${key}`,
  ])
    expect(parseSelfDescribing(text)).toBeUndefined();
});

test("equal secrets of any length are equal", () => {
  expect(isEqualSecret(Buffer.from("a"), Buffer.from("a"))).toBe(true);
  for (const other of ["", "b", "ab"]) expect(isEqualSecret(Buffer.from("a"), Buffer.from(other))).toBe(false);
});

describe("the queue", () => {
  test("lets so many wait, tells the rest at once that it is busy, and goes on", async () => {
    const small = new PasswordChecker({ runningMax: 1, waitingMax: 2, memoryKiB: 64, timeCost: 1 });
    const hash = await new Promise<string | undefined>((resolve) => small.hash(Buffer.from("p"), resolve));
    const stored = { hash: hash!, scheme: AUTO_SCHEME };
    const verdicts: PasswordVerdict[] = [];
    const all = Array.from({ length: 5 }, (_, i) =>
      check(i === 1 ? "q" : "p", stored, small).then((verdict) => void verdicts.push(verdict)),
    );
    expect(small.waitingCount).toBe(2);
    expect(small.counts.busy).toBe(2);
    await Promise.all(all);
    expect(verdicts.toSorted()).toEqual(["busy", "busy", "match", "match", "mismatch"]);
    expect(await check("p", stored, small)).toBe("match");
    expect(small.waitingCount).toBe(0);
  });

  test("who has waited for too long is told busy, and those who came later get in", async () => {
    let nowMs = 0;
    const limits = { runningMax: 1, waitingMsMax: 5000, memoryKiB: 64, timeCost: 1, nowMs: () => nowMs };
    const small = new PasswordChecker(limits);
    const hash = await new Promise<string | undefined>((resolve) => small.hash(Buffer.from("p"), resolve));
    const stored = { hash: hash!, scheme: AUTO_SCHEME };
    const first = check("p", stored, small);
    const late = check("p", stored, small);
    nowMs = 5001;
    const last = check("p", stored, small);
    expect(await Promise.all([first, late, last])).toEqual(["match", "busy", "match"]);
    expect([small.counts.busy, small.waitingCount]).toEqual([1, 0]);
  });

  test("digests never wait in it", async () => {
    const none = new PasswordChecker({ runningMax: 0, waitingMax: 0 });
    const scheme: PasswordScheme = { ...AUTO_SCHEME, algorithm: "sha256" };
    expect(await check("p", { hash: digest("sha256", "p"), scheme }, none)).toBe("match");
  });

  test("slow hashes leave the loop free", async () => {
    const hash = await Bun.password.hash("p", { algorithm: "argon2id", memoryCost: 8192, timeCost: 4 });
    let turns = 0;
    const timer = setInterval(() => turns++, 0);
    await check("p", { hash, scheme: AUTO_SCHEME });
    clearInterval(timer);
    expect(turns).toBeGreaterThan(0);
  });
});
