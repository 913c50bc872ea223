/** Writes batches and changes as the durable store does, and states in words. */
import { ByteWriter } from "#base/byte-writer.ts";
import {
  BODY,
  COLLECT,
  DROP_PAGE,
  type LoadedEntries,
  META,
  OPS,
  PAGE,
  QUEUE,
  REMOVE,
  RETAINED,
  SNAPSHOT,
  TRIM,
} from "#store/log-backend.ts";
import {
  Change,
  type Entry,
  HAS_WILL,
  type Meta,
  type Queue,
  readEntries,
  type StoredSubscription,
  type StoredWill,
  writeEntry,
  writeMeta,
  writeQueue,
  writeSubscription,
  writeWill,
} from "#store/session-log.ts";

const NO_GROUP = Buffer.alloc(0);

export function entryOf(body: number, given: Partial<Entry> = {}): Entry {
  return { body, packetId: 0, delivery: 1, size: 100, ids: [], group: NO_GROUP, ...given };
}

export function entriesBytes(entries: readonly Entry[]): Buffer {
  const out = new ByteWriter();
  for (const entry of entries) writeEntry(out, entry);
  return out.take();
}

export function metaOf(clientId: string, given: Partial<Meta> = {}): Meta {
  const plain = { flags: 0, expirySec: 60, closedAtSec: 0, will: undefined, subscriptions: [] };
  return { ...plain, clientId: Buffer.from(clientId), ...given };
}

export function queueOf(given: Partial<Queue> = {}): Queue {
  return { lastPacketId: 0, released: [], receipts: [], inflight: [], lanes: [], ...given };
}

export class BatchWriter {
  private readonly out = new ByteWriter();

  body(id: number, bytes: Uint8Array): this {
    this.out.u8(BODY);
    this.out.u48(id);
    return this.blob(bytes);
  }

  meta(session: number, meta: Meta): this {
    const bytes = new ByteWriter();
    writeMeta(bytes, meta);
    return this.snapshot(session, META, bytes.take());
  }

  queue(session: number, queue: Queue): this {
    const bytes = new ByteWriter();
    writeQueue(bytes, queue);
    return this.snapshot(session, QUEUE, bytes.take());
  }

  snapshot(session: number, part: number, bytes: Buffer): this {
    this.out.u8(SNAPSHOT);
    this.out.u48(session);
    this.out.u8(part);
    return this.blob(bytes);
  }

  remove(session: number): this {
    this.out.u8(REMOVE);
    this.out.u48(session);
    return this;
  }

  page(session: number, page: number, entries: readonly Entry[]): this {
    this.out.u8(PAGE);
    this.out.u48(session);
    this.out.u32(page);
    return this.blob(entriesBytes(entries));
  }

  dropPage(session: number, page: number): this {
    this.out.u8(DROP_PAGE);
    this.out.u48(session);
    this.out.u32(page);
    return this;
  }

  retained(topic: string, bytes: Uint8Array): this {
    const text = Buffer.from(topic);
    this.out.u8(RETAINED);
    this.out.u16(text.length);
    this.out.u32(bytes.length);
    this.out.bytes(text);
    this.out.bytes(Buffer.from(bytes));
    return this;
  }

  ops(changes: OpsWriter): this {
    this.out.u8(OPS);
    return this.blob(changes.take());
  }

  trim(batch: number): this {
    this.out.u8(TRIM);
    this.out.u48(batch);
    return this;
  }

  collect(floor: number): this {
    this.out.u8(COLLECT);
    this.out.u48(floor);
    return this;
  }

  take(): Buffer<ArrayBuffer> {
    return this.out.take();
  }

  private blob(bytes: Uint8Array): this {
    this.out.u32(bytes.length);
    this.out.bytes(Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length));
    return this;
  }
}

export class OpsWriter {
  private readonly out = new ByteWriter();

  opened(session: number, clientId: string, given: { expirySec?: number; will?: StoredWill | undefined } = {}): this {
    this.start(Change.opened, session);
    const id = Buffer.from(clientId);
    this.out.u8(given.will ? HAS_WILL : 0);
    this.out.u32(given.expirySec ?? 60);
    this.out.u16(id.length);
    this.out.bytes(id);
    if (given.will) writeWill(this.out, given.will);
    return this;
  }

  subscribed(session: number, subscription: StoredSubscription): this {
    this.start(Change.subscribed, session);
    writeSubscription(this.out, subscription);
    return this;
  }

  unsubscribed(session: number, filter: Buffer): this {
    this.start(Change.unsubscribed, session);
    this.out.u16(filter.length);
    this.out.bytes(filter);
    return this;
  }

  enqueued(session: number, entry: Entry): this {
    this.start(Change.enqueued, session);
    writeEntry(this.out, entry);
    return this;
  }

  closed(session: number, atSec: number): this {
    return this.u32(Change.closed, session, atSec);
  }

  expiryChanged(session: number, expirySec: number): this {
    return this.u32(Change.expiryChanged, session, expirySec);
  }

  /** A kind without fields. */
  plain(kind: "ending" | "gone" | "willGone", session: number): this {
    this.start(Change[kind], session);
    return this;
  }

  /** A kind whose only field is a packet id. */
  packet(
    kind: "acknowledged" | "received" | "completed" | "receiptAdded" | "receiptRemoved",
    session: number,
    packetId: number,
  ): this {
    this.start(Change[kind], session);
    this.out.u16(packetId);
    return this;
  }

  sent(session: number, lane: number, packetId: number): this {
    this.start(Change.sent, session);
    this.out.u8(lane);
    this.out.u16(packetId);
    return this;
  }

  shifted(session: number, lane: number): this {
    this.start(Change.shifted, session);
    this.out.u8(lane);
    return this;
  }

  spilled(session: number, lane: number, page: number, run: { keep: number; count: number; bytes: number }): this {
    this.start(Change.spilled, session);
    this.out.u8(lane);
    this.out.u32(page);
    this.out.u32(run.keep);
    this.out.u32(run.count);
    this.out.u48(run.bytes);
    return this;
  }

  /** A kind that names a lane's page. */
  ofPage(kind: "loaded" | "pageDropped", session: number, lane: number, page: number): this {
    this.start(Change[kind], session);
    this.out.u8(lane);
    this.out.u32(page);
    return this;
  }

  take(): Buffer {
    return this.out.take();
  }

  private u32(kind: number, session: number, value: number): this {
    this.start(kind, session);
    this.out.u32(value);
    return this;
  }

  private start(kind: number, session: number): void {
    this.out.u8(kind);
    this.out.u48(session);
  }
}

/** The bodies that came with entries, as text; null for one that is lost. */
export function bodyTexts({ entries, bodies }: LoadedEntries): (string | null)[] {
  const texts: (string | null)[] = [];
  let at = 0;
  while (at < bodies.length) {
    const length = bodies.readUInt32LE(at);
    at += 4;
    if (length === 0xffff_ffff) texts.push(null);
    else texts.push(bodies.toString("utf8", at, (at += length)));
  }
  if (texts.length !== readEntries(entries).length) throw new Error("not one body for each entry");
  return texts;
}
