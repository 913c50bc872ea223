/**
 * Remembers, by a topic's bytes, who gets it: one target a session, overlapping filters already merged.
 *
 *   slot columns   hash, stamp, topicBlock, topicLength, listBlock, targetCount, firstLevel, levelGeneration, leadingGeneration
 *   list (words)   [ target | options | sub ] × targetCount, then for merged targets  [ n | sub … sub ]
 *                  target ≥ 0 session, < 0 share group (−1 − group);  sub ≥ 0 the one subscription,
 *                  sub < 0 the merged subscriptions stand at word −sub of the list
 *
 * Two slots may hold a topic (hash, hash ^ 1). When a topic has to push out another that is still true, the slots double, up
 * to `cache.matchCountMax`; and it may do so only when it comes a second time: else its answer goes to the scratch slot, so
 * that a stream of new topics does not wash out those in use. A hit is a compare of bytes and two generations. Staleness is
 * by generation (topic-index.ts), so nothing is searched when a subscription changes. Cost: 32 bytes a slot, and two blocks.
 */
import { type BlockPool, offsetOf, pageOf } from "#base/block-pool.ts";
import { equalBytes, grown } from "#base/bytes.ts";
import { QOS_MASK, type TopicIndex } from "./topic-index.ts";
import { SLASH } from "./topic.ts";

/** The target holds several subscriptions. Above the eight bits of a subscription's own options. */
export const MERGED = 256;
const EMPTY = -1;
const SLOTS_MIN = 1024;
const none = new Int32Array(0);

export class MatchCache {
  missCount = 0;

  private mask = 0;
  private hash = none;
  /** Of what the slot holds: another number for each topic that is filled in, never 0. Who remembers it needs no bytes to know the topic again. */
  stamp: Float64Array = new Float64Array(0);
  private topicBlock = none;
  private topicLength = new Uint16Array(0);
  listBlock: Int32Array = none;
  targetCount: Int32Array = none;
  private firstLevel = new Uint16Array(0);
  private levelGeneration = none;
  private leadingGeneration = none;
  /** By slot, the hash of the last topic that was turned away. */
  private turnedAway = none;
  private pushedOutCount = 0;
  private scratchBlock = EMPTY;
  private scratchWords = 0;

  // merging: position of a session's triple in this round
  private mark = new Int32Array(64);
  private position = new Int32Array(64);
  private round = 0;
  private list = new Int32Array(96);
  private listLength = 0;

  constructor(
    private readonly pool: BlockPool,
    private readonly index: TopicIndex,
    private readonly countMax: number,
  ) {
    this.allocate(Math.min(SLOTS_MIN, floorPowerOfTwo(countMax)));
    index.onExactChange = (hash) => this.drop(hash);
  }

  get slotCount(): number {
    return this.mask + 1;
  }

  /** The slot that holds the topic and is still true, or -1. */
  find(topic: Buffer, start: number, end: number, hash: number): number {
    const slot = hash & this.mask;
    if (this.hash[slot] === hash && this.isCurrent(slot, topic, start, end)) return slot;
    const other = slot ^ 1;
    if (this.hash[other] === hash && this.isCurrent(other, topic, start, end)) return other;
    return -1;
  }

  /** Matches the topic and remembers the answer; returns its slot, valid until the next `fill`. */
  fill(topic: Buffer, start: number, end: number, hash: number): number {
    this.missCount++;
    if (this.pushedOutCount * 8 > this.slotCount && this.slotCount * 2 <= this.countMax) this.doubleSlots();
    this.index.match(topic, start, end, hash);
    const targets = this.merge();
    const slot = this.victim(hash);
    if (this.isTurnedAway(slot, hash)) return this.useScratch(hash, targets);
    this.forget(slot);
    const topicBlock = this.pool.take(end - start);
    topic.copy(this.pool.bytes[pageOf(topicBlock)], offsetOf(topicBlock), start, end);
    const listBlock = this.pool.take(this.listLength * 4);
    this.writeList(listBlock);
    this.hash[slot] = hash;
    this.stamp[slot] = this.missCount;
    this.topicBlock[slot] = topicBlock;
    this.topicLength[slot] = end - start;
    this.listBlock[slot] = listBlock;
    this.targetCount[slot] = targets;
    const slash = topic.indexOf(SLASH, start);
    const level = this.index.hash(topic, start, slash < 0 || slash > end ? end : slash) & 1023;
    this.firstLevel[slot] = level;
    this.levelGeneration[slot] = this.index.levelGeneration[level];
    this.leadingGeneration[slot] = this.index.leadingGeneration;
    return slot;
  }

  /** A topic that would push out one that is still true must come twice. */
  private isTurnedAway(slot: number, hash: number): boolean {
    if (this.topicBlock[slot] === EMPTY || this.hash[slot] === hash || !this.isFresh(slot)) return false;
    this.pushedOutCount++;
    const at = hash & this.mask;
    if (this.turnedAway[at] === hash) return false;
    this.turnedAway[at] = hash;
    return true;
  }

  /** Keeps an answer for this once. */
  private useScratch(hash: number, targets: number): number {
    if (this.scratchWords < this.listLength) {
      if (this.scratchBlock !== EMPTY) this.pool.give(this.scratchBlock);
      this.scratchWords = this.listLength * 2;
      this.scratchBlock = this.pool.take(this.scratchWords * 4);
    }
    const slot = this.slotCount;
    this.writeList(this.scratchBlock);
    this.hash[slot] = hash;
    this.stamp[slot] = this.missCount;
    this.listBlock[slot] = this.scratchBlock;
    this.targetCount[slot] = targets;
    return slot;
  }

  private writeList(block: number): void {
    const words = this.pool.words[pageOf(block)];
    const at = offsetOf(block) >>> 2;
    for (let i = 0; i < this.listLength; i++) words[at + i] = this.list[i];
  }

  private isFresh(slot: number): boolean {
    return (
      this.leadingGeneration[slot] === this.index.leadingGeneration &&
      this.levelGeneration[slot] === this.index.levelGeneration[this.firstLevel[slot]]
    );
  }

  /** The slot holds what it held under this stamp, and its answer is still true. */
  isHeld(slot: number, stamp: number): boolean {
    return this.stamp[slot] === stamp && this.topicBlock[slot] !== EMPTY && this.isFresh(slot);
  }

  private isCurrent(slot: number, topic: Buffer, start: number, end: number): boolean {
    const block = this.topicBlock[slot];
    return (
      block !== EMPTY &&
      this.topicLength[slot] === end - start &&
      this.isFresh(slot) &&
      equalBytes(this.pool.bytes[pageOf(block)], offsetOf(block), topic, start, end - start)
    );
  }

  /** Forgets everything and gives its memory back. */
  clear(): void {
    for (let slot = 0; slot < this.slotCount; slot++) this.forget(slot);
    if (this.scratchBlock !== EMPTY) this.pool.give(this.scratchBlock);
    this.scratchBlock = EMPTY;
    this.scratchWords = 0;
  }

  /** Forgets the topics with this hash; their lists stay readable until the slot is used again. */
  private drop(hash: number): void {
    for (const slot of [hash & this.mask, (hash & this.mask) ^ 1]) {
      if (this.hash[slot] !== hash) continue;
      this.hash[slot] = ~hash;
      this.stamp[slot] = 0;
    }
  }

  private victim(hash: number): number {
    const slot = hash & this.mask;
    if (this.topicBlock[slot] === EMPTY || this.hash[slot] === hash) return slot;
    const other = slot ^ 1;
    if (this.topicBlock[other] === EMPTY || this.hash[other] === hash) return other;
    return this.missCount & 1 ? slot : other;
  }

  private forget(slot: number): void {
    if (this.topicBlock[slot] === EMPTY) return;
    this.pool.give(this.topicBlock[slot]);
    this.pool.give(this.listBlock[slot]);
    this.topicBlock[slot] = EMPTY;
  }

  /** Turns the index's raw subscriptions into `list`: one triple a target. */
  private merge(): number {
    const { found, foundCount, target, options } = this.index;
    if (foundCount * 3 > this.list.length) this.list = new Int32Array(foundCount * 6);
    this.round++;
    let length = 0;
    let merged = 0;
    for (let i = 0; i < foundCount; i++) {
      const sub = found[i];
      const t = target[sub];
      if (t >= 0) {
        if (t >= this.mark.length) this.growMarks(t);
        if (this.mark[t] === this.round) {
          this.mergeOptions(this.position[t], options[sub]);
          merged++;
          continue;
        }
        this.mark[t] = this.round;
        this.position[t] = length;
      }
      this.list[length] = t;
      this.list[length + 1] = options[sub];
      this.list[length + 2] = sub;
      length += 3;
    }
    this.listLength = length;
    if (merged > 0) this.listMerged(length / 3);
    return length / 3;
  }

  /** One copy leaves at the highest QoS of all matching subscriptions. While merging, word 2 counts them, negated. */
  private mergeOptions(at: number, more: number): void {
    const has = this.list[at + 1];
    const qos = Math.max(has & QOS_MASK, more & QOS_MASK); // [MQTT-3.3.4-2]
    this.list[at + 2] = has & MERGED ? this.list[at + 2] - 1 : -2;
    this.list[at + 1] = ((has | more) & ~QOS_MASK) | qos | MERGED;
  }

  /** Writes the subscriptions of each merged target behind the triples. */
  private listMerged(targets: number): void {
    const { found, foundCount, target } = this.index;
    this.ensureList(this.listLength + targets + foundCount);
    const { list } = this;
    for (let at = 1; at < targets * 3; at += 3) {
      if ((list[at] & MERGED) === 0) continue;
      const count = -list[at + 1];
      list[at + 1] = -this.listLength;
      list[this.listLength] = 0;
      this.listLength += 1 + count;
    }
    for (let i = 0; i < foundCount; i++) {
      const t = target[found[i]];
      if (t < 0) continue;
      const at = this.position[t];
      if ((list[at + 1] & MERGED) === 0) continue;
      const start = -list[at + 2];
      list[start]++;
      list[start + list[start]] = found[i];
    }
  }

  private ensureList(length: number): void {
    if (length > this.list.length) this.list = grown(this.list, length * 2);
  }

  private growMarks(session: number): void {
    let capacity = this.mark.length;
    while (capacity <= session) capacity *= 2;
    this.mark = grown(this.mark, capacity);
    this.position = grown(this.position, capacity);
  }

  private doubleSlots(): void {
    for (let slot = 0; slot < this.slotCount; slot++) this.forget(slot);
    this.allocate(this.slotCount * 2);
  }

  /** `slots` and the scratch slot after them, all empty. */
  private allocate(slots: number): void {
    this.mask = slots - 1;
    this.pushedOutCount = 0;
    this.hash = new Int32Array(slots + 1);
    this.stamp = new Float64Array(slots + 1);
    this.topicBlock = new Int32Array(slots + 1).fill(EMPTY);
    this.topicLength = new Uint16Array(slots);
    this.listBlock = new Int32Array(slots + 1);
    this.targetCount = new Int32Array(slots + 1);
    this.firstLevel = new Uint16Array(slots);
    this.levelGeneration = new Int32Array(slots);
    this.leadingGeneration = new Int32Array(slots);
    this.turnedAway = new Int32Array(slots);
  }
}

function floorPowerOfTwo(n: number): number {
  return 1 << (31 - Math.clz32(n));
}
