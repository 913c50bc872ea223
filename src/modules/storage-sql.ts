/**
 * Events to PostgreSQL and MySQL: a batch is one transaction on one connection, its statements under way together. After any failure but
 * a refusal the connection is given up and the next batch opens another.
 *
 *   class 22 (data exception), 23 (constraint), MySQL's errors about values     refused: no repetition can help
 *   all else: no table, no right, no connection, no room, deadlock              tried again
 */
import { SQL } from "bun";
import type { BoundText } from "#base/template.ts";
import { connectionOptions, type ServerPlace } from "#access/backends/sql-server.ts";
import { Refused } from "./spool.ts";
import type { TargetOf } from "./storage-options.ts";
import { bindStatement, type StorageVariable, valueOf } from "./storage-template.ts";
import type { StoredRow, Writer } from "./storage-writer.ts";

/** Values that a column cannot hold; most have no state of class 22. */
const MYSQL_VALUE_ERRNOS: ReadonlySet<unknown> = new Set([1048, 1264, 1265, 1292, 1300, 1366, 1406, 3140, 3988, 4025]);

export class SqlWriter implements Writer {
  private sql: SQL | undefined;
  private readonly options: SQL.Options;
  private readonly statements: readonly BoundText<StorageVariable>[];

  /** @throws MantouError where a secret or a file is missing */
  constructor(
    { type, server, rules }: TargetOf<"postgresql" | "mysql">,
    place: ServerPlace,
    private readonly node: string,
  ) {
    this.options = connectionOptions(type === "mysql" ? "mysql" : "postgres", server, place);
    const placeholder = type === "mysql" ? () => "?" : (number: number) => `$${number}`;
    this.statements = rules.map(({ statement }) => boundOf(statement, placeholder));
  }

  async write(rows: readonly StoredRow[], signal: AbortSignal): Promise<void> {
    const sql = (this.sql ??= new SQL(this.options));
    const giveUp = (): void => this.close();
    signal.addEventListener("abort", giveUp, { once: true });
    try {
      await sql.begin((transaction) =>
        Promise.all(
          rows.map(({ rule, event }) => {
            const { text, variables } = this.statements[rule]!;
            return transaction.unsafe(
              text,
              variables.map((variable) => valueOf(event, variable, this.node)),
            );
          }),
        ),
      );
    } catch (error) {
      if (isRefusal(error)) throw new Refused((error as Error).message);
      this.close();
      throw error;
    } finally {
      signal.removeEventListener("abort", giveUp);
    }
  }

  stop(): void {
    this.close();
  }

  private close(): void {
    // At once: what still runs on it is rejected.
    this.sql?.close({ timeout: 0 }).catch(() => {});
    this.sql = undefined;
  }
}

export function boundOf(statement: string, placeholder: (number: number) => string): BoundText<StorageVariable> {
  const bound = bindStatement(statement, placeholder);
  if ("fault" in bound) throw new Error(bound.fault); // the configuration's schema has looked
  return bound;
}

/** PostgreSQL has its state in `errno`, MySQL in `sqlState`. */
function isRefusal(error: unknown): boolean {
  const { errno, sqlState } = error as { errno?: unknown; sqlState?: unknown };
  if (typeof sqlState === "string") return /^(22|23)/.test(sqlState) || MYSQL_VALUE_ERRNOS.has(errno);
  return typeof errno === "string" && /^(22|23)/.test(errno);
}
