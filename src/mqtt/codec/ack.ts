/**
 * PUBACK, PUBREC, PUBREL, PUBCOMP (§3.4 to §3.7): in place both ways.
 *
 *   type and flags | length | packet id (2) | 5.0, unless success without properties: reason code | properties
 */
import { ackProperties, readProperties } from "./properties.ts";
import { Reader } from "./reader.ts";
import { MALFORMED_PACKET, PROTOCOL_ERROR } from "./reason-code.ts";

/** What the last `decodeAck` found. */
export const acked = { packetId: 0, reasonCode: 0 };

const PUBREL_FLAGS = 2;

/** Decodes the body in [body, end) of an acknowledgement of `type`. Returns 0 or a reason code. */
export function decodeAck(bytes: Buffer, body: number, end: number, isV5: boolean): number {
  if (end - body < 2) return MALFORMED_PACKET;
  acked.packetId = (bytes[body] << 8) | bytes[body + 1];
  acked.reasonCode = 0;
  if (acked.packetId === 0) return PROTOCOL_ERROR;
  if (end - body === 2) return 0;
  if (!isV5) return MALFORMED_PACKET;
  acked.reasonCode = bytes[body + 2];
  if (end - body === 3) return 0;
  const reader = new Reader(bytes, body + 3, end);
  readProperties(reader, ackProperties);
  return reader.fault || (reader.left > 0 ? MALFORMED_PACKET : 0);
}

/** Reason codes that the acknowledgement of `type` may carry (§3.4.2.1, §3.5.2.1, §3.6.2.1, §3.7.2.1). */
export function isAckReason(type: number, reasonCode: number): boolean {
  if (reasonCode === 0) return true;
  if (type === 6 || type === 7) return reasonCode === 0x92;
  return [0x10, 0x80, 0x83, 0x87, 0x90, 0x91, 0x97, 0x99].includes(reasonCode);
}

/** Size of an acknowledgement: a 5.0 reason code takes one byte more. */
export function ackLength(reasonCode: number): number {
  return reasonCode === 0 ? 4 : 5;
}

/** Writes an acknowledgement; `reasonCode` must be 0 for 3.x. Returns the offset after it. */
export function encodeAck(bytes: Buffer, at: number, type: number, packetId: number, reasonCode: number): number {
  bytes[at] = (type << 4) | (type === 6 ? PUBREL_FLAGS : 0); // [MQTT-3.6.1-1]
  bytes[at + 1] = reasonCode === 0 ? 2 : 3;
  bytes[at + 2] = packetId >> 8;
  bytes[at + 3] = packetId & 0xff;
  if (reasonCode === 0) return at + 4;
  bytes[at + 4] = reasonCode;
  return at + 5;
}
