/**
 * Tens of thousands of live connections through several workers: how fast they come in, what each costs in the broker and in
 * the kernel, and whether all are still there after keep-alives and a trickle of publishes. A process may open 20,000
 * descriptors here, so the clients are several processes as well. It stops by itself.
 */
import { readFileSync } from "node:fs";
import { spawnChild } from "#bench/idle/child.ts";
import { serverProcesses, usageOf } from "#bench/load/server-usage.ts";
import type { CrowdOrder, CrowdState } from "./crowd-client.ts";
import { startOwnBroker } from "./own-broker.ts";

const CLIENTS_PER_PROCESS = 15_000;
const PAGE_BYTES = 4096;
const SETTLE_MS = 3000;

export interface CrowdOptions {
  readonly clients: number;
  readonly workers: number;
  readonly holdSec: number;
  readonly publishesPerSec: number;
}

export async function runCrowd({ clients, workers, holdSec, publishesPerSec }: CrowdOptions): Promise<number> {
  await using broker = await startOwnBroker(workers);
  const pids = serverProcesses(broker.pid);
  const processCount = Math.ceil(clients / CLIENTS_PER_PROCESS);
  const children = Array.from({ length: processCount }, () =>
    spawnChild(new URL("./crowd-client.ts", import.meta.url)),
  );
  try {
    const before = { usage: usageOf(pids), kernelBytes: kernelBytes(), atMs: performance.now() };
    const share = Math.ceil(clients / processCount);
    const orders = children.map((_, i): CrowdOrder => {
      const first = i * share;
      const count = Math.min(share, clients - first);
      // An address of its own for each process: one gives 28,000 ports towards a listener.
      return {
        port: broker.port,
        host: `127.0.0.${i + 1}`,
        first,
        count,
        total: clients,
        publishesPerSec: publishesPerSec / processCount,
      };
    });
    await Promise.all(children.map((child, i) => child.ask<CrowdState>(orders[i])));
    const fillSec = (performance.now() - before.atMs) / 1000;
    const filled = usageOf(pids);
    await Bun.sleep(SETTLE_MS);
    const idle = { usage: usageOf(pids), kernelBytes: kernelBytes(), atMs: performance.now() };
    await Bun.sleep(holdSec * 1000);
    const held = usageOf(pids);
    const heldSec = (performance.now() - idle.atMs) / 1000;
    const states = await Promise.all(children.map((child) => child.ask<CrowdState>({ state: true })));
    const sum = (name: keyof CrowdState): number => states.reduce((all, state) => all + state[name], 0);
    const rows: readonly [string, string][] = [
      ["connections", `${sum("connected")}, ${sum("closed")} lost, ${workers} workers`],
      [
        "connect and subscribe",
        `${Math.round(clients / fillSec)} clients/s, ${us((filled.cpuSec - before.usage.cpuSec) / clients)} of the broker each`,
      ],
      [
        "broker, each client",
        `${Math.round((idle.usage.rssBytes - before.usage.rssBytes) / clients)} bytes (RSS of all its processes)`,
      ],
      [
        "kernel, each client",
        `${Math.round((idle.kernelBytes - before.kernelBytes) / clients)} bytes of socket buffers, both ends and relays`,
      ],
      [
        "held",
        `${heldSec.toFixed(0)} s, a ping of each every 20 s, ${publishesPerSec} publishes/s: ${(((held.cpuSec - idle.usage.cpuSec) / heldSec) * 100).toFixed(1)} % of a core`,
      ],
      ["published, received", `${sum("published")}, ${sum("received")}`],
    ];
    for (const [name, text] of rows) process.stdout.write(`${name.padEnd(24)}${text}\n`);
    const isWhole = sum("connected") === clients && sum("closed") === 0 && sum("received") >= sum("published") * 0.99;
    return isWhole && broker.isRunning() ? 0 : 1;
  } finally {
    for (const child of children) child.stop();
  }
}

function us(sec: number): string {
  return `${Math.round(sec * 1e6)} µs`;
}

/** Memory of all sockets of the machine (/proc/net/sockstat), and of kernel objects that can not be given back, sockets among them. */
function kernelBytes(): number {
  const sockets = /^TCP:.* mem (\d+)/m.exec(readFileSync("/proc/net/sockstat", "utf8"));
  const slab = /^SUnreclaim:\s+(\d+) kB/m.exec(readFileSync("/proc/meminfo", "utf8"));
  return Number(sockets?.[1] ?? 0) * PAGE_BYTES + Number(slab?.[1] ?? 0) * 1024;
}
