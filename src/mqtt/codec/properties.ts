/**
 * Properties of MQTT 5.0 (§2.2.2): which packet may carry which, decoded to an object or, for PUBLISH, checked in place.
 *
 *   properties   length (varint) | identifier (1) | value | identifier | value | …
 */
import { isMqttUtf8 } from "#base/bytes.ts";
import type { Reader } from "./reader.ts";
import { writeVarint, varintLength } from "./frame.ts";
import { MALFORMED_PACKET, PROTOCOL_ERROR } from "./reason-code.ts";

/** Decoded properties; a missing one is undefined. Strings are checked UTF-8. */
export interface Properties {
  payloadFormatIndicator?: number;
  messageExpirySec?: number;
  contentType?: string;
  responseTopic?: Buffer;
  correlationData?: Buffer;
  subscriptionIdentifier?: number;
  sessionExpirySec?: number;
  assignedClientIdentifier?: string;
  serverKeepAliveSec?: number;
  authenticationMethod?: string;
  authenticationData?: Buffer;
  requestProblemInformation?: number;
  willDelaySec?: number;
  requestResponseInformation?: number;
  responseInformation?: string;
  serverReference?: string;
  reasonString?: string;
  receiveMaximum?: number;
  topicAliasMaximum?: number;
  topicAlias?: number;
  maximumQos?: number;
  retainAvailable?: number;
  userProperties?: [string, string][];
  maximumPacketSize?: number;
  wildcardSubscriptionAvailable?: number;
  subscriptionIdentifierAvailable?: number;
  sharedSubscriptionAvailable?: number;
}

type Name = keyof Properties;
type Kind = "byte" | "uint16" | "uint32" | "varint" | "text" | "utf8" | "binary" | "pair";

interface Entry {
  readonly id: number;
  readonly name: Name;
  readonly kind: Kind;
  /** Least and greatest value; a number outside is a protocol error. */
  readonly min?: number;
  readonly max?: number;
}

export const PAYLOAD_FORMAT = 0x01;
export const MESSAGE_EXPIRY = 0x02;
export const CONTENT_TYPE = 0x03;
export const RESPONSE_TOPIC = 0x08;
export const CORRELATION_DATA = 0x09;
export const SUBSCRIPTION_IDENTIFIER = 0x0b;
export const TOPIC_ALIAS = 0x23;
export const USER_PROPERTY = 0x26;
const WILL_DELAY = 0x18;

const table: readonly Entry[] = [
  { id: PAYLOAD_FORMAT, name: "payloadFormatIndicator", kind: "byte", max: 1 },
  { id: MESSAGE_EXPIRY, name: "messageExpirySec", kind: "uint32" },
  { id: CONTENT_TYPE, name: "contentType", kind: "text" },
  { id: RESPONSE_TOPIC, name: "responseTopic", kind: "utf8" },
  { id: CORRELATION_DATA, name: "correlationData", kind: "binary" },
  { id: SUBSCRIPTION_IDENTIFIER, name: "subscriptionIdentifier", kind: "varint", min: 1 },
  { id: 0x11, name: "sessionExpirySec", kind: "uint32" },
  { id: 0x12, name: "assignedClientIdentifier", kind: "text" },
  { id: 0x13, name: "serverKeepAliveSec", kind: "uint16" },
  { id: 0x15, name: "authenticationMethod", kind: "text" },
  { id: 0x16, name: "authenticationData", kind: "binary" },
  { id: 0x17, name: "requestProblemInformation", kind: "byte", max: 1 },
  { id: WILL_DELAY, name: "willDelaySec", kind: "uint32" },
  { id: 0x19, name: "requestResponseInformation", kind: "byte", max: 1 },
  { id: 0x1a, name: "responseInformation", kind: "text" },
  { id: 0x1c, name: "serverReference", kind: "text" },
  { id: 0x1f, name: "reasonString", kind: "text" },
  { id: 0x21, name: "receiveMaximum", kind: "uint16", min: 1 },
  { id: 0x22, name: "topicAliasMaximum", kind: "uint16" },
  { id: TOPIC_ALIAS, name: "topicAlias", kind: "uint16" },
  { id: 0x24, name: "maximumQos", kind: "byte", max: 1 },
  { id: 0x25, name: "retainAvailable", kind: "byte", max: 1 },
  { id: USER_PROPERTY, name: "userProperties", kind: "pair" },
  { id: 0x27, name: "maximumPacketSize", kind: "uint32", min: 1 },
  { id: 0x28, name: "wildcardSubscriptionAvailable", kind: "byte", max: 1 },
  { id: 0x29, name: "subscriptionIdentifierAvailable", kind: "byte", max: 1 },
  { id: 0x2a, name: "sharedSubscriptionAvailable", kind: "byte", max: 1 },
];

const byId: (Entry | undefined)[] = [];
for (const entry of table) byId[entry.id] = entry;

export const allProperties = table.map(({ id }) => id);

/** What a client may send, by packet (§2.2.2.2). PUBLISH has `checkPublishProperties`. */
export const connectProperties = [0x11, 0x15, 0x16, 0x17, 0x19, 0x21, 0x22, USER_PROPERTY, 0x27];
export const willProperties = [
  PAYLOAD_FORMAT,
  MESSAGE_EXPIRY,
  CONTENT_TYPE,
  RESPONSE_TOPIC,
  CORRELATION_DATA,
  WILL_DELAY,
  USER_PROPERTY,
];
export const ackProperties = [0x1f, USER_PROPERTY];
export const subscribeProperties = [SUBSCRIPTION_IDENTIFIER, USER_PROPERTY];
export const unsubscribeProperties = [USER_PROPERTY];
export const disconnectProperties = [0x11, 0x1f, USER_PROPERTY];
export const authProperties = [0x15, 0x16, 0x1f, USER_PROPERTY];

/** Reads a property list with its length. A fault is left in the reader: unknown or misplaced 0x81, repeated or out of range 0x82. */
export function readProperties(reader: Reader, allowed: readonly number[]): Properties {
  const length = reader.varint();
  const end = reader.at + length;
  if (end > reader.end) reader.fail(MALFORMED_PACKET);
  return readPropertiesUntil(reader, allowed, end);
}

/** The same without the length before it. */
export function readPropertiesUntil(reader: Reader, allowed: readonly number[], end: number): Properties {
  const properties: Properties = {};
  while (reader.at < end && reader.fault === 0) {
    const entry = byId[reader.byte()];
    if (!entry || !allowed.includes(entry.id))
      reader.fail(MALFORMED_PACKET); // [MQTT-4.13.1-1]
    else readProperty(reader, entry, properties);
    if (reader.at > end) reader.fail(MALFORMED_PACKET);
  }
  return properties;
}

function readProperty(reader: Reader, entry: Entry, into: Properties): void {
  if (entry.kind === "pair") {
    (into.userProperties ??= []).push([reader.text(), reader.text()]);
    return;
  }
  if (into[entry.name] !== undefined) return reader.fail(PROTOCOL_ERROR);
  const value = reader[entry.kind]();
  if (typeof value === "number" && (value < (entry.min ?? 0) || value > (entry.max ?? value))) {
    return reader.fail(PROTOCOL_ERROR);
  }
  (into as Record<Name, unknown>)[entry.name] = value;
}

/** Encodes properties with their length. Those the caller left undefined are left out. */
export function encodeProperties(properties: Properties): Buffer {
  const parts: Buffer[] = [];
  for (const entry of table) {
    const value = properties[entry.name];
    if (value === undefined) continue;
    if (entry.kind === "pair") {
      for (const [name, text] of value as [string, string][]) {
        parts.push(Buffer.from([entry.id]), prefixed(Buffer.from(name)), prefixed(Buffer.from(text)));
      }
    } else {
      parts.push(Buffer.from([entry.id]), encodeValue(entry.kind, value as number | string | Buffer));
    }
  }
  const length = parts.reduce((sum, part) => sum + part.length, 0);
  const head = Buffer.alloc(varintLength(length));
  writeVarint(head, 0, length);
  return Buffer.concat([head, ...parts]);
}

function encodeValue(kind: Kind, value: number | string | Buffer): Buffer {
  if (typeof value === "string") return prefixed(Buffer.from(value));
  if (typeof value !== "number") return prefixed(value);
  const out = Buffer.alloc(kind === "byte" ? 1 : kind === "uint16" ? 2 : kind === "uint32" ? 4 : varintLength(value));
  if (kind === "varint") writeVarint(out, 0, value);
  else out.writeUIntBE(value, 0, out.length);
  return out;
}

function prefixed(bytes: Buffer): Buffer {
  const out = Buffer.alloc(2 + bytes.length);
  out.writeUInt16BE(bytes.length, 0);
  bytes.copy(out, 2);
  return out;
}

/** What `checkPublishProperties` found; reused for every packet. */
export const publishProperties = {
  /** Topic Alias, or −1, and the offset of its identifier byte. */
  alias: -1,
  aliasStart: -1,
  /** Message Expiry Interval in seconds, or −1, and the offset of its four bytes. */
  expirySec: -1,
  expiryStart: -1,
};

/**
 * Checks the properties of a PUBLISH from a client in place, without allocation: [start, end) after their length.
 * Returns 0 or a reason code; fills `publishProperties`.
 */
export function checkPublishProperties(bytes: Buffer, start: number, end: number): number {
  const found = publishProperties;
  found.alias = found.aliasStart = found.expirySec = found.expiryStart = -1;
  let seen = 0;
  for (let at = start; at < end;) {
    const id = bytes[at];
    if (id > CORRELATION_DATA && id !== TOPIC_ALIAS && id !== USER_PROPERTY) {
      return id === SUBSCRIPTION_IDENTIFIER ? PROTOCOL_ERROR : MALFORMED_PACKET; // [MQTT-3.3.4-6]
    }
    const bit = id === TOPIC_ALIAS ? 1 << 10 : 1 << id;
    if ((seen & bit) !== 0 && id !== USER_PROPERTY) return PROTOCOL_ERROR;
    seen |= bit;
    const next = endOfPublishProperty(bytes, at, end, id);
    if (next < 0) return -next;
    at = next;
  }
  return 0;
}

/** Offset after the property at `at`, or the negated reason code. */
function endOfPublishProperty(bytes: Buffer, at: number, end: number, id: number): number {
  const found = publishProperties;
  switch (id) {
    case PAYLOAD_FORMAT:
      if (at + 2 > end) return -MALFORMED_PACKET;
      return bytes[at + 1] > 1 ? -PROTOCOL_ERROR : at + 2;
    case MESSAGE_EXPIRY:
      if (at + 5 > end) return -MALFORMED_PACKET;
      found.expirySec = bytes.readUInt32BE(at + 1);
      found.expiryStart = at + 1;
      return at + 5;
    case TOPIC_ALIAS:
      if (at + 3 > end) return -MALFORMED_PACKET;
      found.alias = (bytes[at + 1] << 8) | bytes[at + 2];
      found.aliasStart = at;
      return at + 3;
    case CONTENT_TYPE:
    case RESPONSE_TOPIC:
      return endOfString(bytes, at + 1, end, id === RESPONSE_TOPIC);
    case CORRELATION_DATA:
      return endOfBinary(bytes, at + 1, end);
    case USER_PROPERTY: {
      const value = endOfString(bytes, at + 1, end, false);
      return value < 0 ? value : endOfString(bytes, value, end, false);
    }
    default:
      return -MALFORMED_PACKET;
  }
}

function endOfBinary(bytes: Buffer, at: number, end: number): number {
  if (at + 2 > end) return -MALFORMED_PACKET;
  const next = at + 2 + ((bytes[at] << 8) | bytes[at + 1]);
  return next > end ? -MALFORMED_PACKET : next;
}

function endOfString(bytes: Buffer, at: number, end: number, isTopic: boolean): number {
  const next = endOfBinary(bytes, at, end);
  if (next < 0) return next;
  if (!isMqttUtf8(bytes, at + 2, next)) return -MALFORMED_PACKET;
  if (isTopic) for (let i = at + 2; i < next; i++) if (bytes[i] === 0x2b || bytes[i] === 0x23) return -PROTOCOL_ERROR; // [MQTT-3.3.2-14]
  return next;
}
