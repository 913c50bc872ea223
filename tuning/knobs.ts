/**
 * Every setting of the machine that mantou asks for, once. The .conf files, the check, the plan of apply.sh and the
 * guide's table are made from this table or tested against it.
 *
 * A setting is here only if a number of connections can make it too small. Recommended values are lower bounds, worked
 * out from that number: what a machine already exceeds is left as it is. What emqttd's guide set and this table does
 * not is in README.md with the reason.
 */

export interface Knob {
  readonly name: string;
  /** `sysctl`: a kernel parameter. `nofile`: RLIMIT_NOFILE, in limits.conf and in mantou.service. */
  readonly where: "sysctl" | "nofile";
  /** `clients`: only a machine that runs test clients needs it. */
  readonly side: "broker" | "clients";
  /** Exists only when a kernel module is loaded. */
  readonly isOptional?: boolean;
  readonly what: string;
  readonly unit: string;
  readonly kernelDefault: string;
  /** For so many connections to one machine. More than one number: the fields of the setting. */
  readonly recommended: (connections: number) => readonly number[];
  /** What of two values of a field is the roomier one; `max` when not said. */
  readonly roomier?: readonly ("max" | "min")[];
  readonly why: string;
  readonly undo: string;
  readonly source: string;
}

/** The conf files as they stand in the repository are for this many. */
export const SHIPPED_CONNECTIONS = 1_000_000;

const NR_OPEN_DEFAULT = 1_048_576;
/** Descriptors of the process beside its connections: 256 in reserve, and ample. */
const NOFILE_EXTRA = 4096;
const SYSTEM_EXTRA = 65_536;

const APPLY_UNDO = "tuning/apply.sh --undo writes back what was there";

function powerOfTwo(atLeast: number, min: number, max: number): number {
  return Math.min(max, Math.max(min, 2 ** Math.ceil(Math.log2(Math.max(1, atLeast)))));
}

function nofile(connections: number): number {
  return powerOfTwo(connections + NOFILE_EXTRA, 1, Infinity);
}

function listenQueue(connections: number): number {
  return powerOfTwo(connections / 32, 1024, 32_768);
}

export const knobs: readonly Knob[] = [
  {
    name: "fs.nr_open",
    where: "sysctl",
    side: "broker",
    what: "the highest descriptor limit that any process may have",
    unit: "descriptors",
    kernelDefault: "1048576",
    recommended: (n) => [Math.max(NR_OPEN_DEFAULT, nofile(n))],
    why: "a nofile limit above it is refused, and a login with such a limit fails: so this one is always set first",
    undo: `${APPLY_UNDO}; by hand: sysctl -w fs.nr_open=1048576, after the nofile limits are down`,
    source: "kernel: admin-guide/sysctl/fs.rst",
  },
  {
    name: "fs.file-max",
    where: "sysctl",
    side: "broker",
    what: "open files of the whole machine; processes of root are exempt",
    unit: "files",
    kernelDefault: "a tenth of the memory in KiB; systemd raises it to the maximum",
    recommended: (n) => [2 * n + SYSTEM_EXTRA],
    why: "one file a connection, two when the clients are on the same machine; at the limit accept fails (ENFILE)",
    undo: `${APPLY_UNDO}; a reboot without the file gives the default`,
    source: "kernel: admin-guide/sysctl/fs.rst; 1,001,000 connections with both ends held 2,002,056 sockets",
  },
  {
    name: "fs.epoll.max_user_watches",
    where: "sysctl",
    side: "broker",
    what: "descriptors that all processes of one user may watch with epoll",
    unit: "watches",
    kernelDefault: "what fits 4 % of the memory: about 230000 a GB",
    recommended: (n) => [2 * n + SYSTEM_EXTRA],
    why: "each connection is a watch; without one Bun cannot hear its socket",
    undo: `${APPLY_UNDO}; a reboot without the file gives the default`,
    source: "kernel: admin-guide/sysctl/fs.rst, epoll(7)",
  },
  {
    name: "nofile",
    where: "nofile",
    side: "broker",
    what: "descriptors of one process (ulimit -n, RLIMIT_NOFILE, LimitNOFILE), the hard limit",
    unit: "descriptors",
    kernelDefault: "hard 4096; systemd gives services 524288",
    recommended: (n) => [nofile(n)],
    why: "the broker is one process, a connection is a descriptor, and it refuses connections 256 below the limit",
    undo: "remove limits.d/90-mantou.conf (apply.sh --undo does) or the line of the unit; new logins and starts see it",
    source: "getrlimit(2), limits.conf(5), systemd.exec(5)",
  },
  {
    name: "net.core.somaxconn",
    where: "sysctl",
    side: "broker",
    what: "the most that listen() grants: connections that are complete and not yet accepted",
    unit: "connections per listener",
    kernelDefault: "4096 (128 before Linux 5.4)",
    recommended: (n) => [listenQueue(n)],
    why: "each listener takes all of it; a reconnect storm that overflows the queue comes in later, by the clients' own repeats",
    undo: `${APPLY_UNDO}; by hand: sysctl -w net.core.somaxconn=4096`,
    source: "listen(2), kernel: networking/ip-sysctl.rst; README.md, the storm of 15,000 connects",
  },
  {
    name: "net.ipv4.tcp_max_syn_backlog",
    where: "sysctl",
    side: "broker",
    what: "half-open connections (SYN seen, handshake not complete) that a listener remembers",
    unit: "connections per listener",
    kernelDefault: "128 to 4096 by memory",
    recommended: (n) => [listenQueue(n)],
    why: "only counts where net.ipv4.tcp_syncookies is 0; otherwise the listen backlog bounds them and cookies answer",
    undo: `${APPLY_UNDO}; by hand: sysctl -w net.ipv4.tcp_max_syn_backlog=2048`,
    source: "kernel: networking/ip-sysctl.rst",
  },
  {
    name: "net.core.netdev_max_backlog",
    where: "sysctl",
    side: "broker",
    what: "packets that wait per core between the network device (or loopback) and the protocol",
    unit: "packets per core",
    kernelDefault: "1000",
    recommended: (n) => [powerOfTwo(n / 64, 1000, 16_384)],
    why: "a storm of clients overflows it; a dropped SYN costs its client a second. Counted in /proc/net/softnet_stat",
    undo: `${APPLY_UNDO}; by hand: sysctl -w net.core.netdev_max_backlog=1000`,
    source: "kernel: admin-guide/sysctl/net.rst; at 1000, connects over loopback lost packets here",
  },
  {
    name: "net.ipv4.tcp_mem",
    where: "sysctl",
    side: "broker",
    what: "memory of all TCP buffers together: above the second the kernel saves, above the third it drops packets",
    unit: "pages (4 KiB): low, pressure, high",
    kernelDefault: "about 4.7, 6.2 and 9.4 % of the memory",
    recommended: (n) => [Math.ceil(n / 2), Math.ceil((n * 3) / 4), n],
    why: "idle connections use none, but one small unread packet holds a page: a page each lets all have one at once",
    undo: `${APPLY_UNDO}; a reboot without the file gives the default`,
    source: "tcp(7); README.md: 0.9 to 1.0 pages per socket with 100 to 2,000 unread bytes",
  },
  {
    name: "net.netfilter.nf_conntrack_max",
    where: "sysctl",
    side: "broker",
    isOptional: true,
    what: "connections that the firewall's connection tracking remembers",
    unit: "connections",
    kernelDefault: "by memory, 262144 from 4 GB on",
    recommended: (n) => [n + Math.ceil(n / 4)],
    why: "when full, new connections are dropped without a word to anybody; better still, do not track the port",
    undo: `${APPLY_UNDO}; a reboot without the file gives the default`,
    source: "kernel: networking/nf_conntrack-sysctl.rst",
  },
  {
    name: "net.ipv4.ip_local_port_range",
    where: "sysctl",
    side: "clients",
    what: "local ports that outgoing connections may take",
    unit: "ports: first, last",
    kernelDefault: "32768 60999",
    recommended: () => [1024, 65_535],
    roomier: ["min", "max"],
    why: "28,232 connections from one address to one port become 64,512; servers accept on one port and need none",
    undo: `${APPLY_UNDO}; by hand: sysctl -w net.ipv4.ip_local_port_range="32768 60999"`,
    source: "kernel: networking/ip-sysctl.rst",
  },
];

/** The roomier of two values, field by field; a field that one of them lacks is taken from the other. */
export function roomiest(knob: Knob, present: readonly number[], wanted: readonly number[]): number[] {
  return wanted.map((value, field) => {
    const now = present[field] ?? value;
    return knob.roomier?.[field] === "min" ? Math.min(now, value) : Math.max(now, value);
  });
}

/** Where the kernel shows it, without the leading slash. */
export function sysctlPath(name: string): string {
  return `proc/sys/${name.replaceAll(".", "/")}`;
}

export function nofileKnob(): Knob {
  return knobs.find(({ where }) => where === "nofile")!;
}
