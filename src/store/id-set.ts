/**
 * A set of numbers from 0 to 2^53, for marking: a bit each, in blocks of 65,536 that are made when first needed.
 * Memory goes with the numbers in it, 8 KiB for a block, not with the range they come from.
 */
const BLOCK_BITS = 16;
const BLOCK_SIZE = 1 << BLOCK_BITS;

export class IdSet {
  private readonly blocks = new Map<number, Uint32Array>();

  add(id: number): void {
    const number = Math.floor(id / BLOCK_SIZE);
    let block = this.blocks.get(number);
    if (!block) this.blocks.set(number, (block = new Uint32Array(BLOCK_SIZE / 32)));
    const bit = id % BLOCK_SIZE;
    block[bit >>> 5] |= 1 << (bit & 31);
  }

  has(id: number): boolean {
    const block = this.blocks.get(Math.floor(id / BLOCK_SIZE));
    const bit = id % BLOCK_SIZE;
    return block !== undefined && (block[bit >>> 5] & (1 << (bit & 31))) !== 0;
  }
}
