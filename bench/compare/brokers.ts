/**
 * The brokers that can be measured: our own, mosquitto and aedes when they are installed, any other by its command. All
 * listen on 127.0.0.1, keep nothing on disk, let everybody in, log nothing, and never drop for a full queue.
 */
import { chmodSync, existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { UsageError } from "#bench/load/options.ts";
import { type ChildProcess, spawn } from "./child-process.ts";
import { checkTemplate, fill, splitBrokers, type TemplateValues } from "./command-template.ts";

const READY_MS = 15_000;
const CHECKOUT = resolve(import.meta.dir, "../..");
const AEDES = resolve(import.meta.dir, "../peers/aedes.mjs");
/** CONNECT of MQTT 3.1.1 with an empty client id. */
const HELLO = Buffer.from("100c00044d5154540402003c0000", "hex");

export interface Broker {
  readonly name: string;
  readonly version: string;
  /** It is this repository's, in the checkout or in another commit. */
  readonly isOwn: boolean;
  command(values: TemplateValues): string[];
}

export interface RunningBroker {
  readonly port: number;
  readonly process: ChildProcess;
  stop(): Promise<void>;
}

const MOSQUITTO_PATHS = ["mosquitto", "/usr/sbin/mosquitto", "/usr/local/sbin/mosquitto"];

export const knownBrokers = ["mantou", "mosquitto", "aedes"] as const;

/** Throws, with how to get it, for one that is not installed. */
export function brokersOf(text: string): Broker[] {
  return splitBrokers(text, knownBrokers).map(({ name, command }) => {
    if (command !== undefined) return byCommand(name, command);
    const broker = find(name);
    if (broker === undefined) throw new UsageError(`${name} is not installed; ${howToGet[name]}`);
    return broker;
  });
}

const howToGet: Readonly<Record<string, string>> = {
  mosquitto: "apt-get install mosquitto",
  aedes: "bun install, with development dependencies",
};

/** Undefined when it is not installed. */
export function find(name: string): Broker | undefined {
  if (name === "mantou") return ofCheckout("mantou", CHECKOUT);
  return name === "mosquitto" ? mosquitto() : aedes();
}

/** The broker of this repository as it is in the folder. */
export function ofCheckout(name: string, folder: string): Broker {
  const revision = git(folder, "rev-parse", "--short", "HEAD");
  const isDirty = git(folder, "status", "--porcelain", "--", "src") !== "";
  return {
    name,
    version: [`${revision}${isDirty ? " with changes" : ""}`, `Bun ${Bun.version}`].filter(Boolean).join(", "),
    isOwn: true,
    command: ({ port }) => [
      process.execPath,
      join(folder, "src/main.ts"),
      "start",
      "--listen",
      `tcp://127.0.0.1:${port}`,
      "--set",
      "log.level=error",
    ],
  };
}

/** "" outside a repository, or without git. */
function git(folder: string, ...args: string[]): string {
  if (Bun.which("git") === null) return "";
  const { stdout, success } = Bun.spawnSync(["git", "-C", folder, ...args], { stderr: "ignore" });
  return success ? stdout.toString().trim() : "";
}

function mosquitto(): Broker | undefined {
  const path = MOSQUITTO_PATHS.map((candidate) => Bun.which(candidate)).find((found) => found !== null);
  if (path === undefined || path === null) return undefined;
  const help = Bun.spawnSync([path, "-h"], { stderr: "ignore" }).stdout.toString();
  return {
    name: "mosquitto",
    version: /mosquitto version (\S+)/.exec(help)?.[1] ?? "unknown",
    isOwn: false,
    command: ({ port, dir, nodelay }) => {
      const file = join(dir, "mosquitto.conf");
      writeFileSync(file, mosquittoConfig(port, nodelay), { mode: 0o644 });
      return [path, "-c", file];
    },
  };
}

function mosquittoConfig(port: number, nodelay: boolean): string {
  return [
    `listener ${port} 127.0.0.1`,
    "allow_anonymous true",
    "persistence false",
    "log_type none",
    "max_queued_messages 0",
    "max_queued_bytes 0",
    "max_inflight_messages 0",
    `set_tcp_nodelay ${nodelay}`,
    "",
  ].join("\n");
}

/** On Node.js, its own runtime, when there is one. */
function aedes(): Broker | undefined {
  const manifest = join(CHECKOUT, "node_modules/aedes/package.json");
  if (!existsSync(manifest)) return undefined;
  const { version } = JSON.parse(readFileSync(manifest, "utf8")) as { version: string };
  const node = Bun.which("node");
  const runtime = node === null ? `Bun ${Bun.version}` : `Node ${Bun.spawnSync([node, "--version"]).stdout}`.trim();
  return {
    name: "aedes",
    version: `${version} on ${runtime}`,
    isOwn: false,
    command: ({ port }) => [node ?? process.execPath, AEDES, String(port)],
  };
}

function byCommand(name: string, command: string): Broker {
  const words = checkTemplate(command);
  return { name, version: "by command", isOwn: false, command: (values) => fill(words, values) };
}

/** Resolves when the broker answers a CONNECT. */
export async function startBroker(broker: Broker, nodelay: boolean): Promise<RunningBroker> {
  const dir = mkdtempSync(join(tmpdir(), "mantou-bench-"));
  const port = freePort();
  // Where a broker gives up root, as mosquitto does, it must still reach its folder.
  chmodSync(dir, 0o755);
  const child = spawn(broker.command({ port, dir, nodelay }), "broker", dir);
  void drainOutput(child.stdout);
  const stop = async (): Promise<void> => {
    await child.stop();
    rmSync(dir, { recursive: true, force: true });
  };
  for (const end = performance.now() + READY_MS; !(await answers(port)); await Bun.sleep(50)) {
    if (child.isRunning() && performance.now() < end) continue;
    await stop();
    throw new Error(`${broker.name} does not answer on port ${port}: ${child.errorText() || "it printed nothing"}`);
  }
  return { port, process: child, stop };
}

async function drainOutput(stream: ReadableStream<Uint8Array>): Promise<void> {
  for await (const _ of stream);
}

function freePort(): number {
  const listener = Bun.listen({ hostname: "127.0.0.1", port: 0, socket: { data: () => {} } });
  const { port } = listener;
  listener.stop();
  return port;
}

/** A broker that accepts may not be ready: only CONNACK counts. */
async function answers(port: number): Promise<boolean> {
  const { promise, resolve } = Promise.withResolvers<boolean>();
  const timer = setTimeout(() => resolve(false), 1000);
  const socket = await Bun.connect({
    hostname: "127.0.0.1",
    port,
    socket: {
      open: (link) => void link.write(HELLO),
      data: (_, chunk) => resolve(chunk[0] === 0x20),
      close: () => resolve(false),
      error: () => resolve(false),
    },
  }).catch(() => resolve(false));
  const isReady = await promise;
  clearTimeout(timer);
  socket?.end();
  return isReady;
}
