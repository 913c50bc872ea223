// A real broker driven to its marks and back: who is refused, dropped, slowed, paused, that it is counted, and that all is well afterwards.

import { describe, expect, test } from "bun:test";
import { loadConfig } from "#broker/config.ts";
import { encodePacket } from "#test/support/packets.ts";
import { StreamClient, WebSocketClient } from "#test/unit/transport/clients.ts";
import { type BrokerInProcess, startInProcess } from "./broker-in-process.ts";
import { eventually, FlowClient } from "./flow-client.ts";

const CALM = { lagMsMax: 600_000, memoryBytesMax: 1024 ** 5 };
const CROWDED = { lagMsMax: 600_000, memoryBytesMax: 1 };

async function fill({ broker }: BrokerInProcess): Promise<void> {
  broker.load.marks = CROWDED;
  await eventually(() => broker.load.cause === "memory");
}

async function relax({ broker }: BrokerInProcess): Promise<void> {
  broker.load.marks = CALM;
  await eventually(() => broker.load.cause === undefined);
}

const quiet = [`broker.lagMsMax=${CALM.lagMsMax}`, `broker.memoryBytesMax=${CALM.memoryBytesMax}`];

describe("beyond the mark of memory", () => {
  test("new clients are told, QoS 0 is dropped, QoS 1 is served slowly; below it all is as before", async () => {
    await using own = await startInProcess(quiet);
    const { metrics } = own.engine;
    const subscriber = await own.harness.connect({ version: 5 });
    await subscriber.subscribe("a", 1);
    const publisher = await own.harness.connect({ version: 5 });

    await fill(own);
    const late = await own.harness.open(5);
    late.send({ type: "connect", clientId: "late" });
    await late.expect("connack", { reasonCode: 0x89 });
    const old = await own.harness.open(4);
    old.send({ type: "connect", clientId: "old" });
    await old.expect("connack", { reasonCode: 3 });
    publisher.send({ type: "publish", topic: "a", payload: "lost", qos: 0 });
    for (let packetId = 1; packetId <= 20; packetId++)
      publisher.send({ type: "publish", topic: "a", payload: String(packetId), qos: 1, packetId });
    for (let packetId = 1; packetId <= 20; packetId++) {
      await publisher.expect("puback", { packetId });
      const publish = await subscriber.expect("publish", { payload: String(packetId), qos: 1 });
      await subscriber.ack(publish);
    }
    await publisher.ping();
    expect(metrics.get("connections.refused.busy")).toBe(2);
    expect(metrics.get("messages.dropped.overloaded")).toBe(1);
    expect(metrics.get("messages.slowed.busy")).toBe(20);
    expect(own.log.filter(({ msg }) => msg.startsWith("busy"))).toMatchObject([{ level: "warn", cause: "memory" }]);

    await relax(own);
    const next = await own.harness.connect({ version: 5 });
    await next.publish("a", "hello");
    await subscriber.expect("publish", { payload: "hello", qos: 0 });
    expect(metrics.get("messages.dropped.overloaded")).toBe(1);
    expect(own.log.map(({ msg }) => msg)).toContain("no longer busy");
  });

  test("a flood of QoS 0 is not read for a while at a time, every message is counted, and none is lost afterwards", async () => {
    await using own = await startInProcess(quiet);
    const { metrics } = own.engine;
    const subscriber = await FlowClient.connect(own.port, { clientId: "subscriber" });
    await subscriber.subscribe("a", 0);
    using flood = await FlowClient.connect(own.port, { clientId: "flood" });
    const message = encodePacket({ type: "publish", topic: "a", payload: Buffer.alloc(100) }, 4);
    const send = (count: number): void => flood.send(Buffer.concat(Array.from({ length: count }, () => message)));

    await fill(own);
    send(2000);
    await eventually(() => metrics.get("messages.qos0.received") === 2000);
    expect(metrics.get("connections.paused.busy")).toBeGreaterThan(0);
    expect(metrics.get("messages.dropped.overloaded")).toBe(2000);
    await relax(own);
    send(1000);
    await subscriber.until(() => subscriber.packets.length === 1000);
    expect(metrics.get("messages.dropped.overloaded")).toBe(2000);
    subscriber.kill();
  });

  test("the marks are read again with the configuration", async () => {
    await using own = await startInProcess(quiet);
    own.broker.load.marks = CROWDED;
    expect(await own.broker.control("config.reload", {})).toEqual({ changed: [], waiting: [], failed: [] });
    expect(own.broker.load.marks).toMatchObject(CALM);
  });
});

describe("beyond the mark of lag", () => {
  test("the same holds for a second", async () => {
    await using own = await startInProcess(["broker.lagMsMax=200", `broker.memoryBytesMax=${CALM.memoryBytesMax}`]);
    const { metrics } = own.engine;
    const client = await own.harness.connect({ version: 5 });
    await client.subscribe("a");
    await eventually(() => own.broker.load.memoryBytes > 0); // the clock has ticked
    Bun.sleepSync(600);
    await eventually(() => own.broker.load.cause === "lag");
    client.send({ type: "publish", topic: "a", payload: "lost", qos: 0 });
    await client.ping();
    expect(metrics.get("messages.dropped.overloaded")).toBe(1);
    await eventually(() => own.broker.load.cause === undefined);
    await client.publish("a", "hello");
    await client.expect("publish", { payload: "hello" });
  });
});

describe("a message rate", () => {
  test("slows a client down over its socket, and nothing is lost", async () => {
    await using own = await startInProcess(quiet, { messageRate: 500, messageBurst: 100 });
    const { metrics } = own.engine;
    const subscriber = await FlowClient.connect(own.port, { clientId: "subscriber" });
    await subscriber.subscribe("a", 0);
    using publisher = await FlowClient.connect(own.port, { clientId: "publisher" });
    const startMs = performance.now();
    const packets = Array.from({ length: 600 }, (_, i) =>
      encodePacket({ type: "publish", topic: "a", payload: String(i) }, 4),
    );
    publisher.send(Buffer.concat(packets));
    await subscriber.until(() => subscriber.packets.length === 600);
    expect(performance.now() - startMs).toBeGreaterThan(900); // 500 of them beyond the burst
    const numbers = subscriber.publishes().map(({ payload }) => Number(Buffer.from(payload).toString()));
    expect(numbers).toEqual(Array.from({ length: 600 }, (_, i) => i));
    expect(metrics.get("connections.paused.message_rate")).toBeGreaterThan(0);
    subscriber.kill();
  });
});

describe("over WebSocket", () => {
  test("a busy broker refuses the upgrade", async () => {
    await using own = await startInProcess(quiet);
    const { config } = loadConfig({ flags: { listen: ["ws://127.0.0.1:0"] }, env: {}, cwd: "/" });
    await own.broker.applyListeners(config.listeners);
    await fill(own);
    const port = Number(new URL(own.broker.addresses[0]!).port);
    const client = await WebSocketClient.connect(await StreamClient.connect({ host: "127.0.0.1", port }));
    expect(client.status).toBe("503");
    expect(own.engine.metrics.get("connections.refused.busy")).toBe(1);
  });
});
