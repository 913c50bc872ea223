// Every MQTT control packet of 3.1, 3.1.1 and 5.0 as a plain object, and how such an object becomes bytes, for tests.
//
// Encoding is lax: it writes what it is given, so that tests can build bad packets (`flags`, `connectFlags`, `optionsByte`,
// `remainingLength`, raw bytes for strings and properties; or send plain bytes instead). The strict way back is in
// packet-decoder.ts. Independent of src/, see wire.ts.

import { bytesOf, Writer, writeProperties } from "./wire.ts";
import type { Properties, PropertyName, PropertyValue, Text } from "./wire.ts";

export type { Properties, PropertyName, PropertyValue } from "./wire.ts";

/** Protocol level: 3 is MQTT 3.1, 4 is 3.1.1, 5 is 5.0. */
export type Version = 3 | 4 | 5;

interface Will {
  topic: string;
  payload: Uint8Array;
  qos: number;
  retain: boolean;
  properties?: Properties;
}

export interface ConnectPacket {
  type: "connect";
  protocolName: string;
  protocolLevel: number;
  cleanStart: boolean;
  keepAliveSec: number;
  clientId: string;
  will?: Will;
  username?: string;
  password?: Uint8Array;
  properties?: Properties;
}

export interface ConnackPacket {
  type: "connack";
  sessionPresent: boolean;
  /** The return code in 3.x. */
  reasonCode: number;
  properties?: Properties;
}

export interface PublishPacket {
  type: "publish";
  dup: boolean;
  qos: number;
  retain: boolean;
  topic: string;
  /** Only with QoS 1 and 2. */
  packetId?: number;
  properties?: Properties;
  payload: Uint8Array;
}

/** In 5.0 decoding fills in an omitted reason code (0) and omitted properties (none); 3.x has neither. */
interface Ack<T extends string> {
  type: T;
  packetId: number;
  reasonCode?: number;
  properties?: Properties;
}

export type PubackPacket = Ack<"puback">;
export type PubrecPacket = Ack<"pubrec">;
type PubrelPacket = Ack<"pubrel">;
export type PubcompPacket = Ack<"pubcomp">;

export interface Subscription {
  filter: string;
  qos: number;
  noLocal?: boolean;
  retainAsPublished?: boolean;
  retainHandling?: number;
}

export interface SubscribePacket {
  type: "subscribe";
  packetId: number;
  properties?: Properties;
  subscriptions: Subscription[];
}

export interface SubackPacket {
  type: "suback";
  packetId: number;
  properties?: Properties;
  reasonCodes: number[];
}

interface UnsubscribePacket {
  type: "unsubscribe";
  packetId: number;
  properties?: Properties;
  filters: string[];
}

export interface UnsubackPacket {
  type: "unsuback";
  packetId: number;
  properties?: Properties;
  /** 5.0 only. */
  reasonCodes?: number[];
}

interface PingreqPacket {
  type: "pingreq";
}

interface PingrespPacket {
  type: "pingresp";
}

interface DisconnectPacket {
  type: "disconnect";
  reasonCode?: number;
  properties?: Properties;
}

interface AuthPacket {
  type: "auth";
  reasonCode?: number;
  properties?: Properties;
}

export type Packet =
  | ConnectPacket
  | ConnackPacket
  | PublishPacket
  | PubackPacket
  | PubrecPacket
  | PubrelPacket
  | PubcompPacket
  | SubscribePacket
  | SubackPacket
  | UnsubscribePacket
  | UnsubackPacket
  | PingreqPacket
  | PingrespPacket
  | DisconnectPacket
  | AuthPacket;

export type PacketType = Packet["type"];
export type PacketOf<T extends PacketType> = Extract<Packet, { type: T }>;

/** What encoding takes in place of a decoded T: every field optional, text and payloads as string or bytes. */
export type Loose<T> = T extends Properties
  ? Properties | Uint8Array
  : T extends string | Uint8Array
    ? Text
    : T extends (infer Element)[]
      ? Loose<Element>[]
      : T extends object
        ? { [Key in keyof T]?: Loose<T[Key]> } & (T extends Subscription ? { optionsByte?: number } : unknown)
        : T;

interface Overrides {
  /** The low four bits of the first byte. */
  flags?: number;
  /** Instead of the true one: a number, or the bytes of the field as they are. */
  remainingLength?: number | Uint8Array;
  /** The flag byte of CONNECT, whatever fields follow. */
  connectFlags?: number;
}

export type PacketInputOf<T extends PacketType> = { type: T } & Omit<Loose<PacketOf<T>>, "type"> & Overrides;
export type PacketInput = { [T in PacketType]: PacketInputOf<T> }[PacketType];

/** Index is the packet type's number. */
export const TYPES: (PacketType | undefined)[] = [
  undefined,
  "connect",
  "connack",
  "publish",
  "puback",
  "pubrec",
  "pubrel",
  "pubcomp",
  "subscribe",
  "suback",
  "unsubscribe",
  "unsuback",
  "pingreq",
  "pingresp",
  "disconnect",
  "auth",
];

/** `hex("10 0c 00 04")`; white space is free. */
export function hex(text: string): Uint8Array {
  const digits = text.replace(/\s+/g, "");
  if (!/^([0-9a-f]{2})*$/i.test(digits)) throw new Error(`not hex: ${text}`);
  return Uint8Array.from(digits.match(/../g) ?? [], (pair) => parseInt(pair, 16));
}

export function toHex(bytes: Uint8Array): string {
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join(" ");
}

/** The first value of a property, if the packet has it. */
export function prop(packet: { properties?: Properties }, name: PropertyName): PropertyValue | undefined {
  return props(packet, name)[0];
}

/** All values of a property, in order. */
export function props(packet: { properties?: Properties }, name: PropertyName): PropertyValue[] {
  return (packet.properties ?? []).filter(([other]) => other === name).map(([, value]) => value);
}

/** One line for people: `publish {"qos":1,"topic":"a","payload":"hi"}`. */
export function describePacket(packet: Packet): string {
  const { type, ...fields } = packet;
  return `${type} ${JSON.stringify(fields, (_, value) => (value instanceof Uint8Array ? describeBytes(value) : value))}`;
}

function describeBytes(bytes: Uint8Array): string {
  const isPrintable = bytes.every((byte) => byte >= 0x20 && byte < 0x7f);
  const shown = bytes.subarray(0, 200);
  const text = isPrintable ? new TextDecoder().decode(shown) : `<${toHex(shown)}>`;
  return bytes.length > shown.length ? `${text}… (${bytes.length} bytes)` : text;
}

export function encodePacket(packet: PacketInput, version: Version): Uint8Array {
  const body = new Writer();
  const flags = writeBody(body, packet, version);
  const bytes = body.done();
  const frame = new Writer().u8((TYPES.indexOf(packet.type) << 4) | (packet.flags ?? flags));
  const length = packet.remainingLength ?? bytes.length;
  return (typeof length === "number" ? frame.varint(length) : frame.raw(length)).raw(bytes).done();
}

/** Writes what follows the fixed header and returns the fixed header's flags. */
function writeBody(writer: Writer, packet: PacketInput, version: Version): number {
  const properties = () => {
    if (version === 5) writeProperties(writer, "properties" in packet ? packet.properties : []);
  };
  switch (packet.type) {
    case "connect":
      writeConnect(writer, packet, version);
      return 0;
    case "connack":
      writer.u8(packet.sessionPresent ? 1 : 0).u8(packet.reasonCode ?? 0);
      properties();
      return 0;
    case "publish": {
      const qos = packet.qos ?? 0;
      writer.prefixed(packet.topic ?? "");
      if (qos > 0) writer.u16(packet.packetId ?? 0);
      properties();
      writer.raw(bytesOf(packet.payload ?? ""));
      return (packet.dup ? 8 : 0) | (qos << 1) | (packet.retain ? 1 : 0);
    }
    case "subscribe":
      writer.u16(packet.packetId ?? 0);
      properties();
      for (const subscription of packet.subscriptions ?? []) {
        writer.prefixed(subscription.filter ?? "").u8(subscription.optionsByte ?? optionsByteOf(subscription));
      }
      return 2;
    case "unsubscribe":
      writer.u16(packet.packetId ?? 0);
      properties();
      for (const filter of packet.filters ?? []) writer.prefixed(filter);
      return 2;
    case "suback":
    case "unsuback":
      writer.u16(packet.packetId ?? 0);
      properties();
      writer.raw(Uint8Array.from(packet.reasonCodes ?? []));
      return 0;
    case "pingreq":
    case "pingresp":
      return 0;
    case "disconnect":
    case "auth":
      writeReason(writer, packet, version);
      return 0;
    default:
      writer.u16(packet.packetId ?? 0);
      writeReason(writer, packet, version);
      return packet.type === "pubrel" ? 2 : 0;
  }
}

/** The 5.0 tail with the short forms: no code, a code alone, a code and properties, as the given fields say. */
function writeReason(
  writer: Writer,
  packet: { reasonCode?: number; properties?: Properties | Uint8Array },
  version: Version,
): void {
  if (version !== 5 || (packet.reasonCode === undefined && packet.properties === undefined)) return;
  writer.u8(packet.reasonCode ?? 0);
  if (packet.properties !== undefined) writeProperties(writer, packet.properties);
}

function optionsByteOf(subscription: Loose<Subscription>): number {
  const { qos = 0, noLocal = false, retainAsPublished = false, retainHandling = 0 } = subscription;
  return qos | (noLocal ? 4 : 0) | (retainAsPublished ? 8 : 0) | (retainHandling << 4);
}

function writeConnect(writer: Writer, packet: PacketInputOf<"connect">, version: Version): void {
  const { will, username, password } = packet;
  const willFlags = will === undefined ? 0 : 0x04 | ((will.qos ?? 0) << 3) | (will.retain ? 0x20 : 0);
  const userFlags = (username === undefined ? 0 : 0x80) | (password === undefined ? 0 : 0x40);
  const flags = ((packet.cleanStart ?? true) ? 0x02 : 0) | willFlags | userFlags;
  writer.prefixed(packet.protocolName ?? (version === 3 ? "MQIsdp" : "MQTT"));
  writer
    .u8(packet.protocolLevel ?? version)
    .u8(packet.connectFlags ?? flags)
    .u16(packet.keepAliveSec ?? 0);
  if (version === 5) writeProperties(writer, packet.properties);
  writer.prefixed(packet.clientId ?? "");
  if (will !== undefined) {
    if (version === 5) writeProperties(writer, will.properties);
    writer.prefixed(will.topic ?? "").prefixed(will.payload ?? "");
  }
  if (username !== undefined) writer.prefixed(username);
  if (password !== undefined) writer.prefixed(password);
}
