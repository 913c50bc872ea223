/**
 * Which lane of a queue a message waits in, by its topic: of all filters that match, the highest priority counts. A topic
 * always has the same lane, so the order of its messages is kept.
 */
import type { BlockPool } from "#base/block-pool.ts";
import type { MessageView } from "./message.ts";
import { DELIVERY_LANE_SHIFT } from "./outbox.ts";
import { TopicIndex } from "./topic-index.ts";

export interface TopicPriority {
  /** A valid topic filter. */
  readonly filter: string;
  /** 1 to 7, the highest; what no filter matches has 0. */
  readonly priority: number;
}

export class Priorities {
  private readonly index: TopicIndex;

  constructor(pool: BlockPool, seed: number, priorities: readonly TopicPriority[]) {
    this.index = new TopicIndex(pool, seed);
    priorities.forEach(({ filter, priority }, i) => this.index.add(i, Buffer.from(filter), priority, 0));
  }

  /** The lane as bits of a queue entry's `delivery`. */
  laneOf({ bytes, topicStart, topicEnd }: MessageView): number {
    const { index } = this;
    index.match(bytes, topicStart, topicEnd, index.hash(bytes, topicStart, topicEnd));
    let highest = 0;
    for (let i = 0; i < index.foundCount; i++) highest = Math.max(highest, index.options[index.found[i]]);
    return highest << DELIVERY_LANE_SHIFT;
  }
}
