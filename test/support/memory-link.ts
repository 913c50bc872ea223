/** A link in memory: what the broker writes is handed to `onData` as owned bytes, at once or when `flush` is called. */
import type { Link, Protocol } from "#core/ports.ts";

export class MemoryLink implements Link {
  protocol: Protocol | null = null;
  readonly remoteAddress = "127.0.0.1";
  readonly remotePort = 50_000;
  buffer: Buffer = Buffer.alloc(256);
  unsentBytes = 0;
  isPaused = false;
  isClosed = false;
  onData: (bytes: Uint8Array) => void = () => {};
  onClose: () => void = () => {};
  private start = 0;

  /** Bytes from the client. */
  receive(bytes: Uint8Array): void {
    if (!this.isClosed) this.protocol!.handleData(Buffer.from(bytes));
  }

  reserve(size: number): number {
    if (this.start + size > this.buffer.length) {
      const larger = Buffer.alloc((this.start + size) * 2);
      this.buffer.copy(larger, 0, 0, this.start);
      this.buffer = larger;
    }
    return this.start;
  }

  commit(end: number): void {
    const bytes = Buffer.from(this.buffer.subarray(this.start, end));
    if (!this.isClosed) this.onData(bytes);
  }

  writeLarge(bytes: Buffer, start: number, end: number): void {
    if (!this.isClosed) this.onData(Buffer.from(bytes.subarray(start, end)));
  }

  end(): void {
    this.destroy();
  }

  destroy(): void {
    if (this.isClosed) return;
    this.isClosed = true;
    this.protocol?.handleClose();
    this.onClose();
  }

  pause(): void {
    this.isPaused = true;
  }

  resume(): void {
    this.isPaused = false;
  }
}
