// Where the conformance suite meets a broker: ours in memory with a fake clock, or any broker over TCP.
//
// MANTOU_TEST_TARGET=tcp://127.0.0.1:1883 chooses the TCP half and ignores the test's configuration. The memory half is
// imported only when it is used, so the suite can judge another broker without this one's code.

import { connect as connectTcp } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import { RawClient } from "./client.ts";
import type { ConnectOptions, Pipe } from "./client.ts";
import { describePacket } from "./packets.ts";
import type { Version } from "./packets.ts";

export interface Harness {
  /** A raw link, nothing sent. Version 5 unless told. */
  open(version?: Version): Promise<RawClient>;
  /** Opened, and accepted with CONNACK 0. */
  connect(options?: ConnectOptions & { version?: Version }): Promise<RawClient>;
  /** Moves the broker's clock: the fake one in memory, real waiting over TCP. */
  advance(sec: number): Promise<void>;
  /** Kills every client opened here and lets go of the broker. */
  stop(): Promise<void>;
}

/** What a way to a broker has to bring; the rest of the harness is the same for all. */
export interface Target {
  openPipe(): Promise<Pipe>;
  advance(sec: number): Promise<void>;
  stop(): Promise<void>;
}

export async function startHarness(config: Record<string, unknown> = {}): Promise<Harness> {
  const url = process.env.MANTOU_TEST_TARGET;
  if (url) return harnessOf(tcpTarget(url));
  const { startMemoryHarness } = await import("./memory-harness.ts");
  return harnessOf(await startMemoryHarness(config));
}

export function harnessOf(target: Target): Harness {
  const clients: RawClient[] = [];
  const open = async (version: Version = 5) => {
    const client = new RawClient(await target.openPipe(), version);
    clients.push(client);
    return client;
  };
  return {
    open,
    async connect({ version, ...options } = {}) {
      const client = await open(version);
      const connack = await client.connect(options);
      if (connack.reasonCode !== 0) throw new Error(`not accepted: ${describePacket(connack)}`);
      return client;
    },
    advance: (sec) => target.advance(sec),
    async stop() {
      for (const client of clients) client.kill();
      await target.stop();
    },
  };
}

export function tcpTarget(url: string): Target {
  const { protocol, hostname, port } = new URL(url);
  if (protocol !== "tcp:" || port === "") throw new Error(`MANTOU_TEST_TARGET must read tcp://HOST:PORT, not ${url}`);
  return {
    openPipe: () => openTcpPipe(hostname, Number(port)),
    advance: (sec) => sleep(sec * 1000),
    stop: async () => {},
  };
}

function openTcpPipe(host: string, port: number): Promise<Pipe> {
  return new Promise((resolve, reject) => {
    const socket = connectTcp({ host, port, noDelay: true });
    const pipe: Pipe = {
      write: (bytes) => {
        if (!socket.destroyed) socket.write(bytes);
      },
      close: () => void socket.destroy(),
      onData: () => {},
      onClose: () => {},
    };
    socket.on("data", (bytes: Buffer) => pipe.onData(bytes));
    socket.on("close", () => pipe.onClose());
    socket.on("error", reject); // after connecting, "close" follows and tells
    socket.once("connect", () => resolve(pipe));
  });
}
