/**
 * PUBLISH to a client: stop 8 of the way of a PUBLISH.
 *
 *   as received   same protocol family, same QoS, no alias, no identifiers: one copy of the frame, then first byte, packet
 *                 id and remaining expiry are patched in place
 *   encoded       else; when several subscribers need the same form, the second encoding is kept and copied from then on
 *
 * 5.0 properties are passed on as they came, in their order; Subscription Identifiers and Topic Alias are put before them.
 */
import { type MessageView, NEVER } from "#core/message.ts";
import { varintLength, writeVarint } from "./codec/frame.ts";
import { SUBSCRIPTION_IDENTIFIER, TOPIC_ALIAS } from "./codec/properties.ts";
import type { Connection } from "./connection.ts";

const FIRST_BYTE = 0x30;
/** From here on a frame is not copied to the send buffer if the link has nothing else to say. */
const LARGE = 32 * 1024;
const LAYOUT_BYTES_MAX = 64 * 1024;

/** Forms of the message that is being routed, by first-byte flags and protocol family. */
export class Layouts {
  /** Stamp of the message each form was made for; made once (`seen`) or kept (`stamp`). */
  readonly seen = new Float64Array(32).fill(-1);
  readonly stamp = new Float64Array(32).fill(-1);
  readonly length = new Int32Array(32);
  readonly packetIdAt = new Int32Array(32);
  readonly bytes: Buffer[] = Array.from({ length: 32 }, () => Buffer.alloc(0));
}

/** Sends a PUBLISH with the low half `flags` of its first byte. False when it is larger than the client takes. */
export function deliver(connection: Connection, view: MessageView, flags: number, packetId: number): boolean {
  const { isV5, link } = connection;
  const isPlain = view.idCount === 0 && connection.aliases === null;
  if (!isPlain) return deliverEncoded(connection, view, flags, packetId);
  if (view.frameStart < 0 || view.isV5 !== isV5 || view.qos !== ((flags >> 1) & 3)) {
    return deliverLayout(connection, view, flags, packetId);
  }
  const start = view.frameStart;
  const size = view.payloadEnd - start;
  if (size > connection.packetBytesMax) return false; // [MQTT-3.1.2-24]
  if (size >= LARGE) {
    patch(view.bytes, start, view, flags, packetId, start, connection);
    link.writeLarge(view.bytes, start, view.payloadEnd);
    return true;
  }
  const at = link.reserve(size);
  const out = link.buffer;
  view.bytes.copy(out, at, start, view.payloadEnd);
  patch(out, at, view, flags, packetId, start, connection);
  link.commit(at + size);
  return true;
}

/** Writes into a copied frame at `at` what differs from the one received at `start`. */
function patch(
  out: Buffer,
  at: number,
  view: MessageView,
  flags: number,
  packetId: number,
  start: number,
  connection: Connection,
): void {
  out[at] = FIRST_BYTE | flags;
  if (packetId !== 0) {
    const id = at + view.packetIdStart - start;
    out[id] = packetId >> 8;
    out[id + 1] = packetId & 0xff;
  }
  if (view.expiryStart >= 0) writeExpiry(out, at + view.expiryStart - start, view, connection);
}

/** What is left of the message's life. [MQTT-3.3.2-6] */
function writeExpiry(out: Buffer, at: number, view: MessageView, connection: Connection): void {
  if (view.expiryAtSec === NEVER) return;
  out.writeUInt32BE(Math.max(0, view.expiryAtSec - connection.expiryBaseSec), at);
}

/** A form without identifiers and alias: the same bytes for every such subscriber but for the packet id. */
function deliverLayout(connection: Connection, view: MessageView, flags: number, packetId: number): boolean {
  const { layouts } = connection.context;
  const key = flags | (connection.isV5 ? 16 : 0);
  if (view.stamp < 0 || layouts.seen[key] !== view.stamp) {
    layouts.seen[key] = view.stamp;
    return deliverEncoded(connection, view, flags, packetId);
  }
  if (layouts.stamp[key] !== view.stamp && !makeLayout(connection, view, flags, key)) {
    return deliverEncoded(connection, view, flags, packetId);
  }
  const size = layouts.length[key];
  if (size > connection.packetBytesMax) return false; // [MQTT-3.1.2-24]
  const { link } = connection;
  const at = link.reserve(size);
  const out = link.buffer;
  layouts.bytes[key].copy(out, at, 0, size);
  if (packetId !== 0) {
    const id = at + layouts.packetIdAt[key];
    out[id] = packetId >> 8;
    out[id + 1] = packetId & 0xff;
  }
  link.commit(at + size);
  return true;
}

function makeLayout(connection: Connection, view: MessageView, flags: number, key: number): boolean {
  const { layouts } = connection.context;
  measure(view, connection.isV5, flags, 0, true);
  if (form.size > LAYOUT_BYTES_MAX) return false;
  if (layouts.bytes[key].length < form.size) layouts.bytes[key] = Buffer.alloc(form.size * 2);
  encode(layouts.bytes[key], 0, connection, view, flags, 0);
  layouts.stamp[key] = view.stamp;
  layouts.length[key] = form.size;
  layouts.packetIdAt[key] = form.size - form.bodySize + 2 + view.topicEnd - view.topicStart;
  return true;
}

function deliverEncoded(connection: Connection, view: MessageView, flags: number, packetId: number): boolean {
  const { aliases, link, isV5 } = connection;
  const known = aliases === null ? 0 : aliases.find(view.bytes, view.topicStart, view.topicEnd);
  measure(view, isV5, flags, known, known === 0);
  if (form.size > connection.packetBytesMax) return false; // [MQTT-3.1.2-24]
  if (aliases?.hasRoom && known === 0) {
    measure(view, isV5, flags, aliases.next, true);
    if (form.size <= connection.packetBytesMax) aliases.add(view.bytes, view.topicStart, view.topicEnd);
    else measure(view, isV5, flags, 0, true);
  }
  const at = link.reserve(form.size);
  encode(link.buffer, at, connection, view, flags, packetId);
  link.commit(at + form.size);
  return true;
}

/** The packet about to be encoded: set by `measure`, read by `encode`. */
const form = { isV5: false, alias: 0, isTopicSent: true, propertiesSize: 0, bodySize: 0, size: 0 };

function measure(view: MessageView, isV5: boolean, flags: number, alias: number, isTopicSent: boolean): void {
  let list = 0;
  if (isV5) {
    list = (view.isV5 ? view.propertiesEnd - view.propertiesStart : 0) + (alias === 0 ? 0 : 3);
    for (let i = 0; i < view.idCount; i++) list += 1 + varintLength(view.ids[i]);
  }
  const topic = isTopicSent ? view.topicEnd - view.topicStart : 0;
  const id = (flags & 6) === 0 ? 0 : 2;
  form.isV5 = isV5;
  form.alias = alias;
  form.isTopicSent = isTopicSent;
  form.propertiesSize = list;
  form.bodySize = 2 + topic + id + (isV5 ? varintLength(list) + list : 0) + view.payloadEnd - view.payloadStart;
  form.size = 1 + varintLength(form.bodySize) + form.bodySize;
}

/** Writes the measured packet at `at`; there is room. */
function encode(
  out: Buffer,
  at: number,
  connection: Connection,
  view: MessageView,
  flags: number,
  packetId: number,
): void {
  const topicLength = form.isTopicSent ? view.topicEnd - view.topicStart : 0;
  out[at] = FIRST_BYTE | flags;
  at = writeVarint(out, at + 1, form.bodySize);
  out[at++] = topicLength >> 8;
  out[at++] = topicLength & 0xff;
  if (topicLength > 0) at += view.bytes.copy(out, at, view.topicStart, view.topicEnd);
  if ((flags & 6) !== 0) {
    out[at++] = packetId >> 8;
    out[at++] = packetId & 0xff;
  }
  if (form.isV5) at = encodeProperties(out, at, connection, view);
  view.bytes.copy(out, at, view.payloadStart, view.payloadEnd);
}

function encodeProperties(out: Buffer, at: number, connection: Connection, view: MessageView): number {
  at = writeVarint(out, at, form.propertiesSize);
  for (let i = 0; i < view.idCount; i++) {
    out[at++] = SUBSCRIPTION_IDENTIFIER; // [MQTT-3.3.4-3]
    at = writeVarint(out, at, view.ids[i]);
  }
  if (form.alias !== 0) {
    out[at++] = TOPIC_ALIAS;
    out[at++] = form.alias >> 8;
    out[at++] = form.alias & 0xff;
  }
  if (!view.isV5) return at;
  view.bytes.copy(out, at, view.propertiesStart, view.propertiesEnd); // [MQTT-3.3.2-17] [MQTT-3.3.2-18]
  if (view.expiryStart >= 0) writeExpiry(out, at + view.expiryStart - view.propertiesStart, view, connection);
  return at + view.propertiesEnd - view.propertiesStart;
}
