/** `mantou users | client-ids | bans` on a data directory of its own, with what is typed and piped in written down. */
import { afterAll, beforeEach, describe, expect, test } from "bun:test";
import { Database } from "bun:sqlite";
import { existsSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { AccessDb, type Ban } from "#access/access-db.ts";
import { AUTO_SCHEME, PasswordChecker } from "#access/password.ts";
import { runCli } from "#cli/cli.ts";
import type { PasswordInput } from "#cli/password-input.ts";
import { FakeHost } from "./fake-host.ts";

const folder = mkdtempSync(join(tmpdir(), "mantou-access-command-"));
afterAll(() => rmSync(folder, { recursive: true }));
let data = "";
let count = 0;
beforeEach(() => {
  data = join(folder, `data-${++count}`);
});

async function* chunksOf(...texts: string[]): AsyncGenerator<Uint8Array> {
  for (const text of texts) yield Buffer.from(text);
}

function piped(...texts: string[]): PasswordInput {
  const chunks = chunksOf(...texts);
  return { [Symbol.asyncIterator]: () => chunks };
}

/** A terminal, with whether it is in raw mode each time a key is read. */
class FakeTerminal implements PasswordInput {
  readonly isTTY = true;
  readonly modes: boolean[] = [];
  isRaw = false;

  constructor(private readonly texts: readonly string[]) {}

  setRawMode(isRaw: boolean): void {
    this.isRaw = isRaw;
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<Uint8Array> {
    for (const text of this.texts) {
      this.modes.push(this.isRaw);
      yield Buffer.from(text);
    }
  }
}

/** Words after `mantou`, with `--data` behind them; one string is split at spaces. */
async function run(line: string | readonly string[], input: PasswordInput = piped(), yaml?: string) {
  const host = new FakeHost();
  if (yaml !== undefined) host.files["/site/mantou.yaml"] = yaml;
  const words = typeof line === "string" ? line.split(" ") : line;
  const code = await runCli([...words, "--data", data], host, () => input);
  return { code, out: host.stdout, err: host.stderr };
}

function withDb<T>(use: (db: AccessDb) => T): T {
  const db = new AccessDb(join(data, "access.db"));
  try {
    return use(db);
  } finally {
    db.close();
  }
}

function seed(username: string, isSuperuser = false): void {
  withDb((db) => db.putUser({ username, hash: "$2b$", isSuperuser }, []));
}

const hashOf = (username: string): string | undefined => withDb((db) => db.user(username)?.hash);

function verdictOf(hash: string | undefined, password: string): Promise<string> {
  const { promise, resolve } = Promise.withResolvers<string>();
  new PasswordChecker().check(Buffer.from(password), { hash: hash!, scheme: AUTO_SCHEME }, resolve);
  return promise;
}

const ASKED = "access: { authenticate: [{ type: user-table }, { type: client-id }] }";

describe("users add", () => {
  test("stores argon2id and the SCRAM keys of what comes from standard input, and shows none of it", async () => {
    const { code, out, err } = await run("users add alice --password-stdin", piped("won", "der\n"), ASKED);
    expect({ code, out, err }).toEqual({ code: 0, out: "ok: user alice added\n", err: "" });
    expect(hashOf("alice")).toStartWith("$argon2id$");
    expect(await verdictOf(hashOf("alice"), "wonder")).toBe("match");
    expect(withDb((db) => db.user("alice")?.isSuperuser)).toBe(false);
    expect(withDb((db) => db.scram("alice", "SCRAM-SHA-512"))).toBeDefined();
    expect(withDb((db) => db.scram("alice", "SCRAM-SHA-256"))).toBeDefined();
  });

  test.each([
    ["wonder", "wonder"],
    ["wonder\r\n", "wonder"],
    ["won der\n\n", "won der\n"],
  ])("of %j the password is %j", async (text, password) => {
    await run("users add alice --password-stdin --algorithm bcrypt", piped(text));
    expect(hashOf("alice")).toMatch(/^\$2[aby]\$/);
    expect(await verdictOf(hashOf("alice"), password)).toBe("match");
  });

  test("takes the password as a second argument, with a warning", async () => {
    const { code, out, err } = await run("users add alice wonder --superuser", piped(), ASKED);
    expect({ code, out }).toEqual({ code: 0, out: "ok: user alice added\n" });
    expect(err).toStartWith("warning: a password on the command line is seen by");
    expect(err).not.toContain("wonder");
    expect(await verdictOf(hashOf("alice"), "wonder")).toBe("match");
    expect(withDb((db) => db.user("alice")?.isSuperuser)).toBe(true);
  });

  test("says so when the configuration does not ask the table", async () => {
    const { code, err } = await run("users add alice --password-stdin", piped("wonder"));
    expect(code).toBe(0);
    expect(err).toStartWith("note: access.authenticate has no user-table or scram");
  });

  test("leaves a user who is there as he is: 1", async () => {
    seed("alice");
    const { code, out, err } = await run("users add alice --password-stdin", piped("other"));
    expect({ code, out }).toEqual({ code: 1, out: "" });
    expect(err).toBe(`user "alice" is in ${join(data, "access.db")} already; see mantou users password\n`);
    expect(hashOf("alice")).toBe("$2b$");
  });

  test.each([
    ["nothing", "\n", "nothing"],
    ["too long a password", `${"x".repeat(65_536)}\n`, "more"],
  ])("refuses %s: 1", async (_, text, found) => {
    const { code, err } = await run("users add alice --password-stdin", piped(text));
    expect({ code, err }).toEqual({ code: 1, err: `password: found ${found}, allowed: 1 to 65535 bytes\n` });
    expect(hashOf("alice")).toBeUndefined();
  });

  test.each([
    ["users add alice", /^error: no terminal to ask for the password at; --password-stdin/],
    ["users add alice wonder --password-stdin", /^error: the password is given twice/],
    ["users add alice --password-stdin --algorithm md5", /Allowed choices are argon2id, bcrypt/],
    ["users add", /missing required argument 'name'/],
    ["users superuser alice perhaps", /Allowed choices are yes, no/],
    ["users ad alice", /unknown command 'ad'/],
  ])("%s is a mistake of usage: 2", async (line, words) => {
    const { code, out, err } = await run(line, piped("x"));
    expect({ code, out }).toEqual({ code: 2, out: "" });
    expect(err).toMatch(words);
    expect(err).not.toContain("wonder");
  });
});

describe("a password that is typed", () => {
  const typed = (...texts: string[]) => new FakeTerminal(texts);
  const add = (terminal: PasswordInput) => run("users add alice --algorithm bcrypt", terminal, ASKED);

  test("is asked for twice and not shown", async () => {
    const terminal = typed("wonder\r", "wonder\r");
    expect(await add(terminal)).toEqual({
      code: 0,
      out: "ok: user alice added\n",
      err: "Password: \nOnce more: \n",
    });
    expect(terminal.modes).toEqual([true, true]);
    expect(terminal.isRaw).toBe(false);
    expect(await verdictOf(hashOf("alice"), "wonder")).toBe("match");
  });

  test("is not shown either when standard input was named and is a terminal", async () => {
    const terminal = typed("wonder\rwonder\r");
    const { code, err } = await run("users add alice --password-stdin --algorithm bcrypt", terminal, ASKED);
    expect({ code, err, modes: terminal.modes }).toEqual({
      code: 0,
      err: "Password: \nOnce more: \n",
      modes: [true],
    });
  });

  test("can be corrected, by whole characters and as a whole", async () => {
    await add(typed("wrong", "\u0015", "w€€\u007f\bonderé\u007f\u007fr\r", "\u007f", "wonder\n"));
    expect(await verdictOf(hashOf("alice"), "wonder")).toBe("match");
  });

  test.each([
    ["two different ones", ["wonder\r", "wander\r"], "password: found two different ones, allowed: the same twice\n"],
    ["Ctrl-C", ["won\u0003"], "cancelled: nothing is changed\n"],
    ["Ctrl-D", ["wonder\r\u0004"], "cancelled: nothing is changed\n"],
    ["a terminal that goes away", ["wonder\rwon"], "cancelled: nothing is changed\n"],
    ["nothing", ["\r\r"], "password: found nothing, allowed: 1 to 65535 bytes\n"],
  ])("%s changes nothing and leaves the terminal as it was: 1", async (_, texts, words) => {
    const terminal = typed(...texts);
    const { code, out, err } = await add(terminal);
    expect({ code, out, isRaw: terminal.isRaw }).toEqual({ code: 1, out: "", isRaw: false });
    expect(err).toEndWith(words);
    expect(hashOf("alice")).toBeUndefined();
  });
});

describe("users password, superuser, delete", () => {
  test("another password leaves the rest, and is a change that a broker sees", async () => {
    seed("root", true);
    const before = withDb((db) => db.lastChange());
    const { code, out } = await run("users password root --password-stdin", piped("toor\n"));
    expect({ code, out }).toEqual({ code: 0, out: "ok: user root has another password\n" });
    expect(await verdictOf(hashOf("root"), "toor")).toBe("match");
    expect(withDb((db) => db.user("root")?.isSuperuser)).toBe(true);
    expect(withDb((db) => db.changedSince(before, "username"))).toEqual(["root"]);
  });

  test("a super user or not", async () => {
    seed("alice");
    expect((await run("users superuser alice yes")).out).toBe("ok: user alice is a super user\n");
    expect(withDb((db) => db.user("alice")?.isSuperuser)).toBe(true);
    expect((await run("users superuser alice no")).out).toBe("ok: user alice is no super user\n");
    expect(withDb((db) => db.user("alice")?.isSuperuser)).toBe(false);
  });

  test.each(["delete", "del"])("%s takes the user away", async (word) => {
    seed("alice");
    seed("bob");
    expect(await run(`users ${word} alice`)).toEqual({ code: 0, out: "ok: user alice deleted\n", err: "" });
    expect(withDb((db) => db.users().map(({ username }) => username))).toEqual(["bob"]);
  });

  test.each(["users password bob --password-stdin", "users superuser bob yes", "users delete bob"])(
    "%s: nobody of that name: 1",
    async (line) => {
      seed("alice");
      const { code, out, err } = await run(line, piped("x"));
      expect({ code, out, err }).toEqual({ code: 1, out: "", err: `no user "bob" in ${join(data, "access.db")}\n` });
      expect(hashOf("bob")).toBeUndefined();
    },
  );
});

describe("users list", () => {
  test("names and who is a super user, for people and for machines", async () => {
    seed("root", true);
    seed("alice");
    expect((await run("users list")).out).toBe("alice\nroot   super user\n");
    expect(JSON.parse((await run("users list --json")).out)).toEqual([
      { username: "alice", isSuperuser: false },
      { username: "root", isSuperuser: true },
    ]);
  });

  test("a name cannot write on the terminal or be taken for another line", async () => {
    seed("a\u001b[2Jb\nroot");
    seed("with space");
    expect((await run("users list")).out).toBe('"a\\u001b[2Jb\\nroot"\n"with space"\n');
    expect((await run(["users", "delete", "\u009b2J\u202e"])).err).toStartWith('no user "\\u009b2J\\u202e" in ');
  });

  test("is whole however many there are", async () => {
    seed("a");
    const raw = new Database(join(data, "access.db"));
    raw.run(
      "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 2500) INSERT INTO users SELECT 'u' || i, 'x', 0 FROM n",
    );
    raw.close();
    const users = JSON.parse((await run("users list --json")).out) as { username: string }[];
    expect(new Set(users.map(({ username }) => username)).size).toBe(2501);
    expect(users).toHaveLength(2501);
  });
});

describe("client-ids", () => {
  test("add: from anywhere, from some addresses, with a password", async () => {
    expect(await run("client-ids add r1", piped(), ASKED)).toEqual({
      code: 0,
      out: "ok: client id r1 added\n",
      err: "",
    });
    await run("client-ids add --address 10.0.0.0/8 --address 192.168.1.7 r2");
    await run("client-ids add r3 --password-stdin", piped("secret\n"));
    await run("client-ids add r4 --ask-password --algorithm bcrypt", new FakeTerminal(["typed\rtyped\r"]));
    const rows = withDb((db) => db.clients());
    expect(rows.map(({ clientId, ranges }) => [clientId, ranges])).toEqual([
      ["r1", ""],
      ["r2", "10.0.0.0/8 192.168.1.7"],
      ["r3", ""],
      ["r4", ""],
    ]);
    expect(rows.slice(0, 2).map(({ hash }) => hash)).toEqual([undefined, undefined]);
    expect(await verdictOf(rows[2]!.hash, "secret")).toBe("match");
    expect(await verdictOf(rows[3]!.hash, "typed")).toBe("match");
    expect((await run("client-ids list")).out).toBe(
      "r1  without password  from anywhere\nr2  without password  from 10.0.0.0/8, 192.168.1.7\n" +
        "r3  with password     from anywhere\nr4  with password     from anywhere\n",
    );
    expect(JSON.parse((await run("client-ids list --json")).out)[1]).toEqual({
      clientId: "r2",
      addresses: ["10.0.0.0/8", "192.168.1.7"],
      hasPassword: false,
    });
  });

  test("what is there, what makes no sense, and what nobody asks for", async () => {
    await run("client-ids add r1");
    expect(await run("client-ids add r1 --address ::1")).toMatchObject({
      code: 1,
      err: `client id "r1" is in ${join(data, "access.db")} already; see mantou client-ids delete\n`,
    });
    expect(await run("client-ids add r2 --address 10.0.0.0/33")).toMatchObject({
      code: 1,
      err: 'address: found "10.0.0.0/33", allowed: an address or a range\n',
    });
    expect(withDb((db) => db.clients())).toHaveLength(1);
    const asksFile = "access: { authenticate: [{ type: client-id, file: clients }] }";
    expect((await run("client-ids add r3", piped(), asksFile)).err).toStartWith(
      "note: access.authenticate has no client-id in",
    );
    expect(await run("client-ids add r4 --ask-password")).toMatchObject({ code: 2 });
  });

  test("delete", async () => {
    withDb((db) => db.putClient({ clientId: "r1", hash: undefined, ranges: "" }));
    expect(await run("client-ids delete r1")).toEqual({ code: 0, out: "ok: client id r1 deleted\n", err: "" });
    expect(await run("client-ids delete r1")).toMatchObject({
      code: 1,
      err: expect.stringMatching(/^no client id "r1" in /),
    });
  });
});

describe("bans", () => {
  const kept = (): Ban[] => withDb((db) => db.bans());

  test("add: a client id, a user, an address, a range; for a time or for good", async () => {
    const beforeSec = Math.floor(Date.now() / 1000);
    expect(await run("bans add --client-id r1")).toEqual({
      code: 0,
      out: "ok: client id r1 banned for good\n",
      err: "",
    });
    expect((await run(["bans", "add", "--user", "eve", "--for", "1.5h", "--reason", "too loud"])).out).toMatch(
      /^ok: user eve banned until \d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ\n$/,
    );
    await run("bans add --address 2001:db8::/32");
    const afterSec = Math.floor(Date.now() / 1000);
    const [address, clientId, username] = kept();
    expect(address).toEqual({ kind: "address", value: "2001:db8::/32", untilSec: undefined, reason: "" });
    expect(clientId).toEqual({ kind: "clientId", value: "r1", untilSec: undefined, reason: "" });
    expect(username).toMatchObject({ kind: "username", value: "eve", reason: "too loud" });
    expect(username!.untilSec).toBeWithin(beforeSec + 5400, afterSec + 5401);
  });

  test("a second ban of the same changes the first", async () => {
    await run("bans add --user eve --for 1h");
    await run("bans add --user eve --reason again");
    expect(kept()).toEqual([{ kind: "username", value: "eve", untilSec: undefined, reason: "again" }]);
  });

  test("list shows those that hold", async () => {
    const untilSec = Math.floor(Date.now() / 1000) + 3600;
    withDb((db) => {
      db.putBan({ kind: "clientId", value: "r 1", untilSec, reason: "\u001b[2J" });
      db.putBan({ kind: "address", value: "::1", untilSec: undefined, reason: "" });
      db.putBan({ kind: "username", value: "past", untilSec: 1, reason: "" });
    });
    const until = new Date(untilSec * 1000).toISOString().replace(".000", "");
    const lines = (await run("bans list")).out.trimEnd().split("\n");
    expect(lines).toHaveLength(2);
    expect(lines).toContain(`client id  "r 1"  until ${until}  \\u001b[2J`);
    expect(lines).toContain("address    ::1    for good");
    expect(JSON.parse((await run("bans list --json")).out)).toContainEqual({
      kind: "address",
      value: "::1",
      untilSec: null,
      reason: "",
    });
  });

  test("delete, under any spelling of the address", async () => {
    withDb((db) => {
      for (const kind of ["clientId", "username"] as const)
        db.putBan({ kind, value: "x", untilSec: undefined, reason: "" });
      db.putBan({ kind: "address", value: "2001:db8::1", untilSec: undefined, reason: "" });
    });
    expect((await run("bans delete --user x")).out).toBe("ok: user x no longer banned\n");
    expect(kept().map(({ kind }) => kind)).toEqual(["address", "clientId"]);
    await run("bans delete --address 2001:DB8:0::1");
    await run("bans del --client-id x");
    expect(kept()).toEqual([]);
    expect(await run("bans delete --user x")).toEqual({
      code: 1,
      out: "",
      err: `no ban of user "x" in ${join(data, "access.db")}\n`,
    });
  });

  test.each([
    "bans add",
    "bans add --user a --client-id b",
    "bans delete",
    "bans add --user eve --for 10",
    "bans add --user eve --for 0s",
    "bans add --user eve --for 99999d",
  ])("%s is a mistake of usage: 2", async (line) => {
    const { code, out, err } = await run(line);
    expect({ code, out }).toEqual({ code: 2, out: "" });
    expect(err).toMatch(/allowed: /i);
    expect(existsSync(data)).toBe(false);
  });

  test("an address that is none: 1", async () => {
    expect(await run("bans add --address 10.0.0")).toMatchObject({
      code: 1,
      err: expect.stringMatching(/^address: found "10\.0\.0", allowed: an address or a range/),
    });
    expect(kept()).toEqual([]);
  });
});

describe("the file", () => {
  test.each([
    ["users list", 0],
    ["client-ids list --json", 0],
    ["bans list", 0],
    ["users delete a", 1],
    ["users password a --password-stdin", 1],
    ["bans delete --user a", 1],
  ])("%s does not make one", async (line, code) => {
    expect((await run(line, piped("x"))).code).toBe(code);
    expect(existsSync(data)).toBe(false);
  });

  test("is the one of the configuration", async () => {
    const host = new FakeHost();
    host.files["/site/mantou.yaml"] = `node: { data: ${data} }`;
    expect(await runCli(["client-ids", "add", "r1"], host)).toBe(0);
    expect(withDb((db) => db.client("r1"))).toBeDefined();
  });

  test("that cannot be used is named: 1", async () => {
    seed("alice");
    writeFileSync(join(data, "access.db"), "no database at all, but long enough to be looked at as if it were one");
    const { code, err } = await run("users list");
    expect(code).toBe(1);
    expect(err).toStartWith(`${join(data, "access.db")}: `);
  });
});
