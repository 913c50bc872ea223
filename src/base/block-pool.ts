/**
 * Memory for byte ranges of any size that must outlive their packet: message bodies, topics, target lists.
 * A block is one 32-bit address, so it fits a column; no object exists per block.
 *
 *   address  = page << 15 | offset / 8
 *   page     : 256 KiB, all its blocks of one size class; a larger block has a page of its own
 *   classes  : 16 24 32 40 48 56 64, then four steps a doubling (80 96 112 128 160 …) up to 64 KiB: waste under 20 %
 *   free list: inside the free blocks of a page; the first word of a free block is the next free offset
 *
 * `bytes[page]` and `words[page]` are two views of the same memory. A page whose blocks are all free is dropped unless
 * it is the last one of its class with room. take and give together cost about 13 ns (bench/micro/block-pool.ts). Limit: 2^16 - 1 pages, 16 GiB of small blocks.
 */
import { assert } from "./assert.ts";

const PAGE_BYTES = 1 << 18;
const OFFSET_BITS = 15;
const OFFSET_MASK = (1 << OFFSET_BITS) - 1;
const SMALL_MAX = 1 << 16;
const PAGE_COUNT_MAX = (1 << 16) - 1; // so that -1 is never an address
const HUGE = 255;

const classBytes: number[] = [16, 24, 32, 40, 48, 56, 64];
for (let base = 64; base < SMALL_MAX; base *= 2) for (let s = 1; s <= 4; s++) classBytes.push(base + (base / 4) * s);

/** Class of a size up to 1 KiB, by eighths. */
const smallClass = new Uint8Array(129);
for (let eighth = 0, c = 0; eighth <= 128; eighth++) {
  while (classBytes[c] < eighth * 8) c++;
  smallClass[eighth] = c;
}

function classOf(size: number): number {
  if (size <= 1024) return smallClass[(size + 7) >>> 3];
  const log = 31 - Math.clz32(size - 1); // 2^log < size <= 2^(log+1)
  return 7 + (log - 6) * 4 + ((size - 1 - (1 << log)) >>> (log - 2));
}

export class BlockPool {
  readonly bytes: Buffer[] = [];
  readonly words: Int32Array[] = [];
  private classes: number[] = [];
  private live: number[] = []; // blocks in use, by page
  private free: number[] = []; // first free offset / 8 by page, or -1
  private fresh: number[] = []; // first byte never handed out, by page
  private isListed: boolean[] = []; // page stands in its class's list of pages with room
  private room: number[][] = classBytes.map(() => []);
  private holes: number[] = []; // page numbers without memory
  private used = 0;
  private paged = 0;

  /** Bytes of all blocks handed out, rounded to their classes. */
  get usedBytes(): number {
    return this.used;
  }

  /** Bytes of all pages. */
  get pageBytes(): number {
    return this.paged;
  }

  /** A block of at least `size` bytes, content undefined. */
  take(size: number): number {
    if (size > SMALL_MAX) return this.takeHuge(size);
    const c = classOf(size);
    const bytes = classBytes[c];
    const room = this.room[c];
    if (room.length === 0) this.addPage(c);
    const page = room[room.length - 1];
    let offset = this.free[page];
    if (offset >= 0) {
      this.free[page] = this.words[page][offset << 1];
    } else {
      offset = this.fresh[page] >>> 3;
      this.fresh[page] += bytes;
    }
    this.live[page]++;
    this.used += bytes;
    if (this.free[page] < 0 && this.fresh[page] + bytes > PAGE_BYTES) {
      room.pop();
      this.isListed[page] = false;
    }
    return (page << OFFSET_BITS) | offset;
  }

  give(address: number): void {
    const page = address >>> OFFSET_BITS;
    const c = this.classes[page];
    if (c === HUGE) {
      this.used -= this.bytes[page].length;
      this.dropPage(page);
      return;
    }
    const offset = address & OFFSET_MASK;
    this.words[page][offset << 1] = this.free[page];
    this.free[page] = offset;
    this.used -= classBytes[c];
    const live = --this.live[page];
    const room = this.room[c];
    if (!this.isListed[page]) {
      room.push(page);
      this.isListed[page] = true;
    } else if (live === 0 && room.length > 1) {
      room.splice(room.indexOf(page), 1);
      this.dropPage(page);
    }
  }

  private addPage(c: number): void {
    const page = this.placePage(Buffer.allocUnsafeSlow(PAGE_BYTES), c);
    this.room[c].push(page);
    this.isListed[page] = true;
  }

  private takeHuge(size: number): number {
    const bytes = Buffer.allocUnsafeSlow((size + 7) & ~7);
    this.used += bytes.length;
    const page = this.placePage(bytes, HUGE);
    this.live[page] = 1;
    return page << OFFSET_BITS;
  }

  private placePage(bytes: Buffer, c: number): number {
    const page = this.holes.pop() ?? this.bytes.length;
    assert(page < PAGE_COUNT_MAX, "the block pool is out of pages");
    this.bytes[page] = bytes;
    this.words[page] = new Int32Array(bytes.buffer, bytes.byteOffset, bytes.length >>> 2);
    this.classes[page] = c;
    this.live[page] = 0;
    this.free[page] = -1;
    this.fresh[page] = 0;
    this.isListed[page] = false;
    this.paged += bytes.length;
    return page;
  }

  private dropPage(page: number): void {
    this.paged -= this.bytes[page].length;
    this.bytes[page] = noBytes;
    this.words[page] = noWords;
    this.holes.push(page);
  }
}

const noBytes = Buffer.alloc(0);
const noWords = new Int32Array(0);

/** Page number of an address. */
export function pageOf(address: number): number {
  return address >>> OFFSET_BITS;
}

/** Byte offset of an address in its page. */
export function offsetOf(address: number): number {
  return (address & OFFSET_MASK) << 3;
}
