/** What the configuration of Redis, LDAP and MongoDB refuses before anything is asked. */
import { describe, expect, test } from "bun:test";
import type { BackendKind } from "#access/backend.ts";
import { cookie } from "#access/backends/cookie.ts";
import { ldap } from "#access/backends/ldap.ts";
import { mongodb } from "#access/backends/mongodb.ts";
import { redis } from "#access/backends/redis.ts";
import { fixture } from "#test/contract/backend-contract.ts";

/** The fault of these options, in the schema or when the backend is made or started. */
async function faultOf(kind: BackendKind, options: object): Promise<string> {
  const { parts, stop } = fixture("it");
  try {
    const parsed = kind.options.safeParse(options);
    if (!parsed.success)
      return parsed.error.issues.map(({ message, path }) => `${path.join(".")}: ${message}`).join("; ");
    const backend = kind.make(parsed.data, parts);
    await backend.start!();
    await backend.stop!();
    return "none";
  } catch (error) {
    return (error as Error).message;
  } finally {
    stop();
  }
}

describe.each([
  ["no command at all", {}, "found no command"],
  ["a command that writes", { authCommand: "SET a b" }, "authCommand: HGET|GET"],
  ["a command in another's place", { aclCommand: "HGET a b" }, "aclCommand: SMEMBERS, HGETALL"],
  ["a command without its field", { authCommand: "HGET mqtt_user:%u" }, "authCommand: "],
  ["a command with more than it takes", { aclCommand: "SMEMBERS a b" }, "aclCommand: "],
  ["a name of every object for a command", { authCommand: "constructor a" }, "authCommand: "],
  ["an unknown variable", { authCommand: "GET user:${nobody}" }, "authCommand: "],
  ["the password in a command", { authCommand: "GET user:%P" }, "found \\$\\{password\\}"],
  ["a topic in a command", { aclCommand: "SMEMBERS acl:%t" }, "found \\$\\{topic\\}"],
  ["variables side by side", { authCommand: "GET %u%c" }, "side by side"],
  ["HMGET without a password", { authCommand: "HMGET a salt" }, "found no field password"],
  ["sentinels without a master", { authCommand: "GET a", server: { mode: "sentinel" } }, "master"],
  ["a master without sentinels", { authCommand: "GET a", server: { master: "m" } }, "master"],
  ["two addresses of one server", { authCommand: "GET a", server: { addresses: ["a:1", "b:2"] } }, "found 2 addresses"],
  ["an address without port", { authCommand: "GET a", server: { addresses: ["a"] } }, "host:port"],
  ["a database in a cluster", { authCommand: "GET a", server: { mode: "cluster", database: 1 } }, "found database 1"],
  ["a missing file", { authCommand: "GET a", server: { tls: "verify", caFile: "gone.pem" } }, "gone.pem: ENOENT"],
  ["a missing secret", { authCommand: "GET a", server: { password: "env:MANTOU_NOT_SET" } }, "MANTOU_NOT_SET: not set"],
] as const)("redis", (what, options, expected) => {
  test(`refuses ${what}`, async () => {
    expect(await faultOf(redis, options)).toMatch(new RegExp(expected));
  });
});

const search = { base: "dc=x", filter: "(uid=%u)" };

describe.each([
  ["neither userDn nor search", {}, "either userDn or search"],
  ["userDn and search", { userDn: "uid=%u", search }, "either userDn or search"],
  ["a filter that is none", { search: { ...search, filter: "(uid=%u" } }, "search.filter: found"],
  [
    "a groups' filter that is none",
    { search, groups: { base: "x", filter: "(a=b)(member=%d)" } },
    "groups.filter: found",
  ],
  ["the password in a name", { userDn: "uid=%u,cn=%P" }, "found \\$\\{password\\}"],
  ["a broker's name without password", { userDn: "uid=%u", bindDn: "cn=x" }, "one of bindDn, bindPassword"],
  ["StartTLS over ldaps", { userDn: "uid=%u", startTls: true, servers: ["ldaps://a"] }, "startTls with ldaps"],
  ["a URL of something else", { userDn: "uid=%u", servers: ["http://a"] }, "ldap://host:port"],
  ["a URL with a path", { userDn: "uid=%u", servers: ["ldap://a/dc=x"] }, "ldap://host:port"],
  [
    "a rule that is none",
    { search, groups: { base: "x", rules: [{ group: "g", allow: "read" }] } },
    "groups.rules:1: rule 1",
  ],
  ["a missing file", { userDn: "uid=%u", caFile: "gone.pem" }, "gone.pem: ENOENT"],
] as const)("ldap", (what, options, expected) => {
  test(`refuses ${what}`, async () => {
    expect(await faultOf(ldap, options)).toMatch(new RegExp(expected));
  });
});

const uri = "mongodb://127.0.0.1:1";

describe.each([
  ["no query at all", { server: { uri } }, "found no query"],
  [
    "something else than a connection string",
    { server: { uri: "http://hush@x" }, auth: {} },
    "allowed: a connection string",
  ],
  [
    "a variable in a regular expression",
    { server: { uri }, auth: { selector: { username: { $regex: "%u" } } } },
    "only under",
  ],
  ["a variable in code", { server: { uri }, acl: { selector: { $where: "this.a == '%u'" } } }, "only under"],
  [
    "a variable deep in an expression",
    { server: { uri }, acl: { selector: { $expr: { $eq: ["$a", "%u"] } } } },
    "only under",
  ],
  ["the password in a selector", { server: { uri }, auth: { selector: { password: "%P" } } }, "but the password"],
  ["an unknown variable", { server: { uri }, auth: { selector: { a: ["${nobody}"] } } }, "auth.selector"],
] as const)("mongodb", (what, options, expected) => {
  test(`refuses ${what}`, async () => {
    const fault = await faultOf(mongodb, options);
    expect(fault).toMatch(new RegExp(expected));
    expect(fault).not.toContain("hush");
  });
});

test("a cookie's session in Redis has a field where one belongs, and only there", async () => {
  expect(await faultOf(cookie, { cookie: "sid", redis: { prefix: "s:" } })).toContain("field with hash and json");
  const text = { prefix: "s:", kind: "text", field: "a" };
  expect(await faultOf(cookie, { cookie: "sid", redis: text })).toContain("field with hash and json");
});
