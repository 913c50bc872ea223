/**
 * A listening socket's queue of connections: Bun fixes it at 512, which a reconnect storm overruns; the system's own limit is better.
 *
 * `Bun.listen` tells the descriptor of its socket, `Bun.serve` does not. A new descriptor is the lowest that is free, so the one that was
 * free just before is looked at, and those after it, for a socket that listens on the port.
 */
import { dlopen, ptr } from "bun:ffi";
import { closeSync, openSync, readFileSync } from "node:fs";

const BACKLOG_MAX = 65_535;
/** Other threads may have opened some meanwhile. */
const DESCRIPTORS_LOOKED_AT = 64;
const SOL_SOCKET = 1;
const SO_ACCEPTCONN = 30;
const ADDRESS_BYTES = 128;

/** Raises the queue of listening socket `fd` to `net.core.somaxconn`; where that cannot be done it stays. Returns its length, 0 for unknown. */
export function raiseBacklog(fd: number): number {
  if (process.platform !== "linux" || fd < 0) return 0;
  try {
    const backlog = Math.min(BACKLOG_MAX, Number(readFileSync("/proc/sys/net/core/somaxconn", "utf8")));
    return calls().listen(fd, backlog) === 0 ? backlog : 0;
  } catch {
    return 0; // no /proc, or a C library of another name
  }
}

/** Opens a server on a port, whose queue is then raised as far as possible. What `open` throws is thrown. */
export function openWithBacklog<T extends { readonly port?: number | undefined }>(open: () => T): T {
  if (process.platform !== "linux") return open();
  const first = lowestFree();
  const server = open();
  for (let fd = first; fd >= 0 && fd < first + DESCRIPTORS_LOOKED_AT; fd++)
    if (isListening(fd, server.port ?? 0)) raiseBacklog(fd);
  return server;
}

/** The descriptor that is opened next; −1 when none can be. */
export function lowestFree(): number {
  try {
    const fd = openSync("/dev/null", "r");
    closeSync(fd);
    return fd;
  } catch {
    return -1;
  }
}

function isListening(fd: number, port: number): boolean {
  try {
    const { getsockopt, getsockname } = calls();
    const value = new Int32Array(1);
    const size = new Uint32Array([value.byteLength]);
    if (getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, ptr(value), ptr(size)) !== 0 || value[0] !== 1) return false;
    const address = Buffer.alloc(ADDRESS_BYTES);
    size[0] = ADDRESS_BYTES;
    // The port stands at the same place in an IPv4 and an IPv6 address.
    return getsockname(fd, ptr(address), ptr(size)) === 0 && address.readUInt16BE(2) === port;
  } catch {
    return false;
  }
}

let calls = () => {
  const { symbols } = dlopen("libc.so.6", {
    listen: { args: ["int", "int"], returns: "int" },
    getsockopt: { args: ["int", "int", "int", "ptr", "ptr"], returns: "int" },
    getsockname: { args: ["int", "ptr", "ptr"], returns: "int" },
  });
  calls = () => symbols;
  return symbols;
};
