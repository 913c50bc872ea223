/**
 * Buffers for unsent bytes, lent to links while they have something to say: an idle link owns none. Three sizes, so that
 * ten thousand CONNACKs in one tick do not take ten thousand large buffers.
 */

const SIZES = [512, 16 * 1024, 64 * 1024] as const;
/** The largest size that is kept for the next borrower. */
export const LARGE_BUFFER: number = SIZES[2];
const KEPT_BYTES_MAX = 8 * 1024 * 1024; // of each size

export const noBuffer: Buffer = Buffer.alloc(0);

export class SendBuffers {
  /** Bytes of the buffers that are lent. */
  lentBytes = 0;
  private readonly kept: Buffer[][] = SIZES.map(() => []);

  /** A buffer of at least `size` bytes. */
  lend(size: number): Buffer {
    const buffer = size <= SIZES[0] ? this.take(0) : size <= SIZES[1] ? this.take(1) : this.takeLarge(size);
    this.lentBytes += buffer.length;
    return buffer;
  }

  giveBack(buffer: Buffer): void {
    const { length } = buffer;
    this.lentBytes -= length;
    const size = length === SIZES[1] ? 1 : length === SIZES[0] ? 0 : length === SIZES[2] ? 2 : -1;
    if (size >= 0 && this.kept[size].length * length < KEPT_BYTES_MAX) this.kept[size].push(buffer);
  }

  private takeLarge(size: number): Buffer {
    return size <= SIZES[2] ? this.take(2) : Buffer.allocUnsafeSlow(size);
  }

  private take(size: number): Buffer {
    return this.kept[size].pop() ?? Buffer.allocUnsafeSlow(SIZES[size]);
  }
}
