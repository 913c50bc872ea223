/**
 * Messages through connections in memory, with a thousand and with a million subscriptions, in turns, in one process: what
 * the number of subscriptions costs. Two ways to publish:
 *
 *   1,000 topics   as most brokers are used: the match cache remembers them
 *   all topics     at random, far more than the cache holds: each publish is a look-up in cold memory
 *
 * A thousand connections hold the subscriptions. Sockets are missing, so a ratio here is worse than the broker's own would
 * be. `--large` adds ten million subscriptions.
 */
import { MqttContext } from "#mqtt/context.ts";
import { CountingLink, makeEngine, openClient, publishPacket, randomNumbers, shapes } from "./fixture.ts";
import { type Body, type Recorder, type Suite, sized } from "./recorder.ts";

const SESSIONS = 1000;
const FEW = 1000;
const MANY = 1_000_000;
/** Topics in the chunks of a publisher, and messages in a chunk. */
const PICKS = 262_144;
const BATCH = 1024;
/** Throughput within 30 %: the cost may be 1 / 0.7. */
const RATIO_MAX = 1.43;

type ScaleShape = "exact" | "+";

export const suite: Suite = {
  about: "bytes in, bytes out, by number of subscriptions, the same in turns",
  async run(recorder) {
    for (const shape of ["exact", "+"] as const) {
      for (const matches of [1, 10]) await compare(recorder, shape, matches);
    }
    if (recorder.isLarge) await tenMillion(recorder);
  },
};

async function compare(recorder: Recorder, shape: ScaleShape, matches: number): Promise<void> {
  const many = sized(recorder, MANY);
  const few = Math.min(FEW, many / 2);
  const [small, large] = [few, many].map((count) => fill(shape, count, matches));
  for (const topics of ["1,000 topics", "all topics"]) {
    const limit = topics === "all topics" ? Infinity : FEW;
    const ways = {
      [`${few.toLocaleString("en")} subscriptions`]: bodyFor(small, shape, Math.min(limit, few / matches)),
      [`${many.toLocaleString("en")} subscriptions`]: bodyFor(large, shape, Math.min(limit, many / matches)),
    };
    const name = `${shape}, ${matches} match${matches === 1 ? "" : "es"}, ${topics}`;
    await recorder.compare(name, BATCH, ways, RATIO_MAX);
  }
}

/** `count` subscriptions over `count / matches` filters, each by `matches` connections. */
function fill(shape: ScaleShape, count: number, matches: number): MqttContext {
  const context = new MqttContext(makeEngine());
  const link = new CountingLink();
  const sessions = Array.from({ length: SESSIONS }, (_, i) => {
    return openClient({ version: 4, context, clientId: `subscriber-${i}`, link }).connection.session;
  });
  for (let i = 0; i < count; i++) {
    const topic = Math.floor(i / matches);
    const session = sessions[(topic * 7 + (i % matches)) % SESSIONS];
    context.engine.index.add(session, Buffer.from(shapes[shape].filter(topic), "latin1"), 0, 0);
  }
  return context;
}

/** Chunks of BATCH messages to topics out of `topicCount`, in no order. */
function chunksOf(shape: ScaleShape, topicCount: number): Buffer[] {
  const count = Math.ceil(Math.min(PICKS, topicCount * 16) / BATCH);
  const picks = randomNumbers(count * BATCH, topicCount);
  return Array.from({ length: count }, (_, i) => {
    const batch = picks.slice(i * BATCH, (i + 1) * BATCH);
    return Buffer.concat(batch.map((pick) => publishPacket(shapes[shape].topic(pick), 64, 0, 4)));
  });
}

/** Publishes a chunk. */
function bodyFor(context: MqttContext, shape: ScaleShape, topicCount: number): Body {
  const chunks = chunksOf(shape, topicCount);
  const { connection } = openClient({ version: 4, context, clientId: `publisher-${context.connectionCount}` });
  const { counts } = context.engine.metrics;
  let next = 0;
  return () => {
    connection.handleData(chunks[next]);
    next = (next + 1) % chunks.length;
    return counts[0];
  };
}

/** Ten million exact filters over as many topics: memory, and a look-up against that among a million. */
async function tenMillion(recorder: Recorder): Promise<void> {
  const million = fill("exact", MANY, 1);
  Bun.gc(true);
  const before = process.memoryUsage.rss();
  const all = fill("exact", MANY * 10, 1);
  const sum = all.engine.index.bytes + all.engine.pool.pageBytes;
  recorder.figure("10,000,000 subscriptions, columns, tables and pages", {
    value: sum / 2 ** 20,
    unit: "MB",
    max: 2048,
  });
  Bun.gc(true);
  const grown = process.memoryUsage.rss() - before;
  recorder.figure("10,000,000 subscriptions, growth of RSS", { value: grown / 2 ** 20, unit: "MB", max: 2048 });
  await recorder.compare(
    "exact, 1 match, all topics",
    BATCH,
    {
      "1,000,000 subscriptions, again": bodyFor(million, "exact", MANY),
      "10,000,000 subscriptions": bodyFor(all, "exact", MANY * 10),
    },
    2,
  );
}
