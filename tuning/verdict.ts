/**
 * What would stop N connections on a machine, as numbers of connections.
 *
 *   limits   a hard end: below it connections are refused, dropped, or the process is killed
 *   slows    holds N idle connections, but not when all of them move at once
 *   ok       room for N
 *   unknown  the machine does not say
 *   note     no number of connections, but worth knowing
 */
import {
  BROKER_BASE_BYTES,
  BROKER_BYTES,
  BACKLOG_MAX,
  CLIENT_BYTES,
  CONNECT_CPU_US,
  DESCRIPTOR_RESERVE,
  KERNEL_END_BYTES,
  MEMORY_SHARE,
  PING_CPU_US,
} from "./figures.ts";
import { type Knob, knobs } from "./knobs.ts";
import type { Machine } from "./machine.ts";

export type State = "limits" | "slows" | "ok" | "unknown" | "note";

export interface Finding {
  readonly name: string;
  readonly state: State;
  /** How many connections it allows; absent when that is no number, or not known. */
  readonly connectionsMax?: number;
  readonly says: string;
  /** What to do about it. */
  readonly advice?: string;
}

export interface Verdict {
  readonly connections: number;
  readonly isFit: boolean;
  /** What the machine carries as it is: the lowest limit. Absent when no limit is known. */
  readonly connectionsMax?: number;
  readonly limitedBy?: string;
  /** Processes of this descriptor limit that N connections would take. The broker is one. */
  readonly processesNeeded?: number;
  readonly memoryNeededBytes: number;
  readonly findings: readonly Finding[];
}

export interface Question {
  readonly connections: number;
  /** The test clients run on this machine too: both ends count. */
  readonly clientsHere: boolean;
}

interface Inquiry extends Question {
  readonly machine: Machine;
  readonly ends: 1 | 2;
}

export function assess(machine: Machine, question: Question): Verdict {
  const inquiry: Inquiry = { ...question, machine, ends: question.clientsHere ? 2 : 1 };
  const findings = [
    descriptorsOfProcess(inquiry),
    filesOfMachine(inquiry),
    epollWatches(inquiry),
    memory(inquiry),
    connectionTracking(inquiry),
    tcpBuffers(inquiry),
    deviceQueue(inquiry),
    listenQueue(inquiry),
    cores(inquiry),
    ...(question.clientsHere ? [localPorts(inquiry)] : []),
    ...oddities(inquiry),
  ];
  const hard = findings
    .filter(({ name, connectionsMax }) => connectionsMax !== undefined && !SOFT_NAMES.has(name))
    .sort((a, b) => a.connectionsMax! - b.connectionsMax!);
  const lowest = hard[0];
  const perProcess = descriptorRoom(machine);
  return {
    connections: question.connections,
    isFit: !findings.some(({ state }) => state === "limits"),
    ...(lowest ? { connectionsMax: lowest.connectionsMax!, limitedBy: lowest.name } : {}),
    ...(perProcess ? { processesNeeded: Math.ceil(question.connections / perProcess) } : {}),
    memoryNeededBytes: memoryNeeded(inquiry),
    findings,
  };
}

const TCP_BUFFERS = "memory for TCP buffers";
const SOFT_NAMES = new Set([TCP_BUFFERS]);
const APPLY = (connections: number) => `tuning/apply.sh ${connections}`;

/** A hard limit, when the machine says what it is. */
function limit(name: string, max: number | undefined, connections: number, text: { says: string; advice: string }) {
  if (max === undefined || Number.isNaN(max)) {
    return { name, state: "unknown", says: "this machine does not say" } satisfies Finding;
  }
  const connectionsMax = Math.max(0, Math.floor(max));
  const { says, advice } = text;
  if (connectionsMax >= connections) return { name, state: "ok", ...finite(connectionsMax), says } satisfies Finding;
  return { name, state: "limits", connectionsMax, says, advice } satisfies Finding;
}

function finite(connectionsMax: number): { connectionsMax?: number } {
  return Number.isFinite(connectionsMax) ? { connectionsMax } : {};
}

/** Bun raises the soft limit to the hard one; nothing raises a limit above nr_open. */
function descriptorRoom({ descriptorsHard, sysctls }: Machine): number | undefined {
  if (descriptorsHard === undefined) return undefined;
  const nrOpen = sysctls.get("fs.nr_open")?.[0] ?? Infinity;
  return Math.max(0, Math.min(descriptorsHard, nrOpen) - DESCRIPTOR_RESERVE);
}

function descriptorsOfProcess({ machine, connections }: Inquiry): Finding {
  const room = descriptorRoom(machine);
  const processes = room ? Math.ceil(connections / room) : undefined;
  const { descriptorsHard: hard, descriptorsSoft: soft } = machine;
  const needs = processes !== undefined && processes > 1 ? `; so many take --workers ${count(processes)}` : "";
  return limit("descriptors of the broker process", room, connections, {
    says:
      `hard limit ${count(hard)}, soft ${count(soft)} (Bun raises it), ${DESCRIPTOR_RESERVE} in reserve; ` +
      `each worker has such a limit of its own${needs}`,
    advice: `raise the hard limit (${APPLY(connections)} and a new login, LimitNOFILE of the unit, docker --ulimit nofile=…)`,
  });
}

function filesOfMachine({ machine, connections, ends }: Inquiry): Finding {
  const max = machine.sysctls.get("fs.file-max")?.[0];
  const open = machine.filesOpen ?? 0;
  return limit("open files of the machine", max === undefined ? max : (max - open) / ends, connections, {
    says: `fs.file-max ${count(max)}, ${count(open)} open now, ${ends} a connection`,
    advice: APPLY(connections),
  });
}

function epollWatches({ machine, connections, ends }: Inquiry): Finding {
  const max = machine.sysctls.get("fs.epoll.max_user_watches")?.[0];
  return limit("epoll watches of a user", max === undefined ? max : max / ends, connections, {
    says: `fs.epoll.max_user_watches ${count(max)}, ${ends} a connection`,
    advice: APPLY(connections),
  });
}

function bytesPerConnection({ ends, clientsHere }: Inquiry): number {
  return BROKER_BYTES + ends * KERNEL_END_BYTES + (clientsHere ? CLIENT_BYTES : 0);
}

/** Of as many processes as the descriptor limit asks for. */
function basesBytes({ machine, connections }: Inquiry): number {
  return BROKER_BASE_BYTES * Math.ceil(connections / (descriptorRoom(machine) || connections));
}

function memoryNeeded(inquiry: Inquiry): number {
  return basesBytes(inquiry) + inquiry.connections * bytesPerConnection(inquiry);
}

function memory(inquiry: Inquiry): Finding {
  const { machine, connections, ends } = inquiry;
  const available = machine.memoryAvailableBytes;
  const each = bytesPerConnection(inquiry);
  const room = available === undefined ? available : (available * MEMORY_SHARE - basesBytes(inquiry)) / each;
  const where = machine.memoryCgroup === undefined ? "" : ` in ${machine.memoryCgroup}`;
  return limit("memory", room, connections, {
    says:
      `${gigabytes(available)} available${where}, ${gigabytes(memoryNeeded(inquiry))} needed: ${count(each)} bytes ` +
      `a connection, idle (broker ${count(BROKER_BYTES)}, kernel ${ends} x ${count(KERNEL_END_BYTES)}), and ` +
      `${Math.round(basesBytes(inquiry) / 1e6)} MB for the bare processes`,
    advice: machine.memoryCgroup === undefined ? "more memory" : "a higher limit of the cgroup, or more memory",
  });
}

/** The module may be loaded and yet track nothing, when no firewall rule asks for it. */
function connectionTracking({ machine, connections }: Inquiry): Finding {
  const name = "firewall's connection tracking";
  const max = machine.sysctls.get("net.netfilter.nf_conntrack_max")?.[0];
  if (max === undefined) return { name, state: "ok", says: "not loaded, or not visible here" };
  const { conntrackCount: tracked = 0, socketsInUse = 0 } = machine;
  if (tracked === 0) {
    const seen = socketsInUse > 0 ? ` although ${count(socketsInUse)} TCP sockets are in use` : "";
    return { name, state: "note", says: `nf_conntrack_max ${count(max)}, but it tracks nothing now${seen}` };
  }
  return limit(name, max - tracked, connections, {
    says: `nf_conntrack_max ${count(max)}, ${count(tracked)} tracked now`,
    advice: `${APPLY(connections)}, or a notrack rule for the broker's ports`,
  });
}

function tcpBuffers({ machine, connections }: Inquiry): Finding {
  const name = TCP_BUFFERS;
  const pages = machine.sysctls.get("net.ipv4.tcp_mem")?.[2];
  if (pages === undefined) return { name, state: "unknown", says: "this machine does not say (a network namespace?)" };
  const says = `net.ipv4.tcp_mem ends at ${count(pages)} pages; an idle connection holds none, one with an unread packet one`;
  if (pages >= connections) return { name, state: "ok", connectionsMax: pages, says };
  return { name, state: "slows", connectionsMax: pages, says, advice: APPLY(connections) };
}

function wanted(name: string, connections: number): number {
  return (knobs.find((knob) => knob.name === name) as Knob).recommended(connections)[0]!;
}

function deviceQueue({ machine, connections }: Inquiry): Finding {
  const name = "packets waiting per core";
  const key = "net.core.netdev_max_backlog";
  const present = machine.sysctls.get(key)?.[0];
  if (present === undefined)
    return { name, state: "unknown", says: "this machine does not say (a network namespace?)" };
  const dropped = machine.packetsDropped;
  const says = `${key} ${count(present)}; ${dropped === undefined ? "drops not known" : `${count(dropped)} dropped since boot`}`;
  if (present >= wanted(key, connections)) return { name, state: "ok", says };
  return { name, state: "slows", says: `${says}; storms overflow it`, advice: APPLY(connections) };
}

/** Of Linux since 5.4. */
const SOMAXCONN_DEFAULT = 4096;

function listenQueue({ machine, connections }: Inquiry): Finding {
  const max = machine.sysctls.get("net.core.somaxconn")?.[0] ?? SOMAXCONN_DEFAULT;
  const queue = Math.min(BACKLOG_MAX, max);
  const fits = connections <= queue;
  return {
    name: "connects waiting for accept",
    state: fits ? "ok" : "note",
    says:
      `${count(queue)} a listener (somaxconn)` +
      (fits ? "" : "; in a storm the rest try again after 1, 3, 7 s: no client is lost, but it takes longer"),
  };
}

function cores({ machine, connections }: Inquiry): Finding {
  const { cores: present, coreQuota } = machine;
  const connectSec = Math.ceil((connections * CONNECT_CPU_US) / 1e6);
  const pingShare = ((connections / 60) * PING_CPU_US) / 1e6;
  const quota = coreQuota === undefined ? "" : `, quota ${coreQuota.toFixed(2)}`;
  return {
    name: "cores",
    state: coreQuota !== undefined && coreQuota < 1 ? "slows" : "note",
    says:
      `${present ?? "unknown"}${quota}; the broker uses one: about ${count(connectSec)} s of it to connect all, ` +
      `${Math.ceil(pingShare * 100)} % of it for pings at a keep-alive of 60 s`,
  };
}

function localPorts({ machine, connections }: Inquiry): Finding {
  const name = "ports of the test clients";
  const [first, last] = machine.sysctls.get("net.ipv4.ip_local_port_range") ?? [];
  if (first === undefined || last === undefined) return { name, state: "unknown", says: "this machine does not say" };
  const ports = last - first + 1;
  const says = `net.ipv4.ip_local_port_range ${first} ${last}: ${count(ports)} connections from one address to one port`;
  if (ports >= connections) return { name, state: "ok", says };
  const addresses = Math.ceil(connections / ports);
  return { name, state: "note", says: `${says}; ${count(addresses)} source addresses needed (127.0.0.0/8 has plenty)` };
}

function oddities({ machine }: Inquiry): Finding[] {
  const findings: Finding[] = [];
  if (machine.hugePages === "always") {
    const says = "always: memory that was touched a little may count 2 MiB; madvise is the usual setting";
    findings.push({ name: "transparent huge pages", state: "note", says });
  }
  if (machine.sysctls.get("vm.overcommit_memory")?.[0] === 2) {
    const says = "2, strict: JavaScriptCore reserves much address space; not tried with this setting";
    findings.push({ name: "vm.overcommit_memory", state: "note", says });
  }
  if (machine.sysctls.get("net.ipv4.tcp_syncookies")?.[0] === 0) {
    const says = "off: tcp_max_syn_backlog bounds half-open connections, and a SYN flood fills it";
    findings.push({ name: "net.ipv4.tcp_syncookies", state: "note", says });
  }
  return findings;
}

export function count(n: number | undefined): string {
  if (n === undefined) return "unknown";
  return Number.isFinite(n) ? n.toLocaleString("en-US") : "unlimited";
}

export function gigabytes(bytes: number | undefined): string {
  return bytes === undefined ? "unknown memory" : `${(bytes / 1e9).toFixed(1)} GB`;
}
