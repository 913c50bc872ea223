/** The few packets that bench clients send, as bytes, for MQTT 3.1.1 and 5.0. */

export type Version = 4 | 5;

const KEEP_ALIVE_SEC = 300;

export interface ConnectPacketOptions {
  readonly clientId: string;
  readonly version: Version;
  /** The session is kept, in 3.1.1 until somebody ends it. */
  readonly isPersistent?: boolean | undefined;
  readonly login?: { readonly username: string; readonly password: string } | undefined;
}

export function connectPacket({ clientId, version, isPersistent, login }: ConnectPacketOptions): Buffer {
  const flags = (isPersistent === true ? 0 : 2) | (login === undefined ? 0 : 0xc0);
  const head = [0, 4, ...Buffer.from("MQTT"), version, flags, KEEP_ALIVE_SEC >> 8, KEEP_ALIVE_SEC & 255];
  const words = [clientId, ...(login === undefined ? [] : [login.username, login.password])];
  return packet(0x10, Buffer.concat([Buffer.from(head), properties(version), ...words.map(text)]));
}

/** `identifier` is the Subscription Identifier of MQTT 5.0, 0 for none. */
export function subscribePacket(
  packetId: number,
  filters: readonly string[],
  { version, qos, identifier = 0 }: { version: Version; qos: number; identifier?: number },
): Buffer {
  const own = identifier === 0 ? Buffer.alloc(0) : Buffer.concat([Buffer.from([0x0b]), varint(identifier)]);
  const items = filters.map((filter) => Buffer.concat([text(filter), Buffer.from([qos])]));
  return packet(0x82, Buffer.concat([uint16(packetId), properties(version, own), ...items]));
}

export function unsubscribePacket(packetId: number, filter: string, version: Version): Buffer {
  return packet(0xa2, Buffer.concat([uint16(packetId), properties(version), text(filter)]));
}

export interface PublishFrame {
  readonly bytes: Buffer;
  /** Offsets in it; the packet identifier's is -1 at QoS 0. */
  readonly packetIdAt: number;
  readonly payloadAt: number;
}

/** A whole PUBLISH to be sent again and again, patched in place. */
export function publishFrame(
  topic: string,
  { version, qos, payloadBytes, userProperties = [] }: PublishOptions,
): PublishFrame {
  const pairs = userProperties.map(([name, value]) => Buffer.concat([Buffer.from([0x26]), text(name), text(value)]));
  const body = Buffer.concat([
    text(topic),
    Buffer.alloc(qos > 0 ? 2 : 0),
    properties(version, ...pairs),
    Buffer.alloc(payloadBytes, "x"),
  ]);
  const bytes = packet(0x30 | (qos << 1), body);
  const bodyAt = bytes.length - body.length;
  const packetIdAt = qos > 0 ? bodyAt + 2 + Buffer.byteLength(topic) : -1;
  return { bytes, packetIdAt, payloadAt: bytes.length - payloadBytes };
}

export interface PublishOptions {
  readonly version: Version;
  readonly qos: number;
  readonly payloadBytes: number;
  readonly userProperties?: readonly (readonly [string, string])[];
}

function packet(first: number, body: Buffer): Buffer {
  return Buffer.concat([Buffer.from([first]), varint(body.length), body]);
}

/** Only MQTT 5.0 has them. */
function properties(version: Version, ...parts: readonly Buffer[]): Buffer {
  if (version === 4) return Buffer.alloc(0);
  const all = Buffer.concat(parts);
  return Buffer.concat([varint(all.length), all]);
}

function varint(value: number): Buffer {
  const bytes: number[] = [];
  for (let rest = value; ; rest = rest >>> 7) {
    bytes.push(rest > 127 ? (rest & 127) | 128 : rest);
    if (rest <= 127) return Buffer.from(bytes);
  }
}

function uint16(value: number): Buffer {
  return Buffer.from([value >> 8, value & 255]);
}

function text(value: string): Buffer {
  const bytes = Buffer.from(value);
  return Buffer.concat([uint16(bytes.length), bytes]);
}
