/**
 * What a journal and its thread tell each other. Entries go over packed, so that a message has one piece of memory whatever the
 * number of its entries, and that piece is handed over and not copied.
 *
 *   Packed   seqs [s0 s1 …]   dues [d0 d1 …]   ends [e0 e1 …]   bytes | body 0 | body 1 | …
 */

/** Something that is kept. `seq` ascends, from above what is kept already; `due` is what entries are read by: wall-clock milliseconds, or 0. */
export interface JournalEntry {
  readonly seq: number;
  readonly due: number;
  readonly body: Uint8Array;
}

export type SyncMode = "full" | "normal" | "off";

export interface Packed {
  readonly seqs: Float64Array<ArrayBuffer>;
  readonly dues: Float64Array<ArrayBuffer>;
  readonly ends: Uint32Array<ArrayBuffer>;
  readonly bytes: Uint8Array<ArrayBuffer>;
}

export type JournalRequest =
  | { readonly kind: "open"; readonly path: string; readonly sync: SyncMode; readonly hasDues: boolean }
  | { readonly kind: "write"; readonly puts: Packed; readonly removes: readonly number[] }
  /** Those that are due, the earliest first. */
  | { readonly kind: "due"; readonly dueMax: number; readonly countMax: number; readonly bytesMax: number }
  /** By number. */
  | { readonly kind: "page"; readonly after: number; readonly countMax: number; readonly bytesMax: number }
  /** A database of somebody else's tables, and statements that are run as one transaction. */
  | { readonly kind: "sql-open"; readonly path: string; readonly schema: readonly string[] }
  | { readonly kind: "sql-run"; readonly texts: readonly string[]; readonly statements: readonly SqlStatement[] }
  | { readonly kind: "close" };

export type SqlValue = string | number | Uint8Array | null;

export interface SqlStatement {
  /** Its place in `texts`. */
  readonly text: number;
  readonly values: readonly SqlValue[];
}

export interface JournalState {
  readonly count: number;
  readonly bytes: number;
  readonly lastSeq: number;
  /** What was wrong with the file that was found, and where it is now. */
  readonly damage: string | undefined;
}

export interface JournalPart {
  readonly entries: Packed;
  /** When the earliest of those falls due that are not yet; undefined for none. */
  readonly nextDue: number | undefined;
}

/** By the kind of the request. */
export interface JournalAnswers {
  readonly open: JournalState;
  readonly write: { readonly removedCount: number; readonly removedBytes: number };
  readonly due: JournalPart;
  readonly page: JournalPart;
  readonly "sql-open": undefined;
  readonly "sql-run": undefined;
  readonly close: undefined;
}

export interface ToJournalThread {
  readonly id: number;
  readonly journal: number;
  readonly request: JournalRequest;
}

export type FromJournalThread =
  | { readonly id: number; readonly answer: JournalAnswers[keyof JournalAnswers] }
  | { readonly id: number; readonly failure: string };

export function pack(entries: readonly JournalEntry[]): Packed {
  const seqs = new Float64Array(entries.length);
  const dues = new Float64Array(entries.length);
  const ends = new Uint32Array(entries.length);
  const bytes = new Uint8Array(entries.reduce((sum, { body }) => sum + body.length, 0));
  let end = 0;
  for (const [i, { seq, due, body }] of entries.entries()) {
    bytes.set(body, end);
    end += body.length;
    seqs[i] = seq;
    dues[i] = due;
    ends[i] = end;
  }
  return { seqs, dues, ends, bytes };
}

export function unpack({ seqs, dues, ends, bytes }: Packed): JournalEntry[] {
  return Array.from(seqs, (seq, i) => {
    const start = i === 0 ? 0 : ends[i - 1]!;
    return { seq, due: dues[i]!, body: bytes.subarray(start, ends[i]) };
  });
}

export function memoryOf({ seqs, dues, ends, bytes }: Packed): ArrayBuffer[] {
  return [seqs.buffer, dues.buffer, ends.buffer, bytes.buffer];
}
