/**
 * `<data>/access.db`: users, client ids and bans that are managed while the broker runs, by CLI and REST.
 *
 *   users    username → argon2id text, super user or not        scram  (username, mechanism) → salt, iterations, keys
 *   clients  client id → argon2id text or none, address ranges  bans   (kind, value) → until, reason
 *   ruleList one row: all access rules as JSON, and how often they were changed
 *   changes  what was changed or taken away, in order: whose right may have gone
 *   secrets  what all processes have to know alike, and nobody else
 *
 * SQLite, so that a second process (the CLI) may write while the broker reads: each login reads the row of its user, and
 * `hasChanged` tells when somebody else has written. A point read takes some microseconds, on the calling thread.
 */
import { Database } from "bun:sqlite";
import { randomBytes } from "node:crypto";
import { closeSync, mkdirSync, openSync } from "node:fs";
import { dirname } from "node:path";
import { MantouError } from "#base/error.ts";

const WAL_TRY_COUNT = 100;
const WAL_PAUSE_MS = 10;
const SCHEMA_VERSION = 3;
const SECRET_BYTES = 32;
/** From each version to the next. */
const SCHEMAS = [
  `
  CREATE TABLE users (username TEXT PRIMARY KEY, hash TEXT NOT NULL, isSuperuser INTEGER NOT NULL) WITHOUT ROWID;
  CREATE TABLE scram (
    username TEXT NOT NULL REFERENCES users ON DELETE CASCADE, mechanism TEXT NOT NULL, salt BLOB NOT NULL,
    iterations INTEGER NOT NULL, storedKey BLOB NOT NULL, serverKey BLOB NOT NULL, PRIMARY KEY (username, mechanism)
  ) WITHOUT ROWID;
  CREATE TABLE clients (clientId TEXT PRIMARY KEY, hash TEXT, ranges TEXT NOT NULL) WITHOUT ROWID;
  CREATE TABLE bans (
    kind TEXT NOT NULL, value TEXT NOT NULL, untilSec INTEGER, reason TEXT NOT NULL, PRIMARY KEY (kind, value)
  ) WITHOUT ROWID;
  CREATE TABLE changes (seq INTEGER PRIMARY KEY AUTOINCREMENT, kind TEXT NOT NULL, value TEXT NOT NULL);
  CREATE TRIGGER user_gone AFTER DELETE ON users
    BEGIN INSERT INTO changes (kind, value) VALUES ('username', old.username); END;
  CREATE TRIGGER user_changed AFTER UPDATE ON users
    BEGIN INSERT INTO changes (kind, value) VALUES ('username', old.username); END;
  CREATE TRIGGER client_gone AFTER DELETE ON clients
    BEGIN INSERT INTO changes (kind, value) VALUES ('clientId', old.clientId); END;
  CREATE TRIGGER changes_bound AFTER INSERT ON changes
    BEGIN DELETE FROM changes WHERE seq <= new.seq - 100000; END;
`,
  `CREATE TABLE secrets (name TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;`,
  `CREATE TABLE ruleList (id INTEGER PRIMARY KEY CHECK (id = 1), revision INTEGER NOT NULL, rules TEXT NOT NULL);`,
];

export interface UserRow {
  readonly username: string;
  readonly hash: string;
  readonly isSuperuser: boolean;
}

export interface ScramRow {
  readonly mechanism: string;
  readonly salt: Buffer;
  readonly iterations: number;
  readonly storedKey: Buffer;
  readonly serverKey: Buffer;
}

export interface ClientRow {
  readonly clientId: string;
  /** Undefined: no password is asked for. */
  readonly hash: string | undefined;
  /** Addresses and ranges, separated by spaces; empty: from anywhere. */
  readonly ranges: string;
}

export type BanKind = "clientId" | "username" | "address";

export interface Ban {
  readonly kind: BanKind;
  /** For `address`, an address or a range. */
  readonly value: string;
  /** Wall clock, seconds; undefined: for good. */
  readonly untilSec: number | undefined;
  readonly reason: string;
}

type Row = Record<string, string | number | Uint8Array | null>;

export class AccessDb {
  private readonly db: Database;
  private seenVersion: number;

  /** `:memory:` for one that is not kept. Throws MantouError `access_db_unusable`. */
  constructor(readonly path: string) {
    try {
      if (path !== ":memory:") makePrivate(path);
      this.db = new Database(path, { create: true, strict: true });
      this.db.run("PRAGMA busy_timeout = 2000");
      this.useWal();
      this.db.run("PRAGMA synchronous = FULL");
      this.db.run("PRAGMA foreign_keys = ON");
      this.migrate();
      this.seenVersion = this.dataVersion();
    } catch (error) {
      if (error instanceof MantouError) throw error;
      throw new MantouError("access_db_unusable", `${path}: ${(error as Error).message}`);
    }
  }

  close(): void {
    this.db.close();
  }

  /** True once after another process has written. */
  hasChanged(): boolean {
    const version = this.dataVersion();
    if (version === this.seenVersion) return false;
    this.seenVersion = version;
    return true;
  }

  user(username: string): UserRow | undefined {
    const row = this.db.query<Row, [string]>("SELECT * FROM users WHERE username = ?").get(username);
    return row ? userOf(row) : undefined;
  }

  /** In order of their names, after one of them. */
  users(after = "", limit = 1000): UserRow[] {
    const rows = this.db.query<Row, [string, number]>("SELECT * FROM users WHERE username > ? ORDER BY 1 LIMIT ?");
    return rows.all(after, limit).map(userOf);
  }

  /** Adds or replaces; the SCRAM keys are those of the same password. */
  putUser({ username, hash, isSuperuser }: UserRow, scram: readonly ScramRow[]): void {
    this.db.transaction(() => {
      this.db.query("DELETE FROM users WHERE username = ?").run(username);
      this.db.query("INSERT INTO users VALUES (?, ?, ?)").run(username, hash, isSuperuser ? 1 : 0);
      const insert = this.db.query("INSERT INTO scram VALUES (?, ?, ?, ?, ?, ?)");
      for (const row of scram)
        insert.run(username, row.mechanism, row.salt, row.iterations, row.storedKey, row.serverKey);
    })();
  }

  setSuperuser(username: string, isSuperuser: boolean): boolean {
    const sql = "UPDATE users SET isSuperuser = ? WHERE username = ?";
    return this.db.query(sql).run(isSuperuser ? 1 : 0, username).changes > 0;
  }

  deleteUser(username: string): boolean {
    return this.db.query("DELETE FROM users WHERE username = ?").run(username).changes > 0;
  }

  scram(username: string, mechanism: string): ScramRow | undefined {
    const sql = "SELECT * FROM scram WHERE username = ? AND mechanism = ?";
    const row = this.db.query<Row, [string, string]>(sql).get(username, mechanism);
    if (!row) return undefined;
    return {
      mechanism,
      salt: Buffer.from(row["salt"] as Uint8Array),
      iterations: row["iterations"] as number,
      storedKey: Buffer.from(row["storedKey"] as Uint8Array),
      serverKey: Buffer.from(row["serverKey"] as Uint8Array),
    };
  }

  /** Random bytes, the same for as long as the database is there. */
  secret(name: string): Buffer {
    const read = this.db.query<{ value: Uint8Array }, [string]>("SELECT value FROM secrets WHERE name = ?");
    const known = read.get(name);
    if (known) return Buffer.from(known.value);
    // Another process may be faster.
    this.db.query("INSERT OR IGNORE INTO secrets VALUES (?, ?)").run(name, randomBytes(SECRET_BYTES));
    return Buffer.from(read.get(name)!.value);
  }

  client(clientId: string): ClientRow | undefined {
    const row = this.db.query<Row, [string]>("SELECT * FROM clients WHERE clientId = ?").get(clientId);
    return row ? clientOf(row) : undefined;
  }

  clients(after = "", limit = 1000): ClientRow[] {
    const rows = this.db.query<Row, [string, number]>("SELECT * FROM clients WHERE clientId > ? ORDER BY 1 LIMIT ?");
    return rows.all(after, limit).map(clientOf);
  }

  putClient({ clientId, hash, ranges }: ClientRow): void {
    this.db.transaction(() => {
      this.db.query("DELETE FROM clients WHERE clientId = ?").run(clientId);
      this.db.query("INSERT INTO clients VALUES (?, ?, ?)").run(clientId, hash ?? null, ranges);
    })();
  }

  deleteClient(clientId: string): boolean {
    return this.db.query("DELETE FROM clients WHERE clientId = ?").run(clientId).changes > 0;
  }

  /** Number of the latest change. */
  lastChange(): number {
    const sql = "SELECT seq FROM sqlite_sequence WHERE name = 'changes'";
    return this.db.query<{ seq: number }, []>(sql).get()?.seq ?? 0;
  }

  /** Users, or clients, that were changed or taken away after a change. */
  changedSince(seq: number, kind: "username" | "clientId"): string[] {
    const sql = "SELECT DISTINCT value FROM changes WHERE seq > ? AND kind = ?";
    return this.db
      .query<{ value: string }, [number, string]>(sql)
      .all(seq, kind)
      .map(({ value }) => value);
  }

  /** All access rules as JSON; an empty list of revision 0 when there are none yet. */
  ruleList(): { readonly revision: number; readonly text: string } {
    const row = this.db.query<Row, []>("SELECT revision, rules FROM ruleList").get();
    return { revision: (row?.["revision"] as number | undefined) ?? 0, text: (row?.["rules"] as string) ?? "[]" };
  }

  /** Returns the new revision; undefined when the present one is not `revision` any more. */
  putRuleList(text: string, revision: number | undefined): number | undefined {
    return this.db
      .transaction(() => {
        const now = this.ruleList().revision;
        if (revision !== undefined && revision !== now) return undefined;
        this.db.query("INSERT OR REPLACE INTO ruleList VALUES (1, ?, ?)").run(now + 1, text);
        return now + 1;
      })
      .immediate();
  }

  bans(): Ban[] {
    return this.db.query<Row, []>("SELECT * FROM bans").all().map(banOf);
  }

  putBan({ kind, value, untilSec, reason }: Ban): void {
    this.db.query("INSERT OR REPLACE INTO bans VALUES (?, ?, ?, ?)").run(kind, value, untilSec ?? null, reason);
  }

  deleteBan(kind: BanKind, value: string): boolean {
    return this.db.query("DELETE FROM bans WHERE kind = ? AND value = ?").run(kind, value).changes > 0;
  }

  deleteBansUntil(nowSec: number): void {
    this.db.query("DELETE FROM bans WHERE untilSec <= ?").run(nowSec);
  }

  /** While two processes make the file, SQLite refuses one of them at once, whatever `busy_timeout` says. */
  private useWal(): void {
    for (let left = WAL_TRY_COUNT; ; left--)
      try {
        return void this.db.run("PRAGMA journal_mode = WAL");
      } catch (error) {
        if (left === 0 || (error as { code?: string }).code !== "SQLITE_BUSY") throw error;
        Bun.sleepSync(WAL_PAUSE_MS);
      }
  }

  private migrate(): void {
    const version = this.pragma("user_version");
    if (version > SCHEMA_VERSION) {
      const found = `made by a newer version of the broker (format ${version}, this one knows ${SCHEMA_VERSION})`;
      throw new MantouError("access_db_unusable", `${this.path}: ${found}`);
    }
    if (version === SCHEMA_VERSION) return;
    this.db
      .transaction(() => {
        // Another process may have been faster.
        for (const schema of SCHEMAS.slice(this.pragma("user_version"))) this.db.run(schema);
        this.db.run(`PRAGMA user_version = ${SCHEMA_VERSION}`);
      })
      .immediate();
  }

  private dataVersion(): number {
    return this.pragma("data_version");
  }

  private pragma(name: string): number {
    return Object.values(this.db.query<Record<string, number>, []>(`PRAGMA ${name}`).get()!)[0];
  }
}

/** Hashes are nobody else's business: SQLite gives the files beside it the same mode. */
function makePrivate(path: string): void {
  mkdirSync(dirname(path), { recursive: true, mode: 0o700 });
  closeSync(openSync(path, "a", 0o600));
}

function userOf(row: Row): UserRow {
  return {
    username: row["username"] as string,
    hash: row["hash"] as string,
    isSuperuser: row["isSuperuser"] === 1,
  };
}

function clientOf(row: Row): ClientRow {
  return {
    clientId: row["clientId"] as string,
    hash: (row["hash"] as string | null) ?? undefined,
    ranges: row["ranges"] as string,
  };
}

function banOf(row: Row): Ban {
  return {
    kind: row["kind"] as BanKind,
    value: row["value"] as string,
    untilSec: (row["untilSec"] as number | null) ?? undefined,
    reason: row["reason"] as string,
  };
}
