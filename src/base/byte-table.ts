/**
 * A set of byte keys, each with a small stable number. Owners keep their columns by that number: client ids → sessions,
 * topics → subscriber lists.
 *
 *   slots : [ -1 | 4 | -1 | 0 | 9 … ]   power of two, linear probing, at most 3/4 full; removal shifts back, no tombstones
 *   keyHash [i], keyBlock [i], keyLength [i]   columns by number; the key's bytes lie in the block pool
 *
 * A key costs 18 to 31 bytes and its own length rounded up. Doubling rehashes from the hash column, without touching keys.
 */
import { type BlockPool, offsetOf, pageOf } from "./block-pool.ts";
import { equalBytes, grown } from "./bytes.ts";
import { Slab } from "./slab.ts";

/** Block of a number that no key has. */
const GONE = -1;

export class ByteTable {
  private slots = new Int32Array(64).fill(-1);
  private mask = 63;
  private readonly numbers = new Slab();
  private keyHash = new Int32Array(32);
  private keyBlock = new Int32Array(32);
  private keyLength = new Uint16Array(32);

  constructor(private readonly pool: BlockPool) {}

  get count(): number {
    return this.numbers.count;
  }

  /** Numbers in use are below this. */
  get high(): number {
    return this.numbers.high;
  }

  /** True while a key has the number. For walks; anything else knows its numbers. */
  has(number: number): boolean {
    return number < this.numbers.high && this.keyBlock[number] !== GONE;
  }

  /** Columns indexed by number need at least this length. */
  get capacity(): number {
    return this.keyHash.length;
  }

  /** Bytes of the table's own arrays, without the keys' blocks. */
  get bytes(): number {
    return this.slots.byteLength + this.capacity * 10;
  }

  /** The number of a key, or -1. */
  find(bytes: Uint8Array, start: number, end: number, hash: number): number {
    const { slots, mask, keyHash } = this;
    for (let s = hash & mask; ; s = (s + 1) & mask) {
      const number = slots[s];
      if (number < 0) return -1;
      if (keyHash[number] === hash && this.isKey(number, bytes, start, end)) return number;
    }
  }

  /** Adds a key that is not in the table. Keys are at most 65,535 bytes. */
  add(bytes: Buffer, start: number, end: number, hash: number): number {
    const number = this.numbers.take();
    if (number >= this.capacity) this.growColumns();
    if (this.numbers.count << 2 > this.slots.length * 3) this.rehash();
    const block = this.pool.take(end - start);
    bytes.copy(this.pool.bytes[pageOf(block)], offsetOf(block), start, end);
    this.keyHash[number] = hash;
    this.keyBlock[number] = block;
    this.keyLength[number] = end - start;
    this.place(number, hash);
    return number;
  }

  remove(number: number): void {
    const { slots, mask, keyHash } = this;
    let hole = keyHash[number] & mask;
    while (slots[hole] !== number) hole = (hole + 1) & mask;
    for (let s = (hole + 1) & mask; slots[s] >= 0; s = (s + 1) & mask) {
      const home = keyHash[slots[s]] & mask;
      if (((s - home) & mask) >= ((s - hole) & mask)) {
        slots[hole] = slots[s];
        hole = s;
      }
    }
    slots[hole] = -1;
    this.pool.give(this.keyBlock[number]);
    this.keyBlock[number] = GONE;
    this.numbers.give(number);
  }

  hashOf(number: number): number {
    return this.keyHash[number];
  }

  /** A copy of the key. */
  keyOf(number: number): Buffer {
    const { page, start, end } = this.keyRange(number);
    return Buffer.from(page.subarray(start, end));
  }

  /** The key as text. */
  textOf(number: number): string {
    const { page, start, end } = this.keyRange(number);
    return page.toString("utf8", start, end);
  }

  private keyRange(number: number): { page: Buffer; start: number; end: number } {
    const start = offsetOf(this.keyBlock[number]);
    return { page: this.pool.bytes[pageOf(this.keyBlock[number])], start, end: start + this.keyLength[number] };
  }

  private isKey(number: number, bytes: Uint8Array, start: number, end: number): boolean {
    if (this.keyLength[number] !== end - start) return false;
    const block = this.keyBlock[number];
    return equalBytes(this.pool.bytes[pageOf(block)], offsetOf(block), bytes, start, end - start);
  }

  private place(number: number, hash: number): void {
    let s = hash & this.mask;
    while (this.slots[s] >= 0) s = (s + 1) & this.mask;
    this.slots[s] = number;
  }

  private growColumns(): void {
    const capacity = this.capacity * 2;
    this.keyHash = grown(this.keyHash, capacity);
    this.keyBlock = grown(this.keyBlock, capacity);
    this.keyLength = grown(this.keyLength, capacity);
  }

  private rehash(): void {
    const old = this.slots;
    this.slots = new Int32Array(old.length * 2).fill(-1);
    this.mask = this.slots.length - 1;
    for (const number of old) if (number >= 0) this.place(number, this.keyHash[number]);
  }
}
