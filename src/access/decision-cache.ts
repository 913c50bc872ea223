/**
 * What has been decided about one session's publishes: topic bytes → verdict, for a while. A look-up makes no string and
 * no object.
 *
 *   hashes [ h | h | … ]  untilSec [ … ]  verdicts [ … ]  topics [ Buffer | null | … ]    power of two, from 8 up to countMax
 *   slotOfStamp[ stamp & mask ] ─► slot, right when stamps[slot] is the stamp: a topic seen before needs no bytes compared
 *
 * An entry lies in one of the four slots from its hash on; when these are taken the table doubles, and at its largest the
 * entry that ends first gives way. One session's topics never push out another's. Empty until the first answer: a session
 * that only subscribes pays nothing. Topics that are longer than `TOPIC_BYTES` on average are too much for it: it begins anew.
 */
import type { ALLOW, DENY } from "#core/ports.ts";
import { equalBytes } from "#base/bytes.ts";

export const UNKNOWN = -1;
const PROBES = 4;
const COUNT_MIN = 8;
/** For each topic that may be kept: a client with long ones must not take a megabyte. */
const TOPIC_BYTES = 256;

export type Decided = typeof ALLOW | typeof DENY;

export class DecisionCache {
  private hashes = new Int32Array(COUNT_MIN);
  private untilSec = new Uint32Array(COUNT_MIN);
  private verdicts = new Uint8Array(COUNT_MIN);
  private topics: (Buffer | null)[] = Array<Buffer | null>(COUNT_MIN).fill(null);
  /** By slot, the topic's stamp in the match cache, 0 where that is not known; and by a stamp's low bits, the slot. */
  private stamps = new Float64Array(COUNT_MIN);
  private slotOfStamp = new Uint16Array(COUNT_MIN);
  /** The slot of the latest hit. */
  private last = 0;
  /** Of the topics. */
  bytes = 0;

  /** `countMax`: a power of two, from 8. */
  constructor(private readonly countMax: number) {}

  get capacity(): number {
    return this.topics.length;
  }

  /** As `find`, but for a topic that has been found under this stamp of the match cache: neither hash nor bytes are looked at. */
  findStamp(stamp: number, nowSec: number): Decided | typeof UNKNOWN {
    const slot = this.slotOfStamp[stamp & (this.slotOfStamp.length - 1)];
    return this.stamps[slot] === stamp && nowSec < this.untilSec[slot] ? (this.verdicts[slot] as Decided) : UNKNOWN;
  }

  /** The topic that `find` has just found has this stamp; 0: it has none. */
  noteStamp(stamp: number): void {
    if (stamp === 0) return;
    this.stamps[this.last] = stamp;
    this.slotOfStamp[stamp & (this.slotOfStamp.length - 1)] = this.last;
  }

  /** The verdict, or UNKNOWN when there is none that holds at `nowSec`. */
  find(bytes: Buffer, start: number, end: number, hash: number, nowSec: number): Decided | typeof UNKNOWN {
    const { hashes, topics } = this;
    const mask = topics.length - 1;
    for (let probe = 0; probe < PROBES; probe++) {
      const slot = (hash + probe) & mask;
      const topic = topics[slot];
      if (hashes[slot] !== hash || topic === null || topic.length !== end - start) continue;
      if (!equalBytes(topic, 0, bytes, start, end - start)) continue;
      this.last = slot;
      return nowSec < this.untilSec[slot] ? (this.verdicts[slot] as Decided) : UNKNOWN;
    }
    return UNKNOWN;
  }

  /** `topic` is kept. */
  add(topic: Buffer, hash: number, verdict: Decided, untilSec: number): void {
    if (this.bytes + topic.length > this.countMax * TOPIC_BYTES) {
      this.reset(COUNT_MIN);
      if (topic.length > this.countMax * TOPIC_BYTES) return;
    }
    let slot = this.slotFor(topic, hash);
    while (slot < 0) {
      this.grow();
      slot = this.slotFor(topic, hash);
    }
    this.bytes += topic.length - (this.topics[slot]?.length ?? 0);
    this.hashes[slot] = hash;
    this.untilSec[slot] = untilSec;
    this.verdicts[slot] = verdict;
    this.topics[slot] = topic;
    this.stamps[slot] = 0;
  }

  /** Where the topic stands or may stand; −1 when there is no room and the table may grow. */
  private slotFor(topic: Buffer, hash: number): number {
    const mask = this.capacity - 1;
    let best = -1;
    for (let probe = 0; probe < PROBES; probe++) {
      const slot = (hash + probe) & mask;
      const other = this.topics[slot];
      if (other === null) return slot;
      if (this.hashes[slot] === hash && other.equals(topic)) return slot;
      if (best < 0 || this.untilSec[slot] < this.untilSec[best]) best = slot;
    }
    return this.capacity < this.countMax ? -1 : best;
  }

  private grow(): void {
    const { hashes, untilSec, verdicts, topics } = this;
    this.reset(topics.length * 2);
    for (const [slot, topic] of topics.entries()) {
      if (topic === null) continue;
      const at = this.slotFor(topic, hashes[slot]);
      if (at < 0) continue; // as if it had given way
      this.hashes[at] = hashes[slot];
      this.untilSec[at] = untilSec[slot];
      this.verdicts[at] = verdicts[slot] as Decided;
      this.bytes += topic.length - (this.topics[at]?.length ?? 0);
      this.topics[at] = topic;
    }
  }

  private reset(count: number): void {
    this.last = this.bytes = 0;
    this.hashes = new Int32Array(count);
    this.untilSec = new Uint32Array(count);
    this.verdicts = new Uint8Array(count);
    this.stamps = new Float64Array(count);
    this.slotOfStamp = new Uint16Array(count);
    this.topics = Array<Buffer | null>(count).fill(null);
  }
}
