/**
 * Topic levels as a tree in columns, for filters (topic-index.ts) and for retained topics (retained.ts).
 *
 *   a/b/c, a/x      node: 0 root   1 "a"   2 "b"   3 "c"   4 "x"
 *                   parent:   -1      0       1       2       1
 *   slots           one table for all children, keyed by (parent, hash of the level): linear probing, no tombstones
 *
 * A node costs about 26 bytes and its level's bytes; a step down is one probe, whatever the number of siblings. A node
 * lives as long as somebody uses it: children and the owner's content are counted in `uses`.
 */
import { type BlockPool, offsetOf, pageOf } from "#base/block-pool.ts";
import { equalBytes, grown, hashBytes } from "#base/bytes.ts";
import { Slab } from "#base/slab.ts";

export const ROOT = 0;

export class LevelTrie {
  parent = new Int32Array(64).fill(-1);
  private uses = new Int32Array(64);
  private levelHash = new Int32Array(64);
  private levelBlock = new Int32Array(64).fill(-1);
  private levelLength = new Uint16Array(64);
  private slots = new Int32Array(64).fill(-1);
  private mask = 63;
  private readonly numbers = new Slab();
  private keyed = 0; // nodes that stand in the slots

  constructor(private readonly pool: BlockPool) {
    this.numbers.take(); // the root
    this.uses[ROOT] = 1;
  }

  /** Columns of the owner need at least this length. */
  get capacity(): number {
    return this.parent.length;
  }

  get count(): number {
    return this.numbers.count;
  }

  /** Nodes are below this. */
  get high(): number {
    return this.numbers.high;
  }

  get bytes(): number {
    return this.slots.byteLength + this.capacity * 18;
  }

  /** The child of `parent` for a level, or -1. `hash` is the level's own hash. */
  find(parent: number, bytes: Buffer, start: number, end: number, hash: number): number {
    const { slots, mask } = this;
    const mixed = mix(parent, hash);
    for (let s = mixed & mask; ; s = (s + 1) & mask) {
      const node = slots[s];
      if (node < 0) return -1;
      if (this.levelHash[node] === mixed && this.parent[node] === parent && this.isLevel(node, bytes, start, end)) {
        return node;
      }
    }
  }

  /** The child of `parent` for a level, made when missing. A new node has no uses: follow with `use`. */
  add(parent: number, bytes: Buffer, start: number, end: number, hash: number): number {
    const found = this.find(parent, bytes, start, end, hash);
    if (found >= 0) return found;
    const node = this.addUnkeyed(parent);
    const block = this.pool.take(end - start);
    bytes.copy(this.pool.bytes[pageOf(block)], offsetOf(block), start, end);
    this.levelBlock[node] = block;
    this.levelLength[node] = end - start;
    this.levelHash[node] = mix(parent, hash);
    this.keyed++;
    if (this.keyed * 4 > this.slots.length * 3) this.rehash();
    this.place(node);
    return node;
  }

  /** A child that the owner finds by other means (`+`): it has no level bytes and stands in no slot. */
  addUnkeyed(parent: number): number {
    const node = this.numbers.take();
    if (node >= this.capacity) this.grow();
    this.parent[node] = parent;
    this.uses[node] = 0;
    this.levelBlock[node] = -1;
    this.levelLength[node] = 0;
    this.use(parent);
    return node;
  }

  use(node: number): void {
    this.uses[node]++;
  }

  /** Ends one use; a node without uses leaves the tree, `onRemove(node)` first, and then its parent loses one. */
  unuse(node: number, onRemove: (node: number) => void): void {
    while (--this.uses[node] === 0) {
      onRemove(node);
      if (this.levelBlock[node] !== -1) {
        this.displace(node);
        this.pool.give(this.levelBlock[node]);
        this.keyed--;
      }
      this.numbers.give(node);
      node = this.parent[node];
    }
  }

  /** The level's text; "" for a child without level bytes. */
  levelText(node: number): string {
    const block = this.levelBlock[node];
    if (block === -1) return "";
    return this.pool.bytes[pageOf(block)].toString("utf8", offsetOf(block), offsetOf(block) + this.levelLength[node]);
  }

  /** Hash of the level's bytes. */
  levelHashOf(node: number, seed: number): number {
    const block = this.levelBlock[node];
    return hashBytes(this.pool.bytes[pageOf(block)], offsetOf(block), offsetOf(block) + this.levelLength[node], seed);
  }

  /** First byte of the level, or 0. */
  firstByte(node: number): number {
    const block = this.levelBlock[node];
    return block === -1 || this.levelLength[node] === 0 ? 0 : this.pool.bytes[pageOf(block)][offsetOf(block)];
  }

  private isLevel(node: number, bytes: Buffer, start: number, end: number): boolean {
    if (this.levelLength[node] !== end - start) return false;
    const block = this.levelBlock[node];
    return equalBytes(this.pool.bytes[pageOf(block)], offsetOf(block), bytes, start, end - start);
  }

  private place(node: number): void {
    let s = this.levelHash[node] & this.mask;
    while (this.slots[s] >= 0) s = (s + 1) & this.mask;
    this.slots[s] = node;
  }

  private displace(node: number): void {
    const { slots, mask, levelHash } = this;
    let hole = levelHash[node] & mask;
    while (slots[hole] !== node) hole = (hole + 1) & mask;
    for (let s = (hole + 1) & mask; slots[s] >= 0; s = (s + 1) & mask) {
      const home = levelHash[slots[s]] & mask;
      if (((s - home) & mask) >= ((s - hole) & mask)) {
        slots[hole] = slots[s];
        hole = s;
      }
    }
    slots[hole] = -1;
  }

  private rehash(): void {
    const old = this.slots;
    this.slots = new Int32Array(old.length * 2).fill(-1);
    this.mask = this.slots.length - 1;
    for (const node of old) if (node >= 0) this.place(node);
  }

  private grow(): void {
    const capacity = this.capacity * 2;
    this.parent = grown(this.parent, capacity, -1);
    this.uses = grown(this.uses, capacity);
    this.levelHash = grown(this.levelHash, capacity);
    this.levelBlock = grown(this.levelBlock, capacity, -1);
    this.levelLength = grown(this.levelLength, capacity);
  }
}

function mix(parent: number, hash: number): number {
  let h = Math.imul(parent ^ 0x5bd1e995, 0x27d4eb2f) ^ hash;
  h = Math.imul(h ^ (h >>> 15), 0x2c1b3c6d);
  return h ^ (h >>> 13);
}
