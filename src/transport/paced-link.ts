/**
 * A link whose client may send so many bytes a second and no more: a token bucket stops reading the socket.
 *
 * What one read has brought beyond the bucket is held (at most one read, 512 KiB) and handed on as tokens come, in slices: so the
 * protocol sees a slow client; what keep-alive counts as silence is not the client's (`takeHeldBack`). The kernel's buffers then fill and
 * the client itself is slowed by TCP.
 */
import type { Pacer } from "#base/pacer.ts";
import { Metric } from "#core/metrics.ts";
import { type ByteSocket, KnownLink, type Peer, type TcpTransport } from "./tcp.ts";

const PAUSED = Metric["connections.paused.rate"];
/** A held chunk is handed on about ten times a second. */
const SLICE_MS = 100;

export class PacedLink extends KnownLink {
  private held: Buffer | null = null;
  private isProtocolPaused = false;
  private wasHeld = false;
  private timer: Timer | undefined;

  constructor(
    transport: TcpTransport,
    socket: ByteSocket,
    peer: Peer,
    private readonly pacer: Pacer,
  ) {
    super(transport, socket, peer);
  }

  override handleData(chunk: Buffer): void {
    // Bytes may come that were read before the pause took hold.
    if (this.held !== null) this.held = Buffer.concat([this.held, chunk]);
    else this.pass(chunk);
  }

  /** Hands on what the bucket allows and holds the rest. */
  private pass(bytes: Buffer): void {
    const nowMs = performance.now();
    const size = Math.min(bytes.length, this.pacer.available(nowMs));
    this.pacer.take(nowMs, size);
    const wasHeld = this.held !== null;
    this.held = size === bytes.length ? null : bytes.subarray(size);
    if (this.held !== null && !wasHeld) {
      this.wasHeld = true;
      this.transport.metrics.counts[PAUSED]++;
      super.pause();
    }
    if (size > 0) super.handleData(bytes.subarray(0, size)); // may pause, end or close this link
    if (this.held !== null && !this.isProtocolPaused) this.wait(nowMs);
    else if (wasHeld && this.held === null && !this.isProtocolPaused) super.resume();
  }

  private wait(nowMs: number): void {
    this.timer ??= setTimeout(this.goOn, Math.max(SLICE_MS, this.pacer.waitMs(nowMs)));
  }

  private readonly goOn = (): void => {
    this.timer = undefined;
    if (this.held !== null && !this.isProtocolPaused) this.pass(this.held);
  };

  /** Held bytes are no reason to hold more of them elsewhere. */
  override get isPaused(): boolean {
    return this.isProtocolPaused;
  }

  takeHeldBack(): boolean {
    const { wasHeld } = this;
    this.wasHeld = this.held !== null;
    return wasHeld;
  }

  override pause(): void {
    this.isProtocolPaused = true;
    super.pause();
  }

  override resume(): void {
    this.isProtocolPaused = false;
    if (this.held === null) super.resume();
    else this.wait(performance.now());
  }

  override end(): void {
    this.letGo();
    super.end();
  }

  override handleClosed(): void {
    const { held } = this;
    this.letGo();
    if (held !== null) super.handleData(held); // it came before the end
    super.handleClosed();
  }

  private letGo(): void {
    clearTimeout(this.timer);
    this.timer = undefined;
    this.held = null;
  }
}
