/**
 * src/core/topic-index.ts: insert, remove and match by number of subscriptions and shape of filter, and what a
 * subscription takes. The bytes are those of all columns, tables and blocks, with the room that doubling leaves.
 *
 * Topics are picked at random from all, so that at a million the memory's latency is part of what is measured: that is
 * what a topic costs that nobody has published to lately. `scale` shows whole publishes.
 */
import { BlockPool } from "#base/block-pool.ts";
import { TopicIndex } from "#core/topic-index.ts";
import { listTopics, randomNumbers, SEED, type Shape, shapeOf, type TopicList } from "./fixture.ts";
import { NaiveIndex } from "./naive.ts";
import { type Recorder, type Suite, sized, sizes } from "./recorder.ts";

/** Goal, bytes a subscription. */
const BYTES_MAX = 120;
const PICKS = 16_384;

export const suite: Suite = {
  about: "subscriptions by filter (src/core/topic-index.ts)",
  async run(recorder) {
    for (const shape of ["exact", "+", "#", "mixed"] as const) {
      for (const count of sizes(recorder, 1000, 10_000, 100_000, 1_000_000)) await operations(recorder, shape, count);
    }
    for (const shape of ["exact", "mixed"] as const) await againstNaive(recorder, shape, sized(recorder, 10_000));
    for (const [name, filter] of memoryShapes) bytesOf(recorder, name, filter);
  },
};

interface Filled {
  readonly index: TopicIndex;
  readonly pool: BlockPool;
}

function fill(count: number, filter: (i: number) => string): Filled {
  const pool = new BlockPool();
  const index = new TopicIndex(pool, SEED);
  for (let i = 0; i < count; i++) index.add(i, Buffer.from(filter(i), "latin1"), 1, 0);
  return { index, pool };
}

function matchAll(index: TopicIndex, { bytes, at, count }: TopicList): number {
  let found = 0;
  for (let i = 0; i < count; i++) {
    index.match(bytes, at[i], at[i + 1], index.hash(bytes, at[i], at[i + 1]));
    found += index.foundCount;
  }
  return found;
}

async function operations(recorder: Recorder, shape: Shape, count: number): Promise<void> {
  const { index } = fill(count, (i) => shapeOf(shape, i).filter);
  const topics = listTopics(randomNumbers(PICKS, count).map((i) => shapeOf(shape, i).topic));
  if (matchAll(index, topics) !== topics.count) throw new Error(`${shape}: each topic has one subscriber`);
  const name = `${shape}, ${count.toLocaleString("en")}`;
  await recorder.time(`match, ${name}`, topics.count, () => matchAll(index, topics));
  const missing = listTopics(randomNumbers(PICKS, count).map((i) => `site/${i % 100}/nobody/device${i}/state`));
  await recorder.time(`match of nobody, ${name}`, missing.count, () => matchAll(index, missing));
  const filters = Array.from({ length: 1024 }, (_, i) => Buffer.from(shapeOf(shape, count + i).filter));
  const subs = new Int32Array(filters.length);
  await recorder.time(`insert and remove, ${name}`, filters.length, () => {
    for (let i = 0; i < filters.length; i++) subs[i] = index.add(count + i, filters[i], 1, 0);
    for (let i = 0; i < filters.length; i++) index.remove(subs[i]);
    return index.subscriptionCount;
  });
}

async function againstNaive(recorder: Recorder, shape: Shape, count: number): Promise<void> {
  const { index } = fill(count, (i) => shapeOf(shape, i).filter);
  const naive = new NaiveIndex();
  for (let i = 0; i < count; i++) naive.add(shapeOf(shape, i).filter, i);
  const topics = listTopics(randomNumbers(PICKS, count).map((i) => shapeOf(shape, i).topic));
  await recorder.compare(`match, ${shape}, ${count.toLocaleString("en")}`, topics.count, {
    TopicIndex: () => matchAll(index, topics),
    "split, Maps and strings": () => {
      let found = 0;
      const { bytes, at } = topics;
      for (let i = 0; i < topics.count; i++) found += naive.match(bytes.toString("utf8", at[i], at[i + 1])).length;
      return found;
    },
  });
}

/** Filters of 1,000,000 clients: one each. */
const memoryShapes: [string, (i: number) => string][] = [
  ["exact, 28 B", (i) => shapeOf("exact", i).filter],
  ["one node: site/+/line/deviceN", (i) => shapeOf("+", i).filter],
  ["two nodes: device/N/+", (i) => `device/${i}/+`],
  ["three nodes: device/N/+/state", (i) => `device/${i}/+/state`],
  ["device/N/#", (i) => `device/${i}/#`],
  ["one filter for all", () => "site/+/state"],
];

function bytesOf(recorder: Recorder, name: string, filter: (i: number) => string): void {
  const count = sized(recorder, 1_000_000);
  const { index, pool } = fill(count, filter);
  const value = (index.bytes + pool.usedBytes) / count;
  recorder.figure(`bytes a subscription, ${count.toLocaleString("en")}, ${name}`, { value, unit: "B", max: BYTES_MAX });
  // Every column doubles at 2^20: the same filters a little later, when half the room is empty.
  const more = Math.round(count * 1.06);
  const later = fill(more, filter);
  const after = (later.index.bytes + later.pool.usedBytes) / more;
  recorder.figure(`bytes a subscription, ${more.toLocaleString("en")}, ${name}`, { value: after, unit: "B" });
}
