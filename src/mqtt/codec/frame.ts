/**
 * The fixed header: first byte, and Remaining Length as one to four bytes of seven bits.
 *
 *   byte 0   type (4 bits) | flags (4 bits)
 *   byte 1…  Remaining Length, least significant group first, bit 7 = more follow
 */

export const CONNECT = 1;
export const CONNACK = 2;
export const PUBLISH = 3;
export const PUBACK = 4;
export const PUBREC = 5;
export const PUBREL = 6;
export const PUBCOMP = 7;
export const SUBSCRIBE = 8;
export const SUBACK = 9;
export const UNSUBSCRIBE = 10;
export const UNSUBACK = 11;
export const PINGREQ = 12;
export const DISCONNECT = 14;
export const AUTH = 15;

/** Answers of `readFrame`. */
export const INCOMPLETE = -1;
export const MALFORMED = -2;

/**
 * Length of the whole packet that begins at `start`, fixed header included; INCOMPLETE when more header bytes are
 * needed, MALFORMED when Remaining Length has a fifth byte. The packet's own bytes need not be there.
 */
export function readFrame(bytes: Uint8Array, start: number, end: number): number {
  let length = 0;
  for (let i = 1; i <= 4; i++) {
    if (start + i >= end) return INCOMPLETE;
    const byte = bytes[start + i];
    length |= (byte & 0x7f) << (7 * (i - 1));
    if (byte < 0x80) return length + 1 + i;
  }
  return MALFORMED; // [MQTT-1.5.5-1]
}

/** Bytes that a Variable Byte Integer takes; `value` up to 268,435,455. */
export function varintLength(value: number): number {
  return value < 0x80 ? 1 : value < 0x4000 ? 2 : value < 0x20_0000 ? 3 : 4;
}

/** Writes a Variable Byte Integer; returns the offset after it. */
export function writeVarint(bytes: Uint8Array, at: number, value: number): number {
  while (value >= 0x80) {
    bytes[at++] = (value & 0x7f) | 0x80;
    value >>>= 7;
  }
  bytes[at++] = value; // [MQTT-1.5.5-1]
  return at;
}
