/**
 * The measured process: the broker as `mantou start` assembles it, or a bare `Bun.listen` server that answers the same
 * clients with fixed bytes, so that its sockets have also read and written.
 */
import { fullGC, heapStats } from "bun:jsc";
import { startBroker } from "#broker/broker.ts";
import { loadConfig } from "#broker/config.ts";
import { createLog } from "#broker/log.ts";
import { serveQuestions } from "./child.ts";
import type { Sample, ServerKind } from "./idle.ts";

const SETTLE_MS = 250;
const SETTLED_BYTES = 128 * 1024;
const ROUNDS_MAX = 40;
const CONNECT_TYPE = 1;
const CONNACK = Buffer.from("20020000", "hex");
const SUBACK = Buffer.from("9003000100", "hex");

async function start(kind: ServerKind): Promise<{ port: number }> {
  if (kind === "bare") return { port: listenBare() };
  const { config } = loadConfig({
    flags: { listen: ["tcp://127.0.0.1:0"], set: ["log.level=error", "store.type=memory"] },
    env: {},
    cwd: "/",
  });
  const broker = await startBroker(config, createLog(config.log));
  return { port: Number(new URL(broker.addresses[0]!).port) };
}

function listenBare(): number {
  const { port } = Bun.listen({
    hostname: "127.0.0.1",
    port: 0,
    socket: { data: (socket, chunk) => void socket.write(chunk[0]! >> 4 === CONNECT_TYPE ? CONNACK : SUBACK) },
  });
  return port;
}

/** After garbage is gone, and when the allocator has given back what it gives back: RSS then stands still. */
async function sample(): Promise<Sample> {
  const cpu = process.cpuUsage();
  let rssBytes = await collected();
  for (let round = 0, stillCount = 0; stillCount < 3; round++) {
    if (round === ROUNDS_MAX) throw new Error("RSS does not stand still");
    const next = await collected();
    stillCount = Math.abs(next - rssBytes) <= SETTLED_BYTES ? stillCount + 1 : 0;
    rssBytes = next;
  }
  const { heapSize, objectTypeCounts } = heapStats();
  return {
    rssBytes,
    heapBytes: heapSize,
    cpuUs: cpu.user + cpu.system,
    objectCounts: objectTypeCounts,
  };
}

async function collected(): Promise<number> {
  fullGC();
  Bun.gc(true);
  await Bun.sleep(SETTLE_MS);
  return process.memoryUsage.rss();
}

serveQuestions<{ start: ServerKind } | { sample: true }>((question) =>
  "start" in question ? start(question.start) : sample(),
);
