/**
 * Thousands of clients whose password is slow to check log in at once, and come again when the broker is busy, while others
 * publish.
 *
 *   calm     the others alone, for comparison
 *   onset    all come within a second; longer than the broker waits for a client, so that what has been given up shows
 *   storm    logins are counted
 *
 * What the others notice is taken from onset and storm together.
 */
import { folderOf } from "#bench/compare/disk.ts";
import { LoopLag, takeLagOf } from "#bench/compare/loop-lag.ts";
import { median } from "#bench/compare/statistics.ts";
import { serverProcesses, usageOf } from "#bench/load/server-usage.ts";
import { numbers, report } from "./arguments.ts";
import { Bystanders } from "./bystanders.ts";
import { Logins } from "./logins.ts";

const SAMPLE_MS = 100;
/** A login that is refused takes a moment on the way too. */
const ON_THE_WAY_SHARE = 0.1;
const ON_THE_WAY_COUNT = 10;
const options = numbers({
  port: 0,
  "broker-pid": 0,
  warmup: 1,
  duration: 4,
  clients: 3000,
  /** Of the broker: logins that may wait; 0: it is not to be reached. */
  waiting: 1024,
  pairs: 20,
  rate: 2000,
  calm: 3,
  onset: 15,
  storm: 10,
  arrival: 1,
  retry: 3,
  patience: 0,
});
const pid = options["broker-pid"];
const folder = folderOf(pid);
const pids = serverProcesses(pid);

const bystanders = await Bystanders.open(options.port, options.pairs);
bystanders.start(options.rate);
const lag = new LoopLag();
await Bun.sleep(options.warmup * 1000);
bystanders.takeLatency();
await takeLagOf(pid, folder);
await Bun.sleep(options.calm * 1000);
const calm = { latency: bystanders.takeLatency(), lag: await takeLagOf(pid, folder), rssBytes: usageOf(pids).rssBytes };

const logins = new Logins({
  port: options.port,
  clients: options.clients,
  arrivalMs: options.arrival * 1000,
  isStaying: true,
  retryMs: options.retry * 1000,
  patienceMs: options.patience * 1000,
});
lag.take();
logins.start();
await Bun.sleep(options.onset * 1000);
const onset = logins.takeCounts();
const before = { atMs: performance.now(), cpu: process.cpuUsage(), broker: usageOf(pids) };
const unanswered: number[] = [];
let rssBytes = before.broker.rssBytes;
while (performance.now() - before.atMs < options.storm * 1000) {
  await Bun.sleep(SAMPLE_MS);
  unanswered.push(logins.unansweredCount);
  rssBytes = Math.max(rssBytes, usageOf(pids).rssBytes);
}
const sec = (performance.now() - before.atMs) / 1000;
const own = process.cpuUsage(before.cpu);
const after = usageOf(pids);
const counts = logins.takeCounts();
const stormLag = await takeLagOf(pid, folder);
const generatorLag = lag.take();
const latency = bystanders.takeLatency();
logins.stop();
const faults = [...logins.faults(), ...(await bystanders.stop())];

const unansweredCount = median(unanswered);
const boundCount = (options.waiting + 1) * (1 + ON_THE_WAY_SHARE) + ON_THE_WAY_COUNT;
if (options.waiting > 0 && unansweredCount > boundCount)
  faults.push(`${unansweredCount} logins wait, ${options.waiting} may`);
if (options.waiting > 0 && onset.busy === 0) faults.push("no client was told that the server is busy");
if (counts.accepted + onset.accepted === 0) faults.push("nobody was let in");
report({
  metrics: {
    loginsPerSec: counts.accepted / sec,
    busyPerSec: counts.busy / sec,
    gaveUpPerSec: counts.gaveUp / sec,
    loginP50Us: counts.latency.percentile(0.5) / 1000,
    unansweredCount,
    lagP99Us: stormLag.p99Us,
    lagMaxUs: stormLag.maxUs,
    calmLagP99Us: calm.lag.p99Us,
    generatorLagP99Us: generatorLag.p99Us,
    p50Us: latency.percentile(0.5) / 1000,
    p99Us: latency.percentile(0.99) / 1000,
    maxUs: latency.max / 1000,
    calmP99Us: calm.latency.percentile(0.99) / 1000,
    growthBytes: Math.max(0, rssBytes - calm.rssBytes),
    brokerCpuPct: ((after.cpuSec - before.broker.cpuSec) / sec) * 100,
    generatorCpuPct: (own.user + own.system) / sec / 1e4,
  },
  faults,
});
process.exit(0);
