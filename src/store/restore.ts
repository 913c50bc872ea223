/**
 * From what the disk has to a running engine: sessions with their subscriptions, wills and queues, and retained messages.
 * Bodies of waiting messages stay on disk until their client is back (paging.ts), so this takes time by sessions.
 */
import { ByteReader, ByteWriter } from "#base/byte-writer.ts";
import { U16Set } from "#base/u16-set.ts";
import { MessageView } from "#core/message.ts";
import type { Will } from "#core/will.ts";
import { SessionQueue } from "#core/session-table.ts";
import { Leaver } from "./leaver.ts";
import type { RecoveredSession, RecoveryInfo, RecoveryReceiver } from "./log-backend.ts";
import type { Paging } from "./paging.ts";
import { readRetained } from "./retained-row.ts";
import { IS_CONNECTED, IS_ENDING, type Meta, readMeta, readQueue, writeEntry } from "./session-log.ts";
import { type StoreParts, UNKNOWN_SEC } from "./store-parts.ts";

export interface RestoreInfo {
  readonly sessionCount: number;
  readonly messageCount: number;
  readonly retainedCount: number;
  /** What was found damaged, a line each. */
  readonly damage: readonly string[];
}

export class Restore implements RecoveryReceiver {
  private readonly restored: { readonly session: number; readonly closedAtSec: number | undefined }[] = [];
  private readonly leavers: Leaver[] = [];
  private sessionCount = 0;
  private messageCount = 0;
  private retainedCount = 0;

  constructor(
    private readonly parts: StoreParts,
    private readonly paging: Paging,
    /** Its client was connected when the broker stopped; it is away now. */
    private readonly noteClosed: (session: number) => void,
    private readonly complete: (info: RestoreInfo) => void,
  ) {}

  sessions(sessions: readonly RecoveredSession[]): void {
    for (const session of sessions) this.restore(session);
  }

  private restore({ session: number, meta: metaBytes, queue: queueBytes }: RecoveredSession): void {
    const { parts } = this;
    const { engine } = parts;
    parts.lastSession = Math.max(parts.lastSession, number);
    const meta = readMeta(metaBytes);
    if (meta.flags & IS_ENDING) return this.restoreLeaver(number, meta, queueBytes);
    const wasConnected = (meta.flags & IS_CONNECTED) !== 0;
    const will = this.readWill(meta);
    const session = engine.lifecycle.restore(meta.clientId, meta.expirySec, will);
    if (will) engine.messages.release(will.view.message); // `restore` keeps a copy
    parts.setNumber(session, number);
    if (!wasConnected) parts.setClosedAt(session, meta.closedAtSec);
    for (const subscription of meta.subscriptions) engine.subscriptions.restore(session, subscription);
    if (queueBytes.length > 0) this.restoreQueue(engine.sessions.queueFor(session), queueBytes);
    if (engine.sessions.isPeer[session] === 0) this.sessionCount++;
    this.restored.push({ session, closedAtSec: wasConnected ? undefined : meta.closedAtSec });
  }

  private restoreQueue(queue: SessionQueue, bytes: Buffer): void {
    const kept = readQueue(bytes);
    queue.inflight.lastId = kept.lastPacketId;
    for (const packetId of kept.released) queue.inflight.release(packetId);
    if (kept.receipts.length > 0) queue.receipts = new U16Set();
    for (const packetId of kept.receipts) queue.receipts!.add(packetId);
    if (kept.inflight.length > 0) {
      const out = new ByteWriter();
      for (const entry of kept.inflight) writeEntry(out, entry);
      queue.stored = out.take();
      queue.storedCount = kept.inflight.length;
    }
    this.messageCount += kept.inflight.length;
    const { outbox } = queue;
    for (const { lane: number, nextPage, pages } of kept.lanes) {
      outbox.nextPage = Math.max(outbox.nextPage, nextPage);
      if (pages.length === 0) continue;
      outbox.lane(number).pages = pages;
      for (const { count, bytes: size } of pages) {
        outbox.count += count;
        outbox.bytes += size;
        this.messageCount += count;
      }
    }
  }

  private restoreLeaver(number: number, meta: Meta, queueBytes: Buffer): void {
    const leaver = new Leaver(number, Buffer.from(meta.clientId));
    const queue = new SessionQueue();
    if (queueBytes.length > 0) this.restoreQueue(queue, queueBytes);
    leaver.take(queue);
    this.leavers.push(leaver);
  }

  /** The will; its view is a message of the pool, whose reference is the caller's. */
  private readWill({ will }: Meta): Will | undefined {
    if (!will) return undefined;
    const { messages } = this.parts.engine;
    const view = new MessageView();
    messages.load(messages.read(new ByteReader(will.body)), view);
    return { view, delaySec: will.delaySec, expirySec: will.expirySec };
  }

  retained(values: readonly { readonly topic: Buffer; readonly bytes: Buffer }[]): void {
    const { messages, keeper, peers } = this.parts.engine;
    const view = new MessageView();
    for (const { bytes } of values) {
      const deadlineSec = readRetained(bytes, messages, view);
      if (keeper.restore(view, view.message, deadlineSec)) this.retainedCount++;
      peers?.seeStamp(view.valueStamp);
    }
  }

  done(info: RecoveryInfo): void {
    const { parts } = this;
    parts.lastBody = info.lastBody;
    parts.collectFloor = info.lastBody + 1;
    if (info.lastBody > 0) parts.releasedCount = 1; // what a crash left behind is collected when it is quiet
    parts.lastSession = Math.max(parts.lastSession, info.lastSession);
    parts.lastBatch = info.lastBatch;
    const { peers } = parts.engine;
    if (peers)
      peers.whenSynced(() => this.arm()); // what is published then goes to all processes
    else this.arm();
    const { sessionCount, messageCount, retainedCount } = this;
    this.complete({ sessionCount, messageCount, retainedCount, damage: info.damage });
  }

  /** Deadlines run, and messages of sessions that have ended go to others. */
  private arm(): void {
    const { parts } = this;
    for (const leaver of this.leavers) this.paging.adopt(leaver); // to sessions which are all here now
    for (const { session, closedAtSec } of this.restored) {
      if (parts.engine.sessions.isPeer[session] !== 0) continue; // it does not end, and may be connected by now
      // While its will waits it counts as connected, so that the grace holds at the next start too.
      if (closedAtSec === undefined && parts.engine.lifecycle.willOf(session)) parts.setClosedAt(session, UNKNOWN_SEC);
      else if (closedAtSec === undefined) this.noteClosed(session);
      parts.engine.lifecycle.armRestored(session, closedAtSec);
    }
  }
}
