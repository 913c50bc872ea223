/**
 * Clients whom only an HTTP service knows log in again and again, while others, who need nothing of it, publish. With
 * --hang or --stop the service is lost for so many seconds after the measured time, and comes back.
 */
import { servicePort } from "#bench/compare/access-files.ts";
import { folderOf } from "#bench/compare/disk.ts";
import { LoopLag, takeLagOf } from "#bench/compare/loop-lag.ts";
import { serverProcesses, usageOf } from "#bench/load/server-usage.ts";
import { defined, type Metrics } from "#bench/scenarios/scenario.ts";
import { numbers, report } from "./arguments.ts";
import { Bystanders } from "./bystanders.ts";
import { LoginService } from "./login-service.ts";
import { Logins } from "./logins.ts";

const SAMPLE_MS = 100;
const RECOVERY_MS = 30_000;
/** Over which the rate of logins is taken when the service is back. */
const RATE_MS = 500;
const RECOVERED_SHARE = 0.5;
const options = numbers({
  port: 0,
  "broker-pid": 0,
  warmup: 1,
  duration: 4,
  clients: 200,
  pairs: 20,
  rate: 2000,
  calm: 2,
  delay: 1,
  hang: 0,
  stop: 0,
  arrival: 1,
  retry: 3,
});
const pid = options["broker-pid"];
const folder = folderOf(pid);
const pids = serverProcesses(pid);
const lossSec = options.hang + options.stop;
const service = new LoginService(servicePort(folder), options.delay);
service.start();
const bystanders = await Bystanders.open(options.port, options.pairs);
const logins = new Logins({
  port: options.port,
  clients: options.clients,
  arrivalMs: options.arrival * 1000,
  isStaying: false,
  retryMs: options.retry * 1000,
  patienceMs: 0,
});
const generatorLag = new LoopLag();

/** What a stretch of time was like for those who log in, for the others, and for the broker. */
async function observe(sec: number) {
  const before = { atMs: performance.now(), cpu: process.cpuUsage(), broker: usageOf(pids) };
  logins.takeCounts();
  bystanders.takeLatency();
  generatorLag.take();
  await takeLagOf(pid, folder);
  let { rssBytes } = before.broker;
  while (performance.now() - before.atMs < sec * 1000) {
    await Bun.sleep(SAMPLE_MS);
    rssBytes = Math.max(rssBytes, usageOf(pids).rssBytes);
  }
  const passedSec = (performance.now() - before.atMs) / 1000;
  const own = process.cpuUsage(before.cpu);
  return {
    counts: logins.takeCounts(),
    latency: bystanders.takeLatency(),
    lag: await takeLagOf(pid, folder),
    generatorLag: generatorLag.take(),
    sec: passedSec,
    growthBytes: rssBytes - before.broker.rssBytes,
    brokerCpuPct: ((usageOf(pids).cpuSec - before.broker.cpuSec) / passedSec) * 100,
    generatorCpuPct: (own.user + own.system) / passedSec / 1e4,
  };
}

/** From now, when the service is back, in µs. */
async function recovery(beforePerSec: number): Promise<Metrics> {
  const sinceMs = performance.now();
  const sinceUs = (): number => (performance.now() - sinceMs) * 1000;
  const first = logins.nextAccepted();
  const timeout = Bun.sleep(RECOVERY_MS).then(() => undefined);
  const firstMs = await Promise.race([first, timeout]);
  if (firstMs === undefined) return {};
  const firstLoginUs = (firstMs - sinceMs) * 1000;
  logins.takeCounts();
  while (sinceUs() < RECOVERY_MS * 1000) {
    await Bun.sleep(RATE_MS);
    const perSec = logins.takeCounts().accepted / (RATE_MS / 1000);
    if (perSec >= beforePerSec * RECOVERED_SHARE) return { firstLoginUs, recoveredUs: sinceUs() };
  }
  return { firstLoginUs };
}

bystanders.start(options.rate);
await Bun.sleep(options.warmup * 1000);
const calm = await observe(options.calm);
logins.start();
await Bun.sleep(options.warmup * 1000);
const measured = await observe(options.duration);
const loginsPerSec = measured.counts.accepted / measured.sec;
const faults: string[] = [];
let metrics: Metrics = {};
let lost: typeof measured | undefined;
if (lossSec > 0) {
  if (options.hang > 0) service.hang();
  else await service.stop();
  lost = await observe(lossSec);
  service.start();
  metrics = await recovery(loginsPerSec);
  if (metrics.firstLoginUs === undefined) faults.push("nobody was let in when the service was back");
  else if (metrics.recoveredUs === undefined) faults.push("logins stayed slow when the service was back");
}
logins.stop();
if (measured.counts.accepted === 0) faults.push("nobody was let in");
faults.push(...logins.faults(), ...(await bystanders.stop()));
const shown = lost ?? measured;
report({
  metrics: {
    ...metrics,
    ...defined({
      loginsPerSec,
      loginP50Us: measured.counts.latency.percentile(0.5) / 1000,
      loginP99Us: measured.counts.latency.percentile(0.99) / 1000,
      busyPerSec: shown.counts.busy / shown.sec,
      unavailablePerSec: shown.counts.unavailable / shown.sec,
      growthBytes: shown.growthBytes,
      lagP99Us: shown.lag.p99Us,
      lagMaxUs: shown.lag.maxUs,
      calmLagP99Us: calm.lag.p99Us,
      generatorLagP99Us: shown.generatorLag.p99Us,
      p50Us: shown.latency.percentile(0.5) / 1000,
      p99Us: shown.latency.percentile(0.99) / 1000,
      maxUs: shown.latency.max / 1000,
      calmP99Us: calm.latency.percentile(0.99) / 1000,
      brokerCpuPct: shown.brokerCpuPct,
      generatorCpuPct: shown.generatorCpuPct,
    }),
  },
  faults,
});
process.exit(0);
