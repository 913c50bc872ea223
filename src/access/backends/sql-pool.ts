/**
 * Connections to an SQL server, one query on each at a time.
 *
 *   query ─► an idle connection, else a new one ─► answered, or refused by the server: idle again
 *                                                ─► lost, or given up by its signal: closed, and all that are idle with it
 *
 * Each connection is a `Bun.SQL` of its own with room for one, so that giving up a query closes its connection and nothing
 * else. After a loss the idle ones are as suspect: without closing them, each would cost a login its deadline. How many
 * there are is bounded by who calls: `RemoteGuard` runs so many at a time.
 *
 * SQLite's one connection is used on the calling thread: a query is answered before `query` returns to the loop.
 */
import { SQL } from "bun";
import { AnsweredFault } from "#access/remote-guard.ts";

export type SqlValue = string | null;
export type SqlRow = Readonly<Record<string, unknown>>;

/** What the server said of a question with this client's words in it: other clients' are none the worse. */
export class WordsRefused extends Error {}

/** MySQL's errors about characters that a column cannot hold or compare; they have no class of their own. */
const WORDS_ERRNOS: ReadonlySet<unknown> = new Set([1267, 1270, 1271, 1300, 1366, 3854, 3988]);

export class SqlPool {
  readonly counts = { connected: 0, closed: 0 };
  private idle: SQL[] = [];
  private readonly busy = new Set<SQL>();

  constructor(
    private readonly options: SQL.Options,
    /** For messages: whom it speaks to. */
    private readonly place: string,
  ) {}

  /** Rejects with WordsRefused, or with what the server or the way to it has failed by. */
  async query(text: string, values: readonly SqlValue[], signal: AbortSignal): Promise<SqlRow[]> {
    const sql = this.idle.pop() ?? this.connect();
    this.busy.add(sql);
    const giveUp = (): void => this.lose(sql);
    signal.addEventListener("abort", giveUp, { once: true });
    try {
      const rows = await sql.unsafe<SqlRow[]>(text, [...values]);
      this.release(sql);
      return rows.map(plainRow);
    } catch (error) {
      const { message, code } = error as Error & { code?: string };
      if (hasSqlState(error)) this.release(sql);
      else this.lose(sql);
      if (isWordsFault(error)) throw new WordsRefused(message);
      const words = `${this.place}: ${message}${code === undefined ? "" : ` (${code})`}`;
      throw hasSqlState(error) ? new AnsweredFault(words) : new Error(words);
    } finally {
      signal.removeEventListener("abort", giveUp);
    }
  }

  async stop(): Promise<void> {
    for (const sql of this.busy) this.close(sql);
    this.busy.clear();
    this.closeIdle();
  }

  private connect(): SQL {
    this.counts.connected++;
    return new SQL(this.options);
  }

  private release(sql: SQL): void {
    if (this.busy.delete(sql)) this.idle.push(sql);
  }

  private lose(sql: SQL): void {
    if (!this.busy.delete(sql)) return;
    this.close(sql);
    this.closeIdle();
  }

  private closeIdle(): void {
    for (const sql of this.idle.splice(0)) this.close(sql);
  }

  private close(sql: SQL): void {
    this.counts.closed++;
    // At once: what still runs on it is rejected.
    sql.close({ timeout: 0 }).catch(() => {});
  }
}

/** PostgreSQL has it in `errno`, MySQL in `sqlState`; a lost connection has none. */
function sqlStateOf(error: unknown): string | undefined {
  const { errno, sqlState } = error as { errno?: unknown; sqlState?: unknown };
  const found = typeof sqlState === "string" ? sqlState : errno;
  return typeof found === "string" && /^[0-9A-Z]{5}$/.test(found) ? found : undefined;
}

/** The server has answered, and the connection is whole; but for those by which it says goodbye. */
function hasSqlState(error: unknown): boolean {
  const state = sqlStateOf(error);
  return state !== undefined && !/^(08|57|28|53)/.test(state);
}

/** Class 22 is "data exception". */
function isWordsFault(error: unknown): boolean {
  return sqlStateOf(error)?.startsWith("22") === true || WORDS_ERRNOS.has((error as { errno?: unknown }).errno);
}

/** Names in lower case; bytes as the text that they are. */
function plainRow(row: SqlRow): SqlRow {
  const entries = Object.entries(row).map(([name, value]): [string, unknown] => [
    name.toLowerCase(),
    value instanceof Uint8Array ? Buffer.from(value).toString("utf8") : value,
  ]);
  return Object.fromEntries(entries);
}
