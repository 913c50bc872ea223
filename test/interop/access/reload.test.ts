/** From one server to another by SIGHUP, while clients come and go: nobody is refused, and what was left is left. */
import { afterAll, expect, setDefaultTimeout, test } from "bun:test";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { freePort } from "#bench/compare/free-port.ts";
import { plainConfig, startBroker } from "#test/support/broker-process.ts";
import { rounds } from "#test/support/level.ts";
import { Peer } from "../mqtt-js-client.ts";
import { DatabaseServer } from "./servers/database-server.ts";
import { QUERIES, TABLES } from "./servers/sql-data.ts";
import { REDIS_PASSWORD, redisCommand, redisServer } from "./servers/redis-servers.ts";
import { connectTo, mariaDb, postgres, SERVER_PASSWORD } from "./servers/sql-servers.ts";

setDefaultTimeout(120_000);
const CLIENT_COUNT = 8;
const ROUND_COUNT = rounds(9, 24, 100);

const opened = await Promise.all([postgres, mariaDb, redisServer].map((program) => DatabaseServer.open(program)));
afterAll(async () => {
  for (const server of opened) await server?.[Symbol.asyncDispose]();
});
const [postgresServer, mariaDbServer, redis] = opened;

const isComplete = opened.every((server) => server !== undefined);
(isComplete ? test : test.skip)("PostgreSQL, MariaDB and Redis in turn, under load", async () => {
  const places = { postgres: postgresServer!.port, mysql: mariaDbServer!.port };
  for (const adapter of ["postgres", "mysql"] as const) {
    const sql = connectTo(adapter, places[adapter]);
    for (const statement of TABLES) await sql.unsafe(statement);
    await sql.close();
  }
  const hash = new Bun.CryptoHasher("sha256").update("naclwonder").digest("hex");
  await redisCommand(redis!.port, ["HSET", "mqtt_user:alice", "password", hash, "salt", "nacl"]);
  await redisCommand(redis!.port, ["SADD", "mqtt_acl:alice", "pubsub home/%u/#"]);

  const folder = mkdtempSync(join(tmpdir(), "mantou-access-reload-"));
  const file = join(folder, "mantou.yaml");
  const server = { host: "127.0.0.1", database: "access", username: "mantou", password: SERVER_PASSWORD };
  const guard = { deadlineMs: 60_000 };
  const backends = [
    { type: "postgresql", name: "it", server: { ...server, port: places.postgres }, ...QUERIES, guard },
    { type: "mysql", name: "it", server: { ...server, port: places.mysql }, ...QUERIES, guard },
    {
      type: "redis",
      name: "it",
      server: { addresses: [`127.0.0.1:${redis!.port}`], password: REDIS_PASSWORD },
      authCommand: "HMGET mqtt_user:%u password salt",
      aclCommand: "SMEMBERS mqtt_acl:%u",
      password: QUERIES.password,
      guard,
    },
  ];
  const port = freePort();
  const use = (backend: object): void =>
    writeFileSync(
      file,
      plainConfig({
        listeners: [{ name: "tcp", type: "tcp", bind: `127.0.0.1:${port}` }],
        broker: { lagMsMax: 600_000 }, // a machine with much else to do
        access: { authenticate: [backend], authorize: [{ type: "same", as: "it" }], noMatch: "deny" },
      }),
    );
  const left: Readonly<Record<string, () => Promise<number>>> = {
    postgresql: async () =>
      countOf("postgres", "select count(*) as n from pg_stat_activity where backend_type = 'client backend'"),
    mysql: async () =>
      countOf("mysql", "select count(*) as n from information_schema.processlist where user = 'mantou'"),
    redis: async () =>
      String(await redisCommand(redis!.port, ["CLIENT", "LIST"]))
        .trim()
        .split("\n").length - 1,
  };
  const countOf = async (adapter: "postgres" | "mysql", query: string): Promise<number> => {
    const sql = connectTo(adapter, places[adapter]);
    try {
      const [row] = await sql.unsafe<{ n: unknown }[]>(query);
      return Number(row!.n) - 1; // the one that asks
    } finally {
      await sql.close({ timeout: 0 });
    }
  };

  use(backends[0]!);
  await using broker = await startBroker(["--config", file]);
  const connect = (clientId: string): Promise<Peer> =>
    Peer.connect(`mqtt://127.0.0.1:${port}`, "5.0", {
      clientId,
      username: "alice",
      password: "wonder",
      connectTimeout: 60_000,
    });
  const steady = await connect("steady");
  await steady.subscribe("home/alice/#", 1);
  let isOver = false;
  let loginCount = 0;
  const comeAndGo = async (at: number): Promise<void> => {
    while (!isOver) {
      const peer = await connect(`c${at}`);
      await peer.subscribe("home/alice/x", 1);
      await peer.publish(`home/alice/${at}`, "x", { qos: 1 });
      await peer.end();
      loginCount++;
    }
  };
  const clients = Array.from({ length: CLIENT_COUNT }, (_, at) => comeAndGo(at));
  const failed = Promise.all(clients);
  for (let round = 1; round <= ROUND_COUNT; round++) {
    const before = backends[(round - 1) % backends.length]!;
    use(backends[round % backends.length]!);
    const seen = loginCount;
    process.kill(broker.pid, "SIGHUP");
    while (loginCount < seen + CLIENT_COUNT) await Promise.race([failed, Bun.sleep(20)]);
    expect(broker.output().match(/access has changed/g)).toHaveLength(round);
    while ((await left[before.type]!()) > 0) await Bun.sleep(50);
  }
  isOver = true;
  await failed;
  await steady.publish("home/alice/last", "y", { qos: 1 });
  for (let message = ""; message !== "y";) message = (await steady.next()).payload;
  await steady.end();
  await broker.stop();
  expect(broker.output()).not.toMatch(/a bug:|may not (?:come in|publish)/);
  console.log(`${loginCount} logins over ${ROUND_COUNT} reloads`);
  rmSync(folder, { recursive: true });
});
