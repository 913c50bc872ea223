/** Random packets a client may send, well-formed as far as the specification goes, for the encoder of packets.ts. */
import fc from "fast-check";
import type { PacketInput, PacketInputOf, Properties, PropertyName, Version } from "./packets.ts";

type Arbitrary<T> = fc.Arbitrary<T>;

/** Text without U+0000 and lone surrogates. */
const text = (maxLength = 6): Arbitrary<string> =>
  fc.string({ unit: "binary", maxLength }).map((each) => each.replaceAll("\0", ""));
const bytes = (maxLength = 8): Arbitrary<Uint8Array> => fc.uint8Array({ maxLength });
const packetId = fc.oneof(fc.integer({ min: 1, max: 4 }), fc.integer({ min: 1, max: 65_535 }));
const u16 = fc.integer({ min: 1, max: 65_535 });
const u32 = fc.integer({ min: 0, max: 0xffff_ffff });
const level = fc.constantFrom("", "a", "b", "$x", "ü");
const topic = fc
  .array(level, { minLength: 1, maxLength: 3 })
  .map((levels) => levels.join("/"))
  .filter((name) => name !== "");
const filter = fc
  .tuple(
    fc.constantFrom("", "", "", "$share/g/", "$queue/"),
    fc.array(fc.constantFrom("a", "b", "+"), { maxLength: 2 }),
    fc.boolean(),
  )
  .map(([share, levels, isOpen]) => share + [...levels, isOpen ? "#" : "c"].join("/"));

const VALUES: Partial<Record<PropertyName, Arbitrary<number | string | Uint8Array>>> = {
  payloadFormatIndicator: fc.nat(1),
  messageExpiryIntervalSec: u32,
  contentType: text(),
  responseTopic: topic,
  correlationData: bytes(),
  subscriptionIdentifier: fc.oneof(fc.integer({ min: 1, max: 200 }), fc.integer({ min: 1, max: 268_435_455 })),
  sessionExpiryIntervalSec: u32,
  willDelayIntervalSec: u32,
  receiveMaximum: u16,
  maximumPacketSizeBytes: fc.integer({ min: 200, max: 0xffff_ffff }),
  topicAliasMaximum: fc.nat(65_535),
  topicAlias: fc.integer({ min: 1, max: 32 }),
  requestProblemInformation: fc.nat(1),
  requestResponseInformation: fc.nat(1),
  reasonString: text(),
};

/** Some of these properties in any order, and user properties. */
function properties(names: PropertyName[]): Arbitrary<Properties> {
  const some = fc
    .shuffledSubarray(names)
    .chain((chosen) =>
      fc.tuple(...chosen.map((name) => VALUES[name]!.map((value) => [name, value] as [PropertyName, typeof value]))),
    );
  const pairs = fc.array(fc.tuple(text(3), text(3)), { maxLength: 2 });
  return fc.tuple(some, pairs, fc.boolean()).map(([own, users, isFirst]) => {
    const list = users.map((pair) => ["userProperty", pair] as Properties[number]);
    return isFirst ? [...list, ...own] : [...own, ...list];
  });
}

const MESSAGE: PropertyName[] = [
  "payloadFormatIndicator",
  "messageExpiryIntervalSec",
  "contentType",
  "responseTopic",
  "correlationData",
];
const CONNECT: PropertyName[] = [
  "sessionExpiryIntervalSec",
  "receiveMaximum",
  "maximumPacketSizeBytes",
  "topicAliasMaximum",
  "requestProblemInformation",
  "requestResponseInformation",
];

/** With properties in 5.0, without them in 3.x. */
function withProperties<T extends object>(
  version: Version,
  names: PropertyName[],
  fields: Arbitrary<T>,
): Arbitrary<T & { properties?: Properties }> {
  if (version !== 5) return fields;
  return fc.tuple(fields, properties(names)).map(([own, list]) => ({ ...own, properties: list }));
}

export function arbitraryConnect(version: Version): Arbitrary<PacketInputOf<"connect">> {
  const will = withProperties(
    version,
    [...MESSAGE, "willDelayIntervalSec"],
    fc.record({ topic, payload: bytes(), qos: fc.nat(2), retain: fc.boolean() }),
  );
  const fields = fc.record({
    cleanStart: version === 3 ? fc.constant(true) : fc.boolean(),
    keepAliveSec: fc.nat(65_535),
    clientId: text(12).map((id) => `c${id}`),
    will: fc.option(will, { nil: undefined }),
    username: fc.option(text(), { nil: undefined }),
    password: fc.option(bytes(), { nil: undefined }),
  });
  return withProperties(version, CONNECT, fields).map(({ will: kept, username, password, ...rest }) => ({
    type: "connect",
    ...rest,
    ...(kept && { will: kept }),
    ...(username !== undefined && { username }),
    ...(password !== undefined && (version === 5 || username !== undefined) && { password }),
  }));
}

export function arbitraryPublish(version: Version): Arbitrary<PacketInputOf<"publish">> {
  const fields = fc.record({
    topic,
    payload: bytes(20),
    qos: fc.nat(2),
    retain: fc.boolean(),
    dup: fc.boolean(),
    packetId,
  });
  return withProperties(version, [...MESSAGE, "topicAlias"], fields).map(({ packetId: id, ...rest }) => ({
    type: "publish",
    ...rest,
    dup: rest.dup && rest.qos > 0,
    ...(rest.qos > 0 && { packetId: id }),
  }));
}

export function arbitraryAck(version: Version): Arbitrary<PacketInput> {
  const type = fc.constantFrom("puback", "pubrec", "pubrel", "pubcomp");
  if (version !== 5) return fc.record({ type, packetId }) as Arbitrary<PacketInput>;
  const reason = fc.constantFrom(0, 1, 2).chain((count) => (count === 0 ? fc.constant({}) : withReason(count === 2)));
  return fc.tuple(type, packetId, reason).map(([name, id, rest]) => {
    const isLate = name === "pubrel" || name === "pubcomp";
    const code = "reasonCode" in rest ? { reasonCode: isLate && rest.reasonCode !== 0 ? 0x92 : rest.reasonCode } : {};
    return { type: name, packetId: id, ...rest, ...code } as PacketInput;
  });
}

function withReason(hasProperties: boolean): Arbitrary<{ reasonCode: number }> {
  const fields = fc.record({ reasonCode: fc.constantFrom(0, 0x80, 0x97) });
  return hasProperties ? withProperties(5, ["reasonString"], fields) : fields;
}

export function arbitrarySubscribe(version: Version): Arbitrary<PacketInputOf<"subscribe">> {
  const subscription = fc
    .record({
      filter,
      qos: fc.nat(2),
      noLocal: fc.boolean(),
      retainAsPublished: fc.boolean(),
      retainHandling: fc.nat(2),
    })
    .map(({ filter: name, qos, ...options }) => {
      if (version !== 5) return { filter: name, qos };
      return { filter: name, qos, ...options, noLocal: options.noLocal && !/^\$(share|queue)/.test(name) };
    });
  const fields = fc.record({ packetId, subscriptions: fc.array(subscription, { minLength: 1, maxLength: 4 }) });
  return withProperties(version, ["subscriptionIdentifier"], fields).map((rest) => ({ type: "subscribe", ...rest }));
}

export function arbitraryUnsubscribe(version: Version): Arbitrary<PacketInputOf<"unsubscribe">> {
  const fields = fc.record({ packetId, filters: fc.array(filter, { minLength: 1, maxLength: 4 }) });
  return withProperties(version, [], fields).map((rest) => ({ type: "unsubscribe", ...rest }));
}

export function arbitraryDisconnect(version: Version): Arbitrary<PacketInputOf<"disconnect">> {
  if (version !== 5) return fc.constant({ type: "disconnect" });
  const fields = fc.record({ reasonCode: fc.constantFrom(0, 4, 0x80, 0x81, 0x97) });
  return fc
    .oneof(fc.constant({}), fields, withProperties(5, ["reasonString"], fields))
    .map((rest) => ({ type: "disconnect", ...rest }));
}

/** Anything a client sends on an open connection but DISCONNECT. */
export function arbitraryPacket(version: Version): Arbitrary<PacketInput> {
  return fc.oneof(
    { weight: 4, arbitrary: arbitraryPublish(version) as Arbitrary<PacketInput> },
    { weight: 2, arbitrary: arbitraryAck(version) },
    { weight: 3, arbitrary: arbitrarySubscribe(version) as Arbitrary<PacketInput> },
    { weight: 1, arbitrary: arbitraryUnsubscribe(version) as Arbitrary<PacketInput> },
    { weight: 1, arbitrary: fc.constant({ type: "pingreq" as const }) },
  );
}

export const arbitraryVersion: Arbitrary<Version> = fc.constantFrom<Version>(3, 4, 5);

/** Frames whose body has been changed a little while their length stays true, so that more than the header is tried. */
export function mutated(frame: Arbitrary<Uint8Array>): Arbitrary<Uint8Array> {
  const byte = fc.oneof(fc.nat(255), fc.constantFrom(0, 1, 2, 0x7f, 0x80, 0xff));
  const change = fc.record({
    at: fc.double({ min: 0, max: 1, noNaN: true }),
    removed: fc.nat(2),
    added: fc.array(byte, { maxLength: 2 }),
  });
  return fc
    .tuple(frame, fc.array(change, { minLength: 1, maxLength: 3 }), fc.boolean())
    .map(([original, changes, isHeaderKept]) => {
      let head = 1;
      while (original[head++]! >= 0x80);
      const body = [...original.subarray(head)];
      for (const { at, removed, added } of changes) body.splice(Math.floor(at * body.length), removed, ...added);
      if (isHeaderKept || body.length > 16_383) return Uint8Array.from([...original.subarray(0, head), ...body]);
      const length = body.length < 128 ? [body.length] : [(body.length & 127) | 128, body.length >> 7];
      return Uint8Array.from([original[0]!, ...length, ...body]);
    });
}
