import { expect, test } from "bun:test";
import { dlopen, ptr } from "bun:ffi";
import { readFileSync } from "node:fs";
import { openWithBacklog, raiseBacklog } from "#transport/listen-backlog.ts";
import { listen } from "./listening.ts";

const isLinux = process.platform === "linux";
const allowed = isLinux ? Math.min(65_535, Number(readFileSync("/proc/sys/net/core/somaxconn", "utf8"))) : 0;
const DESCRIPTORS = 1000;

/** Lengths of the queues of this process's sockets that listen on the port: TCP_INFO has it where others have `sacked`. */
function queuesOf(port: number): number[] {
  const { symbols } = dlopen("libc.so.6", {
    getsockopt: { args: ["int", "int", "int", "ptr", "ptr"], returns: "int" },
    getsockname: { args: ["int", "ptr", "ptr"], returns: "int" },
  });
  const info = Buffer.alloc(256);
  const address = Buffer.alloc(128);
  const size = new Uint32Array(1);
  const queues: number[] = [];
  for (let fd = 0; fd < DESCRIPTORS; fd++) {
    size[0] = address.length;
    if (symbols.getsockname(fd, ptr(address), ptr(size)) !== 0 || address.readUInt16BE(2) !== port) continue;
    size[0] = info.length;
    const isListening = symbols.getsockopt(fd, 6, 11, ptr(info), ptr(size)) === 0 && info[0] === 10;
    if (isListening) queues.push(info.readUInt32LE(28));
  }
  return queues;
}

test.skipIf(!isLinux)("a listening socket's queue is as long as the system allows (Linux)", () => {
  const listener = Bun.listen({ hostname: "127.0.0.1", port: 0, socket: { data() {} } });
  expect(queuesOf(listener.port)).toEqual([512]);
  expect(raiseBacklog((listener as unknown as { fd: number }).fd)).toBe(allowed);
  expect(queuesOf(listener.port)).toEqual([allowed]);
  listener.stop();
});

test.skipIf(!isLinux).each(["tcp", "ws"])("so is that of a listener of type %s (Linux)", async (type) => {
  await using listening = await listen(type === "ws" ? { webSocket: { path: "/mqtt", origins: [] } } : {});
  expect(queuesOf(listening.port)).toEqual([allowed]);
});

test("what is no listening socket is left alone", () => {
  expect(raiseBacklog(-1)).toBe(0);
  expect(raiseBacklog(1_000_000)).toBe(0);
  expect(openWithBacklog(() => ({ port: 1 }))).toEqual({ port: 1 });
});
