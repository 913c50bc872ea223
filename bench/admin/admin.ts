/**
 * `bun run bench admin`: what operators cost a broker with many clients: the time of each list's page, of a scrape, and the
 * processor time of an overview that is looked at.
 *
 *   crowd of silent, subscribed clients ─► broker ◄─ admin socket ─ lists, /metrics, overview
 *
 * Times are the broker's own (Server-Timing), from the request's arrival to the whole answer; the median of the rounds is judged.
 */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { parseArgs } from "node:util";
import { type ChildProcess, spawn } from "#bench/compare/child-process.ts";
import { serverProcesses, usageOf } from "#bench/load/server-usage.ts";

const ROOT = resolve(import.meta.dir, "../..");
const START_MS = 60_000;
const PAGE_MS_MAX = 100;
const SCRAPE_MS_MAX = 20;
const CORE_SHARE_MAX = 0.01;
const POLL_SEC = 10;

const LISTS = [
  "/api/v1/clients",
  "/api/v1/clients?limit=1000",
  "/api/v1/clients?clientIdContains=no-such-client",
  "/api/v1/sessions",
  "/api/v1/sessions?queuedCountMin=1",
  "/api/v1/top/sessions?by=queuedCount",
  "/api/v1/top/clients?by=connectedAtSec",
  "/api/v1/subscriptions",
  "/api/v1/subscriptions?filterContains=no-such-filter",
  "/api/v1/topics",
  "/api/v1/retained",
  "/api/v1/retained?filter=r/%2B/no-such-topic",
  "/api/v1/listeners",
  "/api/v1/bans",
  "/api/v1/users",
  "/api/v1/alarms",
  "/api/v1/audit",
  "/api/v1/config",
];

interface Row {
  readonly what: string;
  readonly found: number;
  readonly bound: number;
  readonly unit: string;
}

/** Resolves with the exit code: 1 when a bound is passed. */
export async function runAdmin(args: readonly string[]): Promise<number> {
  const options = { clients: { type: "string" }, rounds: { type: "string" } } as const;
  const { values } = parseArgs({ args: [...args], options });
  const clients = Number(values.clients ?? 10_000);
  const rounds = Number(values.rounds ?? 10);
  const dir = mkdtempSync(join(tmpdir(), "mantou-bench-"));
  const listen = ["--listen", "tcp://127.0.0.1:0", "--data", dir, "--set", "broker.lagMsMax=60000"];
  const broker = spawn([process.execPath, join(ROOT, "src/main.ts"), "start", ...listen], "broker");
  let crowd: ChildProcess | undefined;
  try {
    const ready = await lineOf(broker, /mantou ready/);
    const port = /tcp:\/\/127\.0\.0\.1:(\d+)/.exec(ready)![1];
    const script = join(ROOT, "bench/scenarios/clients/crowd.ts");
    crowd = spawn([process.execPath, script, "--port", port, "--clients", String(clients)], "generator");
    await lineOf(crowd, /ready/);
    const rows = await measure(join(dir, "admin.sock"), broker.pid, { clients, rounds });
    process.stdout.write(`${clients} clients connected and subscribed, ${clients} retained messages\n`);
    for (const { what, found, bound, unit } of rows) {
      const verdict = found <= bound ? "ok" : "ABOVE";
      process.stdout.write(
        `${what.padEnd(55)} ${found.toFixed(unit === "ms" ? 1 : 4).padStart(8)} ${unit}, at most ${bound}  ${verdict}\n`,
      );
    }
    return rows.every(({ found, bound }) => found <= bound) ? 0 : 1;
  } finally {
    await crowd?.stop();
    await broker.stop();
    rmSync(dir, { recursive: true, force: true });
  }
}

async function measure(unix: string, pid: number, load: { clients: number; rounds: number }): Promise<Row[]> {
  const ask = async (path: string, init: RequestInit = {}): Promise<number> => {
    const response = await fetch(`http://admin${path}`, { ...init, unix });
    await response.arrayBuffer();
    if (!response.ok) throw new Error(`${path}: ${response.status}`);
    return Number(/dur=([\d.]+)/.exec(response.headers.get("server-timing") ?? "")![1]);
  };
  await retain(ask, load.clients);
  const rows: Row[] = [];
  for (const path of LISTS)
    rows.push({ what: path, found: await median(load.rounds, () => ask(path)), bound: PAGE_MS_MAX, unit: "ms" });
  const scrapeMs = await median(load.rounds, () => ask("/metrics"));
  rows.push({ what: "/metrics", found: scrapeMs, bound: SCRAPE_MS_MAX, unit: "ms" });
  const rest = (): Promise<number> => shareOfCore(pid, async () => {});
  const before = await rest();
  const polled = await shareOfCore(pid, () => ask("/api/v1/overview"));
  const fed = await withFeed(unix, rest);
  const idle = Math.min(before, await rest()); // what went before may still be compiled and collected
  rows.push({
    what: "/api/v1/overview once a second",
    found: Math.max(0, polled - idle),
    bound: CORE_SHARE_MAX,
    unit: "of a core",
  });
  rows.push({ what: "/api/v1/feed", found: Math.max(0, fed - idle), bound: CORE_SHARE_MAX, unit: "of a core" });
  return rows;
}

async function median(rounds: number, ask: () => Promise<number>): Promise<number> {
  await ask(); // the first one compiles
  const times: number[] = [];
  for (let round = 0; round < rounds; round++) times.push(await ask());
  return times.toSorted((a, b) => a - b)[Math.floor(rounds / 2)];
}

async function retain(ask: (path: string, init: RequestInit) => Promise<number>, count: number): Promise<void> {
  for (let from = 0; from < count; from += 1000) {
    const messages = Array.from({ length: Math.min(1000, count - from) }, (_, i) => ({
      topic: `r/${from + i}/value`,
      payload: "21.5",
      isRetain: true,
    }));
    const body = JSON.stringify({ messages });
    await ask("/api/v1/publish/bulk", { method: "POST", body, headers: { "Content-Type": "application/json" } });
  }
}

/** Of the broker, while `poll` is called once a second. */
async function shareOfCore(pid: number, poll: () => Promise<unknown>): Promise<number> {
  const pids = serverProcesses(pid);
  const before = usageOf(pids).cpuSec;
  for (let sec = 0; sec < POLL_SEC; sec++) {
    await poll();
    await Bun.sleep(1000);
  }
  return (usageOf(pids).cpuSec - before) / POLL_SEC;
}

async function withFeed<T>(unix: string, during: () => Promise<T>): Promise<T> {
  const stop = new AbortController();
  const response = await fetch("http://admin/api/v1/feed", { unix, signal: stop.signal });
  const drained = (async () => {
    for await (const _ of response.body!);
  })().catch(() => {});
  try {
    return await during();
  } finally {
    stop.abort();
    await drained;
  }
}

/** The first line that matches; the rest is read and thrown away. */
async function lineOf(child: ChildProcess, pattern: RegExp): Promise<string> {
  const found = Promise.withResolvers<string>();
  void (async () => {
    let text = "";
    for await (const chunk of child.stdout) {
      text = (text + Buffer.from(chunk).toString()).slice(-10_000);
      const line = text.split("\n").find((each) => pattern.test(each));
      if (line !== undefined) found.resolve(line);
    }
    found.reject(new Error(`a process ended: ${child.errorText()}`));
  })();
  const late = Bun.sleep(START_MS).then(() => {
    throw new Error(`${pattern} did not come: ${child.errorText()}`);
  });
  return Promise.race([found.promise, late]);
}
