/**
 * Signing in: accounts with passwords, sessions of browsers, API keys of programs.
 *
 *   password ─► attempts of the address (delayed after failures) ─► argon2id ─► session: random token, kept as its SHA-256
 *   API key  `mk_ID.SECRET` ─► SHA-256 of the secret, compared in constant time
 *
 * The first account is admin with the password public, as emqttd's dashboard had it; until that password is changed it is taken
 * only from this machine itself. Sessions are in memory, at most `SESSION_COUNT_MAX`; the oldest gives way.
 */
import { createHash, randomBytes, timingSafeEqual } from "node:crypto";
import { AttemptLimit } from "#access/attempt-limit.ts";
import { AUTO_SCHEME, isEqualSecret, PasswordChecker, type PasswordVerdict } from "#access/password.ts";
import { MantouError } from "#base/error.ts";
import type { AdminDb, AdminRow, KeyRow } from "./admin-db.ts";
import type { Identity, Role } from "./identity.ts";

const FIRST_NAME = "admin";
const FIRST_PASSWORD = "public";
const SESSION_COUNT_MAX = 1000;
const KEY_COUNT_MAX = 1000;
const ADMIN_COUNT_MAX = 1000;
const PASSWORD_LENGTH_MIN = 8;
const HASHES_WAITING_MAX = 32;
/** Five failures of an address cost nothing; then each attempt waits 1, 2, 4, 8 seconds after the one before. */
const ATTEMPTS = { failureCountMax: 5, windowSec: 300, delaySecMax: 8 };
/** Of nobody: an unknown name takes as long as a known one. */
const DECOY =
  "$argon2id$v=19$m=19456,t=2,p=1$8zpfe+b3jS67eRSCSZ3f9MzzTAMivGC6Ud1yEErnds8$lYJx755yiDk1KFgxHN+sb1zvrcFZ8IcZiC9DtFB0tQ8";

interface Session {
  readonly username: string;
  readonly csrfToken: string;
  readonly endsAtMs: number;
}

export interface AccountsOptions {
  /** Opened when it is first needed. */
  readonly db: () => AdminDb;
  readonly sessionSec: number;
  /** Of the first account, when there is none yet. */
  readonly firstPassword: string | undefined;
  readonly nowMs?: () => number;
}

export interface SignedIn {
  /** For the cookie. */
  readonly token: string;
  readonly identity: Identity;
}

export class Accounts {
  private readonly sessions = new Map<string, Session>();
  private readonly passwords = new PasswordChecker({ waitingMax: HASHES_WAITING_MAX });
  private readonly attempts = new AttemptLimit(ATTEMPTS);
  private readonly nowMs: () => number;
  private opened: AdminDb | undefined;

  constructor(private readonly options: AccountsOptions) {
    this.nowMs = options.nowMs ?? Date.now;
  }

  /** Opens the table and gives it its first account. Rejects with MantouError `password_invalid` or `admin_db_unusable`. */
  async open(): Promise<void> {
    const { firstPassword } = this.options;
    const db = this.options.db();
    if (db.admins().length === 0) {
      const isDefault = firstPassword === undefined;
      const hash = isDefault ? "" : await this.hash(firstPassword);
      db.putAdmin({ username: FIRST_NAME, hash, role: "administrator", isDefault });
    }
    this.opened = db;
  }

  /** True while the well-known password opens an account. */
  get hasDefault(): boolean {
    return this.opened?.admins().some(({ isDefault }) => isDefault) ?? false;
  }

  /**
   * Rejects with MantouError `credentials_wrong`, `server_busy`, or `default_password` when the well-known password is not taken
   * because the request does not come from this machine itself.
   */
  async signIn(username: string, password: string, from: { address: string; isLocal: boolean }): Promise<SignedIn> {
    await this.admit(from.address);
    const row = this.table.admin(username);
    if (!(await this.isRight(row, password))) {
      this.attempts.noteFailure(from.address);
      throw new MantouError("credentials_wrong", "user name or password is wrong");
    }
    if (row!.isDefault && !from.isLocal) {
      const words = "the first password is taken only on the broker's own machine, until it is changed there";
      throw new MantouError("default_password", words);
    }
    const token = randomBytes(32).toString("base64url");
    const csrfToken = randomBytes(24).toString("base64url");
    if (this.sessions.size >= SESSION_COUNT_MAX) this.sessions.delete(this.sessions.keys().next().value!);
    this.sessions.set(digest(token).toString("hex"), {
      username,
      csrfToken,
      endsAtMs: this.nowMs() + this.options.sessionSec * 1000,
    });
    return { token, identity: identityOf(row!, csrfToken) };
  }

  /** Whose session it is; undefined when it is over. `isLocal` as for signing in. */
  findSession(token: string, isLocal: boolean): Identity | undefined {
    const id = digest(token).toString("hex");
    const session = this.sessions.get(id);
    if (!session) return undefined;
    const row = this.table.admin(session.username);
    if (!row || this.nowMs() >= session.endsAtMs) {
      this.sessions.delete(id);
      return undefined;
    }
    return row.isDefault && !isLocal ? undefined : identityOf(row, session.csrfToken);
  }

  signOut(token: string): void {
    this.sessions.delete(digest(token).toString("hex"));
  }

  /** Undefined when it is unknown or has expired. A secret of 32 random bytes needs no delay against guessing. */
  findKey(text: string): Identity | undefined {
    const [, id = "", secret = ""] = /^mk_([0-9a-f]{16})\.([A-Za-z0-9_-]{43})$/.exec(text) ?? [];
    const row = id === "" ? undefined : this.table.key(id);
    const isRight = row !== undefined && timingSafeEqual(row.digest, digest(secret));
    const isOver = row?.expiresAtSec !== undefined && row.expiresAtSec * 1000 <= this.nowMs();
    return isRight && !isOver ? { name: `key ${row.name}`, role: row.role, way: "key" } : undefined;
  }

  // ---- accounts

  list(): Omit<AdminRow, "hash">[] {
    return this.table.admins().map(({ username, role, isDefault }) => ({ username, role, isDefault }));
  }

  /** Adds an account, or changes its password, its role, or both. Its sessions end. */
  async put(
    username: string,
    { password, role }: { password?: string | undefined; role?: Role | undefined },
  ): Promise<void> {
    const before = this.table.admin(username);
    if (!before && password === undefined)
      throw new MantouError("params_invalid", "password: found nothing, allowed: the password of the new account");
    if (!before && this.list().length >= ADMIN_COUNT_MAX)
      throw new MantouError("params_invalid", `found ${ADMIN_COUNT_MAX} accounts, allowed: no more`);
    if (role !== undefined && role !== "administrator") this.refuseLast(username);
    const hash = password === undefined ? before!.hash : await this.hash(password);
    const isDefault = password === undefined && before!.isDefault;
    this.table.putAdmin({ username, hash, role: role ?? before?.role ?? "viewer", isDefault });
    this.endSessions(username);
  }

  /** False when there is no such account. */
  delete(username: string): boolean {
    this.refuseLast(username);
    this.endSessions(username);
    return this.table.deleteAdmin(username);
  }

  /** Rejects with `credentials_wrong` when `old` is not the password. */
  async changePassword(username: string, old: string, password: string, address: string): Promise<void> {
    await this.admit(address);
    if (!(await this.isRight(this.table.admin(username), old))) {
      this.attempts.noteFailure(address);
      throw new MantouError("credentials_wrong", "the old password is wrong");
    }
    await this.put(username, { password });
  }

  // ---- keys

  listKeys(): Omit<KeyRow, "digest">[] {
    return this.table.keys().map(({ id, name, role, createdBy, createdAtSec, expiresAtSec }) => ({
      id,
      name,
      role,
      createdBy,
      createdAtSec,
      expiresAtSec,
    }));
  }

  /** The key, which is shown this one time. */
  addKey(wish: { name: string; role: Role; expiresAtSec?: number | undefined; createdBy: string }): {
    id: string;
    key: string;
  } {
    if (this.table.keys().length >= KEY_COUNT_MAX)
      throw new MantouError("params_invalid", `found ${KEY_COUNT_MAX} API keys, allowed: no more`);
    const id = randomBytes(8).toString("hex");
    const secret = randomBytes(32).toString("base64url");
    const createdAtSec = Math.floor(this.nowMs() / 1000);
    this.table.addKey({ ...wish, id, digest: digest(secret), createdAtSec, expiresAtSec: wish.expiresAtSec });
    return { id, key: `mk_${id}.${secret}` };
  }

  deleteKey(id: string): boolean {
    return this.table.deleteKey(id);
  }

  private get table(): AdminDb {
    return (this.opened ??= this.options.db());
  }

  /** An administrator must be left. */
  private refuseLast(username: string): void {
    const others = this.table.admins().filter((row) => row.username !== username && row.role === "administrator");
    if (others.length === 0 && this.table.admin(username)?.role === "administrator")
      throw new MantouError("last_administrator", `${username} is the last administrator`);
  }

  private endSessions(username: string): void {
    for (const [id, session] of this.sessions) if (session.username === username) this.sessions.delete(id);
  }

  /** Resolves when the address may try. */
  private admit(address: string): Promise<void> {
    return new Promise((resolve, reject) => {
      this.attempts.admit(address, (refusal) => {
        if (refusal === 0) resolve();
        else reject(new MantouError("server_busy", "too many failed attempts from this address; try again later"));
      });
    });
  }

  private async isRight(row: AdminRow | undefined, password: string): Promise<boolean> {
    if (row?.isDefault) return isEqualSecret(Buffer.from(password), Buffer.from(FIRST_PASSWORD));
    const verdict = await new Promise<PasswordVerdict>((resolve) => {
      this.passwords.check(Buffer.from(password), { hash: row?.hash ?? DECOY, scheme: AUTO_SCHEME }, resolve);
    });
    if (verdict === "busy") throw new MantouError("server_busy", "too many sign-ins at once; try again");
    return row !== undefined && verdict === "match";
  }

  private hash(password: string): Promise<string> {
    if (password.length < PASSWORD_LENGTH_MIN || password === FIRST_PASSWORD)
      throw new MantouError("password_invalid", `password: allowed: at least ${PASSWORD_LENGTH_MIN} characters`);
    return new Promise((resolve, reject) => {
      this.passwords.hash(Buffer.from(password), (text) => {
        if (text === undefined)
          reject(new MantouError("server_busy", "too many passwords are being hashed; try again"));
        else resolve(text);
      });
    });
  }
}

function identityOf({ username, role, isDefault }: AdminRow, csrfToken: string): Identity {
  return { name: username, role, way: "session", csrfToken, isDefault };
}

function digest(secret: string): Buffer {
  return createHash("sha256").update(secret).digest();
}
