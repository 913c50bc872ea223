/**
 * Notes what happens to stored sessions as changes in the pending ring (pending.ts): the first half of the durable store,
 * which hands them to the disk (durable-store.ts).
 *
 *   enqueue ─► [ … enqueued … ] ─► settle, shift: acknowledged, sent: elided while it pends, else a change of its own
 *                                  withdraw, forget: with another session now: nothing is written, but whoever waits for it goes on waiting
 */
import { ByteWriter } from "#base/byte-writer.ts";
import type { MessageView } from "#core/message.ts";
import { DELIVERY_QOS } from "#core/outbox.ts";
import type { StoreRecord } from "#core/ports.ts";
import { Checkpoint } from "./checkpoint.ts";
import type { LogBackend } from "./log-backend.ts";
import { Paging } from "./paging.ts";
import { MOVED, Pending, WRITTEN_OUT } from "./pending.ts";
import { writeRetained } from "./retained-row.ts";
import { Change } from "./session-log.ts";
import { type MetaRecord, putEntry, writeMetaChange } from "./snapshot.ts";
import { type StoreLimits, StoreParts, UNKNOWN_SEC } from "./store-parts.ts";
import { StoreStats } from "./store-stats.ts";

const LOW_31 = 0x7fff_ffff;

export abstract class ChangeNotes {
  readonly stats: StoreStats = new StoreStats();
  abstract durableSeq: number;
  protected readonly pending = new Pending();
  protected readonly parts: StoreParts;
  protected readonly checkpoint: Checkpoint;
  protected readonly paging: Paging;
  /** Retained values to write, by topic. */
  protected readonly retained = new Map<string, Buffer | null>();
  /** Something waits that no receiver's acknowledgement can make unnecessary. */
  protected isUrgent = false;
  /** Something was elided: more may be safe. */
  protected hasMoved = false;
  /** The last change by which something went in flight, or out of it. */
  private lastFlightSeq = 0;
  private readonly encoder = new ByteWriter();

  constructor(backend: LogBackend, limits: StoreLimits) {
    this.parts = new StoreParts(backend, limits);
    this.checkpoint = new Checkpoint(this.parts);
    this.paging = new Paging(this.parts, this.checkpoint, (...change) => this.noteDisk(...change));
  }

  /** A place for a change, whose fields the caller fills. */
  protected abstract note(kind: number, session: number, isAwaited: boolean): number;

  append(record: StoreRecord, session: number, item: number): number {
    switch (record) {
      case "received":
        this.parts.releasedCount++;
        return this.noteId(Change.received, session, item, true);
      case "completed":
        return this.noteId(Change.completed, session, item, false);
      case "receipt-added":
        return this.noteId(Change.receiptAdded, session, item, true);
      case "receipt-removed":
        return this.noteId(Change.receiptRemoved, session, item, true);
      case "session-ended":
        return this.noteEnded(session);
      default:
        return this.noteMeta(record, session, item);
    }
  }

  enqueue(session: number, message: number, delivery: number, ids: number, group: number, packetId: number): number {
    const { pending } = this;
    const place = this.note(Change.enqueued, session, true);
    pending.message[place] = message;
    pending.delivery[place] = delivery;
    pending.ids[place] = ids;
    pending.group[place] = group;
    pending.packetId[place] = packetId;
    if (packetId === 0 || (delivery & DELIVERY_QOS) === 2) this.isUrgent = true;
    return pending.next - 1;
  }

  assign(session: number, lane: number, seq: number, packetId: number, message: number, qos: number): number {
    const { pending } = this;
    const known = pending.find(seq, message);
    const number = pending.first + ((seq - pending.first) & LOW_31);
    // Entered and sent in one, unless that would put it before what went in flight, or out of it, since.
    if (known >= 0 && number > this.lastFlightSeq) {
      pending.packetId[known] = packetId;
      return number;
    }
    if (known >= 0) this.settleEntry(known);
    const place = this.note(Change.sent, session, qos === 2);
    pending.delivery[place] = lane;
    pending.packetId[place] = packetId;
    if (qos === 2) this.isUrgent = true;
    return (this.lastFlightSeq = pending.next - 1);
  }

  settle(session: number, packetId: number, seq: number, message: number): void {
    if (!this.elide(seq, message)) this.noteGone(Change.acknowledged, session, packetId, 0);
  }

  shift(session: number, lane: number, seq: number, message: number): void {
    if (!this.elide(seq, message)) this.noteGone(Change.shifted, session, 0, lane);
  }

  withdraw(session: number, seq: number, message: number): void {
    if (this.move(seq, message)) return;
    // The entry cannot be named: its body may have another number by now. So the queue is written anew with the batch.
    this.parts.releasedCount++;
    this.checkpoint.touchNow(this.parts.numberOf(session), session);
    this.note(MOVED, session, false);
  }

  forget(seq: number, message: number): void {
    if (!this.move(seq, message)) this.parts.releasedCount++;
  }

  isDurable(seq: number): boolean {
    const after = (seq - this.durableSeq) & LOW_31;
    return seq === 0 || after === 0 || after >= this.pending.next - this.durableSeq;
  }

  retain(view: MessageView, message: number, deadlineSec: number): number {
    const topic = view.bytes.toString("latin1", view.topicStart, view.topicEnd);
    const isNoted = this.retained.has(topic);
    this.retained.set(topic, message < 0 ? null : this.encodeRetained(view, message, deadlineSec));
    const isAwaited = view.qos > 0 || view.valueStamp > 0; // of several processes each waits for the others
    if (!isAwaited && isNoted) return 0; // the topic will be written
    if (view.qos > 0) this.isUrgent = true;
    this.note(Change.retained, -1, isAwaited);
    return this.pending.next - 1;
  }

  refill(session: number, lane: number): void {
    this.paging.refill(session, lane);
  }

  dropPage(session: number, lane: number): boolean {
    return this.paging.dropFirst(session, lane);
  }

  fetch(session: number, complete: () => void): void {
    this.paging.fetchInflight(session, complete);
  }

  // ---- inside

  private noteId(kind: number, session: number, packetId: number, isAwaited: boolean): number {
    const place = this.note(kind, session, isAwaited);
    this.pending.packetId[place] = packetId;
    if (isAwaited) this.isUrgent = true;
    return (this.lastFlightSeq = this.pending.next - 1);
  }

  /** A message that was, or is being, written is not needed any more. Nobody waits for that. */
  private noteGone(kind: number, session: number, packetId: number, lane: number): void {
    this.parts.releasedCount++;
    const place = this.note(kind, session, false);
    this.pending.packetId[place] = packetId;
    this.pending.delivery[place] = lane;
    this.lastFlightSeq = this.pending.next - 1;
  }

  /** A change that can no longer be elided is written out now: its message may be gone when the batch is cut. */
  private settleEntry(place: number): void {
    const { pending, encoder } = this;
    encoder.clear();
    const { message, delivery, ids, group } = pending;
    putEntry(this.parts, encoder, 0, message[place], delivery[place], ids[place], group[place], true);
    pending.encoded[place] = encoder.take();
    pending.kind[place] = WRITTEN_OUT;
    pending.delivery[place] = Change.enqueued;
  }

  private move(seq: number, message: number): boolean {
    const place = this.pending.find(seq, message);
    if (place >= 0) this.pending.kind[place] = MOVED;
    return place >= 0;
  }

  /** A change of what a session, or one that is leaving, has on disk: a page is back in memory or dropped; all is gone. */
  private noteDisk(kind: number, number: number, session: number, page?: { lane: number; page: number }): void {
    const { encoder } = this;
    encoder.clear();
    if (page) {
      encoder.u8(page.lane);
      encoder.u32(page.page);
    }
    this.noteEncoded(kind, session, false);
    this.pending.stored[this.pending.placeOf(this.pending.next - 1)] = number;
  }

  private elide(seq: number, message: number): boolean {
    const place = this.pending.find(seq, message);
    if (place < 0) return false;
    this.pending.elide(place);
    this.stats.elidedCount++;
    this.hasMoved = true;
    return true;
  }

  /** A change whose fields stand in `encoder`. */
  private noteEncoded(kind: number, session: number, isAwaited: boolean): number {
    const place = this.note(WRITTEN_OUT, session, isAwaited);
    this.pending.delivery[place] = kind;
    this.pending.encoded[place] = this.encoder.take();
    if (isAwaited) this.isUrgent = true;
    return this.pending.next - 1;
  }

  private noteMeta(record: MetaRecord, session: number, item: number): number {
    const { parts, encoder } = this;
    if (record === "session-opened" && parts.numberOf(session) === 0) parts.setNumber(session, ++parts.lastSession);
    if (record === "session-closed") parts.setClosedAt(session, parts.engine.nowSec);
    encoder.clear();
    const kind = writeMetaChange(parts, encoder, record, record.endsWith("subscribed") ? item : session);
    const seq = this.noteEncoded(kind, session, record !== "session-closed");
    if (record === "session-opened") parts.setClosedAt(session, 0);
    const isGraceOver = record === "will-gone" && parts.closedAtOf(session) === UNKNOWN_SEC;
    return isGraceOver ? this.noteMeta("session-closed", session, 0) : seq;
  }

  /** What it has on disk is given to others, or goes with it. */
  private noteEnded(session: number): number {
    const { parts } = this;
    const leaver = this.paging.takeLeaver(session);
    this.encoder.clear();
    const seq = this.noteEncoded(leaver ? Change.ending : Change.gone, session, true);
    parts.setNumber(session, 0);
    if (leaver) this.paging.adopt(leaver);
    return seq;
  }

  private encodeRetained(view: MessageView, message: number, deadlineSec: number): Buffer {
    const { encoder, parts } = this;
    encoder.clear();
    writeRetained(encoder, parts.engine.messages, view, { message, deadlineSec });
    return encoder.take();
  }
}
