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
 * Columns cost 44 bytes a message; the body is rounded up to the block pool's classes.
 */
import { type BlockPool, offsetOf, pageOf } from "#base/block-pool.ts";
import type { ByteReader, ByteWriter } from "#base/byte-writer.ts";
import { emptyBytes, grown } from "#base/bytes.ts";
import { Slab } from "#base/slab.ts";

/** No message expiry: the value of `expiryAtSec`. */
export const NEVER = 0xffff_ffff;

/** Expiry of a message that is to live `sec` seconds from `nowSec`. */
export function expiryAt(nowSec: number, sec: number): number {
  return Math.min(nowSec + sec, NEVER - 1);
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
    return Buffer.from(this.bytes.subarray(this.payloadStart, this.payloadEnd));
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

export class MessagePool {
  private readonly numbers = new Slab();
  private block = new Int32Array(64);
  private size = new Uint32Array(64);
  private flags = new Uint8Array(64);
  private topicAt = new Uint8Array(64);
  private topicLength = new Uint16Array(64);
  private propertiesAt = new Uint32Array(64);
  private propertiesLength = new Uint32Array(64);
  private payloadAt = new Uint32Array(64);
  private expiryAt = new Int32Array(64);
  private references = new Int32Array(64);
  expiryAtSec = new Uint32Array(64);
  /** Number under which a store has written the body, 0 while it has not; negative when it is not the first. */
  bodyNumber = new Float64Array(64);
  /** Bytes of all bodies kept. */
  bodyBytes = 0;

  constructor(
    private readonly pool: BlockPool,
    private readonly bytesMax: number,
  ) {}

  get count(): number {
    return this.numbers.count;
  }

  /** Bytes of a kept message's body. */
  bytesOf(message: number): number {
    return this.size[message];
  }

  qosOf(message: number): number {
    return this.flags[message] & QOS;
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
    const block = this.block[m];
    const page = this.pool.bytes[pageOf(block)];
    const at = offsetOf(block);
    if (hasFrame) {
      bytes.copy(page, at, frameStart, payloadEnd);
      this.topicAt[m] = topicStart - frameStart;
      this.propertiesAt[m] = propertiesStart - frameStart;
      this.payloadAt[m] = payloadStart - frameStart;
      this.expiryAt[m] = view.expiryStart < 0 ? -1 : view.expiryStart - frameStart;
    } else {
      bytes.copy(page, at, topicStart, topicEnd);
      bytes.copy(page, at + topicLength, propertiesStart, propertiesEnd);
      bytes.copy(page, at + topicLength + propertiesLength, payloadStart, payloadEnd);
      this.topicAt[m] = 0;
      this.propertiesAt[m] = topicLength;
      this.payloadAt[m] = topicLength + propertiesLength;
      this.expiryAt[m] = view.expiryStart < 0 ? -1 : view.expiryStart - propertiesStart + topicLength;
    }
    this.topicLength[m] = topicLength;
    this.propertiesLength[m] = propertiesLength;
    this.flags[m] = view.qos | (view.isRetain ? RETAIN : 0) | (view.isV5 ? V5 : 0) | (hasFrame ? FRAME : 0);
    this.expiryAtSec[m] = view.expiryAtSec;
    return m;
  }

  /** A new message with one reference, its body and most columns not yet filled. */
  private make(size: number): number {
    this.bodyBytes += size;
    const m = this.numbers.take();
    if (m >= this.size.length) this.grow();
    this.block[m] = this.pool.take(size);
    this.size[m] = size;
    this.references[m] = 1;
    this.bodyNumber[m] = 0;
    return m;
  }

  /** Writes a message as a store keeps it. */
  write(m: number, out: ByteWriter): void {
    const block = this.block[m];
    out.u8(this.flags[m]);
    out.u8(this.topicAt[m]);
    out.u16(this.topicLength[m]);
    out.u32(this.propertiesAt[m]);
    out.u32(this.propertiesLength[m]);
    out.u32(this.payloadAt[m]);
    out.u32(this.expiryAt[m]);
    out.u32(this.expiryAtSec[m]);
    const at = offsetOf(block);
    out.bytes(this.pool.bytes[pageOf(block)], at, at + this.size[m]);
  }

  /** Bytes that `write` takes. */
  writtenBytes(m: number): number {
    return WRITTEN_HEAD_BYTES + this.size[m];
  }

  /** Keeps what `write` wrote, the rest of `from`; also above `messages.bytesMax`, since it was accepted once. */
  read(from: ByteReader): number {
    const m = this.make(from.end - from.at - WRITTEN_HEAD_BYTES);
    this.flags[m] = from.u8();
    this.topicAt[m] = from.u8();
    this.topicLength[m] = from.u16();
    this.propertiesAt[m] = from.u32();
    this.propertiesLength[m] = from.u32();
    this.payloadAt[m] = from.u32();
    this.expiryAt[m] = from.u32();
    this.expiryAtSec[m] = from.u32();
    const block = this.block[m];
    from.buffer.copy(this.pool.bytes[pageOf(block)], offsetOf(block), from.at, from.end);
    return m;
  }

  /** Points `view` at a kept message. Valid until the message is released. */
  load(message: number, view: MessageView): void {
    const block = this.block[message];
    const at = offsetOf(block);
    const flags = this.flags[message];
    view.bytes = this.pool.bytes[pageOf(block)];
    view.frameStart = flags & FRAME ? at : -1;
    view.topicStart = at + this.topicAt[message];
    view.topicEnd = view.topicStart + this.topicLength[message];
    view.packetIdStart = view.topicEnd;
    view.propertiesStart = at + this.propertiesAt[message];
    view.propertiesEnd = view.propertiesStart + this.propertiesLength[message];
    view.payloadStart = at + this.payloadAt[message];
    view.payloadEnd = at + this.size[message];
    view.qos = flags & QOS;
    view.isRetain = (flags & RETAIN) !== 0;
    view.isV5 = (flags & V5) !== 0;
    view.expiryAtSec = this.expiryAtSec[message];
    view.expiryStart = this.expiryAt[message] < 0 ? -1 : at + this.expiryAt[message];
    view.message = message;
    view.publisher = -1;
    view.publisherKey = 0;
    view.slot = -1;
    view.stamp = -1;
  }

  addReference(message: number): void {
    this.references[message]++;
  }

  /** Gives one reference back; the last one frees the body. */
  release(message: number): void {
    if (--this.references[message] > 0) return;
    this.bodyBytes -= this.size[message];
    this.pool.give(this.block[message]);
    this.numbers.give(message);
  }

  private grow(): void {
    const capacity = this.size.length * 2;
    this.block = grown(this.block, capacity);
    this.size = grown(this.size, capacity);
    this.flags = grown(this.flags, capacity);
    this.topicAt = grown(this.topicAt, capacity);
    this.topicLength = grown(this.topicLength, capacity);
    this.propertiesAt = grown(this.propertiesAt, capacity);
    this.propertiesLength = grown(this.propertiesLength, capacity);
    this.payloadAt = grown(this.payloadAt, capacity);
    this.expiryAt = grown(this.expiryAt, capacity);
    this.references = grown(this.references, capacity);
    this.expiryAtSec = grown(this.expiryAtSec, capacity);
    this.bodyNumber = grown(this.bodyNumber, capacity);
  }
}

/** Bytes of the payload of a message as `MessagePool.write` left it; −1 for what is none. */
export function writtenPayloadBytes(bytes: Buffer): number {
  if (bytes.length < WRITTEN_HEAD_BYTES) return -1;
  return bytes.length - WRITTEN_HEAD_BYTES - bytes.readUInt32LE(12);
}
