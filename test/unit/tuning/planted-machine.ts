/** A folder that looks like a machine's /proc and /sys, for the code that reads and sets one. */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";

/** Undefined leaves a file of the default machine out. */
export type Files = Readonly<Record<string, string | undefined>>;

/** 16 GB, 4 cores, the defaults of a current kernel without systemd's, a hard limit of 20,000. */
const DEFAULTS: Files = {
  "proc/self/limits": limits("1024", "20000"),
  "proc/self/cgroup": "0::/\n",
  "proc/self/status": "Name:\tbun\nCpus_allowed:\tf\nCpus_allowed_list:\t0-3\n",
  "proc/meminfo": "MemTotal:       16000000 kB\nMemFree:         9000000 kB\nMemAvailable:   15000000 kB\n",
  "proc/net/sockstat": "sockets: used 300\nTCP: inuse 12 orphan 0 tw 0 alloc 14 mem 1\n",
  "proc/net/softnet_stat": "01baad31 00000002 00000000\n01baad32 0000000a 00000000\n",
  "proc/sys/fs/file-max": "1600000\n",
  "proc/sys/fs/file-nr": "1000\t0\t1600000\n",
  "proc/sys/fs/nr_open": "1048576\n",
  "proc/sys/fs/epoll/max_user_watches": "3600000\n",
  "proc/sys/net/core/somaxconn": "4096\n",
  "proc/sys/net/core/netdev_max_backlog": "1000\n",
  "proc/sys/net/ipv4/tcp_max_syn_backlog": "2048\n",
  "proc/sys/net/ipv4/tcp_mem": "190000\t250000\t380000\n",
  "proc/sys/net/ipv4/tcp_syncookies": "1\n",
  "proc/sys/net/ipv4/ip_local_port_range": "32768\t60999\n",
  "proc/sys/vm/overcommit_memory": "0\n",
  "sys/kernel/mm/transparent_hugepage/enabled": "always [madvise] never\n",
};

export class PlantedMachine implements Disposable {
  readonly root = mkdtempSync(join(tmpdir(), "mantou-tuning-"));

  constructor(files: Files = {}) {
    for (const [path, text] of Object.entries({ ...DEFAULTS, ...files })) {
      if (text !== undefined) this.write(path, text);
    }
  }

  write(path: string, text: string): void {
    const file = join(this.root, path);
    mkdirSync(dirname(file), { recursive: true });
    writeFileSync(file, text);
  }

  [Symbol.dispose](): void {
    rmSync(this.root, { recursive: true });
  }
}

export function limits(soft: string, hard: string): string {
  return [
    "Limit                     Soft Limit           Hard Limit           Units     ",
    "Max processes             96365                96365                processes ",
    `Max open files            ${soft.padEnd(20)} ${hard.padEnd(20)} files     `,
    "",
  ].join("\n");
}

/** A machine on which nothing stands in the way of a million. */
export const AMPLE: Files = {
  "proc/self/limits": limits("1024", "1048576"),
  "proc/sys/fs/file-max": "9223372036854775807\n",
  "proc/sys/net/core/netdev_max_backlog": "16384\n",
  "proc/sys/net/core/somaxconn": "32768\n",
  "proc/sys/net/ipv4/tcp_max_syn_backlog": "32768\n",
  "proc/sys/net/ipv4/tcp_mem": "500000\t750000\t1000000\n",
};
