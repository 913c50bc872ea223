/**
 * Buffers for unsent bytes, lent to links while they have something to say: an idle link owns none. Four sizes: so that ten
 * thousand CONNACKs in one tick do not take ten thousand large buffers, and a link whose kernel is full for a moment need
 * not allocate.
 */

const SIZES = [512, 16 * 1024, 64 * 1024, 256 * 1024] as const;
/** A link that holds this much writes before it takes more: fewer bytes cost more calls, more cost the cache. */
export const LARGE_BUFFER: number = SIZES[2];
const KEPT_BYTES_MAX = 8 * 1024 * 1024; // of each size

export const noBuffer: Buffer = Buffer.alloc(0);

export class SendBuffers {
  /** Bytes of the buffers that are lent. */
  lentBytes = 0;
  private readonly kept: Buffer[][] = SIZES.map(() => []);

  /** A buffer of at least `size` bytes. */
  lend(size: number): Buffer {
    const at = classOf(size);
    const buffer = at < 0 ? Buffer.allocUnsafeSlow(size) : (this.kept[at].pop() ?? Buffer.allocUnsafeSlow(SIZES[at]));
    this.lentBytes += buffer.length;
    return buffer;
  }

  giveBack(buffer: Buffer): void {
    const { length } = buffer;
    this.lentBytes -= length;
    const at = classOf(length);
    if (at >= 0 && SIZES[at] === length && this.kept[at].length * length < KEPT_BYTES_MAX) this.kept[at].push(buffer);
  }
}

/** The smallest size that holds so many bytes, or −1. */
function classOf(size: number): number {
  if (size <= SIZES[0]) return 0;
  if (size <= SIZES[1]) return 1;
  if (size <= SIZES[2]) return 2;
  return size <= SIZES[3] ? 3 : -1;
}
