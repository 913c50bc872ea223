/**
 * Many messages wait for sessions whose clients are away; then, with --crash 1 after the broker was killed and started
 * again, the clients come back for them.
 *
 *   fill ─► (kill -9, start: until it listens) ─► the first client: until its first, until its last message
 *        ─► all others at once: rate and memory ─► the broker's files: do they shrink?
 */
import { fileBytes, folderOf, peakRssBytes, resetPeak } from "#bench/compare/disk.ts";
import { serverProcesses, usageOf } from "#bench/load/server-usage.ts";
import { defined } from "#bench/scenarios/scenario.ts";
import { numbers, report } from "./arguments.ts";
import { openAll } from "./connection.ts";
import { Filler } from "./filler.ts";
import { killAndRestart } from "./restart.ts";
import { Sessions } from "./sessions.ts";

const PENDING_MAX = 200;
const SHRUNK_PART = 0.1;
const SHRINK_POLL_MS = 100;
const options = numbers({
  port: 0,
  "broker-pid": 0,
  warmup: 0,
  duration: 0,
  sessions: 1,
  messages: 1_000_000,
  publishers: 50,
  payload: 256,
  window: 100,
  crash: 0,
  shrink: 30,
});
const { port } = options;
const folder = folderOf(options["broker-pid"]);
const sessions = new Sessions(port, options.sessions, options.publishers);
await sessions.make(PENDING_MAX);
const filler = await Filler.open({
  port,
  sessions,
  payloadBytes: options.payload,
  windowCount: options.window,
});
filler.start(options.messages);
await filler.settle();
await filler.leave();
const faults = filler.faults();
const filledBytes = fileBytes(folder);

const restarted = options.crash === 1 ? await killAndRestart(options["broker-pid"], port) : undefined;
try {
  const pid = restarted?.pid ?? options["broker-pid"];
  const restingRssBytes = usageOf([pid]).rssBytes;
  const [first, ...others] = Array.from({ length: sessions.count }, (_, session) => session);
  if (restarted === undefined) resetPeak(pid);
  const pids = serverProcesses(pid);
  const before = { atMs: performance.now(), own: process.cpuUsage(), broker: usageOf(pids) };

  await sessions.join(first);
  await sessions.settle([first]);
  const recoveredRssBytes = usageOf([pid]).rssBytes;
  await openAll(others.length, PENDING_MAX, (index) => sessions.join(others[index]));
  await sessions.settle(others);
  const sec = (Math.max(...sessions.lastAtMs) - before.atMs) / 1000;
  const own = process.cpuUsage(before.own);
  const cpuSec = usageOf(pids).cpuSec - before.broker.cpuSec;
  const rssBytes = peakRssBytes(pid);

  const emptiedMs = performance.now();
  const isLarge = (): boolean => fileBytes(folder) > filledBytes * SHRUNK_PART;
  while (isLarge() && performance.now() - emptiedMs < options.shrink * 1000) await Bun.sleep(SHRINK_POLL_MS);
  const sinceStartUs = (atMs: number): number | undefined =>
    restarted === undefined ? undefined : (atMs - restarted.startedMs) * 1000;
  report({
    metrics: defined({
      messagesPerSec: sessions.receivedCount / sec,
      brokerUsPerMessage: (cpuSec * 1e6) / Math.max(1, sessions.receivedCount),
      brokerCpuPct: (cpuSec / sec) * 100,
      generatorCpuPct: (own.user + own.system) / sec / 1e4,
      listenUs: sinceStartUs(restarted?.listeningMs ?? 0),
      firstMessageUs: sinceStartUs(sessions.firstAtMs[first]),
      lastMessageUs: sinceStartUs(sessions.lastAtMs[first]),
      restingRssBytes: restarted === undefined ? restingRssBytes : recoveredRssBytes,
      rssBytes,
      ...(filledBytes > 0
        ? {
            fileBytes: filledBytes,
            drainedFileBytes: fileBytes(folder),
            shrinkUs: (performance.now() - emptiedMs) * 1000,
          }
        : {}),
    }),
    faults: [...faults, ...sessions.faults()],
  });
} finally {
  await restarted?.stop();
}
process.exit(0);
