/** What Linux says of processes and sockets, for tests that must see memory or the kernel's buffers. */
import { dlopen, ptr } from "bun:ffi";
import { readFileSync } from "node:fs";

export const isLinux: boolean = process.platform === "linux";

const SOL_SOCKET = 1;
const SO_SNDBUF = 7;
const SO_RCVBUF = 8;

export function rssBytes(pid: number): number {
  const match = /^VmRSS:\s+(\d+) kB/m.exec(readFileSync(`/proc/${pid}/status`, "utf8"));
  if (match === null) throw new Error(`process ${pid} has no memory`);
  return Number(match[1]) * 1024;
}

/** Below the size of a loopback segment a window opens only by timers, and nothing moves. */
const BUFFER_BYTES = 128 * 1024;

/** Makes a socket's kernel buffers small, and stops them from growing to megabytes. */
export function shrinkKernelBuffers(fd: number): void {
  const libc = dlopen("libc.so.6", {
    setsockopt: { args: ["i32", "i32", "i32", "ptr", "u32"], returns: "i32" },
  });
  const value = new Int32Array([BUFFER_BYTES]);
  for (const option of [SO_SNDBUF, SO_RCVBUF]) {
    if (libc.symbols.setsockopt(fd, SOL_SOCKET, option, ptr(value), 4) !== 0) throw new Error(`setsockopt on ${fd}`);
  }
  libc.close();
}
