/**
 * `<data>/admin.db`: who may operate the broker, their API keys, and what they did.
 *
 *   admins  username → argon2id text, role; the first account has the well-known password until it is changed
 *   keys    id → SHA-256 of the secret, name, role, expiry          audit   who, what, when, from where, with what outcome
 */
import { Database } from "bun:sqlite";
import { closeSync, mkdirSync, openSync } from "node:fs";
import { dirname } from "node:path";
import { MantouError } from "#base/error.ts";
import type { Role } from "./identity.ts";

/** The way of those who have not come in yet. */
export const SIGN_IN = "sign-in";
const REFUSED_PER_MIN = 30;
const SCHEMA_VERSION = 1;
const SCHEMA = `
  CREATE TABLE admins (
    username TEXT PRIMARY KEY, hash TEXT NOT NULL, role TEXT NOT NULL, isDefault INTEGER NOT NULL
  ) WITHOUT ROWID;
  CREATE TABLE keys (
    id TEXT PRIMARY KEY, digest BLOB NOT NULL, name TEXT NOT NULL, role TEXT NOT NULL, createdBy TEXT NOT NULL,
    createdAtSec INTEGER NOT NULL, expiresAtSec INTEGER
  ) WITHOUT ROWID;
  CREATE TABLE audit (
    seq INTEGER PRIMARY KEY AUTOINCREMENT, atMs INTEGER NOT NULL, who TEXT NOT NULL, way TEXT NOT NULL, address TEXT NOT NULL,
    action TEXT NOT NULL, target TEXT NOT NULL, outcome INTEGER NOT NULL
  );
`;

export interface AdminRow {
  readonly username: string;
  readonly hash: string;
  readonly role: Role;
  /** It still has the well-known password. */
  readonly isDefault: boolean;
}

export interface KeyRow {
  readonly id: string;
  readonly digest: Buffer;
  readonly name: string;
  readonly role: Role;
  readonly createdBy: string;
  readonly createdAtSec: number;
  readonly expiresAtSec: number | undefined;
}

export interface AuditEntry {
  /** Wall clock, milliseconds. */
  readonly atMs: number;
  readonly who: string;
  /** How they came: session, key, socket; or sign-in, when they did not come in. */
  readonly way: string;
  readonly address: string;
  readonly action: string;
  readonly target: string;
  /** HTTP status. */
  readonly outcome: number;
}

type Row = Record<string, string | number | Uint8Array | null>;

export class AdminDb {
  private readonly db: Database;
  private minute = 0;
  private refusedCount = 0;

  /** Makes the file, for its owner alone. Throws MantouError `admin_db_unusable`. */
  constructor(
    path: string,
    private readonly auditCountMax: number,
  ) {
    try {
      mkdirSync(dirname(path), { recursive: true, mode: 0o700 });
      closeSync(openSync(path, "a", 0o600));
      this.db = new Database(path);
      this.db.run("PRAGMA journal_mode = WAL");
      this.db.run("PRAGMA synchronous = NORMAL");
      this.db.run("PRAGMA busy_timeout = 5000");
      this.migrate(path);
    } catch (error) {
      if (error instanceof MantouError) throw error;
      throw new MantouError("admin_db_unusable", `${path}: ${(error as Error).message}`);
    }
  }

  close(): void {
    this.db.close();
  }

  admins(): AdminRow[] {
    return this.db.query<Row, []>("SELECT * FROM admins ORDER BY username").all().map(adminOf);
  }

  admin(username: string): AdminRow | undefined {
    const row = this.db.query<Row, [string]>("SELECT * FROM admins WHERE username = ?").get(username);
    return row ? adminOf(row) : undefined;
  }

  /** Adds or replaces. */
  putAdmin({ username, hash, role, isDefault }: AdminRow): void {
    this.db.query("INSERT OR REPLACE INTO admins VALUES (?, ?, ?, ?)").run(username, hash, role, isDefault ? 1 : 0);
  }

  deleteAdmin(username: string): boolean {
    return this.db.query("DELETE FROM admins WHERE username = ?").run(username).changes > 0;
  }

  keys(): KeyRow[] {
    return this.db.query<Row, []>("SELECT * FROM keys ORDER BY createdAtSec, id").all().map(keyOf);
  }

  key(id: string): KeyRow | undefined {
    const row = this.db.query<Row, [string]>("SELECT * FROM keys WHERE id = ?").get(id);
    return row ? keyOf(row) : undefined;
  }

  addKey({ id, digest, name, role, createdBy, createdAtSec, expiresAtSec }: KeyRow): void {
    const insert = this.db.query("INSERT INTO keys VALUES (?, ?, ?, ?, ?, ?, ?)");
    insert.run(id, digest, name, role, createdBy, createdAtSec, expiresAtSec ?? null);
  }

  deleteKey(id: string): boolean {
    return this.db.query("DELETE FROM keys WHERE id = ?").run(id).changes > 0;
  }

  /** The oldest entry gives way to one too many. Of those who did not come in so many a minute are noted, lest they wash out the rest. */
  addAudit({ atMs, who, way, address, action, target, outcome }: AuditEntry): void {
    if (way === SIGN_IN && outcome !== 200 && !this.hasRoom(atMs)) return;
    const insert = this.db.query(
      "INSERT INTO audit (atMs, who, way, address, action, target, outcome) VALUES (?, ?, ?, ?, ?, ?, ?)",
    );
    const { lastInsertRowid } = insert.run(atMs, who, way, address, action, target, outcome);
    this.db.query("DELETE FROM audit WHERE seq <= ?").run(Number(lastInsertRowid) - this.auditCountMax);
  }

  private hasRoom(atMs: number): boolean {
    const minute = Math.floor(atMs / 60_000);
    if (minute !== this.minute) this.refusedCount = 0;
    this.minute = minute;
    return ++this.refusedCount <= REFUSED_PER_MIN;
  }

  /** The latest first, before one of them. */
  audit(limit: number, before = Number.MAX_SAFE_INTEGER): (AuditEntry & { readonly seq: number })[] {
    const rows = this.db.query<Row, [number, number]>("SELECT * FROM audit WHERE seq < ? ORDER BY seq DESC LIMIT ?");
    return rows.all(before, limit) as unknown as (AuditEntry & { seq: number })[];
  }

  private migrate(path: string): void {
    const { user_version: version } = this.db.query<{ user_version: number }, []>("PRAGMA user_version").get()!;
    if (version > SCHEMA_VERSION) {
      const found = `made by a newer version of the broker (format ${version}, this one knows ${SCHEMA_VERSION})`;
      throw new MantouError("admin_db_unusable", `${path}: ${found}`);
    }
    if (version === SCHEMA_VERSION) return;
    this.db
      .transaction(() => {
        this.db.run(SCHEMA);
        this.db.run(`PRAGMA user_version = ${SCHEMA_VERSION}`);
      })
      .immediate();
  }
}

function adminOf(row: Row): AdminRow {
  const { username, hash, role, isDefault } = row as { username: string; hash: string; role: Role; isDefault: number };
  return { username, hash, role, isDefault: isDefault === 1 };
}

function keyOf(row: Row): KeyRow {
  const { digest, expiresAtSec, ...rest } = row;
  return {
    ...(rest as Pick<KeyRow, "id" | "name" | "role" | "createdBy" | "createdAtSec">),
    digest: Buffer.from(digest as Uint8Array),
    expiresAtSec: (expiresAtSec as number | null) ?? undefined,
  };
}
