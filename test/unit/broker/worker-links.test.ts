/** How often a worker tries to reach another that ends each connection, as one does whose disk is full. */
import { afterAll, describe, expect, test } from "bun:test";
import { mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Redial } from "#broker/redial.ts";
import { WorkerLinks } from "#broker/worker-links.ts";
import { Engine } from "#core/engine.ts";
import { TcpTransport } from "#transport/tcp.ts";

const folder = mkdtempSync(join(tmpdir(), "mantou-links-"));
afterAll(() => rmSync(folder, { recursive: true }));

describe("the pause before a connection is made again", () => {
  test("is none after one that lasted, else doubles up to five seconds, half of it by chance", () => {
    for (const [chance, part] of [
      [0, 0.5],
      [0.999, 0.9995],
    ] as const) {
      const redial = new Redial(() => chance);
      let nowMs = 1_000_000;
      expect(redial.nextPauseMs(nowMs)).toBe(0);
      const pauses: number[] = [];
      for (let i = 0; i < 10; i++) {
        redial.noteOpen(nowMs);
        pauses.push(redial.nextPauseMs((nowMs += 100)) / part);
      }
      expect(pauses.map(Math.round)).toEqual([50, 100, 200, 400, 800, 1600, 3200, 5000, 5000, 5000]);
      redial.noteOpen(nowMs);
      expect(redial.nextPauseMs((nowMs += 10_000))).toBe(0);
      redial.noteOpen(nowMs);
      expect(Math.round(redial.nextPauseMs(nowMs + 1) / part)).toBe(50);
    }
  });
});

/** Links of worker 1 of two to a worker 0 that does as it is told. */
function linksTo(name: string, socket: Parameters<typeof Bun.listen>[0]["socket"]) {
  const socketDir = join(folder, name);
  mkdirSync(socketDir);
  const other = Bun.listen({ unix: join(socketDir, "peer-0.sock"), socket: socket as never });
  const links = new WorkerLinks({ node: 1, count: 2, seed: 1, socketDir });
  const { fabric, stamps } = links;
  const engine = new Engine({ seed: 1, nowMs: performance.now(), nowSec: 0, fabric, stamps });
  const bugs: unknown[] = [];
  const reporter = { fault: () => {}, bug: (_: unknown, error: unknown) => void bugs.push(error) };
  const transport = new TcpTransport(engine.limits.send, engine.metrics, (error) => bugs.push(error));
  const makeProtocol = () => {
    throw new Error("no client comes");
  };
  void links.join({ engine, transport, reporter, makeProtocol });
  const stop = (): void => {
    links.stop();
    other.stop(true);
  };
  return { fabric, transport, bugs, stop };
}

const CONNACK = Uint8Array.of(0x20, 3, 1, 0, 0);

test("a worker that answers nothing is not waited for", async () => {
  let count = 0;
  const { fabric, transport, bugs, stop } = linksTo("silent", {
    data(socket: { write(bytes: Uint8Array): unknown }, bytes: Uint8Array) {
      if (bytes[0] === 0x10 && ++count === 1) socket.write(CONNACK);
    },
  } as never);
  while (count === 0) await Bun.sleep(10);
  await Bun.sleep(50);
  let isTold = false;
  fabric.announce(Buffer.from("t"), true, () => (isTold = true));
  for (let sec = 0; sec < 10; sec++) transport.sweep(performance.now());
  await Bun.sleep(2200);
  expect(isTold).toBe(false);
  transport.sweep(performance.now());
  await Bun.sleep(2200);
  expect([isTold, bugs]).toEqual([true, []]);
  stop();
});

test("a worker that ends every connection is asked a few times, and subscriptions wait two seconds for it", async () => {
  let count = 0;
  const { fabric, bugs, stop } = linksTo("ending", {
    open(socket: { end(): void }) {
      if (++count > 1) socket.end();
    },
    data(socket: { write(bytes: Uint8Array): unknown; end(): void }, bytes: Uint8Array) {
      if (bytes[0] !== 0x10) return;
      socket.write(CONNACK); // the first one is open
      setTimeout(() => socket.end(), 100);
    },
  } as never);
  await Bun.sleep(300);
  let isTold = false;
  fabric.announce(Buffer.from("t"), true, () => (isTold = true));
  expect(isTold).toBe(false); // it may be alive, and serve clients
  await Bun.sleep(2200);
  expect(count).toBeGreaterThan(3);
  expect(count).toBeLessThan(10);
  expect([isTold, bugs]).toEqual([true, []]);
  stop();
});
