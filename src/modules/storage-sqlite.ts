/** Events to an SQLite file, by the journals' thread: a batch is one transaction, and the event loop waits for no disk. */
import type { BoundText } from "#base/template.ts";
import { pathOf, type ServerPlace } from "#access/backends/sql-server.ts";
import { SqlFile } from "./journal.ts";
import type { SqlValue } from "./journal-message.ts";
import { Refused } from "./spool.ts";
import { boundOf } from "./storage-sql.ts";
import type { TargetOf } from "./storage-options.ts";
import { type StorageValue, type StorageVariable, valueOf } from "./storage-template.ts";
import { invalid, type StoredRow, type Writer } from "./storage-writer.ts";

/** What the database says of values, not of itself. */
const REFUSALS = /SQLITE_(CONSTRAINT|MISMATCH|TOOBIG|RANGE)/;

export class SqliteWriter implements Writer {
  private constructor(
    private readonly file: SqlFile,
    private readonly statements: readonly BoundText<StorageVariable>[],
    private readonly node: string,
  ) {}

  /** @throws MantouError `storage_invalid` when the file cannot be opened, or a statement of `schema` fails */
  static async open(
    { file, schema, rules }: TargetOf<"sqlite">,
    place: ServerPlace,
    node: string,
  ): Promise<SqliteWriter> {
    try {
      const opened = await SqlFile.open(pathOf(file, place), schema);
      return new SqliteWriter(
        opened,
        rules.map(({ statement }) => boundOf(statement, () => "?")),
        node,
      );
    } catch (error) {
      throw invalid(place.label, `${file}: ${(error as Error).message}`);
    }
  }

  async write(rows: readonly StoredRow[]): Promise<void> {
    try {
      await this.file.run(
        this.statements.map(({ text }) => text),
        rows.map(({ rule, event }) => {
          const { variables } = this.statements[rule]!;
          return { text: rule, values: variables.map((variable) => sqliteValue(valueOf(event, variable, this.node))) };
        }),
      );
    } catch (error) {
      const { message } = error as Error;
      throw REFUSALS.test(message) ? new Refused(message) : error;
    }
  }

  stop(): Promise<void> {
    return this.file.close();
  }
}

function sqliteValue(value: StorageValue): SqlValue {
  if (value instanceof Date) return value.toISOString();
  return typeof value === "boolean" ? Number(value) : value;
}
