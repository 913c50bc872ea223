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
    return (this.wordOf(id) & (1 << (id % 32))) !== 0;
  }

  /** The 32 numbers that `id` is among, a bit each. */
  wordOf(id: number): number {
    const block = this.blocks.get(Math.floor(id / BLOCK_SIZE));
    return block === undefined ? 0 : block[(id % BLOCK_SIZE) >>> 5];
  }

  /** Ascending. */
  *ids(): Generator<number> {
    for (const number of this.numbers()) {
      const block = this.blocks.get(number)!;
      for (let bit = 0; bit < BLOCK_SIZE; bit++)
        if ((block[bit >>> 5] & (1 << (bit & 31))) !== 0) yield number * BLOCK_SIZE + bit;
    }
  }

  /** Blocks, for `IdRanks`. */
  *words(): Generator<readonly [number: number, words: Uint32Array]> {
    for (const number of this.numbers()) yield [number, this.blocks.get(number)!];
  }

  private numbers(): number[] {
    return [...this.blocks.keys()].sort((a, b) => a - b);
  }
}

/** Where each number of a set stands among them, from 0: 16 KiB more for a block. The set does not change any more. */
export class IdRanks {
  readonly count: number;
  /** For each word of a block, how many numbers stand before it. */
  private readonly before = new Map<number, Float64Array>();

  constructor(private readonly set: IdSet) {
    let count = 0;
    for (const [number, words] of set.words()) {
      const before = new Float64Array(words.length);
      for (let word = 0; word < words.length; word++) {
        before[word] = count;
        count += bitCount(words[word]);
      }
      this.before.set(number, before);
    }
    this.count = count;
  }

  /** `id` is in the set. */
  rankOf(id: number): number {
    const number = Math.floor(id / BLOCK_SIZE);
    const bit = id % BLOCK_SIZE;
    const below = this.set.wordOf(id) & ((1 << (bit & 31)) - 1);
    return this.before.get(number)![bit >>> 5] + bitCount(below);
  }
}

function bitCount(word: number): number {
  let bits = word - ((word >>> 1) & 0x5555_5555);
  bits = (bits & 0x3333_3333) + ((bits >>> 2) & 0x3333_3333);
  return Math.imul((bits + (bits >>> 4)) & 0x0f0f_0f0f, 0x0101_0101) >>> 24;
}
