/**
 * Random histories of a store as an engine would write them, and what must be found after any of their batches: a plain
 * twin of the sessions, kept with arrays and without any of the code that is tested. The same dice give the same history.
 */
import type { Random } from "#base/random.ts";
import type { LogBackend, RecoveredSession } from "#store/log-backend.ts";
import { type Entry, readMeta, readQueue, SPILL_FRONT } from "#store/session-log.ts";
import type { StoredSubscription, StoredWill } from "#store/session-log.ts";
import type { Recovered } from "#test/contract/log-backend-contract.ts";
import { BatchWriter, bodyTexts, entriesBytes, entryOf, metaOf, OpsWriter, queueOf } from "./batch-writer.ts";

interface TwinLane {
  head: Entry[];
  pages: { page: number; entries: Entry[] }[];
  tail: Entry[];
}

interface Twin {
  clientId: string;
  isConnected: boolean;
  isEnding: boolean;
  expirySec: number;
  closedAtSec: number;
  will: StoredWill | undefined;
  subscriptions: StoredSubscription[];
  lastPacketId: number;
  released: number[];
  receipts: number[];
  inflight: Entry[];
  lanes: TwinLane[];
  nextPage: number;
  /** Pages that the next snapshot of the queue makes superfluous. */
  superfluous: number[];
  metaBatch: number;
  queueBatch: number;
}

export interface HistoryOptions {
  /** Snapshots, trims and dropped pages; without, everything stays in the log. */
  readonly hasSnapshots: boolean;
  readonly hasCollections?: boolean;
  readonly stepsMax?: number;
  readonly bodyBytesMax?: number;
}

const LANES = 2;
const SESSIONS_MAX = 6;
const FILTERS = ["a", "a/b", "+/b", "#", "$share/g/a"];
const TOPICS = ["r/1", "r/2", "r/3"];

export class History {
  lastBatch = 0;
  lastBody = 0;
  lastSession = 0;
  /** What must be found when the batch with this number is the last one; 0 before all. */
  readonly expected = new Map<number, string>();
  private readonly twins = new Map<number, Twin>();
  private readonly retained = new Map<string, string>();
  private batch = new BatchWriter();
  private ops = new OpsWriter();

  constructor(
    private readonly dice: Random,
    private readonly options: HistoryOptions,
  ) {
    this.expected.set(0, this.describe());
  }

  /** The next batch, to be written under `lastBatch`. */
  next(): Buffer<ArrayBuffer> {
    this.batch = new BatchWriter();
    this.ops = new OpsWriter();
    this.lastBatch++;
    for (let steps = this.below(this.options.stepsMax ?? 12); steps >= 0; steps--) this.step();
    this.batch.ops(this.ops);
    if (this.options.hasSnapshots) this.takeSnapshots();
    // No later batch names a body that is not named now, but for those it brings along.
    if (this.options.hasCollections && this.below(4) === 0) this.batch.collect(this.lastBody + 1);
    this.expected.set(this.lastBatch, this.describe());
    return this.batch.take();
  }

  /** Goes on from what was recovered, which has been found to be as expected. */
  async resume(backend: LogBackend, { sessions, info }: Recovered): Promise<void> {
    this.lastBatch = info.lastBatch;
    for (const { session, queue } of sessions) {
      const twin = this.twins.get(session)!;
      twin.superfluous = [];
      twin.lanes = newLanes();
      for (const { lane, nextPage, pages } of readQueue(queue).lanes) {
        twin.nextPage = nextPage;
        for (const { page } of pages) {
          const loaded = await readPage(backend, session, page);
          twin.lanes[lane]!.pages.push({ page, entries: entriesOf(loaded!.entries) });
        }
      }
    }
    const kept = new Set(sessions.map(({ session }) => session));
    for (const session of this.twins.keys()) if (!kept.has(session)) this.twins.delete(session);
  }

  /** Bodies that something names. */
  named(): Set<number> {
    const named = new Set<number>();
    for (const { inflight, lanes } of this.twins.values()) {
      for (const { body } of inflight) named.add(body);
      for (const { head, pages, tail } of lanes)
        for (const { body } of [...head, ...pages.flatMap(({ entries }) => entries), ...tail]) named.add(body);
    }
    return named;
  }

  private below(bound: number): number {
    return this.dice.below(bound);
  }

  private pick<T>(from: readonly T[]): T {
    return from[this.below(from.length)]!;
  }

  private step(): void {
    if (this.twins.size === 0 || (this.twins.size < SESSIONS_MAX && this.below(12) === 0)) return this.create();
    const [session, twin] = this.pick([...this.twins]);
    if (twin.isEnding) return this.stepEnding(session, twin);
    const choice = this.below(20);
    if (choice < 7) this.publish();
    else if (choice < 13) this.stepQueue(session, twin);
    else if (choice < 15) this.stepPages(session, twin);
    else if (choice < 19) this.stepMeta(session, twin);
    else this.retain();
  }

  private create(): void {
    const session = ++this.lastSession;
    const clientId = `client-${session}`;
    const will = this.below(3) === 0 ? this.newWill() : undefined;
    const expirySec = this.below(1000);
    this.ops.opened(session, clientId, { expirySec, will });
    const plain = { released: [], receipts: [], inflight: [], superfluous: [], subscriptions: [] };
    const numbers = { closedAtSec: 0, lastPacketId: 0, nextPage: 0, metaBatch: 0, queueBatch: 0 };
    this.twins.set(session, {
      ...plain,
      ...numbers,
      clientId,
      expirySec,
      will,
      isConnected: true,
      isEnding: false,
      lanes: newLanes(),
    });
  }

  private newWill(): StoredWill {
    return { delaySec: this.below(9), expirySec: this.below(9), body: Buffer.from(`will ${this.below(99)}`) };
  }

  /** A message to some of the sessions, waiting or at once in flight. */
  private publish(): void {
    const body = ++this.lastBody;
    this.batch.body(body, bodyBytes(body, this.options.bodyBytesMax ?? 40));
    for (const [session, twin] of this.twins) {
      if (twin.isEnding || this.below(2) === 0) continue;
      const ids = this.below(3) === 0 ? [this.below(9), this.below(9)] : [];
      const group = Buffer.from(this.below(3) === 0 ? "$share/g/a" : "");
      this.enqueue(session, twin, { body, packetId: 0, delivery: 0, size: this.below(500), ids, group });
    }
  }

  private enqueue(session: number, twin: Twin, entry: Entry): void {
    const lane = this.below(LANES);
    entry.delivery = (1 + this.below(2)) | (lane << 3);
    if (this.below(4) === 0) entry.packetId = freePacketId(twin);
    this.ops.enqueued(session, entry);
    const copy = { ...entry };
    if (entry.packetId > 0) {
      twin.inflight.push(copy);
      twin.lastPacketId = entry.packetId;
    } else twin.lanes[lane]![twin.lanes[lane]!.pages.length > 0 ? "tail" : "head"].push(copy);
  }

  private stepQueue(session: number, twin: Twin): void {
    const lane = this.below(LANES);
    const { head } = twin.lanes[lane]!;
    const choice = this.below(8);
    if (choice < 2 && head.length > 0) {
      const packetId = freePacketId(twin);
      this.ops.sent(session, lane, packetId);
      twin.inflight.push({ ...head.shift()!, packetId });
      twin.lastPacketId = packetId;
    } else if (choice === 2 && head.length > 0) {
      this.ops.shifted(session, lane);
      head.shift();
    } else if (choice === 4 && twin.inflight.length > 0) {
      const [entry] = twin.inflight.splice(this.below(twin.inflight.length), 1);
      this.ops.packet("acknowledged", session, entry!.packetId);
    } else if (choice === 5 && twin.inflight.length > 0) {
      const [entry] = twin.inflight.splice(this.below(twin.inflight.length), 1);
      this.ops.packet("received", session, entry!.packetId);
      twin.released.push(entry!.packetId);
    } else if (choice === 6 && twin.released.length > 0) {
      const [packetId] = twin.released.splice(this.below(twin.released.length), 1);
      this.ops.packet("completed", session, packetId!);
    } else this.stepReceipts(session, twin);
  }

  private stepReceipts(session: number, twin: Twin): void {
    const packetId = 1 + this.below(30);
    const at = twin.receipts.indexOf(packetId);
    if (at < 0) twin.receipts.push(packetId);
    else twin.receipts.splice(at, 1);
    this.ops.packet(at < 0 ? "receiptAdded" : "receiptRemoved", session, packetId);
  }

  private stepPages(session: number, twin: Twin): void {
    const number = this.below(LANES);
    const lane = twin.lanes[number]!;
    const { head, pages, tail } = lane;
    const choice = this.below(6);
    if (choice < 2 && pages.length > 0) {
      const kind = choice === 0 ? "loaded" : "pageDropped";
      const { page, entries } = pages.shift()!;
      this.ops.ofPage(kind, session, number, page);
      if (kind === "loaded") head.push(...entries);
      if (pages.length === 0) head.push(...tail.splice(0));
      if (this.options.hasSnapshots) twin.superfluous.push(page);
      return;
    }
    if (choice === 2 && head.length > 0)
      return this.spill(session, twin, { lane: number, keep: SPILL_FRONT, count: head.length });
    if (pages.length > 0 && tail.length > 0)
      return this.spill(session, twin, { lane: number, keep: 0, count: 1 + this.below(tail.length) });
    if (pages.length > 0 || head.length === 0) return;
    const keep = this.below(head.length);
    this.spill(session, twin, { lane: number, keep, count: 1 + this.below(head.length - keep) });
  }

  private spill(session: number, twin: Twin, run: { lane: number; keep: number; count: number }): void {
    const lane = twin.lanes[run.lane]!;
    const page = twin.nextPage++;
    let entries: Entry[];
    if (run.keep === SPILL_FRONT) {
      entries = lane.head.splice(0);
      lane.pages.unshift({ page, entries });
    } else if (lane.pages.length > 0) {
      entries = lane.tail.splice(0, run.count);
      lane.pages.push({ page, entries });
    } else {
      entries = lane.head.splice(run.keep, run.count);
      lane.tail = lane.head.splice(run.keep);
      lane.pages.push({ page, entries });
    }
    this.batch.page(session, page, entries);
    const bytes = entries.reduce((sum, { size }) => sum + size, 0);
    this.ops.spilled(session, run.lane, page, { keep: run.keep, count: run.count, bytes });
  }

  private stepMeta(session: number, twin: Twin): void {
    const choice = this.below(9);
    if (choice < 3) {
      const filter = Buffer.from(this.pick(FILTERS));
      const subscription = { filter, options: this.below(3), id: this.below(50) };
      const at = twin.subscriptions.findIndex((known) => known.filter.equals(filter));
      this.ops.subscribed(session, subscription);
      if (at < 0) twin.subscriptions.push(subscription);
      else twin.subscriptions[at] = subscription;
    } else if (choice === 3 && twin.subscriptions.length > 0) {
      const [{ filter }] = twin.subscriptions.splice(this.below(twin.subscriptions.length), 1) as [StoredSubscription];
      this.ops.unsubscribed(session, filter);
    } else if (choice === 4) {
      twin.isConnected = false;
      twin.closedAtSec = this.below(1_000_000);
      this.ops.closed(session, twin.closedAtSec);
    } else if (choice === 5) {
      const will = this.below(2) === 0 ? this.newWill() : undefined;
      const expirySec = this.below(1000);
      this.ops.opened(session, twin.clientId, { expirySec, will });
      Object.assign(twin, { isConnected: true, closedAtSec: 0, expirySec, will });
    } else if (choice === 6) {
      twin.expirySec = this.below(1000);
      this.ops.expiryChanged(session, twin.expirySec);
    } else if (choice === 7) {
      twin.will = undefined;
      this.ops.plain("willGone", session);
    } else if (choice === 8 && this.below(3) === 0) {
      twin.isEnding = true;
      twin.subscriptions = [];
      this.ops.plain("ending", session);
    }
  }

  /** What an ending session has goes to others, message by message, or is given up; then it is gone. */
  private stepEnding(session: number, twin: Twin): void {
    const number = twin.lanes.findIndex(({ head }) => head.length > 0);
    const others = [...this.twins].filter(([, other]) => !other.isEnding);
    if (number >= 0 && others.length > 0 && this.below(4) > 0) {
      const entry = twin.lanes[number]!.head.shift()!;
      this.ops.shifted(session, number);
      const [other, otherTwin] = this.pick(others);
      this.enqueue(other, otherTwin, { ...entry, packetId: 0 });
      return;
    }
    this.twins.delete(session);
    this.ops.plain("gone", session);
    this.batch.remove(session);
  }

  private retain(): void {
    const topic = this.pick(TOPICS);
    const value = this.below(3) === 0 ? "" : `value ${this.below(1000)}`;
    this.batch.retained(topic, Buffer.from(value));
    if (value === "") this.retained.delete(topic);
    else this.retained.set(topic, value);
  }

  private takeSnapshots(): void {
    for (const [session, twin] of this.twins) {
      if (this.below(4) === 0) this.takeMeta(session, twin);
      if (this.below(4) === 0) this.takeQueue(session, twin);
    }
    const batches = [...this.twins.values()].map((twin) => Math.min(twin.metaBatch, twin.queueBatch));
    // A row is needed while a session lacks a snapshot of it or of what came later.
    if (this.below(3) === 0) this.batch.trim(Math.min(this.lastBatch, ...batches) + 1);
  }

  private takeMeta(session: number, twin: Twin): void {
    const { clientId, expirySec, closedAtSec, will, subscriptions } = twin;
    const flags = (twin.isConnected ? 1 : 0) | (twin.isEnding ? 2 : 0);
    this.batch.meta(session, metaOf(clientId, { flags, expirySec, closedAtSec, will, subscriptions }));
    twin.metaBatch = this.lastBatch;
  }

  private takeQueue(session: number, twin: Twin): void {
    const lanes = twin.lanes.map(({ head, pages, tail }, lane) => ({
      lane,
      nextPage: twin.nextPage,
      pages: pages.map(({ page, entries }) => ({
        page,
        count: entries.length,
        bytes: entries.reduce((sum, { size }) => sum + size, 0),
      })),
      head,
      tail,
    }));
    const { lastPacketId, released, receipts, inflight } = twin;
    this.batch.queue(session, queueOf({ lastPacketId, released, receipts, inflight, lanes }));
    for (const page of twin.superfluous.splice(0)) this.batch.dropPage(session, page);
    twin.queueBatch = this.lastBatch;
  }

  private describe(): string {
    const lines: string[] = [];
    for (const [session, twin] of [...this.twins].sort(([a], [b]) => a - b)) {
      const waiting = twin.lanes.map(({ head, pages, tail }) =>
        head.concat(...pages.map(({ entries }) => entries), tail),
      );
      const { clientId, isConnected, isEnding, expirySec, closedAtSec, lastPacketId, released, receipts, inflight } =
        twin;
      const all = [...inflight, ...waiting.flat()];
      if (isEnding && all.length === 0) continue;
      lines.push(
        JSON.stringify({
          session,
          clientId,
          isConnected,
          isEnding,
          expirySec,
          closedAtSec,
          will: willText(twin.will),
          subscriptions: twin.subscriptions.map(subscriptionText),
          lastPacketId,
          released,
          receipts,
          inflight: inflight.map(entryText),
          waiting: waiting.map((lane) => lane.map(entryText)),
          texts: all.map(({ body }) => bodyBytes(body, this.options.bodyBytesMax ?? 40).toString()),
        }),
      );
    }
    return [...lines, ...retainedLines(this.retained)].join("\n");
  }
}

/** What was recovered, in the words of `History.expected`; reads every waiting message. */
export async function describeRecovered(backend: LogBackend, { sessions, retained }: Recovered): Promise<string> {
  const lines: string[] = [];
  for (const session of sessions.toSorted((a, b) => a.session - b.session))
    lines.push(await describeSession(backend, session));
  return [...lines, ...retainedLines(retained)].join("\n");
}

async function describeSession(backend: LogBackend, { session, meta, queue }: RecoveredSession): Promise<string> {
  const { clientId, flags, expirySec, closedAtSec, will, subscriptions } = readMeta(meta);
  const { lastPacketId, released, receipts, inflight, lanes } = readQueue(queue);
  const waiting: string[][] = newLanes().map(() => []);
  const inflightBodies = await new Promise<(string | null)[]>((resolve) =>
    backend.readBodies(entriesBytes(inflight), (loaded) => resolve(bodyTexts(loaded))),
  );
  const texts = [...inflightBodies];
  for (const { lane, pages } of lanes)
    for (const { page, count } of pages) {
      const loaded = await readPage(backend, session, page);
      if (!loaded) throw new Error(`page ${page} of session ${session} is not there`);
      const entries = entriesOf(loaded.entries);
      if (entries.length !== count) throw new Error(`page ${page} has ${entries.length} messages, not ${count}`);
      waiting[lane]!.push(...entries.map(entryText));
      texts.push(...bodyTexts(loaded));
    }
  return JSON.stringify({
    session,
    clientId: clientId.toString(),
    isConnected: (flags & 1) !== 0,
    isEnding: (flags & 2) !== 0,
    expirySec,
    closedAtSec,
    will: willText(will),
    subscriptions: subscriptions.map(subscriptionText),
    lastPacketId,
    released,
    receipts,
    inflight: inflight.map(entryText),
    waiting,
    texts,
  });
}

function readPage(backend: LogBackend, session: number, page: number) {
  return new Promise<Parameters<Parameters<LogBackend["readPage"]>[2]>[0]>((resolve) =>
    backend.readPage(session, page, resolve),
  );
}

/** A naive reader of a run of entries. */
function entriesOf(bytes: Buffer): Entry[] {
  const entries: Entry[] = [];
  for (let at = 0; at < bytes.length;) {
    const ids: number[] = [];
    const idCount = bytes.readUInt16LE(at + 13);
    for (let id = 0; id < idCount; id++) ids.push(bytes.readUInt32LE(at + 15 + id * 4));
    const groupAt = at + 17 + idCount * 4;
    const groupEnd = groupAt + bytes.readUInt16LE(groupAt - 2);
    const [packetId, delivery, size] = [bytes.readUInt16LE(at + 6), bytes[at + 8]!, bytes.readUInt32LE(at + 9)];
    const group = bytes.subarray(groupAt, groupEnd);
    entries.push(entryOf(bytes.readUIntLE(at, 6), { packetId, delivery, size, ids, group }));
    at = groupEnd;
  }
  return entries;
}

function newLanes(): TwinLane[] {
  return Array.from({ length: LANES }, () => ({ head: [], pages: [], tail: [] }));
}

function freePacketId({ lastPacketId, inflight, released }: Twin): number {
  for (let id = (lastPacketId % 0xffff) + 1; ; id = (id % 0xffff) + 1)
    if (!inflight.some(({ packetId }) => packetId === id) && !released.includes(id)) return id;
}

function bodyBytes(body: number, bytesMax: number): Buffer {
  const size = 4 + ((body * 7919) % bytesMax);
  return Buffer.from(`${body}:`.padEnd(size, "x"));
}

function entryText({ body, packetId, delivery, size, ids, group }: Entry): string {
  return `${body}/${packetId}/${delivery}/${size}/${ids.join("+")}/${group}`;
}

function willText(will: StoredWill | undefined): string {
  return will ? `${will.delaySec}/${will.expirySec}/${will.body}` : "";
}

function subscriptionText({ filter, options, id }: StoredSubscription): string {
  return `${filter}/${options}/${id}`;
}

function retainedLines(retained: ReadonlyMap<string, string>): string[] {
  return [...retained].sort(([a], [b]) => (a < b ? -1 : 1)).map(([topic, value]) => `${topic} = ${value}`);
}
