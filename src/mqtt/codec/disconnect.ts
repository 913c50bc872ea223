/** DISCONNECT and AUTH (§3.14, §3.15), both ways. */
import { withHeader } from "./connect.ts";
import { AUTH, DISCONNECT } from "./frame.ts";
import {
  authProperties,
  disconnectProperties,
  encodeProperties,
  type Properties,
  readProperties,
} from "./properties.ts";
import { Reader } from "./reader.ts";
import { MALFORMED_PACKET, PROTOCOL_ERROR } from "./reason-code.ts";

export interface ReasonPacket {
  readonly reasonCode: number;
  readonly properties: Properties;
}

/** Reason codes a client may send in DISCONNECT (§3.14.2.1). */
const clientDisconnect = new Set([0x00, 0x04, 0x80, 0x81, 0x82, 0x83, 0x90, 0x93, 0x94, 0x95, 0x96, 0x97, 0x98, 0x99]);

/** Decodes the body; a number is a reason code. For 3.x the body must be empty. */
export function decodeDisconnect(bytes: Buffer, body: number, end: number, isV5: boolean): ReasonPacket | number {
  if (!isV5) return body === end ? { reasonCode: 0, properties: {} } : MALFORMED_PACKET;
  const packet = decodeReason(bytes, body, end, disconnectProperties);
  if (typeof packet === "number") return packet;
  return clientDisconnect.has(packet.reasonCode) ? packet : PROTOCOL_ERROR; // [MQTT-3.14.2-1]
}

/** Decodes the body; a number is a reason code. */
export function decodeAuth(bytes: Buffer, body: number, end: number): ReasonPacket | number {
  const packet = decodeReason(bytes, body, end, authProperties);
  if (typeof packet === "number") return packet;
  return [0x00, 0x18, 0x19].includes(packet.reasonCode) ? packet : PROTOCOL_ERROR; // [MQTT-3.15.2-1]
}

function decodeReason(bytes: Buffer, body: number, end: number, allowed: readonly number[]): ReasonPacket | number {
  const reader = new Reader(bytes, body, end);
  const reasonCode = reader.left > 0 ? reader.byte() : 0;
  const properties = reader.left > 0 ? readProperties(reader, allowed) : {};
  return reader.fault || (reader.left > 0 ? MALFORMED_PACKET : { reasonCode, properties });
}

/** DISCONNECT from the broker; only 5.0 has one. */
export function encodeDisconnect(reasonCode: number, properties: Properties = {}): Buffer {
  return encodeReason(DISCONNECT << 4, reasonCode, properties);
}

export function encodeAuth(reasonCode: number, properties: Properties): Buffer {
  return encodeReason(AUTH << 4, reasonCode, properties);
}

function encodeReason(firstByte: number, reasonCode: number, properties: Properties): Buffer {
  const list = encodeProperties(properties);
  const body = list.length > 1 ? Buffer.concat([Buffer.from([reasonCode]), list]) : Buffer.from([reasonCode]);
  return withHeader(firstByte, body);
}
