/**
 * The client's side of WebSocket (RFC 6455), over the same raw socket as MQTT over TCP, so that source addresses, TLS and
 * gathered writes work the same way.
 *
 *   out   0x82 | 0x80 + length (7 bits, or 126 and 2 bytes, or 127 and 8) | mask key (4) | payload
 *   in    the same without a mask; a packet may lie in several frames, and a frame hold several packets
 *
 * The mask key is 0, so payloads go out as they are: masking protects proxies from hostile scripts, and costs a generator
 * a pass over every byte. The server unmasks as usual and does the same work.
 */
import { createHash } from "node:crypto";

export const FRAME_HEAD_MAX = 14;
const BINARY = 0x82;
const MASKED = 0x80;
const PONG = 0x8a;
const CLOSE = 8;
const PING = 9;
const ACCEPT_GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
const HANDSHAKE_MAX = 16_384;

export interface WebSocketUser {
  /** MQTT bytes in [start, end). */
  handleBytes(bytes: Buffer, start: number, end: number): void;
  handleOpen(): void;
  /** To be sent at once, not inside a frame. */
  send(bytes: Buffer): void;
  fail(why: string): void;
}

/** Writes the head of a frame for the payload in [start, end) right before `start`; returns where the frame begins. */
export function putFrameHead(bytes: Buffer, start: number, end: number): number {
  const length = end - start;
  const size = length < 126 ? 2 : length < 65_536 ? 4 : 10;
  const at = start - size - 4;
  bytes[at] = BINARY;
  bytes[at + 1] = MASKED | (size === 2 ? length : size === 4 ? 126 : 127);
  if (size === 4) bytes.writeUInt16BE(length, at + 2);
  if (size === 10) {
    bytes.writeUInt32BE(0, at + 2);
    bytes.writeUInt32BE(length, at + 6);
  }
  bytes.writeUInt32BE(0, start - 4);
  return at;
}

export class WebSocketReader {
  private isOpen = false;
  /** Begin of a handshake answer or of a frame's head that is not complete. */
  private held: Buffer | undefined;
  /** Bytes of the current frame's payload still to come. */
  private left = 0;
  private readonly key: string = crypto.getRandomValues(Buffer.alloc(16)).toString("base64");

  constructor(private readonly user: WebSocketUser) {}

  request(host: string, port: number, path: string): Buffer {
    const lines = [
      `GET ${path} HTTP/1.1`,
      `Host: ${host}:${port}`,
      "Upgrade: websocket",
      "Connection: Upgrade",
      `Sec-WebSocket-Key: ${this.key}`,
      "Sec-WebSocket-Version: 13",
      "Sec-WebSocket-Protocol: mqtt",
    ];
    return Buffer.from(`${lines.join("\r\n")}\r\n\r\n`);
  }

  read(chunk: Buffer): void {
    let bytes = chunk;
    if (this.held !== undefined) {
      bytes = Buffer.concat([this.held, chunk]);
      this.held = undefined;
    }
    let at = this.isOpen ? 0 : this.readHandshake(bytes);
    while (at >= 0 && at < bytes.length) {
      if (this.left > 0) {
        const end = Math.min(bytes.length, at + this.left);
        this.left -= end - at;
        this.user.handleBytes(bytes, at, end);
        at = end;
      } else at = this.readHead(bytes, at);
    }
  }

  /** Returns the offset after it, or -1 when there is more to come or it has failed. */
  private readHandshake(bytes: Buffer): number {
    const end = bytes.indexOf("\r\n\r\n");
    if (end < 0) {
      if (bytes.length > HANDSHAKE_MAX) this.user.fail("the answer to the WebSocket upgrade does not end");
      else this.held = bytes;
      return -1;
    }
    const [status = "", ...lines] = bytes.toString("latin1", 0, end).split("\r\n");
    const headers = new Map(lines.map((line) => [line.split(":", 1)[0].toLowerCase(), line.replace(/^[^:]*:\s*/, "")]));
    const accept = createHash("sha1").update(`${this.key}${ACCEPT_GUID}`).digest("base64");
    const isGood = / 101\b/.test(status) && headers.get("sec-websocket-accept") === accept;
    if (!isGood || headers.get("sec-websocket-protocol") !== "mqtt") {
      this.user.fail(`no WebSocket with sub-protocol mqtt: ${status}`);
      return -1;
    }
    this.isOpen = true;
    this.user.handleOpen();
    return end + 4;
  }

  /** Reads a frame's head, and the whole frame if it is a control frame. */
  private readHead(bytes: Buffer, at: number): number {
    const length7 = bytes.length - at > 1 ? bytes[at + 1] & 0x7f : 0;
    const size = length7 === 127 ? 10 : length7 === 126 ? 4 : 2;
    if (bytes.length - at < size) return this.hold(bytes, at);
    const length =
      size === 2 ? length7 : size === 4 ? bytes.readUInt16BE(at + 2) : Number(bytes.readBigUInt64BE(at + 2));
    const opcode = bytes[at] & 0x0f;
    if (opcode < CLOSE) {
      this.left = length;
      return at + size;
    }
    if (bytes.length - at < size + length) return this.hold(bytes, at);
    if (opcode === CLOSE) {
      this.user.fail("the server has closed the WebSocket");
      return -1;
    }
    if (opcode === PING) this.pong(bytes.subarray(at + size, at + size + length));
    return at + size + length;
  }

  private hold(bytes: Buffer, at: number): number {
    this.held = Buffer.from(bytes.subarray(at));
    return -1;
  }

  private pong(payload: Buffer): void {
    this.user.send(Buffer.concat([Buffer.from([PONG, MASKED | payload.length, 0, 0, 0, 0]), payload]));
  }
}
