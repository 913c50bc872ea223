/**
 * Application messages: one on its way through (`MessageView`), and those that wait (`MessagePool`).
 *
 * A view borrows bytes: the chunk that came from a socket, or a block of the pool. Nothing in it is valid after the
 * handler returns. The pool owns a copy of the same bytes and counts references; a message to a thousand outboxes is
 * one block.
 *
 *   view     bytes: … | fixed header | length topic | packet id | properties | payload | …
 *                     frameStart       topicStart                propertiesStart  payloadStart   payloadEnd = frameEnd
 *   pool     the frame as received when there is one (so that it can go out again by one copy), else topic|properties|payload
 *
 *   stored   | flags u8 | topicAt u8 | topicLength u16 | propertiesAt, propertiesLength, payloadAt, expiryAt, expiryAtSec u32 | body |
 *            what a store keeps of a message: little-endian, expiryAt 0xffffffff for none
 *
 *   row      | block | size | references | flags | topicLength, topicAt | propertiesAt | propertiesLength | payloadAt | expiryAt | expiryAtSec |
 *            40 bytes of i32 for a kept message, in chunks of 4,096: a message is read from one or two cache lines, and no
 *            row is ever copied, so that a million messages more do not stop the loop
 *
 * 48 bytes a message with the store's number; the body is rounded up to the block pool's classes.
 */
import { type BlockPool, offsetOf, pageOf } from "#base/block-pool.ts";
import type { ByteReader, ByteWriter } from "#base/byte-writer.ts";
import { emptyBytes, grown } from "#base/bytes.ts";
import { Slab } from "#base/slab.ts";

/** No message expiry: the value of `expiryAtSec`. */
export const NEVER = 0xffff_ffff;

/** Expiry of a message that is to live `sec` seconds from `fromSec`, see `Engine.lifeFromSec`. */
export function expiryAt(fromSec: number, sec: number): number {
  return Math.min(fromSec + sec, NEVER - 1);
}

export class MessageView {
  bytes: Buffer = emptyBytes;
  /** The whole packet when it can be sent on as it is (no alias in it, minimal length), else -1. */
  frameStart = -1;
  topicStart = 0;
  topicEnd = 0;
  /** Where the packet id of the frame stands; only with a frame of QoS 1/2. */
  packetIdStart = 0;
  /** 5.0 properties that are passed on, without their length. */
  propertiesStart = 0;
  propertiesEnd = 0;
  payloadStart = 0;
  payloadEnd = 0;
  qos = 0;
  isRetain = false;
  /** The frame and the properties are 5.0. */
  isV5 = false;
  /** Wall clock, seconds, after which it is not delivered; NEVER without expiry. */
  expiryAtSec = NEVER;
  /** Where the four bytes of Message Expiry Interval stand in `bytes`, or -1. */
  expiryStart = -1;
  /** Session that published, or -1. */
  publisher = -1;
  /** Hash of the publisher's client id, which outlives its session; 0 for the broker itself. */
  publisherKey = 0;
  /** Subscription identifiers of the delivery at hand: `ids[0, idCount)`. */
  ids: Int32Array = new Int32Array(16);
  idCount = 0;
  /** Number in the pool, or -1 for a message on its way through. */
  message = -1;
  /** The slot of the match cache that holds the topic, or -1 when that is not known; see `Engine.findTopic`. */
  slot = -1;
  /** The topic's number in the match cache (`MatchCache.stamp`), or 0; set where access is asked. */
  topicStamp = 0;
  /** A new number for each message that is routed: encoders key what they have encoded by it. */
  stamp = 0;
  /** It came from another process of this broker, which sent it to all others that want it. */
  isForwarded = false;
  /** Orders the values of a retained topic among the processes of this broker: peer-mark.ts; 0 with one process. */
  valueStamp = 0;

  /** Points it at a message of the broker's own: `bytes` is topic and payload, QoS 0, no properties. */
  reset(bytes: Buffer, topicBytes: number): void {
    this.bytes = bytes;
    this.frameStart = this.expiryStart = this.publisher = this.message = this.slot = -1;
    this.topicStart =
      this.packetIdStart =
      this.qos =
      this.publisherKey =
      this.idCount =
      this.stamp =
      this.topicStamp =
        0;
    this.topicEnd = this.propertiesStart = this.propertiesEnd = this.payloadStart = topicBytes;
    this.payloadEnd = bytes.length;
    this.isRetain = this.isV5 = false;
    this.expiryAtSec = NEVER;
  }

  topicText(): string {
    return this.bytes.toString("utf8", this.topicStart, this.topicEnd);
  }

  /** A copy of the payload. */
  payload(): Buffer {
    const { bytes, payloadStart, payloadEnd } = this;
    const payload = Buffer.allocUnsafe(payloadEnd - payloadStart);
    bytes.copy(payload, 0, payloadStart, payloadEnd);
    return payload;
  }
}

const systemPrefix = Buffer.from("$SYS/");

/** True for a topic below `$SYS`. */
export function isSystemTopic({ bytes, topicStart, topicEnd }: MessageView): boolean {
  const end = topicStart + systemPrefix.length;
  return end <= topicEnd && bytes.compare(systemPrefix, 0, systemPrefix.length, topicStart, end) === 0;
}

const QOS = 3;
const RETAIN = 4;
const V5 = 8;
const FRAME = 16;
const WRITTEN_HEAD_BYTES = 24;

/** Fields of a row. */
const BLOCK = 0;
const SIZE = 1;
const REFERENCES = 2;
const FLAGS = 3;
const TOPIC = 4; // topicLength << 8 | topicAt
const PROPERTIES_AT = 5;
const PROPERTIES_LENGTH = 6;
const PAYLOAD_AT = 7;
const EXPIRY_AT = 8;
const EXPIRY_AT_SEC = 9;
const ROW = 10;

/** Rows of a chunk. */
const CHUNK_COUNT = 4096;
const CHUNK_SHIFT = 12;
const FIRST_COUNT = 64;

function place(message: number): number {
  return (message & (CHUNK_COUNT - 1)) * ROW;
}

/** Values of `MessagePool.followed` besides a message's number. */
export const FOLLOW_NONE = -1;
export const FOLLOW_NEXT = -2;

export class MessagePool {
  private readonly numbers = new Slab();
  private readonly chunks: Int32Array[] = [new Int32Array(FIRST_COUNT * ROW)];
  /** By chunk: the number under which a store has written the body, 0 while it has not; negative when it is not the first. */
  private readonly bodyNumbers: Float64Array[] = [new Float64Array(FIRST_COUNT)];
  private capacity = FIRST_COUNT;
  /** Bytes of all bodies kept. */
  bodyBytes = 0;
  /** The one message whose waiting is being measured; FOLLOW_NEXT: the next that has to wait for a connected client. */
  followed: number = FOLLOW_NONE;

  constructor(
    private readonly pool: BlockPool,
    private readonly bytesMax: number,
  ) {}

  get count(): number {
    return this.numbers.count;
  }

  private field(message: number, field: number): number {
    return this.chunks[message >>> CHUNK_SHIFT][place(message) + field];
  }

  /** Bytes of a kept message's body. */
  bytesOf(message: number): number {
    return this.field(message, SIZE);
  }

  qosOf(message: number): number {
    return this.field(message, FLAGS) & QOS;
  }

  /** Wall clock, seconds, after which it is not delivered; NEVER without expiry. */
  expiryOf(message: number): number {
    return this.field(message, EXPIRY_AT_SEC) >>> 0;
  }

  /** The number under which a store has written the body, 0 while it has not; negative when it is not the first. */
  bodyNumberOf(message: number): number {
    return this.bodyNumbers[message >>> CHUNK_SHIFT][message & (CHUNK_COUNT - 1)];
  }

  setBodyNumber(message: number, body: number): void {
    this.bodyNumbers[message >>> CHUNK_SHIFT][message & (CHUNK_COUNT - 1)] = body;
  }

  /** Copies a view; the caller holds the one reference. -1 when `messages.bytesMax` is reached. */
  keep(view: MessageView): number {
    const { bytes, frameStart, topicStart, topicEnd, propertiesStart, propertiesEnd, payloadStart, payloadEnd } = view;
    const hasFrame = frameStart >= 0;
    const topicLength = topicEnd - topicStart;
    const propertiesLength = propertiesEnd - propertiesStart;
    const size = hasFrame ? payloadEnd - frameStart : topicLength + propertiesLength + (payloadEnd - payloadStart);
    if (this.bodyBytes + size > this.bytesMax) return -1;
    const m = this.make(size);
    const row = this.chunks[m >>> CHUNK_SHIFT];
    const r = place(m);
    const block = row[r + BLOCK];
    const page = this.pool.bytes[pageOf(block)];
    const at = offsetOf(block);
    if (hasFrame) {
      bytes.copy(page, at, frameStart, payloadEnd);
      row[r + TOPIC] = (topicLength << 8) | (topicStart - frameStart);
      row[r + PROPERTIES_AT] = propertiesStart - frameStart;
      row[r + PAYLOAD_AT] = payloadStart - frameStart;
      row[r + EXPIRY_AT] = view.expiryStart < 0 ? -1 : view.expiryStart - frameStart;
    } else {
      bytes.copy(page, at, topicStart, topicEnd);
      bytes.copy(page, at + topicLength, propertiesStart, propertiesEnd);
      bytes.copy(page, at + topicLength + propertiesLength, payloadStart, payloadEnd);
      row[r + TOPIC] = topicLength << 8;
      row[r + PROPERTIES_AT] = topicLength;
      row[r + PAYLOAD_AT] = topicLength + propertiesLength;
      row[r + EXPIRY_AT] = view.expiryStart < 0 ? -1 : view.expiryStart - propertiesStart + topicLength;
    }
    row[r + PROPERTIES_LENGTH] = propertiesLength;
    row[r + FLAGS] = view.qos | (view.isRetain ? RETAIN : 0) | (view.isV5 ? V5 : 0) | (hasFrame ? FRAME : 0);
    row[r + EXPIRY_AT_SEC] = view.expiryAtSec;
    return m;
  }

  /** A new message with one reference, its body and most fields not yet filled. */
  private make(size: number): number {
    this.bodyBytes += size;
    const m = this.numbers.take();
    if (m >= this.capacity) this.grow();
    const row = this.chunks[m >>> CHUNK_SHIFT];
    const r = place(m);
    row[r + BLOCK] = this.pool.take(size);
    row[r + SIZE] = size;
    row[r + REFERENCES] = 1;
    this.setBodyNumber(m, 0);
    if (m === this.followed) this.followed = FOLLOW_NONE; // that message is gone
    return m;
  }

  /** Writes a message as a store keeps it. */
  write(m: number, out: ByteWriter): void {
    const row = this.chunks[m >>> CHUNK_SHIFT];
    const r = place(m);
    const topic = row[r + TOPIC];
    out.u8(row[r + FLAGS]);
    out.u8(topic & 0xff);
    out.u16(topic >>> 8);
    out.u32(row[r + PROPERTIES_AT]);
    out.u32(row[r + PROPERTIES_LENGTH]);
    out.u32(row[r + PAYLOAD_AT]);
    out.u32(row[r + EXPIRY_AT]);
    out.u32(row[r + EXPIRY_AT_SEC]);
    const block = row[r + BLOCK];
    const at = offsetOf(block);
    out.bytes(this.pool.bytes[pageOf(block)], at, at + row[r + SIZE]);
  }

  /** Bytes that `write` takes. */
  writtenBytes(m: number): number {
    return WRITTEN_HEAD_BYTES + this.field(m, SIZE);
  }

  /** Keeps what `write` wrote, the rest of `from`; also above `messages.bytesMax`, since it was accepted once. */
  read(from: ByteReader): number {
    const m = this.make(from.end - from.at - WRITTEN_HEAD_BYTES);
    const row = this.chunks[m >>> CHUNK_SHIFT];
    const r = place(m);
    row[r + FLAGS] = from.u8();
    const topicAt = from.u8();
    row[r + TOPIC] = (from.u16() << 8) | topicAt;
    row[r + PROPERTIES_AT] = from.u32();
    row[r + PROPERTIES_LENGTH] = from.u32();
    row[r + PAYLOAD_AT] = from.u32();
    row[r + EXPIRY_AT] = from.u32();
    row[r + EXPIRY_AT_SEC] = from.u32();
    const block = row[r + BLOCK];
    from.buffer.copy(this.pool.bytes[pageOf(block)], offsetOf(block), from.at, from.end);
    return m;
  }

  /** Points `view` at a kept message. Valid until the message is released. */
  load(message: number, view: MessageView): void {
    const row = this.chunks[message >>> CHUNK_SHIFT];
    const r = place(message);
    const block = row[r + BLOCK];
    const at = offsetOf(block);
    const flags = row[r + FLAGS];
    const topic = row[r + TOPIC];
    const expiry = row[r + EXPIRY_AT];
    view.bytes = this.pool.bytes[pageOf(block)];
    view.frameStart = flags & FRAME ? at : -1;
    view.topicStart = at + (topic & 0xff);
    view.topicEnd = view.topicStart + (topic >>> 8);
    view.packetIdStart = view.topicEnd;
    view.propertiesStart = at + row[r + PROPERTIES_AT];
    view.propertiesEnd = view.propertiesStart + row[r + PROPERTIES_LENGTH];
    view.payloadStart = at + row[r + PAYLOAD_AT];
    view.payloadEnd = at + row[r + SIZE];
    view.qos = flags & QOS;
    view.isRetain = (flags & RETAIN) !== 0;
    view.isV5 = (flags & V5) !== 0;
    view.expiryAtSec = row[r + EXPIRY_AT_SEC] >>> 0;
    view.expiryStart = expiry < 0 ? -1 : at + expiry;
    view.message = message;
    view.publisher = -1;
    view.publisherKey = 0;
    view.slot = -1;
    view.stamp = -1;
  }

  addReference(message: number): void {
    this.chunks[message >>> CHUNK_SHIFT][place(message) + REFERENCES]++;
  }

  /** Gives one reference back; the last one frees the body. */
  release(message: number): void {
    const row = this.chunks[message >>> CHUNK_SHIFT];
    const r = place(message);
    if (--row[r + REFERENCES] > 0) return;
    this.bodyBytes -= row[r + SIZE];
    this.pool.give(row[r + BLOCK]);
    this.numbers.give(message);
  }

  /** The first chunk doubles up to its size; then there are more. */
  private grow(): void {
    if (this.capacity < CHUNK_COUNT) {
      this.chunks[0] = grown(this.chunks[0], this.capacity * 2 * ROW);
      this.bodyNumbers[0] = grown(this.bodyNumbers[0], this.capacity * 2);
      this.capacity *= 2;
    } else {
      this.chunks.push(new Int32Array(CHUNK_COUNT * ROW));
      this.bodyNumbers.push(new Float64Array(CHUNK_COUNT));
      this.capacity += CHUNK_COUNT;
    }
  }
}

/** Bytes of the payload of a message as `MessagePool.write` left it; −1 for what is none. */
export function writtenPayloadBytes(bytes: Buffer): number {
  if (bytes.length < WRITTEN_HEAD_BYTES) return -1;
  return bytes.length - WRITTEN_HEAD_BYTES - bytes.readUInt32LE(12);
}
