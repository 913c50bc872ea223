// What happens between a fast publisher and a subscriber that reads slowly, or not at all, through real sockets.

import { describe, expect, test } from "bun:test";
import { Random } from "#base/random.ts";
import { startBroker } from "#test/support/broker-process.ts";
import { harnessOf, tcpTarget } from "#test/support/harness.ts";
import { rounds } from "#test/support/level.ts";
import { encodePacket, type PacketOf } from "#test/support/packets.ts";
import { startInProcess } from "./broker-in-process.ts";
import { eventually, FlowClient } from "./flow-client.ts";
import { isLinux, rssBytes, shrinkKernelBuffers } from "./process-facts.ts";

const KIB = 1024;
const MIB = 1024 * KIB;
/** On top of twice the mark, which is looked at when a buffer doubles: the last packets of the tick. */
const SLACK_BYTES = 64 * KIB;

function numbered(index: number, size: number): Buffer {
  const payload = Buffer.alloc(size, index);
  payload.writeUInt32BE(index);
  return payload;
}

function numberOf({ payload }: PacketOf<"publish">): number {
  return Buffer.from(payload).readUInt32BE();
}

function isIntact(publish: PacketOf<"publish">, size: number): boolean {
  return Buffer.from(publish.payload).equals(numbered(numberOf(publish), size));
}

describe("QoS 0 to a subscriber that does not read", () => {
  const size = 4000;
  const count = 4000;

  test("is dropped beyond the mark and counted; what comes later is intact and in order", async () => {
    await using own = await startInProcess(["send.linkBytesMax=128KiB"]);
    const { engine, port } = own;
    using reader = await FlowClient.connect(port, { clientId: "reader" });
    await reader.subscribe("a", 0);
    if (isLinux) shrinkBoth(reader, own.connectionOf("reader")); // else each growth of the kernel's buffers hides a mark that is not kept
    reader.pause();
    using writer = await FlowClient.connect(port, { clientId: "writer" });
    const { link } = own.connectionOf("reader");
    let unsentBytesMax = 0;
    for (let i = 0; i < count; i++) {
      writer.send({ type: "publish", topic: "a", payload: numbered(i, size) });
      if (i % 10 !== 9) continue;
      writer.send({ type: "pingreq" });
      const answers = writer.packets.length + 1;
      await writer.until(() => writer.packets.length === answers);
      unsentBytesMax = Math.max(unsentBytesMax, link.unsentBytes);
    }
    const dropped = engine.metrics.get("messages.dropped.slow_subscriber");
    expect(dropped).toBeGreaterThan(0);
    expect(dropped + engine.metrics.get("messages.qos0.sent")).toBe(count);
    expect(unsentBytesMax).toBeLessThan(2 * 128 * KIB + 10 * size + SLACK_BYTES);

    reader.resume();
    await reader.until(() => reader.packets.length === count - dropped);
    await eventually(() => own.connectionOf("reader").isWritable);
    const numbers = reader.publishes().map(numberOf);
    expect(numbers).toEqual([...new Set(numbers)].sort((a, b) => a - b));
    expect(reader.publishes().every((publish) => isIntact(publish, size))).toBe(true);

    reader.packets.length = 0;
    for (let i = 0; i < 10; i++) writer.send({ type: "publish", topic: "a", payload: numbered(count + i, size) });
    await reader.until(() => reader.packets.length === 10);
    expect(reader.publishes().map(numberOf)).toEqual(Array.from({ length: 10 }, (_, i) => count + i));
    expect(engine.metrics.get("messages.dropped.slow_subscriber")).toBe(dropped);
  });

  const floodBytes = rounds(200, 400, 2000) * MIB;
  test.skipIf(!isLinux)("does not grow the process, and others are served meanwhile (Linux: reads VmRSS)", async () => {
    await using broker = await startBroker(["--set", "send.linkBytesMax=256KiB"]);
    using reader = await FlowClient.connect(broker.port, { clientId: "reader" });
    await reader.subscribe("a", 0);
    shrinkKernelBuffers(reader.fd);
    reader.pause();
    using writer = await FlowClient.connect(broker.port, { clientId: "writer" });
    const harness = harnessOf(tcpTarget(broker.url));
    const other = await harness.connect();
    await other.subscribe("b");
    const burst = Buffer.concat(
      Array.from({ length: 32 }, () =>
        encodePacket({ type: "publish", topic: "a", payload: Buffer.alloc(4 * KIB) }, 4),
      ),
    );
    writer.send(burst);
    await writer.sent();
    const before = rssBytes(broker.pid);
    let growth = 0;
    for (let sentBytes = 0; sentBytes < floodBytes; sentBytes += burst.length) {
      writer.send(burst);
      await writer.sent();
      if (sentBytes % (80 * burst.length) !== 0) continue;
      await other.publish("b", "hello");
      await other.expect("publish", { topic: "b", payload: "hello" }, 5000);
      growth = Math.max(growth, rssBytes(broker.pid) - before);
    }
    expect(growth).toBeLessThan(120 * MIB); // chunks of half a megabyte wait for the collector
    await harness.stop();
  });
});

describe("QoS 1 to a subscriber that does not read", () => {
  const size = 1000;
  const count = 3000;

  test.skipIf(!isLinux)(
    "waits in the outbox and arrives complete and in order (Linux: shrinks kernel buffers)",
    async () => {
      await using own = await startInProcess(["send.linkBytesMax=64KiB"]);
      using reader = await FlowClient.connect(own.port, { clientId: "reader" });
      await reader.subscribe("a", 1);
      const connection = own.connectionOf("reader");
      shrinkBoth(reader, connection);
      reader.pause();
      const writer = await own.harness.connect({ version: 4 });
      for (let i = 0; i < count; i++) {
        writer.send({ type: "publish", qos: 1, packetId: i + 1, topic: "a", payload: numbered(i, size) });
        if (i % 100 === 99) await writer.take("puback", i + 1);
      }
      const { engine } = own;
      const queue = engine.sessions.queueOf(engine.sessions.find(Buffer.from("reader")))!;
      expect(connection.isWritable).toBe(false);
      expect(connection.link.unsentBytes).toBeLessThan(2 * 64 * KIB + 100 * size + SLACK_BYTES);
      expect(queue.outbox.count).toBeGreaterThan(count / 2);

      reader.autoAck = true;
      reader.resume();
      await reader.until(() => reader.packets.length === count);
      expect(reader.publishes().map(numberOf)).toEqual(Array.from({ length: count }, (_, i) => i));
      expect(reader.publishes().every((publish) => isIntact(publish, size) && !publish.dup)).toBe(true);
      await eventually(() => queue.inflight.count === 0);
      expect(queue.outbox.count).toBe(0);
      expect(connection.link.unsentBytes).toBe(0);
    },
  );
});

describe("the bytes", () => {
  const totalBytes = rounds(20, 20, 60) * MIB;
  test.each([0, 1])("of random payloads at QoS %d are exact through small kernel buffers", async (qos) => {
    const seed = 20_260_101 + qos;
    const random = new Random(seed);
    await using own = await startInProcess(["send.linkBytesMax=256MiB"]);
    using reader = await FlowClient.connect(own.port, { clientId: "reader" });
    await reader.subscribe("a", qos);
    reader.autoAck = true;
    if (isLinux) shrinkBoth(reader, own.connectionOf("reader"));
    using writer = await FlowClient.connect(own.port, { clientId: "writer" });
    const hashes: unknown[] = [];
    for (let left = totalBytes; left > 0;) {
      const payload = randomBytes(random, 1 + random.below(random.below(8) === 0 ? 700_000 : 5000));
      left -= payload.length;
      hashes.push(Bun.hash(payload));
      const packetId = qos === 0 ? {} : { packetId: ((hashes.length - 1) % 65_535) + 1 };
      writer.send({ type: "publish", qos, topic: "a", payload, ...packetId });
      if (random.below(20) === 0) reader.pause();
      if (random.below(4) === 0) await Bun.sleep(0);
      reader.resume();
    }
    const got = () => reader.publishes().length;
    await reader.until(() => got() === hashes.length, rounds(20_000, 60_000, 60_000));
    const wrong = reader.publishes().findIndex(({ payload }, i) => Bun.hash(payload) !== hashes[i]);
    expect({ seed, wrong }).toEqual({ seed, wrong: -1 });
  });
});

describe("writes", () => {
  test("a burst of 100 messages costs few writes to the subscriber, and so do their acknowledgements", async () => {
    await using own = await startInProcess();
    using reader = await FlowClient.connect(own.port, { clientId: "reader" });
    await reader.subscribe("a/#", 0);
    using writer = await FlowClient.connect(own.port, { clientId: "writer" });
    const toReader = countWrites(own.connectionOf("reader"));
    const toWriter = countWrites(own.connectionOf("writer"));
    const readCount = reader.readCount;
    const packets = Array.from({ length: 100 }, (_, i) =>
      encodePacket({ type: "publish", qos: 1, packetId: i + 1, topic: `a/${i}`, payload: `message ${i}` }, 4),
    );
    writer.send(Buffer.concat(packets));
    await reader.until(() => reader.packets.length === 100);
    await writer.until(() => writer.packets.length === 100);
    // one if the burst comes in one read, as it does on loopback; a burst cut in two or three is still no fault
    expect(toReader()).toBeLessThanOrEqual(3);
    expect(toWriter()).toBeLessThanOrEqual(3);
    expect(reader.readCount - readCount).toBeLessThanOrEqual(3);
  });

  test("a single message to an idle broker is answered", async () => {
    await using broker = await startBroker();
    const harness = harnessOf(tcpTarget(broker.url));
    const client = await harness.connect();
    await client.subscribe("a", 2);
    for (const qos of [0, 1, 2]) {
      await Bun.sleep(100); // idle
      await client.publish("a", "hello", { qos });
      await client.ack(await client.expect("publish", { topic: "a", payload: "hello", qos }));
    }
    await harness.stop();
  });
});

/** The transport's own socket, which nothing but this test may know. */
interface Inside {
  link: { socket: { fd: number; write(...args: unknown[]): number } };
}

function shrinkBoth(client: FlowClient, connection: object): void {
  shrinkKernelBuffers(client.fd);
  shrinkKernelBuffers((connection as Inside).link.socket.fd);
}

/** From now on; asks how many. */
function countWrites(connection: object): () => number {
  const { link } = connection as Inside;
  const { socket } = link;
  let count = 0;
  const counting = {
    write(...args: unknown[]) {
      count++;
      return socket.write(...args);
    },
  };
  link.socket = Object.setPrototypeOf(counting, null);
  const others = ["shutdown", "terminate", "pause", "resume"] as const;
  for (const name of others)
    Object.assign(counting, { [name]: () => (socket as unknown as Record<string, () => void>)[name]() });
  return () => count;
}

function randomBytes(random: Random, size: number): Buffer {
  const bytes = Buffer.alloc(size);
  for (let i = 0; i + 4 <= size; i += 4) bytes.writeInt32LE(random.next(), i);
  return bytes;
}
