/**
 * From what a stopped process left on the disk to sessions at rest: the log is replayed, sessions that it names and those
 * whose snapshot still has waiting messages in memory are written anew, and the log is emptied. A backend does it in one
 * transaction and then hands all sessions over as they stand in its table.
 *
 * Cost: the log, which the engine keeps short, and one look at each session's snapshot; messages are not read.
 */
import { ByteReader, ByteWriter } from "#base/byte-writer.ts";
import { visitEntries } from "./change-reader.ts";
import type { LoadedEntries } from "./log-backend.ts";
import { isAtRest, Replayer, type ReplaySource, type RestingSession, restSnapshots } from "./session-replay.ts";
import type { Snapshots } from "./session-replay.ts";

/** Length of a body that is lost. */
const LOST = 0xffff_ffff;

export interface RecoveryTables extends ReplaySource {
  /** In the order of batches. */
  logRows(): Iterable<{ readonly batch: number; readonly ops: Buffer }>;
  /** Ascending; sessions that were visited may be written meanwhile. */
  sessions(): Iterable<{ readonly session: number; readonly snapshots: Snapshots }>;
  pagesOf(session: number): readonly number[];
  putSession(session: number, resting: RestingSession): void;
  putPage(session: number, page: number, entries: Buffer): void;
  dropPage(session: number, page: number): void;
  /** The session's snapshots; its pages are dropped one by one. */
  dropSession(session: number): void;
  /** `lastSession` is the greatest number that the log names, 0 for none; the log may have been all that knew it. */
  emptyLog(lastSession: number): void;
}

/** Brings all sessions to rest; returns a line for each damage. Call it in one transaction. */
export function settle(tables: RecoveryTables): string[] {
  const replayer = new Replayer(tables);
  for (const { batch, ops } of tables.logRows()) replayer.apply(batch, ops);
  const damage: string[] = [];
  if (replayer.damageCount > 0) damage.push(`${replayer.damageCount} changes in the log did not fit and were skipped`);

  let lastSession = 0;
  for (const session of replayer.sessions) {
    lastSession = Math.max(lastSession, session);
    write(tables, session, replayer.rest(session));
  }
  for (const { session, snapshots } of tables.sessions()) {
    if (replayer.isTouched(session)) continue;
    let isDamaged = true;
    try {
      if (isAtRest(snapshots)) continue;
      isDamaged = snapshots.meta === null;
      write(tables, session, restSnapshots(snapshots));
    } catch (error) {
      if (!(error instanceof RangeError)) throw error;
      write(tables, session, null);
    }
    if (isDamaged) damage.push(`session ${session} is lost: its snapshot cannot be read`);
  }
  tables.emptyLog(lastSession);
  return damage;
}

function write(tables: RecoveryTables, session: number, resting: RestingSession | null): void {
  for (const { page, entries } of resting?.newPages ?? []) tables.putPage(session, page, entries);
  for (const page of tables.pagesOf(session)) if (!resting?.pages.has(page)) tables.dropPage(session, page);
  if (resting) tables.putSession(session, resting);
  else tables.dropSession(session);
}

/** Entries together with their bodies; `find` returns null for a body that is not there. */
export function loadEntries(entries: Buffer, find: (body: number) => Uint8Array | null): LoadedEntries {
  const out = new ByteWriter();
  visitEntries(new ByteReader(entries), (id) => {
    const body = find(id);
    out.u32(body ? body.length : LOST);
    if (body) out.bytes(Buffer.from(body.buffer, body.byteOffset, body.length));
  });
  return { entries, bodies: out.take() };
}
