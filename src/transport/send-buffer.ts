/** Buffers for unsent bytes, lent to links while they have something to say: an idle link owns none. */

const SMALL_BUFFER = 16 * 1024;
export const LARGE_BUFFER = 64 * 1024;
const KEPT_MAX = 256;

export const noBuffer: Buffer = Buffer.alloc(0);

export class SendBuffers {
  /** Bytes of the buffers that are lent. */
  lentBytes = 0;
  private readonly small: Buffer[] = [];
  private readonly large: Buffer[] = [];

  /** A buffer of at least `size` bytes. */
  lend(size: number): Buffer {
    const buffer =
      size <= SMALL_BUFFER
        ? (this.small.pop() ?? Buffer.allocUnsafeSlow(SMALL_BUFFER))
        : size <= LARGE_BUFFER
          ? (this.large.pop() ?? Buffer.allocUnsafeSlow(LARGE_BUFFER))
          : Buffer.allocUnsafeSlow(size);
    this.lentBytes += buffer.length;
    return buffer;
  }

  giveBack(buffer: Buffer): void {
    this.lentBytes -= buffer.length;
    if (buffer.length === SMALL_BUFFER && this.small.length < KEPT_MAX) this.small.push(buffer);
    else if (buffer.length === LARGE_BUFFER && this.large.length < KEPT_MAX) this.large.push(buffer);
  }
}
