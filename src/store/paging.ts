/**
 * Queues that are larger than memory: what a client does not fetch goes to pages on disk, and comes back as it is sent.
 *
 *   lane   head ──► page … page ──► tail        spill: the tail's (without pages the head's) oldest become pages
 *                                               refill: the first page's messages join the head
 *
 * A session of an absent client keeps at most a page's worth in memory, a connected one `HEAD_COUNT` more; above
 * `messages.bytesMax` / 2 each new message pushes all that its session has waiting to disk. What a session that ended has on
 * disk is read back page by page, so that messages of share groups reach other members and drops are counted.
 */
import { ByteReader, ByteWriter } from "#base/byte-writer.ts";
import { DELIVERY_QOS, DELIVERY_SENT, IDS, type Lane, MESSAGE, type Outbox, Ring } from "#core/outbox.ts";
import type { Checkpoint } from "./checkpoint.ts";
import { Leaver } from "./leaver.ts";
import { type LoadedEntries, QUEUE } from "./log-backend.ts";
import { Change, type Entry, readEntries } from "./session-log.ts";
import { writeWaiting } from "./snapshot.ts";
import type { StoreParts } from "./store-parts.ts";

export interface LanePage {
  readonly lane: number;
  readonly page: number;
}

/** What a connected session's head keeps in memory. */
const HEAD_COUNT = 512;
const HEAD_PAGES = 8;
const LOST = 0xffff_ffff;
const PRESSURE_SESSIONS = 64;

export class Paging {
  /** Sessions with more waiting than before. */
  private readonly grown = new Set<number>();
  private readonly out = new ByteWriter();
  private hand = 0;

  constructor(
    private readonly parts: StoreParts,
    private readonly checkpoint: Checkpoint,
    /** Notes a change, in order with all others. */
    private readonly note: (kind: number, number: number, session: number, page?: LanePage) => void,
  ) {}

  noteGrown(session: number): void {
    this.grown.add(session);
  }

  /** Adds to the batch what goes to disk. Every change before this has been written. */
  write(): void {
    const { engine, limits } = this.parts;
    const isCrowded = engine.messages.bodyBytes > engine.limits.messages.bytesMax / 2;
    if (isCrowded) this.pick();
    for (const session of this.grown) {
      const queue = engine.sessions.queueOf(session);
      const number = this.parts.numberOf(session);
      if (queue === null || number === 0) continue;
      const isAbsent = engine.sessions.sinks[session] === null;
      for (const lane of queue.outbox.lanes) {
        const source = lane.back;
        const kept = isAbsent || isCrowded || lane.pages.length > 0 ? 0 : this.headCount(lane);
        const bytes = lane.pages.length > 0 ? lane.tailBytes : lane.memoryBytes;
        const isLong =
          source.count >= kept + limits.pageCount || bytes >= limits.pageBytes * (kept > 0 ? HEAD_PAGES : 1);
        if (source.count > kept && (isLong || isCrowded)) this.spill(number, queue.outbox, lane, kept, isCrowded);
      }
      this.checkpoint.touch(number, session, QUEUE);
    }
    this.grown.clear();
  }

  /** How many messages of a connected session stay in memory. */
  private headCount({ head, memoryBytes }: Lane): number {
    const bytesMax = HEAD_PAGES * this.parts.limits.pageBytes;
    return memoryBytes <= bytesMax
      ? HEAD_COUNT
      : Math.min(HEAD_COUNT, Math.floor((head.count * bytesMax) / memoryBytes));
  }

  /** Memory is short: sessions that did not change lately are looked at in turn. */
  private pick(): void {
    const { sessions } = this.parts.engine;
    const high = sessions.high;
    for (let i = 0; i < PRESSURE_SESSIONS && i < high; i++) {
      this.hand = (this.hand + 1) % high;
      if (this.parts.numberOf(this.hand) !== 0 && sessions.queueOf(this.hand)?.outbox.count) this.grown.add(this.hand);
    }
  }

  /** Moves what waits behind the first `keep` to pages; whole pages only, unless `isAll`. */
  private spill(number: number, outbox: Outbox, lane: Lane, keep: number, isAll: boolean): void {
    const { parts } = this;
    const { limits } = parts;
    const rest = new Ring();
    lane.back.moveTo(rest, keep);
    let kept = lane.pages.length > 0 ? 0 : keep;
    if (lane.pages.length === 0) lane.pages = [];
    let left = 0;
    for (let i = 0; i < rest.count; i++) left += parts.engine.messages.bytesOf(rest.at(i, MESSAGE));
    while (rest.count > 0 && (rest.count >= limits.pageCount || left >= limits.pageBytes || isAll)) {
      const { out } = this;
      out.clear();
      let count = 0;
      let bytes = 0;
      while (count < rest.count && count < limits.pageCount && bytes < limits.pageBytes) {
        bytes += writeWaiting(parts, rest, count++, out);
      }
      const page = outbox.nextPage++;
      parts.putPage(number, page, out);
      parts.putChange(Change.spilled, number);
      parts.ops.u8(lane.number);
      parts.ops.u32(page);
      parts.ops.u32(kept);
      parts.ops.u32(count);
      parts.ops.u48(bytes);
      kept = 0;
      lane.pages.push({ page, count, bytes });
      lane.memoryBytes -= bytes;
      left -= bytes;
      for (; count > 0; count--) {
        parts.engine.delivery.free(rest.at(0, MESSAGE), rest.at(0, IDS));
        rest.shift();
      }
    }
    if (lane.pages.length === 0) return rest.moveTo(lane.head, 0);
    lane.tail = rest;
    lane.tailBytes = left;
  }

  /** The lane's first page comes back to memory. */
  refill(session: number, laneNumber: number): void {
    const { backend, engine } = this.parts;
    const number = this.parts.numberOf(session);
    const { outbox } = engine.sessions.queueFor(session);
    const lane = outbox.lane(laneNumber);
    if (lane.isLoading || lane.pages.length === 0) return;
    lane.isLoading = true;
    const [{ page, count, bytes }] = lane.pages;
    backend.readPage(number, page, (loaded) => {
      lane.isLoading = false;
      if (this.parts.numberOf(session) !== number || lane.pages[0]?.page !== page) return;
      let lostCount = count;
      let lostBytes = bytes;
      const keep = (message: number, entry: Entry): void => {
        lane.head.push(message, entry.delivery, this.keepIds(entry), this.parts.groupOf(entry.group), 0);
        lostCount--;
        lostBytes -= entry.size;
        lane.memoryBytes += entry.size;
      };
      if (loaded) this.eachMessage(loaded, keep);
      lane.pages.shift();
      lane.join();
      outbox.count -= lostCount;
      outbox.bytes -= lostBytes;
      if (lostCount > 0) engine.metrics.add("store.messages.lost", lostCount);
      this.notePage(Change.loaded, number, session, { lane: lane.number, page });
      engine.pump(session);
    });
  }

  /** Drops the lane's first page: its messages are counted, and shown to hooks as soon as they are read. */
  dropFirst(session: number, laneNumber: number): boolean {
    const { engine, backend } = this.parts;
    const number = this.parts.numberOf(session);
    const queue = engine.sessions.queueFor(session);
    const { outbox } = queue;
    const lane = outbox.lane(laneNumber);
    if (lane.isLoading) return false;
    const { page, count, bytes } = lane.pages.shift()!;
    lane.join();
    outbox.count -= count;
    outbox.bytes -= bytes;
    this.parts.releasedCount += count;
    queue.droppedCount += count;
    if (engine.hooks.messageDropped.isUsed) {
      const client = engine.delivery.clientOf(session); // it may be gone when the page is read
      backend.readPage(number, page, (loaded) => {
        if (loaded) this.eachMessage(loaded, (message) => engine.leavings.dropStored("queue_full", client, message));
      });
    } else engine.metrics.add("messages.dropped.queue_full", count);
    this.notePage(Change.pageDropped, number, session, { lane: lane.number, page });
    return true;
  }

  /** What was in flight when the broker stopped is needed: its client is back. */
  fetchInflight(session: number, complete: () => void): void {
    const { backend, engine } = this.parts;
    const number = this.parts.numberOf(session);
    const queue = engine.sessions.queueOf(session);
    if (!queue?.stored) return complete();
    backend.readBodies(queue.stored, (loaded) => {
      if (this.parts.numberOf(session) === number && queue.stored !== null) {
        const keep = (message: number, { delivery, packetId, ...entry }: Entry): void => {
          const group = this.parts.groupOf(entry.group);
          queue.inflight.restore(message, delivery | DELIVERY_SENT, this.keepIds(entry), group, packetId);
        };
        this.eachMessage(loaded, keep);
        const lostCount = queue.storedCount - queue.inflight.count;
        if (lostCount > 0) engine.metrics.add("store.messages.lost", lostCount);
        queue.stored = null;
        queue.storedCount = 0;
      }
      complete();
    });
  }

  /** Takes what an ending session has on disk, for `adopt`; null when that is nothing. */
  takeLeaver(session: number): Leaver | null {
    const { sessions } = this.parts.engine;
    const queue = sessions.queueOf(session);
    if (queue === null || (queue.stored === null && !queue.outbox.hasPages)) return null;
    const leaver = new Leaver(this.parts.numberOf(session), Buffer.from(sessions.clientId(session)));
    leaver.take(queue);
    return leaver;
  }

  /** A session that has ended and still has messages on disk. */
  adopt(leaver: Leaver): void {
    this.checkpoint.leaving.set(leaver.number, leaver);
    this.empty(leaver);
  }

  /** Reads what a leaver has, part by part, and gives each message to others or drops it. */
  private empty(leaver: Leaver): void {
    const { backend } = this.parts;
    if (leaver.stored) {
      const { stored } = leaver;
      backend.readBodies(stored, (loaded) => {
        leaver.stored = null;
        this.checkpoint.touchNow(leaver.number, -1); // with others now, in the same batch
        this.eachMessage(loaded, (message, entry) => this.discard(message, entry, true));
        this.empty(leaver);
      });
      return;
    }
    const found = leaver.lanes.find(({ pages }) => pages.length > 0);
    if (!found) {
      return this.note(Change.gone, leaver.number, -1);
    }
    backend.readPage(leaver.number, found.pages[0]!.page, (loaded) => {
      const { page } = found.pages.shift()!;
      if (loaded) this.eachMessage(loaded, (message, entry) => this.discard(message, entry, false));
      this.notePage(Change.pageDropped, leaver.number, -1, { lane: found.lane, page });
      this.empty(leaver);
    });
  }

  private discard(message: number, entry: Entry, wasSent: boolean): void {
    const { engine } = this.parts;
    // A QoS 2 message may have arrived: it must go to nobody else. [MQTT-4.8.2-5]
    const isFree = !wasSent || (entry.delivery & DELIVERY_QOS) === 1;
    this.parts.releasedCount++;
    engine.routed(() => engine.leavings.discardOne(-1, message, 0, isFree ? this.parts.groupOf(entry.group) : -1));
  }

  /** The page's row stays until a snapshot no longer names it. */
  private notePage(kind: number, number: number, session: number, page: LanePage): void {
    this.note(kind, number, session, page);
    this.checkpoint.addDeadPage(number, page.page);
  }

  /** Each entry with its message, whose one reference is the callee's; entries whose body is lost are left out. */
  private eachMessage({ entries, bodies }: LoadedEntries, visit: (message: number, entry: Entry) => void): void {
    const { messages } = this.parts.engine;
    const from = new ByteReader(bodies);
    for (const entry of readEntries(entries)) {
      const length = from.u32();
      if (length === LOST) continue;
      const at = from.skip(length);
      const message = messages.read(new ByteReader(bodies, at, at + length));
      messages.setBodyNumber(message, entry.body);
      visit(message, entry);
    }
  }

  private keepIds({ ids }: Pick<Entry, "ids">): number {
    return this.parts.engine.delivery.idLists.keep(Int32Array.from(ids), ids.length);
  }
}
