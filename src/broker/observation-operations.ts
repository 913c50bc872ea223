/** Operations for whoever looks into a running broker: slow subscribers, traces, diagnosis. Alarms are in broker-operations.ts. */
import { z } from "zod";
import { done, flag, nothing, notFound, operation, sumDone } from "./operation.ts";

const slow = z.object({
  clientId: z.string(),
  address: z.string(),
  listener: z.string(),
  unsentBytesMax: z.int().meta({ description: "the most that was seen waiting for its socket" }),
  blockedMsMax: z.number().meta({ description: "how long its socket had bytes waiting without a break, at most" }),
  lastMs: z.number().meta({ description: "wall clock, milliseconds" }),
});

const kind = z.enum(["client", "topic", "address"]);
const payload = z.enum(["none", "text", "hex"]);
const traceRequest = z.object({
  name: z.string().min(1).max(256).optional().meta({ description: "absent: `<kind> <value>`" }),
  kind,
  value: z.string().min(1).max(65_535).meta({ description: "client id, topic filter, or address or block of them" }),
  file: z.string().optional().meta({ description: "name of a file in the trace directory; absent: to be read" }),
  payload: payload.optional().meta({ description: "how payloads are shown; absent: by their size alone" }),
  payloadBytesMax: z.int().optional(),
  secMax: z.int().optional(),
  eventsPerSecMax: z.int().optional(),
  bytesMax: z.int().optional(),
});
const traceInfo = z.object({
  name: z.string(),
  kind,
  value: z.string(),
  file: z.string().optional().meta({ description: "path" }),
  payload,
  startedMs: z.number().meta({ description: "wall clock, milliseconds" }),
  endsMs: z.number(),
  eventCount: z.int(),
  lostCount: z.int().meta({ description: "events that a limit or a full disk has left out" }),
});
const traceEvent = z.object({
  atMs: z.number().meta({ description: "wall clock, milliseconds" }),
  direction: z.enum(["in", "out", "note"]).meta({ description: "from the client, to it, or neither" }),
  clientId: z.string(),
  address: z.string(),
  type: z.string().meta({ description: "PUBLISH …, or connected, disconnected, denied, dropped, lost, ended" }),
  bytes: z.int().optional(),
  topic: z.string().optional(),
  fields: z.record(z.string(), z.unknown()),
  payload: z.object({ bytes: z.int(), text: z.string().optional(), hex: z.string().optional() }).optional(),
});

const files = z.object({ files: z.array(z.object({ path: z.string(), bytes: z.int() })) });
const mergeFiles = (answers: z.output<typeof files>[]) => ({ files: answers.flatMap((answer) => answer.files) });

const PROFILE_SEC_MAX = 60;
const TOP_MAX = 100;
const top = z.coerce.number().int().min(1).max(TOP_MAX).default(10);

const memory = z.object({
  pid: z.int(),
  bytes: z.record(z.string(), z.number()).meta({ description: "by what holds them" }),
  objects: z.array(z.object({ type: z.string(), count: z.int() })).meta({ description: "of the JavaScript heap" }),
  queues: z
    .array(z.object({ clientId: z.string(), queuedCount: z.int(), queuedBytes: z.int() }))
    .meta({ description: "sessions with most bytes waiting" }),
});

export const observationOperations = {
  "slow.list": operation({
    about: "clients that read too slowly, now or in the last five minutes, the worst first",
    spread: "each",
    params: z.object({ by: z.enum(["bytes", "time"]).default("bytes"), limit: top }),
    result: z.array(slow),
    merge: (answers) => answers.flat().toSorted((a, b) => b.unsentBytesMax - a.unsentBytesMax),
    run: ({ observation }, { by, limit }) => observation.slow.top(by, limit),
  }),
  "traces.list": operation({
    about: "traces that are running",
    spread: "each",
    params: nothing,
    result: z.array(traceInfo),
    merge: ([first, ...others]) =>
      first.map((trace) => {
        const same = others.map((rows) => rows.find(({ name }) => name === trace.name));
        const sum = (key: "eventCount" | "lostCount") => same.reduce((sum, row) => sum + (row?.[key] ?? 0), trace[key]);
        return { ...trace, eventCount: sum("eventCount"), lostCount: sum("lostCount") };
      }),
    run: ({ observation }) => observation.tracer.list(),
  }),
  "traces.start": operation({
    about: "follows a client, a topic or an address from now on: into a file, or to be read within 30 s at a time",
    spread: "each",
    params: traceRequest,
    result: traceInfo,
    merge: ([first]) => first,
    run: ({ observation }, request) => observation.tracer.start(request),
  }),
  "traces.read": operation({
    about: "takes the events that wait, oldest first; each is given once",
    spread: "each",
    params: z.object({ name: z.string() }),
    result: z.object({ events: z.array(traceEvent) }),
    merge: (answers) => ({ events: answers.flatMap(({ events }) => events).toSorted((a, b) => a.atMs - b.atMs) }),
    run({ observation }, { name }) {
      const events = observation.tracer.read(name);
      if (!events) throw notFound("trace", name);
      return { events: events.map((event) => ({ ...event, fields: { ...event.fields } })) };
    },
  }),
  "traces.stop": operation({
    about: "ends a trace",
    spread: "each",
    params: z.object({ name: z.string() }),
    result: done,
    merge: sumDone,
    run({ observation }, { name }) {
      if (!observation.tracer.stop(name)) throw notFound("trace", name);
      return { count: 1 };
    },
  }),
  "recon.memory": operation({
    about: "what holds the memory: of the process, of its heap by type, and the largest queues",
    spread: "each",
    params: z.object({
      limit: top,
      isBrief: flag.default(false).meta({ description: "bytes alone, which cost nothing" }),
    }),
    result: z.object({ processes: z.array(memory) }),
    merge: (answers) => ({ processes: answers.flatMap(({ processes }) => processes) }),
    async run({ observation: { recon } }, { limit, isBrief }) {
      const report = isBrief ? { bytes: recon.memoryBytes(), objects: [], queues: [] } : await recon.memory(limit);
      const { bytes, objects, queues } = report;
      return { processes: [{ pid: process.pid, bytes: { ...bytes }, objects: [...objects], queues: [...queues] }] };
    },
  }),
  "recon.heapSnapshot": operation({
    about:
      "writes a heap snapshot to the data directory; the process stands still meanwhile, and whatever is in memory is in it",
    spread: "each",
    params: nothing,
    result: files,
    merge: mergeFiles,
    run: async ({ observation }) => ({ files: [await observation.recon.heapSnapshot()] }),
  }),
  "recon.cpuProfile": operation({
    about: "writes a profile of the processor time of the next seconds to the data directory",
    spread: "each",
    params: z.object({ sec: z.coerce.number().int().min(1).max(PROFILE_SEC_MAX).default(10) }),
    result: files,
    merge: mergeFiles,
    run: async ({ observation }, { sec }) => ({ files: [await observation.recon.cpuProfile(sec)] }),
  }),
};
