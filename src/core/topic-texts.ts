/** Topics as texts, for hooks: the text of a topic that the match cache holds is made once, and found by its stamp. */
import type { MatchCache } from "./match-cache.ts";
import type { MessageView } from "./message.ts";

/** A power of two; a topic takes the place of another at the same place. */
const COUNT_MAX = 4096;
/** Longer ones are made each time: a megabyte at most is kept. */
const TOPIC_BYTES_MAX = 256;

export class TopicTexts {
  private texts: string[] = [];
  private stamps = new Float64Array(0);

  constructor(private readonly cache: MatchCache) {}

  /** What `textOf` finds the topic by; 0 for one that the cache does not hold. */
  stampOf({ slot }: MessageView): number {
    return slot < 0 ? 0 : this.cache.stamp[slot];
  }

  textOf(view: MessageView, stamp: number): string {
    if (stamp === 0 || view.topicEnd - view.topicStart > TOPIC_BYTES_MAX) return view.topicText();
    if (this.stamps.length === 0) {
      this.stamps = new Float64Array(COUNT_MAX);
      this.texts = Array.from({ length: COUNT_MAX }, () => "");
    }
    const at = stamp & (COUNT_MAX - 1);
    if (this.stamps[at] === stamp) return this.texts[at];
    this.stamps[at] = stamp;
    return (this.texts[at] = view.topicText());
  }

  /** The view's slot holds its topic still, though others may have been routed since it had this stamp. */
  isHeld({ slot }: MessageView, stamp: number): boolean {
    return stamp !== 0 && this.cache.isHeld(slot, stamp);
  }
}
