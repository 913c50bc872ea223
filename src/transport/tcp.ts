/**
 * Links on sockets: stops 1 and 9 of the way of a PUBLISH. One class serves TCP, TLS, Unix sockets and WebSockets.
 *
 *   buffer   | sent | unsent ……… | free |        one write a tick (flusher.ts); what the kernel refuses stays, `drain` goes on
 *                   start         end
 *
 * Bun's socket neither buffers nor gathers, and drops the tail of `end(data)`: so a link buffers itself, and closes only
 * when its last byte is gone. Unsent bytes beyond `send.linkBytesMax` stop QoS 0 for that client; a link whose unsent
 * bytes do not move for `send.stallSec`, or whose peer does not close after us, is cut.
 */
import type { Limits } from "#core/limits.ts";
import { Metric, type Metrics } from "#core/metrics.ts";
import type { Link, PeerIdentity, Protocol } from "#core/ports.ts";
import { FairShare, type Sharer } from "./fair-share.ts";
import { Flusher } from "./flusher.ts";
import { LARGE_BUFFER, noBuffer, SendBuffers } from "./send-buffer.ts";
import { TurnGate } from "./turn-gate.ts";

const BYTES_SENT = Metric["bytes.sent"];
const CROWDED_LINK_BYTES = 64 * 1024;
const LINGER_MS = 5000;

/** What all links on sockets share. */
export class TcpTransport {
  readonly flusher: Flusher;
  readonly share: FairShare;
  readonly turnGate: TurnGate = new TurnGate();
  readonly buffers: SendBuffers = new SendBuffers();
  /** Links that cannot send or wait for their peer to close, and when the sweep first saw that nothing moved, or −1. */
  readonly watched: Map<TcpLink, number> = new Map();
  /** Of all listeners. */
  connectionCount = 0;
  /** The process has more to do than it can: new clients are refused as soon as they can be told. */
  isBusy = false;
  /** What else the sweep has to do. */
  readonly sweepers: Set<(nowMs: number) => void> = new Set();

  constructor(
    readonly limits: Limits["send"],
    readonly metrics: Metrics,
    readonly reportBug: (error: unknown) => void,
    /** Links at once, whatever their listener: what the process's descriptor limit leaves room for. */
    readonly connectionsMax: number = Number.MAX_SAFE_INTEGER,
    flusher?: Flusher,
  ) {
    this.flusher = flusher ?? new Flusher(reportBug);
    this.share = new FairShare(reportBug, () => this.flusher.flush());
  }

  /** Unsent bytes that a link may hold now. */
  get linkBytesMax(): number {
    return this.buffers.lentBytes > this.limits.totalBytesMax ? CROWDED_LINK_BYTES : this.limits.linkBytesMax;
  }

  /** Cuts links that are stuck. Call it every second or so. */
  sweep(nowMs: number): void {
    for (const [link, sinceMs] of this.watched) {
      if (sinceMs < 0) this.watched.set(link, nowMs);
      else link.check(nowMs - sinceMs, this.limits.stallSec * 1000);
    }
    for (const sweep of this.sweepers) sweep(nowMs);
  }
}

/** What a link writes to: one of Bun's sockets, plain or TLS, or a WebSocket that looks like one. */
export interface ByteSocket {
  /** Undefined when the socket is closed, and for a Unix socket. */
  readonly remoteAddress: string | undefined;
  readonly remotePort: number | undefined;
  /** Takes some of the range, in order, and returns how much: less than `size` when it is full, and `handleDrain` follows. */
  write(bytes: Buffer, start: number, size: number): number;
  pause(): void;
  resume(): void;
  /** Nothing more will be written. */
  shutdown(): void;
  terminate(): void;
}

/** Who hears a socket: kept in its `data`. */
export interface Receiver {
  handleData(chunk: Buffer): void;
  /** The socket has room again; may be called when there was room before. */
  handleDrain(): void;
  handleClosed(): void;
}

/** Bits of a link's state: one field, since a million idle links pay for each. */
const DIRTY = 1; // waits for the flusher
const BLOCKED = 2; // the kernel refused bytes: wait for drain
const CONGESTED = 4; // the protocol was told to hold back
const ENDING = 8;
const CLOSED = 16;
const WAITING = 32; // input waits for its turn (fair-share.ts)
const PAUSED = 64; // the protocol takes no input

export class TcpLink implements Link, Receiver, Sharer {
  protocol: Protocol | null = null;
  buffer: Buffer = noBuffer;
  private start = 0;
  private limit = 0; // end of the unsent bytes
  private state = 0;

  constructor(
    protected readonly transport: TcpTransport,
    private readonly socket: ByteSocket,
  ) {}

  get remoteAddress(): string {
    return this.socket.remoteAddress ?? "";
  }

  get remotePort(): number {
    return this.socket.remotePort ?? 0;
  }

  get unsentBytes(): number {
    return this.limit - this.start;
  }

  handleData(chunk: Buffer): void {
    const { share } = this.transport;
    if (this.is(ENDING)) return; // the peer talks on while we close
    if (this.is(WAITING) || share.isMuch(this, chunk.length)) share.take(this, chunk);
    else this.handleShare(chunk);
  }

  handleShare(bytes: Buffer): void {
    if (this.is(ENDING)) return;
    const { flusher } = this.transport;
    flusher.beforeData();
    this.protocol!.handleData(bytes);
    flusher.afterData(bytes.length);
  }

  get isPaused(): boolean {
    return this.is(PAUSED);
  }

  setWaiting(isWaiting: boolean): void {
    this.state = isWaiting ? this.state | WAITING : this.state & ~WAITING;
    if (this.is(CLOSED)) return;
    if (isWaiting) this.socket.pause();
    else if (!this.is(PAUSED)) this.socket.resume();
  }

  pause(): void {
    this.state |= PAUSED;
    if (!this.is(CLOSED)) this.socket.pause();
  }

  resume(): void {
    this.state &= ~PAUSED;
    if (this.is(WAITING)) this.transport.share.resume();
    else if (!this.is(CLOSED)) this.socket.resume();
  }

  // ---- out

  reserve(size: number): number {
    if (this.limit + size > this.buffer.length) this.makeRoom(size);
    return this.limit;
  }

  commit(end: number): void {
    this.limit = end;
    if (this.is(DIRTY)) return;
    this.state |= DIRTY;
    this.transport.flusher.add(this);
  }

  writeLarge(bytes: Buffer, start: number, end: number): void {
    if (this.unsentBytes === 0 && !this.is(BLOCKED) && !this.is(CLOSED)) {
      const sent = Math.max(0, this.socket.write(bytes, start, end - start));
      this.transport.metrics.counts[BYTES_SENT] += sent;
      start += sent;
      if (start === end) return;
      this.block();
    }
    const at = this.reserve(end - start);
    bytes.copy(this.buffer, at, start, end);
    this.commit(at + end - start);
  }

  /** Sends what the kernel takes. Called once a tick, and when the kernel has room again. */
  flush(): void {
    this.state &= ~DIRTY;
    if (this.is(BLOCKED)) this.watchCongestion();
    else this.writeUnsent();
  }

  /** Room for `size` more bytes: by sending what is there, by moving it to the front, or by a larger buffer. */
  private makeRoom(size: number): void {
    const { buffers } = this.transport;
    if (this.is(BLOCKED)) this.watchCongestion();
    else if (this.limit >= LARGE_BUFFER) this.writeUnsent();
    const unsent = this.unsentBytes;
    if (unsent + size <= this.buffer.length && this.start > 0) {
      this.buffer.copy(this.buffer, 0, this.start, this.limit);
    } else if (this.limit + size > this.buffer.length) {
      const larger = buffers.lend(unsent === 0 ? size : Math.max(unsent + size, this.buffer.length * 2));
      this.buffer.copy(larger, 0, this.start, this.limit);
      if (this.buffer !== noBuffer) buffers.giveBack(this.buffer);
      this.buffer = larger;
    } else {
      return;
    }
    this.start = 0;
    this.limit = unsent;
  }

  private writeUnsent(): void {
    const size = this.limit - this.start;
    if (size === 0 || this.is(CLOSED)) return this.release();
    const sent = this.socket.write(this.buffer, this.start, size);
    if (sent > 0) {
      this.transport.metrics.counts[BYTES_SENT] += sent;
      this.start += sent;
      if (this.transport.watched.has(this)) this.watch();
    }
    if (sent === size) return this.release();
    this.block();
    this.watchCongestion();
  }

  private watchCongestion(): void {
    if (!this.is(CONGESTED) && this.unsentBytes > this.transport.linkBytesMax) this.setCongested(true);
  }

  private block(): void {
    this.state |= BLOCKED;
    this.watch();
  }

  private setCongested(isCongested: boolean): void {
    this.state = isCongested ? this.state | CONGESTED : this.state & ~CONGESTED;
    this.protocol?.handleWritable(!isCongested);
  }

  /** Everything is sent. */
  private release(): void {
    if (this.buffer !== noBuffer) this.transport.buffers.giveBack(this.buffer);
    this.buffer = noBuffer;
    this.start = this.limit = 0;
    if (!this.is(ENDING) || this.is(CLOSED)) return;
    this.watch();
    this.socket.shutdown(); // our half only: closing both while input is unread would reset what was just sent
  }

  handleDrain(): void {
    if (this.is(CLOSED) || !this.is(BLOCKED)) return; // TLS sockets drain unasked
    this.state &= ~BLOCKED;
    this.writeUnsent();
    if (!this.is(BLOCKED) && !this.is(ENDING)) this.transport.watched.delete(this);
    if (this.is(CONGESTED) && this.unsentBytes * 4 < this.transport.linkBytesMax) this.setCongested(false);
  }

  // ---- the end

  end(): void {
    if (this.is(ENDING)) return;
    this.state = (this.state | ENDING) & ~WAITING;
    this.transport.share.withdraw(this);
    this.watch();
    this.resume(); // so that the peer's close is seen
    if (!this.is(BLOCKED)) this.writeUnsent();
  }

  destroy(): void {
    this.state |= ENDING;
    if (!this.is(CLOSED)) this.socket.terminate();
  }

  handleClosed(): void {
    for (const bytes of this.transport.share.withdraw(this)) this.handleShare(bytes); // they came before the end
    this.state |= CLOSED | ENDING;
    this.transport.watched.delete(this);
    this.release();
    this.protocol?.handleClose();
  }

  /** One look of the sweep: cut when nothing has moved for too long. */
  check(stillMs: number, stallMs: number): void {
    const isWaitingForPeer = this.is(ENDING) && this.unsentBytes === 0;
    if (stillMs < (isWaitingForPeer ? LINGER_MS : stallMs)) return;
    if (!isWaitingForPeer) this.transport.metrics.add("connections.closed.stalled");
    this.destroy();
  }

  private watch(): void {
    this.transport.watched.set(this, -1);
  }

  private is(bit: number): boolean {
    return (this.state & bit) !== 0;
  }
}

/** What is known of a peer besides its socket. */
export interface Peer {
  readonly address: string;
  readonly port: number;
  readonly identity: PeerIdentity | undefined;
}

/** A link whose peer is not, or not only, who its socket says. */
export class KnownLink extends TcpLink {
  constructor(
    transport: TcpTransport,
    socket: ByteSocket,
    private readonly peer: Peer,
  ) {
    super(transport, socket);
  }

  get identity(): PeerIdentity | undefined {
    return this.peer.identity;
  }

  override get remoteAddress(): string {
    return this.peer.address;
  }

  override get remotePort(): number {
    return this.peer.port;
  }
}
