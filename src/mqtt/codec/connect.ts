/** CONNECT (§3.1) decoded to an object, CONNACK (§3.2) encoded from one. Both are once a connection. */
import { MessageView, NEVER } from "#core/message.ts";
import type { Will } from "#core/will.ts";
import { CONNACK } from "./frame.ts";
import {
  connectProperties,
  encodeProperties,
  MESSAGE_EXPIRY,
  type Properties,
  PAYLOAD_FORMAT,
  CONTENT_TYPE,
  CORRELATION_DATA,
  RESPONSE_TOPIC,
  readProperties,
  USER_PROPERTY,
  willProperties,
} from "./properties.ts";
import { Reader } from "./reader.ts";
import { MALFORMED_PACKET, PROTOCOL_ERROR, returnCode3, UNSUPPORTED_PROTOCOL_VERSION } from "./reason-code.ts";

export interface ConnectPacket {
  /** 3, 4 or 5. */
  readonly version: number;
  /** The bridge bit of mosquitto (0x80 of the protocol level). */
  readonly isBridge: boolean;
  readonly isCleanStart: boolean;
  readonly keepAliveSec: number;
  readonly clientId: Buffer;
  readonly properties: Properties;
  readonly will: WillPacket | undefined;
  readonly username: string | undefined;
  readonly password: Buffer | undefined;
}

interface WillPacket extends Will {
  /** Topic as bytes; not yet checked to be a topic name. */
  readonly topic: Buffer;
}

/** A CONNECT that cannot be accepted: the reason, and the version to answer in if it was understood. */
export interface ConnectFault {
  readonly reasonCode: number;
  readonly version: number;
}

const BRIDGE = 0x80;
const USERNAME = 0x80;
const PASSWORD = 0x40;
const WILL_RETAIN = 0x20;
const WILL = 0x04;
const CLEAN_START = 0x02;
const RESERVED = 0x01;

/** Decodes the packet body in [start, end). Byte fields of the answer are views. */
export function decodeConnect(bytes: Buffer, start: number, end: number): ConnectPacket | ConnectFault {
  const reader = new Reader(bytes, start, end);
  const name = reader.binary().toString("latin1");
  const level = reader.byte();
  const version = level & ~BRIDGE;
  const isKnown = name === "MQIsdp" ? version === 3 : name === "MQTT" && (version === 4 || version === 5);
  if (reader.fault !== 0) return { reasonCode: reader.fault, version: 0 };
  if (!isKnown) {
    const isMqtt = name === "MQTT" || name === "MQIsdp"; // another name gets no answer [MQTT-3.1.2-1]
    return { reasonCode: UNSUPPORTED_PROTOCOL_VERSION, version: isMqtt ? (version < 5 ? 4 : 5) : 0 }; // [MQTT-3.1.2-2]
  }
  const flags = reader.byte();
  const packet = {
    version,
    isBridge: level !== version,
    isCleanStart: (flags & CLEAN_START) !== 0,
    keepAliveSec: reader.uint16(),
    properties: version === 5 ? readProperties(reader, connectProperties) : {},
    clientId: reader.utf8(),
    will: readWill(reader, flags, version),
    username: isThere(reader, flags & USERNAME, version) ? reader.text() : undefined,
    password: isThere(reader, flags & PASSWORD, version) ? reader.binary() : undefined,
  };
  const fault = reader.fault || faultOfFlags(flags, version) || (reader.left > 0 ? MALFORMED_PACKET : 0);
  if (fault === 0 && hasDataWithoutMethod(packet.properties)) return { reasonCode: PROTOCOL_ERROR, version };
  return fault === 0 ? packet : { reasonCode: fault, version };
}

/** In 3.1 a flag may stand without its field: Remaining Length counts more (MQTT 3.1, CONNECT, user name and password). */
function isThere(reader: Reader, flag: number, version: number): boolean {
  return flag !== 0 && (version > 3 || reader.left > 0);
}

function hasDataWithoutMethod(properties: Properties): boolean {
  return properties.authenticationData !== undefined && properties.authenticationMethod === undefined;
}

function faultOfFlags(flags: number, version: number): number {
  if ((flags & RESERVED) !== 0) return MALFORMED_PACKET; // [MQTT-3.1.2-3]
  const willQos = (flags >> 3) & 3;
  if (willQos === 3) return MALFORMED_PACKET; // [MQTT-3.1.2-12]
  if ((flags & WILL) === 0 && (flags & (WILL_RETAIN | 0x18)) !== 0) return MALFORMED_PACKET; // [MQTT-3.1.2-11] [MQTT-3.1.2-13]
  const hasPasswordAlone = (flags & PASSWORD) !== 0 && (flags & USERNAME) === 0;
  return version < 5 && hasPasswordAlone ? MALFORMED_PACKET : 0; // [MQTT3-3.1.2-22]
}

function readWill(reader: Reader, flags: number, version: number): WillPacket | undefined {
  if ((flags & WILL) === 0) return undefined;
  const listStart = reader.at;
  const properties = version === 5 ? readProperties(reader, willProperties) : {};
  const passed = version === 5 ? passedOn(reader.bytes, listStart, reader.at) : Buffer.alloc(0);
  const topic = reader.utf8();
  const payload = reader.binary();
  const view = new MessageView();
  view.bytes = Buffer.concat([topic, passed, payload]);
  view.topicEnd = view.propertiesStart = topic.length;
  view.propertiesEnd = view.payloadStart = topic.length + passed.length;
  view.payloadEnd = view.bytes.length;
  view.isV5 = version === 5;
  view.qos = (flags >> 3) & 3;
  view.isRetain = (flags & WILL_RETAIN) !== 0;
  const hasExpiry = properties.messageExpirySec !== undefined;
  if (hasExpiry) view.expiryStart = topic.length + 1; // passedOn puts it first
  return {
    view,
    topic,
    delaySec: properties.willDelaySec ?? 0,
    expirySec: hasExpiry ? Math.min(properties.messageExpirySec!, NEVER - 1) : NEVER,
  };
}

/** The will's properties that go out with its message, in their order but with Message Expiry Interval first. */
function passedOn(bytes: Buffer, start: number, end: number): Buffer {
  const reader = new Reader(bytes, start, end);
  const listEnd = reader.varint() + reader.at;
  const parts: Buffer[] = [];
  while (reader.at < listEnd && reader.fault === 0) {
    const from = reader.at;
    const id = reader.byte();
    skipValue(reader, id);
    const part = bytes.subarray(from, reader.at);
    if (id === MESSAGE_EXPIRY) parts.unshift(part);
    else if (id !== 0x18) parts.push(part); // all but Will Delay Interval
  }
  return Buffer.concat(parts);
}

function skipValue(reader: Reader, id: number): void {
  if (id === PAYLOAD_FORMAT) reader.byte();
  else if (id === MESSAGE_EXPIRY || id === 0x18) reader.uint32();
  else if (id === CONTENT_TYPE || id === RESPONSE_TOPIC || id === CORRELATION_DATA) reader.binary();
  else if (id === USER_PROPERTY) {
    reader.binary();
    reader.binary();
  }
}

/** Reason codes that are for DISCONNECT and acknowledgements only (§3.2.2.2 does not list them). */
const notForConnack = new Set([0x8b, 0x8d, 0x8e, 0x8f, 0x91, 0x92, 0x93, 0x94, 0x96, 0x98, 0x9e, 0xa0, 0xa1, 0xa2]);

export function isConnackReason(reasonCode: number): boolean {
  return !notForConnack.has(reasonCode); // [MQTT-3.2.2-8]
}

/** CONNACK; for 3.x the reason code becomes a return code and properties are left out. */
export function encodeConnack(
  version: number,
  isSessionPresent: boolean,
  reasonCode: number,
  properties: Properties,
): Buffer {
  const present = isSessionPresent && reasonCode === 0 && version > 3 ? 1 : 0; // [MQTT-3.2.2-6]
  if (version < 5) return Buffer.from([CONNACK << 4, 2, present, returnCode3(reasonCode)]);
  const list = encodeProperties(properties);
  return withHeader(CONNACK << 4, Buffer.concat([Buffer.from([present, reasonCode]), list]));
}

/** Puts a fixed header before a body of at most 2 MiB. */
export function withHeader(firstByte: number, body: Buffer): Buffer {
  const head = [firstByte];
  let length = body.length;
  for (; length >= 0x80; length >>>= 7) head.push((length & 0x7f) | 0x80);
  head.push(length);
  return Buffer.concat([Buffer.from(head), body]);
}
