/** Access changes while clients are connected: what is in force, who stays, what is asked again. */
import { afterEach, expect, setDefaultTimeout, test } from "bun:test";
import { SignJWT } from "jose";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type RunningBroker, startBroker } from "#broker/broker.ts";
import { type LoadedConfig, loadConfig } from "#broker/config.ts";
import { createLog } from "#broker/log.ts";
import { type Harness, harnessOf, tcpTarget } from "#test/support/harness.ts";
import type { Properties } from "#test/support/packets.ts";
import { clientFinal } from "./scram-client.ts";

setDefaultTimeout(60_000);

const ends: (() => unknown)[] = [];
afterEach(async () => {
  for (const end of ends.splice(0).toReversed()) await end();
});

interface Site {
  readonly broker: RunningBroker;
  readonly harness: Harness;
  readonly folder: string;
  readonly log: { readonly msg: string; readonly [field: string]: unknown }[];
  /** Reads another section `access`. */
  reload(access: object): Promise<{ readonly changed: readonly string[] }>;
  login(options?: Record<string, unknown>): ReturnType<Harness["connect"]>;
}

async function start(access: object): Promise<Site> {
  const folder = mkdtempSync(join(tmpdir(), "mantou-access-reload-"));
  let now = access;
  const read = (): LoadedConfig => {
    const set = ["broker.drainSecMax=0", "store.type=memory", `node.data=${folder}`, `access=${JSON.stringify(now)}`];
    return loadConfig({ flags: { listen: ["tcp://127.0.0.1:0"], set }, env: {}, cwd: "/" });
  };
  const { config, originOf } = read();
  const log: Site["log"] = [];
  const output = { write: (line: string) => void log.push(JSON.parse(line)) };
  const broker = await startBroker(config, createLog({ level: "info", format: "json" }, output), { originOf, read });
  const harness = harnessOf(tcpTarget(broker.addresses[0]!));
  ends.push(
    () => rmSync(folder, { recursive: true }),
    () => broker.stop(),
    () => harness.stop(),
  );
  return {
    broker,
    harness,
    folder,
    log,
    reload(next) {
      now = next;
      return broker.reload();
    },
    login: (options = {}) => harness.connect({ version: 5, ...options }),
  };
}

const PLAIN = { algorithm: "plain" };
const denyAll = { authenticate: [{ type: "anonymous" }], noMatch: "deny" };

function usersIn(folder: string, name: string, text: string): object {
  writeFileSync(join(folder, name), text);
  return { type: "user-file", name, file: join(folder, name), password: PLAIN };
}

test("a broker that was open to everybody keeps its clients, and judges them from then on", async () => {
  const { broker, harness, folder, log, reload, login } = await start({});
  const client = await login({ clientId: "early" });
  await client.subscribe("news");
  await client.subscribe("secret/x");
  const rules = join(folder, "acl.yaml");
  writeFileSync(rules, "- { allow: all, topics: [news] }\n");
  const next = {
    authenticate: [usersIn(folder, "passwd", "alice:wonder\n")],
    authorize: [{ type: "acl-file", file: rules }],
    noMatch: "deny",
  };
  expect((await reload(next)).changed).toEqual(["access.authenticate", "access.authorize", "access.noMatch"]);
  expect(log).toContainEqual(
    expect.objectContaining({
      msg: expect.stringContaining("access has changed"),
      added: ["passwd (user-file)", "acl-file"],
    }),
  );
  await client.ping();
  const { standings } = broker.access.chain;
  expect(standings.liveCount).toBe(1);
  client.send({ type: "publish", topic: "secret/x", qos: 1, packetId: 1, payload: Buffer.from("x") });
  await client.expect("puback", { packetId: 1, reasonCode: 0x87 });
  client.send({ type: "publish", topic: "news", qos: 1, packetId: 2, payload: Buffer.from("y") });
  await client.expect("publish", { topic: "news" });
  await client.expect("puback", { packetId: 2, reasonCode: 0 });
  while (broker.engine.index.firstOfSession(broker.engine.sessions.find(Buffer.from("early"))) < 0) await Bun.sleep(5);
  const late = await harness.open(5);
  late.send({ type: "connect", clientId: "late" });
  await late.expectRejected(0x87);
  const alice = await login({ clientId: "a", username: "alice", password: "wonder" });
  expect((await alice.subscribe("secret/x")).reasonCodes).toEqual([0x87]);
  // Whoever was there before is accounted for, and no longer when it goes.
  broker.access.ban({ kind: "clientId", value: "early", untilSec: undefined, reason: "" });
  await client.expect("disconnect", { reasonCode: 0x98 });
  await alice.disconnect();
  while (standings.liveCount > 0) await Bun.sleep(5);
  await reload({});
  await (await login({ clientId: "later" })).subscribe("secret/x");
  expect(log.at(-2)!.msg).toContain("no access rules");
});

test("what cannot work changes nothing, and is told", async () => {
  const { folder, reload, login, log } = await start({});
  const client = await login();
  const users = usersIn(folder, "passwd", "alice:wonder\n");
  const faults: [object, string][] = [
    [{ authenticate: [users, { type: "user-file", file: join(folder, "nowhere") }] }, "no such file"],
    [{ authenticate: [users], authorize: [{ type: "same", as: "passwd" }] }, "access.authorize"],
    [{ authenticate: [{ type: "jwt", algorithms: ["HS256"] }] }, "secret"],
    [{ authenticate: [{ type: "redis", authCommand: "FLUSHALL" }] }, "HGETALL"],
  ];
  for (const [access, words] of faults) {
    await expect(reload(access)).rejects.toThrow(words);
    expect(log.at(-1)).toMatchObject({ msg: expect.stringContaining("the old one stays in force") });
    await login();
  }
  await client.ping();
});

test("whoever waits for a backend that is replaced is asked about by those that replace it", async () => {
  const hanging = Bun.serve({ port: 0, hostname: "127.0.0.1", idleTimeout: 0, fetch: () => new Promise(() => {}) });
  ends.push(() => hanging.stop(true));
  const service = {
    type: "http",
    auth: { url: `http://127.0.0.1:${hanging.port}/` },
    acl: { url: `http://127.0.0.1:${hanging.port}/` },
  };
  const { folder, harness, reload, login, broker } = await start({
    authenticate: [{ ...service, name: "web" }, { type: "anonymous" }],
    authorize: [{ type: "same", as: "web" }],
  });
  const inside = await login({ clientId: "inside" });
  inside.send({ type: "publish", topic: "t", qos: 1, packetId: 1, payload: Buffer.from("x") });
  inside.send({ type: "subscribe", packetId: 2, subscriptions: [{ filter: "t", qos: 0 }] });
  const waiting = await Promise.all(
    ["wonder", "wrong"].map(async (password) => {
      const client = await harness.open(5);
      client.send({ type: "connect", clientId: password, username: "alice", password });
      return client;
    }),
  );
  while (broker.access.health()[0]!.health.counts["running"]! < 3) await Bun.sleep(5);
  await reload({
    authenticate: [usersIn(folder, "passwd", "alice:wonder\n"), { type: "anonymous" }],
    noMatch: "allow",
  });
  await waiting[0]!.expect("connack", { reasonCode: 0 });
  await waiting[1]!.expectRejected(0x86);
  await inside.expect("puback", { packetId: 1, reasonCode: 0x10 }); // nobody is subscribed
  await inside.expect("suback", { packetId: 2, reasonCodes: [0] });
});

test("an exchange goes on with a backend that is as it was, and with no other", async () => {
  const { broker, harness, folder, reload } = await start({ authenticate: [{ type: "scram" }] });
  await broker.access.users.put("user", Buffer.from("pencil"));
  const first = "n,,n=user,r=abc";
  const properties = (data: string | Buffer): Properties => [
    ["authenticationMethod", "SCRAM-SHA-256"],
    ["authenticationData", Buffer.from(data)],
  ];
  const begin = async (clientId: string) => {
    const client = await harness.open(5);
    client.send({ type: "connect", clientId, properties: properties(first) });
    const asked = await client.expect("auth", { reasonCode: 0x18 });
    const [, reply] = asked.properties!.find(([name]) => name === "authenticationData")!;
    const { data } = clientFinal("pencil", first, Buffer.from(reply as Uint8Array).toString(), "sha256");
    return { client, goOn: () => client.send({ type: "auth", reasonCode: 0x18, properties: properties(data) }) };
  };
  const [one, two] = [await begin("one"), await begin("two")];
  const users = usersIn(folder, "passwd", "alice:wonder\n");
  await reload({ authenticate: [users, { type: "scram" }], noMatch: "deny" });
  one.goOn();
  await one.client.expect("connack", { reasonCode: 0 });
  await reload({ authenticate: [users] });
  two.goOn();
  await two.client.expectRejected(0x88);
  await one.client.ping();
});

test("a secret and a file that are named as before are read again", async () => {
  const site = await start(denyAll);
  const path = join(site.folder, "secret");
  const access = { authenticate: [{ type: "jwt", algorithms: ["HS256"], secret: `file:${path}` }] };
  const sign = (secret: string): Promise<string> =>
    new SignJWT({}).setProtectedHeader({ alg: "HS256" }).sign(Buffer.from(secret));
  const secrets = ["an example secret of 32 bytes or more", "another example secret of 32 bytes"];
  for (const [at, secret] of secrets.entries()) {
    writeFileSync(path, secret);
    expect((await site.reload(access)).changed).toContain("access.authenticate");
    expect((await site.reload(access)).changed).toEqual([]);
    await site.login({ password: await sign(secret) });
    const other = await site.harness.open(5);
    other.send({ type: "connect", clientId: "o", password: await sign(secrets[1 - at]!) });
    await other.expectRejected(0x86);
  }
});

test("what is kept of a backend that stays is kept, and bounds are those of the new section", async () => {
  let asked = 0;
  const service = Bun.serve({ port: 0, hostname: "127.0.0.1", fetch: () => (asked++, new Response("")) });
  ends.push(() => service.stop(true));
  const web = { type: "http", auth: { url: `http://127.0.0.1:${service.port}/` }, guard: { cacheSec: 1000 } };
  const { reload, login, broker } = await start({ authenticate: [web] });
  const credentials = { clientId: "a", username: "alice", password: "wonder" };
  await login(credentials);
  const bounds = { deniedPublish: "disconnect", flappingCountMax: 1, hashWaitingMax: 7, failureDelaySecMax: 0 };
  await reload({ authenticate: [{ type: "address", deny: ["192.0.2.1"] }, web], ...bounds });
  const client = await login(credentials);
  expect(asked).toBe(1);
  expect([broker.access.chain.deniedPublish, broker.access.passwords.waitingMax]).toEqual(["disconnect", 7]);
  await client.disconnect();
  while (broker.access.bans.count === 0) await Bun.sleep(5);
  await reload({ authenticate: [{ ...web, guard: { cacheSec: 999 } }], flappingCountMax: 0 });
  await login({ ...credentials, clientId: "b" });
  await login({ ...credentials, clientId: "b" });
  expect(asked).toBe(2);
});

test("what is written into the table while backends are being replaced counts", async () => {
  const { broker, login, reload } = await start({});
  await reload({ authorize: [{ type: "rule-table" }], noMatch: "deny" });
  await reload({ noMatch: "deny" });
  const { access } = broker;
  const read = (role: object) =>
    loadConfig({ flags: { set: [`access=${JSON.stringify(role)}`] }, env: {}, cwd: "/" }).config.access;
  const prepared = await access.prepare(read({ authorize: [{ type: "rule-table" }], noMatch: "deny" }));
  access.rules.replace([{ allow: "all", topics: ["late"] }], undefined);
  access.tick();
  prepared.commit();
  expect((await (await login()).subscribe(["late", "other"])).reasonCodes).toEqual([0, 0x87]);
});
