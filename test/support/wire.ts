// The primitives under packets.ts: integers, strings and MQTT 5 properties to bytes and back.
//
// Nothing here comes from src/: the conformance suite must not share a bug with the codec it judges. So this is the
// plainest form that can be checked by eye against the specification's tables; it copies and allocates freely.

/** Where a property may stand: a packet type, or the will inside CONNECT. */
type Place =
  | "connect"
  | "will"
  | "connack"
  | "publish"
  | "puback"
  | "pubrec"
  | "pubrel"
  | "pubcomp"
  | "subscribe"
  | "suback"
  | "unsubscribe"
  | "unsuback"
  | "disconnect"
  | "auth";

type Kind = "bit" | "u16" | "u32" | "varint" | "text" | "binary" | "pair";

const ACKS: Place[] = ["puback", "pubrec", "pubrel", "pubcomp", "suback", "unsuback"];
const EVERYWHERE: Place[] = [
  "connect",
  "will",
  "connack",
  "publish",
  "subscribe",
  "unsubscribe",
  "disconnect",
  "auth",
  ...ACKS,
];
const MESSAGE: Place[] = ["publish", "will"];
const BOTH_CONNECTS: Place[] = ["connect", "connack"];

interface Definition {
  id: number;
  kind: Kind;
  places: Place[];
  /** Zero is a protocol error. */
  isNonZero?: boolean;
}

const define = (id: number, kind: Kind, places: Place[], isNonZero = false): Definition => ({
  id,
  kind,
  places,
  isNonZero,
});

const DEFINITIONS = {
  payloadFormatIndicator: define(0x01, "bit", MESSAGE),
  messageExpiryIntervalSec: define(0x02, "u32", MESSAGE),
  contentType: define(0x03, "text", MESSAGE),
  responseTopic: define(0x08, "text", MESSAGE),
  correlationData: define(0x09, "binary", MESSAGE),
  subscriptionIdentifier: define(0x0b, "varint", ["publish", "subscribe"], true),
  sessionExpiryIntervalSec: define(0x11, "u32", ["connect", "connack", "disconnect"]),
  assignedClientIdentifier: define(0x12, "text", ["connack"]),
  serverKeepAliveSec: define(0x13, "u16", ["connack"]),
  authenticationMethod: define(0x15, "text", ["connect", "connack", "auth"]),
  authenticationData: define(0x16, "binary", ["connect", "connack", "auth"]),
  requestProblemInformation: define(0x17, "bit", ["connect"]),
  willDelayIntervalSec: define(0x18, "u32", ["will"]),
  requestResponseInformation: define(0x19, "bit", ["connect"]),
  responseInformation: define(0x1a, "text", ["connack"]),
  serverReference: define(0x1c, "text", ["connack", "disconnect"]),
  reasonString: define(0x1f, "text", ["connack", "disconnect", "auth", ...ACKS]),
  receiveMaximum: define(0x21, "u16", BOTH_CONNECTS, true),
  topicAliasMaximum: define(0x22, "u16", BOTH_CONNECTS),
  topicAlias: define(0x23, "u16", ["publish"], true),
  maximumQos: define(0x24, "bit", ["connack"]),
  retainAvailable: define(0x25, "bit", ["connack"]),
  userProperty: define(0x26, "pair", EVERYWHERE),
  maximumPacketSizeBytes: define(0x27, "u32", BOTH_CONNECTS, true),
  wildcardSubscriptionAvailable: define(0x28, "bit", ["connack"]),
  subscriptionIdentifierAvailable: define(0x29, "bit", ["connack"]),
  sharedSubscriptionAvailable: define(0x2a, "bit", ["connack"]),
} satisfies Record<string, Definition>;

export type PropertyName = keyof typeof DEFINITIONS;
export type PropertyValue = number | string | Uint8Array | [name: string, value: string];
/** An id instead of a name is for building bad packets; decoding always gives names. */
type Property = [name: PropertyName | number, value: PropertyValue];
export type Properties = Property[];

const NAMES = Object.keys(DEFINITIONS) as PropertyName[];

/** A string, or the raw bytes to stand in its place (not checked for UTF-8). */
export type Text = string | Uint8Array;

export const bytesOf = (value: Text): Uint8Array =>
  typeof value === "string" ? new TextEncoder().encode(value) : value;

export class Writer {
  readonly #bytes: number[] = [];

  u8(value: number): this {
    this.#bytes.push(value & 0xff);
    return this;
  }

  u16(value: number): this {
    return this.u8(value >>> 8).u8(value);
  }

  u32(value: number): this {
    return this.u16(value >>> 16).u16(value);
  }

  varint(value: number): this {
    do {
      const rest = Math.floor(value / 128);
      this.u8((value % 128) | (rest > 0 ? 0x80 : 0));
      value = rest;
    } while (value > 0);
    return this;
  }

  raw(bytes: Uint8Array): this {
    for (const byte of bytes) this.#bytes.push(byte);
    return this;
  }

  /** Two bytes of length, then the bytes: strings and binary data alike. */
  prefixed(value: Text): this {
    const bytes = bytesOf(value);
    if (bytes.length > 0xffff) throw new Error(`${bytes.length} bytes do not fit a two byte length`);
    return this.u16(bytes.length).raw(bytes);
  }

  done(): Uint8Array {
    return Uint8Array.from(this.#bytes);
  }
}

export class Reader {
  readonly #bytes: Uint8Array;
  #offset = 0;

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes;
  }

  get left(): number {
    return this.#bytes.length - this.#offset;
  }

  take(count: number, what: string): Uint8Array {
    if (count > this.left) throw new Error(`${what} needs ${count} bytes, ${this.left} are left`);
    this.#offset += count;
    return Uint8Array.from(this.#bytes.subarray(this.#offset - count, this.#offset));
  }

  rest(): Uint8Array {
    return this.take(this.left, "rest");
  }

  u8(what: string): number {
    return this.take(1, what)[0]!;
  }

  u16(what: string): number {
    return this.u8(what) * 0x100 + this.u8(what);
  }

  u32(what: string): number {
    return this.u16(what) * 0x10000 + this.u16(what);
  }

  varint(what: string): number {
    let value = 0;
    for (let index = 0; index < 4; index++) {
      const byte = this.u8(what);
      value += (byte & 0x7f) * 128 ** index;
      if (byte >= 0x80) continue;
      if (byte === 0 && index > 0) throw new Error(`${what} is a variable byte integer longer than it needs to be`);
      return value;
    }
    throw new Error(`${what} is a variable byte integer of more than four bytes`);
  }

  binary(what: string): Uint8Array {
    return this.take(this.u16(`length of ${what}`), what);
  }

  text(what: string): string {
    const bytes = this.binary(what);
    let text: string;
    try {
      // ignoreBOM keeps U+FEFF, which MQTT never strips.
      text = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
    } catch {
      throw new Error(`${what} is not UTF-8`);
    }
    if (text.includes("\0")) throw new Error(`${what} contains U+0000`);
    return text;
  }

  end(): void {
    if (this.left > 0) throw new Error(`${this.left} trailing bytes`);
  }
}

/** Length and properties; a Uint8Array is written as it is, length included by the caller. */
export function writeProperties(writer: Writer, properties: Properties | Uint8Array = []): void {
  if (properties instanceof Uint8Array) {
    writer.raw(properties);
    return;
  }
  const body = new Writer();
  for (const [name, value] of properties) writeProperty(body, name, value);
  const bytes = body.done();
  writer.varint(bytes.length).raw(bytes);
}

function writeProperty(writer: Writer, name: PropertyName | number, value: PropertyValue): void {
  const definition =
    typeof name === "number" ? Object.values(DEFINITIONS).find(({ id }) => id === name) : DEFINITIONS[name];
  writer.varint(definition?.id ?? (name as number));
  const kind = definition?.kind;
  if (typeof value === "number") {
    if (kind === "u16") writer.u16(value);
    else if (kind === "u32") writer.u32(value);
    else if (kind === "varint") writer.varint(value);
    else if (kind === "bit") writer.u8(value);
    else throw new Error(`property ${name} takes no number`);
  } else if (Array.isArray(value)) {
    writer.prefixed(value[0]).prefixed(value[1]);
  } else if (kind === "text" || kind === "binary") {
    writer.prefixed(value);
  } else if (value instanceof Uint8Array) {
    writer.raw(value); // the way to a bad property: these very bytes follow the id
  } else {
    throw new Error(`property ${name} takes no string`);
  }
}

export function readProperties(outer: Reader, place: Place): Properties {
  const reader = new Reader(outer.take(outer.varint("property length"), "properties"));
  const properties: Properties = [];
  while (reader.left > 0) {
    const id = reader.varint("property identifier");
    const name = NAMES.find((each) => DEFINITIONS[each].id === id);
    if (name === undefined) throw new Error(`unknown property 0x${id.toString(16)}`);
    const definition: Definition = DEFINITIONS[name];
    if (!definition.places.includes(place)) throw new Error(`property ${name} is not allowed in ${place}`);
    const mayRepeat = name === "userProperty" || (name === "subscriptionIdentifier" && place === "publish");
    if (!mayRepeat && properties.some(([other]) => other === name)) throw new Error(`property ${name} appears twice`);
    const value = readValue(reader, definition.kind, name);
    if (definition.kind === "bit" && value !== 0 && value !== 1)
      throw new Error(`property ${name} is ${value}, not 0 or 1`);
    if (definition.isNonZero && value === 0) throw new Error(`property ${name} is 0`);
    properties.push([name, value]);
  }
  const has = (name: PropertyName) => properties.some(([other]) => other === name);
  if (has("authenticationData") && !has("authenticationMethod"))
    throw new Error("authenticationData without authenticationMethod");
  return properties;
}

function readValue(reader: Reader, kind: Kind, name: PropertyName): PropertyValue {
  if (kind === "bit") return reader.u8(name);
  if (kind === "u16") return reader.u16(name);
  if (kind === "u32") return reader.u32(name);
  if (kind === "varint") return reader.varint(name);
  if (kind === "text") return reader.text(name);
  if (kind === "binary") return reader.binary(name);
  return [reader.text(`name of ${name}`), reader.text(`value of ${name}`)];
}
