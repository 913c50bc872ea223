/**
 * Many subscriptions, and messages to topics picked at random from all of them: what a large site looks like, and the
 * hard case for caches. Topic i is wanted by 1 + i mod `matches` clients, so a publish brings 1 to `matches` deliveries.
 *
 * With --hot N messages go to N of the topics only, as many as a smaller number of subscriptions would have.
 *
 *   topic   f007/unit0123/p00000042      filter the same (--wild 0), or f007/+/p00000042 (--wild 1)
 */
import { serverProcesses, usageOf } from "#bench/load/server-usage.ts";
import { numbers, report } from "./arguments.ts";
import { Connection, openAll } from "./connection.ts";
import { Loop } from "./loop.ts";
import { type PublishFrame, publishFrame, subscribePacket } from "./packets.ts";

const FILTERS_PER_PACKET = 250;
const SUBACK = 9;
const PAYLOAD_BYTES = 64;
const COUNTED_MIN = 100_000;
const options = numbers({
  port: 0,
  "broker-pid": 0,
  warmup: 1,
  duration: 4,
  subscriptions: 1000,
  matches: 10,
  wild: 0,
  hot: 0,
  clients: 50,
  publishers: 10,
});
const { port, matches, clients } = options;
const isWild = options.wild === 1;
/** 1 + 2 + … + matches subscriptions for each `matches` topics. */
const topics = Math.max(1, Math.round((options.subscriptions * 2) / (matches + 1)));
const published = options.hot === 0 ? topics : Math.min(options.hot, topics);

function digits(value: number, count: number): string {
  return String(value).padStart(count, "0");
}

function topicOf(i: number, unit: string): string {
  return `f${digits(i % 100, 3)}/${unit}/p${digits(i, 8)}`;
}

function filterOf(i: number): string {
  return topicOf(i, isWild ? "+" : `unit${digits(i % 1009, 4)}`);
}

/** The filters of a client, without ever holding all of them. */
function* filtersOf(client: number): Generator<string> {
  for (let i = 0; i < topics; i++) if ((client - (i % clients) + clients) % clients < copiesOf(i)) yield filterOf(i);
}

function copiesOf(i: number): number {
  return 1 + (i % matches);
}

/** One SUBSCRIBE at a time for each client: enough with many of them, and no socket fills up. */
async function subscribeAll(client: number, connection: Connection): Promise<number> {
  let count = 0;
  let filters: string[] = [];
  const send = async (): Promise<void> => {
    const { promise, resolve } = Promise.withResolvers<boolean>();
    subscribed[client] = resolve;
    connection.send(subscribePacket(1, filters, { version: 4, qos: 0 }));
    if (!(await promise)) throw new Error(`the broker refused a subscription of client ${client}`);
    count += filters.length;
    filters = [];
  };
  for (const filter of filtersOf(client)) if (filters.push(filter) === FILTERS_PER_PACKET) await send();
  if (filters.length > 0) await send();
  return count;
}

const subscribed: ((isGranted: boolean) => void)[] = [];
/** Empty until all clients are there. */
const stage: { loop?: Loop } = {};

const subscribers = await openAll(clients, clients, (index) =>
  Connection.open({
    port,
    clientId: `field${index}`,
    onPacket: (connection, first, bytes, from, to) => {
      if (first >> 4 === SUBACK) subscribed[index](!bytes.subarray(from + 2, to).some((code) => code >= 0x80));
      else stage.loop?.toSubscriber(index, connection, first, bytes, from);
    },
  }),
);
const pids = serverProcesses(options["broker-pid"]);
const before = { at: performance.now(), rssBytes: usageOf(pids).rssBytes };
const counts = await Promise.all(subscribers.map((connection, index) => subscribeAll(index, connection)));
const subscriptionCount = counts.reduce((sum, count) => sum + count, 0);
const fillSec = (performance.now() - before.at) / 1000;
const grownBytes = usageOf(pids).rssBytes - before.rssBytes;

const publishers = await openAll(options.publishers, options.publishers, (index) =>
  Connection.open({
    port,
    clientId: `source${index}`,
    onPacket: (connection, first, bytes, from, to) =>
      stage.loop?.toPublisher(index, connection, first, bytes, from, to),
  }),
);

/** All topics have the same length, so one frame serves them all: only digits are patched. */
const frame: PublishFrame = publishFrame(topicOf(0, "unit0000"), { version: 4, qos: 0, payloadBytes: PAYLOAD_BYTES });
const topicAt = frame.payloadAt - topicOf(0, "unit0000").length;
const next = { frame, copies: 0 };
let seed = 0x2545f491;

function patch(value: number, at: number, count: number): void {
  let rest = value;
  for (let i = at + count - 1; i >= at; i--, rest = (rest / 10) | 0) frame.bytes[topicAt + i] = 48 + (rest % 10);
}

stage.loop = new Loop({
  publishers,
  subscriberCount: clients,
  qos: 0,
  windowCount: 0,
  outstandingCount: 5000,
  brokerPid: options["broker-pid"],
  warmupSec: options.warmup,
  durationSec: options.duration,
  next: () => {
    seed ^= seed << 13;
    seed ^= seed >>> 17;
    seed ^= seed << 5;
    const i = (seed >>> 0) % published;
    patch(i % 100, 1, 3);
    patch(i % 1009, 9, 4);
    patch(i, 15, 8);
    next.copies = copiesOf(i);
    return next;
  },
});
const { metrics, faults } = await stage.loop.run();
report({
  metrics: {
    ...metrics,
    subscribesPerSec: subscriptionCount / fillSec,
    // With few of them the growth is that of everything else.
    ...(subscriptionCount >= COUNTED_MIN ? { bytesPerSubscription: grownBytes / subscriptionCount } : {}),
  },
  faults,
});
process.exit(0);
