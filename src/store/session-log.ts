/**
 * The bytes in which sessions are kept: changes in the log, waiting messages, and snapshots. Integers are little-endian.
 *
 *   change    kind u8 | session u48 | fields of its kind, see `Change`
 *   entry     body u48 | packetId u16 | delivery u8 | size u32 | ids count u16, u32 each | group length u16, bytes
 *             a message in a queue: packetId 0 while it waits; delivery as in core/outbox.ts, with the lane in bits 3 to 5;
 *             group is the shared subscription it came through, `$share/NAME/FILTER`, empty for none
 *   meta      version u8 | flags u8 | expirySec u32 | closedAtSec u32 | client id length u16, bytes
 *             | will, if flagged | count u32, each: options u8, id u32, filter length u16, bytes
 *   will      delaySec u32 | expirySec u32 | length u32, message body (core/message.ts)
 *   queue     version u8 | lastPacketId u16 | released count u16, u16 each | receipts count u16, u16 each
 *             | inflight count u32, entries | lanes u8, each: lane u8 | nextPage u32
 *               | pages u32, each: page u32, count u32, bytes u48 | head count u32, entries | tail count u32, entries
 *
 * A lane is a queue of one priority: messages in memory (head), then pages on disk in this order, then those that came
 * later (tail, empty unless there are pages). A session's state is its last snapshot and the changes of later batches.
 */
import { ByteReader, type ByteWriter, putU16, putU32 } from "#base/byte-writer.ts";

const FORMAT_VERSION = 1;
const ENTRY_HEAD_BYTES = 13;

/** Kinds of changes, and the fields after `session`. */
export const Change = {
  /** A client opened the session. flags u8 (HAS_WILL) | expirySec u32 | client id length u16, bytes | will if flagged */
  opened: 1,
  /** Its client is away. atSec u32 */
  closed: 2,
  /** It has ended; its waiting messages are being given to others of their share groups. No fields. */
  ending: 3,
  /** Nothing of it is left. No fields. */
  gone: 4,
  /** options u8 | id u32 | filter length u16, bytes: a new subscription, or other options of one. */
  subscribed: 5,
  /** filter length u16, bytes */
  unsubscribed: 6,
  /** An entry: with a packet id to the end of inflight, else to the end of its lane. */
  enqueued: 7,
  /** lane u8 | packetId u16: the lane's first entry goes to the end of inflight. */
  sent: 8,
  /** packetId u16: PUBACK, or PUBREC with an error; the entry is done. */
  acknowledged: 9,
  /** lane u8: the lane's first entry is done, or dropped. */
  shifted: 10,
  /** packetId u16: PUBREC; the entry is done, the id goes to the end of released. */
  received: 11,
  /** packetId u16: PUBCOMP. */
  completed: 12,
  /** packetId u16: a QoS 2 id of a message from the client. */
  receiptAdded: 13,
  /** packetId u16 */
  receiptRemoved: 14,
  /** lane u8 | page u32 | keep u32 | count u32 | bytes u48: see `Spill`. */
  spilled: 15,
  /** lane u8 | page u32: the lane's first page is in memory again, at the end of its head. */
  loaded: 16,
  /** lane u8 | page u32: the lane's first page is dropped. */
  pageDropped: 17,
  /** The will was published or discarded. No fields. */
  willGone: 18,
  /** expirySec u32 */
  expiryChanged: 19,
  /** Never in the log: a retained value is an item of its batch. */
  retained: 20,
} as const;

/*
 * Spill, a page at the back: without pages, the head keeps its first `keep` entries, the next `count` become the page, the
 * rest the tail. With pages, the first `count` of the tail become the last page (`keep` is 0).
 * A page at the front (`keep` is SPILL_FRONT): the whole head, `count` entries, becomes the first page.
 */
export const SPILL_FRONT = 0xffff_ffff;

/** Flags of `opened` and of meta. */
export const IS_CONNECTED = 1;
export const IS_ENDING = 2;
export const HAS_WILL = 4;

/** The lane in the delivery byte of an entry. */
export const LANE_SHIFT = 3;
export const LANE_MASK = 7;

/** A waiting message as it is on disk. */
export interface Entry {
  body: number;
  packetId: number;
  delivery: number;
  size: number;
  ids: number[];
  group: Buffer;
}

/** The fields before `ids`, written in one go: this is done for each message. */
export function writeEntryHead(out: ByteWriter, body: number, packetId: number, delivery: number, size: number): void {
  const at = out.reserve(ENTRY_HEAD_BYTES);
  const { buffer } = out;
  putU32(buffer, at, body);
  putU16(buffer, at + 4, Math.floor(body / 0x1_0000_0000));
  putU16(buffer, at + 6, packetId);
  buffer[at + 8] = delivery;
  putU32(buffer, at + 9, size);
}

export function writeEntry(out: ByteWriter, { body, packetId, delivery, size, ids, group }: Readonly<Entry>): void {
  writeEntryHead(out, body, packetId, delivery, size);
  out.u16(ids.length);
  for (const id of ids) out.u32(id);
  out.u16(group.length);
  out.bytes(group);
}

export function readEntry(from: ByteReader): Entry {
  const body = from.u48();
  const packetId = from.u16();
  const delivery = from.u8();
  const size = from.u32();
  const ids: number[] = [];
  for (let left = from.u16(); left > 0; left--) ids.push(from.u32());
  return { body, packetId, delivery, size, ids, group: from.bytes(from.u16()) };
}

/** All entries of a run, such as a page. */
export function readEntries(bytes: Buffer): Entry[] {
  const from = new ByteReader(bytes);
  const entries: Entry[] = [];
  while (!from.isAtEnd) entries.push(readEntry(from));
  return entries;
}

export interface StoredWill {
  readonly delaySec: number;
  readonly expirySec: number;
  readonly body: Buffer;
}

export function writeWill(out: ByteWriter, { delaySec, expirySec, body }: StoredWill): void {
  out.u32(delaySec);
  out.u32(expirySec);
  out.u32(body.length);
  out.bytes(body);
}

export function readWill(from: ByteReader): StoredWill {
  return { delaySec: from.u32(), expirySec: from.u32(), body: from.bytes(from.u32()) };
}

export interface StoredSubscription {
  readonly filter: Buffer;
  readonly options: number;
  readonly id: number;
}

export function writeSubscription(out: ByteWriter, { filter, options, id }: StoredSubscription): void {
  out.u8(options);
  out.u32(id);
  out.u16(filter.length);
  out.bytes(filter);
}

export function readSubscription(from: ByteReader): StoredSubscription {
  const options = from.u8();
  const id = from.u32();
  return { options, id, filter: from.bytes(from.u16()) };
}

/** A session without its queue. */
export interface Meta {
  flags: number;
  expirySec: number;
  /** Wall clock, seconds; only when not connected. */
  closedAtSec: number;
  clientId: Buffer;
  will: StoredWill | undefined;
  subscriptions: StoredSubscription[];
}

export function writeMeta(out: ByteWriter, meta: Meta): void {
  const { flags, expirySec, closedAtSec, clientId, will, subscriptions } = meta;
  out.u8(FORMAT_VERSION);
  out.u8((flags & ~HAS_WILL) | (will ? HAS_WILL : 0));
  out.u32(expirySec);
  out.u32(closedAtSec);
  out.u16(clientId.length);
  out.bytes(clientId);
  if (will) writeWill(out, will);
  out.u32(subscriptions.length);
  for (const subscription of subscriptions) writeSubscription(out, subscription);
}

export function readMeta(bytes: Buffer): Meta {
  const from = new ByteReader(bytes);
  from.u8();
  const flags = from.u8();
  const expirySec = from.u32();
  const closedAtSec = from.u32();
  const clientId = from.bytes(from.u16());
  const will = flags & HAS_WILL ? readWill(from) : undefined;
  const subscriptions: StoredSubscription[] = [];
  for (let left = from.u32(); left > 0; left--) subscriptions.push(readSubscription(from));
  return { flags, expirySec, closedAtSec, clientId, will, subscriptions };
}

export interface StoredPage {
  readonly page: number;
  readonly count: number;
  readonly bytes: number;
}

export interface StoredLane {
  readonly lane: number;
  readonly nextPage: number;
  readonly pages: StoredPage[];
  readonly head: Entry[];
  readonly tail: Entry[];
}

export interface Queue {
  lastPacketId: number;
  released: number[];
  receipts: number[];
  inflight: Entry[];
  lanes: StoredLane[];
}

export function writeQueue(out: ByteWriter, { lastPacketId, released, receipts, inflight, lanes }: Queue): void {
  writeQueueHead(out, lastPacketId, released, receipts);
  writeCounted(out, inflight);
  out.u8(lanes.length);
  for (const { lane, nextPage, pages, head, tail } of lanes) {
    out.u8(lane);
    out.u32(nextPage);
    out.u32(pages.length);
    for (const { page, count, bytes } of pages) {
      out.u32(page);
      out.u32(count);
      out.u48(bytes);
    }
    writeCounted(out, head);
    writeCounted(out, tail);
  }
}

/** What stands before the messages in flight. */
export function writeQueueHead(
  out: ByteWriter,
  lastPacketId: number,
  released: readonly number[],
  receipts: readonly number[],
): void {
  out.u8(FORMAT_VERSION);
  out.u16(lastPacketId);
  writeIds(out, released);
  writeIds(out, receipts);
}

export function readQueue(bytes: Buffer): Queue {
  const from = new ByteReader(bytes);
  from.u8();
  const lastPacketId = from.u16();
  const released = readIds(from);
  const receipts = readIds(from);
  const inflight = readCounted(from);
  const lanes: StoredLane[] = [];
  for (let left = from.u8(); left > 0; left--) {
    const lane = from.u8();
    const nextPage = from.u32();
    const pages: StoredPage[] = [];
    for (let n = from.u32(); n > 0; n--) pages.push({ page: from.u32(), count: from.u32(), bytes: from.u48() });
    lanes.push({ lane, nextPage, pages, head: readCounted(from), tail: readCounted(from) });
  }
  return { lastPacketId, released, receipts, inflight, lanes };
}

function writeIds(out: ByteWriter, ids: readonly number[]): void {
  out.u16(ids.length);
  for (const id of ids) out.u16(id);
}

function readIds(from: ByteReader): number[] {
  const ids: number[] = [];
  for (let left = from.u16(); left > 0; left--) ids.push(from.u16());
  return ids;
}

function writeCounted(out: ByteWriter, entries: readonly Entry[]): void {
  out.u32(entries.length);
  for (const entry of entries) writeEntry(out, entry);
}

function readCounted(from: ByteReader): Entry[] {
  const entries: Entry[] = [];
  for (let left = from.u32(); left > 0; left--) entries.push(readEntry(from));
  return entries;
}
