/** Acknowledgements, SUBSCRIBE, UNSUBSCRIBE, PINGREQ, DISCONNECT, AUTH: §3.4 to §3.15. All on an open connection. */
import { ALL, MALFORMED, PROTOCOL, V3, V4, V5, type Vector } from "./vector.ts";

const acks: Vector[] = (["puback", "pubrec", "pubrel", "pubcomp"] as const).flatMap((type, i) => {
  const first = ["40", "50", "62", "70"][i]!;
  const reason = type === "pubrel" || type === "pubcomp" ? 0x92 : 0x80;
  const code = reason.toString(16);
  return [
    { title: type, versions: ALL, hex: `${first} 02 00 01`, means: { type, packetId: 1 } },
    {
      title: `${type} with a reason`,
      versions: V5,
      hex: `${first} 03 00 01 ${code}`,
      means: { type, reasonCode: reason },
    },
    {
      title: `${type} with no properties`,
      versions: V5,
      hex: `${first} 04 00 01 00 00`,
      means: { type, properties: [] },
    },
    {
      title: `${type} with a reason string`,
      versions: V5,
      hex: `${first} 08 00 01 ${code} 04 1f 00 01 78`,
      means: { type, reasonCode: reason, properties: [["reasonString", "x"]] },
    },
    { title: `${type} with a reason in 3.x`, versions: V3, hex: `${first} 03 00 01 00`, fault: MALFORMED },
    { title: `${type} of packet id 0`, versions: ALL, hex: `${first} 02 00 00`, fault: PROTOCOL },
    { title: `${type} too short`, versions: ALL, hex: `${first} 01 00`, fault: MALFORMED },
    { title: `${type} with an unknown reason`, versions: V5, hex: `${first} 03 00 01 7f`, fault: PROTOCOL },
    {
      title: `${type} with a property of PUBLISH`,
      versions: V5,
      hex: `${first} 06 00 01 00 02 01 00`,
      fault: MALFORMED,
    },
    { title: `${type} with bytes after the end`, versions: V5, hex: `${first} 05 00 01 00 00 00`, fault: MALFORMED },
    {
      title: `${type} with wrong flags`,
      versions: V4,
      hex: `${type === "pubrel" ? "60" : `${first[0]}1`} 02 00 01`,
      fault: MALFORMED,
    },
  ] as Vector[];
});

const subscriptions: Vector[] = [
  {
    title: "SUBSCRIBE to two filters",
    versions: V3,
    hex: "82 0a 00 0a 00 01 61 01 00 01 23 02",
    means: {
      type: "subscribe",
      packetId: 10,
      subscriptions: [
        { filter: "a", qos: 1 },
        { filter: "#", qos: 2 },
      ],
    },
  },
  {
    title: "SUBSCRIBE with identifier and options",
    versions: V5,
    hex: "82 0a 00 0a 03 0b ff 7f 00 01 61 2e",
    means: {
      type: "subscribe",
      properties: [["subscriptionIdentifier", 16_383]],
      subscriptions: [{ filter: "a", qos: 2, noLocal: true, retainAsPublished: true, retainHandling: 2 }],
    },
  },
  {
    title: "SUBSCRIBE to what is no filter",
    versions: V5,
    hex: "82 08 00 0a 00 00 02 61 23 00",
    means: { type: "subscribe" },
  },
  { title: "SUBSCRIBE to nothing", versions: V3, hex: "82 02 00 0a", fault: PROTOCOL },
  { title: "SUBSCRIBE to nothing", versions: V5, hex: "82 03 00 0a 00", fault: PROTOCOL },
  { title: "SUBSCRIBE of packet id 0", versions: V3, hex: "82 06 00 00 00 01 61 00", fault: PROTOCOL },
  { title: "SUBSCRIBE without flags", versions: V4, hex: "80 06 00 0a 00 01 61 00", fault: MALFORMED },
  { title: "SUBSCRIBE with QoS 3", versions: V3, hex: "82 06 00 0a 00 01 61 03", fault: MALFORMED },
  { title: "SUBSCRIBE with reserved bits", versions: V5, hex: "82 07 00 0a 00 00 01 61 40", fault: MALFORMED },
  { title: "SUBSCRIBE with 5.0 options in 3.x", versions: V3, hex: "82 06 00 0a 00 01 61 04", fault: MALFORMED },
  { title: "SUBSCRIBE with handling 3", versions: V5, hex: "82 07 00 0a 00 00 01 61 30", fault: PROTOCOL },
  { title: "SUBSCRIBE with identifier 0", versions: V5, hex: "82 09 00 0a 02 0b 00 00 01 61 00", fault: PROTOCOL },
  {
    title: "SUBSCRIBE with two identifiers",
    versions: V5,
    hex: "82 0b 00 0a 04 0b 01 0b 02 00 01 61 00",
    fault: PROTOCOL,
  },
  {
    title: "SUBSCRIBE to a shared filter, no local",
    versions: V5,
    hex: "82 10 00 0a 00 00 0a 24 73 68 61 72 65 2f 67 2f 61 04",
    fault: PROTOCOL,
  },
  { title: "SUBSCRIBE cut off before the options", versions: V3, hex: "82 05 00 0a 00 01 61", fault: MALFORMED },
  { title: "SUBSCRIBE to what is not UTF-8", versions: V3, hex: "82 06 00 0a 00 01 ff 00", fault: MALFORMED },
  {
    title: "UNSUBSCRIBE",
    versions: V3,
    hex: "a2 05 00 0b 00 01 61",
    means: { type: "unsubscribe", packetId: 11, filters: ["a"] },
  },
  {
    title: "UNSUBSCRIBE with a user property",
    versions: V5,
    hex: "a2 0d 00 0b 07 26 00 01 6b 00 01 76 00 01 61",
    means: { type: "unsubscribe", properties: [["userProperty", ["k", "v"]]], filters: ["a"] },
  },
  { title: "UNSUBSCRIBE from nothing", versions: V3, hex: "a2 02 00 0b", fault: PROTOCOL },
  {
    title: "UNSUBSCRIBE with a subscription identifier",
    versions: V5,
    hex: "a2 08 00 0b 02 0b 01 00 01 61",
    fault: MALFORMED,
  },
  { title: "UNSUBSCRIBE without flags", versions: V4, hex: "a0 05 00 0b 00 01 61", fault: MALFORMED },
];

const session: Vector[] = [
  { title: "PINGREQ", versions: ALL, hex: "c0 00", means: { type: "pingreq" } },
  { title: "PINGREQ with a body", versions: ALL, hex: "c0 01 00", fault: MALFORMED },
  { title: "PINGREQ with flags", versions: V4, hex: "c1 00", fault: MALFORMED },
  { title: "DISCONNECT", versions: ALL, hex: "e0 00", means: { type: "disconnect" }, ends: "closed" },
  {
    title: "DISCONNECT with will",
    versions: V5,
    hex: "e0 01 04",
    means: { type: "disconnect", reasonCode: 4 },
    ends: "closed",
  },
  {
    title: "DISCONNECT with properties",
    versions: V5,
    hex: "e0 06 00 04 1f 00 01 78",
    means: { type: "disconnect", reasonCode: 0, properties: [["reasonString", "x"]] },
    ends: "closed",
  },
  {
    title: "DISCONNECT that gives a session that ends an expiry",
    versions: V5,
    hex: "e0 07 00 05 11 00 00 00 01",
    fault: PROTOCOL,
  },
  { title: "DISCONNECT with a body in 3.x", versions: V3, hex: "e0 01 00", fault: MALFORMED },
  { title: "DISCONNECT with a reason that only a broker has", versions: V5, hex: "e0 01 8e", fault: PROTOCOL },
  { title: "DISCONNECT with a server reference", versions: V5, hex: "e0 06 00 04 1c 00 01 78", fault: MALFORMED },
  { title: "AUTH in 3.x", versions: V3, hex: "f0 00", fault: PROTOCOL },
  { title: "AUTH without a method", versions: V5, hex: "f0 02 19 00", fault: PROTOCOL },
  { title: "AUTH with an unknown reason", versions: V5, hex: "f0 02 17 00", fault: PROTOCOL },
  { title: "AUTH with flags", versions: V5, hex: "f1 00", fault: MALFORMED },
  { title: "packet type 0", versions: ALL, hex: "00 00", fault: PROTOCOL },
  { title: "a second CONNECT", versions: [4], hex: "10 0c 00 04 4d 51 54 54 04 02 00 00 00 00", fault: PROTOCOL },
  { title: "CONNACK from a client", versions: ALL, hex: "20 02 00 00", fault: PROTOCOL },
  { title: "SUBACK from a client", versions: ALL, hex: "90 03 00 01 00", fault: PROTOCOL },
  { title: "UNSUBACK from a client", versions: ALL, hex: "b0 02 00 01", fault: PROTOCOL },
  { title: "PINGRESP from a client", versions: ALL, hex: "d0 00", fault: PROTOCOL },
];

export const otherVectors: readonly Vector[] = [...acks, ...subscriptions, ...session];
