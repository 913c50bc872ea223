/**
 * What a durable store needs of the disk below it: batches that are written whole or not at all, in order, and a few
 * reads. `sqlite-link.ts` keeps them in a file by way of a thread; tests keep them in memory and lose what was not synced.
 *
 *   batch   item* , each  | kind u8 | fields … |     integers little-endian; u48 as u32 low, u16 high
 *
 *   BODY      1 | id u48 | length u32 | bytes                        a message, written once
 *   SNAPSHOT  2 | session u48 | part u8 | length u32 | bytes         part 0 the session, part 1 its queue; as of this batch
 *   REMOVE    3 | session u48                                        its snapshots and pages are forgotten
 *   PAGE      4 | session u48 | page u32 | length u32 | bytes        a run of its waiting messages
 *   DROP_PAGE 5 | session u48 | page u32
 *   RETAINED  6 | topicLength u16 | length u32 | topic | bytes       length 0: the topic has no value any more
 *   OPS       7 | length u32 | bytes                                 changes in order (session-log.ts): one row of the log
 *   TRIM      8 | batch u48                                          log rows of earlier batches are not needed any more
 *   COLLECT   9 | floor u48                                          bodies below `floor` that nothing names may go
 *
 * A session here is the number the store gave it, never used again.
 */

export const BODY = 1;
export const SNAPSHOT = 2;
export const REMOVE = 3;
export const PAGE = 4;
export const DROP_PAGE = 5;
export const RETAINED = 6;
export const OPS = 7;
export const TRIM = 8;
export const COLLECT = 9;

/** Parts of a snapshot. */
export const META = 0;
export const QUEUE = 1;

/** A run of waiting messages, read back. */
export interface LoadedEntries {
  /** Entries as session-log.ts has them, without count. */
  readonly entries: Buffer;
  /** For each entry, in order: | length u32 | bytes |; length 0xffffffff where the body is lost. */
  readonly bodies: Buffer;
}

export interface RecoveredSession {
  readonly session: number;
  readonly meta: Buffer;
  /** Queue snapshot without entries in memory: waiting messages are in pages, inflight ones in `inflight`. */
  readonly queue: Buffer;
}

export interface RecoveryReceiver {
  sessions(sessions: readonly RecoveredSession[]): void;
  retained(values: readonly { readonly topic: Buffer; readonly bytes: Buffer }[]): void;
  done(info: RecoveryInfo): void;
}

export interface RecoveryInfo {
  /** Greatest numbers ever used; 0 for none. */
  readonly lastBody: number;
  readonly lastSession: number;
  readonly lastBatch: number;
  /** What was found damaged, a line for the log each; empty when all was well. */
  readonly damage: readonly string[];
}

/** How a batch got to the disk. */
export interface CommitInfo {
  readonly batch: number;
  /** From taking the batch up to its sync. */
  readonly commitMs: number;
}

export interface LogBackend {
  /** Writes a batch after all before it; numbers ascend by one. The bytes become the backend's. */
  write(batch: number, bytes: Uint8Array<ArrayBuffer>): void;
  /** Reads a page and the bodies it names, as of all batches written before this call; null when it is not there. */
  readPage(session: number, page: number, complete: (loaded: LoadedEntries | null) => void): void;
  /** Reads the bodies that entries name. */
  readBodies(entries: Buffer, complete: (loaded: LoadedEntries) => void): void;
  /** Replays the log and hands over what there is, in parts. Once, before the first `write`. */
  recover(receiver: RecoveryReceiver): void;
  /** A batch and all before it are safe. */
  onCommitted: (info: CommitInfo) => void;
  /** A batch could not be written, for a reason such as "disk full"; it is tried again until it can: then `onCommitted`. */
  onFailed: (reason: string) => void;
}
