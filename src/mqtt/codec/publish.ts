/**
 * PUBLISH (§3.3) in place: offsets into the chunk it came in, no copy, no object.
 *
 *   first byte | length | topic length (2) | topic | packet id (2, QoS > 0) | properties length | properties | payload
 */
import { isMqttUtf8 } from "#base/bytes.ts";
import { type MessageView, NEVER } from "#core/message.ts";
import { checkPublishProperties, publishProperties } from "./properties.ts";
import { MALFORMED_PACKET, PROTOCOL_ERROR, TOPIC_ALIAS_INVALID } from "./reason-code.ts";

/** What a PUBLISH holds besides the view; reused for every packet. */
export const published = {
  packetId: 0,
  isDup: false,
  /** Topic Alias, or −1 without. */
  alias: -1,
  /** Message Expiry Interval in seconds, or −1. */
  expirySec: -1,
};

/**
 * Points `view` at the packet in [start, end) whose fixed header ends at `body`. Returns 0 or a reason code. The topic may
 * be empty where an alias stands for it; it is not checked here. 5.0 when `isV5`.
 */
export function decodePublish(
  bytes: Buffer,
  start: number,
  body: number,
  end: number,
  isV5: boolean,
  view: MessageView,
): number {
  const flags = bytes[start];
  const qos = (flags >> 1) & 3;
  if (qos === 3) return MALFORMED_PACKET; // [MQTT-3.3.1-4]
  if (body + 2 > end) return MALFORMED_PACKET;
  const topicEnd = body + 2 + ((bytes[body] << 8) | bytes[body + 1]);
  let at = topicEnd;
  published.packetId = 0;
  if (qos !== 0) {
    if (at + 2 > end) return MALFORMED_PACKET;
    published.packetId = (bytes[at] << 8) | bytes[at + 1];
    if (published.packetId === 0) return PROTOCOL_ERROR; // [MQTT-2.2.1-3]
    at += 2;
  }
  if (at > end) return MALFORMED_PACKET;
  published.isDup = (flags & 8) !== 0;
  if (published.isDup && qos === 0) return MALFORMED_PACKET; // [MQTT-3.3.1-2]
  view.bytes = bytes;
  view.topicStart = body + 2;
  view.topicEnd = topicEnd;
  view.packetIdStart = topicEnd;
  view.qos = qos;
  view.isRetain = (flags & 1) !== 0;
  view.isV5 = isV5;
  view.payloadEnd = end;
  // A length padded with zero groups is allowed in 3.x and not sent on.
  view.frameStart = bytes[body - 1] === 0 && body - start > 2 ? -1 : start;
  view.expiryAtSec = NEVER;
  view.expiryStart = -1;
  published.alias = published.expirySec = -1;
  if (isV5) return decodeProperties(bytes, at, end, view);
  view.propertiesStart = view.propertiesEnd = view.payloadStart = at;
  return 0;
}

function decodeProperties(bytes: Buffer, at: number, end: number, view: MessageView): number {
  let length = 0;
  for (let shift = 0; ; shift += 7) {
    if (at >= end || shift === 28) return MALFORMED_PACKET;
    const byte = bytes[at++];
    length |= (byte & 0x7f) << shift;
    if (byte >= 0x80) continue;
    if (byte === 0 && shift > 0) return MALFORMED_PACKET; // [MQTT-1.5.5-1]
    break;
  }
  const propertiesEnd = at + length;
  if (propertiesEnd > end) return MALFORMED_PACKET;
  view.propertiesStart = at;
  view.propertiesEnd = view.payloadStart = propertiesEnd;
  if (length === 0) return 0;
  const fault = checkPublishProperties(bytes, at, propertiesEnd);
  if (fault !== 0) return fault;
  published.expirySec = publishProperties.expirySec;
  view.expiryStart = publishProperties.expiryStart;
  published.alias = publishProperties.alias;
  if (published.alias === 0) return TOPIC_ALIAS_INVALID; // [MQTT-3.3.2-8]
  if (published.alias > 0) cutAlias(bytes, view);
  return 0;
}

/** Takes the alias out of the properties that are passed on. The packet stays as it came: it may be handled again. */
function cutAlias(bytes: Buffer, view: MessageView): void {
  const { aliasStart } = publishProperties;
  const { topicStart, topicEnd, propertiesStart, propertiesEnd, payloadEnd } = view;
  const aliasEnd = aliasStart + 3;
  view.frameStart = -1;
  if (aliasStart === propertiesStart) {
    view.propertiesStart = aliasEnd;
  } else if (aliasEnd === propertiesEnd) {
    view.propertiesEnd = aliasStart;
  } else {
    view.bytes = Buffer.concat([bytes.subarray(topicStart, aliasStart), bytes.subarray(aliasEnd, payloadEnd)]);
    view.topicStart = 0;
    view.topicEnd = topicEnd - topicStart;
    view.propertiesStart -= topicStart;
    view.propertiesEnd = view.payloadStart = propertiesEnd - topicStart - 3;
    view.payloadEnd = view.bytes.length;
    if (view.expiryStart >= 0) view.expiryStart -= topicStart + (view.expiryStart < aliasStart ? 0 : 3);
  }
}

/** True for a topic's bytes that could be a topic name as far as UTF-8 goes; a fault is a malformed packet. */
export function isTopicUtf8(view: MessageView): boolean {
  return isMqttUtf8(view.bytes, view.topicStart, view.topicEnd);
}
