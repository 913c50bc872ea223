/** PostgreSQL and MariaDB as they are: contract, TLS, hostile words, the pages' examples, and servers that come and go under load. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import type { Backend, BackendKind, BackendParts } from "#access/backend.ts";
import { mysql, postgresql } from "#access/backends/sql.ts";
import {
  askAuthenticate,
  askAuthorize,
  attemptOf,
  backendContract,
  fixture,
  hostileWords,
  knownClient,
} from "#test/contract/backend-contract.ts";
import { rounds } from "#test/support/level.ts";
import { DatabaseServer } from "./servers/database-server.ts";
import { CLIENTS, QUERIES, TABLES, TOPICS } from "./servers/sql-data.ts";
import { connectTo, mariaDb, postgres, SERVER_PASSWORD } from "./servers/sql-servers.ts";
import { soak } from "./soak.ts";
import { expectUndisturbed } from "./undisturbed.ts";

const SOAK_CLIENTS = 64;

const kinds = [
  { kind: postgresql, program: postgres, adapter: "postgres" },
  { kind: mysql, program: mariaDb, adapter: "mysql" },
] as const;

const opened = await Promise.allSettled(kinds.map(({ program }) => DatabaseServer.open(program)));
const servers = opened.map((result) => (result.status === "fulfilled" ? result.value : undefined));
afterAll(async () => {
  for (const server of servers) await server?.[Symbol.asyncDispose]();
});

test("the servers that are installed have started", () => {
  expect(opened.filter(({ status }) => status === "rejected")).toEqual([]);
});

for (const [index, { kind, adapter }] of kinds.entries()) {
  const server = servers[index];
  if (!server) continue;
  const run = async (statements: readonly string[], database?: string): Promise<unknown[]> => {
    const sql = connectTo(adapter, server.port, database);
    try {
      const results: unknown[] = [];
      for (const statement of statements) results.push(await sql.unsafe(statement));
      return results;
    } finally {
      await sql.close({ timeout: 0 });
    }
  };
  const soaked = Array.from({ length: SOAK_CLIENTS }, (_, at) => `('soak${at}', 'plain', null, false)`);
  const prepare = [
    ...TABLES,
    "create table soak_user (username varchar(100) primary key, password varchar(100), salt varchar(40), super boolean)",
    `insert into soak_user values ${soaked.join(", ")}`,
  ];
  beforeAll(async () => void (await run(prepare)));

  const ends: (() => Promise<void> | void)[] = [];
  afterAll(async () => {
    for (const end of ends.splice(0)) await end();
  });

  const place = {
    host: "127.0.0.1",
    port: server.port,
    database: "access",
    username: "mantou",
    password: SERVER_PASSWORD,
  };
  const make = (options: object, partsOptions: Partial<BackendParts> = {}): Backend => {
    const { parts, stop } = fixture(kind.type, partsOptions);
    const backend = (kind as BackendKind).make(kind.options.parse({ server: place, ...options }), parts);
    ends.push(async () => {
      await backend.stop?.();
      stop();
    });
    return backend;
  };
  const started = async (options: object, partsOptions: Partial<BackendParts> = {}): Promise<Backend> => {
    const backend = make(options, partsOptions);
    await backend.start!();
    return backend;
  };
  const verdict = async (backend: Backend, username: string, password: string): Promise<string> =>
    (await askAuthenticate(backend, attemptOf({ username }, password))).verdict;

  backendContract(kind.type, () => ({
    backend: make({ ...QUERIES, guard: { deadlineMs: 20_000, openMs: 50 } }),
    clients: CLIENTS,
    topics: TOPICS,
    cut: () => server.kill(),
    mend: () => server.start(),
  }));

  describe(kind.type, () => {
    test("after all hostile words the tables are what they were", async () => {
      const backend = await started(QUERIES);
      const words = [
        ...hostileWords,
        "'; DELETE FROM mqtt_user; --",
        "\\'; DELETE FROM mqtt_user; --",
        "$1",
        "?",
        "\u0000",
      ];
      for (const word of words) {
        const client = { ...knownClient, username: word, clientId: word, address: word };
        expect((await askAuthenticate(backend, attemptOf(client, word))).verdict).not.toBe("allow");
        expect(await askAuthorize(backend, { client, action: "publish", topic: word })).not.toBe("allow");
      }
      expect(backend.health!().state).toBe("up");
      const [[users], [rules]] = (await run([
        "select count(*) as n from mqtt_user",
        "select count(*) as n from mqtt_acl",
      ])) as [[{ n: unknown }], [{ n: unknown }]];
      expect([Number(users.n), Number(rules.n)]).toEqual([4, 7]);
    });

    test("words that the server cannot take harm nobody else", async () => {
      await run([
        adapter === "postgres"
          ? "create table number_user (id integer primary key, password varchar(40))"
          : "create table number_user (id varchar(40) character set latin1 collate latin1_bin, password varchar(40))",
        "insert into number_user values ('7', 'plain')",
      ]);
      const backend = await started({
        authQuery: "select password from number_user where id = '%u'",
        password: { algorithm: "plain" },
      });
      for (let round = 0; round < 20; round++)
        expect(["deny", "ignore"]).toContain(await verdict(backend, "😀", "plain"));
      expect(await verdict(backend, "7", "plain")).toBe("allow");
      expect(backend.health!().state).toBe("up");
    });

    test("a database that is lenient with names lets nobody pass for another", async () => {
      const backend = await started({
        authQuery: "select username, password from soak_user where lower(username) = lower('%u')",
        password: { algorithm: "plain" },
      });
      expect(await verdict(backend, "soak1", "plain")).toBe("allow");
      expect(await verdict(backend, "SOAK1", "plain")).toBe("ignore");
    });

    test("a query that is wrong is told in the log, and lets nobody in", async () => {
      const { promise, resolve } = Promise.withResolvers<unknown>();
      const log = { info: () => {}, warn: (_: string, fields?: Record<string, unknown>) => resolve(fields) };
      const backend = await started({ authQuery: "select nonsense from mqtt_user" }, { log });
      expect(await promise).toMatchObject({ detail: expect.stringContaining("nonsense") });
      expect(await verdict(backend, "alice", "wonder")).toBe("unavailable");
      expect(backend.health!().state).not.toBe("up");
    });

    test("TLS needs a certificate that is signed by whom it should be, for the host that it should be", async () => {
      const caFile = join(server.folder, "cert.pem");
      const over = async (options: object): Promise<string> =>
        verdict(await started({ ...QUERIES, server: { ...place, ...options } }), "alice", "wonder");
      expect(await over({ tls: "verify", caFile })).toBe("allow");
      expect(await over({ tls: "verify" })).toBe("unavailable");
      expect(await over({ tls: "verify", caFile, host: "localhost" })).toBe("unavailable");
      expect(await over({ password: "another" })).toBe("unavailable");
    });

    test("after one connection is lost, those that were idle beside it are not trusted", async () => {
      const backend = await started({ ...QUERIES, guard: { deadlineMs: 2000 } });
      await Promise.all(
        CLIENTS.slice(0, 4).map(({ client = {}, password }) => askAuthenticate(backend, attemptOf(client, password))),
      );
      const { connected } = backend.health!().counts;
      expect(connected).toBeGreaterThan(1);
      server.freeze();
      try {
        expect(await verdict(backend, "alice", "wonder")).toBe("unavailable");
      } finally {
        server.thaw();
      }
      expect(backend.health!().counts).toMatchObject({ connected, closed: connected });
      expect(await verdict(backend, "alice", "wonder")).toBe("allow");
    });

    test("while the server hangs, clients that are in are not disturbed, and those who come wait for it", async () => {
      const backend = {
        type: kind.type,
        name: "it",
        server: place,
        authQuery: "select password from soak_user where username = '%u'",
        aclQuery: "select 1 as allow, 3 as access, 'open/#' as topic, username from soak_user where username = '%u'",
        password: { algorithm: "plain" },
        guard: { deadlineMs: 100_000, runningMax: 8 },
      };
      await expectUndisturbed(backend, server);
    }, 120_000);

    test("killed, hung, slow and brought back under load, logins recover by themselves", async () => {
      const backend = await started({
        authQuery: "select password from soak_user where username = '%u'",
        password: { algorithm: "plain" },
        guard: { deadlineMs: 1000, openMs: 200, runningMax: 8, waitingMax: 100 },
      });
      const endConnections = async (): Promise<void> => {
        const [ids] = (await run([OTHERS[adapter]])) as [{ id: number }[]];
        const end =
          adapter === "postgres"
            ? ({ id }: { id: number }) => `select pg_terminate_backend(${id})`
            : ({ id }: { id: number }) => `kill ${id}`;
        // One that has ended by itself meanwhile is no fault.
        for (const id of ids) await run([end(id)]).catch(() => {});
      };
      const result = await soak(
        backend,
        [
          { name: "killed", begin: () => server.kill(), end: () => server.start(), durationMs: 300 },
          { name: "hung", begin: () => server.freeze(), end: () => server.thaw(), durationMs: 1500 },
          { name: "slow", begin: () => server.freeze(), end: () => server.thaw(), durationMs: 200 },
          { name: "connections ended", begin: endConnections, end: () => {}, durationMs: 0 },
        ],
        { clientCount: SOAK_CLIENTS, roundCount: rounds(1, 2, 6), password: "plain" },
      );
      console.log(`soak of ${kind.type}: ${JSON.stringify(result)}`);
      expect(result.counts.wrong).toBe(0);
      expect(result.counts.unavailable).toBeGreaterThan(0);
      expect(result.openFileGrowth).toBeLessThan(16);
      expect(result.rssGrowthMiB).toBeLessThan(100);
      expect(backend.health!().state).toBe("up");
    }, 900_000);

    // The last one: it puts other tables in place of the suite's.
    test("the page's example works with the page's tables", async () => {
      const tables = fenced("docs/access/sql.md", "sql")
        .split(";\n")
        .filter((statement) => statement.trim() !== "");
      await run([...["mqtt_user", "mqtt_acl", "mqtt_subs"].map((name) => `drop table ${name}`), ...tables]);
      const page = Bun.YAML.parse(fenced(`docs/access/${kind.type}.md`, "yaml")) as {
        access: { authenticate: { type?: string; name?: string; server: object }[] };
      };
      const { type, name: _, ...options } = page.access.authenticate[0];
      expect(type).toBe(kind.type);
      const backend = await started({ ...options, server: { ...options.server, ...place } });
      const alice = { ...knownClient, username: "alice" };
      expect(await verdict(backend, "alice", "secret")).toBe("allow");
      expect(await verdict(backend, "alice", "wrong")).toBe("deny");
      const ask = (topic: string, client = alice): Promise<string> =>
        askAuthorize(backend, { client, action: topic.startsWith("$") ? "subscribe" : "publish", topic });
      expect(await ask("home/alice/lamp")).toBe("allow");
      expect(await ask("home/bob/lamp")).toBe("ignore");
      expect(await ask("$SYS/#")).toBe("deny");
      expect(await ask("plant/c1", { ...alice, address: "10.1.2.3" })).toBe("allow");
    });
  });
}

const OTHERS = {
  postgres: "select pid as id from pg_stat_activity where pid <> pg_backend_pid() and datname = 'access'",
  mysql: "select id from information_schema.processlist where id <> connection_id() and db = 'access'",
};

function fenced(page: string, language: string): string {
  return new RegExp(`\`\`\`${language}\n([\\s\\S]*?)\`\`\``).exec(readFileSync(page, "utf8"))![1];
}
