/** SUBSCRIBE and UNSUBSCRIBE (§3.8, §3.10) decoded to objects; SUBACK and UNSUBACK (§3.9, §3.11) encoded. */
import type { SubscribeItem } from "#core/subscriptions.ts";
import { isShared } from "#core/topic.ts";
import { withHeader } from "./connect.ts";
import { readProperties, subscribeProperties, unsubscribeProperties } from "./properties.ts";
import { Reader } from "./reader.ts";
import { MALFORMED_PACKET, PROTOCOL_ERROR } from "./reason-code.ts";

export interface SubscribePacket {
  readonly packetId: number;
  /** Filters are views of the packet. */
  readonly items: readonly SubscribeItem[];
}

export interface UnsubscribePacket {
  readonly packetId: number;
  readonly filters: readonly Buffer[];
}

const NO_LOCAL = 4;

/** Decodes the body; a number is a reason code. */
export function decodeSubscribe(bytes: Buffer, body: number, end: number, isV5: boolean): SubscribePacket | number {
  const reader = new Reader(bytes, body, end);
  const packetId = reader.uint16();
  const id = isV5 ? (readProperties(reader, subscribeProperties).subscriptionIdentifier ?? 0) : 0;
  const items: SubscribeItem[] = [];
  while (reader.left > 0) {
    const filter = reader.utf8();
    const options = reader.byte();
    if (reader.fault === 0) reader.fault = faultOfOptions(filter, options, isV5);
    items.push({ filter, options, id });
  }
  return faultOf(reader, packetId, items.length) || { packetId, items };
}

/** Decodes the body; a number is a reason code. */
export function decodeUnsubscribe(bytes: Buffer, body: number, end: number, isV5: boolean): UnsubscribePacket | number {
  const reader = new Reader(bytes, body, end);
  const packetId = reader.uint16();
  if (isV5) readProperties(reader, unsubscribeProperties);
  const filters: Buffer[] = [];
  while (reader.left > 0) filters.push(reader.utf8());
  return faultOf(reader, packetId, filters.length) || { packetId, filters };
}

function faultOf(reader: Reader, packetId: number, count: number): number {
  if (reader.fault !== 0) return reader.fault;
  if (packetId === 0) return PROTOCOL_ERROR; // [MQTT-2.2.1-3]
  return count === 0 ? PROTOCOL_ERROR : 0; // [MQTT-3.8.3-2] [MQTT-3.10.3-2]
}

function faultOfOptions(filter: Buffer, options: number, isV5: boolean): number {
  if ((options & 3) === 3) return MALFORMED_PACKET; // [MQTT3-3.8.3-4]
  if (!isV5) return (options & ~3) === 0 ? 0 : MALFORMED_PACKET;
  if ((options & 0xc0) !== 0) return MALFORMED_PACKET; // [MQTT-3.8.3-5]
  if ((options & 0x30) === 0x30) return PROTOCOL_ERROR;
  return (options & NO_LOCAL) !== 0 && isShared(filter) ? PROTOCOL_ERROR : 0; // [MQTT-3.8.3-4]
}

/** SUBACK or UNSUBACK with one code an item. An UNSUBACK of 3.x has no codes. */
export function encodeSuback(type: number, packetId: number, codes: Uint8Array, version: number): Buffer {
  const head = version === 5 ? [packetId >> 8, packetId & 0xff, 0] : [packetId >> 8, packetId & 0xff];
  return withHeader(type << 4, Buffer.concat([Buffer.from(head), codes]));
}
