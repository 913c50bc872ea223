/**
 * A link with a network in it: bytes are under way in both directions until the world moves them, in any portions. What
 * the broker writes is decoded strictly at once for the judge; the client gets the same packets when their last byte arrives.
 */
import type { Link, Protocol } from "#core/ports.ts";
import { decodePacket, frameLength } from "#test/support/packet-decoder.ts";
import type { Packet } from "#test/support/packets.ts";
import { encodeInput, type Input, type LinkModel, Violation } from "./model.ts";

/** Who judges what the broker does to a link. */
export interface Judge {
  handleOutput(link: LinkModel, packet: Packet, size: number): void;
  handleEnd(link: LinkModel): void;
}

interface Upward {
  readonly input: Input;
  readonly bytes: Uint8Array;
  /** The connection broke within: it never completes. */
  cutAt: number;
}

interface Downward {
  readonly packet: Packet;
  left: number;
}

export class SimLink implements Link {
  protocol: Protocol | null = null;
  readonly remoteAddress = "127.0.0.1";
  readonly remotePort: number;
  buffer: Buffer = Buffer.alloc(512);
  isPaused = false;
  isStalled = false;
  /** The broker has called `end` or `destroy`. */
  isEnded = false;
  /** `handleClose` was called. */
  isClosed = false;
  /** The broker may still answer what came before the end; nobody hears it. */
  isUnheard = false;
  /** Client's side is gone; the broker does not know yet. */
  isCut = false;
  onPacket: (packet: Packet) => void = () => {};
  private up: Upward[] = [];
  private upTaken = 0;
  private down: Downward[] = [];
  private unparsed: Buffer = Buffer.alloc(0);
  /** Sum over all bytes, for the digest of a run. */
  digest = 0;

  constructor(
    readonly model: LinkModel,
    private readonly twin: Judge,
    /** Runs a judgement: what it throws must not go through the broker, which would catch it. */
    private readonly judge: (judgement: () => void) => void,
  ) {
    this.remotePort = 40_000 + (model.no % 20_000);
  }

  // ---- the broker's side

  get unsentBytes(): number {
    return 0;
  }

  reserve(size: number): number {
    if (this.isEnded && !this.isUnheard)
      this.complain(`the broker writes to link ${this.model.no}, which it has closed`);
    if (size > this.buffer.length) this.buffer = Buffer.alloc(size * 2);
    return 0;
  }

  commit(end: number): void {
    this.accept(this.buffer.subarray(0, end));
  }

  writeLarge(bytes: Buffer, start: number, end: number): void {
    if (this.isEnded) this.complain(`the broker writes to link ${this.model.no}, which it has closed`);
    this.accept(bytes.subarray(start, end));
  }

  private accept(bytes: Buffer): void {
    if (this.isUnheard) return;
    for (let i = 0; i < bytes.length; i += 7) this.digest = (Math.imul(this.digest, 31) + bytes[i]!) | 0;
    this.unparsed = Buffer.concat([this.unparsed, bytes]);
    for (;;) {
      const size = frameLength(this.unparsed);
      if (size === undefined) return;
      const frame = this.unparsed.subarray(0, size);
      this.unparsed = this.unparsed.subarray(size);
      const packet = this.decode(frame);
      if (!packet) continue;
      if (!this.isCut) this.down.push({ packet, left: size });
      this.onPacket(packet);
      this.judge(() => this.twin.handleOutput(this.model, packet, size));
    }
  }

  private decode(bytes: Buffer): Packet | undefined {
    try {
      return decodePacket(bytes, this.model.version);
    } catch (error) {
      this.complain((error as Error).message);
      return undefined;
    }
  }

  private complain(what: string): void {
    this.judge(() => {
      throw new Violation(what);
    });
  }

  end(): void {
    this.isEnded = true;
    this.judge(() => this.twin.handleEnd(this.model));
  }

  destroy(): void {
    this.down = [];
    this.end();
  }

  pause(): void {
    this.isPaused = true;
  }

  resume(): void {
    this.isPaused = false;
  }

  // ---- the client's side

  send(input: Input): void {
    const bytes = encodeInput(input, this.model.version);
    this.up.push({ input, bytes, cutAt: bytes.length });
  }

  /** The client's side is gone: of what it has sent only `keep` bytes arrive. */
  cut(keep: number): void {
    this.isCut = true;
    this.down = [];
    let left = keep + this.upTaken;
    const kept: Upward[] = [];
    for (const each of this.up) {
      if (left <= 0) break;
      each.cutAt = Math.min(left, each.bytes.length);
      left -= each.bytes.length;
      kept.push(each);
    }
    this.up = kept;
  }

  get upBytes(): number {
    return this.up.reduce((sum, each) => sum + each.cutAt, -this.upTaken);
  }

  get downBytes(): number {
    return this.down.reduce((sum, each) => sum + each.left, 0);
  }

  /**
   * Takes up to `count` bytes for one call of the broker, and the packets that end within. A chunk ends where the twin
   * could not follow within one call: after SUBSCRIBE, around UNSUBSCRIBE and DISCONNECT, and after each if `isSingle`.
   */
  takeUp(count: number, isSingle: boolean): { bytes: Buffer; inputs: Input[] } {
    const parts: Uint8Array[] = [];
    const inputs: Input[] = [];
    let left = count;
    while (left > 0 && this.up.length > 0) {
      const first = this.up[0]!;
      const { type } = first.input;
      if ((type === "unsubscribe" || type === "disconnect") && inputs.length > 0) break;
      const size = Math.min(left, first.cutAt - this.upTaken);
      parts.push(first.bytes.subarray(this.upTaken, this.upTaken + size));
      left -= size;
      this.upTaken += size;
      if (this.upTaken < first.cutAt) break;
      this.up.shift();
      this.upTaken = 0;
      if (first.cutAt < first.bytes.length) break;
      inputs.push(first.input);
      if (isSingle || type === "connect" || type === "subscribe" || type === "unsubscribe" || type === "disconnect")
        break;
    }
    return { bytes: Buffer.concat(parts), inputs };
  }

  /** Moves up to `count` bytes to the client; the packets that are complete then. */
  takeDown(count: number): Packet[] {
    const packets: Packet[] = [];
    let left = count;
    while (left > 0 && this.down.length > 0) {
      const first = this.down[0]!;
      const size = Math.min(left, first.left);
      first.left -= size;
      left -= size;
      if (first.left > 0) break;
      this.down.shift();
      packets.push(first.packet);
    }
    return packets;
  }
}
