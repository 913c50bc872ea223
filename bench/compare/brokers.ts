/**
 * The brokers that can be measured: our own, mosquitto and aedes when they are installed, any other by its command. All
 * listen on 127.0.0.1, let everybody in, log nothing, and never drop for a full queue. They keep nothing on disk, unless a
 * part of a scenario asks for it.
 */
import { chmodSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { UsageError } from "#bench/load/options.ts";
import type { AccessKind, StoreKind } from "#bench/scenarios/scenario.ts";
import { writeAccess } from "./access-files.ts";
import { type ChildProcess, spawn } from "./child-process.ts";
import { checkTemplate, fill, splitBrokers, type TemplateValues } from "./command-template.ts";
import { DATA_FOLDER, isInMemory, SYNC_FILE } from "./disk.ts";
import { freePort } from "./free-port.ts";

const READY_MS = 15_000;
/** Kept over a restart of the machine, so not in memory, as the folder for temporary files may be. */
const DISK_FOLDER = process.env.TMPDIR ?? "/var/tmp";
const CHECKOUT = resolve(import.meta.dir, "../..");
const LAG_PROBE = resolve(import.meta.dir, "lag-probe.ts");
const PEM_FOLDER = resolve(import.meta.dir, "../../test/unit/transport/pem");
const AEDES = resolve(import.meta.dir, "../peers/aedes.mjs");
/** CONNECT of MQTT 3.1.1 with an empty client id. */
const HELLO = Buffer.from("100c00044d5154540402003c0000", "hex");

export interface Broker {
  readonly name: string;
  readonly version: string;
  /** It is this repository's, in the checkout or in another commit. */
  readonly isOwn: boolean;
  /** What it can do besides keeping all in memory. */
  readonly stores?: readonly StoreKind[];
  /** It can be told who may come in and do what. */
  readonly hasAccess?: boolean;
  command(values: TemplateValues, store: StoreKind, access?: AccessKind, doors?: Doors): string[];
}

export interface BrokerSetup {
  readonly nodelay: boolean;
  readonly store: StoreKind;
  readonly access?: AccessKind | undefined;
  readonly hasAllCores: boolean;
  readonly hasDoors?: boolean;
  readonly countsSyncs: boolean;
}

/** Listeners beside the one for TCP. */
export interface Doors {
  readonly tlsPort: number;
  readonly wsPort: number;
}

export interface RunningBroker {
  readonly port: number;
  readonly doors?: Doors | undefined;
  /** It and its files are gone after `stop`. */
  readonly dir: string;
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
  // Commits from before it keep everything in memory, and know no setting for that.
  const hasStore = existsSync(join(folder, "src/broker/store-setup.ts"));
  return {
    name,
    version: [`${revision}${isDirty ? " with changes" : ""}`, `Bun ${Bun.version}`].filter(Boolean).join(", "),
    isOwn: true,
    stores: hasStore ? ["full", "normal", "off"] : [],
    hasAccess: existsSync(join(folder, "src/broker/access-setup.ts")),
    command: ({ port, dir }, store, access, doors) => [
      process.execPath,
      ...(doors !== undefined || (access !== undefined && access.kind !== "files") ? ["--preload", LAG_PROBE] : []),
      join(folder, "src/main.ts"),
      "start",
      "--listen",
      `tcp://127.0.0.1:${port}`,
      ...(doors === undefined ? [] : doorFlags(doors)),
      "--set",
      "log.level=error",
      ...(hasStore ? storeFlags(join(dir, DATA_FOLDER), store) : []),
      ...(access === undefined ? [] : ["--config", writeAccess(dir, access)]),
    ],
  };
}

function doorFlags({ tlsPort, wsPort }: Doors): string[] {
  const files = `cert=${join(PEM_FOLDER, "server.pem")}&key=${join(PEM_FOLDER, "server.key")}`;
  return ["--listen", `tls://127.0.0.1:${tlsPort}?${files}`, "--listen", `ws://127.0.0.1:${wsPort}`];
}

function storeFlags(data: string, store: StoreKind): string[] {
  const settings = store === "memory" ? ["store.type=memory"] : ["store.type=sqlite", `store.sync=${store}`];
  return ["--data", data, ...settings.flatMap((setting) => ["--set", setting])];
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
    stores: ["full"],
    command: ({ port, dir, nodelay }, store) => {
      const file = join(dir, "mosquitto.conf");
      const data = join(dir, DATA_FOLDER);
      mkdirSync(data);
      chmodSync(data, 0o777); // as root it becomes another user
      const lines = [...mosquittoLines(port, nodelay), ...persistenceLines(data, store)];
      writeFileSync(file, `${lines.join("\n")}\n`, { mode: 0o644 });
      return [path, "-c", file];
    },
  };
}

function mosquittoLines(port: number, nodelay: boolean): string[] {
  return [
    `listener ${port} 127.0.0.1`,
    "allow_anonymous true",
    "log_type none",
    "max_queued_messages 0",
    "max_queued_bytes 0",
    "max_inflight_messages 0",
    `set_tcp_nodelay ${nodelay}`,
  ];
}

/** It writes its file every half hour and when it ends, and syncs nothing before it acknowledges: there is no setting for that. */
function persistenceLines(data: string, store: StoreKind): string[] {
  if (store === "memory") return ["persistence false"];
  return ["persistence true", `persistence_location ${data}/`, "autosave_interval 1800", "autosave_on_changes false"];
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
export async function startBroker(
  broker: Broker,
  { nodelay, store, access, hasAllCores, hasDoors = false, countsSyncs }: BrokerSetup,
): Promise<RunningBroker> {
  const parent = store === "memory" ? tmpdir() : DISK_FOLDER;
  if (store !== "memory" && isInMemory(parent))
    throw new Error(`${parent} is in memory, where a sync costs nothing: set TMPDIR to a folder on a disk`);
  const dir = mkdtempSync(join(parent, "mantou-bench-"));
  const port = freePort();
  const doors = hasDoors ? { tlsPort: freePort(), wsPort: freePort() } : undefined;
  // Where a broker gives up root, as mosquitto does, it must still reach its folder.
  chmodSync(dir, 0o755);
  const tracer = countsSyncs ? ["strace", "-f", "-e", "trace=fsync,fdatasync", "-o", join(dir, SYNC_FILE)] : [];
  const child = spawn(
    [...tracer, ...broker.command({ port, dir, nodelay }, store, access, doors)],
    hasAllCores ? "anywhere" : "broker",
    dir,
  );
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
  return { port, doors, dir, process: child, stop };
}

async function drainOutput(stream: ReadableStream<Uint8Array>): Promise<void> {
  for await (const _ of stream);
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
