/**
 * A WebSocket on one of our own sockets, so that it can stand behind client certificates and the PROXY protocol, which Bun's
 * WebSocket server knows nothing of. A link writes to it as to any socket; what one write takes becomes frames.
 *
 *   write ─► | head, payload | in one write of the socket     what the kernel refuses of a frame: `rest` (head), then `owed` payload
 */
import type { Socket } from "bun";
import type { Metrics } from "#core/metrics.ts";
import type { ByteSocket, Receiver, TcpLink } from "./tcp.ts";
import { encodeClose, encodePong, FRAME_HEAD_MAX, FrameReader, NORMAL, putFrameHead } from "./websocket-frame.ts";

const FRAME_BYTES_MAX = 64 * 1024;
const noBytes = Buffer.alloc(0);
/** A frame on its way to the kernel. */
const scratch = Buffer.alloc(FRAME_HEAD_MAX + FRAME_BYTES_MAX);

export class FramedSocket implements ByteSocket, Receiver {
  link!: TcpLink;
  private readonly reader = new FrameReader();
  private rest: Buffer = noBytes;
  private owed = 0;
  private closeCode = NORMAL;

  constructor(
    private readonly socket: Socket<Receiver>,
    private readonly metrics: Metrics,
  ) {}

  get remoteAddress(): string | undefined {
    return this.socket.remoteAddress;
  }

  get remotePort(): number | undefined {
    return this.socket.remotePort;
  }

  // ---- in

  handleData(chunk: Buffer): void {
    const { reader } = this;
    const size = reader.read(chunk);
    if (size > 0) this.link.handleData(size === chunk.length ? chunk : chunk.subarray(0, size));
    this.answerPing();
    if (reader.fault !== 0) this.fail(reader.fault);
    else if (reader.isClosed) this.link.end();
  }

  private fail(code: number): void {
    if (this.closeCode !== NORMAL) return;
    this.closeCode = code;
    this.metrics.add("connections.closed.websocket");
    this.link.end();
  }

  handleDrain(): void {
    this.sendRest();
    this.link.handleDrain();
    this.answerPing();
  }

  handleClosed(): void {
    this.link.handleClosed();
  }

  // ---- out

  write(bytes: Buffer, start: number, size: number): number {
    let taken = 0;
    while (taken < size) {
      if (!this.sendRest()) return taken;
      if (this.owed > 0) {
        const sent = Math.max(0, this.socket.write(bytes, start + taken, this.owed));
        taken += sent;
        this.owed -= sent;
        if (this.owed > 0) return taken;
        continue;
      }
      const payload = Math.min(size - taken, FRAME_BYTES_MAX);
      const head = putFrameHead(scratch, payload);
      bytes.copy(scratch, head, start + taken, start + taken + payload);
      const sent = Math.max(0, this.socket.write(scratch, 0, head + payload));
      if (sent === 0) return taken;
      if (sent < head) this.rest = Buffer.from(scratch.subarray(sent, head));
      const sentPayload = Math.max(0, sent - head);
      this.owed = payload - sentPayload;
      taken += sentPayload;
      if (this.owed > 0) return taken;
    }
    return taken;
  }

  /** True when nothing is left of what had begun besides payload. */
  private sendRest(): boolean {
    if (this.rest.length === 0) return true;
    const sent = Math.max(0, this.socket.write(this.rest, 0, this.rest.length));
    this.rest = sent === this.rest.length ? noBytes : this.rest.subarray(sent);
    return this.rest.length === 0;
  }

  /** Between frames; the last ping stands for those before it. */
  private answerPing(): void {
    const { ping } = this.reader;
    if (ping === null || this.owed > 0 || this.rest.length > 0) return;
    this.reader.ping = null;
    this.rest = encodePong(ping);
    this.sendRest();
  }

  pause(): void {
    this.socket.pause();
  }

  resume(): void {
    this.socket.resume();
  }

  /** The link has sent all it had: Close goes out, then our half of the stream ends. */
  shutdown(): void {
    this.sendRest();
    if (this.rest.length === 0) this.socket.write(encodeClose(this.closeCode));
    this.socket.shutdown();
  }

  terminate(): void {
    this.socket.terminate();
  }
}
