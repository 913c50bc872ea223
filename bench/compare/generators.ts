/**
 * Load generators behind one face: a load becomes a command line, what the command prints becomes an outcome. Our own
 * (`bench/load`) is the default; mqload, a neutral one in C, can stand in for it.
 */
import { join, resolve } from "node:path";
import type { Doors } from "./brokers.ts";
import { connectionFaults, type Figures, messageFaults } from "#bench/load/result.ts";
import { UsageError } from "#bench/load/options.ts";
import {
  type ClientLoad,
  type Companion,
  type ConnectLoad,
  defined,
  type FlowLoad,
  type Load,
  type Metrics,
  type Outcome,
} from "#bench/scenarios/scenario.ts";

const MAIN = resolve(import.meta.dir, "../main.ts");
const CLIENTS = resolve(import.meta.dir, "../scenarios/clients");
const PAYLOAD_BYTES = 64;
const WINDOW_COUNT = 20;
const OUTSTANDING_COUNT = 5000;
/** Connects under way at once: fewer than any broker's listen backlog. */
const PENDING_COUNT = 64;
/** Delivered short of the asked rate by more than this: the broker did not keep up. */
const RATE_SHARE_MIN = 0.95;

export interface Target {
  readonly port: number;
  readonly brokerPid: number;
  readonly durationSec: number;
  readonly warmupSec: number;
  /** What all clients of a general generator come in with. */
  readonly login?: { readonly username: string; readonly password: string };
}

export interface Generator {
  readonly name: string;
  command(load: Exclude<Load, ClientLoad>, target: Target): string[];
  /** `line` is the last line that the command printed. */
  parse(line: string, load: Load): Outcome;
}

/** `own`, or `mqload:PATH`. */
export function generatorOf(text: string): Generator {
  if (text === "own") return own;
  if (!text.startsWith("mqload:")) throw new UsageError(`--generator ${text}: own, or mqload:PATH`);
  const path = resolve(text.slice("mqload:".length));
  if (Bun.which(path) === null) throw new UsageError(`--generator ${text}: ${path} is not a program`);
  return mqload(path);
}

export function clientCommand({ client, args }: ClientLoad, target: Target): string[] {
  if (client === "footprint") return [process.execPath, join(CLIENTS, "footprint.ts")];
  return [
    process.execPath,
    join(CLIENTS, `${client}.ts`),
    "--port",
    String(target.port),
    "--broker-pid",
    String(target.brokerPid),
    "--warmup",
    String(target.warmupSec),
    "--duration",
    String(target.durationSec),
    ...args,
  ];
}

export function companionCommand({ client, args }: Companion, port: number, doors?: Doors): string[] {
  const others = doors === undefined ? [] : ["--tls-port", String(doors.tlsPort), "--ws-port", String(doors.wsPort)];
  return [process.execPath, join(CLIENTS, `${client}.ts`), "--port", String(port), ...others, ...args];
}

function mqload(path: string): Generator {
  return {
    name: "mqload",
    command(load, { port, brokerPid, durationSec, warmupSec, login }) {
      const credentials = login === undefined ? [] : ["--user", login.username, "--pass", login.password];
      const common = ["--port", port, "--pid", brokerPid, "--json", ...credentials];
      const timed = ["--duration", durationSec, "--warmup", warmupSec];
      const args = {
        rtt: () => ["rtt", ...timed, "--qos", load.kind === "rtt" ? load.qos : 0],
        conn: () => ["conn", ...connectArgs(load as ConnectLoad)],
        flow: () => ["pubsub", ...timed, ...flowArgs(load as FlowLoad)],
      }[load.kind]();
      return [path, ...args, ...common].map(String);
    },
    parse: (line, load) => parseMqload(JSON.parse(line) as MqloadReport, load),
  };
}

function connectArgs({ clients, holdSec }: ConnectLoad): (string | number)[] {
  const pending = ["--pending", PENDING_COUNT];
  return [...pending, "--clients", clients, "--src", "127.0.11.1", "--srcs", 8, "--hold", holdSec, "--sub", "idle/%i"];
}

function flowArgs(load: FlowLoad): (string | number)[] {
  if (load.isPersistent === true) throw new UsageError("mqload has no persistent sessions");
  return [
    "--mode",
    load.mode,
    "--pubs",
    load.publishers,
    "--subs",
    load.subscribers,
    "--qos",
    load.qos,
    "--size",
    load.payloadBytes ?? PAYLOAD_BYTES,
    "--window",
    windowOf(load),
    "--rate",
    load.ratePerSec ?? 0,
    "--outstanding",
    load.outstandingCount ?? OUTSTANDING_COUNT,
    "--proto",
    load.version ?? 4,
  ];
}

/** A paced run must not be held back by its window. */
function windowOf(load: FlowLoad): number {
  return load.windowCount ?? (load.ratePerSec === undefined ? WINDOW_COUNT : 1000);
}

/** The keys of its `--json` that are read here. */
export type MqloadReport = Readonly<Partial<Record<(typeof mqloadKeys)[number], number>>>;
const mqloadKeys = [
  ...(["delivered_ps", "sent_ps", "lost", "dup", "reordered", "dropped_conns", "nacks", "failed", "dropped"] as const),
  ...(["srv_us_per_msg", "srv_cpu_pct", "srv_rss_mb", "gen_cpu_pct", "connect_ps", "bytes_per_conn"] as const),
  ...(["srv_cpu_us_per_conn", "rss_held_mb", "rate", "stalls", "refused", "secs"] as const),
  ...(["lat_p50_us", "lat_p90_us", "lat_p99_us", "lat_p999_us", "lat_max_us"] as const),
  ...(["connack_p50_us", "connack_p90_us", "connack_p99_us", "connack_p999_us", "connack_max_us"] as const),
] as const;

export function parseMqload(report: MqloadReport, load: Load): Outcome {
  const counts: [number | undefined, string][] = [
    [report.lost, "lost"],
    [report.dup, "duplicates"],
    [report.reordered, "reordered"],
    [report.stalls, "stalls"],
    [report.dropped_conns, "connections dropped"],
    [report.dropped, "connections dropped"],
    [report.failed, "connections failed"],
    [report.nacks, "refused"],
    [report.refused, "refused"],
  ];
  const faults = counts.filter(([count]) => (count ?? 0) !== 0).map(([count, what]) => `${count} ${what}`);
  const isConnect = load.kind === "conn";
  const name = isConnect ? ("connack" as const) : ("lat" as const);
  const metrics = defined({
    messagesPerSec: report.delivered_ps,
    brokerUsPerMessage: report.srv_us_per_msg,
    brokerCpuPct: report.srv_cpu_pct,
    generatorCpuPct: report.gen_cpu_pct,
    p50Us: report[`${name}_p50_us`],
    p90Us: report[`${name}_p90_us`],
    p99Us: report[`${name}_p99_us`],
    p999Us: report[`${name}_p999_us`],
    maxUs: report[`${name}_max_us`],
    rssBytes: scaled(report.srv_rss_mb ?? report.rss_held_mb, 1e6),
    connectsPerSec: report.connect_ps,
    brokerUsPerConnect: report.srv_cpu_us_per_conn,
    bytesPerClient: report.bytes_per_conn,
  });
  return { metrics, faults: [...faults, ...rateFaults(metrics, load)] };
}

/** A broker that falls behind a paced load has failed it: its CPU and latency are those of another load. */
export function rateFaults(metrics: Metrics, load: Load): string[] {
  if (load.kind !== "flow" || load.ratePerSec === undefined) return [];
  const copies = load.mode === "pair" ? 1 : load.subscribers;
  const asked = load.ratePerSec * copies;
  const delivered = metrics.messagesPerSec ?? 0;
  if (delivered >= asked * RATE_SHARE_MIN) return [];
  return [`did not keep up: ${Math.round(delivered)} of ${asked} messages/s`];
}

function scaled(value: number | undefined, factor: number): number | undefined {
  return value === undefined ? undefined : value * factor;
}

const own: Generator = {
  name: "own",
  command(load, { port, brokerPid, durationSec, warmupSec, login }) {
    const credentials = login === undefined ? [] : ["--username", login.username, "--password", login.password];
    const common = ["--port", port, "--server-pid", brokerPid, "--json", ...credentials];
    const timed = ["--duration", durationSec, "--warmup", warmupSec];
    const args = {
      rtt: () => ["rtt", ...timed, "--qos", load.kind === "rtt" ? load.qos : 0],
      conn: () => ownConnectArgs(load as ConnectLoad),
      flow: () => ownFlowArgs(load as FlowLoad, timed),
    }[load.kind]();
    return [process.execPath, MAIN, ...args, ...common].map(String);
  },
  parse: (line, load) => parseOwn(JSON.parse(line) as Figures, load),
};

function ownConnectArgs({ clients, holdSec }: ConnectLoad): (string | number)[] {
  return [
    "conn",
    "--count",
    clients,
    "--interval",
    0,
    "--pending",
    PENDING_COUNT,
    "--version",
    4,
    "--topic",
    "idle/%i",
    "--keepalive",
    60,
    "--ifaddr",
    "127.0.11.1-127.0.11.8",
    "--duration",
    holdSec,
  ];
}

function ownFlowArgs(load: FlowLoad, timed: readonly (string | number)[]): (string | number)[] {
  return [
    load.mode,
    ...timed,
    "--pubs",
    load.publishers,
    "--subs",
    load.subscribers,
    "--qos",
    load.qos,
    "--size",
    load.payloadBytes ?? PAYLOAD_BYTES,
    "--window",
    windowOf(load),
    "--rate",
    load.ratePerSec ?? 0,
    "--outstanding",
    load.outstandingCount ?? OUTSTANDING_COUNT,
    "--version",
    load.version ?? 4,
    "--clean",
    String(load.isPersistent !== true),
  ];
}

export function parseOwn(figures: Figures, load: Load): Outcome {
  const isConnect = load.kind === "conn";
  const { server, connecting, connected } = figures;
  const latency = isConnect ? figures.connackUs : figures.latencyUs;
  const faults = [...messageFaults(figures), ...connectionFaults(figures)];
  if (figures.stalls > 0) faults.push(`${figures.stalls} stalls`);
  const metrics = defined({
    ...(isConnect
      ? {
          connectsPerSec: figures.connectsPerSec,
          brokerUsPerConnect: connecting?.usPerUnit,
          bytesPerClient: connecting === undefined ? undefined : connecting.rssGrowthBytes / Math.max(1, connected),
        }
      : {
          messagesPerSec: figures.receivedPerSec,
          brokerUsPerMessage: server?.usPerUnit,
          brokerCpuPct: scaled(server?.busy, 100),
        }),
    generatorCpuPct: figures.generatorBusy * 100,
    p50Us: latency.p50,
    p90Us: latency.p90,
    p99Us: latency.p99,
    p999Us: latency.p999,
    maxUs: latency.max,
    rssBytes: server?.rssBytes,
  });
  const sent = figures.sent === undefined ? {} : { sentCount: figures.sent };
  return { metrics, faults: [...faults, ...rateFaults(metrics, load)], ...sent };
}
