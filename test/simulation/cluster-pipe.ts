/**
 * A connection between two nodes of a cluster run: bytes are under way in both directions until the world moves them, in any
 * portions. A cut loses some of them, and each end hears of it in its own time.
 */
import type { Link, Protocol } from "#core/ports.ts";
import type { Dice } from "./weather.ts";

export class PipeEnd implements Link {
  protocol!: Protocol;
  readonly remoteAddress = "";
  readonly remotePort = 0;
  readonly unsentBytes = 0;
  buffer: Buffer = Buffer.alloc(512);
  isPaused = false;
  isWritable = true;
  /** Its process has ended it, or is gone: it writes nothing more. */
  isEnded = false;
  /** Its process has heard of the end, or is gone. */
  isClosed = false;
  /** What it writes goes nowhere, and it does not know yet. */
  isCut = false;
  /** Bytes on their way to the other end. */
  readonly out: Buffer[] = [];
  digest = 0;

  constructor(readonly node: number) {}

  get outBytes(): number {
    return this.out.reduce((sum, { length }) => sum + length, 0);
  }

  reserve(size: number): number {
    if (size > this.buffer.length) this.buffer = Buffer.alloc(size * 2);
    return 0;
  }

  commit(end: number): void {
    this.writeLarge(this.buffer, 0, end);
  }

  writeLarge(bytes: Buffer, start: number, end: number): void {
    if (this.isEnded || this.isCut) return;
    this.out.push(Buffer.from(bytes.subarray(start, end)));
    for (let i = start; i < end; i += 7) this.digest = (Math.imul(this.digest, 31) + bytes[i]!) | 0;
  }

  end(): void {
    this.isEnded = true;
  }

  destroy(): void {
    this.out.length = 0;
    this.isEnded = true;
  }

  pause(): void {
    this.isPaused = true;
  }

  resume(): void {
    this.isPaused = false;
  }

  /** Takes the first `count` bytes that are on their way. */
  take(count: number): Buffer {
    const all = Buffer.concat(this.out.splice(0));
    if (count < all.length) this.out.push(all.subarray(count));
    return Buffer.from(all.subarray(0, count));
  }

  /** Of what is on its way only the first `count` bytes arrive. */
  lose(count: number): void {
    const kept = this.take(count);
    this.out.splice(0, this.out.length, ...(kept.length > 0 ? [kept] : []));
  }
}

export class Pipe {
  readonly ends: readonly [PipeEnd, PipeEnd];

  constructor(from: number, to: number) {
    this.ends = [new PipeEnd(from), new PipeEnd(to)];
  }

  get digest(): number {
    return this.ends[0].digest ^ this.ends[1].digest;
  }

  get isGone(): boolean {
    return this.ends.every(({ isClosed }) => isClosed);
  }

  get isQuiet(): boolean {
    return this.ends.every((end) => !end.isEnded && !end.isClosed && end.outBytes === 0 && end.isWritable);
  }

  cut(dice: Dice): void {
    for (const end of this.ends) {
      end.isCut = true;
      end.lose(dice.chance(40) ? end.outBytes : dice.below(end.outBytes + 1));
    }
  }

  /** The process at one end is gone. */
  abandon(node: number, dice: Dice): void {
    for (const end of this.ends) if (end.node === node) end.isEnded = end.isClosed = true;
    this.cut(dice);
  }

  /** Bytes arrive, and ends hear that it is over; `call` is a call into a node. */
  move(portion: (size: number) => number, hears: () => boolean, call: (action: () => void) => void): void {
    for (const [from, to] of [this.ends, this.ends.toReversed()] as [PipeEnd, PipeEnd][]) {
      if (to.isClosed) {
        from.out.length = 0;
        continue;
      }
      if (!to.isPaused && !to.isEnded && from.outBytes > 0) {
        const bytes = from.take(portion(from.outBytes));
        if (bytes.length > 0) call(() => to.protocol.handleData(bytes));
      }
      const isOver = to.isCut || from.isEnded || to.isEnded;
      const isAllHeard = from.outBytes === 0 || to.isEnded;
      if (!isOver || !isAllHeard || !hears() || to.isClosed) continue;
      to.isEnded = to.isClosed = true;
      call(() => to.protocol.handleClose());
    }
  }
}
