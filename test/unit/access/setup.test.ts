/** Access as a user meets it: a configuration, a broker on a real port, clients. */
import { afterEach, describe, expect, setDefaultTimeout, test } from "bun:test";
import { SignJWT } from "jose";
import { existsSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { AccessDb } from "#access/access-db.ts";
import { loadConfig } from "#broker/config.ts";
import type { MantouError } from "#base/error.ts";
import { type BrokerInProcess, startInProcess } from "#test/e2e/broker-in-process.ts";
import type { Properties } from "#test/support/packets.ts";
import { clientFinal } from "./scram-client.ts";
import type { RawClient } from "#test/support/client.ts";

setDefaultTimeout(120_000);

const ends: (() => Promise<void> | void)[] = [];
afterEach(async () => {
  for (const end of ends.splice(0).toReversed()) await end();
});

const folder = mkdtempSync(join(tmpdir(), "mantou-access-"));
let count = 0;

function write(text: string): string {
  const path = join(folder, `file-${++count}`);
  writeFileSync(path, text);
  return path;
}

async function start(
  access: object,
  data = join(folder, `data-${++count}`),
): Promise<BrokerInProcess & { data: string }> {
  const broker = await startInProcess([`access=${JSON.stringify(access)}`, `node.data=${data}`]);
  ends.push(async () => void (await broker[Symbol.asyncDispose]()));
  return Object.assign(broker, { data });
}

async function login(broker: BrokerInProcess, options: Record<string, unknown> = {}, version: 4 | 5 = 5) {
  const client = await broker.harness.open(version);
  const { reasonCode } = await client.connect(options);
  return { client, reasonCode };
}

/** DISCONNECT, as soon as the broker has looked. */
async function told(client: RawClient, reasonCode: number): Promise<void> {
  await client.expect("disconnect", { reasonCode }, 60_000);
}

async function isGone(client: RawClient): Promise<void> {
  while (!client.isClosed) await Bun.sleep(5);
}

const PLAIN = { algorithm: "plain" };
const USERS = write("alice:wonder\nroot:toor\n");

test("by default everybody may do everything, the log says so, and nothing is written", async () => {
  const broker = await start({});
  expect(broker.broker.access.chain.isOpen).toBe(true);
  expect(broker.log.filter(({ level }) => level === "warn").map(({ msg }) => msg)).toEqual([
    expect.stringContaining("anonymous clients are allowed"),
    expect.stringContaining("no access rules"),
  ]);
  expect((await login(broker, { username: "any", password: "thing" })).reasonCode).toBe(0);
  expect(broker.broker.access.chain.standings.liveCount).toBe(0);
  expect(existsSync(join(broker.data, "access.db"))).toBe(false);
});

test("a chain of a file and rules: who comes in, who publishes and subscribes what", async () => {
  const acl = write(`- { allow: all, user: root }\n- { allow: all, topics: ["own/%u/#"] }\n- { deny: all }\n`);
  const broker = await start({
    authenticate: [{ type: "user-file", file: USERS, password: PLAIN }],
    authorize: [{ type: "acl-file", file: acl }],
  });
  expect((await login(broker, { username: "alice", password: "wrong" })).reasonCode).toBe(0x86);
  expect((await login(broker, { username: "mallory", password: "x" })).reasonCode).toBe(0x86);
  expect((await login(broker, {})).reasonCode).toBe(0x87);
  expect((await login(broker, { username: "alice", password: "wrong" }, 4)).reasonCode).toBe(4);
  const { client, reasonCode } = await login(broker, { username: "alice", password: "wonder" });
  expect(reasonCode).toBe(0);
  const suback = await client.subscribe(["own/alice/#", "own/bob/#", "#", "$share/g/own/alice/x", "$share/g/x"], 1);
  expect(suback.reasonCodes).toEqual([1, 0x87, 0x87, 1, 0x87]);
  for (let i = 0; i < 3; i++) {
    expect(await client.publish("own/alice/a", "x", { qos: 1 })).toMatchObject([{ reasonCode: 0 }]);
    expect(await client.publish("own/bob/a", "x", { qos: 1 })).toMatchObject([{ reasonCode: 0x87 }]);
    expect(await client.publish("own/bob/a", "x", { qos: 2 })).toMatchObject([{ reasonCode: 0x87 }]);
  }
  const old = (await login(broker, { username: "alice", password: "wonder" }, 4)).client;
  await old.publish("own/bob/a", "x", { qos: 1 }); // acknowledged, and dropped
  expect(broker.engine.metrics.get("messages.dropped.not_authorized")).toBe(7);
  expect(broker.broker.access.chain.counts).toMatchObject({ publishDenied: 7, subscribeDenied: 3, accepted: 2 });
  const denials = broker.log.filter(({ msg }) => msg.startsWith("a client may not"));
  expect(denials).toContainEqual(
    expect.objectContaining({ username: "alice", topic: "own/bob/a", reasonCode: "0x87" }),
  );
  expect(JSON.stringify(broker.log)).not.toContain("wrong");
});

test("who publishes to one topic again and again is refused as soon as the rules have changed", async () => {
  const { broker, harness } = await start({ authenticate: [{ type: "anonymous" }], cacheSec: 5 });
  let answer: "allow" | "deny" = "allow";
  let askedCount = 0;
  broker.access.addBackend(
    {
      name: "changing",
      authorize: (_question, done) => {
        askedCount++;
        done(answer);
      },
    },
    0,
  );
  const client = await harness.connect();
  const publish = async (): Promise<number> => (await client.publish("t", "x", { qos: 1 }))[0]!.reasonCode!;
  for (let i = 0; i < 10; i++) expect(await publish()).toBe(0x10);
  expect(askedCount).toBe(1);
  answer = "deny";
  expect(await publish()).toBe(0x10); // nobody has said that anything has changed
  broker.access.chain.invalidate();
  expect(await publish()).toBe(0x87);
  answer = "allow";
  broker.access.chain.invalidate();
  for (let i = 0; i < 10; i++) expect(await publish()).toBe(0x10);
  // Time passes: the answer has grown old.
  answer = "deny";
  broker.access.chain.tick(Math.floor(Date.now() / 1000) + 6);
  expect(await publish()).toBe(0x87);
});

test("the health of each backend can be had, with its name and where it stands", async () => {
  const acl = write("- { allow: all }\n");
  const web = { type: "http", name: "web", auth: { url: "http://127.0.0.1:1/" } };
  const file = { type: "user-file", name: "people", file: USERS, password: PLAIN };
  const { broker } = await start({
    authenticate: [
      { ...file, whenUnavailable: "ignore" },
      { ...web, whenUnavailable: "ignore" },
      { type: "anonymous" },
    ],
    authorize: [{ type: "acl-file", file: acl }],
  });
  expect(broker.access.health()).toMatchObject([
    { name: "people", type: "user-file", roles: ["authenticate"], health: { state: "up", counts: { users: 2 } } },
    { name: "web", type: "http", roles: ["authenticate"], health: { state: expect.any(String) } },
    { name: "anonymous", type: "anonymous", roles: ["authenticate"], health: { state: "up", counts: {} } },
    { name: "acl-file", type: "acl-file", roles: ["authorize"], health: { state: "up" } },
  ]);
});

test("a refused PUBLISH of 3.1.1 ends the connection where that is wished", async () => {
  const acl = write('- { deny: all, topics: ["no"] }\n');
  const broker = await start({ authorize: [{ type: "acl-file", file: acl }], deniedPublish: "disconnect" });
  const { client } = await login(broker, {}, 4);
  client.send({ type: "publish", topic: "no", payload: "x", qos: 1, packetId: 1 });
  await client.expectClosed(60_000);
  const { client: modern } = await login(broker, {});
  expect(await modern.publish("no", "x", { qos: 1 })).toMatchObject([{ reasonCode: 0x87 }]);
});

test("a change of the rules takes subscriptions away, at once and when a client comes back", async () => {
  const all = "- { allow: all }\n";
  const acl = write(all);
  const broker = await start({ authorize: [{ type: "acl-file", file: acl }] });
  const session = { clientId: "s", cleanStart: false, properties: [["sessionExpiryIntervalSec", 1000]] };
  const { client } = await login(broker, { clientId: "here" });
  const away = (await login(broker, session)).client;
  await client.subscribe(["yes", "no", "$share/g/no"]);
  await away.subscribe(["yes", "no"], 1);
  await away.disconnect();
  const { index, sessions } = broker.engine;
  const count = (clientId: string): number => {
    let filters = 0;
    for (let sub = index.firstOfSession(sessions.find(Buffer.from(clientId))); sub >= 0; sub = index.nextOf[sub]!)
      filters++;
    return filters;
  };
  expect([count("here"), count("s")]).toEqual([3, 2]);
  writeFileSync(acl, `- { deny: all, topics: ["no"] }\n${all}`);
  for (const deadlineMs = performance.now() + 60_000; count("here") > 1 && performance.now() < deadlineMs;)
    await Bun.sleep(10);
  expect([count("here"), count("s")]).toEqual([1, 2]);
  const back = await login(broker, session);
  expect(count("s")).toBe(1);
  await client.publish("no", "", { qos: 1 });
  expect(await client.publish("yes", "x", { qos: 1 })).toMatchObject([{ reasonCode: 0 }]);
  await back.client.expect("publish", { topic: "yes" });
});

test("a change of the rules takes wills away, and only those that they forbid", async () => {
  const all = "- { allow: all }\n";
  const acl = write(all);
  const broker = await start({ authorize: [{ type: "acl-file", file: acl }] });
  const watcher = (await login(broker, { clientId: "watcher" })).client;
  await watcher.subscribe("#");
  const will = (topic: string) => ({ topic, payload: Buffer.from(topic), qos: 0 as const, retain: false });
  const clients = await Promise.all(
    ["no", "yes"].map(async (topic) => (await login(broker, { clientId: topic, will: will(topic) })).client),
  );
  writeFileSync(acl, `- { deny: publish, topics: ["no"] }\n${all}`);
  const { engine } = broker;
  const topicOf = (clientId: string) => engine.lifecycle.willTopicOf(engine.sessions.find(Buffer.from(clientId)));
  while (topicOf("no") !== undefined) await Bun.sleep(10);
  expect(topicOf("yes")).toBe("yes");
  for (const client of clients) client.kill();
  await watcher.expect("publish", { topic: "yes" });
});

test("a file that changes throws out whom it takes the right from", async () => {
  const file = write("alice:wonder\nbob:builder\n");
  const broker = await start({ authenticate: [{ type: "user-file", file, password: PLAIN }] });
  const alice = (await login(broker, { username: "alice", password: "wonder" })).client;
  const bob = (await login(broker, { username: "bob", password: "builder" })).client;
  writeFileSync(file, "alice:wonder\nsomebody:else\n");
  await told(bob, 0x87);
  await alice.ping();
});

test("users of the table: super or not, changed and deleted by another process", async () => {
  const acl = write("- { deny: all }\n");
  const broker = await start({
    authenticate: [{ type: "user-table" }, { type: "scram" }],
    authorize: [{ type: "acl-file", file: acl }],
  });
  const { users } = broker.broker.access;
  await users.put("root", Buffer.from("toor"), true);
  await users.put("alice", Buffer.from("wonder"));
  const root = (await login(broker, { username: "root", password: "toor" })).client;
  const alice = (await login(broker, { username: "alice", password: "wonder" })).client;
  expect((await root.subscribe("#")).reasonCodes).toEqual([0]);
  expect((await alice.subscribe("#")).reasonCodes).toEqual([0x87]);
  const other = new AccessDb(join(broker.data, "access.db"));
  ends.push(() => other.close());
  other.deleteUser("root");
  await told(root, 0x87);
  await alice.ping();
  users.delete("alice");
  await told(alice, 0x87);
  expect((await login(broker, { username: "alice", password: "wonder" })).reasonCode).toBe(0x86);
});

test.each(["user-table", "user-file"])(
  "%s: who is unknown is refused after as many hashes as who is known",
  async (type) => {
    const data = join(folder, `data-${++count}`);
    const file = write(
      `alice:${await Bun.password.hash("wonder", { algorithm: "argon2id", memoryCost: 64, timeCost: 1 })}\n`,
    );
    const { broker, harness } = await start(
      { authenticate: [type === "user-table" ? { type } : { type, file }] },
      data,
    );
    if (type === "user-table") await broker.access.users.put("alice", Buffer.from("wonder"));
    const checked: number[] = [];
    for (const username of ["alice", "nobody"]) {
      const before = broker.access.passwords.counts.checked;
      expect((await (await harness.open()).connect({ username, password: "guess" })).reasonCode).toBe(0x86);
      checked.push(broker.access.passwords.counts.checked - before);
    }
    expect(checked).toEqual([1, 1]);
  },
);

test("[MQTT-4.12.0-2] SCRAM over CONNECT, AUTH and CONNACK, and again on the same connection", async () => {
  const broker = await start({ authenticate: [{ type: "scram" }] });
  await broker.broker.access.users.put("user", Buffer.from("pencil"));
  const client = await broker.harness.open(5);
  const properties = (data: string | Buffer): Properties => [
    ["authenticationMethod", "SCRAM-SHA-256"],
    ["authenticationData", Buffer.from(data)],
  ];
  const dataOf = (packet: { properties?: Properties }): string =>
    Buffer.from(packet.properties!.find(([name]) => name === "authenticationData")![1] as Uint8Array).toString();
  const first = "n,,n=user,r=abc";
  for (const round of ["first", "again"]) {
    if (round === "first") client.send({ type: "connect", clientId: "s", properties: properties(first) });
    else client.send({ type: "auth", reasonCode: 0x19, properties: properties(first) });
    const asked = await client.expect("auth", { reasonCode: 0x18 });
    const { data, expected } = clientFinal("pencil", first, dataOf(asked), "sha256");
    client.send({ type: "auth", reasonCode: 0x18, properties: properties(data) });
    const done = await client.expect(round === "first" ? "connack" : "auth", { reasonCode: 0 });
    expect(dataOf(done)).toBe(expected);
  }
  const wrong = await broker.harness.open(5);
  wrong.send({ type: "connect", clientId: "w", properties: properties(first) });
  const asked = await wrong.expect("auth", { reasonCode: 0x18 });
  const { data } = clientFinal("Pencil", first, dataOf(asked), "sha256");
  wrong.send({ type: "auth", reasonCode: 0x18, properties: properties(data) });
  await wrong.expectRejected(0x86);
});

test("a token's rules hold, and its end is the connection's", async () => {
  const secret = "an example secret of 32 bytes or more";
  const broker = await start({ authenticate: [{ type: "jwt", algorithms: ["HS256"], secret, usernameClaim: "sub" }] });
  const claims = { sub: "alice", acl: { pub: ["own/%u"] }, exp: Math.floor(Date.now() / 1000) + 3 };
  const token = await new SignJWT(claims).setProtectedHeader({ alg: "HS256" }).sign(Buffer.from(secret));
  expect((await login(broker, { password: `${token}x` })).reasonCode).toBe(0x86);
  const { client, reasonCode } = await login(broker, { username: "somebody", password: token });
  expect(reasonCode).toBe(0);
  expect(await client.publish("own/alice", "x", { qos: 1 })).toMatchObject([{ reasonCode: 0x10 }]);
  expect(await client.publish("own/somebody", "x", { qos: 1 })).toMatchObject([{ reasonCode: 0x87 }]);
  await told(client, 0x87);
  expect(JSON.stringify(broker.log)).not.toContain(token);
});

test("what a token lists is subscribed to before CONNACK, as far as its rules go, and hooks know the granted name", async () => {
  const secret = "an example secret of 32 bytes or more";
  const jwt = { type: "jwt", algorithms: ["HS256"], secret, usernameClaim: "sub", subscribeClaim: "subscribe" };
  const { broker, engine, harness, log } = await start({ authenticate: [jwt] });
  const names: (string | undefined)[] = [];
  engine.hooks.clientConnected.add(({ username }) => void names.push(username));
  engine.hooks.clientDisconnected.add(({ username }) => void names.push(username));
  engine.publishText("own/alice/old", Buffer.from("kept"), { isRetain: true });
  const claims = {
    sub: "alice",
    acl: { sub: ["own/%u/#"], pub: ["own/%u/#"] },
    subscribe: { "own/%u/#": 1, "plant/#": 1 },
  };
  const token = await new SignJWT(claims).setProtectedHeader({ alg: "HS256" }).sign(Buffer.from(secret));
  const client = await harness.open(5);
  expect((await client.connect({ clientId: "c1", username: "mallory", password: token })).reasonCode).toBe(0);
  engine.publishText("own/alice/new", Buffer.from("live"), { qos: 1 });
  await client.expect("publish", { topic: "own/alice/old", retain: true });
  await client.expect("publish", { topic: "own/alice/new", qos: 1 });
  const session = engine.sessions.find(Buffer.from("c1"));
  expect(engine.sessions.subscriptionCount[session]).toBe(1);
  expect(broker.access.chain.counts.subscribeDenied).toBe(1);
  expect(log).toContainEqual(expect.objectContaining({ username: "alice", topic: "plant/#", reasonCode: "0x87" }));
  client.kill();
  while (names.length < 2) await Bun.sleep(5);
  expect(names).toEqual(["alice", "alice"]);
});

test("a ban ends connections and keeps out, and outlives a restart", async () => {
  const access = { authenticate: [{ type: "user-file", file: USERS, password: PLAIN }, { type: "anonymous" }] };
  const first = await start(access);
  const alice = (await login(first, { username: "alice", password: "wonder" })).client;
  const free = (await login(first, {})).client;
  first.broker.access.ban({ kind: "username", value: "alice", untilSec: undefined, reason: "test" });
  await told(alice, 0x98);
  await free.ping();
  const second = await start(access, first.data);
  expect((await login(second, { username: "alice", password: "wonder" })).reasonCode).toBe(0x8a);
  expect(second.broker.access.bans.remove("username", "alice")).toBe(true);
  expect((await login(second, { username: "alice", password: "wonder" })).reasonCode).toBe(0);
});

test("a ban by another process reaches a broker that is open to everybody", async () => {
  const broker = await start({});
  const { client } = await login(broker, { clientId: "bad" });
  const other = new AccessDb(join(broker.data, "access.db"));
  ends.push(() => other.close());
  other.putBan({ kind: "clientId", value: "bad", untilSec: undefined, reason: "" });
  await told(client, 0x98);
  expect((await login(broker, { clientId: "bad" })).reasonCode).toBe(0x8a);
});

test("flapping leads to a ban", async () => {
  const broker = await start({ flappingCountMax: 3 });
  for (let i = 0; i < 3; i++) {
    const { client, reasonCode } = await login(broker, { clientId: "f" });
    expect(reasonCode).toBe(0);
    await client.disconnect();
  }
  expect((await login(broker, { clientId: "f" })).reasonCode).toBe(0x8a);
  expect(broker.broker.access.counts()).toMatchObject({ flappingBanned: 1, bans: 1, banned: 1, accepted: 3 });
  const other = new AccessDb(join(broker.data, "access.db"));
  ends.push(() => other.close());
  expect(other.bans()).toMatchObject([{ kind: "clientId", value: "f" }]);
  other.deleteBan("clientId", "f");
  while ((await login(broker, { clientId: "f" })).reasonCode !== 0) await Bun.sleep(50);
});

test("a connection whose client has gone is no longer accounted for", async () => {
  const broker = await start({ noMatch: "deny" });
  const { client } = await login(broker, {});
  const { standings } = broker.broker.access.chain;
  expect(standings.liveCount).toBe(1);
  await client.disconnect();
  await isGone(client);
  expect(standings.liveCount).toBe(0);
});

describe("a configuration that makes no sense stops the start", () => {
  const problems = (access: object): string => {
    try {
      loadConfig({ flags: { set: [`access=${JSON.stringify(access)}`] }, env: {}, cwd: "/", readFile: () => "" });
      return "";
    } catch (error) {
      return (error as MantouError).message;
    }
  };

  test("with the place and what is allowed", () => {
    expect(problems({ authenticate: [{ type: "nobody" }] })).toMatch(
      /access\.authenticate\.0\.type: found "nobody", allowed: one of .*anonymous/,
    );
    expect(problems({ authenticate: [{ type: "anonymous", x: 1 }] })).toContain(
      "access.authenticate.0: found a mapping, allowed: the keys type, name, whenUnavailable (not x)",
    );
    expect(problems({ authorize: [{ type: "acl-file" }] })).toContain("access.authorize.0.file: found nothing");
    expect(problems({ authorize: [{ type: "anonymous" }] })).toContain("access.authorize.0.type");
    expect(problems({ authenticate: ["anonymous"] })).toContain("access.authenticate.0: found");
    expect(problems({ authenticate: [] })).toBe("");
  });

  test("also when a file is missing or a name is not there", async () => {
    expect(start({ authorize: [{ type: "acl-file", file: "/nowhere/acl" }] })).rejects.toThrow(/no such file/);
    expect(start({ authorize: [{ type: "same", as: "anonymous" }] })).rejects.toThrow(
      /access\.authorize: as: found "anonymous"/,
    );
  });
});

test("the folder is cleaned up", () => {
  rmSync(folder, { recursive: true });
});
