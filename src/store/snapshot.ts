/** Sessions of the engine as they are kept on disk: see session-log.ts for the bytes. */
import { ByteWriter } from "#base/byte-writer.ts";
import type { StoreRecord } from "#core/ports.ts";
import { DELIVERY, GROUP, IDS, MESSAGE, type Ring } from "#core/outbox.ts";
import type { SessionQueue } from "#core/session-table.ts";
import {
  Change,
  HAS_WILL,
  IS_CONNECTED,
  type StoredSubscription,
  type StoredWill,
  writeEntryHead,
  writeMeta,
  writeQueueHead,
  writeSubscription,
  writeWill,
} from "./session-log.ts";
import { type StoreParts, UNKNOWN_SEC } from "./store-parts.ts";

const body = new ByteWriter();

/** The will of a session, or undefined. */
function storedWill({ engine }: StoreParts, session: number): StoredWill | undefined {
  const will = engine.lifecycle.willOf(session);
  if (!will) return undefined;
  body.clear();
  engine.messages.write(will.message, body);
  return { delaySec: will.delaySec, expirySec: will.expirySec, body: body.take() };
}

/** A subscription with the filter as its client sent it. */
function storedSubscription({ engine }: StoreParts, sub: number): StoredSubscription {
  const { index, groups } = engine;
  const group = index.groupOf(sub);
  const filter = group < 0 ? index.filterOf(sub) : groups.filterOf(group);
  return { filter, options: index.options[sub], id: index.id[sub] };
}

/** Changes of a session beside its queue. */
export type MetaRecord = Exclude<
  StoreRecord,
  "received" | "completed" | "receipt-added" | "receipt-removed" | "session-ended"
>;

/** Writes the fields of a change of session `item`, or of its subscription `item`; returns the change's kind. */
export function writeMetaChange(parts: StoreParts, out: ByteWriter, record: MetaRecord, item: number): number {
  const { sessions, nowSec } = parts.engine;
  switch (record) {
    case "session-opened":
      writeOpened(parts, out, item);
      return Change.opened;
    case "session-closed":
      out.u32(nowSec);
      return Change.closed;
    case "expiry-changed":
      out.u32(sessions.expirySec[item]);
      return Change.expiryChanged;
    case "will-gone":
      return Change.willGone;
    case "subscribed":
      writeSubscription(out, storedSubscription(parts, item));
      return Change.subscribed;
    case "unsubscribed": {
      const { filter } = storedSubscription(parts, item);
      out.u16(filter.length);
      out.bytes(filter);
      return Change.unsubscribed;
    }
  }
}

function writeOpened(parts: StoreParts, out: ByteWriter, session: number): void {
  const { sessions } = parts.engine;
  const will = storedWill(parts, session);
  const clientId = Buffer.from(sessions.clientId(session));
  out.u8(will ? HAS_WILL : 0);
  out.u32(sessions.expirySec[session]);
  out.u16(clientId.length);
  out.bytes(clientId);
  if (will) writeWill(out, will);
}

export function writeSessionMeta(parts: StoreParts, session: number, out: ByteWriter): void {
  const { engine } = parts;
  const { sessions, index } = engine;
  const subscriptions: StoredSubscription[] = [];
  const isPeer = sessions.isPeer[session] !== 0; // it says again what it wants
  for (let sub = index.firstOfSession(session); sub >= 0 && !isPeer; sub = index.nextOf[sub]) {
    subscriptions.push(storedSubscription(parts, sub));
  }
  const isConnected = sessions.sinks[session] !== null || parts.closedAtOf(session) === UNKNOWN_SEC;
  writeMeta(out, {
    flags: isConnected ? IS_CONNECTED : 0,
    expirySec: sessions.expirySec[session],
    closedAtSec: isConnected ? 0 : parts.closedAtOf(session),
    clientId: Buffer.from(sessions.clientId(session)),
    will: storedWill(parts, session),
    subscriptions,
  });
}

export function writeSessionQueue(parts: StoreParts, queue: SessionQueue, out: ByteWriter): void {
  const { inflight, outbox, receipts, stored } = queue;
  const released = Array.from({ length: inflight.releasedCount }, (_, i) => inflight.releasedAt(i));
  writeQueueHead(out, inflight.lastId, released, receipts === null ? [] : [...receipts.values()]);
  if (stored !== null) {
    out.u32(queue.storedCount);
    out.bytes(stored);
  } else {
    out.u32(inflight.count);
    for (let i = 0; i < inflight.positions; i++) {
      const packetId = inflight.packetIdAt(i);
      if (packetId === 0) continue;
      const field = (name: 0 | 1 | 2 | 3): number => inflight.field(i, name);
      putEntry(parts, out, packetId, field(MESSAGE), field(DELIVERY), field(IDS), field(GROUP));
    }
  }
  out.u8(outbox.lanes.length);
  for (const { number, pages, head, tail } of outbox.lanes) {
    out.u8(number);
    out.u32(outbox.nextPage);
    out.u32(pages.length);
    for (const { page, count, bytes } of pages) {
      out.u32(page);
      out.u32(count);
      out.u48(bytes);
    }
    writeRing(parts, head, out);
    writeRing(parts, tail, out);
  }
}

function writeRing(parts: StoreParts, ring: Ring, out: ByteWriter): void {
  out.u32(ring.count);
  for (let i = 0; i < ring.count; i++) writeWaiting(parts, ring, i, out);
}

/** The `i`-th message of a ring as an entry; returns the bytes of its body. */
export function writeWaiting(parts: StoreParts, ring: Ring, i: number, out: ByteWriter): number {
  const message = ring.at(i, MESSAGE);
  putEntry(parts, out, 0, message, ring.at(i, DELIVERY), ring.at(i, IDS), ring.at(i, GROUP));
  return parts.engine.messages.bytesOf(message);
}

/** An entry from the fields of a queue. */
export function putEntry(
  parts: StoreParts,
  out: ByteWriter,
  packetId: number,
  message: number,
  delivery: number,
  ids: number,
  group: number,
  isNewEntry = false,
): void {
  const { messages, delivery: deliveries } = parts.engine;
  writeEntryHead(out, parts.bodyOf(message, isNewEntry), packetId, delivery, messages.bytesOf(message));
  if (ids >= 0) {
    out.u16(ids === 0 ? 0 : 1);
    if (ids > 0) out.u32(ids);
  } else {
    const list = deliveries.idLists.get(ids);
    out.u16(list.length);
    for (const id of list) out.u32(id);
  }
  const filter = group < 0 ? noFilter : parts.groupFilter(group);
  out.u16(filter.length);
  if (filter.length > 0) out.bytes(filter);
}

const noFilter = Buffer.alloc(0);
