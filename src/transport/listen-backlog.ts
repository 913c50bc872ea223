/** A listening socket's queue of connections: Bun fixes it at 512, which a reconnect storm overruns; the system's own limit is better. */
import { dlopen } from "bun:ffi";
import { readFileSync } from "node:fs";

const BACKLOG_MAX = 65_535;

/** Raises the queue of listening socket `fd` to `net.core.somaxconn`; where that cannot be done it stays. Returns its length, 0 for unknown. */
export function raiseBacklog(fd: number): number {
  if (process.platform !== "linux" || fd < 0) return 0;
  try {
    const backlog = Math.min(BACKLOG_MAX, Number(readFileSync("/proc/sys/net/core/somaxconn", "utf8")));
    return callListen(fd, backlog) === 0 ? backlog : 0;
  } catch {
    return 0; // no /proc, or a C library of another name
  }
}

let callListen = (fd: number, backlog: number): number => {
  const { symbols } = dlopen("libc.so.6", { listen: { args: ["int", "int"], returns: "int" } });
  callListen = (fd, backlog) => symbols.listen(fd, backlog);
  return callListen(fd, backlog);
};
