/**
 * The packet that a chunk ended in the middle of. Only its own bytes are copied; the buffer grows with what has really
 * come, so that announcing a large packet costs the broker nothing.
 */
import { INCOMPLETE, readFrame } from "./codec/frame.ts";

const BYTES_MIN = 64;

export class PacketTail {
  bytes: Buffer;
  length: number;

  /** Begins with `chunk` from `start` on. */
  constructor(chunk: Buffer, start: number) {
    this.length = chunk.length - start;
    this.bytes = Buffer.allocUnsafe(Math.max(BYTES_MIN, this.length));
    chunk.copy(this.bytes, 0, start);
  }

  /**
   * Takes what the packet's fixed header lacks from `chunk`, from `start` on. Returns the packet's size, INCOMPLETE when
   * the chunk is used up before it is known, or MALFORMED. `taken` says how much was used.
   */
  readSize(chunk: Buffer, start: number): number {
    this.taken = 0;
    for (;;) {
      const size = readFrame(this.bytes, 0, this.length);
      if (size !== INCOMPLETE || start + this.taken === chunk.length) return size;
      this.append(chunk, start + this.taken, start + this.taken + 1);
      this.taken++;
    }
  }

  taken = 0;

  /** Takes the rest of a packet of `size` bytes from `chunk`. True when it is whole; `taken` says how much was used. */
  fill(chunk: Buffer, start: number, size: number): boolean {
    const end = Math.min(chunk.length, start + size - this.length);
    this.append(chunk, start, end);
    this.taken = end - start;
    return this.length === size;
  }

  private append(chunk: Buffer, start: number, end: number): void {
    const length = this.length + end - start;
    if (length > this.bytes.length) {
      const larger = Buffer.allocUnsafe(length * 2);
      this.bytes.copy(larger, 0, 0, this.length);
      this.bytes = larger;
    }
    chunk.copy(this.bytes, this.length, start, end);
    this.length = length;
  }
}
