import { afterAll, beforeAll, expect, test } from "bun:test";
import { createServer } from "node:net";
import type { AddressInfo, Server, Socket } from "node:net";
import { harnessOf, startHarness, tcpTarget } from "#test/support/harness.ts";
import { decodePacket } from "#test/support/packet-decoder.ts";
import { hex } from "#test/support/packets.ts";

/** A stand-in for a broker: accepts every CONNECT but that of "no", answers PINGREQ, closes on DISCONNECT. */
let server: Server;
let url: string;
const sockets = new Set<Socket>();

beforeAll(async () => {
  server = createServer((socket) => {
    sockets.add(socket);
    socket.on("close", () => sockets.delete(socket));
    socket.on("error", () => {});
    socket.on("data", (bytes: Buffer) => {
      const packet = decodePacket(bytes, 4);
      if (packet.type === "connect") socket.write(hex(packet.clientId === "no" ? "20 02 00 05" : "20 02 00 00"));
      if (packet.type === "pingreq") socket.write(hex("d0 00"));
      if (packet.type === "disconnect") socket.end();
    });
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  url = `tcp://127.0.0.1:${(server.address() as AddressInfo).port}`;
});

afterAll(() => {
  for (const socket of sockets) socket.destroy();
  server.close();
});

test("a client connects, pings and disconnects over TCP", async () => {
  const harness = harnessOf(tcpTarget(url));
  const client = await harness.connect({ version: 4, clientId: "yes" });
  expect(client.connack).toEqual({ type: "connack", sessionPresent: false, reasonCode: 0 });
  expect(await client.settle()).toEqual([]);
  await client.disconnect();
  await client.expectClosed();
  await harness.stop();
});

test("connect refuses a CONNACK that refuses; open leaves it to the test", async () => {
  const harness = harnessOf(tcpTarget(url));
  await expect(harness.connect({ version: 4, clientId: "no" })).rejects.toThrow(
    /not accepted: connack .*"reasonCode":5/,
  );
  const client = await harness.open(4);
  expect((await client.connect({ clientId: "no" })).reasonCode).toBe(5);
  await harness.stop();
});

test("stop closes every link, and a write after the close harms nobody", async () => {
  const harness = harnessOf(tcpTarget(url));
  const client = await harness.connect({ version: 4 });
  const [socket] = [...sockets].slice(-1);
  const closed = new Promise((resolve) => socket?.once("close", resolve));
  await harness.stop();
  await closed;
  expect(client.isClosed).toBe(true);
  client.send({ type: "pingreq" });
});

test("no broker behind the address is an error at once", async () => {
  const empty = createServer().listen(0, "127.0.0.1");
  await new Promise((resolve) => empty.once("listening", resolve));
  const { port } = empty.address() as AddressInfo;
  await new Promise((resolve) => empty.close(resolve));
  await expect(harnessOf(tcpTarget(`tcp://127.0.0.1:${port}`)).open()).rejects.toThrow();
});

test("MANTOU_TEST_TARGET chooses the TCP half, and must be a TCP address with a port", async () => {
  const before = process.env.MANTOU_TEST_TARGET;
  try {
    process.env.MANTOU_TEST_TARGET = url;
    const harness = await startHarness();
    await harness.connect({ version: 4 });
    await harness.stop();
    process.env.MANTOU_TEST_TARGET = "http://127.0.0.1:1";
    await expect(startHarness()).rejects.toThrow(/must read tcp/);
  } finally {
    if (before === undefined) delete process.env.MANTOU_TEST_TARGET;
    else process.env.MANTOU_TEST_TARGET = before;
  }
});
