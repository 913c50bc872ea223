/**
 * What a message tells a peer, another process of this broker, besides itself: as Subscription Identifiers of its PUBLISH, since
 * those are kept with a message that waits, in memory and on disk.
 *
 *   no identifier     for all who want the topic there
 *   two               | stamp, high 26 bits, and bit 26: published at QoS 0, bit 27: only to be kept | stamp, low 26 bits, + 1 |
 *                     a retained message: also to be kept there, unless a value with a greater stamp is
 *   three             | token | token | key of the publisher |     for one member of a share group there: share-group.ts
 *
 * A stamp is a number of 52 bits that grows with time: milliseconds since 2025 (40 bits), a counter (6), the process's number (6).
 * So each process ends up with the same value of a topic, whatever order two of them came in.
 */
import { addId } from "./delivery.ts";
import type { MessageView } from "./message.ts";

const LOW = 2 ** 26;
const WAS_QOS_0 = 2 ** 26;
const VALUE_ONLY = 2 ** 27;
const ID_MAX = 2 ** 28 - 1;
const EPOCH_MS = 1_735_689_600_000; // 2025-01-01
const TICKS = 2 ** 12;
const NODES_MAX = 2 ** 6;

export const RETAINED_MARKS = 2;
export const SHARED_MARKS = 3;

export function markRetained(view: MessageView, isValueOnly = false): void {
  view.idCount = 0;
  addId(view, Math.floor(view.valueStamp / LOW) + (view.qos === 0 ? WAS_QOS_0 : 0) + (isValueOnly ? VALUE_ONLY : 0));
  addId(view, (view.valueStamp % LOW) + 1);
}

export function markShared(view: MessageView, [first, second]: readonly [number, number]): void {
  view.idCount = 0;
  addId(view, first);
  addId(view, second);
  addId(view, view.publisherKey & ID_MAX || 1);
}

export function readShared(view: MessageView): void {
  view.publisherKey = view.ids[2];
}

/** The stamp of a message with two marks; one that was published at QoS 0 gets that QoS again. True: it is only to be kept. */
export function readRetained(view: MessageView): boolean {
  const high = view.ids[0];
  view.valueStamp = (high % LOW) * LOW + view.ids[1] - 1;
  if ((high & WAS_QOS_0) !== 0) view.qos = 0;
  return (high & VALUE_ONLY) !== 0;
}

const ALL_VALUES = 1;

/** Whether process `node` asks for the value with the stamp by `mark`, see `ValueStamps.mark`. */
export function isAskedFor(stamp: number, mark: number, node: number): boolean {
  if (mark === ALL_VALUES) return true;
  return stamp % NODES_MAX === node && stamp >= (mark - ALL_VALUES - 1) * TICKS * 1000;
}

/** Hands out stamps: greater than every one seen before, whatever the clock does. */
export class ValueStamps {
  private last = 0;
  /** The greatest of this process's own. */
  private lastOwn = 0;

  /** `node` is this process's number, 0 to 63; `nowMs` the wall clock. */
  constructor(
    readonly node: number,
    private readonly nowMs: () => number,
  ) {
    if (node < 0 || node >= NODES_MAX) throw new RangeError(`process ${node} of at most ${NODES_MAX}`);
  }

  next(): number {
    const now = Math.floor(this.nowMs() - EPOCH_MS) * TICKS;
    const least = Math.floor(this.last / NODES_MAX + 1) * NODES_MAX;
    this.last = this.lastOwn = Math.max(now, least) + this.node;
    return this.last;
  }

  /** Another process's stamp: ours will be greater. */
  see(stamp: number): void {
    if (stamp > this.last) this.last = stamp;
    if (this.isOwn(stamp) && stamp > this.lastOwn) this.lastOwn = stamp;
  }

  isOwn(stamp: number): boolean {
    return stamp % NODES_MAX === this.node;
  }

  /**
   * What a process that has started asks the others for: ALL_VALUES when it has none, or how far its own go. A crash may have taken
   * values of its own that others have; theirs come anyhow, from the queues of those who sent them.
   */
  get mark(): number {
    return this.last === 0 ? ALL_VALUES : Math.floor(this.lastOwn / (TICKS * 1000)) + ALL_VALUES + 1;
  }
}
