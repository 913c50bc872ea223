// What an operator sees of a running broker, with real sockets behind it.

import { expect, setDefaultTimeout, test } from "bun:test";
import { encodePacket } from "#test/support/packets.ts";
import { startInProcess } from "./broker-in-process.ts";
import { eventually, FlowClient } from "./flow-client.ts";
import { isLinux, shrinkKernelBuffers } from "./process-facts.ts";

setDefaultTimeout(60_000);

test.skipIf(!isLinux)("a subscriber that does not read is named with what waits for it, and for how long", async () => {
  await using own = await startInProcess();
  const { slow } = own.broker.observation;
  using reader = await FlowClient.connect(own.port, { clientId: "sluggish" });
  await reader.subscribe("a", 0);
  shrinkKernelBuffers(reader.fd);
  reader.pause();
  using writer = await FlowClient.connect(own.port, { clientId: "writer" });
  for (let i = 0; i < 2000; i++) writer.send({ type: "publish", topic: "a", payload: Buffer.alloc(4000) });
  await eventually(() => slow.top().length > 0);
  const [worst] = slow.top("time");
  expect(worst).toMatchObject({ clientId: "sluggish", address: "127.0.0.1", listener: "tcp" });
  expect(worst!.unsentBytesMax).toBeGreaterThan(1_000_000);
  expect(worst!.blockedMsMax).toBeGreaterThan(500);
  expect(slow.top("bytes", 0)).toEqual([]);
});

test("an alarm reaches the table and the log, and is taken back", async () => {
  await using own = await startInProcess(["alarms.queueHighPercent=50", "session.outboxCountMax=4"]);
  const { alarms } = own.broker.observation;
  const away = await own.harness.connect({ clientId: "away", version: 4, cleanStart: false });
  await away.subscribe("t", 1);
  away.kill();
  const writer = await own.harness.connect({ clientId: "writer", version: 4 });
  for (let i = 0; i < 3; i++) await writer.publish("t", "x", { qos: 1 });
  await eventually(() => alarms.isActive("queue_high_watermark.away"));
  expect(own.log).toContainEqual(
    expect.objectContaining({ level: "warn", id: "queue_high_watermark.away", severity: "warning" }),
  );
  await own.harness.connect({ clientId: "away", version: 4, cleanStart: true });
  await eventually(() => alarms.history.some(({ id }) => id === "queue_high_watermark.away"));
  expect(own.log.some(({ msg }) => msg.startsWith("alarm over"))).toBe(true);
});

test("a trace is read through the operations, and over by its name", async () => {
  await using own = await startInProcess();
  const { control } = own.broker;
  const { name } = await control("traces.start", { kind: "topic", value: "a/#", payload: "text" });
  const client = await own.harness.connect({ clientId: "c", version: 4 });
  await client.publish("a/1", "hello", { qos: 1 });
  const { events } = await control("traces.read", { name });
  expect(events.map(({ direction, type, topic }) => [direction, type, topic])).toEqual([
    ["in", "PUBLISH", "a/1"],
    ["note", "dropped", "a/1"],
  ]);
  expect(await control("traces.list", {})).toMatchObject([{ name: "topic a/#", eventCount: 2, lostCount: 0 }]);
  expect(await control("traces.stop", { name })).toEqual({ count: 1 });
  expect(control("traces.stop", { name })).rejects.toThrow("found no");
  expect(control("traces.start", { kind: "topic", value: "#/a" })).rejects.toThrow("allowed: a topic filter");
  expect(await control("recon.memory", { limit: 1 })).toMatchObject({ processes: [{ pid: process.pid, queues: [] }] });
  expect(await control("slow.list", {})).toEqual([]);
});

test("what is logged of a CONNECT that breaks the protocol ends before its secrets", async () => {
  await using own = await startInProcess();
  const connect = Buffer.from(
    encodePacket({ type: "connect", clientId: "c", username: "u", password: Buffer.from("SECRET") }, 4),
  );
  using client = await FlowClient.connect(own.port, { clientId: "c" });
  client.send(connect); // once more, which is a fault
  await eventually(() => own.log.some(({ packet }) => typeof packet === "string"));
  const { packet } = own.log.find((record) => typeof record["packet"] === "string")!;
  expect(packet).toBe(connect.toString("hex", 0, 12));
  expect(JSON.stringify(own.log)).not.toContain(Buffer.from("SECRET").toString("hex"));
});

test("every message that is sent is in the histogram of delivery times, and one that waited in that of queues", async () => {
  await using own = await startInProcess();
  const read = () => own.broker.control("histograms.read", {});
  using reader = await FlowClient.open(own.port, { version: 5 });
  reader.send({ type: "connect", clientId: "reader", properties: [["receiveMaximum", 1]] });
  reader.send({ type: "subscribe", packetId: 1, subscriptions: [{ filter: "a/+", qos: 1 }] });
  await reader.until(() => reader.packets.some(({ type }) => type === "suback"));
  using writer = await FlowClient.connect(own.port, { clientId: "writer" });
  await Bun.sleep(100); // until the next message that waits is wanted
  writer.send({ type: "publish", topic: "a/0", qos: 1, packetId: 1 });
  await reader.until(() => reader.publishes().length === 1);
  expect(await read()).toMatchObject({ deliveryMs: { count: 1 }, queueMs: { count: 0 } });
  writer.send({ type: "publish", topic: "a/1", qos: 1, packetId: 2 });
  await Bun.sleep(80);
  const [first] = reader.publishes();
  reader.send({ type: "puback", packetId: first!.packetId! });
  await reader.until(() => reader.publishes().length === 2);
  const { deliveryMs, queueMs } = await read();
  expect([deliveryMs.count, queueMs.count]).toEqual([2, 1]);
  expect(deliveryMs.sum).toBeGreaterThan(0);
  expect(queueMs.sum).toBeGreaterThan(70);
  expect(queueMs.counts.reduce((sum, count) => sum + count, 0)).toBe(1);
});

test("what was followed and is gone is not taken for the message that has its number next", async () => {
  await using own = await startInProcess();
  const { messages } = own.engine;
  const others = messages.count;
  const open = async (): Promise<FlowClient> => {
    const reader = await FlowClient.open(own.port, { version: 5 });
    reader.send({ type: "connect", clientId: "reader", properties: [["receiveMaximum", 1]] });
    reader.send({ type: "subscribe", packetId: 1, subscriptions: [{ filter: "a", qos: 1 }] });
    await reader.until(() => reader.packets.some(({ type }) => type === "suback"));
    return reader;
  };
  using reader = await open();
  using writer = await FlowClient.connect(own.port, { clientId: "writer" });
  await Bun.sleep(100);
  for (const packetId of [1, 2]) writer.send({ type: "publish", topic: "a", qos: 1, packetId });
  await eventually(() => messages.followed >= 0);
  const followed = messages.followed;
  reader.kill(); // a clean session: its messages go with it
  await eventually(() => messages.count === others);
  using _other = await open();
  writer.send({ type: "publish", topic: "a", qos: 1, packetId: 3 });
  writer.send({ type: "publish", topic: "a", qos: 1, packetId: 4 });
  await eventually(() => messages.count === others + 2 && messages.followed !== followed);
  expect((await own.broker.control("histograms.read", {})).queueMs.count).toBe(0);
});
