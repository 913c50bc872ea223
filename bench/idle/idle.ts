/**
 * What an idle client costs: RSS growth of a server process between two numbers of clients, for the broker and for a bare
 * `Bun.listen` server that the same clients talk to, in one run.
 *
 *   this process ─ipc─► server.ts (bare, then broker)      a process each, measured after GC when RSS stands still
 *                └ipc─► clients.ts                         holds all clients
 *
 * Before it, many clients come and go, few at a time: else the compilation of the code they use, a few megabytes in the
 * middle of the measured growth, would be counted as theirs. Growth, not totals, so that the process's base and first-use costs cancel out; the bare server's growth is what Bun and
 * JavaScriptCore take for any socket, so the difference is what the broker adds.
 */
import { appendFileSync } from "node:fs";
import { parseArgs } from "node:util";
import { type Child, spawnChild } from "./child.ts";

/** MQTT state of a connected and subscribed client, beyond the socket itself. */
const GOAL_BYTES = 600;
const FLAGS = {
  from: { type: "string", default: "5000" },
  to: { type: "string", default: "15000" },
  warm: { type: "string", default: "20000" },
  runs: { type: "string", default: "3" },
  types: { type: "boolean", default: false },
  check: { type: "boolean", default: false },
  json: { type: "string" },
} as const;

export type ServerKind = "bare" | "broker";

/** What a server process says of itself. */
export interface Sample {
  readonly rssBytes: number;
  readonly heapBytes: number;
  readonly cpuUs: number;
  /** Live objects of the JavaScript heap by type. */
  readonly objectCounts: Readonly<Record<string, number>>;
}

/** Clients that come and go before anything is measured, and the two numbers of clients that stay. */
interface Counts {
  readonly warm: number;
  readonly from: number;
  readonly to: number;
}

interface Growth {
  readonly rssBytes: number;
  readonly heapBytes: number;
  readonly cpuUs: number;
  readonly objects: Readonly<Record<string, number>>;
}

export async function runIdle(args: readonly string[]): Promise<number> {
  const { values } = parseArgs({ args: [...args], options: FLAGS, strict: true });
  const from = count("from", values.from);
  const to = count("to", values.to);
  const warm = count("warm", values.warm);
  if (to <= from) throw new Error(`--to ${to} is not more than --from ${from}`);

  const pairs: { bare: Growth; broker: Growth; aboveBytes: number }[] = [];
  for (let run = 0; run < Math.max(1, count("runs", values.runs)); run++) {
    const bare = await growthOf("bare", { warm, from, to });
    const broker = await growthOf("broker", { warm, from, to });
    pairs.push({ bare, broker, aboveBytes: Math.round(broker.rssBytes - bare.rssBytes) });
  }
  pairs.sort((a, b) => a.aboveBytes - b.aboveBytes);
  const { bare, broker, aboveBytes } = pairs[pairs.length >> 1]!;
  const result = {
    bench: "idle",
    atSec: Math.floor(Date.now() / 1000),
    bun: Bun.version,
    warm,
    from,
    to,
    goalBytes: GOAL_BYTES,
    aboveBareBytes: aboveBytes,
    runs: pairs.map((pair) => pair.aboveBytes),
    bare: rounded(bare),
    broker: rounded(broker),
  };
  process.stdout.write(table(bare, broker, from, to));
  process.stdout.write(`the median of ${pairs.length} runs: ${result.runs.join(", ")} bytes above bare\n`);
  if (values.types) process.stdout.write(typeTable(bare, broker));
  process.stdout.write(`${JSON.stringify(result)}\n`);
  if (values.json !== undefined) appendFileSync(values.json, `${JSON.stringify(result)}\n`);
  const isMet = result.aboveBareBytes <= GOAL_BYTES;
  if (values.check && !isMet) process.stderr.write(`above the goal of ${GOAL_BYTES} bytes\n`);
  return values.check && !isMet ? 1 : 0;
}

function count(name: string, text: string): number {
  const value = Number(text);
  if (!Number.isSafeInteger(value) || value < 0) throw new Error(`--${name} ${text} is not a whole number`);
  return value;
}

/** Growth per client from `from` to `to` clients. */
async function growthOf(kind: ServerKind, { warm, from, to }: Counts): Promise<Growth> {
  const server = spawnChild(new URL("./server.ts", import.meta.url));
  const clients = spawnChild(new URL("./clients.ts", import.meta.url));
  try {
    const { port } = await server.ask<{ port: number }>({ start: kind });
    await clients.ask({ churn: warm, port });
    const first = await sampleAt(from, port, server, clients);
    const last = await sampleAt(to, port, server, clients);
    const { closedCount } = await clients.ask<{ closedCount: number }>({ check: true });
    if (closedCount > 0) throw new Error(`${closedCount} clients of the ${kind} server lost their connection`);
    return perClient(first, last, to - from);
  } finally {
    clients.stop();
    server.stop();
  }
}

async function sampleAt(clientCount: number, port: number, server: Child, clients: Child): Promise<Sample> {
  await clients.ask({ grow: clientCount, port });
  return server.ask<Sample>({ sample: true });
}

function perClient(first: Sample, last: Sample, clientCount: number): Growth {
  const names = new Set([...Object.keys(first.objectCounts), ...Object.keys(last.objectCounts)]);
  const growth = (name: string) => ((last.objectCounts[name] ?? 0) - (first.objectCounts[name] ?? 0)) / clientCount;
  return {
    rssBytes: (last.rssBytes - first.rssBytes) / clientCount,
    heapBytes: (last.heapBytes - first.heapBytes) / clientCount,
    cpuUs: (last.cpuUs - first.cpuUs) / clientCount,
    objects: Object.fromEntries([...names].map((name) => [name, growth(name)])),
  };
}

function rounded({ rssBytes, heapBytes, cpuUs }: Growth): Record<string, number> {
  return { rssBytes: Math.round(rssBytes), heapBytes: Math.round(heapBytes), cpuUs: Math.round(cpuUs) };
}

function table(bare: Growth, broker: Growth, from: number, to: number): string {
  const row = (name: string, value: (growth: Growth) => number) => {
    const cells = [value(bare), value(broker), value(broker) - value(bare)].map((n) => n.toFixed(0).padStart(12));
    return `${name.padEnd(24)}${cells.join("")}\n`;
  };
  return [
    `per client, growth from ${from} to ${to} clients\n`,
    `${" ".repeat(24)}${["bare socket", "broker", "above bare"].map((head) => head.padStart(12)).join("")}\n`,
    row("RSS, bytes", (growth) => growth.rssBytes),
    row("JavaScript heap, bytes", (growth) => growth.heapBytes),
    row("server CPU, microseconds", (growth) => growth.cpuUs),
    `goal: at most ${GOAL_BYTES} bytes of RSS above bare\n`,
  ].join("");
}

/** Types of which there is about one or more per twenty clients. */
function typeTable(bare: Growth, broker: Growth): string {
  const rows = Object.entries(broker.objects)
    .map(([name, each]) => ({ name, each, above: each - (bare.objects[name] ?? 0) }))
    .filter(({ each, above }) => Math.max(Math.abs(each), Math.abs(above)) >= 0.05)
    .sort((a, b) => b.above - a.above)
    .map(
      ({ name, each, above }) => `${name.padEnd(32)}${each.toFixed(2).padStart(8)}${above.toFixed(2).padStart(12)}\n`,
    );
  return `${"objects per client".padEnd(32)}${"broker".padStart(8)}${"above bare".padStart(12)}\n${rows.join("")}`;
}
