/**
 * From the stores of so many processes to those of another number: every session goes where its client id belongs then.
 *
 *   old stores ── 1 mark ──► which bodies each new store needs            sessions come at rest: all that waits is in pages
 *              ── 2 bodies ─► new stores, each once, numbered from 1      │ meta │ queue: messages in flight, packet ids, … │
 *              ── 3 sessions► pages and queues that name the new numbers, metas as they are
 *              ── 4 retained► the newest value of each topic to every new store
 *   new stores ── swap (layout-sqlite.ts) ──► in their place
 *
 * What stands for other processes among the sessions is left out: it must have nothing under way. Memory: two bits for each message,
 * and with several old stores the retained topics. It works without threads and waits for nobody: the broker is stopped.
 */
import { rmSync } from "node:fs";
import { join } from "node:path";
import { ByteReader, ByteWriter } from "#base/byte-writer.ts";
import { MantouError } from "#base/error.ts";
import { ValueStamps } from "#core/peer-mark.ts";
import { PEER_PREFIX } from "#core/peers.ts";
import { visitEntries, visitQueue } from "./change-reader.ts";
import { codeOf, failureReason } from "./fault-sqlite.ts";
import { IdRanks, IdSet } from "./id-set.ts";
import {
  type Layouts,
  beginSwap,
  finishSwap,
  layoutOf,
  readSeed,
  settledLayout,
  storeDirs,
  swap,
  undoSwap,
  writeLayout,
} from "./layout-sqlite.ts";
import { BODY, META, PAGE, QUEUE, RETAINED, SNAPSHOT, TRIM } from "./log-backend.ts";
import { openLocked, type OpenedStore, openStore } from "./open-store-sqlite.ts";
import { retainedStamp, stamped } from "./retained-row.ts";
import { type Entry, readEntries, readMeta, readQueue, writeEntry, writeQueue } from "./session-log.ts";
import type { SyncMode } from "./store-file-sqlite.ts";
import { StoreLock } from "./store-file-sqlite.ts";
import type { SqliteTables } from "./tables-sqlite.ts";

const prefix = Buffer.from(PEER_PREFIX);
const BATCH_BYTES = 4 * 1024 * 1024;
const ROWS_PER_READ = 500;

export interface SpreadRequest {
  /** The data directory. */
  readonly dir: string;
  /** How many processes the data is to be of. */
  readonly count: number;
  /** Where a client belongs, from 0. */
  homeOf(clientId: Buffer, place: { readonly count: number; readonly seed: number }): number;
  /** Copies what is not the store's. */
  carry(layouts: Layouts): void;
}

export interface SpreadReport {
  readonly from: number;
  readonly sessionCount: number;
  readonly messageCount: number;
  readonly retainedCount: number;
  /** What was found damaged in the old stores, a line each. */
  readonly damage: readonly string[];
  /** Where what was there before is. */
  readonly aside: string;
}

/**
 * Makes the data in a directory that of another number of processes; undefined when it is already.
 * @throws MantouError `store_in_use`, `store_not_found`, `messages_between_workers`, `spread_failed`, or as opening a store does;
 *   the data is as before then
 */
export function spreadStore(request: SpreadRequest): SpreadReport | undefined {
  const { dir, count } = request;
  if (settledLayout(dir) === undefined)
    throw new MantouError("store_not_found", `there is no store in ${dir}`, { dir });
  const lock = StoreLock.take(dir);
  try {
    finishSwap(dir);
    const from = layoutOf(dir)!;
    return from === count ? undefined : spread(request, from);
  } finally {
    lock.release();
  }
}

function spread(request: SpreadRequest, from: number): SpreadReport {
  const { dir, count } = request;
  const open: OpenedStore[] = [];
  try {
    const next = beginSwap(dir);
    const seed = readSeed(dir);
    const damage: string[] = [];
    const olds = storeDirs(dir, from).map((path) => {
      const store = openOld(path, from === 1);
      open.push(store);
      damage.push(...store.recover());
      return new Old(store.writer.tables, from === 1 || readSeed(path) === seed);
    });
    const news = storeDirs(next, count).map((path) => {
      const store = openNew(path);
      open.push(store);
      if (count > 1) readSeed(path, seed);
      return new New(store);
    });
    const counts = copyAll(olds, news, { ...request, seed });
    for (const store of open.splice(0)) store.close();
    if (count > 1) writeLayout(next, count);
    request.carry({ dir, next, from: storeDirs(dir, from), to: storeDirs(next, count) });
    for (const path of storeDirs(next, count)) rmSync(join(path, "store.lock"), { force: true });
    return { from, ...counts, damage, aside: swap(dir) };
  } catch (error) {
    for (const store of open) store.close();
    throw failed(error, dir);
  }
}

function failed(error: unknown, dir: string): unknown {
  try {
    undoSwap(dir);
  } catch {
    // The next start does.
  }
  if (error instanceof MantouError || !/^(SQLITE_|E[A-Z]+$)/.test(codeOf(error))) return error;
  const says = `the store in ${dir} cannot be spread: ${failureReason(error)}`;
  return new MantouError("spread_failed", says, { dir });
}

const events = { committed(): void {}, failed(): void {} };
/** The lock of the data directory is held already. */
const noLock = { release(): void {} };

function openOld(dir: string, isLocked: boolean): OpenedStore {
  const file = { dir, sync: "full" as SyncMode };
  return isLocked ? openLocked(file, events, noLock) : openStore(file, events);
}

/** It is synced as a whole before it counts. */
function openNew(dir: string): OpenedStore {
  return openStore({ dir, sync: "off" }, events);
}

type Place = SpreadRequest & { readonly seed: number };

function copyAll(
  olds: readonly Old[],
  news: readonly New[],
  request: Place,
): Pick<SpreadReport, "sessionCount" | "messageCount" | "retainedCount"> {
  for (const old of olds) old.mark(request);
  refuseUnderWay(olds);
  for (const old of olds) for (const [home, to] of news.entries()) old.copyBodies(home, to);
  let sessionCount = 0;
  for (const old of olds) sessionCount += old.copySessions(news, request);
  const retainedCount = copyRetained(olds, news);
  const messageCount = news.reduce((sum, { lastBody }) => sum + lastBody, 0);
  for (const to of news) to.finish();
  return { sessionCount, messageCount, retainedCount };
}

function refuseUnderWay(olds: readonly Old[]): void {
  const count = olds.reduce((sum, { underWayCount }) => sum + underWayCount, 0);
  if (count === 0) return;
  const says = `${count} messages are on their way between workers: start the broker with workers: ${olds.length} and stop it again`;
  throw new MantouError("messages_between_workers", says, { count });
}

/** A session that stands for another process. */
function isPeer(clientId: Buffer): boolean {
  return clientId.subarray(0, prefix.length).equals(prefix);
}

/** A store as it was. */
class Old {
  /** Messages that other processes are to get. */
  underWayCount = 0;
  /** Bodies that each new store needs, by its number. */
  private readonly named = new Map<number, IdSet>();
  /** Where the bodies' new numbers begin, and their order. */
  private readonly numbers = new Map<number, { readonly first: number; readonly ranks: IdRanks }>();

  constructor(
    readonly tables: SqliteTables,
    /** Keys of publishers (retained-row.ts) are those of the new stores. */
    readonly hasSameSeed: boolean,
  ) {}

  mark({ homeOf, count, seed }: Place): void {
    for (const { session, meta, queue } of this.sessions()) {
      const { clientId } = readMeta(meta);
      const { inflight, lanes } = readQueue(queue);
      const pages = lanes.flatMap((lane) => lane.pages);
      if (isPeer(clientId)) {
        this.underWayCount += pages.reduce((sum, page) => sum + page.count, inflight.length);
        continue;
      }
      const named = this.namedFor(homeOf(clientId, { count, seed }));
      const name = (body: number): void => named.add(body);
      visitQueue(queue, name);
      for (const { page } of pages) {
        const entries = this.tables.readPageIfSound(session, page);
        if (entries) visitEntries(new ByteReader(entries), name);
      }
    }
  }

  copyBodies(home: number, to: New): void {
    const named = this.namedFor(home);
    const ranks = new IdRanks(named);
    const first = to.lastBody + 1;
    this.numbers.set(home, { first, ranks });
    let number = first;
    for (const id of named.ids()) {
      const body = this.tables.readBody(id);
      if (body) to.putBody(number, body); // a lost one stays lost
      number++;
    }
    to.lastBody += ranks.count;
  }

  /** Returns how many. */
  copySessions(news: readonly New[], { homeOf, count, seed }: Place): number {
    let sessionCount = 0;
    for (const { session, meta, queue: bytes } of this.sessions()) {
      const { clientId } = readMeta(meta);
      if (isPeer(clientId)) continue;
      const home = homeOf(clientId, { count, seed });
      const { first, ranks } = this.numbers.get(home)!;
      const renumber = (entry: Entry): void => void (entry.body = first + ranks.rankOf(entry.body));
      const to = news[home];
      const number = ++to.lastSession;
      const queue = readQueue(bytes);
      queue.inflight.forEach(renumber);
      for (const { page } of queue.lanes.flatMap(({ pages }) => pages)) {
        const entries = this.tables.readPageIfSound(session, page);
        if (!entries) continue; // its messages stay lost
        const run = readEntries(entries);
        run.forEach(renumber);
        to.putPage(number, page, run);
      }
      to.putSession(number, meta, (out) => writeQueue(out, queue));
      sessionCount++;
    }
    return sessionCount;
  }

  private *sessions(): Generator<{ session: number; meta: Buffer; queue: Buffer }> {
    for (let after = 0; ;) {
      const rows = this.tables.sessionsAfter(after, ROWS_PER_READ);
      if (rows.length === 0) return;
      for (const { session, snapshots } of rows) yield { session, meta: snapshots.meta!, queue: snapshots.queue! };
      after = rows[rows.length - 1].session;
    }
  }

  private namedFor(home: number): IdSet {
    let named = this.named.get(home);
    if (!named) this.named.set(home, (named = new IdSet()));
    return named;
  }
}

/** A store to be. */
class New {
  lastBody = 0;
  lastSession = 0;
  private readonly batch = new ByteWriter();
  private readonly blob = new ByteWriter();
  private lastBatch = 0;

  constructor(private readonly store: OpenedStore) {}

  putBody(number: number, bytes: Uint8Array): void {
    this.batch.u8(BODY);
    this.batch.u48(number);
    this.putBlob(Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length));
  }

  putPage(session: number, page: number, entries: readonly Entry[]): void {
    this.batch.u8(PAGE);
    this.batch.u48(session);
    this.batch.u32(page);
    this.blob.clear();
    for (const entry of entries) writeEntry(this.blob, entry);
    this.putBlob(this.blob.take());
  }

  putSession(session: number, meta: Buffer, writeQueueTo: (out: ByteWriter) => void): void {
    this.putSnapshot(session, META, meta);
    this.blob.clear();
    writeQueueTo(this.blob);
    this.putSnapshot(session, QUEUE, this.blob.take());
  }

  putRetained(topic: Buffer, bytes: Buffer): void {
    this.batch.u8(RETAINED);
    this.batch.u16(topic.length);
    this.batch.u32(bytes.length);
    this.batch.bytes(topic);
    this.batch.bytes(bytes);
    this.cutIfFull();
  }

  /** The last batch, which makes the rows of those before superfluous. */
  finish(): void {
    this.batch.u8(TRIM);
    this.batch.u48(this.lastBatch + 1);
    this.cut();
  }

  private putSnapshot(session: number, part: number, bytes: Buffer): void {
    this.batch.u8(SNAPSHOT);
    this.batch.u48(session);
    this.batch.u8(part);
    this.putBlob(bytes);
  }

  private putBlob(bytes: Buffer): void {
    this.batch.u32(bytes.length);
    this.batch.bytes(bytes);
    this.cutIfFull();
  }

  private cutIfFull(): void {
    if (this.batch.length >= BATCH_BYTES) this.cut();
  }

  private cut(): void {
    const { writer } = this.store;
    const { buffer, length } = this.batch;
    const number = ++this.lastBatch;
    writer.transact(() => writer.tables.apply(number, buffer.subarray(0, length)));
    this.batch.clear();
  }
}

/** Every process has them all, or nearly: of what differs the newest. Returns how many topics there are. */
function copyRetained(olds: readonly Old[], news: readonly New[]): number {
  const stamp = new ValueStamps(0, () => Date.now()).next();
  const newest = newestOf(olds);
  let count = 0;
  for (const [from, { tables, hasSameSeed }] of olds.entries()) {
    for (const { topic, bytes } of tables.retained([])) {
      if (newest && newest.get(topic.toString("latin1"))!.from !== from) continue;
      const { isRemoval } = retainedStamp(bytes);
      if (isRemoval && news.length === 1) continue; // one process needs no memory of what was removed
      if (!hasSameSeed && bytes.length >= 4) bytes.writeUInt32LE(0); // nobody's
      const row = news.length > 1 ? stamped(bytes, stamp) : bytes;
      for (const to of news) to.putRetained(topic, row);
      if (!isRemoval) count++;
    }
  }
  return count;
}

interface Newest {
  from: number;
  stamp: number;
  /** The process that the publisher belonged to knows who that was. */
  hasKey: boolean;
}

/** By topic; undefined with one old store, which has the only values. */
function newestOf(olds: readonly Old[]): Map<string, Newest> | undefined {
  if (olds.length === 1) return undefined;
  const newest = new Map<string, Newest>();
  for (const [from, { tables }] of olds.entries()) {
    for (const { topic, bytes } of tables.retained([])) {
      const { stamp } = retainedStamp(bytes);
      const hasKey = bytes.length >= 4 && bytes.readUInt32LE(0) !== 0;
      const name = topic.toString("latin1");
      const known = newest.get(name);
      const isNewer = !known || stamp > known.stamp || (stamp === known.stamp && hasKey && !known.hasKey);
      if (isNewer) newest.set(name, { from, stamp, hasKey });
    }
  }
  return newest;
}
