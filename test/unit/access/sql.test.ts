/** What the three SQL backends have in common, on SQLite, which is always there. */
import { Database } from "bun:sqlite";
import { afterEach, expect, test } from "bun:test";
import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import type { Backend, BackendKind } from "#access/backend.ts";
import { mysql, postgresql, sqlite } from "#access/backends/sql.ts";
import { askAuthenticate, askAuthorize, attemptOf, fixture, knownClient } from "#test/contract/backend-contract.ts";

const ends: (() => Promise<void> | void)[] = [];
afterEach(async () => {
  for (const end of ends.splice(0)) await end();
});

interface Made {
  readonly backend: Backend;
  readonly db: Database;
  readonly warnings: string[];
}

async function make(statements: readonly string[], options: object): Promise<Made> {
  const warnings: string[] = [];
  const warn = (message: string, fields?: Record<string, unknown>): void =>
    void warnings.push(`${message} ${JSON.stringify(fields)}`);
  const { parts, stop } = fixture("db", { log: { info: () => {}, warn } });
  const db = new Database(join(parts.baseDir, "users.db"));
  for (const statement of statements) db.run(statement);
  const backend = sqlite.make(sqlite.options.parse({ file: "users.db", ...options }), parts);
  ends.push(async () => {
    await backend.stop!();
    db.close();
    stop();
  });
  await backend.start!();
  return { backend, db, warnings };
}

const PLAIN = { password: { algorithm: "plain" } };
const verdict = async (backend: Backend, username: string | undefined, password = "pw"): Promise<string> =>
  (await askAuthenticate(backend, attemptOf({ username }, password))).verdict;
const may = (backend: Backend, topic: string, client = {}): Promise<string> =>
  askAuthorize(backend, { client: { ...knownClient, ...client }, action: "publish", topic });

test("a fault of the table lets nobody in, and is told in the log", async () => {
  const { backend, warnings } = await make(
    ["create table u (name text, password text)", "insert into u values ('a', 'pw'), ('twice', 'pw'), ('twice', 'pw')"],
    { authQuery: "select password from u where name = '%u'", ...PLAIN },
  );
  expect(await verdict(backend, "a")).toBe("allow");
  expect(await verdict(backend, "twice")).toBe("unavailable");
  expect(warnings.join()).toContain("more than one row");

  const other = await make(["create table u (name text, pass text)", "insert into u values ('a', 'pw')"], {
    authQuery: "select pass from u where name = '%u'",
    ...PLAIN,
  });
  expect(await verdict(other.backend, "a")).toBe("unavailable");
  expect(other.warnings.join()).toContain("no column password");

  const hashed = await make(["create table u (name text, password text)", "insert into u values ('a', 'pw')"], {
    authQuery: "select password from u where name = '%u'",
  });
  expect(await verdict(hashed.backend, "a")).toBe("unavailable");
  expect(hashed.warnings.join()).not.toContain("pw");
});

test("an empty password lets nobody in, though it be the right one", async () => {
  const empty = createHash("sha256").digest("hex");
  const { backend } = await make(
    ["create table u (name text, password text)", `insert into u values ('a', '${empty}')`],
    {
      authQuery: "select password from u where name = '%u'",
      password: { algorithm: "sha256" },
    },
  );
  expect(await verdict(backend, "a", "")).toBe("deny");
});

test("a row that is no rule allows nothing, not even by the rows before it", async () => {
  const { backend, db, warnings } = await make(
    ["create table acl (allow int, access, topic text)", "insert into acl values (1, 3, 'a')"],
    { aclQuery: "select * from acl" },
  );
  expect(await may(backend, "a")).toBe("allow");
  for (const row of ["(0, 4, 'a')", "(0, 1, 'a/#/b')", "(0, 1, null)"]) {
    db.run(`insert into acl values ${row}`);
    expect(await may(backend, "a")).toBe("unavailable");
    db.run("delete from acl where allow = 0");
  }
  expect(warnings).toHaveLength(3);
  db.run(
    "with recursive n(i) as (select 1 union all select i + 1 from n where i < 10001) insert into acl select 1, 3, 'a' from n",
  );
  expect(await may(backend, "a")).toBe("unavailable");
});

test("rows are kept for a client, not for a topic, and for nobody else", async () => {
  const { backend, db } = await make(
    [
      "create table acl (username text, allow int, access int, topic text)",
      "insert into acl values ('a', 1, 3, 't/%c/#')",
    ],
    { aclQuery: "select * from acl where username = '%u'", guard: { cacheSec: 1000 } },
  );
  const a = { username: "a" };
  expect(await may(backend, "t/c1/x", a)).toBe("allow");
  db.run("delete from acl");
  expect(await may(backend, "t/c1/y", a)).toBe("allow");
  expect(await may(backend, "t/c1/y", { username: "b" })).toBe("ignore");
  // The rows are the same client's under another id, and mean something else there.
  expect(await may(backend, "t/c1/y", { username: "a", clientId: "c2" })).toBe("ignore");
});

test("a query about the topic gets it, and is kept for it alone", async () => {
  const { backend } = await make([], {
    aclQuery: "select ${topic} = 'a' and %A = '2' and ${action} = 'publish' as allow, 3 as access, '#' as topic",
    guard: { cacheSec: 1000 },
  });
  expect(await may(backend, "a")).toBe("allow");
  expect(await may(backend, "b")).toBe("deny");
});

test("a client that has nothing of what is asked is ignored without a query", async () => {
  const { backend } = await make(["create table u (name text, password text)"], {
    authQuery: "select password from u where name = '%u' or name = ${commonname}",
  });
  const { asked } = backend.health!().counts;
  expect(await verdict(backend, undefined)).toBe("ignore");
  expect(backend.health!().counts["asked"]).toBe(asked!);
  expect(await verdict(backend, "x")).toBe("ignore");
  expect(backend.health!().counts["asked"]).toBe(asked! + 1);
});

test("the database is only read", async () => {
  const { backend, db } = await make(["create table u (name text)", "insert into u values ('a')"], {
    authQuery: "delete from u where name = '%u' returning name as password",
  });
  expect(await verdict(backend, "a")).toBe("unavailable");
  expect(db.query("select count(*) as n from u").get()).toEqual({ n: 1 });
});

test("a file that is not there is made by nobody", async () => {
  const { parts, stop } = fixture("db");
  ends.push(stop);
  const backend = sqlite.make(sqlite.options.parse({ file: "no.db", authQuery: "select 1 as password" }), parts);
  await backend.start!();
  expect(await verdict(backend, "a")).toBe("unavailable");
  expect(await Bun.file(join(parts.baseDir, "no.db")).exists()).toBe(false);
  await backend.stop!();
});

test("options that make no sense stop the start, and say why", () => {
  const server = { database: "d", username: "u" };
  for (const [kind, place] of [
    [postgresql, { server }],
    [mysql, { server }],
    [sqlite, { file: "f" }],
  ] as const) {
    const { parts, stop } = fixture("db");
    ends.push(stop);
    const making = (options: object) => () =>
      (kind as BackendKind).make((kind as BackendKind).options.parse({ ...place, ...options }), parts);
    expect(making({})).toThrow("found no query");
    expect(making({ authQuery: "select %P as password" })).toThrow("authQuery: found the password");
    expect(making({ authQuery: "select password from u where t = '%t'" })).toThrow("authQuery: found ${topic}");
    expect(making({ superQuery: "select %A as is_superuser" })).toThrow("superQuery: found ${access}");
    expect(making({ aclQuery: "select * from acl where topic like 'x/%u'" })).toThrow("aclQuery: %u stands inside");
    expect(making({ aclQuery: "select ${nobody}" })).toThrow("${nobody} is no variable");
    expect(making({ authQuery: "select 1 as password" })).not.toThrow();
  }
});

test("a missing secret or certificate stops the start, and is not shown", async () => {
  const { parts, stop } = fixture("db");
  ends.push(stop);
  const backendOf = (more: object): Backend =>
    postgresql.make(
      postgresql.options.parse({ server: { database: "d", username: "u", ...more }, authQuery: "select 1" }),
      parts,
    );
  expect(backendOf({ password: "env:MANTOU_NO_SUCH_SECRET" }).start!()).rejects.toThrow("MANTOU_NO_SUCH_SECRET");
  expect(backendOf({ tls: "verify", caFile: "no.pem" }).start!()).rejects.toThrow("no.pem: ENOENT");
});

test("the page's example works with the page's tables", async () => {
  const fenced = (page: string, language: string): string =>
    new RegExp(`\`\`\`${language}\n([\\s\\S]*?)\`\`\``).exec(readFileSync(page, "utf8"))![1];
  const page = Bun.YAML.parse(fenced("docs/access/sqlite.md", "yaml")) as {
    access: { authenticate: { type?: string; name?: string }[] };
  };
  const { type: _, name: __, ...options } = page.access.authenticate[0];
  const tables = fenced("docs/access/sql.md", "sql")
    .split(";\n")
    .filter((statement) => statement.trim() !== "");
  const { backend } = await make(tables, options);
  expect(await verdict(backend, "alice", "secret")).toBe("allow");
  expect(await verdict(backend, "alice", "Secret")).toBe("deny");
  expect(await may(backend, "home/alice/lamp", { username: "alice" })).toBe("allow");
  expect(await may(backend, "plant/c1", { address: "10.1.2.3" })).toBe("allow");
  expect(await may(backend, "plant/c2", { address: "10.1.2.3" })).toBe("ignore");
});
