/**
 * The few MQTT 5.0 packets that a page needs, as bytes. Encoding is whole; of what comes in, properties are passed over.
 *
 *   | type and flags | remaining length, 1–4 bytes | variable header | payload |
 */

export type Packet =
  | { readonly type: "connack"; readonly code: number; readonly clientId: string | undefined }
  | {
      readonly type: "publish";
      readonly topic: string;
      readonly payload: Uint8Array;
      readonly qos: number;
      readonly isRetained: boolean;
      readonly packetId: number;
    }
  | { readonly type: "puback" | "pubrec" | "pubrel" | "pubcomp"; readonly packetId: number; readonly code: number }
  | { readonly type: "suback" | "unsuback"; readonly packetId: number; readonly codes: readonly number[] }
  | { readonly type: "pingresp" }
  | { readonly type: "disconnect"; readonly code: number };

const ACKS = { 4: "puback", 5: "pubrec", 6: "pubrel", 7: "pubcomp" } as const;
const ACK_BYTES = { puback: 0x40, pubrec: 0x50, pubrel: 0x62, pubcomp: 0x70 } as const;
/** Assigned Client Identifier. */
const ASSIGNED = 0x12;
/** How long values of properties are, by identifier, that CONNACK may have: a number of bytes, or text. */
const CONNACK_VALUES: Readonly<Record<number, number | "text" | "pair">> = {
  0x11: 4,
  0x12: "text",
  0x13: 2,
  0x15: "text",
  0x16: "text",
  0x1a: "text",
  0x1c: "text",
  0x1f: "text",
  0x21: 2,
  0x22: 2,
  0x24: 1,
  0x25: 1,
  0x26: "pair",
  0x27: 4,
  0x28: 1,
  0x29: 1,
  0x2a: 1,
};

const utf8 = new TextEncoder();
const fromUtf8 = new TextDecoder();

export interface ConnectWish {
  readonly clientId: string;
  readonly username: string;
  readonly password: string;
  readonly keepAliveSec: number;
  readonly isCleanStart: boolean;
}

export function connectPacket({ clientId, username, password, keepAliveSec, isCleanStart }: ConnectWish): Uint8Array {
  const flags = (username === "" ? 0 : 0x80) | (password === "" ? 0 : 0x40) | (isCleanStart ? 0x02 : 0);
  return packet(0x10, [
    text("MQTT"),
    [5, flags],
    u16(keepAliveSec),
    [0],
    text(clientId),
    ...(username === "" ? [] : [text(username)]),
    ...(password === "" ? [] : [text(password)]),
  ]);
}

export function subscribePacket(packetId: number, filter: string, qos: number): Uint8Array {
  return packet(0x82, [u16(packetId), [0], text(filter), [qos]]);
}

export function unsubscribePacket(packetId: number, filter: string): Uint8Array {
  return packet(0xa2, [u16(packetId), [0], text(filter)]);
}

export interface Outgoing {
  readonly topic: string;
  readonly payload: string;
  readonly qos: number;
  readonly isRetain: boolean;
}

/** `packetId` counts at QoS 1 and 2 only. */
export function publishPacket(packetId: number, { topic, payload, qos, isRetain }: Outgoing): Uint8Array {
  const id = qos === 0 ? [] : u16(packetId);
  return packet(0x30 | (qos << 1) | (isRetain ? 1 : 0), [text(topic), id, [0], utf8.encode(payload)]);
}

export function ackPacket(type: keyof typeof ACK_BYTES, packetId: number): Uint8Array {
  return packet(ACK_BYTES[type], [u16(packetId)]);
}

export const pingPacket: Uint8Array = packet(0xc0, []);
export const disconnectPacket: Uint8Array = packet(0xe0, []);

/** The packets that are whole in `bytes`, and the bytes that are left. Throws RangeError on what is no MQTT. */
export function decode(bytes: Uint8Array): { readonly packets: readonly Packet[]; readonly rest: Uint8Array } {
  const packets: Packet[] = [];
  let at = 0;
  for (;;) {
    const frame = frameAt(bytes, at);
    if (!frame) return { packets, rest: bytes.subarray(at) };
    packets.push(decodeOne(bytes[at]!, new Reader(bytes.subarray(frame.from, frame.end))));
    at = frame.end;
  }
}

function frameAt(bytes: Uint8Array, at: number): { from: number; end: number } | undefined {
  if (bytes.length < at + 2) return undefined;
  const reader = new Reader(bytes.subarray(at + 1));
  const length = reader.varint();
  const from = at + 1 + reader.at;
  return length === undefined || bytes.length < from + length ? undefined : { from, end: from + length };
}

function decodeOne(first: number, reader: Reader): Packet {
  const kind = first >> 4;
  switch (kind) {
    case 2:
      return decodeConnack(reader);
    case 3:
      return decodePublish(first, reader);
    case 4:
    case 5:
    case 6:
    case 7:
      return { type: ACKS[kind], packetId: reader.u16(), code: reader.isAtEnd ? 0 : reader.u8() };
    case 9:
    case 11: {
      const packetId = reader.u16();
      reader.properties();
      return { type: kind === 9 ? "suback" : "unsuback", packetId, codes: [...reader.rest()] };
    }
    case 13:
      return { type: "pingresp" };
    case 14:
      return { type: "disconnect", code: reader.isAtEnd ? 0 : reader.u8() };
    default:
      throw new RangeError(`packet type ${kind}`);
  }
}

function decodeConnack(reader: Reader): Packet {
  reader.u8();
  const code = reader.u8();
  const properties = new Reader(reader.properties());
  let clientId: string | undefined;
  while (!properties.isAtEnd) {
    const id = properties.u8();
    const form = CONNACK_VALUES[id];
    if (form === undefined) throw new RangeError(`property ${id}`);
    const value = form === "text" || form === "pair" ? properties.text() : properties.skip(form);
    if (form === "pair") properties.text();
    if (id === ASSIGNED) clientId = value;
  }
  return { type: "connack", code, clientId };
}

function decodePublish(first: number, reader: Reader): Packet {
  const qos = (first >> 1) & 3;
  const topic = reader.text();
  const packetId = qos === 0 ? 0 : reader.u16();
  reader.properties();
  return { type: "publish", topic, payload: reader.rest(), qos, isRetained: (first & 1) === 1, packetId };
}

class Reader {
  at = 0;

  constructor(private readonly bytes: Uint8Array) {}

  get isAtEnd(): boolean {
    return this.at >= this.bytes.length;
  }

  u8(): number {
    if (this.isAtEnd) throw new RangeError("a packet ends too early");
    return this.bytes[this.at++]!;
  }

  u16(): number {
    return this.u8() * 256 + this.u8();
  }

  /** Undefined when it is not whole yet. */
  varint(): number | undefined {
    let value = 0;
    for (let shift = 0; shift < 28; shift += 7) {
      if (this.isAtEnd) return undefined;
      const byte = this.u8();
      value += (byte & 127) << shift;
      if (byte < 128) return value;
    }
    throw new RangeError("remaining length");
  }

  /** The bytes of the properties, without their length. */
  properties(): Uint8Array {
    return this.take(this.varint() ?? 0);
  }

  text(): string {
    return fromUtf8.decode(this.take(this.u16()));
  }

  skip(length: number): undefined {
    this.take(length);
  }

  rest(): Uint8Array {
    return this.take(this.bytes.length - this.at);
  }

  private take(length: number): Uint8Array {
    if (this.at + length > this.bytes.length) throw new RangeError("a packet ends too early");
    return this.bytes.slice(this.at, (this.at += length));
  }
}

type Part = Uint8Array | readonly number[];

function packet(first: number, parts: readonly Part[]): Uint8Array {
  const body = parts.flatMap((part) => [...part]);
  const length: number[] = [];
  let left = body.length;
  do {
    length.push((left % 128) | (left >= 128 ? 128 : 0));
    left = Math.floor(left / 128);
  } while (left > 0);
  return Uint8Array.from([first, ...length, ...body]);
}

function u16(value: number): number[] {
  return [value >> 8, value & 255];
}

/** Throws RangeError when it is longer than MQTT can say. */
function text(value: string): Uint8Array {
  const bytes = utf8.encode(value);
  if (bytes.length > 65_535) throw new RangeError("longer than 65,535 bytes");
  return Uint8Array.from([...u16(bytes.length), ...bytes]);
}
