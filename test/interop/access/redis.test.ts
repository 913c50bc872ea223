/** Redis as it is: contract, hostile words, TLS, the page's example, sentinel, cluster, and servers that come and go under load. */
import { afterAll, describe, expect, test } from "bun:test";
import { createHash, createHmac } from "node:crypto";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import type { AuthenticateAnswer, Backend, BackendParts } from "#access/backend.ts";
import { cookie } from "#access/backends/cookie.ts";
import { redis } from "#access/backends/redis.ts";
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
import {
  makeCluster,
  REDIS_PASSWORD,
  redisCommand,
  redisNode,
  redisSentinel,
  redisServer,
  redisTlsServer,
} from "./servers/redis-servers.ts";
import { soak } from "./soak.ts";
import { expectUndisturbed } from "./undisturbed.ts";

const SOAK_CLIENTS = 64;
const sha256 = (text: string): string => createHash("sha256").update(text).digest("hex");

const COMMANDS = {
  authCommand: "HMGET mqtt_user:%u password salt",
  superCommand: "HGET mqtt_user:%u is_superuser",
  aclCommand: "SMEMBERS mqtt_acl:%u",
  subscribeCommand: "HGETALL mqtt_subs:%u",
  password: { algorithm: "sha256", salt: "before" },
};

const DATA: readonly (readonly string[])[] = [
  ["HSET", "mqtt_user:alice", "password", sha256("naclwonder"), "salt", "nacl", "is_superuser", "0"],
  ["HSET", "mqtt_user:root", "password", sha256("toor"), "is_superuser", "1"],
  ["HSET", "mqtt_user:empty", "password", "", "salt", ""],
  ["HSET", "mqtt_user:saltonly", "salt", "x"],
  ["SADD", "mqtt_user:aset", "member"],
  ["SADD", "mqtt_acl:alice", "pubsub home/%u/#", "subscribe news/+", "publish up/%c", "subscribe eq #"],
  ["SET", "mqtt_acl:atext", "publish #"],
  ["SADD", "mqtt_acl:broken", "publish a", "pubslih b"],
  ["HSET", "mqtt_subs:alice", "home/%u/#", "1", "$share/g/jobs", "2", "news", "0"],
  ["HSET", "mqtt_subs:root", "a/#", "x"],
  ["HSET", "hash_acl:alice", "home/%u/#", "3", "news/+", "1", "up/%c", "publish"],
];

const ALICES = ["$share/g/jobs 2", "home/alice/# 1", "news 0"];

const CLIENTS: readonly KnownClient[] = [
  { client: { username: "alice" }, password: "wonder", expected: "allow", subscribed: ALICES },
  { client: { username: "alice" }, password: "Wonder", expected: "deny", subscribed: ALICES },
  { client: { username: "alice" }, password: undefined, expected: "deny", subscribed: ALICES },
  { client: { username: "root" }, password: "toor", expected: "allow", isSuperuser: true, subscribed: "unavailable" },
  { client: { username: "Alice" }, password: "wonder", expected: "ignore" },
  { client: { username: "alice " }, password: "wonder", expected: "ignore" },
  { client: { username: "alice password" }, password: "wonder", expected: "ignore" },
  { client: { username: "alice\r\nGET x" }, password: "wonder", expected: "ignore" },
  { client: { username: "empty" }, password: "x", expected: "deny" },
  { client: { username: "saltonly" }, password: "x", expected: "deny" },
  { client: { username: "aset" }, password: "member", expected: "deny" },
  { client: { username: "alice\u0000" }, password: "wonder", expected: "deny" },
  { client: { username: "%u" }, password: "wonder", expected: "ignore" },
  { client: { username: "😀" }, password: "wonder", expected: "ignore" },
  { client: { username: "" }, password: "wonder", expected: "ignore" },
  { client: { username: undefined }, password: "wonder", expected: "ignore" },
];

const alice = { username: "alice", address: "10.0.0.1" };

const TOPICS: readonly KnownTopic[] = [
  { client: alice, action: "publish", topic: "home/alice/a", expected: "allow" },
  { client: alice, action: "subscribe", topic: "home/alice/#", expected: "allow" },
  { client: alice, action: "subscribe", topic: "home/#", expected: "ignore" },
  { client: alice, action: "publish", topic: "home/bob/a", expected: "ignore" },
  { client: alice, action: "subscribe", topic: "news/+", expected: "allow" },
  { client: alice, action: "publish", topic: "news/x", expected: "ignore" },
  { client: { ...alice, clientId: "c7" }, action: "publish", topic: "up/c7", expected: "allow" },
  { client: { ...alice, clientId: "+" }, action: "publish", topic: "up/c7", expected: "ignore" },
  { client: { username: "bob" }, action: "publish", topic: "home/bob/a", expected: "ignore" },
  { client: { username: undefined }, action: "publish", topic: "home/bob/a", expected: "ignore" },
];

const IN_SETS: readonly KnownTopic[] = [
  ...TOPICS,
  { client: alice, action: "subscribe", topic: "#", expected: "allow" },
  { client: { username: "atext" }, action: "publish", topic: "a", expected: "deny" },
  { client: { username: "broken" }, action: "publish", topic: "a", expected: "unavailable" },
  { client: { username: "alice\u0000" }, action: "publish", topic: "home/alice/a", expected: "deny" },
];

const ends: (() => Promise<void> | void)[] = [];
afterAll(async () => {
  for (const end of ends.splice(0).toReversed()) await end();
});

async function opened(program: Parameters<typeof DatabaseServer.open>[0]): Promise<DatabaseServer | undefined> {
  const server = await DatabaseServer.open(program);
  if (server) ends.push(() => server[Symbol.asyncDispose]());
  return server;
}

const placeOf = (server: DatabaseServer): object => ({
  addresses: [`127.0.0.1:${server.port}`],
  password: REDIS_PASSWORD,
});

function make(options: object, partsOptions: Partial<BackendParts> = {}): Backend {
  const { parts, stop } = fixture("redis", partsOptions);
  const backend = redis.make(redis.options.parse(options), parts);
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

const answerTo = (backend: Backend, username: string, password: string): Promise<AuthenticateAnswer> =>
  askAuthenticate(backend, attemptOf({ username }, password));
const verdict = async (backend: Backend, username: string, password: string): Promise<string> =>
  (await answerTo(backend, username, password)).verdict;

/** Asks until the answer is this one. */
async function until(expected: string, ask: () => Promise<string>): Promise<void> {
  const deadlineMs = performance.now() + 45_000;
  for (let found = await ask(); found !== expected; found = await ask()) {
    if (performance.now() > deadlineMs) throw new Error(`still ${found}, not ${expected}`);
    await Bun.sleep(20);
  }
}

const QUICK = { deadlineMs: 1000, openMs: 100 };
const server = await opened(redisServer);

if (server) {
  const place = placeOf(server);
  const run = (...words: string[]): Promise<unknown> => redisCommand(server.port, words);
  for (const words of DATA) await run(...words);
  for (let at = 0; at < SOAK_CLIENTS; at++) {
    await run("HSET", `mqtt_user:soak${at}`, "password", sha256("plain"));
    await run("SADD", `mqtt_acl:soak${at}`, "pubsub open/%u/#");
  }

  backendContract("redis, sets", () => ({
    backend: make({ ...COMMANDS, server: place, guard: { deadlineMs: 20_000, openMs: 50 } }),
    clients: CLIENTS,
    topics: IN_SETS,
    cut: () => server.kill(),
    mend: () => server.start(),
  }));

  backendContract("redis, hashes", () => ({
    backend: make({
      server: place,
      authCommand: "hgetall mqtt_user:%u",
      superCommand: COMMANDS.superCommand,
      aclCommand: "HGETALL hash_acl:%u",
      password: COMMANDS.password,
    }),
    clients: CLIENTS,
    topics: TOPICS,
  }));

  const SECRET = "keyboard cat";
  const signed = (id: string, key = SECRET): string => {
    const signature = createHmac("sha256", key).update(id).digest("base64").replace(/=+$/, "");
    return encodeURIComponent(`s:${id}.${signature}`);
  };
  const withCookie = (value: string): object => ({ identity: { headers: { cookie: `sid=${value}` } } });
  const withSessions = (options: object): Backend => {
    const { parts, stop } = fixture("cookie");
    const guard = { deadlineMs: 20_000, openMs: 50 };
    const lookup = { server: place, guard, ...options };
    const backend = cookie.make(cookie.options.parse({ cookie: "sid", redis: lookup }), parts);
    ends.push(async () => {
      await backend.stop?.();
      stop();
    });
    return backend;
  };

  backendContract("cookie, a session in a hash of Redis", async () => {
    await run("HSET", "hash:s1", "username", "alice");
    await run("HSET", "hash:s2", "other", "alice");
    await run("SET", "hash:s3", "alice");
    return {
      backend: withSessions({ prefix: "hash:", field: "username" }),
      cut: () => server.kill(),
      mend: () => server.start(),
      clients: [
        { client: withCookie("s1"), expected: "allow" },
        { client: { username: "root", ...withCookie("s1") }, expected: "allow" },
        { client: withCookie("s2"), expected: "deny" },
        { client: withCookie("s3"), expected: "deny" },
        { client: withCookie("unknown"), expected: "deny" },
        { client: { username: "alice" }, password: "wonder", expected: "ignore" },
      ],
    };
  });

  backendContract("cookie, a signed session in JSON in Redis", async () => {
    await run("SET", "sess:j1", JSON.stringify({ cookie: {}, user: { name: "alice" } }));
    await run("SET", "sess:j2", JSON.stringify({ cookie: {}, user: { name: ["alice"] } }));
    await run("SET", "sess:j3", "no JSON");
    return {
      backend: withSessions({ prefix: "sess:", kind: "json", field: "user.name", secret: SECRET }),
      clients: [
        { client: withCookie(signed("j1")), expected: "allow" },
        { client: withCookie(signed("j1", "another")), expected: "deny" },
        { client: withCookie(signed("j1").replace("j1", "j2")), expected: "deny" },
        { client: withCookie("j1"), expected: "deny" },
        { client: withCookie("s:.x"), expected: "deny" },
        { client: withCookie("%zz"), expected: "deny" },
        { client: withCookie(signed("j2")), expected: "deny" },
        { client: withCookie(signed("j3")), expected: "deny" },
        { client: withCookie(signed("gone")), expected: "deny" },
      ],
    };
  });

  describe("redis", () => {
    test("a session's user name is the client's, whatever CONNECT says", async () => {
      await run("SET", "plain:s1", "alice");
      const backend = withSessions({ prefix: "plain:", kind: "text" });
      await backend.start!();
      const answer = await askAuthenticate(backend, attemptOf({ username: "root", ...withCookie("s1") }, undefined));
      expect(answer).toMatchObject({ verdict: "allow", grant: { username: "alice" } });
    });

    test("after all hostile words the data are what they were", async () => {
      const backend = await started({ ...COMMANDS, server: place });
      const before = await run("DBSIZE");
      for (const word of [...hostileWords, "\r\nFLUSHALL\r\n", "*1\r\n$8\r\nFLUSHALL\r\n", "\u0000", "\ud800"]) {
        const client = { ...knownClient, username: word, clientId: word, address: word };
        expect((await askAuthenticate(backend, attemptOf(client, word))).verdict).not.toBe("allow");
        expect(await askAuthorize(backend, { client, action: "publish", topic: word })).not.toBe("allow");
      }
      expect(backend.health!().state).toBe("up");
      expect(await run("DBSIZE")).toBe(before);
    });

    test("two variables in one key cannot be shifted into each other", async () => {
      await run("SET", "pair:a:b:c", "plain");
      const backend = await started({
        server: place,
        authCommand: "GET pair:%u:%c",
        password: { algorithm: "plain" },
      });
      const ask = async (username: string, clientId: string): Promise<string> =>
        (await askAuthenticate(backend, attemptOf({ username, clientId }, "plain"))).verdict;
      expect(await ask("a", "b:c")).toBe("allow");
      expect(await ask("a:b", "c")).toBe("deny");
    });

    test("a user's record may say that it is a super user's", async () => {
      const backend = await started({
        server: place,
        authCommand: "HMGET mqtt_user:%u password salt is_superuser",
        password: COMMANDS.password,
      });
      expect(await answerTo(backend, "root", "toor")).toMatchObject({ grant: { isSuperuser: true } });
      expect(await answerTo(backend, "alice", "wonder")).toMatchObject({ grant: { isSuperuser: false } });
    });

    test("super users may be the members of a set, passwords plain texts", async () => {
      await run("SADD", "supers", "root");
      await run("SET", "password:root", "toor");
      const backend = await started({
        server: place,
        authCommand: "GET password:%u",
        superCommand: "SISMEMBER supers %u",
        password: { algorithm: "plain" },
      });
      expect(await verdict(backend, "root", "toor")).toBe("allow");
      const isSuper = (username: string): Promise<boolean> =>
        new Promise((resolve) => backend.isSuperuser!({ ...knownClient, username }, resolve));
      expect([await isSuper("root"), await isSuper("alice"), await isSuper("supers")]).toEqual([true, false, false]);
    });

    test("a connection on which nothing is answered is given up", async () => {
      const backend = await started({ ...COMMANDS, server: place, guard: QUICK });
      expect(await verdict(backend, "alice", "wonder")).toBe("allow");
      server.freeze();
      try {
        expect(await verdict(backend, "alice", "wonder")).toBe("unavailable");
        await until("true", async () => String(backend.health!().counts["lost"] > 0));
      } finally {
        server.thaw();
      }
      await until("allow", () => verdict(backend, "alice", "wonder"));
    }, 60_000);

    test("a wrong password of the broker is told in the log, and lets nobody in", async () => {
      const { promise, resolve } = Promise.withResolvers<unknown>();
      const log = { info: () => {}, warn: (_: string, fields?: Record<string, unknown>) => resolve(fields) };
      const wrong = { ...place, password: "another secret" };
      const backend = await started({ ...COMMANDS, server: wrong, guard: QUICK }, { log });
      const told = JSON.stringify(await promise);
      expect(told).toContain("WRONGPASS");
      expect(told).not.toContain("another secret");
      expect(await verdict(backend, "alice", "wonder")).toBe("unavailable");
    });

    test("the page's example works with the page's data", async () => {
      const lines = fenced("docs/access/redis.md", "text").trim().split("\n");
      for (const line of lines) await run(...line.match(/"[^"]*"|\S+/g)!.map((word) => word.replaceAll('"', "")));
      const page = Bun.YAML.parse(fenced("docs/access/redis.md", "yaml")) as {
        access: { authenticate: { type?: string; name?: string; server: object }[] };
      };
      const { type, name: _, ...options } = page.access.authenticate[0];
      expect(type).toBe("redis");
      const backend = await started({ ...options, server: { ...options.server, ...place } });
      expect(await verdict(backend, "bob", "secret")).toBe("allow");
      expect(await verdict(backend, "bob", "wrong")).toBe("deny");
      const ask = (topic: string): Promise<string> =>
        askAuthorize(backend, { client: { ...knownClient, username: "bob" }, action: "publish", topic });
      expect([await ask("home/bob/lamp"), await ask("home/alice/lamp")]).toEqual(["allow", "ignore"]);
    });

    test("while the server hangs, clients that are in are not disturbed, and those who come wait for it", async () => {
      const guard = { deadlineMs: 100_000, runningMax: 8 };
      const options = { ...COMMANDS, password: { algorithm: "sha256" }, server: place, guard };
      await expectUndisturbed({ type: "redis", name: "it", ...options }, server);
    }, 120_000);

    test("killed, hung, slow and brought back under load, logins recover by themselves", async () => {
      const backend = await started({
        server: place,
        authCommand: "HGET mqtt_user:%u password",
        password: { algorithm: "sha256" },
        guard: { deadlineMs: 1000, openMs: 200, runningMax: 8, waitingMax: 100 },
      });
      const result = await soak(
        backend,
        [
          { name: "killed", begin: () => server.kill(), end: () => server.start(), durationMs: 300 },
          { name: "hung", begin: () => server.freeze(), end: () => server.thaw(), durationMs: 1500 },
          { name: "slow", begin: () => server.freeze(), end: () => server.thaw(), durationMs: 200 },
          {
            name: "connections ended",
            begin: async () => void (await run("CLIENT", "KILL", "TYPE", "normal")),
            end: () => {},
            durationMs: 0,
          },
        ],
        { clientCount: SOAK_CLIENTS, roundCount: rounds(1, 2, 6), password: "plain" },
      );
      console.log(`soak of redis: ${JSON.stringify(result)}`);
      expect(result.counts.wrong).toBe(0);
      expect(result.counts.unavailable).toBeGreaterThan(0);
      expect(result.openFileGrowth).toBeLessThan(16);
      expect(result.rssGrowthMiB).toBeLessThan(100);
      expect(backend.health!().state).toBe("up");
    }, 900_000);
  });
}

const tlsServer = server && (await opened(redisTlsServer));

if (tlsServer)
  test("redis: TLS needs a certificate that is signed by whom it should be, for the host that it should be", async () => {
    await redisCommand(tlsServer.port, DATA[0], { isTls: true });
    const caFile = join(tlsServer.folder, "cert.pem");
    const over = async (options: object): Promise<string> => {
      const place = { ...placeOf(tlsServer), tls: "verify", ...options };
      return verdict(await started({ ...COMMANDS, server: place, guard: QUICK }), "alice", "wonder");
    };
    expect(await over({ caFile })).toBe("allow");
    expect(await over({})).toBe("unavailable");
    expect(await over({ caFile, addresses: [`localhost:${tlsServer.port}`] })).toBe("unavailable");
    expect(await over({ tls: "off" })).toBe("unavailable");
  }, 60_000);

const master = server && (await opened(redisServer));
const replica = master && (await opened(redisServer));
// The sentinel looks for replicas when it starts, and then every ten seconds.
if (replica) await redisCommand(replica.port, ["REPLICAOF", "127.0.0.1", `${master!.port}`]);
const sentinel = replica && (await opened(redisSentinel(master!.port)));

if (sentinel)
  test("redis: when the master is gone, the one that the sentinel names then is asked", async () => {
    for (const words of DATA.slice(0, 1)) await redisCommand(master.port, words);
    await until("1", async () => String(await redisCommand(replica.port, ["EXISTS", "mqtt_user:alice"])));
    await until("1", async () =>
      String(await redisCommand(sentinel.port, ["SENTINEL", "REPLICAS", "access"], { hasPassword: false })).includes(
        `${replica.port}`,
      )
        ? "1"
        : "0",
    );
    const place = {
      mode: "sentinel",
      addresses: [`127.0.0.1:${sentinel.port}`],
      master: "access",
      password: REDIS_PASSWORD,
    };
    const backend = await started({ ...COMMANDS, server: place, guard: QUICK });
    await until("allow", () => verdict(backend, "alice", "wonder"));
    await master.kill();
    await until("unavailable", () => verdict(backend, "alice", "wonder"));
    await until("allow", () => verdict(backend, "alice", "wonder"));
    expect(await verdict(backend, "alice", "wrong")).toBe("deny");
    await sentinel.kill();
    // Whoever is connected needs no sentinel.
    expect(await verdict(backend, "alice", "wonder")).toBe("allow");
  }, 120_000);

const busPorts = [freePort(), freePort()];
const nodes = server ? await Promise.all(busPorts.map((busPort) => opened(redisNode(busPort)))) : [];

if (nodes.every((node) => node !== undefined) && nodes.length > 0)
  test("redis: in a cluster every user is found where its slot is, and a node that was away is used again", async () => {
    await makeCluster(nodes.map(({ port }, at) => ({ port, busPort: busPorts[at] })));
    const users = Array.from({ length: 20 }, (_, at) => `user${at}`);
    const place = { mode: "cluster", addresses: [`127.0.0.1:${nodes[0].port}`], password: REDIS_PASSWORD };
    for (const user of users) {
      const words = ["HSET", `mqtt_user:${user}`, "password", sha256(user)];
      for (const { port } of nodes) await redisCommand(port, words).catch(() => {}); // MOVED, from one of them
    }
    const backend = await started({ ...COMMANDS, server: place, guard: QUICK });
    await until("allow", () => verdict(backend, users[0], users[0]));
    const verdicts = await Promise.all(users.map((user) => verdict(backend, user, user)));
    expect(verdicts).toEqual(users.map(() => "allow"));
    expect(await verdict(backend, users[1], "wrong")).toBe("deny");
    const everybody = async (): Promise<string> =>
      (await Promise.all(users.map((user) => verdict(backend, user, user)))).find((one) => one !== "allow") ?? "allow";
    await nodes[1].kill();
    await until("unavailable", everybody);
    await nodes[1].start();
    await until("allow", everybody);
    nodes[1].freeze();
    await until("unavailable", everybody);
    nodes[1].thaw();
    await until("allow", everybody);
  }, 120_000);

function freePort(): number {
  const listener = Bun.listen({ hostname: "127.0.0.1", port: 0, socket: { data() {} } });
  const { port } = listener;
  listener.stop(true);
  return port;
}

function fenced(page: string, language: string): string {
  return new RegExp(`\`\`\`${language}\n([\\s\\S]*?)\`\`\``).exec(readFileSync(page, "utf8"))![1];
}
