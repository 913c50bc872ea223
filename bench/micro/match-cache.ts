/** src/core/match-cache.ts: topics whose subscribers are remembered, against a Map of strings. */
import { BlockPool } from "#base/block-pool.ts";
import { MatchCache } from "#core/match-cache.ts";
import { TopicIndex } from "#core/topic-index.ts";
import { listTopics, SEED, shapeOf } from "./fixture.ts";
import { type Recorder, type Suite, sized, sizes } from "./recorder.ts";

const SLOTS_MAX = 65_536;

export const suite: Suite = {
  about: "remembered matches (src/core/match-cache.ts), hash of the topic included",
  async run(recorder) {
    for (const topics of sizes(recorder, 16, 1024, 32_768)) await hits(recorder, topics);
    for (const subscribers of [1, 10]) {
      for (const count of sizes(recorder, 1000, 1_000_000)) await misses(recorder, count, subscribers);
    }
  },
};

function make(): { index: TopicIndex; cache: MatchCache } {
  const pool = new BlockPool();
  const index = new TopicIndex(pool, SEED);
  return { index, cache: new MatchCache(pool, index, SLOTS_MAX) };
}

async function hits(recorder: Recorder, count: number): Promise<void> {
  const { index, cache } = make();
  const { bytes, at } = listTopics(Array.from({ length: count }, (_, i) => shapeOf("exact", i).topic));
  const map = new Map<string, number>();
  // Twice: the slots double while they fill, and forget.
  for (let i = 0; i < count * 2; i++) {
    const topic = i % count;
    const hash = index.hash(bytes, at[topic], at[topic + 1]);
    if (cache.find(bytes, at[topic], at[topic + 1], hash) < 0) cache.fill(bytes, at[topic], at[topic + 1], hash);
    map.set(bytes.toString("utf8", at[topic], at[topic + 1]), topic);
  }
  await recorder.compare(`hit, ${count.toLocaleString("en")} topics in turn`, count, {
    MatchCache: () => {
      let found = 0;
      for (let i = 0; i < count; i++) {
        if (cache.find(bytes, at[i], at[i + 1], index.hash(bytes, at[i], at[i + 1])) >= 0) found++;
      }
      return found;
    },
    "Map of strings": () => {
      let sum = 0;
      for (let i = 0; i < count; i++) sum += map.get(bytes.toString("utf8", at[i], at[i + 1]))!;
      return sum;
    },
  });
  let found = 0;
  for (let i = 0; i < count; i++) {
    if (cache.find(bytes, at[i], at[i + 1], index.hash(bytes, at[i], at[i + 1])) >= 0) found++;
  }
  recorder.figure(`share of ${count.toLocaleString("en")} topics that stay remembered`, {
    value: found / count,
    unit: "×",
  });
}

/** More topics than slots, each asked for once in a round. */
async function misses(recorder: Recorder, subscriptions: number, subscribers: number): Promise<void> {
  const { index, cache } = make();
  for (let i = 0; i < subscriptions; i++) {
    index.add(i, Buffer.from(shapeOf("exact", Math.floor(i / subscribers)).filter), 0, 0);
  }
  const topicCount = subscriptions / subscribers;
  const rounds = sized(recorder, 200_000);
  const { bytes, at, count } = listTopics(
    Array.from({ length: rounds }, (_, i) => shapeOf("exact", (Math.imul(i, 48_271) % topicCount) >>> 0).topic),
  );
  let next = 0;
  await recorder.time(
    `miss, look-up, fill, ${subscriptions.toLocaleString("en")} subscriptions, ${subscribers} a topic`,
    1000,
    () => {
      for (let i = 0; i < 1000; i++, next++) {
        if (next >= count) next = 0;
        cache.fill(bytes, at[next], at[next + 1], index.hash(bytes, at[next], at[next + 1]));
      }
      return cache.missCount;
    },
  );
}
