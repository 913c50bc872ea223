/**
 * Changes that are noted and not yet handed to the disk: a ring of columns, one place for each sequence number.
 *
 *   first ──► [ kind | isAwaited | session | stored | message | delivery | ids | group | packetId | lane ] ──► next
 *
 *   kind 0           elided: the receiver was quicker than the disk, or the session is gone
 *   kind MOVED       awaited, but nothing is written
 *   kind WRITTEN_OUT its bytes stand in `encoded`: what is rare
 *
 * Nothing is allocated for a message that is acknowledged before it is written. A number whose low 31 bits are 0 is never
 * given, so that 0 means none in a queue entry. Awaited are the changes that an acknowledgement may stand for.
 */
import { grown } from "#base/bytes.ts";
import { Change } from "./session-log.ts";

export const ELIDED = 0;
/** The message went to another session, whose change comes later: nothing is written, but who waits for this waits for that. */
export const MOVED = 254;
export const WRITTEN_OUT = 255;
const LOW_31 = 0x7fff_ffff;

export class Pending {
  /** Number of the oldest change in the ring, and the one that comes next. */
  first = 1;
  next = 1;
  kind = new Uint8Array(1024);
  isAwaited = new Uint8Array(1024);
  /** The engine's number of the session, and the store's. */
  session = new Int32Array(1024);
  stored = new Float64Array(1024);
  message = new Int32Array(1024);
  delivery = new Uint8Array(1024);
  ids = new Int32Array(1024);
  group = new Int32Array(1024);
  packetId = new Uint16Array(1024);
  encoded: (Buffer | null)[] = [];
  /** Changes in the ring that are not elided, and of these the ones that nobody waits for. */
  liveCount = 0;
  unawaitedCount = 0;

  /** Place in the columns of a number between `first` and `next`. */
  placeOf(seq: number): number {
    return seq & (this.kind.length - 1);
  }

  /** A place for the next change; the caller fills what its kind needs. */
  take(kind: number, session: number, stored: number, isAwaited: boolean): number {
    if ((this.next & LOW_31) === 0) this.skip();
    if (this.next - this.first === this.kind.length) this.grow();
    const place = this.placeOf(this.next++);
    this.kind[place] = kind;
    this.isAwaited[place] = isAwaited ? 1 : 0;
    this.session[place] = session;
    this.stored[place] = stored;
    this.liveCount++;
    if (!isAwaited) this.unawaitedCount++;
    return place;
  }

  /** The place of a queue entry's change while it can still be elided, or −1. */
  find(low: number, message: number): number {
    if (low === 0) return -1;
    const offset = (low - this.first) & LOW_31;
    if (offset >= this.next - this.first) return -1;
    const place = this.placeOf(this.first + offset);
    return this.kind[place] === Change.enqueued && this.message[place] === message ? place : -1;
  }

  elide(place: number): void {
    this.kind[place] = ELIDED;
    this.liveCount--;
  }

  /** Everything was handed over, or is elided. */
  clear(): void {
    this.first = this.next;
    this.liveCount = this.unawaitedCount = 0;
  }

  /** Forgets elided changes at the front. */
  trim(): void {
    while (this.first < this.next && this.kind[this.placeOf(this.first)] === ELIDED) this.first++;
  }

  private skip(): void {
    if (this.next - this.first === this.kind.length) this.grow();
    const place = this.placeOf(this.next++);
    this.kind[place] = ELIDED;
    this.isAwaited[place] = 0;
  }

  private grow(): void {
    const before = this.kind.length;
    const capacity = before * 2;
    this.kind = this.spread(this.kind, before);
    this.isAwaited = this.spread(this.isAwaited, before);
    this.session = this.spread(this.session, before);
    this.stored = this.spread(this.stored, before);
    this.message = this.spread(this.message, before);
    this.delivery = this.spread(this.delivery, before);
    this.ids = this.spread(this.ids, before);
    this.group = this.spread(this.group, before);
    this.packetId = this.spread(this.packetId, before);
    const encoded: (Buffer | null)[] = [];
    for (let seq = this.first; seq < this.next; seq++)
      encoded[seq & (capacity - 1)] = this.encoded[seq & (before - 1)] ?? null;
    this.encoded = encoded;
  }

  /** A column of twice the length, each number at its place there. */
  private spread<T extends Int32Array | Uint16Array | Uint8Array | Float64Array>(column: T, before: number): T {
    const larger = grown(column, before * 2);
    for (let seq = this.first; seq < this.next; seq++) larger[seq & (larger.length - 1)] = column[seq & (before - 1)];
    return larger;
  }
}
