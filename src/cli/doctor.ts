/**
 * `mantou doctor`: what on this machine would hurt, before it does. Looks at the configuration, at what the listeners and the data
 * directory need, and at the machine's limits (tuning/verdict.ts). Changes nothing but a file that it makes and deletes in the data directory.
 */
import { X509Certificate } from "node:crypto";
import { closeSync, existsSync, fsyncSync, openSync, readFileSync, statfsSync, unlinkSync, writeSync } from "node:fs";
import { dirname, join, resolve } from "node:path";
import { MantouError } from "#base/error.ts";
import { type Config, type ConfigFlags, loadConfig } from "#broker/config.ts";
import type { ListenerConfig } from "#broker/listener-schema.ts";
import { readMachine } from "#tuning/machine.ts";
import { assess, count } from "#tuning/verdict.ts";
import type { Host } from "./host.ts";
import { runningPid } from "./pid-file.ts";

export interface Check {
  readonly state: "ok" | "note" | "warn" | "bad";
  readonly name: string;
  readonly says: string;
}

interface DoctorFlags extends ConfigFlags {
  readonly connections?: number;
  readonly json?: boolean;
}

const CONNECTIONS = 10_000;
const BUN_VERSION = "1.4.5";
const FREE_BYTES_LOW = 1024 ** 3;
const SYNC_COUNT = 20;
/** A commit waits for one sync. */
const SYNC_MS_HIGH = 20;
const DAY_MS = 86_400_000;
const CERTIFICATE_DAYS_LOW = 30;
const IN_MEMORY_TYPES = new Set([0x0102_1994, 0x8584_58f6]); // tmpfs, ramfs
const STATES = { limits: "bad", slows: "warn", ok: "ok", unknown: "note", note: "note" } as const;

/** Returns the exit code: 1 when something is bad. */
export async function doctor(flags: DoctorFlags, host: Host): Promise<number> {
  const checks = await examine(flags, host);
  if (flags.json) host.out(`${JSON.stringify(checks, null, 2)}\n`);
  else for (const { state, name, says } of checks) host.out(`${state.padEnd(5)} ${name}: ${says}\n`);
  return checks.some(({ state }) => state === "bad") ? 1 : 0;
}

async function examine(flags: DoctorFlags, host: Host): Promise<Check[]> {
  let config: Config;
  const checks: Check[] = [runtime()];
  try {
    const loaded = loadConfig({ ...host.config, flags });
    config = loaded.config;
    checks.push({ state: "ok", name: "configuration", says: loaded.file ?? "no file, only defaults and flags" });
  } catch (error) {
    if (!(error instanceof MantouError)) throw error;
    return [
      ...checks,
      ...error.message.split("\n").map((says) => ({ state: "bad", name: "configuration", says }) as const),
    ];
  }
  const dir = resolve(host.config.cwd ?? ".", config.node.data);
  const pid = runningPid(dir);
  if (pid !== undefined)
    checks.push({ state: "ok", name: "broker", says: `it runs on this data directory, process ${pid}` });
  checks.push(...openness(config));
  for (const listener of config.listeners) {
    if (pid === undefined) checks.push(await place(listener));
    checks.push(...certificates(listener));
  }
  checks.push(...(config.store.type === "memory" ? [] : disk(dir)), ...machine(flags.connections ?? CONNECTIONS, pid));
  return checks;
}

function runtime(): Check {
  const isPinned = Bun.version === BUN_VERSION;
  const says = isPinned ? Bun.version : `${Bun.version}; it was tried with ${BUN_VERSION}`;
  return { state: isPinned ? "ok" : "warn", name: "bun", says };
}

function openness({ access, listeners }: Config): Check[] {
  const isLocal = listeners.every(({ bind }) => bind.path !== undefined || /^(127\.|::1$|localhost$)/.test(bind.host));
  const isAnonymous = access.authenticate.some(({ type }) => type === "anonymous");
  if (isLocal || !isAnonymous) return [];
  return [{ state: "warn", name: "access", says: "anybody who reaches a listener may come in: see docs/access.md" }];
}

/** Whether the listener's address can be taken. */
async function place({ name, bind }: ListenerConfig): Promise<Check> {
  if (bind.path !== undefined) return { state: "ok", name: `listener ${name}`, says: bind.path };
  const says = `${bind.host}:${bind.port}`;
  try {
    const listener = Bun.listen({ hostname: bind.host, port: bind.port, socket: { data() {} } });
    listener.stop(true);
    return { state: "ok", name: `listener ${name}`, says: `${says} is free` };
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    return { state: "bad", name: `listener ${name}`, says: `${says} cannot be listened on: ${code}` };
  }
}

function certificates({ name, cert, key, ca, moreCertificates = [] }: ListenerConfig): Check[] {
  const checks: Check[] = [];
  for (const file of [key, ca, ...moreCertificates.map((more) => more.key)]) {
    if (file !== undefined && !existsSync(file)) {
      checks.push({ state: "bad", name: `listener ${name}`, says: `${file}: there is no such file` });
    }
  }
  for (const file of [cert, ...moreCertificates.map((more) => more.cert)]) {
    if (file !== undefined) checks.push(certificate(`listener ${name}`, file));
  }
  return checks;
}

function certificate(name: string, file: string): Check {
  try {
    const days = Math.floor((new X509Certificate(readFileSync(file)).validToDate.getTime() - Date.now()) / DAY_MS);
    if (days < 0) return { state: "bad", name, says: `${file} has expired` };
    return { state: days < CERTIFICATE_DAYS_LOW ? "warn" : "ok", name, says: `${file} is valid for ${days} days` };
  } catch (error) {
    return { state: "bad", name, says: `${file} cannot be used: ${(error as Error).message}` };
  }
}

function disk(dir: string): Check[] {
  // The directory is made when the broker starts: what is above it tells as much.
  let there = dir;
  while (!existsSync(there)) there = dirname(there);
  const checks: Check[] = [];
  try {
    const { type, bavail, bsize } = statfsSync(there);
    const free = bavail * bsize;
    const says = `${dir}: ${(free / 1024 ** 3).toFixed(1)} GiB free`;
    checks.push({ state: free < FREE_BYTES_LOW ? "warn" : "ok", name: "disk", says });
    if (IN_MEMORY_TYPES.has(type)) {
      checks.push({ state: "warn", name: "disk", says: `${dir} is in memory: nothing in it survives the machine` });
    }
    const ms = syncMs(there);
    const slow = "; acknowledgements of what must be kept wait for it";
    const isSlow = ms > SYNC_MS_HIGH;
    checks.push({ state: isSlow ? "warn" : "ok", name: "disk sync", says: `${ms.toFixed(1)} ms${isSlow ? slow : ""}` });
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    checks.push({ state: "bad", name: "disk", says: `${dir} cannot be written: ${code}` });
  }
  return checks;
}

/** Median time of writing 4 KiB and waiting until they are on disk. */
function syncMs(dir: string): number {
  const path = join(dir, `.mantou-doctor-${process.pid}`);
  const descriptor = openSync(path, "wx", 0o600);
  try {
    const block = Buffer.alloc(4096, 1);
    const times = Array.from({ length: SYNC_COUNT }, () => {
      const startMs = performance.now();
      writeSync(descriptor, block);
      fsyncSync(descriptor);
      return performance.now() - startMs;
    });
    return times.sort((a, b) => a - b)[SYNC_COUNT / 2];
  } finally {
    closeSync(descriptor);
    unlinkSync(path);
  }
}

function machine(connections: number, pid: number | undefined): Check[] {
  const machine = readMachine(pid === undefined ? {} : { pid });
  const { findings } = assess(machine, { connections, clientsHere: false });
  return findings.map(({ name, state, connectionsMax, says, advice }) => ({
    state: STATES[state],
    name,
    says: [
      ...(connectionsMax === undefined ? [] : [`room for ${count(connectionsMax)} connections`]),
      says,
      ...(advice === undefined ? [] : [`to change: ${advice}`]),
    ].join("; "),
  }));
}
