import { expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { raiseBacklog } from "#transport/listen-backlog.ts";

test.skipIf(process.platform !== "linux")("a listening socket's queue is as long as the system allows (Linux)", () => {
  const listener = Bun.listen({ hostname: "127.0.0.1", port: 0, socket: { data() {} } });
  const allowed = Number(readFileSync("/proc/sys/net/core/somaxconn", "utf8"));
  expect(raiseBacklog((listener as unknown as { fd: number }).fd)).toBe(Math.min(65_535, allowed));
  listener.stop();
});

test("what is no listening socket is left alone", () => {
  expect(raiseBacklog(-1)).toBe(0);
  expect(raiseBacklog(1_000_000)).toBe(0);
});
