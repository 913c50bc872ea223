/**
 * WebSocket frames (RFC 6455 §5), the server's side.
 *
 *   in    | FIN RSV opcode | 1 length 7 | length 0/2/8 | mask key 4 | payload, masked |
 *   out   | 0x82           | 0 length 7 | length 0/2/8 | payload |
 *
 * MQTT packets lie across binary frames as they like [MQTT-6.0.0-2], so payloads are unmasked where they lie and moved together
 * at the front of the chunk: one read gives the protocol one piece, whatever its frames, and nothing is kept but the head of a frame
 * that is not complete. Control frames (at most 125 bytes) are answered between. No extensions.
 */
const CONTINUATION = 0;
const TEXT = 1;
const BINARY = 2;
const CLOSE = 8;
const PING = 9;
const PONG = 10;
const FIN = 0x80;
const RESERVED = 0x70;
const MASKED = 0x80;
const CONTROL_BYTES_MAX = 125;
export const FRAME_HEAD_MAX = 10;
const CLIENT_HEAD_MAX = 14;

/** Close codes (RFC 6455 §7.4.1). */
export const NORMAL = 1000;
const PROTOCOL_ERROR = 1002;
export const UNSUPPORTED_DATA = 1003;
const TOO_BIG = 1009;

export class FrameReader {
  /** Code to close with: the client's fault, or 0. Nothing more is read. */
  fault = 0;
  /** The client has sent Close. Nothing more is read. */
  isClosed = false;
  /** Payload of the last ping that was read and not yet answered. */
  ping: Buffer | null = null;
  private head: Buffer | null = null;
  private headLength = 0;
  private opcode = BINARY;
  private left = 0; // payload bytes of the frame still to come
  private readonly key = new Uint8Array(4);
  private keyAt = 0;
  private isFragmented = false;
  private control: Buffer | null = null;
  private controlLength = 0;

  /** Reads a chunk and leaves the payloads of its data frames in [0, result). */
  read(chunk: Buffer): number {
    let at = 0;
    let out = 0;
    while (at < chunk.length && this.fault === 0 && !this.isClosed) {
      if (this.left === 0) {
        at = this.readHead(chunk, at);
        continue;
      }
      const size = Math.min(this.left, chunk.length - at);
      if (this.control === null) {
        unmask(chunk, at, chunk, out, size, this.key, this.keyAt);
        out += size;
      } else {
        unmask(chunk, at, this.control, this.controlLength, size, this.key, this.keyAt);
        this.controlLength += size;
      }
      this.keyAt = (this.keyAt + size) & 3;
      this.left -= size;
      at += size;
      if (this.left === 0) this.endFrame();
    }
    return out;
  }

  /** Takes bytes of the frame's head; returns the offset after them. */
  private readHead(chunk: Buffer, at: number): number {
    let bytes = chunk;
    let start = at;
    let end = chunk.length;
    if (this.head !== null || chunk.length - at < CLIENT_HEAD_MAX) {
      this.head ??= Buffer.allocUnsafe(CLIENT_HEAD_MAX);
      const before = this.headLength;
      const taken = chunk.copy(this.head, before, at, Math.min(chunk.length, at + CLIENT_HEAD_MAX - before));
      bytes = this.head;
      start = 0;
      end = this.headLength = before + taken;
      const size = this.decodeHead(bytes, start, end);
      if (size === 0) return at + taken;
      this.head = null;
      this.headLength = 0;
      return at + size - before;
    }
    return at + this.decodeHead(bytes, start, end);
  }

  /** Returns the head's size, or 0 when it is not complete. */
  private decodeHead(bytes: Buffer, start: number, end: number): number {
    if (end - start < 2) return 0;
    const short = bytes[start + 1] & 0x7f;
    const lengthBytes = short === 127 ? 8 : short === 126 ? 2 : 0;
    const size = 2 + lengthBytes + 4;
    this.checkHead(bytes[start], bytes[start + 1], short);
    if (this.fault !== 0) return size;
    if (end - start < size) return 0;
    this.left =
      lengthBytes === 0 ? short : bytes.readUIntBE(start + (lengthBytes === 8 ? 4 : 2), lengthBytes === 8 ? 6 : 2);
    if (lengthBytes === 8 && bytes.readUInt16BE(start + 2) !== 0) this.fault = TOO_BIG;
    this.key.set(bytes.subarray(start + size - 4, start + size));
    this.keyAt = 0;
    this.opcode = bytes[start] & 0x0f;
    if (this.opcode >= CLOSE) {
      this.control = Buffer.allocUnsafe(this.left);
      this.controlLength = 0;
    } else {
      this.isFragmented = (bytes[start] & FIN) === 0;
    }
    if (this.left === 0) this.endFrame();
    return size;
  }

  private checkHead(first: number, second: number, short: number): void {
    const opcode = first & 0x0f;
    const isControl = opcode >= CLOSE;
    const isKnown = opcode <= BINARY || (opcode >= CLOSE && opcode <= PONG);
    const isControlWrong = isControl && ((first & FIN) === 0 || short > CONTROL_BYTES_MAX);
    const isOrderWrong = !isControl && (opcode === CONTINUATION) !== this.isFragmented;
    if (!isKnown || (first & RESERVED) !== 0 || (second & MASKED) === 0 || isControlWrong) this.fault = PROTOCOL_ERROR;
    else if (opcode === TEXT)
      this.fault = UNSUPPORTED_DATA; // [MQTT-6.0.0-1]
    else if (isOrderWrong) this.fault = PROTOCOL_ERROR;
  }

  private endFrame(): void {
    const { control } = this;
    if (control === null) return;
    this.control = null;
    if (this.opcode === PING) this.ping = control;
    if (this.opcode !== CLOSE) return;
    if (control.length === 1) this.fault = PROTOCOL_ERROR;
    else this.isClosed = true;
  }
}

/** `from` and `to` may be one buffer when the bytes move to the front. */
function unmask(
  from: Buffer,
  start: number,
  to: Buffer,
  toStart: number,
  size: number,
  key: Uint8Array,
  keyAt: number,
): void {
  for (let i = 0; i < size; i++) to[toStart + i] = from[start + i] ^ key[(keyAt + i) & 3];
}

/** Writes the head of a binary frame of `size` bytes at the start of `bytes`; returns the head's size. */
export function putFrameHead(bytes: Buffer, size: number): number {
  bytes[0] = FIN | BINARY;
  if (size < 126) {
    bytes[1] = size;
    return 2;
  }
  if (size < 65_536) {
    bytes[1] = 126;
    bytes.writeUInt16BE(size, 2);
    return 4;
  }
  bytes[1] = 127;
  bytes.writeUIntBE(0, 2, 2);
  bytes.writeUIntBE(size, 4, 6);
  return 10;
}

export function encodePong(payload: Buffer): Buffer {
  return Buffer.concat([Buffer.from([FIN | PONG, payload.length]), payload]);
}

export function encodeClose(code: number): Buffer {
  return Buffer.from([FIN | CLOSE, 2, code >> 8, code & 0xff]);
}
