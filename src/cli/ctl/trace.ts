/** `trace` and `recon`: looking into a running broker. */
import { basename } from "node:path";
import { MantouError } from "#base/error.ts";
import { formatEvent } from "#broker/trace-event.ts";
import { type Answer, type CtlCommand, type CtlContext, record, Refusal, rows, slashed } from "./ctl.ts";

const KINDS = ["client", "topic", "address"] as const;
type Kind = (typeof KINDS)[number];
const READ_MS = 250;

export const trace: CtlCommand = {
  name: "trace",
  usage: [
    ["list", "List all traces"],
    ["client <ClientId> <LogFile>", "Trace a client into a file; --payload text|hex, --for 10m"],
    ["client <ClientId> off", "Stop tracing a client"],
    ["topic <Topic> <LogFile>", "Trace a topic"],
    ["topic <Topic> off", "Stop tracing a topic"],
    ["address <Address> <LogFile>", "Trace an address, or a block of them"],
    ["address <Address> off", "Stop tracing an address"],
    ["watch client|topic|address <Value>", "Show what happens, until Ctrl-C"],
  ],
  async run(context, [verb, first, second, ...more]) {
    if (more.length > 0) return undefined;
    if (verb === "list" && first === undefined) return listTraces(context);
    if (verb === "watch" && second !== undefined) return isKind(first) ? watch(context, first, second) : undefined;
    if (!isKind(verb) || first === undefined || second === undefined) return undefined;
    return second === "off" ? stop(context, verb, first) : start(context, { kind: verb, value: first, file: second });
  },
};

function isKind(word: string | undefined): word is Kind {
  return (KINDS as readonly (string | undefined)[]).includes(word);
}

async function listTraces({ control }: CtlContext): Promise<Answer> {
  const found = await control("traces.list", {});
  return { json: found, lines: found.map(({ kind, value, file }) => `trace ${kind} ${value} -> ${file ?? "(read)"}`) };
}

async function start(
  { control, payload, forSec, err }: CtlContext,
  { kind, value, file }: { kind: Kind; value: string; file: string },
): Promise<Answer> {
  const line = `trace ${kind} ${value}`;
  try {
    const info = await control("traces.start", {
      kind,
      value,
      file: basename(file),
      ...(payload !== undefined && { payload }),
      ...(forSec !== undefined && { secMax: forSec }),
    });
    err(`written to ${info.file}\n`);
    return { json: info, lines: [`${line} successfully.`] };
  } catch (error) {
    throw traceError(error, line);
  }
}

async function stop({ control }: CtlContext, kind: Kind, value: string): Promise<Answer> {
  const line = `stop tracing ${kind} ${value}`;
  try {
    await control("traces.stop", { name: `${kind} ${value}` });
    return { json: { ok: true }, lines: [`${line} successfully.`] };
  } catch (error) {
    throw traceError(error, line);
  }
}

function traceError(error: unknown, line: string): unknown {
  if (!(error instanceof MantouError)) return error;
  const reason = { not_found: "not_found", trace_exists: "already_existed" }[error.code] ?? error.message;
  return new Refusal({ json: { error: reason }, lines: [`${line} error: ${reason}`] });
}

/** A line an event; with `--json` an object a line. */
async function watch(context: CtlContext, kind: Kind, value: string): Promise<Answer> {
  const { control, payload = "none", forSec, out, isJson, interrupted } = context;
  const name = `watch ${process.pid} ${kind} ${value}`.slice(0, 256);
  await control("traces.start", { name, kind, value, payload, ...(forSec !== undefined && { secMax: forSec }) });
  let isOver = false;
  void interrupted.then(() => (isOver = true));
  try {
    for (;;) {
      const { events } = await control("traces.read", { name });
      for (const event of events) out(isJson ? `${JSON.stringify(event)}\n` : formatEvent(event));
      if (isOver || events.at(-1)?.type === "ended") break;
      await Promise.race([Bun.sleep(READ_MS), interrupted]);
    }
  } finally {
    await control("traces.stop", { name }).catch(() => {}); // it may have ended by itself
  }
  return { json: undefined, lines: [] };
}

export const recon: CtlCommand = {
  name: "recon",
  usage: [
    ["memory", "What holds the memory"],
    ["allocated", "Objects of the heap by type"],
    ["bin_leak", "Sessions whose queues hold most"],
    ["sockets", "Clients whose sockets hold most"],
    ["node_stats", "Lag, memory, connections of each process"],
    ["heap", "Write a heap snapshot; the broker stands still meanwhile"],
    ["profile [Seconds]", "Write a CPU profile of the next 10 seconds"],
  ],
  async run(context, [what, argument, ...more]) {
    const { control } = context;
    if (more.length > 0 || (argument !== undefined && what !== "profile")) return undefined;
    switch (what) {
      case "memory":
      case "allocated":
      case "bin_leak":
        return reconMemory(context, what);
      case "sockets": {
        const found = await control("slow.list", { by: "bytes", limit: 100 });
        const lines = found.map(({ clientId, unsentBytesMax }) =>
          record("Socket", clientId, { unsent_bytes: unsentBytesMax }),
        );
        return { json: found, lines };
      }
      case "node_stats": {
        const { processes } = await control("broker.info", {});
        const lines = processes.map(({ pid, lagMs, memoryBytes, heapBytes, connectionCount }) =>
          record("Process", String(pid), {
            lag_ms: Math.round(lagMs),
            memory: memoryBytes,
            heap: heapBytes,
            connections: connectionCount,
          }),
        );
        return { json: processes, lines };
      }
      case "heap":
        return written(await control("recon.heapSnapshot", {}));
      case "profile":
        return written(await control("recon.cpuProfile", argument === undefined ? {} : { sec: argument }));
      default:
        return undefined;
    }
  },
};

async function reconMemory({ control }: CtlContext, what: "memory" | "allocated" | "bin_leak"): Promise<Answer> {
  const { processes } = await control("recon.memory", { limit: 100 });
  const lines = processes.flatMap(({ pid, bytes, objects, queues }) => {
    if (what === "bin_leak") {
      return queues.map(({ clientId, queuedCount, queuedBytes }) =>
        record("Queue", clientId, { message_queue: queuedCount, bytes: queuedBytes }),
      );
    }
    const entries =
      what === "memory"
        ? Object.entries(bytes).map(([name, size]): [string, number] => [slashed(name), size])
        : objects.map(({ type, count }): [string, number] => [type, count]);
    return [`process: ${pid}`, ...rows(24, entries, "  ")];
  });
  return { json: processes, lines };
}

function written(answer: { files: { path: string; bytes: number }[] }): Answer {
  return { json: answer, lines: answer.files.map(({ path, bytes }) => `${path} (${bytes} bytes)`) };
}
