/**
 * Reads the changes of a log row one by one (session-log.ts). Its fields hold the change at hand and are reused; byte
 * strings are views into the row.
 *
 * Also the walks over entries that only want to know which bodies they name: these allocate nothing.
 */
import { ByteReader } from "#base/byte-writer.ts";
import { Change, type Entry, HAS_WILL, readEntry, readSubscription, readWill } from "./session-log.ts";
import type { StoredSubscription, StoredWill } from "./session-log.ts";

const NOTHING = Buffer.alloc(0);

export class ChangeReader {
  kind = 0;
  session = 0;
  expirySec = 0;
  atSec = 0;
  clientId: Buffer = NOTHING;
  will: StoredWill | undefined;
  subscription: StoredSubscription | undefined;
  filter: Buffer = NOTHING;
  entry: Entry | undefined;
  lane = 0;
  packetId = 0;
  page = 0;
  keep = 0;
  count = 0;
  bytes = 0;
  private readonly from: ByteReader;

  constructor(ops: Buffer) {
    this.from = new ByteReader(ops);
  }

  /** Moves to the next change; false at the end. Throws RangeError when the bytes are no changes. */
  // tidy: dispatch
  next(): boolean {
    const { from } = this;
    if (from.isAtEnd) return false;
    this.kind = from.u8();
    this.session = from.u48();
    switch (this.kind) {
      case Change.opened: {
        const flags = from.u8();
        this.expirySec = from.u32();
        this.clientId = from.bytes(from.u16());
        this.will = flags & HAS_WILL ? readWill(from) : undefined;
        break;
      }
      case Change.closed:
        this.atSec = from.u32();
        break;
      case Change.ending:
      case Change.gone:
      case Change.willGone:
        break;
      case Change.expiryChanged:
        this.expirySec = from.u32();
        break;
      case Change.subscribed:
        this.subscription = readSubscription(from);
        break;
      case Change.unsubscribed:
        this.filter = from.bytes(from.u16());
        break;
      case Change.enqueued:
        this.entry = readEntry(from);
        break;
      case Change.sent:
        this.lane = from.u8();
        this.packetId = from.u16();
        break;
      case Change.shifted:
        this.lane = from.u8();
        break;
      case Change.acknowledged:
      case Change.received:
      case Change.completed:
      case Change.receiptAdded:
      case Change.receiptRemoved:
        this.packetId = from.u16();
        break;
      case Change.spilled:
        this.lane = from.u8();
        this.page = from.u32();
        this.keep = from.u32();
        this.count = from.u32();
        this.bytes = from.u48();
        break;
      case Change.loaded:
      case Change.pageDropped:
        this.lane = from.u8();
        this.page = from.u32();
        break;
      default:
        throw new RangeError(`kind ${this.kind} is no change`);
    }
    return true;
  }
}

/** Calls `visit` with the body of each entry in `[from.at, from.end)`. */
export function visitEntries(from: ByteReader, visit: (body: number) => void): void {
  while (!from.isAtEnd) visitEntry(from, visit);
}

/** Calls `visit` with each body that a queue snapshot names in memory; pages are not looked into. */
export function visitQueue(queue: Buffer, visit: (body: number) => void): void {
  const from = queueFromInflight(queue);
  visitCounted(from, visit);
  for (let lanes = from.u8(); lanes > 0; lanes--) {
    skipPages(from);
    visitCounted(from, visit);
    visitCounted(from, visit);
  }
}

/** Calls `visit` with each body that the changes of a log row name. */
export function visitOps(ops: Buffer, visit: (body: number) => void): void {
  const change = new ChangeReader(ops);
  while (change.next()) if (change.kind === Change.enqueued) visit(change.entry!.body);
}

/** A queue snapshot whose waiting messages are all in pages. */
export function isResting(queue: Buffer): boolean {
  const from = queueFromInflight(queue);
  visitCounted(from, ignore);
  for (let lanes = from.u8(); lanes > 0; lanes--) {
    skipPages(from);
    if (from.u32() > 0 || from.u32() > 0) return false;
  }
  return true;
}

function queueFromInflight(queue: Buffer): ByteReader {
  const from = new ByteReader(queue);
  from.skip(3); // version, last packet id
  from.skip(from.u16() * 2);
  from.skip(from.u16() * 2);
  return from;
}

function skipPages(from: ByteReader): void {
  from.skip(5); // lane, next page
  from.skip(from.u32() * 14);
}

function visitCounted(from: ByteReader, visit: (body: number) => void): void {
  for (let left = from.u32(); left > 0; left--) visitEntry(from, visit);
}

function visitEntry(from: ByteReader, visit: (body: number) => void): void {
  visit(from.u48());
  from.skip(7); // packet id, delivery, size
  from.skip(from.u16() * 4);
  from.skip(from.u16());
}

function ignore(): void {}
