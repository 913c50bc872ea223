/**
 * A packet of either direction as a plain object, for people who trace: what the wire says, whether or not the broker accepts it.
 *
 * Byte fields are views of the packet. The password of a CONNECT is left out and authentication data is told by its length.
 */
import { MessageView } from "#core/message.ts";
import { decodeConnect } from "./connect.ts";
import {
  AUTH,
  CONNACK,
  CONNECT,
  DISCONNECT,
  PUBACK,
  PUBCOMP,
  PUBLISH,
  PUBREC,
  PUBREL,
  SUBACK,
  SUBSCRIBE,
  UNSUBACK,
  UNSUBSCRIBE,
} from "./frame.ts";
import { allProperties, type Properties, readProperties, readPropertiesUntil } from "./properties.ts";
import { decodePublish, published } from "./publish.ts";
import { Reader } from "./reader.ts";
import { decodeSubscribe, decodeUnsubscribe } from "./subscribe.ts";

export interface PacketRecord {
  /** As the specification writes it: `PUBLISH`. */
  readonly type: string;
  /** Of the whole packet; undefined where it is not at hand. */
  readonly bytes?: number;
  /** What the type has, in the order of the packet. */
  readonly fields: Readonly<Record<string, unknown>>;
  /** Of PUBLISH. */
  readonly topic?: string;
  readonly payload?: Buffer;
  /** Of SUBSCRIBE and UNSUBSCRIBE. */
  readonly filters?: readonly string[];
  /** Of CONNECT. */
  readonly clientId?: string;
}

const NAMES = (
  "type-0 CONNECT CONNACK PUBLISH PUBACK PUBREC PUBREL PUBCOMP SUBSCRIBE SUBACK UNSUBSCRIBE UNSUBACK " +
  "PINGREQ PINGRESP DISCONNECT AUTH"
).split(" ");
/** What stands in `fields` when the packet breaks the protocol. */
const malformed = { isMalformed: true };

const view = new MessageView();

/** The whole packet in [start, end). `version` is 3, 4 or 5; 0 before CONNECT. */
export function describePacket(bytes: Buffer, start: number, end: number, version: number): PacketRecord {
  let body = start + 1;
  while (body < end && bytes[body++] >= 0x80);
  const type = bytes[start] >> 4;
  const whole = { type: NAMES[type], bytes: end - start };
  const isV5 = version === 5;
  switch (type) {
    case CONNECT:
      return { ...whole, ...connect(bytes, body, end) };
    case PUBLISH:
      if (decodePublish(bytes, start, body, end, isV5, view) !== 0) return { ...whole, fields: malformed };
      return { ...whole, ...describePublish(view, published.packetId, bytes[start] & 15, published.alias) };
    case SUBSCRIBE:
      return { ...whole, ...subscribe(bytes, body, end, isV5) };
    case UNSUBSCRIBE: {
      const packet = decodeUnsubscribe(bytes, body, end, isV5);
      if (typeof packet === "number") return { ...whole, fields: malformed };
      const filters = packet.filters.map(String);
      return { ...whole, filters, fields: { packetId: packet.packetId, filters } };
    }
    default:
      return { ...whole, fields: answer(type, new Reader(bytes, body, end), isV5) };
  }
}

/** A PUBLISH that is sent, or has been decoded. `flags` is the low half of its first byte; `alias` −1 for none. */
export function describePublish(
  view: MessageView,
  packetId: number,
  flags: number,
  alias = -1,
): Pick<PacketRecord, "fields" | "topic" | "payload"> {
  const reader = new Reader(view.bytes, view.propertiesStart, view.propertiesEnd);
  const properties = view.isV5 ? shown(readPropertiesUntil(reader, allProperties, view.propertiesEnd)) : {};
  const ids = view.idCount > 0 ? { subscriptionIdentifiers: [...view.ids.subarray(0, view.idCount)] } : {};
  return {
    topic: view.topicText(),
    payload: view.bytes.subarray(view.payloadStart, view.payloadEnd),
    fields: {
      ...(packetId > 0 && { packetId }),
      qos: (flags >> 1) & 3,
      ...((flags & 8) !== 0 && { isDup: true }),
      ...((flags & 1) !== 0 && { isRetain: true }),
      ...(alias >= 0 && { topicAlias: alias }),
      ...properties,
      ...ids,
    },
  };
}

function connect(bytes: Buffer, body: number, end: number): Pick<PacketRecord, "fields" | "clientId"> {
  const packet = decodeConnect(bytes, body, end);
  if ("reasonCode" in packet) return { fields: malformed };
  const { version, isBridge, isCleanStart, keepAliveSec, will, username, password, properties } = packet;
  const clientId = packet.clientId.toString();
  return {
    clientId,
    fields: {
      version,
      clientId,
      ...(username !== undefined && { username }),
      ...(password !== undefined && { hasPassword: true }),
      isCleanStart,
      keepAliveSec,
      ...(isBridge && { isBridge }),
      ...shown(properties),
      ...(will && {
        will: {
          topic: will.topic.toString(),
          qos: will.view.qos,
          isRetain: will.view.isRetain,
          payloadBytes: will.view.payloadEnd - will.view.payloadStart,
          ...(will.delaySec > 0 && { delaySec: will.delaySec }),
        },
      }),
    },
  };
}

function subscribe(bytes: Buffer, body: number, end: number, isV5: boolean): Pick<PacketRecord, "fields" | "filters"> {
  const packet = decodeSubscribe(bytes, body, end, isV5);
  if (typeof packet === "number") return { fields: malformed };
  const id = packet.items[0]?.id ?? 0;
  const filters = packet.items.map(({ filter, options }) => ({
    filter: filter.toString(),
    qos: options & 3,
    ...((options & 4) !== 0 && { isNoLocal: true }),
    ...((options & 8) !== 0 && { isRetainAsPublished: true }),
    ...((options & 0x30) !== 0 && { retainHandling: (options >> 4) & 3 }),
  }));
  return {
    filters: filters.map(({ filter }) => filter),
    fields: { packetId: packet.packetId, ...(id > 0 && { subscriptionIdentifier: id }), filters },
  };
}

/** The packets that have neither topics nor filters. */
function answer(type: number, reader: Reader, isV5: boolean): Record<string, unknown> {
  const fields: Record<string, unknown> = {};
  const properties = (): void => {
    if (isV5 && reader.left > 0) Object.assign(fields, shown(readProperties(reader, allProperties)));
  };
  if (type === CONNACK) {
    fields.isSessionPresent = (reader.byte() & 1) !== 0;
    fields.reasonCode = reader.byte();
    properties();
  } else if (type === SUBACK || type === UNSUBACK) {
    fields.packetId = reader.uint16();
    properties();
    if (reader.left > 0) fields.reasonCodes = [...reader.bytes.subarray(reader.at, reader.end)];
    reader.at = reader.end;
  } else if (type === PUBACK || type === PUBREC || type === PUBREL || type === PUBCOMP) {
    fields.packetId = reader.uint16();
    if (isV5) fields.reasonCode = reader.left > 0 ? reader.byte() : 0;
    properties();
  } else if ((type === DISCONNECT || type === AUTH) && isV5) {
    fields.reasonCode = reader.left > 0 ? reader.byte() : 0;
    properties();
  }
  return reader.fault === 0 && reader.left === 0 ? fields : malformed;
}

/** Properties as they may be shown. */
function shown({ authenticationData, correlationData, responseTopic, ...plain }: Properties): Record<string, unknown> {
  return {
    ...plain,
    ...(authenticationData && { authenticationDataBytes: authenticationData.length }),
    ...(correlationData && { correlationData: correlationData.toString("hex") }),
    ...(responseTopic && { responseTopic: responseTopic.toString() }),
  };
}
