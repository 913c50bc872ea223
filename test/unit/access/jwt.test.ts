import { afterEach, describe, expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { exportJWK, exportSPKI, generateKeyPair, SignJWT } from "jose";
import { type AclRule, decideByRules } from "#access/acl-rule.ts";
import { jwt } from "#access/backends/jwt.ts";
import { type JwtOptions, type JwtResult, JwtVerifier, rulesOfClaim } from "#access/jwt.ts";
import { askAuthenticate, attemptOf, fixture, knownClient } from "#test/contract/backend-contract.ts";
import { pem } from "#test/unit/transport/listening.ts";

const NOW_SEC = 1_700_000_000;
const guard = {
  deadlineMs: 10_000,
  runningMax: 2,
  waitingMax: 10,
  failureCountMax: 100,
  openMs: 10,
  cacheCountMax: 0,
  cacheSec: 0,
  staleSec: 0,
};
const log = { info: () => {}, warn: () => {} };
const ends: (() => void)[] = [];
afterEach(() => {
  for (const end of ends.splice(0)) end();
});

async function verifierOf(options: Pick<JwtOptions, "algorithms" | "key"> & Partial<JwtOptions>): Promise<JwtVerifier> {
  const verifier = new JwtVerifier(
    { isExpiryRequired: false, aclClaim: "acl", nowSec: () => NOW_SEC, refreshMsMin: -1, ...options },
    log,
  );
  ends.push(() => verifier.stop());
  await verifier.start();
  return verifier;
}

const verify = (verifier: JwtVerifier, token: string): Promise<JwtResult> =>
  new Promise((resolve) => verifier.verify(token, resolve));
const kindOf = async (verifier: JwtVerifier, token: string): Promise<string> => (await verify(verifier, token)).kind;

describe("public keys", () => {
  for (const alg of ["RS256", "RS512", "PS256", "ES256", "EdDSA"] as const)
    test(`${alg}: the key's own signature, and no other`, async () => {
      const [pair, other] = [await generateKeyPair(alg, { extractable: true }), await generateKeyPair(alg)];
      const pem = await exportSPKI(pair.publicKey);
      const verifier = await verifierOf({ algorithms: [alg], key: { kind: "public", pem } });
      const sign = (key: CryptoKey): Promise<string> => new SignJWT({}).setProtectedHeader({ alg }).sign(key);
      const token = await sign(pair.privateKey);
      expect(await kindOf(verifier, token)).toBe("granted");
      expect(await kindOf(verifier, await sign(other.privateKey))).toBe("refused");
      const [head, , end] = token.split(".");
      expect(await kindOf(verifier, `${head}.${Buffer.from('{"sub":"root"}').toString("base64url")}.${end}`)).toBe(
        "refused",
      );
      // The public key is no secret: it must not serve as one.
      const forged = await new SignJWT({}).setProtectedHeader({ alg: "HS256" }).sign(Buffer.from(pem));
      expect(await kindOf(verifier, forged)).toBe("refused");
    });

  test("what is no key stops the start", () => {
    expect(verifierOf({ algorithms: ["RS256"], key: { kind: "public", pem: "x" } })).rejects.toThrow(/no public key/);
  });
});

test("a key set is read, read again for an unknown key id, and kept while it cannot be read", async () => {
  const [first, second] = [await generateKeyPair("ES256"), await generateKeyPair("ES256")];
  const jwk = async (key: CryptoKey, kid: string) => ({ ...(await exportJWK(key)), kid, alg: "ES256" });
  let keys = [await jwk(first.publicKey, "1")];
  let status = 500;
  let reads = 0;
  const server = Bun.serve({
    port: 0,
    hostname: "127.0.0.1",
    fetch: () => {
      reads++;
      return status === 200 ? Response.json({ keys }) : new Response("no", { status });
    },
  });
  ends.push(() => void server.stop(true));
  const url = `http://127.0.0.1:${server.port}/keys`;
  const verifier = await verifierOf({ algorithms: ["ES256"], key: { kind: "jwks", url, refreshSec: 3600, guard } });
  const sign = (key: CryptoKey, kid: string): Promise<string> =>
    new SignJWT({}).setProtectedHeader({ alg: "ES256", kid }).sign(key);
  const [one, two] = [await sign(first.privateKey, "1"), await sign(second.privateKey, "2")];
  expect(await kindOf(verifier, one)).toBe("unavailable");
  expect(verifier.health().state).toBe("down");
  status = 200;
  while ((await kindOf(verifier, one)) === "unavailable") await Bun.sleep(5);
  expect(await kindOf(verifier, one)).toBe("granted");
  expect(verifier.health().state).toBe("up");
  expect(await kindOf(verifier, two)).toBe("refused");
  keys = [...keys, await jwk(second.publicKey, "2")];
  expect(await kindOf(verifier, two)).toBe("granted");
  status = 500;
  const before = reads;
  expect(await kindOf(verifier, await sign(second.privateKey, "3"))).toBe("refused");
  expect(reads).toBe(before + 1);
  expect(await kindOf(verifier, one)).toBe("granted");
});

test("all who come with a new key wait for one reading of the key set, and a flood of strangers shuts nobody out", async () => {
  const [first, second] = [await generateKeyPair("ES256"), await generateKeyPair("ES256")];
  const jwk = async (key: CryptoKey, kid: string) => ({ ...(await exportJWK(key)), kid, alg: "ES256" });
  let keys = [await jwk(first.publicKey, "1")];
  let reads = 0;
  let gate: Promise<void> = Promise.resolve();
  const server = Bun.serve({
    port: 0,
    hostname: "127.0.0.1",
    fetch: async () => {
      reads++;
      await gate;
      return Response.json({ keys });
    },
  });
  ends.push(() => void server.stop(true));
  const url = `http://127.0.0.1:${server.port}/keys`;
  // What the guard would keep is no key set: it has to be the issuer's of now.
  const key = { kind: "jwks", url, refreshSec: 3600, guard: { ...guard, cacheSec: 3600, cacheCountMax: 10 } } as const;
  const verifier = await verifierOf({ algorithms: ["ES256"], key });
  const sign = (pair: CryptoKeyPair, kid: string): Promise<string> =>
    new SignJWT({}).setProtectedHeader({ alg: "ES256", kid }).sign(pair.privateKey);
  const [one, two, stranger] = [await sign(first, "1"), await sign(second, "2"), await sign(second, "x")];

  const opened = Promise.withResolvers<void>();
  gate = opened.promise;
  const flock = Array.from({ length: 50 }, () => kindOf(verifier, two));
  while (reads < 2) await Bun.sleep(1);
  keys = [...keys, await jwk(second.publicKey, "2")];
  opened.resolve();
  expect(new Set(await Promise.all(flock))).toEqual(new Set(["granted"]));
  expect(reads).toBe(2);

  const hung = Promise.withResolvers<void>();
  gate = hung.promise;
  const strangers: Promise<string>[] = [];
  for (let i = 0; i < 12; i++) {
    strangers.push(...Array.from({ length: 100 }, () => kindOf(verifier, stranger)));
    expect(await kindOf(verifier, one)).toBe("granted");
  }
  expect(verifier.counts).toMatchObject({ busy: 0, refused: 700 });
  hung.resolve();
  expect(new Set(await Promise.all(strangers))).toEqual(new Set(["refused"]));
  expect(await kindOf(verifier, two)).toBe("granted");
  expect(reads).toBe(3);
});

test("a key set's server may be trusted by a certificate of its own", async () => {
  const pair = await generateKeyPair("ES256");
  const keys = [{ ...(await exportJWK(pair.publicKey)), kid: "1", alg: "ES256" }];
  const tls = { cert: readFileSync(pem("server.pem")), key: readFileSync(pem("server.key")) };
  const server = Bun.serve({ port: 0, hostname: "127.0.0.1", tls, fetch: () => Response.json({ keys }) });
  ends.push(() => void server.stop(true));
  const token = await new SignJWT({}).setProtectedHeader({ alg: "ES256", kid: "1" }).sign(pair.privateKey);
  for (const [options, expected] of [
    [{ caFile: pem("ca.pem") }, "allow"],
    [{}, "unavailable"],
  ] as const) {
    const { parts, stop } = fixture("jwt");
    const wanted = { algorithms: ["ES256"], jwksUrl: `https://localhost:${server.port}/keys`, ...options };
    const backend = jwt.make(jwt.options.parse(wanted), parts);
    await backend.start!();
    ends.push(() => void backend.stop!(), stop);
    expect((await askAuthenticate(backend, attemptOf({}, token))).verdict).toBe(expected);
  }
});

describe("claims", () => {
  const secret = Buffer.from("an example secret of 32 bytes or more");
  const grantOf = async (claims: Record<string, unknown>, options: Partial<JwtOptions> = {}): Promise<JwtResult> => {
    const verifier = await verifierOf({ algorithms: ["HS256"], key: { kind: "secret", secret }, ...options });
    return verify(verifier, await new SignJWT(claims).setProtectedHeader({ alg: "HS256" }).sign(secret));
  };

  test("become a grant", async () => {
    const result = await grantOf(
      { exp: NOW_SEC + 60, sub: "alice", boss: true },
      { usernameClaim: "sub", superuserClaim: "boss" },
    );
    expect(result).toMatchObject({
      kind: "granted",
      grant: { username: "alice", isSuperuser: true, expiresAtSec: NOW_SEC + 60, rules: undefined },
    });
    for (const boss of ["true", 1, {}, undefined])
      expect(await grantOf({ boss }, { superuserClaim: "boss" })).toMatchObject({ grant: { isSuperuser: false } });
  });

  test("that are missing or wrong refuse the token", async () => {
    expect(await grantOf({}, { isExpiryRequired: true })).toMatchObject({ kind: "refused" });
    expect(await grantOf({ exp: NOW_SEC - 60 })).toMatchObject({ kind: "refused", reason: "the token has expired" });
    for (const sub of [undefined, "", 5])
      expect(await grantOf({ sub }, { usernameClaim: "sub" })).toMatchObject({ kind: "refused" });
    expect(await grantOf({ aud: "b" }, { audience: "a" })).toMatchObject({ kind: "refused" });
    expect(await grantOf({ aud: ["a", "b"] }, { audience: "a" })).toMatchObject({ kind: "granted" });
    expect(await grantOf({ acl: 5 })).toMatchObject({ kind: "refused" });
  });

  test("a token that is too long is not even looked at", async () => {
    expect(await grantOf({ x: "x".repeat(20_000) })).toMatchObject({
      kind: "refused",
      reason: "the token is too long",
    });
  });
});

describe("rules in a claim", () => {
  const may = (claim: unknown, action: "publish" | "subscribe", topic: string): string => {
    const rules = rulesOfClaim(claim) as AclRule[];
    return decideByRules(rules, { client: { ...knownClient, username: "u" }, action, topic });
  };

  test("in lists allow these and nothing else", () => {
    const claim = { pub: ["a/%c"], sub: ["b/#"], all: ["c", "eq d/+"] };
    expect(may(claim, "publish", "a/c1")).toBe("allow");
    expect(may(claim, "subscribe", "a/c1")).toBe("deny");
    expect(may(claim, "subscribe", "b/+")).toBe("allow");
    expect(may(claim, "publish", "c")).toBe("allow");
    expect(may(claim, "subscribe", "d/+")).toBe("allow");
    expect(may(claim, "subscribe", "d/x")).toBe("deny");
    expect(may({}, "publish", "x")).toBe("deny");
  });

  test("in order: the first match decides, and the rest is left to others", () => {
    const claim = [
      { permission: "deny", action: "publish", topic: "a/secret" },
      { permission: "allow", action: "all", topic: "a/#" },
    ];
    expect(may(claim, "publish", "a/secret")).toBe("deny");
    expect(may(claim, "publish", "a/x")).toBe("allow");
    expect(may(claim, "publish", "b")).toBe("ignore");
  });

  test("that cannot be understood are no rules", () => {
    for (const claim of [
      null,
      5,
      "x",
      { pub: "a" },
      { x: ["a"] },
      { pub: ["a#"] },
      { pub: [5] },
      [5],
      [{ permission: "allow", action: "all" }],
      [{ permission: "yes", action: "all", topic: "a" }],
    ])
      expect(rulesOfClaim(claim)).toBe("invalid");
  });
});

test("options have to name one source of keys, fit for the algorithms", () => {
  const { parts, stop } = fixture("jwt");
  ends.push(stop);
  const secret = "an example secret of 32 bytes or more";
  for (const [options, says] of [
    [{ algorithms: ["HS256"] }, /found 0 of secret/],
    [{ algorithms: ["HS256"], secret, jwksUrl: "http://x" }, /found 2 of secret/],
    [{ algorithms: ["RS256"], secret }, /algorithms: found RS256/],
    [{ algorithms: ["HS256", "RS256"], jwksUrl: "http://x" }, /algorithms: found HS256, RS256/],
    [{ algorithms: ["HS256"], secret: "short" }, /found 5 bytes/],
    [{ algorithms: ["RS256"], publicKeyFile: "none.pem" }, /publicKeyFile: .*ENOENT/],
    [{ algorithms: ["RS256"], jwksUrl: "https://x", caFile: "none.pem" }, /caFile: .*ENOENT/],
    [{ algorithms: ["HS256"], secret, caFile: "ca.pem" }, /found caFile/],
  ] as const)
    expect(() => jwt.make(jwt.options.parse(options), parts)).toThrow(says);
});
