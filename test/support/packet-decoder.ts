// Bytes to the plain objects of packets.ts, strictly: anything the specification calls malformed throws an Error that says
// what and where, so that a test notices a broker's bad byte that it did not look for. Both directions and all types.
// Independent of src/, see wire.ts.

import { hex, prop, toHex, TYPES } from "./packets.ts";
import type {
  ConnackPacket,
  ConnectPacket,
  Packet,
  PacketType,
  Properties,
  PublishPacket,
  SubscribePacket,
  Subscription,
  Version,
} from "./packets.ts";
import { Reader, readProperties } from "./wire.ts";

/** 5.0 only; 3.x has its own few. */
const REASON_CODES = {
  connack: "00 80 81 82 83 84 85 86 87 88 89 8a 8c 90 95 97 99 9a 9b 9c 9d 9f",
  puback: "00 10 80 83 87 90 91 97 99",
  pubrec: "00 10 80 83 87 90 91 97 99",
  pubrel: "00 92",
  pubcomp: "00 92",
  suback: "00 01 02 80 83 87 8f 91 97 9e a1 a2",
  unsuback: "00 11 80 83 87 8f 91",
  disconnect: "00 04 80 81 82 83 87 89 8b 8c 8d 8e 8f 90 93 94 95 96 97 98 99 9a 9b 9c 9d 9e 9f a0 a1 a2",
  auth: "00 18 19",
};

/** The length of the first frame in `bytes`, or undefined while its header or body is incomplete. */
export function frameLength(bytes: Uint8Array): number | undefined {
  const header = bytes.subarray(1, 5);
  const isLengthComplete = header.length === 4 || header.some((byte) => byte < 0x80);
  if (!isLengthComplete) return undefined;
  const reader = new Reader(header);
  const remaining = reader.varint("remaining length");
  const length = 1 + (header.length - reader.left) + remaining;
  return bytes.length < length ? undefined : length;
}

/** Decodes exactly one packet. For CONNECT the version is read from the packet. */
export function decodePacket(bytes: Uint8Array, version: Version): Packet {
  const type = TYPES[(bytes[0] ?? 0) >> 4];
  try {
    if (type === undefined) throw new Error("packet type 0");
    const reader = new Reader(bytes);
    const flags = reader.u8("first byte") & 0x0f;
    const remaining = reader.varint("remaining length");
    if (remaining !== reader.left) throw new Error(`remaining length ${remaining}, but ${reader.left} bytes follow`);
    checkFlags(type, flags, version);
    const packet = readBody(reader, type, flags, version);
    reader.end();
    return packet;
  } catch (error) {
    const shown = toHex(bytes.subarray(0, 200));
    throw new Error(`malformed ${type ?? "packet"}: ${(error as Error).message} [${shown}]`);
  }
}

function checkFlags(type: PacketType, flags: number, version: Version): void {
  if (type === "publish") return;
  const hasTwo = type === "pubrel" || type === "subscribe" || type === "unsubscribe";
  // 3.1 gives these three a QoS of 1 and lets a repeated one carry DUP.
  const expected = hasTwo ? (version === 3 ? flags & 8 : 0) | 2 : 0;
  if (flags !== expected) throw new Error(`fixed header flags are ${flags}, not ${expected}`);
}

function readBody(reader: Reader, type: PacketType, flags: number, version: Version): Packet {
  switch (type) {
    case "connect":
      return readConnect(reader);
    case "connack":
      return readConnack(reader, version);
    case "publish":
      return readPublish(reader, flags, version);
    case "subscribe":
      return readSubscribe(reader, version);
    case "unsubscribe": {
      const head = { packetId: readPacketId(reader), ...propertiesIf5(reader, type, version) };
      return { type, ...head, filters: readList(reader, () => readFilter(reader)) };
    }
    case "suback": {
      const head = { packetId: readPacketId(reader), ...propertiesIf5(reader, type, version) };
      return { type, ...head, reasonCodes: readList(reader, () => readReasonCode(reader, type, version)) };
    }
    case "unsuback": {
      const head = { packetId: readPacketId(reader), ...propertiesIf5(reader, type, version) };
      if (version !== 5) return { type, ...head };
      return { type, ...head, reasonCodes: readList(reader, () => readReasonCode(reader, type, version)) };
    }
    case "pingreq":
    case "pingresp":
      return { type };
    case "disconnect":
      return { type, ...readReason(reader, type, version) };
    case "auth":
      if (version !== 5) throw new Error("AUTH exists in 5.0 only");
      if (reader.left === 1) throw new Error("a reason code without properties"); // only 0 bytes or both, 3.15.2.1
      return { type, ...readReason(reader, type, version) };
    default:
      return { type, packetId: readPacketId(reader), ...readReason(reader, type, version) };
  }
}

function propertiesIf5(
  reader: Reader,
  type: Exclude<PacketType, "pingreq" | "pingresp">,
  version: Version,
): { properties?: Properties } {
  return version === 5 ? { properties: readProperties(reader, type) } : {};
}

function readPacketId(reader: Reader): number {
  const packetId = reader.u16("packet identifier");
  if (packetId === 0) throw new Error("packet identifier 0");
  return packetId;
}

function readList<T>(reader: Reader, read: () => T): T[] {
  const list: T[] = [];
  do list.push(read());
  while (reader.left > 0);
  return list;
}

function readReasonCode(reader: Reader, type: keyof typeof REASON_CODES, version: Version): number {
  const code = reader.u8("reason code");
  const v3 = type === "connack" ? "00 01 02 03 04 05" : version === 3 ? "00 01 02" : "00 01 02 80";
  const allowed = hex(version === 5 ? REASON_CODES[type] : v3);
  if (!allowed.includes(code)) throw new Error(`reason code 0x${toHex(Uint8Array.of(code))} is not allowed here`);
  return code;
}

function readReason(reader: Reader, type: Exclude<keyof typeof REASON_CODES, "connack">, version: Version) {
  if (version !== 5) return {};
  const reasonCode = reader.left > 0 ? readReasonCode(reader, type, version) : 0;
  const properties = reader.left > 0 ? readProperties(reader, type) : [];
  return { reasonCode, properties };
}

function readConnack(reader: Reader, version: Version): ConnackPacket {
  const flags = reader.u8("acknowledge flags");
  if (flags > (version === 3 ? 0 : 1)) throw new Error(`acknowledge flags are ${flags}`);
  const reasonCode = readReasonCode(reader, "connack", version);
  if (flags === 1 && reasonCode !== 0) throw new Error("session present with a refusal");
  return { type: "connack", sessionPresent: flags === 1, reasonCode, ...propertiesIf5(reader, "connack", version) };
}

function readPublish(reader: Reader, flags: number, version: Version): PublishPacket {
  const qos = (flags >> 1) & 3;
  const head = { dup: (flags & 8) !== 0, qos, retain: (flags & 1) !== 0 };
  if (qos === 3) throw new Error("QoS 3");
  if (qos === 0 && head.dup) throw new Error("DUP with QoS 0");
  const topic = reader.text("topic");
  if (/[+#]/.test(topic)) throw new Error(`topic with a wildcard: ${topic}`);
  const packetId = qos > 0 ? { packetId: readPacketId(reader) } : {};
  const properties = propertiesIf5(reader, "publish", version);
  if (topic === "" && prop(properties, "topicAlias") === undefined) throw new Error("empty topic without alias");
  return { type: "publish", ...head, topic, ...packetId, ...properties, payload: reader.rest() };
}

function readFilter(reader: Reader): string {
  const filter = reader.text("topic filter");
  if (filter === "") throw new Error("empty topic filter");
  return filter;
}

function readSubscribe(reader: Reader, version: Version): SubscribePacket {
  const head = { packetId: readPacketId(reader), ...propertiesIf5(reader, "subscribe", version) };
  const subscriptions = readList(reader, (): Subscription => {
    const filter = readFilter(reader);
    const options = reader.u8("subscription options");
    const qos = options & 3;
    if (qos === 3) throw new Error("QoS 3");
    if (version !== 5 ? options > 2 : options >= 0x30)
      throw new Error(`subscription options 0x${options.toString(16)}`);
    if (version !== 5) return { filter, qos };
    return {
      filter,
      qos,
      noLocal: (options & 4) !== 0,
      retainAsPublished: (options & 8) !== 0,
      retainHandling: options >> 4,
    };
  });
  return { type: "subscribe", ...head, subscriptions };
}

function readConnect(reader: Reader): ConnectPacket {
  const protocolName = reader.text("protocol name");
  const protocolLevel = reader.u8("protocol level");
  const version = protocolLevel & 0x7f; // the high bit marks a bridge
  if (protocolName !== (version === 3 ? "MQIsdp" : "MQTT") || version < 3 || version > 5) {
    throw new Error(`protocol ${protocolName} level ${protocolLevel}`);
  }
  const flags = reader.u8("connect flags");
  const has = (bit: number) => (flags & bit) !== 0;
  if (has(0x01)) throw new Error("reserved connect flag is set");
  if (!has(0x04) && has(0x38)) throw new Error("will QoS or retain without a will");
  if ((flags & 0x18) === 0x18) throw new Error("will QoS 3");
  if (version < 5 && has(0x40) && !has(0x80)) throw new Error("password without user name");
  const keepAliveSec = reader.u16("keep alive");
  const properties = propertiesIf5(reader, "connect", version as Version);
  const clientId = reader.text("client identifier");
  const packet: ConnectPacket = {
    type: "connect",
    protocolName,
    protocolLevel,
    cleanStart: has(0x02),
    keepAliveSec,
    ...properties,
    clientId,
  };
  if (has(0x04)) {
    const willProperties = version === 5 ? { properties: readProperties(reader, "will") } : {};
    const message = { topic: reader.text("will topic"), payload: reader.binary("will payload") };
    packet.will = { ...message, qos: (flags >> 3) & 3, retain: has(0x20), ...willProperties };
  }
  if (has(0x80)) packet.username = reader.text("user name");
  if (has(0x40)) packet.password = reader.binary("password");
  return packet;
}
