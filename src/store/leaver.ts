/** A session that has ended, until the last of what it has on disk is given to others or dropped. */
import type { ByteWriter } from "#base/byte-writer.ts";
import type { SessionQueue } from "#core/session-table.ts";
import type { SnapshotSource } from "./checkpoint.ts";
import { IS_ENDING, type StoredPage, writeMeta, writeQueueHead } from "./session-log.ts";

export class Leaver implements SnapshotSource {
  /** What was in flight, as entries. */
  stored: Buffer | null = null;
  private storedCount = 0;
  readonly lanes: { readonly lane: number; readonly pages: StoredPage[] }[] = [];
  private nextPage = 0;

  constructor(
    /** The store's number of the session. */
    readonly number: number,
    private readonly clientId: Buffer,
  ) {}

  /** Takes from a queue what it has on disk. */
  take(queue: SessionQueue): void {
    this.stored = queue.stored;
    this.storedCount = queue.storedCount;
    this.nextPage = queue.outbox.nextPage;
    queue.stored = null;
    queue.storedCount = 0;
    for (const lane of queue.outbox.lanes) {
      this.lanes.push({ lane: lane.number, pages: lane.pages });
      lane.pages = [];
    }
  }

  writeMeta(out: ByteWriter): void {
    const { clientId } = this;
    writeMeta(out, { flags: IS_ENDING, expirySec: 0, closedAtSec: 0, clientId, will: undefined, subscriptions: [] });
  }

  writeQueue(out: ByteWriter): void {
    writeQueueHead(out, 0, [], []);
    out.u32(this.stored ? this.storedCount : 0);
    if (this.stored) out.bytes(this.stored);
    out.u8(this.lanes.length);
    for (const { lane, pages } of this.lanes) {
      out.u8(lane);
      out.u32(this.nextPage);
      out.u32(pages.length);
      for (const { page, count, bytes } of pages) {
        out.u32(page);
        out.u32(count);
        out.u48(bytes);
      }
      out.u32(0);
      out.u32(0);
    }
  }
}
