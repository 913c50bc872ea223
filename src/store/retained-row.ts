/**
 * A retained value as it is kept on disk.
 *
 *   publisherKey u32 | deadlineSec u32 | 0x80 u8, stamp high u32, stamp low u32: with several processes | body (core/message.ts)
 *
 * A body begins with a byte below 0x80. One without payload, with a stamp, says that the topic's value was removed.
 */
import { ByteReader, type ByteWriter } from "#base/byte-writer.ts";
import { type MessagePool, type MessageView, writtenPayloadBytes } from "#core/message.ts";

const STAMPED = 0x80;
const LOW = 2 ** 32;
const HEAD_BYTES = 8;
const STAMPED_HEAD_BYTES = 17;

export function writeRetained(
  out: ByteWriter,
  messages: MessagePool,
  { publisherKey, valueStamp }: MessageView,
  { message, deadlineSec }: { message: number; deadlineSec: number },
): void {
  out.u32(publisherKey);
  out.u32(deadlineSec);
  if (valueStamp > 0) {
    out.u8(STAMPED);
    out.u32(Math.floor(valueStamp / LOW));
    out.u32(valueStamp % LOW);
  }
  messages.write(message, out);
}

/** Points `view` at the value, whose one reference in the pool is the caller's; returns when it ends. */
export function readRetained(bytes: Buffer, messages: MessagePool, view: MessageView): number {
  const from = new ByteReader(bytes);
  const publisherKey = from.u32() | 0;
  const deadlineSec = from.u32();
  let valueStamp = 0;
  if (bytes[from.at] >= STAMPED) {
    from.u8();
    valueStamp = from.u32() * LOW;
    valueStamp += from.u32();
  }
  messages.load(messages.read(from), view);
  view.publisherKey = publisherKey;
  view.valueStamp = valueStamp;
  return deadlineSec;
}

/** Where a value stands among those of all processes, 0 with one; and whether it says that the topic's value was removed. */
export function retainedStamp(bytes: Buffer): { readonly stamp: number; readonly isRemoval: boolean } {
  if (bytes.length < STAMPED_HEAD_BYTES || bytes[HEAD_BYTES] !== STAMPED) return { stamp: 0, isRemoval: false };
  const stamp = bytes.readUInt32LE(9) * LOW + bytes.readUInt32LE(13);
  return { stamp, isRemoval: writtenPayloadBytes(bytes.subarray(STAMPED_HEAD_BYTES)) === 0 };
}

/** A value of one process's as one of several has it. */
export function stamped(bytes: Buffer, stamp: number): Buffer {
  if (bytes.length < HEAD_BYTES || bytes[HEAD_BYTES] === STAMPED) return bytes;
  const out = Buffer.alloc(bytes.length + STAMPED_HEAD_BYTES - HEAD_BYTES);
  bytes.copy(out, 0, 0, HEAD_BYTES);
  out[HEAD_BYTES] = STAMPED;
  out.writeUInt32LE(Math.floor(stamp / LOW), HEAD_BYTES + 1);
  out.writeUInt32LE(stamp % LOW, HEAD_BYTES + 5);
  bytes.copy(out, STAMPED_HEAD_BYTES, HEAD_BYTES);
  return out;
}
