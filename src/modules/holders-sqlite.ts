/**
 * Who holds what: a table that all worker processes of a node write, and that outlives them.
 *
 *   find ─► row or none ─┬─ nobody, or a client that does not have it any more ─► take: only if the row is still that one
 *                        └─ one that has it
 *
 * Changes of one turn of the event loop are one transaction, so that many clients cost one wait for the disk.
 */
import { Database } from "bun:sqlite";
import { randomInt } from "node:crypto";
import type { PluginApi } from "#plugins/plugin.ts";

export interface Holding {
  readonly filter: string;
  readonly clientId: string;
  /** Another with each claim, also of the same client. */
  readonly claim: number;
}

interface Change {
  run(): unknown;
  resolve(answer: unknown): void;
  reject(error: unknown): void;
}

const BUSY_MS = 2000;
const WAL_TRY_COUNT = 100;
const WAL_PAUSE_MS = 10;
const CLAIM_MAX = 2 ** 47;
const SCHEMA = `
  CREATE TABLE IF NOT EXISTS holder (filter TEXT PRIMARY KEY, clientId TEXT NOT NULL, claim INTEGER NOT NULL) WITHOUT ROWID;
  CREATE INDEX IF NOT EXISTS holder_client ON holder (clientId);
`;

export class Holders {
  private readonly db: Database;
  private changes: Change[] = [];

  /** Throws when the file cannot be used. */
  constructor(path: string, sync: PluginApi["broker"]["sync"]) {
    this.db = new Database(path, { create: true, strict: true });
    this.db.run(`PRAGMA busy_timeout = ${BUSY_MS}`);
    this.useWal();
    this.db.run(`PRAGMA synchronous = ${sync === "memory" ? "off" : sync}`);
    this.db.run(SCHEMA);
  }

  /** Two processes that do so at once are in each other's way, whatever the time-out. */
  private useWal(): void {
    for (let left = WAL_TRY_COUNT; ; left--) {
      try {
        return void this.db.run("PRAGMA journal_mode = WAL");
      } catch (error) {
        if (left === 0) throw error;
        Bun.sleepSync(WAL_PAUSE_MS);
      }
    }
  }

  find(filter: string): Holding | undefined {
    const sql = "SELECT filter, clientId, claim FROM holder WHERE filter = ?";
    return this.db.query<Holding, [string]>(sql).get(filter) ?? undefined;
  }

  /** In order of their filters, after one of them. */
  page(after: string, limit: number): Holding[] {
    const sql = "SELECT filter, clientId, claim FROM holder WHERE filter > ? ORDER BY filter LIMIT ?";
    return this.db.query<Holding, [string, number]>(sql).all(after, limit);
  }

  holdsAny(clientId: string): boolean {
    return this.db.query<unknown, [string]>("SELECT 1 FROM holder WHERE clientId = ?").get(clientId) !== null;
  }

  get count(): number {
    return this.db.query<{ count: number }, []>("SELECT count(*) AS count FROM holder").get()!.count;
  }

  /**
   * A client takes what is still held as `find` said, by nobody or by another; all at one moment. Resolves, when it is safe, with what
   * it holds then.
   */
  take(wishes: readonly { filter: string; found: Holding | undefined }[], clientId: string): Promise<boolean[]> {
    const insert = this.db.query<unknown, [string, string, number, number]>(
      `INSERT INTO holder VALUES (?1, ?2, ?3)
        ON CONFLICT (filter) DO UPDATE SET clientId = ?2, claim = ?3 WHERE claim = ?4`,
    );
    return this.write(() =>
      wishes.map(({ filter, found }) => {
        insert.run(filter, clientId, randomInt(1, CLAIM_MAX), found?.claim ?? 0);
        return this.find(filter)!.clientId === clientId;
      }),
    );
  }

  /** The client does not have it any more. */
  drop(clientId: string, filter: string): Promise<void> {
    const remove = this.db.query<unknown, [string, string]>("DELETE FROM holder WHERE clientId = ? AND filter = ?");
    return this.write(() => void remove.run(clientId, filter));
  }

  dropAll(clientId: string): Promise<void> {
    const remove = this.db.query<unknown, [string]>("DELETE FROM holder WHERE clientId = ?");
    return this.write(() => void remove.run(clientId));
  }

  /** Nobody has it, unless it was claimed since it was found. */
  dropFound({ filter, claim }: Holding): Promise<void> {
    const remove = this.db.query<unknown, [string, number]>("DELETE FROM holder WHERE filter = ? AND claim = ?");
    return this.write(() => void remove.run(filter, claim));
  }

  private write<T>(run: () => T): Promise<T> {
    return new Promise((resolve, reject) => {
      const change: Change = { run, resolve: resolve as (answer: unknown) => void, reject };
      if (this.changes.push(change) === 1) setImmediate(() => this.commit());
    });
  }

  private commit(): void {
    const changes = this.changes.splice(0);
    if (changes.length === 0) return;
    try {
      const answers = this.db.transaction(() => changes.map(({ run }) => run())).immediate();
      for (const [i, { resolve }] of changes.entries()) resolve(answers[i]);
    } catch (error) {
      for (const { reject } of changes) reject(error);
    }
  }

  close(): void {
    this.commit();
    this.db.close();
  }
}
