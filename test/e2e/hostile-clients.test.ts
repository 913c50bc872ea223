// Clients that are slow, mute, rude or broken: each loses its own connection, in time, and nobody else notices.

import { describe, expect, test } from "bun:test";
import { Random } from "#base/random.ts";
import { startBroker } from "#test/support/broker-process.ts";
import { harnessOf, tcpTarget } from "#test/support/harness.ts";
import { level, rounds } from "#test/support/level.ts";
import { encodePacket, hex } from "#test/support/packets.ts";
import { startInProcess } from "./broker-in-process.ts";
import { eventually, FlowClient } from "./flow-client.ts";
import { isLinux, rssBytes } from "./process-facts.ts";

const MIB = 1024 * 1024;
const CONNECT = Buffer.from(encodePacket({ type: "connect", clientId: "x".repeat(100) }, 4));
/** PUBLISH that says it has 200 MB. */
const HUGE_HEADER = hex("30 80 84 af 5f");

describe("deadlines", () => {
  test("a link without a complete CONNECT is closed, however it spends its time", async () => {
    await using own = await startInProcess(["mqtt.connectTimeoutSec=1"]);
    const mute = await FlowClient.open(own.port);
    const drip = await FlowClient.open(own.port);
    const half = await FlowClient.open(own.port);
    const wellBehaved = await own.harness.connect();
    half.send(CONNECT.subarray(0, 50));
    let at = 0;
    const dripping = setInterval(() => drip.send(CONNECT.subarray(at, ++at)), 30);
    try {
      await Promise.all([mute, drip, half].map((client) => client.until(() => client.isClosed, 4000)));
    } finally {
      clearInterval(dripping);
    }
    expect(at).toBeLessThan(CONNECT.length);
    expect([mute, drip, half].flatMap(({ packets }) => packets)).toEqual([]);
    expect(own.engine.metrics.get("connections.closed.connect_timeout")).toBe(3);
    await wellBehaved.ping();
  });

  test("a client that falls silent is closed by its keep-alive and its will goes out", async () => {
    await using own = await startInProcess();
    const watcher = await own.harness.connect();
    await watcher.subscribe("wills/#");
    const will = { topic: "wills/a", payload: "gone", qos: 0, retain: false };
    const silent = await own.harness.connect({ keepAliveSec: 1, will });
    await silent.expect("disconnect", { reasonCode: 0x8d }, 4000);
    await silent.expectClosed();
    await watcher.expect("publish", { topic: "wills/a", payload: "gone" });
    expect(own.engine.metrics.get("connections.closed.keep_alive")).toBe(1);
  });

  test("a client that only closes its sending half is closed, and its will goes out", async () => {
    await using own = await startInProcess();
    const watcher = await own.harness.connect();
    await watcher.subscribe("wills/#");
    using half = await FlowClient.open(own.port, { isHalfOpen: true });
    const will = { topic: "wills/a", payload: "gone", qos: 0, retain: false };
    half.send({ type: "connect", clientId: "half", will });
    await half.until(() => half.packets.length > 0);
    half.endWriting();
    await watcher.expect("publish", { topic: "wills/a", payload: "gone" });
    await half.until(() => half.isEnded);
    expect(own.engine.sessions.find(Buffer.from("half"))).toBe(-1);
  });

  test.skipIf(level === "fast")("a client that does not close after the broker did makes room in the end", async () => {
    await using own = await startInProcess([], { connectionsMax: 1 });
    using half = await FlowClient.connect(own.port, { clientId: "half", isHalfOpen: true });
    half.send(hex("f0 00"));
    await half.until(() => half.isEnded);
    const deadlineMs = performance.now() + 10_000;
    const isLetIn = () => FlowClient.connect(own.port, { clientId: "next" }).then(Boolean, () => false);
    while (!(await isLetIn()) && performance.now() < deadlineMs) await Bun.sleep(200);
    expect(own.engine.sessions.find(Buffer.from("next"))).not.toBe(-1);
  });

  test("a link whose peer takes nothing for send.stallSec is closed", async () => {
    await using own = await startInProcess(["send.stallSec=1", "send.linkBytesMax=64KiB"]);
    using reader = await FlowClient.connect(own.port, { clientId: "reader" });
    await reader.subscribe("a", 0);
    reader.pause();
    const writer = await own.harness.connect({ version: 4 });
    const payload = Buffer.alloc(500_000);
    while (own.connectionOf("reader").isWritable) {
      await writer.publish("a", payload);
      await writer.ping();
    }
    await eventually(() => own.engine.metrics.get("connections.closed.stalled") === 1);
    expect(own.engine.sessions.find(Buffer.from("reader"))).toBe(-1);
    await writer.ping();
  });
});

describe("a packet over the maximum", () => {
  test("is refused as soon as its header is there, in one read or byte by byte", async () => {
    await using own = await startInProcess();
    for (const pieces of [[HUGE_HEADER], Array.from(HUGE_HEADER, (byte) => Uint8Array.of(byte))]) {
      const v5 = await own.harness.connect({ version: 5 });
      const v4 = await own.harness.connect({ version: 4 });
      const unknown = await own.harness.open();
      for (const piece of pieces) {
        for (const client of [v5, v4, unknown]) client.send(piece);
        await v4.expectNothing(pieces.length > 1 ? 5 : 0).catch(() => {}); // lets each byte leave on its own
      }
      await v5.expectDisconnect(0x95);
      await v4.expectClosed();
      await unknown.expectClosed();
    }
    expect(own.engine.metrics.get("bugs")).toBe(0);
  });

  test.skipIf(!isLinux)("neither it nor an announced big one takes memory (Linux: reads VmRSS)", async () => {
    await using broker = await startBroker();
    const connect = encodePacket({ type: "connect", clientId: "" }, 4);
    const round = async (header: Uint8Array, count: number): Promise<FlowClient[]> => {
      const clients = await Promise.all(Array.from({ length: count }, () => FlowClient.open(broker.port)));
      for (const client of clients) client.send(Buffer.concat([connect, header]));
      await Promise.all(clients.map((client) => client.until(() => client.packets.length > 0)));
      return clients;
    };
    for (const client of await round(hex("c0 00"), 200)) client.kill(); // the process has its working size
    const before = rssBytes(broker.pid);
    const over = await round(HUGE_HEADER, 100);
    await Promise.all(over.map((client) => client.until(() => client.isClosed)));
    const announced = await round(hex("30 c0 84 3d 00"), 100); // 1,000,000 bytes, of which one is sent: allowed
    expect(announced.some(({ isClosed }) => isClosed)).toBe(false);
    expect(rssBytes(broker.pid) - before).toBeLessThan(30 * MIB);
    for (const client of announced) client.kill();
  });
});

describe("floods", () => {
  test("of CONNECT: each is answered or gone, and others are served", async () => {
    await using own = await startInProcess();
    const other = await own.harness.connect();
    const count = rounds(1000, 3000, 20_000);
    for (let done = 0; done < count; done += 100) {
      const clients = await Promise.all(Array.from({ length: 100 }, () => FlowClient.open(own.port)));
      for (const [i, client] of clients.entries()) {
        client.send({ type: "connect", clientId: `c${done + i}` });
        if (i % 3 === 0) client.kill(); // without waiting for CONNACK
      }
      const waiting = clients.filter((_, i) => i % 3 !== 0);
      await Promise.all(waiting.map((client) => client.until(() => client.packets.length === 1)));
      for (const client of waiting) client.kill();
      await other.ping();
    }
    const { metrics, sessions } = own.engine;
    await eventually(() => metrics.get("connections.opened") - metrics.get("connections.closed") === 1);
    expect(sessions.count).toBe(1);
    expect(metrics.get("bugs")).toBe(0);
  });

  test("of one client id: one holds it, the others are told", async () => {
    await using own = await startInProcess();
    const clients = await Promise.all(Array.from({ length: 50 }, () => own.harness.open()));
    for (const client of clients) client.send({ type: "connect", clientId: "same" });
    await eventually(() => own.engine.metrics.get("connections.closed.taken_over") === 49);
    await eventually(() => clients.filter(({ isClosed }) => isClosed).length === 49);
    const [owner] = clients.filter(({ isClosed }) => !isClosed);
    await owner.ping();
  });

  test("of random bytes: thousands of connections end, the process does not", async () => {
    const seed = 20_260_101;
    const random = new Random(seed);
    await using broker = await startBroker(["--set", "log.format=json", "--set", "mqtt.connectTimeoutSec=1"]);
    const harness = harnessOf(tcpTarget(broker.url));
    const other = await harness.connect();
    const count = rounds(5000, 10_000, 50_000);
    for (let done = 0; done < count; done += 250) {
      const clients = await Promise.all(
        Array.from({ length: 250 }, () => FlowClient.open(broker.port, { isDeaf: true })),
      );
      for (const client of clients) client.send(garbage(random));
      await other.ping();
      for (const client of clients) client.kill();
    }
    await other.ping();
    await harness.stop();
    await broker.stop();
    const bugs = broker
      .output()
      .split("\n")
      .filter((line) => line.includes("bug"));
    expect({ seed, bugs }).toEqual({ seed, bugs: [] });
  });
});

/** A third is noise, a third a CONNECT with a few bytes changed, a third noise after a good CONNECT. */
function garbage(random: Random): Buffer {
  const noise = Buffer.from(Array.from({ length: 1 + random.below(200) }, () => random.below(256)));
  const kind = random.below(3);
  if (kind === 0) return noise;
  const connect = Buffer.from(encodePacket({ type: "connect", clientId: `g${random.below(1000)}` }, 4));
  if (kind === 2) return Buffer.concat([connect, noise]);
  for (let i = 0; i < 3; i++) connect[random.below(connect.length)] = random.below(256);
  return connect;
}
