/**
 * From what the disk has to a running engine: sessions with their subscriptions, wills and queues, and retained messages.
 * Bodies of waiting messages stay on disk until their client is back (paging.ts), so this takes time by sessions.
 */
import { ByteReader, ByteWriter } from "#base/byte-writer.ts";
import { MessageView } from "#core/message.ts";
import type { Will } from "#core/will.ts";
import { Leaver } from "./leaver.ts";
import type { RecoveredSession, RecoveryInfo, RecoveryReceiver } from "./log-backend.ts";
import type { Paging } from "./paging.ts";
import { IS_CONNECTED, IS_ENDING, type Meta, readMeta, readQueue, writeEntry } from "./session-log.ts";
import type { StoreParts } from "./store-parts.ts";

export interface RestoreInfo {
  readonly sessionCount: number;
  readonly messageCount: number;
  readonly retainedCount: number;
  /** What was found damaged, a line each. */
  readonly damage: readonly string[];
}

export class Restore implements RecoveryReceiver {
  /** Sessions whose clients were connected when the broker stopped. */
  readonly orphans: number[] = [];
  private sessionCount = 0;
  private messageCount = 0;
  private retainedCount = 0;

  constructor(
    private readonly parts: StoreParts,
    private readonly paging: Paging,
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
    const session = engine.lifecycle.restore({
      clientId: meta.clientId,
      expirySec: meta.expirySec,
      closedAtSec: wasConnected ? undefined : meta.closedAtSec,
      will,
    });
    if (will) engine.messages.release(will.view.message); // `restore` keeps a copy
    parts.setNumber(session, number);
    parts.setClosedAt(session, wasConnected ? engine.nowSec : meta.closedAtSec);
    for (const subscription of meta.subscriptions) engine.subscriptions.restore(session, subscription);
    if (queueBytes.length > 0) this.restoreQueue(session, queueBytes);
    this.sessionCount++;
    if (meta.expirySec === 0)
      engine.endSession(session); // it ended with its connection
    else if (wasConnected) this.orphans.push(session);
  }

  private restoreQueue(session: number, bytes: Buffer): void {
    const kept = readQueue(bytes);
    const queue = this.parts.engine.sessions.queueFor(session);
    queue.inflight.lastId = kept.lastPacketId;
    for (const packetId of kept.released) queue.inflight.release(packetId);
    for (const packetId of kept.receipts) this.parts.engine.sessions.receiptsFor(session).add(packetId);
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
    const { engine } = this.parts;
    const session = engine.sessions.create(Buffer.from(`leaving ${number}`), engine.nowSec);
    if (queueBytes.length > 0) this.restoreQueue(session, queueBytes);
    const leaver = new Leaver(number, Buffer.from(meta.clientId));
    const queue = engine.sessions.queueOf(session);
    if (queue) leaver.take(queue);
    engine.sessions.remove(session);
    this.paging.adopt(leaver);
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
    const { messages, keeper } = this.parts.engine;
    const view = new MessageView();
    for (const { bytes } of values) {
      const from = new ByteReader(bytes);
      const publisherKey = from.u32() | 0;
      const deadlineSec = from.u32();
      const message = messages.read(from);
      messages.load(message, view);
      view.publisherKey = publisherKey;
      keeper.restore(view, message, deadlineSec);
      this.retainedCount++;
    }
  }

  done(info: RecoveryInfo): void {
    const { parts } = this;
    parts.lastBody = info.lastBody;
    parts.collectFloor = info.lastBody + 1;
    parts.lastSession = Math.max(parts.lastSession, info.lastSession);
    parts.lastBatch = info.lastBatch;
    const { sessionCount, messageCount, retainedCount } = this;
    this.complete({ sessionCount, messageCount, retainedCount, damage: info.damage });
  }
}
