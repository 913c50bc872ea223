/**
 * The first bytes of a payload, big-endian, by which a message is known again.
 *
 *   0 "mtlg" | 4 run | 8 publisher << 2 | QoS | 12 number in its stream | 16 time, ns since the run's zero (8 bytes)
 */

export const STAMP_BYTES = 24;
const MAGIC = 0x6d_74_6c_67;
const TWO_32 = 2 ** 32;

export const SENDER_AT = 8;
export const NUMBER_AT = 12;
export const TIME_AT = 16;

export function readUint32(bytes: Uint8Array, at: number): number {
  return ((bytes[at] << 24) | (bytes[at + 1] << 16) | (bytes[at + 2] << 8) | bytes[at + 3]) >>> 0;
}

export function writeUint32(bytes: Uint8Array, at: number, value: number): void {
  bytes[at] = value >>> 24;
  bytes[at + 1] = value >>> 16;
  bytes[at + 2] = value >>> 8;
  bytes[at + 3] = value;
}

/** Time and number stay 0. */
export function writeStamp(bytes: Uint8Array, at: number, run: number, sender: number): void {
  writeUint32(bytes, at, MAGIC);
  writeUint32(bytes, at + 4, run);
  writeUint32(bytes, at + SENDER_AT, sender);
  writeUint32(bytes, at + NUMBER_AT, 0);
  writeTime(bytes, at + TIME_AT, 0);
}

export function hasStamp(bytes: Uint8Array, at: number, end: number): boolean {
  return end - at >= STAMP_BYTES && readUint32(bytes, at) === MAGIC;
}

/** `ns` is not negative. */
export function writeTime(bytes: Uint8Array, at: number, ns: number): void {
  const high = Math.floor(ns / TWO_32);
  writeUint32(bytes, at, high);
  writeUint32(bytes, at + 4, ns - high * TWO_32);
}

export function readTime(bytes: Uint8Array, at: number): number {
  return readUint32(bytes, at) * TWO_32 + readUint32(bytes, at + 4);
}
