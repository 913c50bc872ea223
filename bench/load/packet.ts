/**
 * The packets that a client sends, as whole frames. All but PUBLISH are made once a connection; a PUBLISH is made once a
 * publisher and QoS and then copied, with packet id, number and time patched in.
 */
import { varintLength, writeVarint } from "#mqtt/codec/frame.ts";
import type { Plan } from "./plan.ts";
import { STAMP_BYTES, writeStamp } from "./stamp.ts";

export const PINGREQ: Buffer = Buffer.from([0xc0, 0]);
export const DISCONNECT: Buffer = Buffer.from([0xe0, 0]);
const EMPTY_PROPERTIES = Buffer.from([0]);

export function encodeConnect(plan: Plan, clientId: string): Buffer {
  const { version, username, password } = plan;
  const flags = (plan.isCleanStart ? 2 : 0) | (username === undefined ? 0 : 0x80) | (password === undefined ? 0 : 0x40);
  const parts = [
    text(version === 3 ? "MQIsdp" : "MQTT"),
    Buffer.from([version, flags, plan.keepAliveSec >> 8, plan.keepAliveSec & 0xff]),
  ];
  if (version === 5) parts.push(properties(plan.sessionExpirySec > 0 ? [[0x11, uint32(plan.sessionExpirySec)]] : []));
  parts.push(text(clientId));
  if (username !== undefined) parts.push(text(username));
  if (password !== undefined) parts.push(text(password));
  return frame(0x10, parts);
}

export function encodeSubscribe(plan: Plan, filter: string): Buffer {
  const list: Property[] = plan.subscriptionId > 0 ? [[0x0b, varint(plan.subscriptionId)]] : [];
  const head = Buffer.from([0, 1]);
  return frame(0x82, [
    plan.version === 5 ? Buffer.concat([head, properties(list)]) : head,
    text(filter),
    Buffer.from([plan.subQos]),
  ]);
}

export interface PublishFrame {
  readonly bytes: Buffer;
  /** Offset of the packet id; -1 at QoS 0. */
  readonly packetIdAt: number;
  readonly payloadAt: number;
  /** False when the payload has no room for a stamp: such messages cannot be checked. */
  readonly isStamped: boolean;
}

export interface PublishParts {
  readonly topic: string;
  readonly qos: number;
  /** 0 for none. */
  readonly alias: number;
  readonly run: number;
  /** Number of the publisher in the run. */
  readonly publisher: number;
}

export function encodePublish(plan: Plan, { topic, qos, alias, run, publisher }: PublishParts): PublishFrame {
  const payload = Buffer.alloc(plan.payloadBytes, "abcdefghijklmnopqrstuvwxyz");
  const isStamped = plan.payloadBytes >= STAMP_BYTES;
  if (isStamped) writeStamp(payload, 0, run, (publisher << 2) | qos);
  const parts = [text(topic)];
  if (qos > 0) parts.push(Buffer.alloc(2));
  if (plan.version === 5) parts.push(publishProperties(plan, alias));
  parts.push(payload);
  const bytes = frame(0x30 | (qos << 1) | (plan.isRetain ? 1 : 0), parts);
  const payloadAt = bytes.length - payload.length;
  const propertiesBytes = plan.version === 5 ? parts.at(-2)!.length : 0;
  return { bytes, packetIdAt: qos > 0 ? payloadAt - propertiesBytes - 2 : -1, payloadAt, isStamped };
}

function publishProperties(plan: Plan, alias: number): Buffer {
  const list: Property[] = plan.userProperties.map(([name, value]) => [0x26, Buffer.concat([text(name), text(value)])]);
  if (plan.messageExpirySec > 0) list.unshift([0x02, uint32(plan.messageExpirySec)]);
  if (alias > 0) list.unshift([0x23, Buffer.from([alias >> 8, alias & 0xff])]);
  return properties(list);
}

/** What a CONNACK of MQTT 5 allows this client. */
export interface ServerLimits {
  readonly receiveMax: number;
  readonly topicAliasMax: number;
}

/** Reads the properties of a CONNACK body, which starts at `at`. */
export function readServerLimits(bytes: Uint8Array, at: number, end: number): ServerLimits {
  const limits = { receiveMax: 65_535, topicAliasMax: 0 };
  const uint16 = (from: number): number => (bytes[from] << 8) | bytes[from + 1];
  let start = at + 2;
  while (start < end && bytes[start] >= 0x80) start++;
  for (let i = start + 1; i < end;) {
    const id = bytes[i++];
    if (id === 0x21) limits.receiveMax = uint16(i);
    if (id === 0x22) limits.topicAliasMax = uint16(i);
    if (id === 0x11 || id === 0x27) i += 4;
    else if (id === 0x21 || id === 0x22 || id === 0x13) i += 2;
    else if (id === 0x24 || id === 0x25 || (id >= 0x28 && id <= 0x2a)) i += 1;
    else i += 2 + uint16(i);
    if (id === 0x26) i += 2 + uint16(i);
  }
  return limits;
}

type Property = readonly [id: number, value: Buffer];

function properties(list: readonly Property[]): Buffer {
  if (list.length === 0) return EMPTY_PROPERTIES;
  const all = Buffer.concat(list.flatMap(([id, value]) => [Buffer.from([id]), value]));
  return Buffer.concat([varint(all.length), all]);
}

function frame(first: number, parts: readonly Buffer[]): Buffer {
  const length = parts.reduce((sum, part) => sum + part.length, 0);
  return Buffer.concat([Buffer.from([first]), varint(length), ...parts]);
}

function text(value: string): Buffer {
  const bytes = Buffer.from(value);
  return Buffer.concat([Buffer.from([bytes.length >> 8, bytes.length & 0xff]), bytes]);
}

function uint32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value);
  return bytes;
}

function varint(value: number): Buffer {
  const bytes = Buffer.alloc(varintLength(value));
  writeVarint(bytes, 0, value);
  return bytes;
}
