/** Operations on the broker itself: what it is and how it fares, its listeners, its configuration, its store. */
import { z } from "zod";
import { MantouError } from "#base/error.ts";
import { sumCounts } from "./access-operations.ts";
import { gaugeNames, sharedGauges } from "./gauges.ts";
import { done, nothing, notFound, operation, sumDone } from "./operation.ts";
import { VERSION } from "./version.ts";

const processRow = z.object({
  pid: z.int(),
  memoryBytes: z.int().meta({ description: "resident set" }),
  heapBytes: z.int().meta({ description: "of the JavaScript heap, in use" }),
  lagMs: z.number().meta({ description: "how late the event loop came round last" }),
  cpuMs: z.number().meta({ description: "processor time since the process started" }),
  connectionCount: z.int(),
  isBusy: z.boolean().meta({ description: "new clients are refused, so that those who are in are served" }),
});

const info = z.object({
  node: z.string(),
  version: z.string(),
  runtime: z.string(),
  platform: z.string(),
  startedAtSec: z.int(),
  uptimeSec: z.int(),
  nowSec: z.int(),
  processes: z.array(processRow),
  missingWorkers: z
    .array(z.int())
    .meta({ description: "numbers of those that are being started again, or stand still" }),
});

const gauge = z.object({ value: z.number(), max: z.number() });
const stats = z.object(
  Object.fromEntries(gaugeNames.map((name) => [name, gauge])) as Record<(typeof gaugeNames)[number], typeof gauge>,
);

const listener = z.object({
  name: z.string(),
  type: z.string(),
  address: z.string().meta({ description: "such as tcp://0.0.0.0:1883" }),
  isOpen: z.boolean(),
  connectionCount: z.int(),
  connectionsMax: z
    .int()
    .optional()
    .meta({ description: "absent: what the process's descriptor limit leaves room for" }),
});

const histogram = z.object({
  bounds: z.array(z.number()).meta({ description: "upper bounds" }),
  counts: z.array(z.int()).meta({ description: "up to each bound, and above the last" }),
  sum: z.number(),
  count: z.int(),
});

const store = z.object({
  type: z.enum(["sqlite", "memory"]),
  isWritable: z.boolean(),
  counts: z.record(z.string(), z.number()),
  commitMs: histogram.optional().meta({ description: "time of a commit with its fsync, in milliseconds" }),
});

const configValue = z.object({
  path: z.string(),
  value: z.unknown().meta({ description: "secrets are hidden" }),
  origin: z.string().meta({ description: "such as default, mantou.yaml:3, --set" }),
  isLive: z.boolean().meta({ description: "can be changed while the broker runs" }),
  isReloaded: z.boolean().meta({ description: "a change in the file is in force when it is read again" }),
});

const alarm = z.object({
  id: z.string(),
  severity: z.enum(["warning", "error", "critical"]),
  title: z.string(),
  summary: z.string(),
  setMs: z.number().meta({ description: "wall clock" }),
  clearedMs: z.number().optional().meta({ description: "absent while it is active" }),
  pid: z.int().meta({ description: "process that it is about" }),
});

export const brokerOperations = {
  "broker.info": operation({
    about: "what runs here, since when, and how its processes fare",
    spread: "each",
    params: nothing,
    result: info,
    merge: (answers, missing) => ({
      ...answers[0],
      startedAtSec: Math.min(...answers.map(({ startedAtSec }) => startedAtSec)),
      uptimeSec: Math.max(...answers.map(({ uptimeSec }) => uptimeSec)),
      processes: answers.flatMap(({ processes }) => processes),
      missingWorkers: [...missing],
    }),
    run({ config, startedAtSec, load, engine, context }) {
      const { user, system } = process.cpuUsage();
      return {
        node: config.node,
        version: VERSION,
        runtime: `bun ${Bun.version}`,
        platform: `${process.platform} ${process.arch}`,
        startedAtSec,
        uptimeSec: engine.nowSec - startedAtSec,
        nowSec: engine.nowSec,
        processes: [
          {
            pid: process.pid,
            memoryBytes: load.memoryBytes,
            heapBytes: process.memoryUsage().heapUsed,
            lagMs: load.lagMs,
            cpuMs: (user + system) / 1000,
            connectionCount: context.connectionCount,
            isBusy: context.isBusy,
          },
        ],
        missingWorkers: [],
      };
    },
  }),
  "stats.read": operation({
    about: "how many there are of what the broker holds, and the most since it started",
    spread: "each",
    params: nothing,
    result: stats,
    merge: (answers) =>
      answers.reduce((sum, other) => {
        const merged = gaugeNames.map((name) => {
          const add = sharedGauges.has(name) ? Math.max : (a: number, b: number): number => a + b;
          return [name, { value: add(sum[name].value, other[name].value), max: add(sum[name].max, other[name].max) }];
        });
        return Object.fromEntries(merged) as typeof sum;
      }),
    run: ({ gauges }) => gauges.read(),
  }),
  "metrics.read": operation({
    about: "all counters since the start, by name",
    spread: "each",
    params: nothing,
    result: z.record(z.string(), z.number()),
    merge: (answers) => answers.reduce(sumCounts),
    run: ({ engine }) => engine.metrics.toObject(),
  }),
  "histograms.read": operation({
    about: "how the event loop's lag, the payloads that clients send, and the times that messages take are spread",
    spread: "each",
    params: nothing,
    result: z.object({
      lagMs: histogram.meta({ description: "how late the event loop came round" }),
      payloadBytes: histogram.meta({ description: "of PUBLISH received" }),
      deliveryMs: histogram.meta({ description: "from reading to handing over to the kernel, of all messages sent" }),
      queueMs: histogram.meta({ description: "waiting for a connected client's window or link, or for the disk" }),
    }),
    merge: (answers) =>
      answers.reduce((sum, other) => ({
        lagMs: sumHistograms(sum.lagMs, other.lagMs),
        payloadBytes: sumHistograms(sum.payloadBytes, other.payloadBytes),
        deliveryMs: sumHistograms(sum.deliveryMs, other.deliveryMs),
        queueMs: sumHistograms(sum.queueMs, other.queueMs),
      })),
    run: ({ histograms: { lagMs, payloadBytes, deliveryMs, queueMs } }) => ({
      lagMs: lagMs.read(),
      payloadBytes: payloadBytes.read(),
      deliveryMs: deliveryMs.read(),
      queueMs: queueMs.read(),
    }),
  }),
  "alarms.list": operation({
    about: "what is wrong now, and what was lately",
    spread: "each",
    params: nothing,
    result: z.object({ active: z.array(alarm), history: z.array(alarm) }),
    merge: (answers) => ({
      active: answers.flatMap(({ active }) => active),
      history: answers.flatMap(({ history }) => history).toSorted((a, b) => b.setMs - a.setMs),
    }),
    run: ({ observation: { alarms } }) => ({
      active: alarms.active.map((each) => ({ ...each, pid: process.pid })),
      history: alarms.history.map((each) => ({ ...each, pid: process.pid })),
    }),
  }),
  "listeners.list": operation({
    about: "listeners, open and stopped",
    spread: "each",
    params: nothing,
    result: z.array(listener),
    merge: ([first, ...others]) =>
      first.map((each) => ({
        ...each,
        connectionCount: [first, ...others]
          .map((rows) => rows.find(({ name }) => name === each.name)?.connectionCount ?? 0)
          .reduce((sum, connections) => sum + connections),
      })),
    run: ({ listeners }) => listeners.list(),
  }),
  "listeners.start": operation({
    about: "opens a listener that was stopped",
    spread: "all",
    params: z.object({ name: z.string() }),
    result: done,
    merge: sumDone,
    async run({ listeners }, { name }) {
      const isKnown = await listeners.start(name);
      if (!isKnown) throw notFound("listener", name);
      return { count: 1 };
    },
  }),
  "listeners.stop": operation({
    about: "closes a listener until it is started again or the broker restarts; connections stay",
    spread: "all",
    params: z.object({ name: z.string() }),
    result: done,
    merge: sumDone,
    run({ listeners }, { name }) {
      if (!listeners.stopOne(name)) throw notFound("listener", name);
      return { count: 1 };
    },
  }),
  "listeners.reload": operation({
    about: "looks for changed certificate files now",
    spread: "each",
    params: nothing,
    result: done,
    merge: sumDone,
    async run({ listeners }) {
      await listeners.refresh();
      return { count: listeners.list().length };
    },
  }),
  "store.show": operation({
    about: "what the store has done since the start, and whether it can write",
    spread: "each",
    params: nothing,
    result: store,
    merge: (answers) =>
      answers.reduce((sum, other) => ({
        type: sum.type,
        isWritable: sum.isWritable && other.isWritable,
        counts: sumCounts(sum.counts, other.counts),
        commitMs: sum.commitMs && other.commitMs && sumHistograms(sum.commitMs, other.commitMs),
      })),
    run({ kept: { durable: store } }) {
      if (!store) return { type: "memory" as const, isWritable: true, counts: {} };
      const { stats, backlog } = store;
      const { writtenCount, elidedCount, batchCount, batchBytes, troubleCount } = stats;
      return {
        type: "sqlite" as const,
        isWritable: store.isWritable,
        counts: { writtenCount, elidedCount, batchCount, batchBytes, troubleCount, waitingCount: backlog.changeCount },
        commitMs: {
          bounds: [...stats.commitBoundsMs],
          counts: [...stats.commitCounts],
          sum: stats.commitMs,
          count: batchCount,
        },
      };
    },
  }),
  "store.backUp": operation({
    about: "copies the store, as of one moment, into the folder `backup` of its directory",
    spread: "all",
    params: z.object({
      name: z
        .string()
        .regex(/^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$/, {
          error: "letters, digits, . _ -, starting with a letter or digit",
        })
        .meta({ description: "of the file, which must not be there" }),
    }),
    result: z.object({ files: z.array(z.object({ path: z.string(), bytes: z.int() })) }),
    merge: (answers) => ({ files: answers.flatMap(({ files }) => files) }),
    async run({ kept }, { name }) {
      if (!kept.backUp) throw new MantouError("store_volatile", "store.type is memory: there is nothing to copy");
      return { files: [await kept.backUp(name)] };
    },
  }),
  "config.show": operation({
    about: "the configuration in effect, and where each value comes from",
    spread: "one",
    params: nothing,
    result: z.array(configValue),
    run: ({ config }) => config.values(),
  }),
  "config.check": operation({
    about: "says what is wrong with the text of a configuration file",
    spread: "one",
    params: z.object({ text: z.string().max(1024 * 1024) }),
    result: z.object({ problems: z.array(z.string()) }),
    run: ({ config }, { text }) => ({ problems: config.problemsOf(text) }),
  }),
  "config.reload": operation({
    about:
      "reads the configuration again, as SIGHUP does, and says what has changed, what waits for a restart, and which modules and plugins failed",
    spread: "each",
    isOneFirst: true, // a Unix socket that somebody has, only one of them meets
    params: nothing,
    result: z.object({ changed: z.array(z.string()), waiting: z.array(z.string()), failed: z.array(z.string()) }),
    merge: (answers) => ({ ...answers[0]!, failed: [...new Set(answers.flatMap(({ failed }) => failed))] }),
    run: async ({ reload }) => {
      const { changed, waiting, failed } = await reload.run();
      return { changed: [...changed], waiting: [...waiting], failed: [...failed] };
    },
  }),
  "config.set": operation({
    about: "changes values that can change while the broker runs, until it stops: all of them or none",
    spread: "all",
    params: z.object({
      values: z.record(z.string(), z.unknown()).meta({ description: "by path, such as session.inflightCountMax" }),
    }),
    result: done,
    merge: ([first]) => first,
    run({ config }, { values }) {
      config.set(values);
      return { count: Object.keys(values).length };
    },
  }),
};

type Histogram = z.output<typeof histogram>;

export function sumHistograms(a: Histogram, b: Histogram): Histogram {
  const counts = a.counts.map((number, i) => number + b.counts[i]);
  return { bounds: a.bounds, counts, sum: a.sum + b.sum, count: a.count + b.count };
}
