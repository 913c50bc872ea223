/**
 * What a machine has, read from /proc and /sys. Nothing is written, nothing needs root, and a file that is missing (a
 * container, another kernel, another system) is a fact that stays `undefined`. `root` is put before every path, so that a
 * test can plant a machine in a folder.
 */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { knobs, sysctlPath } from "./knobs.ts";

export interface Machine {
  /** The kernel parameters of the knobs and of `FURTHER_SYSCTLS`, by name. */
  readonly sysctls: ReadonlyMap<string, readonly number[]>;
  /** RLIMIT_NOFILE of the process; Infinity when unlimited. */
  readonly descriptorsSoft: number | undefined;
  readonly descriptorsHard: number | undefined;
  readonly filesOpen: number | undefined;
  readonly memoryTotalBytes: number | undefined;
  /** What may still be taken, by the machine and by every cgroup above the process. */
  readonly memoryAvailableBytes: number | undefined;
  /** The cgroup that leaves less than the machine, when one does. */
  readonly memoryCgroup: string | undefined;
  readonly cores: number | undefined;
  /** Cores' worth of time that the cgroup allows; undefined: no quota. */
  readonly coreQuota: number | undefined;
  readonly conntrackCount: number | undefined;
  readonly socketsInUse: number | undefined;
  /** Packets dropped for want of netdev_max_backlog since boot, all cores. */
  readonly packetsDropped: number | undefined;
  readonly hugePages: string | undefined;
}

const FURTHER_SYSCTLS = ["net.ipv4.tcp_syncookies", "vm.overcommit_memory"];
/** cgroup v1 says "no limit" with a number near 2^63. */
const CGROUP_UNLIMITED = 2 ** 60;

type Read = (path: string) => string | undefined;

export interface MachineOptions {
  readonly root?: string;
  /** Whose limits and cgroup; this process when not said. */
  readonly pid?: number;
}

export function readMachine({ root = "/", pid }: MachineOptions = {}): Machine {
  const read: Read = (path) => {
    try {
      return readFileSync(join(root, path), "utf8");
    } catch {
      return undefined;
    }
  };
  const process = `proc/${pid ?? "self"}`;
  const [soft, hard] = parseDescriptorLimit(read(`${process}/limits`));
  const meminfo = read("proc/meminfo");
  return {
    sysctls: readSysctls(read),
    descriptorsSoft: soft,
    descriptorsHard: hard,
    filesOpen: numbers(read("proc/sys/fs/file-nr"))[0],
    memoryTotalBytes: parseKilobytes(meminfo, "MemTotal"),
    ...memoryLeft(read, parseKilobytes(meminfo, "MemAvailable"), read(`${process}/cgroup`)),
    cores: parseCoreList(/^Cpus_allowed_list:\s*(\S+)/m.exec(read(`${process}/status`) ?? "")?.[1]),
    coreQuota: readCoreQuota(read, read(`${process}/cgroup`)),
    conntrackCount: numbers(read("proc/sys/net/netfilter/nf_conntrack_count"))[0],
    socketsInUse: parseSocketsInUse(read("proc/net/sockstat")),
    packetsDropped: parseSoftnetDrops(read("proc/net/softnet_stat")),
    hugePages: /\[(\w+)\]/.exec(read("sys/kernel/mm/transparent_hugepage/enabled") ?? "")?.[1],
  };
}

function readSysctls(read: Read): Map<string, readonly number[]> {
  const names = [...knobs.filter(({ where }) => where === "sysctl").map(({ name }) => name), ...FURTHER_SYSCTLS];
  const values = names.map((name) => [name, numbers(read(sysctlPath(name)))] as const);
  return new Map(values.filter(([, fields]) => fields.length > 0));
}

function numbers(text: string | undefined): number[] {
  return (text?.match(/\d+/g) ?? []).map(Number);
}

function parseDescriptorLimit(limits: string | undefined): [soft?: number, hard?: number] {
  const match = /^Max open files\s+(\S+)\s+(\S+)/m.exec(limits ?? "");
  if (!match) return [];
  const value = (text: string) => (text === "unlimited" ? Infinity : Number(text));
  return [value(match[1]!), value(match[2]!)];
}

function parseKilobytes(meminfo: string | undefined, name: string): number | undefined {
  const match = new RegExp(`^${name}:\\s+(\\d+) kB`, "m").exec(meminfo ?? "");
  return match ? Number(match[1]) * 1024 : undefined;
}

/** Both ends of a loopback connection count. */
function parseSocketsInUse(sockstat: string | undefined): number | undefined {
  const match = /^TCP: inuse (\d+)/m.exec(sockstat ?? "");
  return match ? Number(match[1]) : undefined;
}

/** The second hexadecimal field of each core's line. */
function parseSoftnetDrops(stat: string | undefined): number | undefined {
  const lines = stat?.trim().split("\n");
  return lines?.reduce((sum, line) => sum + (Number.parseInt(line.split(" ")[1] ?? "", 16) || 0), 0);
}

/** Such as `0-3,8`. */
function parseCoreList(list: string | undefined): number | undefined {
  return list?.split(",").reduce((sum, part) => {
    const [first, last] = numbers(part);
    return sum + (last ?? first!) - first! + 1;
  }, 0);
}

// ---- cgroups: v2 has one tree, v1 one a controller; a limit of any group above the process holds

/** The folders of the process's group and those above it, nearest first. */
function cgroupFolders(cgroups: string | undefined, controller: string): { version: 1 | 2; folders: string[] }[] {
  const lines = (cgroups ?? "").split("\n").map((line) => line.split(":"));
  const path = (find: (controllers: string) => boolean) => lines.find(([, names]) => find(names ?? "-"))?.[2];
  const v2 = path((names) => names === "");
  const v1 = path((names) => names.split(",").includes(controller));
  const upward = (base: string, group: string) => {
    const parts = group.split("/").filter((part) => part !== "");
    return Array.from({ length: parts.length + 1 }, (_, i) => join(base, ...parts.slice(0, parts.length - i)));
  };
  return [
    ...(v2 === undefined ? [] : [{ version: 2 as const, folders: upward("sys/fs/cgroup", v2) }]),
    ...(v1 === undefined ? [] : [{ version: 1 as const, folders: upward(`sys/fs/cgroup/${controller}`, v1) }]),
  ];
}

function memoryLeft(read: Read, available: number | undefined, cgroups: string | undefined) {
  let left = available;
  let memoryCgroup: string | undefined;
  for (const { version, folders } of cgroupFolders(cgroups, "memory")) {
    for (const folder of folders) {
      const here = cgroupMemoryLeft((file) => read(join(folder, file)), version);
      if (here === undefined || here >= (left ?? Infinity)) continue;
      left = here;
      memoryCgroup = `/${folder}`;
    }
  }
  return { memoryAvailableBytes: left, memoryCgroup };
}

/** The limit less what is used; file pages that the kernel can drop do not count as used. */
function cgroupMemoryLeft(read: Read, version: 1 | 2): number | undefined {
  const files = { 1: ["memory.limit_in_bytes", "memory.usage_in_bytes"], 2: ["memory.max", "memory.current"] }[version];
  const limits = version === 2 ? [files[0]!, "memory.high"] : [files[0]!];
  const limit = Math.min(...limits.map((file) => numbers(read(file))[0] ?? Infinity));
  if (limit >= CGROUP_UNLIMITED) return undefined;
  const used = numbers(read(files[1]!))[0] ?? 0;
  const name = version === 2 ? "inactive_file" : "total_inactive_file"; // of v1, without total_ the children are left out
  const droppable = new RegExp(`^${name} (\\d+)`, "m").exec(read("memory.stat") ?? "")?.[1] ?? 0;
  return Math.max(0, limit - Math.max(0, used - Number(droppable)));
}

function readCoreQuota(read: Read, cgroups: string | undefined): number | undefined {
  const quotas = cgroupFolders(cgroups, "cpu").flatMap(({ version, folders }) =>
    folders.flatMap((folder) => {
      const file = (name: string) => read(join(folder, name)) ?? "";
      const text = version === 2 ? file("cpu.max") : `${file("cpu.cfs_quota_us")} ${file("cpu.cfs_period_us")}`;
      const match = /^\s*(\d+)\s+(\d+)/.exec(text); // "max 100000" and -1: no quota
      return match ? [Number(match[1]) / Number(match[2])] : [];
    }),
  );
  return quotas.length === 0 ? undefined : Math.min(...quotas);
}
