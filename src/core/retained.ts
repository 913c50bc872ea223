/**
 * The last retained message of each topic, in a tree of levels that can also be walked by filter.
 *
 *   LevelTrie node ──► message, firstChild, nextSibling, previousSibling, version, publisherKey, timer
 *
 * A look-up is a cursor that walks the tree as its subscriber takes messages, so `#` over a million topics is no stall.
 * The nodes on its path are counted as used and stay. What changed after the cursor was made is skipped: the subscriber
 * has received it live, and an old value must not follow a newer one.
 */
import type { BlockPool } from "#base/block-pool.ts";
import { grown, hashBytes } from "#base/bytes.ts";
import { LevelTrie, ROOT } from "./level-trie.ts";
import type { MessagePool, MessageView } from "./message.ts";
import type { Retained, RetainedCursor } from "./ports.ts";
import { DOLLAR, SLASH } from "./topic.ts";

export class RetainedIndex implements Retained {
  private readonly trie: LevelTrie;
  private message: Int32Array;
  private firstChild: Int32Array;
  private nextSibling: Int32Array;
  private previousSibling: Int32Array;
  private version: Float64Array;
  private publisherKey: Int32Array;
  /** Orders values among the processes of this broker, 0 with one; see peer-mark.ts. */
  valueStamp: Float64Array;
  /** The owner's expiry timer, or -1. */
  timer: Int32Array;
  private clock = 0;
  count = 0;

  constructor(
    pool: BlockPool,
    private readonly messages: MessagePool,
    private readonly seed: number,
  ) {
    this.trie = new LevelTrie(pool);
    this.message = new Int32Array(this.trie.capacity).fill(-1);
    this.firstChild = new Int32Array(this.trie.capacity).fill(-1);
    this.nextSibling = new Int32Array(this.trie.capacity).fill(-1);
    this.previousSibling = new Int32Array(this.trie.capacity).fill(-1);
    this.version = new Float64Array(this.trie.capacity);
    this.publisherKey = new Int32Array(this.trie.capacity);
    this.valueStamp = new Float64Array(this.trie.capacity);
    this.timer = new Int32Array(this.trie.capacity).fill(-1);
  }

  /** The topic's node if it holds a message, or -1. */
  find(topic: Buffer, start: number, end: number): number {
    let node = ROOT;
    for (let from = start; from <= end;) {
      const to = levelEnd(topic, from, end);
      node = this.trie.find(node, topic, from, to, hashBytes(topic, from, to, this.seed));
      if (node < 0) return -1;
      from = to + 1;
    }
    return this.message[node] < 0 ? -1 : node;
  }

  /** Makes `message`, a copy of `view` whose reference passes to the index, its topic's value. Returns the topic's node. */
  set(view: MessageView, message: number): number {
    const { bytes: topic, topicStart: start, topicEnd: end } = view;
    let node = ROOT;
    for (let from = start; from <= end;) {
      const to = levelEnd(topic, from, end);
      node = this.childFor(node, topic, from, to);
      from = to + 1;
    }
    if (this.message[node] >= 0) {
      this.messages.release(this.message[node]);
    } else {
      this.trie.use(node);
      this.count++;
    }
    this.message[node] = message;
    this.version[node] = ++this.clock;
    this.publisherKey[node] = view.publisherKey;
    this.valueStamp[node] = view.valueStamp;
    return node;
  }

  /** Nodes are below this, for walks over all topics by number. */
  get high(): number {
    return this.trie.high;
  }

  /** True for a node that holds a message. */
  holds(node: number): boolean {
    return this.message[node] >= 0;
  }

  /** The node's topic. */
  topicOf(node: number): string {
    const levels: string[] = [];
    for (let at = node; at !== ROOT; at = this.trie.parent[at]) levels.push(this.trie.levelText(at));
    return levels.reverse().join("/");
  }

  /** Points `view` at a topic's value. */
  load(node: number, view: MessageView): void {
    this.messages.load(this.message[node], view);
    view.publisherKey = this.publisherKey[node];
  }

  /** Forgets a topic's value. */
  remove(node: number): void {
    this.messages.release(this.message[node]);
    this.message[node] = -1;
    this.count--;
    this.trie.unuse(node, this.onNodeRemoved);
  }

  lookUp(filter: Buffer, complete: (cursor: RetainedCursor) => void): void {
    complete(new Cursor(this, filter, this.clock));
  }

  // What the cursor needs; internal.

  visit(node: number, clock: number, view: MessageView): boolean {
    const message = this.message[node];
    if (message < 0 || this.version[node] > clock) return false;
    this.load(node, view);
    return true;
  }

  firstOf(node: number): number {
    return this.firstChild[node];
  }

  nextAfter(node: number): number {
    return this.nextSibling[node];
  }

  isHidden(node: number): boolean {
    return this.trie.parent[node] === ROOT && this.trie.firstByte(node) === DOLLAR;
  }

  childNamed(node: number, filter: Buffer, from: number, to: number): number {
    return this.trie.find(node, filter, from, to, hashBytes(filter, from, to, this.seed));
  }

  pin(node: number): void {
    this.trie.use(node);
  }

  unpin(node: number): void {
    this.trie.unuse(node, this.onNodeRemoved);
  }

  private childFor(parent: number, topic: Buffer, from: number, to: number): number {
    const before = this.trie.count;
    const node = this.trie.add(parent, topic, from, to, hashBytes(topic, from, to, this.seed));
    if (this.trie.count === before) return node;
    this.growColumns();
    const first = this.firstChild[parent];
    this.message[node] = -1;
    this.timer[node] = -1;
    this.firstChild[node] = -1;
    this.nextSibling[node] = first;
    this.previousSibling[node] = -1;
    if (first >= 0) this.previousSibling[first] = node;
    this.firstChild[parent] = node;
    return node;
  }

  private readonly onNodeRemoved = (node: number): void => {
    const next = this.nextSibling[node];
    const previous = this.previousSibling[node];
    if (next >= 0) this.previousSibling[next] = previous;
    if (previous >= 0) this.nextSibling[previous] = next;
    else this.firstChild[this.trie.parent[node]] = next;
  };

  private growColumns(): void {
    const capacity = this.trie.capacity;
    if (capacity === this.message.length) return;
    this.message = grown(this.message, capacity, -1);
    this.firstChild = grown(this.firstChild, capacity, -1);
    this.nextSibling = grown(this.nextSibling, capacity, -1);
    this.previousSibling = grown(this.previousSibling, capacity, -1);
    this.version = grown(this.version, capacity);
    this.publisherKey = grown(this.publisherKey, capacity);
    this.valueStamp = grown(this.valueStamp, capacity);
    this.timer = grown(this.timer, capacity, -1);
  }
}

/** How a node on the cursor's stack goes on: alone, or with its siblings after it. */
const ALONE = 0;
const SIBLINGS = 1;
/** Level of a node below `#`: it and all below it match. */
const ALL = -1;

class Cursor implements RetainedCursor {
  private readonly stack: number[] = []; // node, level, ALONE or SIBLINGS; each node is pinned
  private readonly levels: { start: number; end: number; text: string }[] = [];

  constructor(
    private readonly index: RetainedIndex,
    private readonly filter: Buffer,
    private readonly clock: number,
  ) {
    for (let from = 0; from <= filter.length;) {
      const end = levelEnd(filter, from, filter.length);
      this.levels.push({ start: from, end, text: end - from === 1 ? String.fromCharCode(filter[from]) : "" });
      from = end + 1;
    }
    this.push(ROOT, 0, ALONE);
  }

  next(view: MessageView): boolean {
    while (this.stack.length > 0) {
      const isOn = this.stack.pop() === SIBLINGS;
      const level = this.stack.pop()!;
      const node = this.stack.pop()!;
      if (isOn) this.push(this.index.nextAfter(node), level, SIBLINGS);
      const isHit = this.step(node, level, view);
      this.index.unpin(node);
      if (isHit) return true;
    }
    return false;
  }

  close(): void {
    for (let i = 0; i < this.stack.length; i += 3) this.index.unpin(this.stack[i]);
    this.stack.length = 0;
  }

  /** Puts on the stack what follows from a node; true when the node itself holds a wanted message. */
  private step(node: number, level: number, view: MessageView): boolean {
    const isWildStart = level === 1 && this.levels[0].text !== "" && "+#".includes(this.levels[0].text);
    if ((isWildStart || level === ALL) && this.index.isHidden(node)) return false; // [MQTT-4.7.2-1]
    if (level === ALL) {
      this.push(this.index.firstOf(node), ALL, SIBLINGS);
      return this.index.visit(node, this.clock, view);
    }
    if (level === this.levels.length) return this.index.visit(node, this.clock, view);
    const wanted = this.levels[level];
    if (wanted.text === "#") {
      this.push(this.index.firstOf(node), ALL, SIBLINGS);
      return this.index.visit(node, this.clock, view);
    }
    if (wanted.text === "+") this.push(this.index.firstOf(node), level + 1, SIBLINGS);
    else this.push(this.index.childNamed(node, this.filter, wanted.start, wanted.end), level + 1, ALONE);
    return false;
  }

  private push(node: number, level: number, mode: number): void {
    if (node < 0) return;
    this.index.pin(node);
    this.stack.push(node, level, mode);
  }
}

function levelEnd(topic: Buffer, from: number, end: number): number {
  let i = from;
  while (i < end && topic[i] !== SLASH) i++;
  return i;
}
