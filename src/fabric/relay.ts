/**
 * Clients whose session lives in another process than their socket: the one that accepted them relays their bytes, both ways, for
 * all of them over one link (a *trunk*) to each other process.
 *
 *   process with the socket                                         process with the session
 *   client's link ─ Relay ─┐                                    ┌─ RemoteLink ─ its protocol (mqtt/connection.ts)
 *   client's link ─ Relay ─┼─ Trunk ══ Unix socket, frames ══ Trunk ─┼─ RemoteLink ─ …
 *
 *   frame   | bytes u32 | kind u8 | stream u32 | payload |     little-endian; a stream's number is the relaying side's and never
 *                                                              used again
 *   →       OPEN: the peer as JSON   DATA   BLOCKED, FREE: the client reads too slowly, and again   CLOSED: always the last
 *   ←       DATA   PAUSE, RESUME reading   END: close when all is sent   DESTROY
 *
 * Frames of a tick leave in one write, and bytes of one stream that follow each other are one frame. A trunk whose other end reads
 * too slowly blocks its streams, each in its own way: relays stop reading their clients, remote links say that they are not
 * writable.
 */
import type { Link, PeerIdentity, Protocol } from "#core/ports.ts";

const OPEN = 1;
const DATA = 2;
const BLOCKED = 3;
const FREE = 4;
const CLOSED = 5;
const PAUSE = 6;
const RESUME = 7;
const END = 8;
const DESTROY = 9;

const HEAD_BYTES = 9;
/** From here on bytes are not copied to a link's buffer if it has nothing else to say. */
const LARGE = 32 * 1024;
/** An OPEN that is longer is a bug. */
const FRAME_BYTES_MAX = 1024 * 1024;
const noBytes = Buffer.alloc(0);

/** Who is at the other end of a relayed client's socket. */
interface RelayedPeer {
  readonly address: string;
  readonly port: number;
  readonly listener: string;
  readonly identity?: PeerIdentity | undefined;
}

/** What a trunk's frames are for, on either side. */
interface Stream {
  /** The other process is gone. */
  handleTrunkClosed(): void;
  handleTrunkWritable(isWritable: boolean): void;
  /** A frame without payload. */
  handleSign(kind: number): void;
  /** Bytes of the stream; borrowed. */
  handleBytes(bytes: Buffer): void;
}

export interface TrunkHost {
  /** Makes what speaks on a relayed client's link. */
  makeProtocol(link: Link, listener: string): Protocol;
  handleGone(trunk: Trunk): void;
}

export class Trunk implements Protocol {
  private readonly streams = new Map<number, Stream>();
  private lastStream = 0;
  private isWritable = true;
  private isClosed = false;
  // The frame that comes in: its head, then what is missing of its payload.
  private head: Buffer = noBytes;
  private kind = 0;
  private stream = 0;
  private missing = 0;
  private payload: Buffer[] = [];
  // The last frame that went out, as long as it can grow.
  private openFrame = -1;
  private openStream = -1;
  private openEnd = -1;

  constructor(
    private readonly link: Link,
    private readonly host: TrunkHost,
  ) {}

  get streamCount(): number {
    return this.streams.size;
  }

  // ---- relaying side

  /** Relays a client's link from now on; the caller makes the answer the link's protocol. */
  relay(link: Link, listener: string): Protocol {
    const stream = ++this.lastStream;
    const { remoteAddress: address, remotePort: port, identity } = link;
    this.send(OPEN, stream, Buffer.from(JSON.stringify({ address, port, listener, identity })));
    const relay = new Relay(this, stream, link);
    this.streams.set(stream, relay);
    if (!this.isWritable) relay.handleTrunkWritable(false);
    return relay;
  }

  // ---- both sides

  /** Sends a frame. */
  send(kind: number, stream: number, payload: Buffer = noBytes): void {
    if (this.isClosed) return;
    const at = this.begin(kind, stream, payload.length);
    payload.copy(this.link.buffer, at);
    this.finish(at + payload.length);
  }

  /** Room for `size` bytes of a stream's data; the offset in the link's buffer. */
  reserve(stream: number, size: number): number {
    return this.begin(DATA, stream, size);
  }

  /** The bytes up to `end` are there. */
  finish(end: number): void {
    const { buffer } = this.link;
    buffer.writeUInt32LE(end - this.openFrame - HEAD_BYTES, this.openFrame);
    this.openEnd = end;
    this.link.commit(end);
  }

  get buffer(): Buffer {
    return this.link.buffer;
  }

  private begin(kind: number, stream: number, size: number): number {
    const at = this.link.reserve(HEAD_BYTES + size);
    if (kind === DATA && stream === this.openStream && this.canGrow(at)) return at;
    this.openFrame = at;
    this.openStream = kind === DATA ? stream : -1;
    const { buffer } = this.link;
    buffer[at + 4] = kind;
    buffer.writeUInt32LE(stream, at + 5);
    return at + HEAD_BYTES;
  }

  /** The last frame ends where the next byte goes, and nothing of it has been sent. */
  private canGrow(at: number): boolean {
    return at === this.openEnd && at - this.openFrame <= this.link.unsentBytes;
  }

  forget(stream: number): void {
    this.streams.delete(stream);
  }

  // ---- Protocol

  handleData(chunk: Buffer): void {
    let at = 0;
    while (at < chunk.length && !this.isClosed) {
      if (this.missing === 0) {
        at = this.readHead(chunk, at);
        if (at < 0) return;
      }
      const end = Math.min(chunk.length, at + this.missing);
      this.missing -= end - at;
      this.handlePayload(end === at ? noBytes : chunk.subarray(at, end));
      at = end;
    }
  }

  /** Reads a frame's head at `at`; the offset after it, or −1 when that is not all of it. */
  private readHead(chunk: Buffer, at: number): number {
    let head = chunk;
    let from = at;
    let next = at + HEAD_BYTES;
    if (this.head.length > 0 || next > chunk.length) {
      const wanted = HEAD_BYTES - this.head.length;
      head = Buffer.concat([this.head, chunk.subarray(at, at + wanted)]);
      this.head = head.length < HEAD_BYTES ? head : noBytes;
      if (head.length < HEAD_BYTES) return -1;
      from = 0;
      next = at + wanted;
    }
    this.missing = head.readUInt32LE(from);
    this.kind = head[from + 4];
    this.stream = head.readUInt32LE(from + 5);
    if (this.kind !== DATA && this.missing > FRAME_BYTES_MAX) throw new RangeError(`a frame of ${this.missing} bytes`);
    if (this.missing === 0) this.handlePayload(noBytes);
    return next;
  }

  private handlePayload(part: Buffer): void {
    if (this.kind === DATA) {
      if (part.length > 0) this.streams.get(this.stream)?.handleBytes(part);
      return;
    }
    if (part.length > 0) this.payload.push(part);
    if (this.missing > 0) return;
    const payload = this.payload.splice(0);
    if (this.kind === OPEN) this.open(Buffer.concat(payload));
    else this.streams.get(this.stream)?.handleSign(this.kind);
  }

  private open(json: Buffer): void {
    const peer = JSON.parse(json.toString()) as RelayedPeer;
    const link = new RemoteLink(this, this.stream, peer);
    this.streams.set(this.stream, link);
    try {
      link.protocol = this.host.makeProtocol(link, peer.listener);
    } catch (error) {
      link.destroy();
      throw error;
    }
    if (!this.isWritable) link.handleTrunkWritable(false);
  }

  handleWritable(isWritable: boolean): void {
    this.isWritable = isWritable;
    for (const stream of this.streams.values()) stream.handleTrunkWritable(isWritable);
  }

  handleClose(): void {
    if (this.isClosed) return;
    this.isClosed = true;
    const streams = [...this.streams.values()];
    this.streams.clear();
    for (const stream of streams) stream.handleTrunkClosed();
    this.host.handleGone(this);
  }
}

/** Bytes of a client that waits; beyond, it is not read. */
const WAITING_BYTES_MAX = 64 * 1024;

/** A client whose process is being started again: what it says is kept until there is a trunk. */
export class WaitingClient implements Protocol {
  isGone = false;
  private readonly chunks: Buffer[] = [];
  private bytes = 0;

  constructor(
    private readonly link: Link,
    private readonly listener: string,
    /** Monotonic milliseconds at which it is given up. */
    readonly deadlineMs: number,
  ) {}

  handleData(chunk: Buffer): void {
    this.chunks.push(chunk);
    this.bytes += chunk.length;
    if (this.bytes > WAITING_BYTES_MAX) this.link.pause();
  }

  handleWritable(): void {}

  handleClose(): void {
    this.isGone = true;
  }

  /** The trunk is there; the answer is the link's protocol from now on. */
  goOn(trunk: Trunk): Protocol {
    if (this.bytes > WAITING_BYTES_MAX) this.link.resume();
    const relay = trunk.relay(this.link, this.listener);
    for (const chunk of this.chunks.splice(0)) relay.handleData(chunk);
    return relay;
  }

  giveUp(): void {
    this.link.destroy();
  }
}

/** Where the client's socket is: stands for the protocol that is elsewhere. */
class Relay implements Protocol, Stream {
  /** The link closes when all is sent: what the trunk brought last must still arrive. */
  private isEnding = false;
  private isTrunkBlocked = false;
  private isPaused = false;

  constructor(
    private readonly trunk: Trunk,
    private readonly stream: number,
    private readonly link: Link,
  ) {}

  handleData(chunk: Buffer): void {
    this.trunk.send(DATA, this.stream, chunk);
  }

  handleBytes(bytes: Buffer): void {
    if (bytes.length >= LARGE) return this.link.writeLarge(bytes, 0, bytes.length);
    const at = this.link.reserve(bytes.length);
    bytes.copy(this.link.buffer, at);
    this.link.commit(at + bytes.length);
  }

  handleWritable(isWritable: boolean): void {
    this.trunk.send(isWritable ? FREE : BLOCKED, this.stream);
  }

  handleClose(): void {
    this.trunk.send(CLOSED, this.stream);
    this.trunk.forget(this.stream);
  }

  handleSign(kind: number): void {
    if (kind === END) {
      this.isEnding = true;
      this.link.end();
    } else if (kind === DESTROY) this.link.destroy();
    else if (kind === PAUSE || kind === RESUME) this.setPaused(kind === PAUSE, this.isTrunkBlocked);
  }

  handleTrunkWritable(isWritable: boolean): void {
    this.setPaused(this.isPaused, !isWritable);
  }

  handleTrunkClosed(): void {
    if (!this.isEnding) this.link.destroy();
  }

  private setPaused(isPaused: boolean, isTrunkBlocked: boolean): void {
    const was = this.isPaused || this.isTrunkBlocked;
    this.isPaused = isPaused;
    this.isTrunkBlocked = isTrunkBlocked;
    const is = isPaused || isTrunkBlocked;
    if (is === was) return;
    if (is) this.link.pause();
    else this.link.resume();
  }
}

/** Where the session is: the client's link, whose socket is elsewhere. */
class RemoteLink implements Link, Stream {
  protocol: Protocol | null = null;
  private isBlocked = false;
  private isTrunkBlocked = false;
  private isEnded = false;

  constructor(
    private readonly trunk: Trunk,
    private readonly stream: number,
    private readonly peer: RelayedPeer,
  ) {}

  get identity(): PeerIdentity | undefined {
    return this.peer.identity;
  }

  get remoteAddress(): string {
    return this.peer.address;
  }

  get remotePort(): number {
    return this.peer.port;
  }

  get buffer(): Buffer {
    return this.trunk.buffer;
  }

  /** Known where the socket is: it says when they are too many. */
  get unsentBytes(): number {
    return 0;
  }

  reserve(size: number): number {
    return this.trunk.reserve(this.stream, size);
  }

  commit(end: number): void {
    this.trunk.finish(end);
  }

  writeLarge(bytes: Buffer, start: number, end: number): void {
    const at = this.reserve(end - start);
    bytes.copy(this.buffer, at, start, end);
    this.commit(at + end - start);
  }

  end(): void {
    this.finish(END);
  }

  destroy(): void {
    this.finish(DESTROY);
  }

  private finish(kind: number): void {
    if (this.isEnded) return;
    this.isEnded = true;
    this.trunk.send(kind, this.stream);
  }

  pause(): void {
    this.trunk.send(PAUSE, this.stream);
  }

  resume(): void {
    this.trunk.send(RESUME, this.stream);
  }

  handleBytes(bytes: Buffer): void {
    if (!this.isEnded) this.protocol!.handleData(bytes);
  }

  handleSign(kind: number): void {
    if (kind === BLOCKED || kind === FREE) return this.setBlocked(kind === BLOCKED, this.isTrunkBlocked);
    if (kind !== CLOSED) return;
    this.trunk.forget(this.stream);
    this.handleTrunkClosed();
  }

  handleTrunkWritable(isWritable: boolean): void {
    this.setBlocked(this.isBlocked, !isWritable);
  }

  handleTrunkClosed(): void {
    this.isEnded = true;
    this.protocol?.handleClose();
  }

  private setBlocked(isBlocked: boolean, isTrunkBlocked: boolean): void {
    const was = this.isBlocked || this.isTrunkBlocked;
    this.isBlocked = isBlocked;
    this.isTrunkBlocked = isTrunkBlocked;
    const is = isBlocked || isTrunkBlocked;
    if (is !== was) this.protocol?.handleWritable(!is);
  }
}
