/**
 * What it costs to cross workers: CPU of the broker per delivered message, publisher and subscriber belonging to the same worker
 * or to different ones of two, beside one process; the runs of a round one after the other, ratios by round. Whether the
 * clients' sockets came to the workers they belong to is the kernel's choice: half of them are relayed, as in real life.
 */
import { homeOf } from "#fabric/home.ts";
import { Connection, openAll } from "#bench/scenarios/clients/connection.ts";
import { Loop } from "#bench/scenarios/clients/loop.ts";
import { publishFrame, subscribePacket } from "#bench/scenarios/clients/packets.ts";
import type { Outcome } from "#bench/scenarios/scenario.ts";
import { startOwnBroker } from "./own-broker.ts";

const PAIRS = 20;
const SUBACK = 9;
/** Of a broker that keeps nothing; see broker/keeper.ts. */
const SEED = 1;

interface Case {
  readonly name: string;
  readonly workers: number;
  /** Workers of publishers and of subscribers. */
  readonly homes: readonly [number, number];
}

const CASES: readonly Case[] = [
  { name: "one process", workers: 1, homes: [0, 0] },
  { name: "same worker of two", workers: 2, homes: [0, 0] },
  { name: "different workers", workers: 2, homes: [0, 1] },
];

export async function runCost(rounds: number, durationSec: number): Promise<number> {
  let faults = 0;
  for (const qos of [0, 1]) {
    const costs = CASES.map((): number[] => []);
    for (let round = 0; round < rounds; round++) {
      for (const [i, each] of CASES.entries()) {
        const outcome = await measure(each, qos, durationSec);
        costs[i].push(outcome.metrics.brokerUsPerMessage!);
        faults += outcome.faults.length;
        for (const fault of outcome.faults) process.stdout.write(`${each.name}, QoS ${qos}: ${fault}\n`);
      }
    }
    process.stdout.write(`QoS ${qos}, 64 bytes, ${PAIRS} pairs: CPU of the broker per delivered message\n`);
    for (const [i, { name }] of CASES.entries()) {
      const ratios = costs[i].map((cost, round) => cost / costs[0][round]);
      const text = `${median(costs[i]).toFixed(2).padStart(8)} µs   ${median(ratios).toFixed(2)} × one process`;
      process.stdout.write(`  ${name.padEnd(24)}${text}\n`);
    }
  }
  return faults > 0 ? 1 : 0;
}

async function measure({ workers, homes }: Case, qos: number, durationSec: number): Promise<Outcome> {
  await using broker = await startOwnBroker(workers);
  const { port } = broker;
  const stage: { loop?: Loop } = {};
  const subscribers = await openAll(PAIRS, PAIRS, async (index) => {
    const subscribed = Promise.withResolvers<void>();
    const connection = await Connection.open({
      port,
      clientId: clientIdAt(homes[1], workers, `s${index}`),
      onPacket: (link, first, bytes, from) => {
        if (first >> 4 === SUBACK) subscribed.resolve();
        else stage.loop?.toSubscriber(index, link, first, bytes, from);
      },
    });
    connection.send(subscribePacket(1, [`cost/${index}`], { version: 4, qos }));
    await subscribed.promise;
    return connection;
  });
  const publishers = await openAll(PAIRS, PAIRS, (index) =>
    Connection.open({
      port,
      clientId: clientIdAt(homes[0], workers, `p${index}`),
      onPacket: (link, first, bytes, from, to) => stage.loop?.toPublisher(index, link, first, bytes, from, to),
    }),
  );
  const frames = publishers.map((_, index) => publishFrame(`cost/${index}`, { version: 4, qos, payloadBytes: 64 }));
  stage.loop = new Loop({
    publishers,
    subscriberCount: PAIRS,
    qos,
    windowCount: 100,
    outstandingCount: 2000,
    brokerPid: broker.pid,
    warmupSec: 1,
    durationSec,
    next: (publisher) => ({ frame: frames[publisher], copies: 1 }),
  });
  const outcome = await stage.loop.run();
  for (const connection of [...publishers, ...subscribers]) connection.cut();
  return outcome;
}

function clientIdAt(home: number, count: number, name: string): string {
  for (let i = 0; ; i++) {
    const clientId = `${name}-${i}`;
    if (homeOf(Buffer.from(clientId), { count, seed: SEED }) === home) return clientId;
  }
}

function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  return sorted[sorted.length >> 1];
}
