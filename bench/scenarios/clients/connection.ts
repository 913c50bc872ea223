/**
 * A bench client's connection: packets in, cut out of the chunks in place; bytes out, gathered and written once a turn of
 * the event loop, so that the client costs little beside the broker.
 */
import type { Socket } from "bun";
import { connectPacket, type Version } from "./packets.ts";

const CONNACK = 2;
const DISCONNECT = Buffer.from([0xe0, 0]);
const OUT_BYTES = 4096;
/** Server unavailable in CONNACK of 3.x; Server unavailable and Server busy of 5.0. */
const BUSY_CODES = new Set([3, 0x88, 0x89]);
const TRIES_MAX = 20;
const RETRY_MS = 200;

/** Called for every packet after CONNACK. `from` is the first byte after the fixed header; the bytes are borrowed. */
type OnPacket = (connection: Connection, first: number, bytes: Buffer, from: number, to: number) => void;

export interface ConnectionOptions {
  readonly port: number;
  /** An address of the loopback; 127.0.0.1 by default. */
  readonly host?: string;
  readonly clientId: string;
  readonly version?: Version;
  /** The session stays when the connection ends. */
  readonly isPersistent?: boolean;
  readonly login?: { readonly username: string; readonly password: string };
  /** Without an answer to CONNECT by then it gives up; 0: never. */
  readonly patienceMs?: number;
  readonly onPacket: OnPacket;
  /** The broker has ended the connection that it had accepted. */
  readonly onClose?: () => void;
}

/** The broker's CONNACK was a refusal. */
export class RefusedError extends Error {
  constructor(
    readonly clientId: string,
    readonly code: number,
  ) {
    super(`${clientId}: refused with ${code}`);
  }
}

export class GaveUpError extends Error {}

export class Connection {
  readonly version: Version;
  readonly onPacket: OnPacket;
  /** The broker had a session of this client. */
  hadSession = false;
  private socket: Socket<Connection> | undefined;
  private readonly ended = Promise.withResolvers<void>();
  private tail: Buffer | undefined;
  private out: Buffer = Buffer.allocUnsafe(OUT_BYTES);
  private outLength = 0;
  private isBlocked = false;
  private isScheduled = false;
  private isAccepted = false;
  private isClosing = false;

  private constructor(
    private readonly options: ConnectionOptions,
    private readonly accepted: PromiseWithResolvers<Connection>,
  ) {
    this.version = options.version ?? 4;
    this.onPacket = options.onPacket;
  }

  /** Resolves after CONNACK; rejects when the broker refuses or closes before. */
  static async open(options: ConnectionOptions): Promise<Connection> {
    const accepted = Promise.withResolvers<Connection>();
    const connection = new Connection(options, accepted);
    const { host: hostname = "127.0.0.1", port } = options;
    await Bun.connect<Connection>({ hostname, port, data: connection, socket: handlers });
    const { patienceMs = 0 } = options;
    const timer = patienceMs > 0 ? setTimeout(() => connection.giveUp(), patienceMs) : undefined;
    return accepted.promise.finally(() => clearTimeout(timer));
  }

  /** Bytes that the kernel has not taken, or that wait for this turn's end. */
  get unsentBytes(): number {
    return this.outLength;
  }

  opened(socket: Socket<Connection>): void {
    this.socket = socket;
    socket.write(connectPacket({ ...this.options, version: this.version }));
  }

  /** Copies; goes out at the end of this turn. */
  send(bytes: Uint8Array): void {
    const at = this.reserve(bytes.length);
    this.out.set(bytes, at);
  }

  /** Room in `buffer` for so many bytes, to be filled now; the buffer may be another after the next call. */
  reserve(length: number): number {
    const at = this.outLength;
    if (at + length > this.out.length) {
      const grown = Buffer.allocUnsafe((at + length) * 2);
      this.out.copy(grown, 0, 0, at);
      this.out = grown;
    }
    this.outLength = at + length;
    if (!this.isScheduled && !this.isBlocked) {
      this.isScheduled = true;
      if (dirty.push(this) === 1) setImmediate(flushDirty);
    }
    return at;
  }

  get buffer(): Buffer {
    return this.out;
  }

  acknowledge(first: number, packetId: number): void {
    const at = this.reserve(4);
    const { out } = this;
    out[at] = first;
    out[at + 1] = 2;
    out[at + 2] = packetId >> 8;
    out[at + 3] = packetId & 255;
  }

  flush(): void {
    this.isScheduled = false;
    if (this.outLength === 0 || this.socket === undefined || this.isClosing) return;
    const taken = Math.max(0, this.socket.write(this.out, 0, this.outLength));
    this.out.copyWithin(0, taken, this.outLength);
    this.outLength -= taken;
    this.isBlocked = this.outLength > 0;
  }

  receive(chunk: Buffer): void {
    const bytes = this.tail === undefined ? chunk : Buffer.concat([this.tail, chunk]);
    this.tail = undefined;
    let at = 0;
    while (at < bytes.length) {
      let length = 0;
      let from = at + 1;
      for (let shift = 0; ; shift += 7) {
        if (from >= bytes.length) return this.keep(bytes, at);
        const byte = bytes[from++];
        length |= (byte & 127) << shift;
        if (byte < 128) break;
      }
      const to = from + length;
      if (to > bytes.length) return this.keep(bytes, at);
      if (bytes[at] >> 4 === CONNACK) this.connected(bytes[from], bytes[from + 1]);
      else this.onPacket(this, bytes[at], bytes, from, to);
      at = to;
    }
  }

  drained(): void {
    this.isBlocked = false;
    this.flush();
  }

  closed(): void {
    this.ended.resolve();
    this.accepted.reject(new Error(`${this.options.clientId}: closed by the broker`));
    if (this.isAccepted && !this.isClosing) this.options.onClose?.();
  }

  /** Without a DISCONNECT, as when the network goes. */
  cut(): void {
    this.isClosing = true;
    this.socket?.terminate();
  }

  /** With a DISCONNECT, after all that was sent; resolves when the connection has ended. */
  leave(): Promise<void> {
    this.send(DISCONNECT);
    this.flush();
    this.isClosing = true;
    this.socket?.end();
    return this.ended.promise;
  }

  private giveUp(): void {
    this.accepted.reject(new GaveUpError(`${this.options.clientId}: no answer in time`));
    this.cut();
  }

  private keep(bytes: Buffer, at: number): void {
    this.tail = Buffer.from(bytes.subarray(at));
  }

  private connected(flags: number, code: number): void {
    this.hadSession = (flags & 1) === 1;
    this.isAccepted = code === 0;
    if (this.isAccepted) this.accepted.resolve(this);
    else this.accepted.reject(new RefusedError(this.options.clientId, code));
  }
}

const dirty: Connection[] = [];

function flushDirty(): void {
  for (const connection of dirty) connection.flush();
  dirty.length = 0;
}

const handlers = {
  open: (socket: Socket<Connection>) => socket.data.opened(socket),
  data: (socket: Socket<Connection>, chunk: Buffer) => socket.data.receive(chunk),
  drain: (socket: Socket<Connection>) => socket.data.drained(),
  close: (socket: Socket<Connection>) => socket.data.closed(),
  error: (_: Socket<Connection>, error: Error) => {
    throw error;
  },
};

/** A broker that has too much to do at the moment says so: the client comes again, a few times. */
async function patiently(open: () => Promise<Connection>): Promise<Connection> {
  for (let tries = 1; ; tries++) {
    try {
      return await open();
    } catch (error) {
      if (!(error instanceof RefusedError && BUSY_CODES.has(error.code)) || tries === TRIES_MAX) throw error;
      await Bun.sleep(RETRY_MS);
    }
  }
}

/** Opens `count` connections, `pending` at once. */
export async function openAll(
  count: number,
  pending: number,
  open: (index: number) => Promise<Connection>,
): Promise<Connection[]> {
  const all: Connection[] = Array.from({ length: count });
  let next = 0;
  const worker = async (): Promise<void> => {
    while (next < count) {
      const index = next++;
      all[index] = await patiently(() => open(index));
    }
  };
  await Promise.all(Array.from({ length: Math.min(pending, count) }, worker));
  return all;
}
