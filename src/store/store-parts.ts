/** What the parts of the durable store share: the engine, the disk, the batch being written, and who is who there. */
import { ByteWriter } from "#base/byte-writer.ts";
import { grown } from "#base/bytes.ts";
import type { Engine } from "#core/engine.ts";
import { parseShared } from "#core/topic.ts";
import { BODY, DROP_PAGE, type LogBackend, PAGE, REMOVE, SNAPSHOT } from "./log-backend.ts";

/** When a client left that was connected as the broker stopped. */
export const UNKNOWN_SEC = -1;

const noBytes = Buffer.alloc(0);

export interface StoreLimits {
  /** A page on disk holds at most so many messages, and about so many bytes of bodies. */
  readonly pageCount: number;
  readonly pageBytes: number;
  /** Changes in the log before all sessions that changed are written anew, in bytes and in age. */
  readonly logBytesMax: number;
  readonly checkpointSec: number;
}

export class StoreParts {
  engine!: Engine;
  /** The batch being put together: its items so far, and its changes, which become one item at the end. */
  readonly items: ByteWriter = new ByteWriter();
  readonly ops: ByteWriter = new ByteWriter();
  lastBatch = 0;
  lastSession = 0;
  lastBody = 0;
  /** Entries written from now on must not name a body below this. */
  collectFloor = 0;
  /** Messages in queues on disk that have gone since the last collection. */
  releasedCount = 0;
  /** By session of the engine: its number in the store, 0 for none; when its client left. */
  private numbers = new Float64Array(64);
  private closedAt = new Float64Array(64);

  constructor(
    readonly backend: LogBackend,
    readonly limits: StoreLimits,
  ) {}

  numberOf(session: number): number {
    return session < this.numbers.length ? this.numbers[session] : 0;
  }

  setNumber(session: number, number: number): void {
    if (session >= this.numbers.length) {
      let capacity = this.numbers.length * 2;
      while (capacity <= session) capacity *= 2;
      this.numbers = grown(this.numbers, capacity);
      this.closedAt = grown(this.closedAt, capacity);
    }
    this.numbers[session] = number;
  }

  closedAtOf(session: number): number {
    return this.closedAt[session];
  }

  setClosedAt(session: number, sec: number): void {
    this.closedAt[session] = sec;
  }

  /**
   * The number of a message's body, which is written with this batch unless it was before. An entry that is new may not
   * name a body below the floor. One that the disk has may, as long as the message has its first number: that body is
   * named, so it is not collected.
   */
  bodyOf(message: number, isNewEntry: boolean): number {
    const { messages } = this.engine;
    const before = messages.bodyNumberOf(message);
    const known = Math.abs(before);
    if (before !== 0 && ((before > 0 && !isNewEntry) || known >= this.collectFloor)) return known;
    const number = ++this.lastBody;
    messages.setBodyNumber(message, before === 0 ? number : -number);
    this.items.u8(BODY);
    this.items.u48(number);
    this.items.u32(messages.writtenBytes(message));
    messages.write(message, this.items);
    return number;
  }

  /** The share group of a number as a filter, empty for none. */
  groupFilter(group: number): Buffer {
    const { groups } = this.engine;
    return group >= 0 && groups.has(group) ? groups.filterOf(group) : noBytes;
  }

  /** The share group of a filter, −1 when it has no members. */
  groupOf(filter: Buffer): number {
    const shared = filter.length > 0 ? parseShared(filter) : undefined;
    return shared ? this.engine.groups.find(shared) : -1;
  }

  putSnapshot(number: number, part: number, bytes: ByteWriter): void {
    const { items } = this;
    items.u8(SNAPSHOT);
    items.u48(number);
    items.u8(part);
    items.u32(bytes.length);
    items.bytes(bytes.buffer, 0, bytes.length);
  }

  putPage(number: number, page: number, bytes: ByteWriter): void {
    const { items } = this;
    items.u8(PAGE);
    items.u48(number);
    items.u32(page);
    items.u32(bytes.length);
    items.bytes(bytes.buffer, 0, bytes.length);
  }

  putDropPage(number: number, page: number): void {
    this.items.u8(DROP_PAGE);
    this.items.u48(number);
    this.items.u32(page);
  }

  putRemove(number: number): void {
    this.items.u8(REMOVE);
    this.items.u48(number);
  }

  /** Kind and session of a change; its fields follow. */
  putChange(kind: number, number: number): void {
    this.ops.u8(kind);
    this.ops.u48(number);
  }
}
