/** What the writers of `storage-*.ts` have in common. */
import { MantouError } from "#plugins/plugin.ts";
import type { BrokerEvent } from "./event.ts";

/** The way into a database. */
export interface Writer {
  /**
   * Resolves when all of it is there for good. `rule` is the number of the target's rule. Rejects with Refused when the database does not take
   * what is in it, whatever is done.
   */
  write(rows: readonly StoredRow[], signal: AbortSignal): Promise<unknown>;
  stop(): Promise<unknown> | void;
}

export interface StoredRow {
  readonly rule: number;
  readonly event: BrokerEvent;
}

export function invalid(label: string, words: string): MantouError {
  return new MantouError("storage_invalid", `${label}: ${words}`);
}
