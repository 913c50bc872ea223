/**
 * Who wants a topic. Filters without wildcards live in one hash table, the others in a tree of levels, so that a topic
 * costs one probe plus the few branches that wildcards open.
 *
 *   exact  : "a/b/c" → number ──► head[number] ─► sub ─► sub ─► …        (ByteTable, one hash of the whole topic)
 *   trie   : root ─ "a" ─ [+] ─ "c" ──► trieHead[node] ─► sub …          (`+` child by plusChild, never by hash)
 *                      └─ [#] ────────► hashHead[node] ─► sub …          ("a/#" hangs on node "a")
 *
 *   subscription columns, by number:
 *     target  session ≥ 0, or −1 − share group       options  QoS, no-local, retain-as-published, handling
 *     id      subscription identifier, 0 = none      place    the list it hangs in, kind in the two low bits
 *     next, previous (of the place)                  nextOf, previousOf (of the session)
 *
 * A subscription is 33 bytes here, plus its filter's entry if it is the only one there: about 23 bytes and the topic for
 * an exact filter, 38 a node and its level for others; all of it up to twice that just after the columns have doubled. bench/micro/topic-index.ts prints both.
 */
import type { BlockPool } from "#base/block-pool.ts";
import { ByteTable } from "#base/byte-table.ts";
import { grown, hashBytes } from "#base/bytes.ts";
import { Slab } from "#base/slab.ts";
import { LevelTrie, ROOT } from "./level-trie.ts";
import { DOLLAR, HASH, PLUS, SLASH } from "./topic.ts";

/** Bits of `options`. The low six are those of the SUBSCRIBE packet (MQTT 5.0 §3.8.3.1). */
export const QOS_MASK = 3;
export const NO_LOCAL = 4;
export const RETAIN_AS_PUBLISHED = 8;
export const RETAIN_HANDLING_SHIFT = 4;
export const HAS_ID = 64;
/** The subscriber is another process of this broker: see router.ts. */
export const PEER = 128;

const EXACT = 0;
const TRIE = 1;
const TRIE_HASH = 2;
const GROUP = 3;
/** Place of a number that no subscription has. */
const GONE = -1;

export class TopicIndex {
  readonly exact: ByteTable;
  private readonly trie: LevelTrie;
  private readonly numbers = new Slab();

  target = new Int32Array(64);
  options = new Uint8Array(64);
  id = new Int32Array(64);
  private place = new Int32Array(64);
  private next = new Int32Array(64);
  private previous = new Int32Array(64);
  nextOf = new Int32Array(64);
  private previousOf = new Int32Array(64);

  private head: Int32Array; // by exact number
  private trieHead: Int32Array; // by node
  private hashHead: Int32Array;
  private plusChild: Int32Array;
  private firstOf = new Int32Array(64).fill(-1); // by session

  peerCount = 0; // of the subscriptions, those that stand for what other processes want
  filterCount = 0; // distinct filters that somebody has

  /** Subscriptions found by `match`, valid up to `foundCount` until the next match. */
  found = new Int32Array(64);
  foundCount = 0;

  /** Generations that remembered matches are checked against; see match-cache.ts. */
  readonly levelGeneration = new Int32Array(1024);
  leadingGeneration = 0;
  /** Called with the hash of an exact filter whose subscribers changed. */
  onExactChange: (hash: number) => void = () => {};

  private levelStart = new Int32Array(130);
  private levelHash = new Int32Array(130);
  private levelCount = 0;

  constructor(
    pool: BlockPool,
    readonly seed: number,
  ) {
    this.exact = new ByteTable(pool);
    this.trie = new LevelTrie(pool);
    this.head = new Int32Array(this.exact.capacity).fill(-1);
    this.trieHead = new Int32Array(this.trie.capacity).fill(-1);
    this.hashHead = new Int32Array(this.trie.capacity).fill(-1);
    this.plusChild = new Int32Array(this.trie.capacity).fill(-1);
  }

  get subscriptionCount(): number {
    return this.numbers.count;
  }

  /** Exact filters and nodes of the trie: 0 when there is no subscription. */
  get keyCount(): number {
    return this.exact.count + this.trie.count - 1;
  }

  /** Bytes of all columns and tables, without the blocks of topics and levels. */
  get bytes(): number {
    return (
      this.exact.bytes + this.trie.bytes + this.target.length * 33 + this.head.length * 4 + this.trieHead.length * 12
    );
  }

  /** Hash of a whole topic or of one level. */
  hash(bytes: Buffer, start: number, end: number): number {
    return hashBytes(bytes, start, end, this.seed);
  }

  firstOfSession(session: number): number {
    return session < this.firstOf.length ? this.firstOf[session] : -1;
  }

  /** Adds a subscription for a filter that `find` did not know for this target. */
  add(target: number, filter: Buffer, options: number, id: number): number {
    const place = this.placeFor(filter);
    const sub = this.newSubscription(target, options, id, place);
    this.linkToPlace(sub, place);
    if (target >= 0) this.linkToSession(sub, target);
    this.noteChange(place);
    return sub;
  }

  /** Adds a session's membership of a share group: listed with the session, matched through the group's own entry. */
  addMember(session: number, group: number, options: number, id: number): number {
    const sub = this.newSubscription(session, options, id, (group << 2) | GROUP);
    this.linkToSession(sub, session);
    return sub;
  }

  /** True when somebody has the filter. */
  isWanted(filter: Buffer): boolean {
    const place = this.findPlace(filter);
    return place !== -1 && this.headOf(place) >= 0;
  }

  /** The session's subscription to a filter, or -1. Steps through the shorter of the session's and the filter's list. */
  find(session: number, filter: Buffer): number {
    const place = this.findPlace(filter);
    if (place === -1) return -1;
    let ofPlace = this.headOf(place);
    let ofSession = this.firstOfSession(session);
    while (ofPlace >= 0 && ofSession >= 0) {
      if (this.target[ofPlace] === session) return ofPlace;
      if (this.place[ofSession] === place) return ofSession;
      ofPlace = this.next[ofPlace];
      ofSession = this.nextOf[ofSession];
    }
    return -1;
  }

  /** The session's membership of a group, or -1. */
  findMember(session: number, group: number): number {
    const place = (group << 2) | GROUP;
    for (let sub = this.firstOfSession(session); sub >= 0; sub = this.nextOf[sub]) {
      if (this.place[sub] === place) return sub;
    }
    return -1;
  }

  /** New options and identifier for a subscription that stays. */
  change(sub: number, options: number, id: number): void {
    this.options[sub] = options | (id === 0 ? 0 : HAS_ID);
    this.id[sub] = id;
    if (this.groupOf(sub) < 0) this.noteChange(this.place[sub]);
  }

  remove(sub: number): void {
    const place = this.place[sub];
    if (this.target[sub] >= 0) this.unlinkFromSession(sub);
    if ((place & 3) !== GROUP) {
      this.noteChange(place);
      this.unlinkFromPlace(sub, place);
    }
    this.place[sub] = GONE;
    if ((this.options[sub] & PEER) !== 0) this.peerCount--;
    this.numbers.give(sub);
  }

  /** The share group of a membership, or -1. */
  groupOf(sub: number): number {
    return (this.place[sub] & 3) === GROUP ? this.place[sub] >> 2 : -1;
  }

  /** The filter's bytes; not for memberships. */
  filterOf(sub: number): Buffer {
    return this.filterAt(this.place[sub]);
  }

  private filterAt(place: number): Buffer {
    const kind = place & 3;
    if (kind === EXACT) return this.exact.keyOf(place >>> 2);
    const levels: string[] = kind === TRIE_HASH ? ["#"] : [];
    for (let node = place >>> 2; node !== ROOT; node = this.trie.parent[node]) {
      levels.push(this.plusChild[this.trie.parent[node]] === node ? "+" : this.trie.levelText(node));
    }
    return Buffer.from(levels.reverse().join("/"));
  }

  // ---- walks over all that is here, by number: what stays meanwhile is met once

  /** Subscriptions are below this. */
  get subscriptionHigh(): number {
    return this.numbers.high;
  }

  /** True for a client's subscription; not for the entry by which a share group is matched. */
  isClients(sub: number): boolean {
    return this.place[sub] !== GONE && this.target[sub] >= 0;
  }

  /** Places are below this. */
  get placeHigh(): number {
    return Math.max(this.exact.high, this.trie.high) << 2;
  }

  /** The first subscription that hangs in a place, or -1. */
  firstAt(place: number): number {
    const number = place >>> 2;
    const kind = place & 3;
    if (kind === GROUP || (kind === EXACT ? !this.exact.has(number) : number >= this.trie.high)) return -1;
    return this.headOf(place);
  }

  /** How many subscriptions of this process hang in the place of one, counted up to `countMax`. */
  countFrom(first: number, countMax: number): number {
    let count = 0;
    for (let sub = first; sub >= 0 && count < countMax; sub = this.next[sub])
      if ((this.options[sub] & PEER) === 0) count++;
    return count;
  }

  /** Finds all subscriptions whose filter matches a topic name; the answer is in `found`. `hash` is of the whole topic. */
  match(topic: Buffer, start: number, end: number, hash: number): void {
    this.foundCount = 0;
    const exact = this.exact.find(topic, start, end, hash);
    if (exact >= 0) this.collect(this.head[exact]);
    if (this.trie.count === 1 && this.hashHead[ROOT] < 0) return;
    this.splitLevels(topic, start, end);
    if (topic[start] === DOLLAR) {
      const child = this.trie.find(ROOT, topic, start, this.levelStart[1] - 1, this.levelHash[0]); // [MQTT-4.7.2-1]
      if (child >= 0) this.walk(topic, child, 1);
    } else {
      this.walk(topic, ROOT, 0);
    }
  }

  private walk(topic: Buffer, node: number, level: number): void {
    this.collect(this.hashHead[node]); // "a/#" matches "a" too
    if (level === this.levelCount) return this.collect(this.trieHead[node]);
    const child = this.trie.find(
      node,
      topic,
      this.levelStart[level],
      this.levelStart[level + 1] - 1,
      this.levelHash[level],
    );
    if (child >= 0) this.walk(topic, child, level + 1);
    const plus = this.plusChild[node];
    if (plus >= 0) this.walk(topic, plus, level + 1);
  }

  private collect(first: number): void {
    for (let sub = first; sub >= 0; sub = this.next[sub]) {
      if (this.foundCount === this.found.length) this.found = grown(this.found, this.found.length * 2);
      this.found[this.foundCount++] = sub;
    }
  }

  private splitLevels(bytes: Buffer, start: number, end: number): void {
    let count = 0;
    let from = start;
    for (let i = start; i <= end; i++) {
      if (i !== end && bytes[i] !== SLASH) continue;
      if (count + 2 > this.levelStart.length) {
        this.levelStart = grown(this.levelStart, this.levelStart.length * 2);
        this.levelHash = grown(this.levelHash, this.levelHash.length * 2);
      }
      this.levelStart[count] = from;
      this.levelHash[count] = this.hash(bytes, from, i);
      count++;
      from = i + 1;
    }
    this.levelStart[count] = from;
    this.levelCount = count;
  }

  /** Where a filter's subscriptions hang, or -1 when nobody has it. */
  private findPlace(filter: Buffer): number {
    if (!isWild(filter)) {
      const number = this.exact.find(filter, 0, filter.length, this.hash(filter, 0, filter.length));
      return number < 0 ? -1 : (number << 2) | EXACT;
    }
    this.splitLevels(filter, 0, filter.length);
    const last = this.levelCount - 1;
    let node = ROOT;
    for (let level = 0; level <= last; level++) {
      const from = this.levelStart[level];
      const c = filter[from];
      if (c === HASH) return (node << 2) | TRIE_HASH;
      if (c === PLUS) node = this.plusChild[node];
      else node = this.trie.find(node, filter, from, this.levelStart[level + 1] - 1, this.levelHash[level]);
      if (node < 0) return -1;
    }
    return (node << 2) | TRIE;
  }

  private placeFor(filter: Buffer): number {
    if (!isWild(filter)) {
      const hash = this.hash(filter, 0, filter.length);
      const known = this.exact.find(filter, 0, filter.length, hash);
      const number = known >= 0 ? known : this.exact.add(filter, 0, filter.length, hash);
      if (this.exact.capacity > this.head.length) this.head = grown(this.head, this.exact.capacity, -1);
      if (known < 0) this.head[number] = -1;
      return (number << 2) | EXACT;
    }
    this.splitLevels(filter, 0, filter.length);
    let node = ROOT;
    for (let level = 0; level < this.levelCount; level++) {
      const from = this.levelStart[level];
      if (filter[from] === HASH) return (node << 2) | TRIE_HASH;
      node = this.childFor(node, filter, from, level);
    }
    return (node << 2) | TRIE;
  }

  private childFor(parent: number, filter: Buffer, from: number, level: number): number {
    const isPlus = filter[from] === PLUS;
    if (isPlus && this.plusChild[parent] >= 0) return this.plusChild[parent];
    const before = this.trie.count;
    const node = isPlus
      ? this.trie.addUnkeyed(parent)
      : this.trie.add(parent, filter, from, this.levelStart[level + 1] - 1, this.levelHash[level]);
    if (this.trie.count === before) return node;
    this.growTrieColumns();
    this.trieHead[node] = -1;
    this.hashHead[node] = -1;
    this.plusChild[node] = -1;
    if (isPlus) this.plusChild[parent] = node;
    return node;
  }

  private growTrieColumns(): void {
    const capacity = this.trie.capacity;
    if (capacity === this.trieHead.length) return;
    this.trieHead = grown(this.trieHead, capacity, -1);
    this.hashHead = grown(this.hashHead, capacity, -1);
    this.plusChild = grown(this.plusChild, capacity, -1);
  }

  private headOf(place: number): number {
    const kind = place & 3;
    return kind === EXACT
      ? this.head[place >>> 2]
      : kind === TRIE
        ? this.trieHead[place >>> 2]
        : this.hashHead[place >>> 2];
  }

  private setHead(place: number, sub: number): void {
    const kind = place & 3;
    if (kind === EXACT) this.head[place >>> 2] = sub;
    else if (kind === TRIE) this.trieHead[place >>> 2] = sub;
    else this.hashHead[place >>> 2] = sub;
  }

  private newSubscription(target: number, options: number, id: number, place: number): number {
    const sub = this.numbers.take();
    if (sub >= this.target.length) this.grow();
    if ((options & PEER) !== 0) this.peerCount++;
    this.target[sub] = target;
    this.options[sub] = options | (id === 0 ? 0 : HAS_ID);
    this.id[sub] = id;
    this.place[sub] = place;
    return sub;
  }

  private linkToPlace(sub: number, place: number): void {
    const first = this.headOf(place);
    this.next[sub] = first;
    this.previous[sub] = -1;
    if (first >= 0) this.previous[first] = sub;
    else this.filterCount++;
    this.setHead(place, sub);
    if ((place & 3) !== EXACT) this.trie.use(place >>> 2);
  }

  private unlinkFromPlace(sub: number, place: number): void {
    const next = this.next[sub];
    const previous = this.previous[sub];
    if (next >= 0) this.previous[next] = previous;
    if (previous >= 0) this.next[previous] = next;
    else this.setHead(place, next);
    if (next < 0 && previous < 0) this.filterCount--;
    if ((place & 3) !== EXACT) this.trie.unuse(place >>> 2, this.onNodeRemoved);
    else if (this.head[place >>> 2] < 0) this.exact.remove(place >>> 2);
  }

  private readonly onNodeRemoved = (node: number): void => {
    const parent = this.trie.parent[node];
    if (this.plusChild[parent] === node) this.plusChild[parent] = -1;
  };

  private linkToSession(sub: number, session: number): void {
    if (session >= this.firstOf.length) {
      let capacity = this.firstOf.length * 2;
      while (capacity <= session) capacity *= 2;
      this.firstOf = grown(this.firstOf, capacity, -1);
    }
    const first = this.firstOf[session];
    this.nextOf[sub] = first;
    this.previousOf[sub] = -1;
    if (first >= 0) this.previousOf[first] = sub;
    this.firstOf[session] = sub;
  }

  private unlinkFromSession(sub: number): void {
    const next = this.nextOf[sub];
    const previous = this.previousOf[sub];
    if (next >= 0) this.previousOf[next] = previous;
    if (previous >= 0) this.nextOf[previous] = next;
    else this.firstOf[this.target[sub]] = next;
  }

  /** An exact filter drops its own remembered match, a wildcard those of its first level, a leading wildcard all. */
  private noteChange(place: number): void {
    if ((place & 3) === EXACT) return this.onExactChange(this.exact.hashOf(place >>> 2));
    let node = place >>> 2;
    if (node !== ROOT) while (this.trie.parent[node] !== ROOT) node = this.trie.parent[node];
    if (node === ROOT || node === this.plusChild[ROOT]) this.leadingGeneration++;
    else this.levelGeneration[this.trie.levelHashOf(node, this.seed) & 1023]++;
  }

  private grow(): void {
    const capacity = this.target.length * 2;
    this.target = grown(this.target, capacity);
    this.options = grown(this.options, capacity);
    this.id = grown(this.id, capacity);
    this.place = grown(this.place, capacity);
    this.next = grown(this.next, capacity);
    this.previous = grown(this.previous, capacity);
    this.nextOf = grown(this.nextOf, capacity);
    this.previousOf = grown(this.previousOf, capacity);
  }
}

function isWild(filter: Buffer): boolean {
  return filter.includes(PLUS) || filter.includes(HASH);
}
