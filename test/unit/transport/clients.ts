/** The other end of a link, byte by byte: a TCP, TLS or Unix socket, and a WebSocket on any of them, each of which can stop reading. */
import { connect as connectPlain, type NetConnectOpts, type Socket } from "node:net";
import { type ConnectionOptions, connect as connectTls } from "node:tls";
import { until } from "./until.ts";

/** One end of a byte stream. */
export interface ByteClient {
  readonly bytes: Buffer;
  readonly length: number;
  readonly isClosed: boolean;
  send(bytes: Uint8Array): void;
  pause(): void;
  resume(): void;
  /** Closes as a well-behaved client does. */
  end(): void;
  /** Cuts. */
  destroy(): void;
}

export class StreamClient implements ByteClient {
  isClosed = false;
  error: NodeJS.ErrnoException | undefined;
  length = 0;
  private readonly chunks: Buffer[] = [];

  private constructor(readonly socket: Socket) {
    socket.on("data", (chunk: Buffer) => {
      this.chunks.push(chunk);
      this.length += chunk.length;
    });
    socket.on("error", (error) => (this.error = error));
    socket.on("close", () => (this.isClosed = true));
  }

  static async connect(target: NetConnectOpts, tls?: ConnectionOptions, before?: Uint8Array): Promise<StreamClient> {
    const plain = connectPlain(target);
    await new Promise<void>((resolve, reject) => plain.once("connect", resolve).once("error", reject));
    if (before) plain.write(before);
    if (!tls) return new StreamClient(plain);
    const secure = connectTls({ socket: plain, rejectUnauthorized: false, ...tls });
    const client = new StreamClient(secure);
    await new Promise<void>((resolve, reject) => {
      secure.once("secureConnect", resolve).once("error", reject);
      secure.once("close", () => reject(new Error("closed in the handshake")));
    });
    return client;
  }

  get bytes(): Buffer {
    return Buffer.concat(this.chunks);
  }

  /** Takes what has come. */
  take(): Buffer {
    const all = this.bytes;
    this.chunks.length = 0;
    this.length = 0;
    return all;
  }

  send(bytes: Uint8Array): void {
    this.socket.write(bytes);
  }

  pause(): void {
    this.socket.pause();
  }

  resume(): void {
    this.socket.resume();
  }

  end(): void {
    this.socket.end();
  }

  destroy(): void {
    this.socket.destroy();
  }
}

export interface UpgradeWish {
  readonly path?: string;
  readonly headers?: Readonly<Record<string, string>>;
  /** "" for none. */
  readonly protocols?: string;
}

/** A WebSocket client that sends what it is told: frames right and wrong. */
export class WebSocketClient implements ByteClient {
  status = "";
  headers = "";
  closeCode = 0;
  readonly pongs: Buffer[] = [];
  frameCount = 0;
  length = 0;
  private readonly payloads: Buffer[] = [];
  private unread: Buffer = Buffer.alloc(0);

  private constructor(readonly stream: StreamClient) {
    stream.socket.on("data", () => this.read());
  }

  /** Resolves with the answer to the upgrade, whatever it is. */
  static async connect(stream: StreamClient, wish: UpgradeWish = {}): Promise<WebSocketClient> {
    const client = new WebSocketClient(stream);
    const protocols = wish.protocols ?? "mqtt";
    const headers: Record<string, string> = {
      Host: "localhost",
      Upgrade: "websocket",
      Connection: "Upgrade",
      "Sec-WebSocket-Key": Buffer.alloc(16, 7).toString("base64"),
      "Sec-WebSocket-Version": "13",
      ...(protocols !== "" && { "Sec-WebSocket-Protocol": protocols }),
      ...wish.headers,
    };
    const lines = Object.entries(headers).map(([name, value]) => `${name}: ${value}\r\n`);
    stream.send(Buffer.from(`GET ${wish.path ?? "/mqtt"} HTTP/1.1\r\n${lines.join("")}\r\n`));
    await until(() => client.status !== "" || stream.isClosed);
    return client;
  }

  get bytes(): Buffer {
    return Buffer.concat(this.payloads);
  }

  get isClosed(): boolean {
    return this.stream.isClosed;
  }

  /** As one binary frame. */
  send(bytes: Uint8Array): void {
    this.stream.send(frame(bytes));
  }

  pause(): void {
    this.stream.pause();
  }

  resume(): void {
    this.stream.resume();
  }

  end(): void {
    this.stream.send(frame(Buffer.from([3, 0xe8]), 0x88));
  }

  destroy(): void {
    this.stream.destroy();
  }

  private read(): void {
    this.unread = Buffer.concat([this.unread, this.stream.take()]);
    if (this.status === "") {
      const end = this.unread.indexOf("\r\n\r\n");
      if (end < 0) return;
      this.headers = this.unread.toString("latin1", 0, end).toLowerCase();
      this.unread = this.unread.subarray(end + 4);
      this.status = this.headers.split(" ")[1] ?? "?";
    }
    if (this.status !== "101") return;
    for (;;) {
      const short = (this.unread[1] ?? 0) & 0x7f;
      const head = short === 127 ? 10 : short === 126 ? 4 : 2;
      if (this.unread.length < head) return;
      const size =
        short === 127 ? Number(this.unread.readBigUInt64BE(2)) : short === 126 ? this.unread.readUInt16BE(2) : short;
      if (this.unread.length < head + size) return;
      this.handleFrame(this.unread[0]!, Buffer.from(this.unread.subarray(head, head + size)));
      this.unread = this.unread.subarray(head + size);
    }
  }

  private handleFrame(first: number, payload: Buffer): void {
    if (first === 0x82) {
      this.frameCount++;
      this.payloads.push(payload);
      this.length += payload.length;
    } else if (first === 0x8a) this.pongs.push(payload);
    else if (first === 0x88) {
      this.closeCode = payload.readUInt16BE(0);
      this.stream.end();
    } else throw new Error(`frame ${first.toString(16)} from the broker`);
  }
}

/** A client's frame; `first` is its first byte, `key` its mask. */
export function frame(payload: Uint8Array, first = 0x82, key: readonly number[] = [1, 2, 3, 4]): Buffer {
  const { length } = payload;
  const head = Buffer.alloc(length < 126 ? 2 : length < 65_536 ? 4 : 10);
  head[0] = first;
  head[1] = 0x80 | (length < 126 ? length : length < 65_536 ? 126 : 127);
  if (head.length === 4) head.writeUInt16BE(length, 2);
  if (head.length === 10) head.writeBigUInt64BE(BigInt(length), 2);
  const masked = Buffer.from(payload.map((byte, i) => byte ^ key[i & 3]!));
  return Buffer.concat([head, Buffer.from(key), masked]);
}
