/**
 * Reads what is readable of a table that may be damaged, in the order of its row ids, which needs no index.
 *
 *   rows … ok ok ok ✗ ? ? ? ? ? ? ok ok …      after an error: look 1, 2, 4, 8, … further until a sound row is found,
 *                  └─────────┬──┘              then halve the distance until the first one is
 *                           gap
 *
 * A row is sound when its checksum is right, so what SQLite makes of a damaged page cannot lead astray. Some dozens of
 * reads for each damaged place, however many rows there are.
 */
import type { Database } from "bun:sqlite";
import { isDamageAtStart } from "./fault-sqlite.ts";

const ROWS_PER_READ = 64;
const ROW_ID_MAX = 2 ** 52;
/** Gaps of a table that are told one by one. */
const GAPS_TOLD = 5;

export type Value = number | Uint8Array | null;
export type Row = readonly Value[];

export interface RowSource {
  readonly table: string;
  /** The row id first. */
  readonly columns: readonly string[];
  readonly isSound: (row: Row) => boolean;
}

/** Row ids between two sound rows, among them some that could not be read or had a wrong checksum. */
export interface Gap {
  readonly first: number;
  /** Infinity when nothing sound follows. */
  readonly last: number;
}

export class RowReader {
  readonly gaps: Gap[] = [];

  constructor(
    private readonly db: Database,
    private readonly source: RowSource,
  ) {}

  /** All sound rows. */
  *rows(): Generator<Row> {
    let after = -1;
    for (;;) {
      const { rows, isEnd } = this.readAfter(after, ROWS_PER_READ);
      yield* rows;
      if (rows.length > 0) after = rows[rows.length - 1][0] as number;
      if (isEnd) return;
      if (rows.length === ROWS_PER_READ) continue;
      const next = this.findAfter(after);
      this.gaps.push({ first: after + 1, last: next });
      if (next === Infinity) return;
      after = next;
    }
  }

  /** Sound rows right after an id: fewer than asked for before damage or at the end of the table. */
  private readAfter(after: number, limit: number): { rows: Row[]; isEnd: boolean } {
    const sound: Row[] = [];
    for (let left = limit; left > 0;) {
      const from = sound.length > 0 ? (sound[sound.length - 1][0] as number) : after;
      const rows = this.read(from, left);
      if (!rows && left === 1) return { rows: sound, isEnd: false };
      if (!rows) left = left >> 1;
      for (const row of rows ?? []) {
        if (!this.isSoundAfter(from, row)) return { rows: sound, isEnd: false };
        sound.push(row);
      }
      if (rows && rows.length < left) return { rows: sound, isEnd: true };
      if (rows && sound.length === limit) break;
      if (rows) left = Math.min(left, limit - sound.length);
    }
    return { rows: sound, isEnd: false };
  }

  /** An id after which a sound row comes next, or the end, beyond damage right after `after`. */
  private findAfter(after: number): number {
    let bad = after;
    let good = Infinity;
    for (let step = 1; after + step < ROW_ID_MAX; step *= 2) {
      if (this.isReadable(after + step)) {
        good = after + step;
        break;
      }
      bad = after + step;
    }
    if (good === Infinity) return Infinity;
    while (good - bad > 1) {
      const middle = Math.floor((good + bad) / 2);
      if (this.isReadable(middle)) good = middle;
      else bad = middle;
    }
    return good;
  }

  private isReadable(after: number): boolean {
    const rows = this.read(after, 1);
    return rows !== undefined && (rows.length === 0 || this.isSoundAfter(after, rows[0]));
  }

  /** A damaged inner page can lead back to rows that were read before. */
  private isSoundAfter(after: number, row: Row): boolean {
    return (row[0] as number) > after && this.source.isSound(row);
  }

  private read(after: number, limit: number): Row[] | undefined {
    const { table, columns } = this.source;
    const sql = `SELECT ${columns.join(", ")} FROM ${table} WHERE ${columns[0]} > ? ORDER BY ${columns[0]} LIMIT ?`;
    try {
      return this.db.query(sql).values(after, limit) as Row[];
    } catch (error) {
      if (!isDamageAtStart(error)) throw error;
      return undefined;
    }
  }
}

/** Empty when there are none. */
export function tellGaps(gaps: readonly Gap[]): string {
  if (gaps.length === 0) return "";
  const told = gaps.slice(0, GAPS_TOLD).map(({ first, last }) => {
    if (last === Infinity) return `from ${first} on`;
    return first === last ? `${first}` : `${first} to ${last}`;
  });
  const more = gaps.length > GAPS_TOLD ? ` and ${gaps.length - GAPS_TOLD} more places` : "";
  return `, unreadable: numbers ${told.join(", ")}${more}`;
}
