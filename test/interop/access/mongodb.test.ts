/**
 * The driver against a server of its protocol: contract, hostile words, TLS, the page's example, and a server that comes
 * and goes under load. The server is `servers/mongo-process.ts`: MongoDB itself is in no package of Debian or npm.
 */
import { afterAll, describe, expect, test } from "bun:test";
import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import type { Backend, BackendParts } from "#access/backend.ts";
import { mongodb } from "#access/backends/mongodb.ts";
import {
  askAuthenticate,
  askAuthorize,
  attemptOf,
  backendContract,
  fixture,
  hostileWords,
  type KnownClient,
  knownClient,
  type KnownTopic,
} from "#test/contract/backend-contract.ts";
import { rounds } from "#test/support/level.ts";
import { DatabaseServer } from "./servers/database-server.ts";
import { insert, mongoProgram, mongoUri } from "./servers/mongo-server.ts";
import { soak } from "./soak.ts";
import { expectUndisturbed } from "./undisturbed.ts";

const SOAK_CLIENTS = 64;
const sha256 = (text: string): string => createHash("sha256").update(text).digest("hex");

const QUERIES = { auth: {}, super: {}, acl: {}, subscribe: {}, password: { algorithm: "sha256", salt: "before" } };

const USERS = [
  { username: "alice", password: sha256("naclwonder"), salt: "nacl", is_superuser: false },
  { username: "root", password: sha256("toor"), is_superuser: true },
  { username: "one", password: sha256("x"), is_superuser: 1 },
  { username: "twice", password: sha256("x") },
  { username: "twice", password: sha256("x") },
  { username: "empty", password: "" },
  { username: "none" },
  { username: "object", password: { $ne: 1 } },
  { password: sha256("x") },
];

const RULES = [
  { username: "alice", pubsub: ["home/%u/#"], subscribe: ["news/+", "eq #"] },
  { username: "alice", publish: ["up/%c"] },
  { username: "broken", publish: "a" },
  { username: "odd", publish: [{ $ne: 1 }] },
];

const SUBSCRIPTIONS = [
  { username: "alice", topic: "home/%u/#", qos: 1 },
  { username: "alice", topic: "$share/g/jobs", qos: 2 },
  { username: "alice", topic: "news" },
  { username: "root", topic: { $ne: 1 }, qos: 0 },
];

const ALICES = ["$share/g/jobs 2", "home/alice/# 1", "news 0"];

const CLIENTS: readonly KnownClient[] = [
  { client: { username: "alice" }, password: "wonder", expected: "allow", subscribed: ALICES },
  { client: { username: "alice" }, password: "Wonder", expected: "deny", subscribed: ALICES },
  { client: { username: "alice" }, password: undefined, expected: "deny", subscribed: ALICES },
  { client: { username: "root" }, password: "toor", expected: "allow", isSuperuser: true, subscribed: "unavailable" },
  { client: { username: "one" }, password: "x", expected: "allow", isSuperuser: true },
  { client: { username: "Alice" }, password: "wonder", expected: "ignore" },
  { client: { username: "alice " }, password: "wonder", expected: "ignore" },
  { client: { username: "twice" }, password: "x", expected: "unavailable" },
  { client: { username: "empty" }, password: "x", expected: "deny" },
  { client: { username: "none" }, password: "x", expected: "deny" },
  { client: { username: "object" }, password: "x", expected: "deny" },
  { client: { username: '{"$ne":null}' }, password: "x", expected: "ignore" },
  { client: { username: "$username" }, password: "x", expected: "ignore" },
  { client: { username: ".*" }, password: "wonder", expected: "ignore" },
  { client: { username: "alice\u0000" }, password: "wonder", expected: "deny" },
  { client: { username: "%u" }, password: "wonder", expected: "ignore" },
  { client: { username: "" }, password: "x", expected: "ignore" },
  { client: { username: undefined }, password: "x", expected: "ignore" },
];

const alice = { username: "alice", address: "10.0.0.1" };

const TOPICS: readonly KnownTopic[] = [
  { client: alice, action: "publish", topic: "home/alice/a", expected: "allow" },
  { client: alice, action: "subscribe", topic: "home/alice/#", expected: "allow" },
  { client: alice, action: "subscribe", topic: "home/#", expected: "ignore" },
  { client: alice, action: "publish", topic: "news/x", expected: "ignore" },
  { client: alice, action: "subscribe", topic: "news/+", expected: "allow" },
  { client: alice, action: "subscribe", topic: "#", expected: "allow" },
  { client: { ...alice, clientId: "c7" }, action: "publish", topic: "up/c7", expected: "allow" },
  { client: { ...alice, clientId: "+" }, action: "publish", topic: "up/c7", expected: "ignore" },
  { client: { username: "bob" }, action: "publish", topic: "home/bob/a", expected: "ignore" },
  { client: { username: undefined }, action: "publish", topic: "home/a", expected: "ignore" },
  { client: { username: "broken" }, action: "publish", topic: "a", expected: "unavailable" },
  { client: { username: "odd" }, action: "publish", topic: "a", expected: "unavailable" },
  { client: { username: "alice\u0000" }, action: "publish", topic: "home/alice/a", expected: "deny" },
];

const ends: (() => Promise<void> | void)[] = [];
afterAll(async () => {
  for (const end of ends.splice(0).toReversed()) await end();
});

async function opened(tls: boolean): Promise<DatabaseServer> {
  const server = (await DatabaseServer.open(mongoProgram(tls)))!;
  ends.push(() => server[Symbol.asyncDispose]());
  return server;
}

function make(options: object, partsOptions: Partial<BackendParts> = {}): Backend {
  const { parts, stop } = fixture("mongodb", partsOptions);
  const backend = mongodb.make(mongodb.options.parse(options), parts);
  ends.push(async () => {
    await backend.stop?.();
    stop();
  });
  return backend;
}

async function started(options: object, partsOptions: Partial<BackendParts> = {}): Promise<Backend> {
  const backend = make(options, partsOptions);
  await backend.start!();
  return backend;
}

const verdict = async (backend: Backend, username: string, password: string): Promise<string> =>
  (await askAuthenticate(backend, attemptOf({ username }, password))).verdict;

const [server, tlsServer] = await Promise.all([opened(false), opened(true)]);
const uri = mongoUri(server.port);
const place = { uri, database: "mqtt" };
await insert(uri, "mqtt_user", USERS);
await insert(uri, "mqtt_acl", RULES);
await insert(uri, "mqtt_subs", SUBSCRIPTIONS);
const soaked = Array.from({ length: SOAK_CLIENTS }, (_, at) => `soak${at}`);
await insert(
  uri,
  "mqtt_user",
  soaked.map((username) => ({ username, password: sha256("plain") })),
);
await insert(
  uri,
  "mqtt_acl",
  soaked.map((username) => ({ username, pubsub: ["open/%u/#"] })),
);

backendContract("mongodb", () => ({
  // One that is away is noticed after half the deadline.
  backend: make({ ...QUERIES, server: place, guard: { deadlineMs: 4000, failureCountMax: 1, openMs: 1000 } }),
  clients: CLIENTS,
  topics: TOPICS,
  cut: () => server.kill(),
  mend: () => server.start(),
}));

describe("mongodb", () => {
  test("no hostile word is read as anything but a text", async () => {
    const selector = { $or: [{ username: "%u" }, { username: { $eq: "%u" } }, { username: { $in: ["%u", "x-%c"] } }] };
    const backend = await started({ server: place, auth: { selector }, acl: { selector }, password: QUERIES.password });
    expect(await verdict(backend, "alice", "wonder")).toBe("allow");
    for (const word of [...hostileWords, "$where", "this.password", "[object Object]", "\u0000", "\ud800"]) {
      const client = { ...knownClient, username: word, clientId: word };
      expect((await askAuthenticate(backend, attemptOf(client, "x"))).verdict).not.toBe("allow");
      expect(await askAuthorize(backend, { client, action: "publish", topic: word })).not.toBe("allow");
    }
    expect(backend.health!().state).toBe("up");
  });

  test("a wrong password of the broker is told in the log, and lets nobody in", async () => {
    const { promise, resolve } = Promise.withResolvers<unknown>();
    const log = { info: () => {}, warn: (_: string, fields?: Record<string, unknown>) => resolve(fields) };
    const wrong = { uri: uri.replace("server%20pw", "another%20secret") };
    const backend = await started({ ...QUERIES, server: wrong }, { log });
    const told = JSON.stringify(await promise);
    expect(told).toContain("Authentication failed");
    expect(told).not.toMatch(/another.*secret/);
    expect(await verdict(backend, "alice", "wonder")).toBe("unavailable");
  });

  test("TLS needs a certificate that is signed by whom it should be, for the host that it should be", async () => {
    await insert(mongoUri(tlsServer.port, true), "mqtt_user", USERS.slice(0, 1));
    const caFile = `&tlsCAFile=${encodeURIComponent(join(tlsServer.folder, "cert.pem"))}`;
    const over = async (options: string, host = "127.0.0.1"): Promise<string> => {
      const there = mongoUri(tlsServer.port, false, options).replace("127.0.0.1", host);
      return verdict(
        await started({ ...QUERIES, server: { uri: there }, guard: { deadlineMs: 1000 } }),
        "alice",
        "wonder",
      );
    };
    expect(await over(`&tls=true${caFile}`)).toBe("allow");
    expect(await over("&tls=true")).toBe("unavailable");
    expect(await over(`&tls=true${caFile}`, "localhost")).toBe("unavailable");
    expect(await over("")).toBe("unavailable");
  }, 60_000);

  test("the page's example works with the page's documents", async () => {
    const page = (language: string): string =>
      new RegExp(`\`\`\`${language}\n([\\s\\S]*?)\`\`\``).exec(readFileSync("docs/access/mongodb.md", "utf8"))![1];
    const { mqtt_user: users, mqtt_acl: rules } = JSON.parse(page("json")) as Record<string, object[]>;
    await insert(uri, "mqtt_user", users);
    await insert(uri, "mqtt_acl", rules);
    const { access } = Bun.YAML.parse(page("yaml")) as {
      access: { authenticate: { type?: string; name?: string; server: object }[] };
    };
    const { type, name: _, ...options } = access.authenticate[0];
    expect(type).toBe("mongodb");
    const backend = await started({ ...options, server: { ...options.server, uri } });
    expect(await verdict(backend, "bob", "secret")).toBe("allow");
    expect(await verdict(backend, "bob", "wrong")).toBe("deny");
    const ask = (topic: string): Promise<string> =>
      askAuthorize(backend, { client: { ...knownClient, username: "bob" }, action: "publish", topic });
    expect([await ask("home/bob/lamp"), await ask("home/alice/lamp")]).toEqual(["allow", "ignore"]);
  });

  test("while the server hangs, clients that are in are not disturbed, and those who come wait for it", async () => {
    const guard = { deadlineMs: 100_000, runningMax: 8 };
    const options = { ...QUERIES, password: { algorithm: "sha256" }, server: place, guard };
    await expectUndisturbed({ type: "mongodb", name: "it", ...options }, server);
  }, 120_000);

  test("killed, hung, slow and brought back under load, logins recover by themselves", async () => {
    const guard = { deadlineMs: 1000, openMs: 200, runningMax: 8, waitingMax: 100 };
    const backend = await started({ auth: {}, password: { algorithm: "sha256" }, server: place, guard });
    const result = await soak(
      backend,
      [
        { name: "killed", begin: () => server.kill(), end: () => server.start(), durationMs: 300 },
        { name: "hung", begin: () => server.freeze(), end: () => server.thaw(), durationMs: 1500 },
        { name: "slow", begin: () => server.freeze(), end: () => server.thaw(), durationMs: 200 },
      ],
      { clientCount: SOAK_CLIENTS, roundCount: rounds(1, 2, 6), password: "plain" },
    );
    console.log(`soak of mongodb: ${JSON.stringify(result)}`);
    expect(result.counts.wrong).toBe(0);
    expect(result.counts.unavailable).toBeGreaterThan(0);
    expect(result.openFileGrowth).toBeLessThan(16);
    expect(result.rssGrowthMiB).toBeLessThan(100);
    expect(backend.health!().state).toBe("up");
  }, 900_000);
});
