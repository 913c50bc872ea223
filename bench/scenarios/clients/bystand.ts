/** Pairs that publish steadily while others besiege the broker: what they notice, how late its loop is, how much memory it takes. */
import { folderOf } from "#bench/compare/disk.ts";
import { LoopLag, takeLagOf } from "#bench/compare/loop-lag.ts";
import { serverProcesses, usageOf } from "#bench/load/server-usage.ts";
import { numbers, report } from "./arguments.ts";
import { Bystanders } from "./bystanders.ts";

const SAMPLE_MS = 100;
const options = numbers({ port: 0, "broker-pid": 0, warmup: 1, duration: 4, pairs: 20, rate: 1000 });
const pid = options["broker-pid"];
const folder = folderOf(pid);
const pids = serverProcesses(pid);

const bystanders = await Bystanders.open(options.port, options.pairs);
bystanders.start(options.rate);
const lag = new LoopLag();
await Bun.sleep(options.warmup * 1000);
bystanders.takeLatency();
lag.take();
await takeLagOf(pid, folder);
const before = { atMs: performance.now(), cpu: process.cpuUsage(), broker: usageOf(pids) };
let rssBytes = before.broker.rssBytes;
while (performance.now() - before.atMs < options.duration * 1000) {
  await Bun.sleep(SAMPLE_MS);
  rssBytes = Math.max(rssBytes, usageOf(pids).rssBytes);
}
const sec = (performance.now() - before.atMs) / 1000;
const own = process.cpuUsage(before.cpu);
const after = usageOf(pids);
const brokerLag = await takeLagOf(pid, folder);
const latency = bystanders.takeLatency();
report({
  metrics: {
    p50Us: latency.percentile(0.5) / 1000,
    p99Us: latency.percentile(0.99) / 1000,
    maxUs: latency.max / 1000,
    lagP99Us: brokerLag.p99Us,
    lagMaxUs: brokerLag.maxUs,
    generatorLagP99Us: lag.take().p99Us,
    rssBytes,
    brokerCpuPct: ((after.cpuSec - before.broker.cpuSec) / sec) * 100,
    generatorCpuPct: (own.user + own.system) / sec / 1e4,
  },
  faults: await bystanders.stop(),
});
process.exit(0);
