/**
 * The byte stream of one client: TCP or TLS by Bun.connect, with WebSocket on top when asked for.
 *
 *   out    | room for a WebSocket head | bytes of this tick … | free |     one write a tick
 *   rest   bytes that the kernel has refused; nothing else goes out before them
 *
 * `out` is lent from a pool only while there is something in it: a thousand idle clients own nothing.
 */
import type { Socket, SocketHandler } from "bun";
import type { Plan } from "./plan.ts";
import { FRAME_HEAD_MAX, putFrameHead, WebSocketReader } from "./websocket.ts";

const HEAD = FRAME_HEAD_MAX + 2;
const OUT_BYTES = 128 * 1024;
const POOL_MAX = 64;
const none = Buffer.alloc(0);
const pool: Buffer[] = [];

/** Whom a link serves. */
export interface LinkUser {
  handleOpen(): void;
  handleBytes(bytes: Buffer, start: number, end: number): void;
  /** Bytes of one event are handled. */
  handleEnd(): void;
  /** What was refused is sent: there is room again. */
  handleDrain(): void;
  handleClose(why: string): void;
}

/** What all links of a process share. */
export interface LinkOptions {
  readonly plan: Plan;
  readonly tls: object | undefined;
}

export class Link {
  private socket: Socket<Link> | undefined;
  private out: Buffer = none;
  private limit = HEAD;
  private rest: Buffer | undefined;
  private isClosed = false;
  private readonly webSocket: WebSocketReader | undefined;

  constructor(
    private readonly options: LinkOptions,
    private readonly user: LinkUser,
  ) {
    if (options.plan.isWebSocket)
      this.webSocket = new WebSocketReader({
        handleBytes: (bytes, start, end) => user.handleBytes(bytes, start, end),
        handleOpen: () => user.handleOpen(),
        send: (bytes) => this.sendRaw(bytes),
        fail: (why) => this.fail(why),
      });
  }

  /** `source` is an address of this machine, or undefined. */
  connect(source: string | undefined): void {
    const { plan, tls } = this.options;
    // localAddress works (Bun 1.4.5) but is not in the typings.
    const options = {
      hostname: plan.host,
      port: plan.port,
      data: this as Link,
      socket: handlers,
      ...(tls === undefined ? {} : { tls }),
      ...(source === undefined ? {} : { localAddress: source }),
    };
    Bun.connect<Link>(options).catch((error: unknown) => this.fail(error instanceof Error ? error.message : "failed"));
  }

  /** The bytes that `reserve` has made room in. */
  get buffer(): Buffer {
    return this.out;
  }

  /** Bytes of this tick, not yet written. */
  get pendingBytes(): number {
    return this.limit - HEAD;
  }

  get isBlocked(): boolean {
    return this.rest !== undefined;
  }

  /** Makes room for `size` bytes; returns the offset in `buffer` to write them at. */
  reserve(size: number): number {
    if (this.limit + size > this.out.length) this.grow(size);
    return this.limit;
  }

  commit(end: number): void {
    this.limit = end;
  }

  append(bytes: Buffer): void {
    const at = this.reserve(bytes.length);
    bytes.copy(this.out, at);
    this.limit = at + bytes.length;
  }

  /** Writes what is there; false when the kernel did not take all of it. */
  flush(): boolean {
    if (this.rest !== undefined) return false;
    if (this.limit === HEAD || this.isClosed || this.socket === undefined) return true;
    const from = this.webSocket === undefined ? HEAD : putFrameHead(this.out, HEAD, this.limit);
    this.write(this.out, from, this.limit);
    if (this.out.length === HEAD + OUT_BYTES && pool.length < POOL_MAX) pool.push(this.out);
    this.out = none;
    this.limit = HEAD;
    return this.rest === undefined;
  }

  /** Sends what is left if it can, and closes. */
  end(): void {
    if (this.isClosed) return;
    this.flush();
    this.isClosed = true;
    this.socket?.end();
  }

  private grow(size: number): void {
    const wanted = this.limit + size;
    const larger =
      wanted <= HEAD + OUT_BYTES
        ? (pool.pop() ?? Buffer.allocUnsafeSlow(HEAD + OUT_BYTES))
        : Buffer.allocUnsafeSlow(Math.max(wanted, 2 * this.out.length));
    if (this.limit > HEAD) this.out.copy(larger, HEAD, HEAD, this.limit);
    this.out = larger;
  }

  private write(bytes: Buffer, start: number, end: number): void {
    const sent = Math.max(0, this.socket!.write(bytes, start, end - start));
    if (start + sent < end) this.rest = Buffer.from(bytes.subarray(start + sent, end));
  }

  private sendRaw(bytes: Buffer): void {
    if (this.isClosed) return;
    if (this.rest === undefined) this.write(bytes, 0, bytes.length);
    else this.rest = Buffer.concat([this.rest, bytes]);
  }

  private fail(why: string): void {
    if (this.isClosed) return;
    this.isClosed = true;
    this.socket?.terminate();
    this.user.handleClose(why);
  }

  // ---- events of the socket

  handleSocketOpen(socket: Socket<Link>): void {
    this.socket = socket;
    if (this.isClosed) return void socket.terminate();
    if (this.options.tls === undefined) this.handleReady();
  }

  handleReady(): void {
    const { plan } = this.options;
    if (this.webSocket === undefined) this.user.handleOpen();
    else this.sendRaw(this.webSocket.request(plan.host, plan.port, plan.webSocketPath));
  }

  handleSocketData(chunk: Buffer): void {
    if (this.isClosed) return;
    if (this.webSocket === undefined) this.user.handleBytes(chunk, 0, chunk.length);
    else this.webSocket.read(chunk);
    this.user.handleEnd();
  }

  handleSocketDrain(): void {
    const { rest } = this;
    if (rest === undefined || this.isClosed) return;
    this.rest = undefined;
    this.write(rest, 0, rest.length);
    if (this.rest === undefined) this.user.handleDrain();
  }

  handleSocketClose(why: string): void {
    this.fail(why);
  }
}

const handlers: SocketHandler<Link> = {
  open: (socket) => socket.data.handleSocketOpen(socket),
  handshake: (socket, _isDone, error) => {
    // A handshake that failed has no cipher; whether a wrong certificate fails it, tlsOptions has said.
    if (socket.getCipher() === undefined || socket.getCipher() === null)
      socket.data.handleSocketClose(`TLS: ${error?.message ?? "no handshake"}`);
    else socket.data.handleReady();
  },
  data: (socket, chunk) => socket.data.handleSocketData(chunk),
  drain: (socket) => socket.data.handleSocketDrain(),
  close: (socket) => socket.data.handleSocketClose("closed by the server"),
  end: (socket) => socket.data.handleSocketClose("closed by the server"),
  // A throw from above is a bug of the generator: better no figure than a wrong one.
  error: (_socket, error) => {
    process.stderr.write(`${Bun.inspect(error)}\n`);
    process.exit(1);
  },
  connectError: (socket, error) => socket.data.handleSocketClose(error.message),
};
