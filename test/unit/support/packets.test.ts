import { describe, expect, test } from "bun:test";
import { decodePacket, frameLength } from "#test/support/packet-decoder.ts";
import { encodePacket, hex, prop, props, toHex } from "#test/support/packets.ts";
import type { Packet, PacketInput, Properties, Version } from "#test/support/packets.ts";

/** Bytes written by hand from the specifications' tables, and what they mean. Checked both ways. */
const vectors: [version: Version, bytes: string, packet: Packet][] = [
  [
    3,
    "10 11 00 06 4d 51 49 73 64 70 03 02 00 0a 00 03 61 62 63",
    { type: "connect", protocolName: "MQIsdp", protocolLevel: 3, cleanStart: true, keepAliveSec: 10, clientId: "abc" },
  ],
  [
    4,
    "10 1b 00 04 4d 51 54 54 04 ec 01 2c 00 01 63 00 01 77 00 02 ff 00 00 01 75 00 02 70 77",
    {
      type: "connect",
      protocolName: "MQTT",
      protocolLevel: 4,
      cleanStart: false,
      keepAliveSec: 300,
      clientId: "c",
      will: { topic: "w", payload: hex("ff 00"), qos: 1, retain: true },
      username: "u",
      password: hex("70 77"),
    },
  ],
  [
    5,
    "10 20 00 04 4d 51 54 54 05 16 00 00 05 11 00 00 00 0a 00 01 63 07 18 00 00 00 05 01 01 00 01 77 00 00",
    {
      type: "connect",
      protocolName: "MQTT",
      protocolLevel: 5,
      cleanStart: true,
      keepAliveSec: 0,
      properties: [["sessionExpiryIntervalSec", 10]],
      clientId: "c",
      will: {
        topic: "w",
        payload: hex(""),
        qos: 2,
        retain: false,
        properties: [
          ["willDelayIntervalSec", 5],
          ["payloadFormatIndicator", 1],
        ],
      },
    },
  ],
  [3, "20 02 00 05", { type: "connack", sessionPresent: false, reasonCode: 5 }],
  [4, "20 02 01 00", { type: "connack", sessionPresent: true, reasonCode: 0 }],
  [
    5,
    "20 06 00 00 03 21 00 14",
    { type: "connack", sessionPresent: false, reasonCode: 0, properties: [["receiveMaximum", 20]] },
  ],
  [
    4,
    "30 05 00 01 61 68 69",
    { type: "publish", dup: false, qos: 0, retain: false, topic: "a", payload: hex("68 69") },
  ],
  [
    4,
    "3d 05 00 01 61 00 07",
    { type: "publish", dup: true, qos: 2, retain: true, topic: "a", packetId: 7, payload: hex("") },
  ],
  [
    5,
    "32 0a 00 00 01 00 03 23 00 09 78 79",
    {
      type: "publish",
      dup: false,
      qos: 1,
      retain: false,
      topic: "",
      packetId: 256,
      properties: [["topicAlias", 9]],
      payload: hex("78 79"),
    },
  ],
  [4, "40 02 12 34", { type: "puback", packetId: 0x1234 }],
  [4, "50 02 00 01", { type: "pubrec", packetId: 1 }],
  [4, "62 02 00 01", { type: "pubrel", packetId: 1 }],
  [4, "70 02 00 01", { type: "pubcomp", packetId: 1 }],
  [5, "40 04 00 01 10 00", { type: "puback", packetId: 1, reasonCode: 0x10, properties: [] }],
  [
    5,
    "50 08 00 01 97 04 1f 00 01 71",
    { type: "pubrec", packetId: 1, reasonCode: 0x97, properties: [["reasonString", "q"]] },
  ],
  [5, "62 04 00 01 92 00", { type: "pubrel", packetId: 1, reasonCode: 0x92, properties: [] }],
  [5, "70 04 00 01 00 00", { type: "pubcomp", packetId: 1, reasonCode: 0, properties: [] }],
  [
    4,
    "82 0a 00 01 00 01 61 02 00 01 23 00",
    {
      type: "subscribe",
      packetId: 1,
      subscriptions: [
        { filter: "a", qos: 2 },
        { filter: "#", qos: 0 },
      ],
    },
  ],
  [
    5,
    "82 0a 00 01 03 0b ac 02 00 01 61 2d",
    {
      type: "subscribe",
      packetId: 1,
      properties: [["subscriptionIdentifier", 300]],
      subscriptions: [{ filter: "a", qos: 1, noLocal: true, retainAsPublished: true, retainHandling: 2 }],
    },
  ],
  [4, "90 04 00 01 02 80", { type: "suback", packetId: 1, reasonCodes: [2, 0x80] }],
  [5, "90 05 00 01 00 01 9e", { type: "suback", packetId: 1, properties: [], reasonCodes: [1, 0x9e] }],
  [4, "a2 05 00 01 00 01 61", { type: "unsubscribe", packetId: 1, filters: ["a"] }],
  [5, "a2 06 00 01 00 00 01 61", { type: "unsubscribe", packetId: 1, properties: [], filters: ["a"] }],
  [4, "b0 02 00 01", { type: "unsuback", packetId: 1 }],
  [5, "b0 05 00 01 00 00 11", { type: "unsuback", packetId: 1, properties: [], reasonCodes: [0, 0x11] }],
  [4, "c0 00", { type: "pingreq" }],
  [4, "d0 00", { type: "pingresp" }],
  [4, "e0 00", { type: "disconnect" }],
  [
    5,
    "e0 08 9d 06 1c 00 03 78 3a 31",
    { type: "disconnect", reasonCode: 0x9d, properties: [["serverReference", "x:1"]] },
  ],
  [
    5,
    "f0 0a 18 08 15 00 01 6d 16 00 01 64",
    {
      type: "auth",
      reasonCode: 0x18,
      properties: [
        ["authenticationMethod", "m"],
        ["authenticationData", hex("64")],
      ],
    },
  ],
];

describe("vectors", () => {
  for (const [version, bytes, packet] of vectors) {
    test(`${packet.type} of ${version}: ${bytes}`, () => {
      expect(toHex(encodePacket(packet, version))).toBe(bytes);
      expect(decodePacket(hex(bytes), version)).toEqual(packet);
    });
  }

  test("the short forms of 5.0 decode to their meaning and are what encoding writes when a field is not given", () => {
    const meaning = { packetId: 1, reasonCode: 0, properties: [] };
    expect(decodePacket(hex("40 02 00 01"), 5)).toEqual({ type: "puback", ...meaning });
    expect(decodePacket(hex("40 03 00 01 10"), 5)).toEqual({ type: "puback", ...meaning, reasonCode: 0x10 });
    expect(decodePacket(hex("e0 00"), 5)).toEqual({ type: "disconnect", reasonCode: 0, properties: [] });
    expect(decodePacket(hex("e0 01 8b"), 5)).toEqual({ type: "disconnect", reasonCode: 0x8b, properties: [] });
    expect(decodePacket(hex("f0 00"), 5)).toEqual({ type: "auth", reasonCode: 0, properties: [] });
    expect(toHex(encodePacket({ type: "puback", packetId: 1 }, 5))).toBe("40 02 00 01");
    expect(toHex(encodePacket({ type: "puback", packetId: 1, reasonCode: 0 }, 5))).toBe("40 03 00 01 00");
    expect(toHex(encodePacket({ type: "disconnect" }, 5))).toBe("e0 00");
  });

  test("a bridge's protocol level decodes by its low bits", () => {
    const packet = decodePacket(encodePacket({ type: "connect", protocolLevel: 0x84, clientId: "b" }, 4), 4);
    expect(packet).toMatchObject({ protocolLevel: 0x84, clientId: "b" });
  });

  test("text keeps a byte order mark and characters of every length", () => {
    const topic = "\ufeffa£€\u{1f600}";
    expect(decodePacket(encodePacket({ type: "publish", topic }, 4), 4)).toMatchObject({ topic });
  });
});

describe("properties", () => {
  const everyId: [type: Packet["type"], property: string, decoded: Properties[0]][] = [
    ["publish", "01 01", ["payloadFormatIndicator", 1]],
    ["publish", "02 00 01 00 00", ["messageExpiryIntervalSec", 65536]],
    ["publish", "03 00 01 74", ["contentType", "t"]],
    ["publish", "08 00 01 72", ["responseTopic", "r"]],
    ["publish", "09 00 02 00 ff", ["correlationData", hex("00 ff")]],
    ["publish", "0b ff ff ff 7f", ["subscriptionIdentifier", 268_435_455]],
    ["connack", "11 ff ff ff ff", ["sessionExpiryIntervalSec", 4_294_967_295]],
    ["connack", "12 00 01 69", ["assignedClientIdentifier", "i"]],
    ["connack", "13 00 3c", ["serverKeepAliveSec", 60]],
    ["connack", "15 00 01 6d", ["authenticationMethod", "m"]],
    ["auth", "15 00 01 6d", ["authenticationMethod", "m"]],
    ["connack", "1a 00 01 69", ["responseInformation", "i"]],
    ["connack", "1c 00 01 73", ["serverReference", "s"]],
    ["suback", "1f 00 01 72", ["reasonString", "r"]],
    ["connack", "21 ff ff", ["receiveMaximum", 65535]],
    ["connack", "22 00 00", ["topicAliasMaximum", 0]],
    ["publish", "23 00 01", ["topicAlias", 1]],
    ["connack", "24 01", ["maximumQos", 1]],
    ["connack", "25 00", ["retainAvailable", 0]],
    ["unsuback", "26 00 01 6b 00 01 76", ["userProperty", ["k", "v"]]],
    ["connack", "27 00 00 00 01", ["maximumPacketSizeBytes", 1]],
    ["connack", "28 00", ["wildcardSubscriptionAvailable", 0]],
    ["connack", "29 01", ["subscriptionIdentifierAvailable", 1]],
    ["connack", "2a 01", ["sharedSubscriptionAvailable", 1]],
    ["connect", "17 00", ["requestProblemInformation", 0]],
    ["connect", "19 01", ["requestResponseInformation", 1]],
  ];
  const frames: Record<string, PacketInput> = {
    publish: { type: "publish", topic: "a" },
    connack: { type: "connack" },
    connect: { type: "connect" },
    auth: { type: "auth", reasonCode: 0x18 },
    suback: { type: "suback", packetId: 1, reasonCodes: [0] },
    unsuback: { type: "unsuback", packetId: 1, reasonCodes: [0] },
  };

  for (const [type, bytes, property] of everyId) {
    test(`${property[0]} in ${type}`, () => {
      const length = hex(bytes).length;
      const raw = Uint8Array.of(length, ...hex(bytes));
      const frame = encodePacket({ ...frames[type], properties: raw } as PacketInput, 5);
      expect(decodePacket(frame, 5)).toMatchObject({ type, properties: [property] });
      expect(encodePacket({ ...frames[type], properties: [property] } as PacketInput, 5)).toEqual(frame);
    });
  }

  test("order and repetition are kept, and helpers find them", () => {
    const properties: Properties = [
      ["userProperty", ["b", "1"]],
      ["subscriptionIdentifier", 2],
      ["userProperty", ["a", "2"]],
      ["subscriptionIdentifier", 1],
    ];
    const packet = decodePacket(encodePacket({ type: "publish", topic: "t", properties }, 5), 5) as {
      properties: Properties;
    };
    expect(packet.properties).toEqual(properties);
    expect(prop(packet, "subscriptionIdentifier")).toBe(2);
    expect(props(packet, "userProperty")).toEqual([
      ["b", "1"],
      ["a", "2"],
    ]);
    expect(prop(packet, "contentType")).toBeUndefined();
  });
});

describe("malformed bytes are refused", () => {
  const cases: [version: Version, bytes: string, why: RegExp][] = [
    [4, "00 00", /packet type 0/],
    [4, "d1 00", /flags are 1, not 0/],
    [4, "60 02 00 01", /flags are 0, not 2/],
    [4, "6a 02 00 01", /flags are 10, not 2/],
    [4, "d0 01 00", /1 trailing/],
    [4, "d0 01", /remaining length 1, but 0/],
    [4, "d0 80 00", /longer than it needs/],
    [4, "d0 80 80 80 80 01", /more than four bytes/],
    [3, "20 02 01 00", /acknowledge flags/],
    [4, "20 02 02 00", /acknowledge flags/],
    [4, "20 02 00 06", /reason code 0x06/],
    [4, "20 02 01 05", /session present with a refusal/],
    [5, "20 03 00 01 00", /reason code 0x01/],
    [5, "20 02 00 00", /property length/],
    [4, "36 05 00 01 61 00 01", /QoS 3/],
    [4, "38 03 00 01 61", /DUP with QoS 0/],
    [4, "32 05 00 01 61 00 00", /packet identifier 0/],
    [4, "30 03 00 01 2b", /wildcard/],
    [4, "30 02 00 00", /empty topic/],
    [5, "30 03 00 00 00", /empty topic/],
    [4, "30 03 00 02 61", /topic needs 2 bytes, 1 are left/],
    [4, "30 03 00 01 00", /U\+0000/],
    [4, "30 03 00 01 ff", /not UTF-8/],
    [4, "30 04 00 02 c0 80", /not UTF-8/],
    [4, "30 05 00 03 ed a0 80", /not UTF-8/],
    [4, "40 04 00 01 00 00", /2 trailing/],
    [5, "40 03 00 01 92", /reason code 0x92/],
    [5, "40 05 00 01 00 00 00", /1 trailing/],
    [4, "82 02 00 01", /topic filter/],
    [4, "82 06 00 01 00 01 61 03", /QoS 3/],
    [4, "82 06 00 01 00 01 61 04", /subscription options 0x4/],
    [5, "82 07 00 01 00 00 01 61 30", /subscription options 0x30/],
    [5, "82 07 00 01 00 00 01 61 40", /subscription options 0x40/],
    [4, "82 05 00 01 00 00 00", /empty topic filter/],
    [4, "90 02 00 01", /reason code needs/],
    [3, "90 03 00 01 80", /reason code 0x80/],
    [4, "b0 03 00 01 00", /1 trailing/],
    [5, "b0 03 00 01 00", /reason code needs/],
    [4, "e0 01 00", /1 trailing/],
    [5, "e0 02 8a 00", /reason code 0x8a/],
    [4, "f0 00", /5\.0 only/],
    [5, "f0 01 18", /without properties/],
    [5, "30 07 00 01 61 03 7f 00 00", /unknown property 0x7f/],
    [5, "30 07 00 01 61 03 21 00 01", /receiveMaximum is not allowed in publish/],
    [5, "30 08 00 01 61 04 01 00 01 00", /payloadFormatIndicator appears twice/],
    [5, "30 06 00 01 61 02 01 02", /payloadFormatIndicator is 2/],
    [5, "30 07 00 01 61 03 23 00 00", /topicAlias is 0/],
    [5, "30 06 00 01 61 02 23 00", /topicAlias needs/],
    [5, "30 05 00 01 61 02 01", /properties needs 2 bytes, 1 are left/],
    [5, "82 0b 00 01 04 0b 01 0b 02 00 01 61 00", /subscriptionIdentifier appears twice/],
    [5, "f0 06 18 04 16 00 01 64", /without authenticationMethod/],
    [4, "10 0d 00 04 4d 51 54 54 04 03 00 00 00 01 63", /reserved connect flag/],
    [4, "10 0d 00 04 4d 51 54 54 04 0a 00 00 00 01 63", /without a will/],
    [4, "10 13 00 04 4d 51 54 54 04 1e 00 00 00 01 63 00 01 77 00 01 78", /will QoS 3/],
    [4, "10 10 00 04 4d 51 54 54 04 42 00 00 00 01 63 00 01 70", /password without user name/],
    [4, "10 0d 00 04 4d 51 54 54 06 02 00 00 00 01 63", /protocol MQTT level 6/],
  ];
  for (const [version, bytes, why] of cases) {
    test(`${version}: ${bytes}`, () => expect(() => decodePacket(hex(bytes), version)).toThrow(why));
  }

  test("3.1 lets PUBREL carry DUP", () => {
    expect(decodePacket(hex("6a 02 00 01"), 3)).toEqual({ type: "pubrel", packetId: 1 });
  });
});

test("a frame's length is known once its last byte is there", () => {
  const bytes = encodePacket({ type: "publish", topic: "a", payload: "x".repeat(200) }, 4);
  for (let count = 0; count < bytes.length; count++) expect(frameLength(bytes.subarray(0, count))).toBeUndefined();
  expect(frameLength(bytes)).toBe(206);
  expect(frameLength(Uint8Array.of(...bytes, 0xd0))).toBe(206);
  expect(() => frameLength(hex("30 ff ff ff ff"))).toThrow(/more than four/);
});

test("bad packets can be built", () => {
  expect(toHex(encodePacket({ type: "pingreq", flags: 5 }, 4))).toBe("c5 00");
  expect(toHex(encodePacket({ type: "pingreq", remainingLength: hex("80 00") }, 4))).toBe("c0 80 00");
  expect(toHex(encodePacket({ type: "pingreq", remainingLength: 300 }, 4))).toBe("c0 ac 02");
  expect(toHex(encodePacket({ type: "publish", topic: hex("ff") }, 4))).toBe("30 03 00 01 ff");
  const subscriptions = [{ filter: "a", optionsByte: 0xff }];
  expect(toHex(encodePacket({ type: "subscribe", packetId: 1, subscriptions }, 4))).toBe("82 06 00 01 00 01 61 ff");
  const connect = encodePacket({ type: "connect", clientId: "c", connectFlags: 0xc3 }, 4);
  expect(toHex(connect)).toBe("10 0d 00 04 4d 51 54 54 04 c3 00 00 00 01 63");
  const properties: Properties = [
    [0x7f, hex("01")],
    ["receiveMaximum", hex("00")],
    ["receiveMaximum", 0],
  ];
  expect(toHex(encodePacket({ type: "connack", properties }, 5))).toBe("20 0a 00 00 07 7f 01 21 00 21 00 00");
});

test("hex refuses what is not hex", () => {
  expect(hex("1 0\n0c")).toEqual(Uint8Array.of(0x10, 0x0c));
  expect(() => hex("1")).toThrow(/not hex/);
  expect(() => hex("0g")).toThrow(/not hex/);
});
