/**
 * Messages to PostgreSQL, MariaDB, Redis, a server of MongoDB's protocol and SQLite, through a whole broker: what is stored, hostile
 * words, what a database refuses, and servers that hang, are killed and come back under traffic.
 */
import { Database } from "bun:sqlite";
import { afterAll, describe, expect, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Redis } from "ioredis";
import { MongoClient } from "mongodb";
import { type BrokerInProcess, startInProcess } from "#test/e2e/broker-in-process.ts";
import { DatabaseServer } from "#test/interop/access/servers/database-server.ts";
import { mongoProgram, mongoUri } from "#test/interop/access/servers/mongo-server.ts";
import { REDIS_PASSWORD, redisServer } from "#test/interop/access/servers/redis-servers.ts";
import { connectTo, mariaDb, postgres, SERVER_PASSWORD } from "#test/interop/access/servers/sql-servers.ts";
import { rounds } from "#test/support/level.ts";

const folder = mkdtempSync(join(tmpdir(), "mantou-storage-"));

interface Row {
  readonly id: string;
  readonly topic: string;
  readonly payload: string;
}

interface Kind {
  readonly type: string;
  readonly server: DatabaseServer | undefined;
  readonly target: object;
  /** A text with NUL cannot be stored. */
  readonly refusesNul: boolean;
  prepare(): Promise<unknown>;
  /** In the order in which they were written. */
  read(): Promise<Row[]>;
}

const programs = [postgres, mariaDb, redisServer, mongoProgram(false)];
const opened = await Promise.allSettled(programs.map((program) => DatabaseServer.open(program)));
const servers = opened.map((result) => (result.status === "fulfilled" ? result.value : undefined));
afterAll(async () => {
  await Promise.all(servers.map((server) => server?.[Symbol.asyncDispose]()));
  rmSync(folder, { recursive: true });
});

test("the servers that are installed have started", () => {
  expect(opened.filter(({ status }) => status === "rejected")).toEqual([]);
});

const COLUMNS = "(id, ts, event, clientid, username, topic, qos, retain, payload, bytes)";
const VALUES = "(${id}, ${ts}, ${event}, '%c', '%u', '%t', ${qos}, ${retain}, ${payload}, ${payloadbytes})";

function sqlKind(type: "postgresql" | "mysql", server: DatabaseServer | undefined): Kind {
  const isPostgres = type === "postgresql";
  const insert = isPostgres
    ? `INSERT INTO stored ${COLUMNS} VALUES ${VALUES} ON CONFLICT DO NOTHING`
    : `INSERT IGNORE INTO stored ${COLUMNS} VALUES ${VALUES}`;
  const run = async <T>(statement: string): Promise<T> => {
    const sql = connectTo(isPostgres ? "postgres" : "mysql", server!.port);
    try {
      return await sql.unsafe<T>(statement);
    } finally {
      await sql.close({ timeout: 0 });
    }
  };
  const [serial, bytes] = isPostgres ? ["serial primary key", "bytea"] : ["integer primary key auto_increment", "blob"];
  return {
    type,
    server,
    target: {
      server: { port: server?.port, database: "access", username: "mantou", password: SERVER_PASSWORD },
      rules: [{ statement: insert, filters: ["keep/#"] }],
    },
    refusesNul: isPostgres,
    prepare: () =>
      run(`create table stored (number ${serial}, id varchar(60) unique, ts bigint, event varchar(40), clientid text, username text,
        topic text, qos integer, retain boolean, payload text, bytes ${bytes})`),
    read: async () =>
      (await run<Row[]>("select id, topic, payload from stored order by number")).map((row) => ({ ...row })),
  };
}

const sqliteFile = join(folder, "stored.db");

const kinds: readonly Kind[] = [
  sqlKind("postgresql", servers[0]),
  sqlKind("mysql", servers[1]),
  {
    type: "redis",
    server: servers[2],
    target: {
      server: { addresses: [`127.0.0.1:${servers[2]?.port}`], password: REDIS_PASSWORD },
      rules: [{ command: "XADD stored * id ${id} topic %t payload ${payloadbytes}", filters: ["keep/#"] }],
    },
    refusesNul: false,
    prepare: async () => {},
    async read() {
      const redis = new Redis({ port: servers[2]!.port, password: REDIS_PASSWORD });
      const rows = await redis.xrange("stored", "-", "+");
      redis.disconnect();
      return rows.map(([, [, id, , topic, , payload]]) => ({ id: id!, topic: topic!, payload: payload! }));
    },
  },
  {
    type: "mongodb",
    server: servers[3],
    target: {
      uri: mongoUri(servers[3]?.port ?? 0),
      rules: [
        {
          collection: "stored",
          document: { topic: "${topic}", at: { time: "${time}", by: ["%c"] }, payload: "${payload}", kind: "m" },
          filters: ["keep/#"],
        },
      ],
    },
    refusesNul: false,
    prepare: async () => {},
    async read() {
      const client = new MongoClient(mongoUri(servers[3]!.port));
      const found = await client.db("mqtt").collection("stored").find().toArray();
      await client.close(true);
      return found.map(({ _id, topic, payload }) => ({
        id: String(_id),
        topic: String(topic),
        payload: String(payload),
      }));
    },
  },
  {
    type: "sqlite",
    server: undefined,
    target: {
      file: sqliteFile,
      schema: [
        "create table if not exists stored (id text primary key, ts, event, clientid, username, topic, qos, retain, payload, bytes)",
      ],
      rules: [{ statement: `INSERT OR IGNORE INTO stored ${COLUMNS} VALUES ${VALUES}`, filters: ["keep/#"] }],
    },
    refusesNul: false,
    prepare: async () => {},
    async read() {
      using db = new Database(sqliteFile, { readonly: true });
      return db.query<Row, []>("select id, topic, payload from stored order by rowid").all();
    },
  },
];

const HOSTILE = [
  "'); DROP TABLE stored; --",
  '"',
  "\\'",
  "${id} %c $1 ?",
  "; FLUSHALL",
  "a\r\nDEL stored\r\n",
  '{"$gt": ""}',
  "😀",
  "a b  c",
];

async function until(isTrue: () => boolean | Promise<boolean>): Promise<void> {
  while (!(await isTrue())) await Bun.sleep(10);
}

async function stateOf({ broker }: BrokerInProcess): Promise<Record<string, number | string>> {
  const { answer } = await broker.control("commands.run", { name: "storage", args: ["status"] });
  return (answer as { targets: Record<string, number | string>[] }).targets[0]!;
}

const isEmpty = async (world: BrokerInProcess): Promise<boolean> => {
  const { memoryCount, diskCount } = await stateOf(world);
  return memoryCount === 0 && diskCount === 0;
};

for (const kind of kinds) {
  if (kind.type !== "sqlite" && !kind.server) continue;
  const { type, server, refusesNul } = kind;
  const start = (queue: object = {}): Promise<BrokerInProcess> => {
    const fast = { lingerMs: 5, spillMs: 50, deadlineMs: 1500, retryMsMax: 100, countMax: 100_000, ...queue };
    const target = { name: "t", type, queue: fast, ...kind.target };
    return startInProcess([`modules.storage.targets=${JSON.stringify([target])}`, "modules.sys.intervalSec=0"]);
  };

  describe(`storage in ${type}`, () => {
    let storedCount = 0;
    test("messages of the topics asked for, word for word, in order", async () => {
      await kind.prepare();
      await using world = await start();
      const client = await world.harness.connect({ version: 5, clientId: "c'1", username: "ann" });
      for (const words of HOSTILE) await client.publish("keep/x", words, { qos: 1 });
      await client.publish("keep/'; --", "topic", { qos: 2, retain: true });
      await client.publish("other", "not asked for", { qos: 1 });
      if (refusesNul) await client.publish("keep/nul", "a\0b", { qos: 1 });
      await client.publish("keep/last", "", { qos: 0 });
      await client.ping();
      await until(() => isEmpty(world));
      const rows = await kind.read();
      expect(rows.map(({ payload }) => payload)).toEqual([...HOSTILE, "topic", ""]);
      expect(rows.at(-2)!.topic).toBe("keep/'; --");
      expect(new Set(rows.map(({ id }) => id)).size).toBe(rows.length);
      expect(await stateOf(world)).toMatchObject({ state: "up", lostCount: refusesNul ? 1 : 0, fault: "" });
      storedCount = rows.length;
    }, 30_000);

    test.if(server !== undefined)(
      "a server that hangs, is killed and comes back under traffic loses nothing",
      async () => {
        await using world = await start();
        const client = await world.harness.connect({ version: 5, clientId: "load" });
        let next = 0;
        const publish = async (): Promise<void> => {
          for (let i = 0; i < rounds(50, 200, 2000); i++)
            client.send({ type: "publish", topic: "keep/n", payload: `${next++}`, qos: 0 });
          await client.ping();
          await Bun.sleep(20);
        };
        await publish();
        server!.freeze();
        await publish();
        await until(async () => (await stateOf(world))["state"] === "down");
        server!.thaw();
        await publish();
        await server!.kill();
        await publish();
        await until(async () => Number((await stateOf(world))["diskCount"]) > 0);
        await publish();
        await server!.start();
        await publish();
        await until(() => isEmpty(world));
        const payloads = (await kind.read()).slice(storedCount).map(({ payload }) => Number(payload));
        const firsts = [...new Set(payloads)];
        expect(firsts).toEqual(Array.from({ length: next }, (_, i) => i));
        if (type !== "redis") expect(payloads.length).toBe(next);
        expect(await stateOf(world)).toMatchObject({ state: "up", lostCount: 0 });
      },
      60_000,
    );
  });
}
