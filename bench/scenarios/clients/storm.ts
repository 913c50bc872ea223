/**
 * All clients lose their connection at once and come back at once: CONNECT, then SUBSCRIBE. Latency is from the start of
 * the storm to a client's SUBACK, because that is how long it was away. One that is told that the server is busy comes again after a moment,
 * as real clients do.
 */
import { serverProcesses, usageOf } from "#bench/load/server-usage.ts";
import { numbers, report } from "./arguments.ts";
import { Connection, openAll, RefusedError } from "./connection.ts";
import { subscribePacket } from "./packets.ts";
import { percentile } from "#bench/compare/statistics.ts";

const PENDING_MAX = 200;
const SUBACK = 9;
/** Between the cut and the storm: the broker has seen its clients go. */
const CALM_MS = 500;
const RETRY_MS = 1000;
const SERVER_UNAVAILABLE = 3;
const { port, clients, ...given } = numbers({ port: 0, clients: 5000, "broker-pid": 0, warmup: 0, duration: 0 });

let failedCount = 0;
let busyCount = 0;
const returnMs: number[] = [];

/** Comes again as long as the server is busy. */
async function comeBack(index: number, sinceMs: number): Promise<Connection> {
  for (;;) {
    try {
      return await join(index, sinceMs);
    } catch (error) {
      if (!(error instanceof RefusedError && error.code === SERVER_UNAVAILABLE)) throw error;
      busyCount++;
      await Bun.sleep(RETRY_MS * (0.5 + (index % 100) / 100));
    }
  }
}

async function join(index: number, sinceMs: number): Promise<Connection> {
  const subscribed = Promise.withResolvers<void>();
  const connection = await Connection.open({
    port,
    clientId: `storm${index}`,
    onPacket: (_, first) => first >> 4 === SUBACK && subscribed.resolve(),
    onClose: () => {
      failedCount++;
      subscribed.resolve();
    },
  });
  connection.send(subscribePacket(1, [`storm/${index}`], { version: 4, qos: 0 }));
  await subscribed.promise;
  returnMs.push(performance.now() - sinceMs);
  return connection;
}

const first = await openAll(clients, PENDING_MAX, (index) => join(index, performance.now()));
for (const connection of first) connection.cut();
await Bun.sleep(CALM_MS);

returnMs.length = 0;
const pids = serverProcesses(given["broker-pid"]);
const before = { at: performance.now(), cpu: process.cpuUsage(), broker: usageOf(pids) };
const results = await Promise.allSettled(Array.from({ length: clients }, (_, index) => comeBack(index, before.at)));
const sec = (performance.now() - before.at) / 1000;
const own = process.cpuUsage(before.cpu);
const after = usageOf(pids);
const refusedCount = results.filter(({ status }) => status === "rejected").length;
returnMs.sort((a, b) => a - b);
const us = (share: number): number => percentile(returnMs, share) * 1000;
report({
  metrics: {
    connectsPerSec: (clients - refusedCount) / sec,
    brokerUsPerConnect: ((after.cpuSec - before.broker.cpuSec) * 1e6) / clients,
    generatorCpuPct: (own.user + own.system) / sec / 1e4,
    p50Us: us(0.5),
    p99Us: us(0.99),
    maxUs: us(1),
    busyPerSec: busyCount / sec,
    rssBytes: after.rssBytes,
  },
  faults: refusedCount + failedCount > 0 ? [`${refusedCount + failedCount} clients did not come back`] : [],
});
process.exit(0);
