/** Bytes written one after the other into a buffer that grows: integers little-endian, u48 as u32 low and u16 high. */

const FIRST_BYTES = 1024;
const U32 = 0x1_0000_0000;

export class ByteWriter {
  buffer: Buffer = Buffer.allocUnsafeSlow(FIRST_BYTES);
  length = 0;

  /** Makes room for `size` more bytes and returns where they start. */
  reserve(size: number): number {
    const at = this.length;
    if (at + size > this.buffer.length) {
      const larger = Buffer.allocUnsafeSlow(Math.max(this.buffer.length * 2, at + size));
      this.buffer.copy(larger, 0, 0, at);
      this.buffer = larger;
    }
    this.length += size;
    return at;
  }

  u8(value: number): void {
    const at = this.reserve(1); // may replace the buffer
    this.buffer[at] = value;
  }

  u16(value: number): void {
    const at = this.reserve(2);
    putU16(this.buffer, at, value);
  }

  u32(value: number): void {
    const at = this.reserve(4);
    putU32(this.buffer, at, value);
  }

  u48(value: number): void {
    const at = this.reserve(6);
    putU32(this.buffer, at, value);
    putU16(this.buffer, at + 4, Math.floor(value / U32));
  }

  bytes(source: Buffer, start = 0, end = source.length): void {
    const at = this.reserve(end - start);
    source.copy(this.buffer, at, start, end);
  }

  /** A copy of what was written. */
  take(): Buffer<ArrayBuffer> {
    const out = Buffer.allocUnsafeSlow(this.length);
    this.buffer.copy(out, 0, 0, this.length);
    return out;
  }

  clear(): void {
    this.length = 0;
  }
}

export function putU16(out: Buffer, at: number, value: number): void {
  out[at] = value;
  out[at + 1] = value >>> 8;
}

export function putU32(out: Buffer, at: number, value: number): void {
  out[at] = value;
  out[at + 1] = value >>> 8;
  out[at + 2] = value >>> 16;
  out[at + 3] = value >>> 24;
}

/** Reads what `ByteWriter` wrote, in the same order. Throws RangeError past the end. */
export class ByteReader {
  constructor(
    readonly buffer: Buffer,
    public at = 0,
    readonly end: number = buffer.length,
  ) {}

  get isAtEnd(): boolean {
    return this.at >= this.end;
  }

  u8(): number {
    return this.buffer[this.skip(1)];
  }

  u16(): number {
    return this.buffer.readUInt16LE(this.skip(2));
  }

  u32(): number {
    return this.buffer.readUInt32LE(this.skip(4));
  }

  u48(): number {
    return this.buffer.readUIntLE(this.skip(6), 6);
  }

  /** A view of the next `length` bytes. */
  bytes(length: number): Buffer {
    const at = this.skip(length);
    return this.buffer.subarray(at, at + length);
  }

  /** Moves on; returns where it was. */
  skip(length: number): number {
    const { at } = this;
    if (at + length > this.end) throw new RangeError("the bytes end too early");
    this.at = at + length;
    return at;
  }
}
