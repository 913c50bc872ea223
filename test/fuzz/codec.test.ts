/**
 * The codec of src against the test suite's own: what one encodes the other reads, and of packets that are a little wrong
 * both say the same, whether they are well-formed.
 */
import { test } from "bun:test";
import fc from "fast-check";
import { MessageView } from "#core/message.ts";
import { isTopicName } from "#core/topic.ts";
import { acked, decodeAck, encodeAck, isAckReason } from "#mqtt/codec/ack.ts";
import { decodeConnect, encodeConnack } from "#mqtt/codec/connect.ts";
import { decodeAuth, decodeDisconnect, encodeAuth, encodeDisconnect } from "#mqtt/codec/disconnect.ts";
import { readFrame, varintLength, writeVarint } from "#mqtt/codec/frame.ts";
import type { Properties } from "#mqtt/codec/properties.ts";
import { decodePublish, published } from "#mqtt/codec/publish.ts";
import { decodeSubscribe, decodeUnsubscribe, encodeSuback } from "#mqtt/codec/subscribe.ts";
import { check } from "#test/support/fuzz.ts";
import { rounds } from "#test/support/level.ts";
import {
  arbitraryAck,
  arbitraryConnect,
  arbitraryDisconnect,
  arbitraryPublish,
  arbitrarySubscribe,
  arbitraryUnsubscribe,
  arbitraryVersion,
  mutated,
} from "#test/support/packet-arbitrary.ts";
import { decodePacket } from "#test/support/packet-decoder.ts";
import { encodePacket, hex, type Packet, type PacketInput, toHex, type Version } from "#test/support/packets.ts";
import { type Properties as WireProperties, Writer, writeProperties } from "#test/support/wire.ts";
import { connectVectors } from "#test/vectors/connect.ts";
import { otherVectors } from "#test/vectors/others.ts";
import { publishVectors } from "#test/vectors/publish.ts";

const runs = rounds(250, 3000, 20_000);
const wide = { topicBytesMax: 65_535, topicLevelsMax: 65_535 };

function same(what: string, actual: unknown, expected: unknown): void {
  if (!Bun.deepEquals(actual, expected))
    throw new Error(`${what}: ${Bun.inspect(actual)}, expected ${Bun.inspect(expected)}`);
}

interface Framed {
  bytes: Buffer;
  start: number;
  body: number;
  end: number;
}

/** The frame in the middle of other bytes, which a decoder must not touch. */
function framed(frame: Uint8Array): Framed {
  const bytes = Buffer.concat([Buffer.from([0xff, 0xff, 0xff]), frame, Buffer.from([0xff, 0xff])]);
  let body = 4;
  while (bytes[body++]! >= 0x80);
  return { bytes, start: 3, body, end: 3 + frame.length };
}

const plain = (value: unknown): unknown => (value instanceof Uint8Array ? Uint8Array.from(value) : value);
const NAMES: Record<string, string> = {
  messageExpiryIntervalSec: "messageExpirySec",
  sessionExpiryIntervalSec: "sessionExpirySec",
  willDelayIntervalSec: "willDelaySec",
  maximumPacketSizeBytes: "maximumPacketSize",
};

/** The test suite's list of properties as src has them. */
function asObject(list: WireProperties | undefined): Record<string, unknown> {
  const out: Record<string, unknown> = {};
  for (const [name, value] of list ?? []) {
    if (name === "userProperty") out["userProperties"] = [...((out["userProperties"] as unknown[]) ?? []), value];
    else
      out[NAMES[name] ?? name] =
        name === "responseTopic" ? Uint8Array.from(Buffer.from(value as string)) : plain(value);
  }
  return out;
}

const plainProperties = (properties: Properties): Record<string, unknown> =>
  Object.fromEntries(Object.entries(properties).map(([name, value]) => [name, plain(value)]));

test("variable byte integers and frame lengths", () => {
  const value = fc.oneof(
    fc.nat(300),
    fc.nat(268_435_455),
    fc.constantFrom(127, 128, 16_383, 16_384, 2_097_151, 2_097_152, 268_435_455),
  );
  const property = fc.property(value, fc.nat(4), (length, cut) => {
    const bytes = Buffer.alloc(6);
    const end = writeVarint(bytes, 1, length);
    same("length", end - 1, varintLength(length));
    same("frame", readFrame(bytes, 0, end), end + length);
    if (cut < end) same("cut", readFrame(bytes, 0, cut), -1);
  });
  check(property, runs);
});

test("CONNECT", () => {
  const cases = arbitraryVersion.chain((version) => fc.tuple(fc.constant(version), arbitraryConnect(version)));
  const property = fc.property(cases, ([version, packet]) => {
    const frame = encodePacket(packet, version);
    const { bytes, body, end } = framed(frame);
    const found = decodeConnect(bytes, body, end);
    if ("reasonCode" in found) throw new Error(`refused ${found.reasonCode}`);
    const wanted = decodePacket(frame, version) as Extract<Packet, { type: "connect" }>;
    same(
      "version",
      [found.version, found.isCleanStart, found.keepAliveSec],
      [version, wanted.cleanStart, wanted.keepAliveSec],
    );
    same(
      "who",
      [found.clientId.toString(), found.username, plain(found.password)],
      [wanted.clientId, wanted.username, wanted.password],
    );
    same("properties", plainProperties(found.properties), asObject(wanted.properties));
    same("has will", found.will === undefined, wanted.will === undefined);
    if (!found.will || !wanted.will) return;
    const { view } = found.will;
    const own = asObject(wanted.will.properties);
    same(
      "will",
      [view.topicText(), plain(view.payload()), view.qos, view.isRetain],
      [wanted.will.topic, wanted.will.payload, wanted.will.qos, wanted.will.retain],
    );
    same("delay", found.will.delaySec, own["willDelaySec"] ?? 0);
    same(
      "expiry",
      found.will.expirySec,
      own["messageExpirySec"] === undefined ? 0xffff_ffff : Math.min(own["messageExpirySec"] as number, 0xffff_fffe),
    );
    if (view.expiryStart >= 0) same("place", view.bytes.readUInt32BE(view.expiryStart), own["messageExpirySec"]);
  });
  check(property, runs);
});

test("PUBLISH", () => {
  const cases = arbitraryVersion.chain((version) => fc.tuple(fc.constant(version), arbitraryPublish(version)));
  const property = fc.property(cases, ([version, packet]) => {
    const frame = encodePacket(packet, version);
    const { bytes, start, body, end } = framed(frame);
    const view = new MessageView();
    same("fault", decodePublish(bytes, start, body, end, version === 5, view), 0);
    const wanted = decodePacket(frame, version) as Extract<Packet, { type: "publish" }>;
    same(
      "message",
      [view.topicText(), plain(view.payload()), view.qos, view.isRetain],
      [wanted.topic, wanted.payload, wanted.qos, wanted.retain],
    );
    same("rest", [published.packetId, published.isDup], [wanted.packetId ?? 0, wanted.dup]);
    const own = asObject(wanted.properties);
    same("alias", published.alias, own["topicAlias"] ?? -1);
    same("expiry", published.expirySec, own["messageExpirySec"] ?? -1);
    if (view.expiryStart >= 0) same("place", view.bytes.readUInt32BE(view.expiryStart), own["messageExpirySec"]);
    if (version !== 5) return;
    const passedOn = wanted.properties!.filter(([name]) => name !== "topicAlias");
    const list = view.bytes.subarray(view.propertiesStart, view.propertiesEnd);
    const writer = new Writer();
    writeProperties(writer, passedOn);
    same("passed on", toHex(list), toHex(writer.done().subarray(list.length > 127 ? 2 : 1)));
    same("guards", [bytes[0], bytes[2], bytes[end], bytes[end + 1]], [255, 255, 255, 255]);
  });
  check(property, runs);
});

test("SUBSCRIBE, UNSUBSCRIBE, acknowledgements and DISCONNECT", () => {
  const cases = arbitraryVersion.chain((version) =>
    fc.tuple(
      fc.constant(version),
      fc.oneof<fc.Arbitrary<PacketInput>[]>(
        arbitrarySubscribe(version),
        arbitraryUnsubscribe(version),
        arbitraryAck(version),
        arbitraryDisconnect(version),
      ),
    ),
  );
  const property = fc.property(cases, ([version, packet]) => {
    const frame = encodePacket(packet, version);
    const wanted = decodePacket(frame, version);
    const { bytes, body, end } = framed(frame);
    const isV5 = version === 5;
    if (wanted.type === "subscribe") {
      const found = decodeSubscribe(bytes, body, end, isV5);
      if (typeof found === "number") throw new Error(`fault ${found}`);
      same("id", found.packetId, wanted.packetId);
      const id = asObject(wanted.properties)["subscriptionIdentifier"] ?? 0;
      same(
        "items",
        found.items.map((item) => [item.filter.toString(), item.options & 3, item.id]),
        wanted.subscriptions.map((each) => [each.filter, each.qos, id]),
      );
      same(
        "options",
        found.items.map((item) => item.options >> 2),
        wanted.subscriptions.map(
          (each) => (each.noLocal ? 1 : 0) | (each.retainAsPublished ? 2 : 0) | ((each.retainHandling ?? 0) << 2),
        ),
      );
    } else if (wanted.type === "unsubscribe") {
      const found = decodeUnsubscribe(bytes, body, end, isV5);
      if (typeof found === "number") throw new Error(`fault ${found}`);
      same("filters", [found.packetId, ...found.filters.map(String)], [wanted.packetId, ...wanted.filters]);
    } else if (wanted.type === "disconnect") {
      const found = decodeDisconnect(bytes, body, end, isV5);
      if (typeof found === "number") throw new Error(`fault ${found}`);
      same(
        "reason",
        [found.reasonCode, plainProperties(found.properties)],
        [wanted.reasonCode ?? 0, asObject(wanted.properties)],
      );
    } else {
      same("fault", decodeAck(bytes, body, end, isV5), 0);
      same(
        "ack",
        [acked.packetId, acked.reasonCode],
        [(wanted as { packetId: number }).packetId, (wanted as { reasonCode?: number }).reasonCode ?? 0],
      );
    }
  });
  check(property, runs);
});

test("CONNACK, acknowledgements, SUBACK, UNSUBACK, DISCONNECT and AUTH as src writes them", () => {
  const string = fc.string({ unit: "binary", maxLength: 5 }).map((each) => each.replaceAll("\0", ""));
  const properties = fc.record(
    { reasonString: string, userProperties: fc.array(fc.tuple(string, string), { minLength: 1, maxLength: 2 }) },
    { requiredKeys: [] },
  );
  const connack = fc.record(
    {
      sessionExpirySec: fc.nat(),
      receiveMaximum: fc.integer({ min: 1, max: 65_535 }),
      maximumQos: fc.nat(1),
      retainAvailable: fc.nat(1),
      maximumPacketSize: fc.integer({ min: 1 }),
      assignedClientIdentifier: string,
      topicAliasMaximum: fc.nat(65_535),
      serverKeepAliveSec: fc.nat(65_535),
      responseInformation: string,
      serverReference: string,
    },
    { requiredKeys: [] },
  );
  const id = fc.integer({ min: 1, max: 65_535 });
  const property = fc.property(
    properties,
    connack,
    id,
    fc.array(fc.constantFrom(0, 0x80, 0x87, 0x8f), { minLength: 1, maxLength: 200 }),
    (list, more, packetId, codes) => {
      const read = (frame: Buffer, version: Version = 5): Record<string, unknown> =>
        decodePacket(frame, version) as never;
      const all = { ...list, ...more };
      const accepted = read(encodeConnack(5, true, 0, all));
      same(
        "connack",
        [accepted["sessionPresent"], accepted["reasonCode"], asObject(accepted["properties"] as never)],
        [true, 0, all],
      );
      same("refused", read(encodeConnack(5, true, 0x87, {})), {
        type: "connack",
        sessionPresent: false,
        reasonCode: 0x87,
        properties: [],
      });
      same("connack 3", read(encodeConnack(4, true, 0, all), 4), {
        type: "connack",
        sessionPresent: true,
        reasonCode: 0,
      });
      for (const [type, number] of [
        ["puback", 4],
        ["pubrec", 5],
        ["pubrel", 6],
        ["pubcomp", 7],
      ] as const) {
        for (const reasonCode of number < 6 ? [0, 0x10, 0x97] : [0, 0x92]) {
          const out = Buffer.alloc(8);
          const end = encodeAck(out, 1, number, packetId, reasonCode);
          same(type, read(out.subarray(1, end)), { type, packetId, reasonCode, properties: [] });
        }
      }
      same("suback", read(encodeSuback(9, packetId, Uint8Array.from(codes), 5)), {
        type: "suback",
        packetId,
        properties: [],
        reasonCodes: codes,
      });
      same("unsuback 3", read(encodeSuback(11, packetId, new Uint8Array(0), 4), 4), { type: "unsuback", packetId });
      const left = read(encodeDisconnect(0x8b, list));
      same("disconnect", [left["reasonCode"], asObject(left["properties"] as never)], [0x8b, list]);
      const auth = { ...list, authenticationMethod: "M" };
      const step = read(encodeAuth(0x18, auth));
      same("auth", [step["reasonCode"], asObject(step["properties"] as never)], [0x18, auth]);
    },
  );
  check(property, runs);
});

/** True when src finds the packet well-formed, as far as that can be said without a connection. */
function isSound(frame: Uint8Array, version: Version): boolean {
  const { bytes, start, body, end } = framed(frame);
  const [type, flags] = [frame[0]! >> 4, frame[0]! & 15];
  const isV5 = version === 5;
  const needed = type === 6 || type === 8 || type === 10 ? 2 : 0;
  if (type !== 3 && flags !== needed && !(version === 3 && needed === 2 && (flags & ~8) === needed)) return false;
  if (type === 1) return !("reasonCode" in decodeConnect(bytes, body, end));
  if (type === 3) return isSoundPublish(bytes, start, body, end, isV5);
  if (type >= 4 && type <= 7) return decodeAck(bytes, body, end, isV5) === 0 && isAckReason(type, acked.reasonCode);
  if (type === 8) return typeof decodeSubscribe(bytes, body, end, isV5) !== "number";
  if (type === 10) return typeof decodeUnsubscribe(bytes, body, end, isV5) !== "number";
  if (type === 14) return typeof decodeDisconnect(bytes, body, end, isV5) !== "number";
  return typeof decodeAuth(bytes, body, end) !== "number";
}

function isSoundPublish(bytes: Buffer, start: number, body: number, end: number, isV5: boolean): boolean {
  const view = new MessageView();
  if (decodePublish(bytes, start, body, end, isV5, view) !== 0) return false;
  const isByAlias = view.topicStart === view.topicEnd && published.alias > 0;
  return isByAlias || isTopicName(view.bytes, view.topicStart, view.topicEnd, wide);
}

/** What the strict decoder of the tests does not judge, or judges for a broker's packets too. */
function isDisputed(frame: Uint8Array, version: Version, packet: Packet | undefined): boolean {
  const type = frame[0]! >> 4;
  if (frame[1]! >= 0x80 && frame[frame.findIndex((byte, i) => i > 0 && byte < 0x80)] === 0) return true; // the connection's affair
  if (type === 2 || type === 9 || type === 0 || (type > 10 && type < 14)) return true; // not a client's, or without body
  if (type === 15 && version !== 5) return true;
  if (type === 1 && packet && "protocolLevel" in packet && (packet.protocolLevel & 0x7f) !== version) return true;
  if (type === 15 && frame.length === 3) return true; // a reason without properties
  if (
    packet?.type === "publish" &&
    /[+#]/.test(String(packet.properties?.find(([name]) => name === "responseTopic")?.[1]))
  )
    return true;
  if (packet?.type === "publish" && packet.properties?.some(([name]) => name === "subscriptionIdentifier")) return true;
  if (packet?.type === "disconnect" && (packet.reasonCode ?? 0) > 0x84) return true;
  if (packet?.type === "disconnect" && packet.properties?.some(([name]) => name === "serverReference")) return true;
  if (
    packet?.type === "subscribe" &&
    packet.subscriptions.some(({ filter, noLocal }) => noLocal && /^\$(share|queue)/.test(filter))
  )
    return true;
  return false;
}

test("a packet that is a little wrong: src and the strict decoder agree whether it is well-formed", () => {
  const seeds = [...connectVectors, ...publishVectors, ...otherVectors];
  const fromVectors = fc
    .constantFrom(...seeds)
    .chain((vector) => fc.tuple(fc.constantFrom(...vector.versions), mutated(fc.constant(hex(vector.hex)))));
  const fromPackets = arbitraryVersion.chain((version) => {
    const any = fc.oneof<fc.Arbitrary<PacketInput>[]>(
      arbitraryConnect(version),
      arbitraryPublish(version),
      arbitrarySubscribe(version),
      arbitraryUnsubscribe(version),
      arbitraryAck(version),
      arbitraryDisconnect(version),
    );
    return fc.tuple(fc.constant(version), mutated(any.map((packet) => encodePacket(packet, version))));
  });
  const property = fc.property(fc.oneof(fromVectors, fromPackets), ([version, frame]) => {
    if (readFrame(frame, 0, frame.length) !== frame.length) return;
    let packet: Packet | undefined;
    let why = "well-formed";
    try {
      packet = decodePacket(frame, version);
    } catch (error) {
      why = (error as Error).message;
    }
    if (isDisputed(frame, version, packet) || why.includes("empty topic filter")) return; // one code in SUBACK, not a fault
    if (isSound(frame, version) !== (packet !== undefined))
      throw new Error(`${version} ${toHex(frame)}: the tests say ${why}`);
  });
  check(property, rounds(3000, 20_000, 200_000));
});
