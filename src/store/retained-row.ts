/**
 * A retained value as it is kept on disk.
 *
 *   publisherKey u32 | deadlineSec u32 | 0x80 u8, stamp high u32, stamp low u32: with several processes | body (core/message.ts)
 *
 * A body begins with a byte below 0x80. One without payload, with a stamp, says that the topic's value was removed.
 */
import { ByteReader, type ByteWriter } from "#base/byte-writer.ts";
import type { MessagePool, MessageView } from "#core/message.ts";

const STAMPED = 0x80;
const LOW = 2 ** 32;

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
