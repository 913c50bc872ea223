/**
 * Messages at QoS 1 for persistent sessions whose clients are away: how many a second are acknowledged, or with --rate how
 * long an acknowledgement takes, and what that costs on the disk. Then the clients come back, and must get all of it.
 */
import { fileBytes, folderOf, storeNumbers, syncCount, writtenBytes } from "#bench/compare/disk.ts";
import { serverProcesses, usageOf } from "#bench/load/server-usage.ts";
import { defined, type Metrics } from "#bench/scenarios/scenario.ts";
import { numbers, report } from "./arguments.ts";
import { openAll } from "./connection.ts";
import { Filler } from "./filler.ts";
import { Sessions } from "./sessions.ts";

const PENDING_MAX = 64;
/** Of a rate. */
const SHARE_MIN = 0.95;
const options = numbers({
  port: 0,
  "broker-pid": 0,
  warmup: 1,
  duration: 4,
  sessions: 50,
  publishers: 50,
  payload: 256,
  window: 100,
  rate: 0,
});
const { port, rate } = options;
const pids = serverProcesses(options["broker-pid"]);
const folder = folderOf(options["broker-pid"]);

function sample() {
  return {
    atMs: performance.now(),
    acked: filler.ackedCount,
    own: process.cpuUsage(),
    broker: usageOf(pids),
    written: writtenBytes(pids),
    syncs: syncCount(folder),
    batches: storeNumbers(folder)?.batches,
  };
}

const sessions = new Sessions(port, options.sessions, options.publishers);
await sessions.make(PENDING_MAX);
const filler = await Filler.open({
  port,
  sessions,
  payloadBytes: options.payload,
  windowCount: options.window,
});
const emptyBytes = fileBytes(folder);
if (rate > 0) filler.startPaced(rate);
else filler.start(Number.POSITIVE_INFINITY);
await Bun.sleep(options.warmup * 1000);
filler.isMeasuring = true;
const before = sample();
await Bun.sleep(options.duration * 1000);
filler.isMeasuring = false;
const after = sample();
await filler.stop();
const filledBytes = fileBytes(folder);

const sec = (after.atMs - before.atMs) / 1000;
const count = after.acked - before.acked;
const growth = (name: "written" | "syncs" | "batches"): number | undefined =>
  before[name] === undefined || after[name] === undefined ? undefined : after[name] - before[name];
const per = (value: number | undefined, units: number): number | undefined =>
  value === undefined ? undefined : value / Math.max(1, units);
const cpuSec = after.broker.cpuSec - before.broker.cpuSec;
const ownUs = after.own.user + after.own.system - before.own.user - before.own.system;
const latencyUs = (part: number): number => filler.latency.percentile(part) / 1000;
const metrics: Metrics = defined({
  acknowledgedPerSec: count / sec,
  brokerUsPerAck: (cpuSec * 1e6) / Math.max(1, count),
  brokerCpuPct: (cpuSec / sec) * 100,
  generatorCpuPct: ownUs / sec / 1e4,
  ...(filledBytes > emptyBytes // of a broker in memory only what its modules have
    ? {
        fileBytesPerMessage: (filledBytes - emptyBytes) / Math.max(1, filler.sentCount),
        writtenBytesPerMessage: per(growth("written"), count),
      }
    : {}),
  syncsPerSec: per(growth("syncs"), sec),
  batchesPerSec: per(growth("batches"), sec),
  rssBytes: after.broker.rssBytes,
  // Without a rate it would only mirror the windows.
  ...(rate > 0
    ? {
        p50Us: latencyUs(0.5),
        p90Us: latencyUs(0.9),
        p99Us: latencyUs(0.99),
        p999Us: latencyUs(0.999),
        maxUs: latencyUs(1),
      }
    : {}),
});

const all = Array.from({ length: sessions.count }, (_, session) => session);
await openAll(sessions.count, PENDING_MAX, (session) => sessions.join(session));
await sessions.settle(all);
const isBehind = rate > 0 && count / sec < rate * SHARE_MIN;
const behind = isBehind ? [`did not keep up: ${Math.round(count / sec)} of ${rate} messages/s`] : [];
report({ metrics, faults: [...filler.faults(), ...sessions.faults(), ...behind] });
process.exit(0);
