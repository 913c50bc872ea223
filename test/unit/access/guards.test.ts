/** Bans, brute force, flapping, and the database behind them. */
import { afterEach, describe, expect, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Database } from "bun:sqlite";
import { AccessDb, type Ban } from "#access/access-db.ts";
import { AttemptLimit } from "#access/attempt-limit.ts";
import { BanList, clientsOf, RANGE_COUNT_MAX } from "#access/ban-list.ts";
import { Flapping } from "#access/flapping.ts";
import { PasswordChecker } from "#access/password.ts";
import { UserTable } from "#access/user-table.ts";
import { MantouError } from "#base/error.ts";
import { knownClient } from "#test/contract/backend-contract.ts";

const folders: string[] = [];
const open: AccessDb[] = [];

function path(): string {
  folders.push(mkdtempSync(join(tmpdir(), "mantou-access-")));
  return join(folders.at(-1)!, "deep", "access.db");
}

function database(file = path()): AccessDb {
  open.push(new AccessDb(file));
  return open.at(-1)!;
}

afterEach(() => {
  for (const db of open.splice(0)) db.close();
  for (const folder of folders.splice(0)) rmSync(folder, { recursive: true });
});

const ban = (kind: Ban["kind"], value: string, untilSec?: number): Ban => ({ kind, value, untilSec, reason: "r" });

describe("bans", () => {
  const isOut = (list: BanList, client: object, nowSec = 0): boolean =>
    list.find({ ...knownClient, ...client }, nowSec) !== undefined;

  test("keep out by client id, user name, address and range, however the address is spelt", () => {
    const list = new BanList(undefined, 0);
    for (const one of [
      ban("clientId", "x"),
      ban("username", "u"),
      ban("address", "2001:DB8:0::1"),
      ban("address", "10.0.0.0/8"),
    ])
      list.add(one);
    for (const client of [
      { clientId: "x" },
      { username: "u" },
      { address: "2001:db8::1" },
      { address: "::ffff:10.1.1.1" },
    ])
      expect(isOut(list, client)).toBe(true);
    for (const client of [{ clientId: "u" }, { username: "x" }, { address: "2001:db8::2" }, { address: "" }, {}])
      expect(isOut(list, client)).toBe(false);
    expect(list.remove("address", "2001:db8::1")).toBe(true);
    expect(list.remove("address", "10.0.0.0/8")).toBe(true);
    expect(list.remove("address", "10.0.0.0/8")).toBe(false);
    expect(isOut(list, { address: "10.1.1.1" })).toBe(false);
    expect(list.all().map(({ value }) => value)).toEqual(["x", "u"]);
  });

  test("end at their time, and are then forgotten", () => {
    const db = database();
    const list = new BanList(db, 0);
    list.add(ban("clientId", "x", 10));
    list.add(ban("address", "10.0.0.0/8", 10));
    list.add(ban("clientId", "y"));
    expect([isOut(list, { clientId: "x" }, 9), isOut(list, { clientId: "x" }, 10)]).toEqual([true, false]);
    expect(isOut(list, { address: "10.0.0.1" }, 10)).toBe(false);
    list.sweep(10);
    expect([list.count, db.bans().length]).toEqual([1, 1]);
    list.add(ban("clientId", "z", 30));
    list.add(ban("clientId", "w", 20));
    list.sweep(20);
    expect([list.count, db.bans().length]).toEqual([2, 2]);
    list.sweep(30);
    expect([list.count, db.bans().length]).toEqual([1, 1]);
  });

  test("outlive a restart, and another process may write them", () => {
    const file = path();
    const list = new BanList(database(file), 0);
    list.add(ban("username", "u"));
    list.add(ban("username", "u", 50)); // replaces
    expect(new BanList(database(file), 0).all()).toEqual([ban("username", "u", 50)]);
    const [here, there] = [database(file), database(file)];
    const seen = new BanList(here, 0);
    expect(here.hasChanged()).toBe(false);
    there.putBan(ban("clientId", "z"));
    expect(here.hasChanged()).toBe(true);
    expect(here.hasChanged()).toBe(false);
    seen.reload(0);
    expect(isOut(seen, { clientId: "z" })).toBe(true);
  });

  test("of one address under several spellings, by several processes, are one", () => {
    const db = database();
    const list = new BanList(db, 0);
    for (const [one, other] of [
      ["10.0.0.1", "::ffff:10.0.0.1"],
      ["10.1.0.0/16", "10.1.2.3/16"],
    ]) {
      db.putBan(ban("address", one!));
      db.putBan(ban("address", other!));
      list.reload(0);
      expect([list.count, db.bans().length]).toEqual([1, 1]);
      list.add(ban("address", one!, 77));
      expect(db.bans()).toEqual([ban("address", one!, 77)]);
      expect(list.remove("address", other!)).toBe(true);
      expect(list.remove("address", one!)).toBe(false);
      expect([list.count, db.bans().length]).toEqual([0, 0]);
    }
    expect(clientsOf(ban("address", "10.1.0.0/16")).holds!({ ...knownClient, address: "::ffff:10.1.7.7" })).toBe(true);
    expect(clientsOf(ban("address", "10.1.0.0/16")).holds!({ ...knownClient, address: "10.2.0.0" })).toBe(false);
  });

  test("that another process wrote and that make no sense are left out", () => {
    const db = database();
    db.putBan(ban("address", "nonsense"));
    db.putBan(ban("clientId", "x"));
    const list = new BanList(db, 0);
    expect([list.count, list.refusedCount]).toEqual([1, 1]);
  });

  test("made without a database are kept once there is one", () => {
    const list = new BanList(undefined, 0);
    list.add(ban("clientId", "early"));
    const db = database();
    db.putBan(ban("clientId", "stored"));
    list.use(db, 0);
    expect(list.count).toBe(2);
    expect(db.bans()).toHaveLength(2);
  });

  test("of what is no address are refused, and ranges are bounded", () => {
    const list = new BanList(undefined, 0);
    expect(() => list.add(ban("address", "x"))).toThrow(MantouError);
    for (let i = 0; i < RANGE_COUNT_MAX; i++) list.add(ban("address", `10.${i >> 8}.${i & 255}.0/24`));
    expect(() => list.add(ban("address", "11.0.0.0/8"))).toThrow(MantouError);
    list.add(ban("address", "10.0.0.0/24", 5)); // a known one may change
    expect([list.count, list.refusedCount]).toEqual([RANGE_COUNT_MAX, 2]);
  });
});

describe("brute force", () => {
  function setUp(failureCountMax = 2) {
    const clock = { ms: 0 };
    const timers: { atMs: number; call: () => void }[] = [];
    const limit = new AttemptLimit({
      failureCountMax,
      windowSec: 60,
      delaySecMax: 4,
      nowMs: () => clock.ms,
      after: (delayMs, call) => void timers.push({ atMs: clock.ms + delayMs, call }),
    });
    /** Seconds until the attempt was let go on, or the refusal. */
    const attempt = (address = "10.0.0.1"): number | undefined => {
      let said: number | undefined;
      const before = timers.length;
      limit.admit(address, (refusal) => (said = refusal));
      if (said !== undefined) return said;
      return timers.length > before ? (timers.at(-1)!.atMs - clock.ms) / 1000 : undefined;
    };
    return { limit, clock, timers, attempt };
  }

  test("the first failures cost nothing, then each costs twice the wait of the one before, up to a bound", () => {
    const { limit, clock, attempt } = setUp();
    const waits: (number | undefined)[] = [];
    for (let i = 0; i < 7; i++) {
      waits.push(attempt());
      clock.ms += (waits.at(-1) ?? 0) * 1000;
      limit.noteFailure("10.0.0.1");
    }
    expect(waits).toEqual([0, 0, 0, 1, 2, 4, 4]);
    expect(attempt("10.0.0.2")).toBe(0);
  });

  test("attempts at the same time wait one after the other, and beyond eight are refused", () => {
    const { limit, attempt, timers } = setUp();
    for (let i = 0; i < 3; i++) limit.noteFailure("10.0.0.1");
    expect(Array.from({ length: 9 }, () => attempt())).toEqual([1, 2, 3, 4, 5, 6, 7, 8, 0x89]);
    expect(limit.counts).toMatchObject({ delayed: 8, refused: 1 });
    for (const { call } of timers.splice(0)) call();
    expect(attempt()).toBeGreaterThan(0);
  });

  test("what was let go on free is told from what came after the bound was passed", () => {
    const { limit, clock, attempt } = setUp();
    const free: boolean[] = [];
    for (let i = 0; i < 4; i++) {
      limit.admit("10.0.0.1", (_, isFree) => void free.push(isFree));
      limit.noteFailure("10.0.0.1");
    }
    clock.ms += 10_000;
    limit.admit("10.0.0.1", (_, isFree) => void free.push(isFree));
    expect(free).toEqual([true, true, true, false]); // the fourth waits
    expect([limit.isOver("10.0.0.1"), limit.isOver("10.0.0.2"), attempt("10.0.0.2")]).toEqual([true, false, 0]);
    limit.replace({ failureCountMax: 1, windowSec: 60, delaySecMax: 0 });
    expect([limit.isOver("10.0.0.1"), attempt()]).toEqual([false, 0]);
  });

  test("time heals, and IPv6 neighbours are one", () => {
    const { limit, clock, attempt } = setUp();
    for (let i = 0; i < 5; i++) limit.noteFailure(`2001:db8::${i}`);
    expect(attempt("2001:db8::ffff")).toBeGreaterThan(0);
    clock.ms += 60_000;
    const fresh = setUp();
    for (let i = 0; i < 5; i++) fresh.limit.noteFailure("10.0.0.1");
    fresh.clock.ms += 60_000;
    expect(fresh.attempt()).toBe(0);
    expect(fresh.limit.addressCount).toBe(0);
  });

  test("failures in other processes count as well, and only those here are told", () => {
    const { limit, attempt } = setUp();
    const told: string[] = [];
    limit.onFailure = (network) => void told.push(network);
    limit.noteFailure("10.0.0.1");
    limit.noteFailure("2001:db8::7");
    limit.noteElsewhere([
      [told[0]!, 2],
      [told[1]!, 4],
    ]);
    expect([attempt("10.0.0.1"), attempt("10.0.0.2"), attempt("2001:db8::8")]).toEqual([1, 0, 4]);
    expect(told).toHaveLength(2);
    expect(limit.counts.failures).toBe(2);
  });

  test("what has no address is not counted", () => {
    const { limit, attempt } = setUp(0);
    limit.noteFailure("");
    expect([attempt(""), limit.addressCount]).toEqual([0, 0]);
  });
});

test("who disconnects too often within the window is banned for a while", () => {
  const bans: Ban[] = [];
  const flapping = new Flapping({ countMax: 3, windowSec: 10, banSec: 100 }, (made) => void bans.push(made));
  const leave = (clientId: string, nowSec: number): void =>
    flapping.handleDisconnect({ ...knownClient, clientId }, nowSec);
  leave("a", 0);
  leave("a", 5);
  leave("b", 5);
  leave("a", 10); // a new window
  leave("a", 11);
  expect(bans).toEqual([]);
  leave("a", 12);
  expect(bans).toMatchObject([{ kind: "clientId", value: "a", untilSec: 112 }]);
  leave("a", 13);
  expect(bans).toHaveLength(1);
});

describe("the table of users", () => {
  const passwords = new PasswordChecker({ memoryKiB: 64, timeCost: 1 });

  test("keeps no password, and says whose right has changed", async () => {
    const file = path();
    const db = database(file);
    let changes = 0;
    const users = new UserTable(
      () => db,
      passwords,
      () => changes++,
    );
    await users.put("alice", Buffer.from("wonder"));
    await users.put("bob", Buffer.from("builder"), true);
    expect(users.list()).toEqual([
      { username: "alice", isSuperuser: false },
      { username: "bob", isSuperuser: true },
    ]);
    expect(users.list("alice", 1).map(({ username }) => username)).toEqual(["bob"]);
    const seen = db.lastChange();
    expect(db.changedSince(0, "username")).toEqual([]); // who is new loses nothing
    await users.put("alice", Buffer.from("changed"));
    expect(users.setSuperuser("bob", false)).toBe(true);
    expect(users.setSuperuser("nobody", false)).toBe(false);
    expect(users.delete("bob")).toBe(true);
    expect(users.delete("bob")).toBe(false);
    expect(db.changedSince(seen, "username").toSorted()).toEqual(["alice", "bob"]);
    expect(db.changedSince(db.lastChange(), "username")).toEqual([]);
    expect(db.scram("alice", "SCRAM-SHA-256")).toBeDefined();
    expect(db.scram("bob", "SCRAM-SHA-256")).toBeUndefined();
    expect(changes).toBe(5);
    const raw = new Database(file, { readonly: true });
    const dump = JSON.stringify(raw.query("SELECT * FROM users").all());
    raw.close();
    expect(dump).toContain("$argon2id$");
    expect(dump).not.toContain("changed");
  });

  test("refuses what can be no user", async () => {
    const users = new UserTable(() => database(), passwords);
    for (const [name, word] of [
      ["", "p"],
      ["a\u0000", "p"],
      ["\ud800", "p"],
      ["a", ""],
    ] as const)
      expect(users.put(name, Buffer.from(word))).rejects.toThrow(MantouError);
    expect(users.putClient("c", undefined, ["x"])).rejects.toThrow(MantouError);
  });
});

test("a database of an older broker gets what it lacks and keeps what it has", async () => {
  const file = path();
  const before = database(file);
  before.putBan({ kind: "clientId", value: "c", untilSec: undefined, reason: "" });
  before.close();
  const raw = new Database(file);
  raw.run("DROP TABLE secrets");
  raw.run("DROP TABLE ruleList");
  raw.run("PRAGMA user_version = 1");
  raw.close();
  const [one, other] = [database(file), database(file)];
  expect(one.bans()).toHaveLength(1);
  expect(one.ruleList()).toEqual({ revision: 0, text: "[]" });
  expect(one.secret("a")).toHaveLength(32);
  expect(other.secret("a")).toEqual(one.secret("a"));
  expect(other.secret("b")).not.toEqual(one.secret("a"));
});

test("a database of a newer broker, or none at all, is told plainly", () => {
  const file = path();
  database(file);
  const raw = new Database(file);
  raw.run("PRAGMA user_version = 99");
  raw.close();
  expect(() => database(file)).toThrow(/made by a newer version/);
  const broken = path();
  expect(() => database(join(broken, "..", ".."))).toThrow(MantouError);
});
