/**
 * What every kind of link does. A fixture opens a link and hands out both of its ends; MQTT bytes must not care what lies
 * between them.
 */
import { expect, test } from "bun:test";
import { Random } from "#base/random.ts";
import type { ByteClient } from "#test/unit/transport/clients.ts";
import type { Listening, Recorder } from "#test/unit/transport/listening.ts";
import { until } from "#test/unit/transport/until.ts";

export interface Ends extends AsyncDisposable {
  readonly client: ByteClient;
  readonly protocol: Recorder;
  readonly listening: Listening;
}

const MIB = 1024 * 1024;

function pattern(size: number, seed: number): Buffer {
  const random = new Random(seed);
  const bytes = Buffer.alloc(size);
  for (let i = 0; i + 4 <= size; i += 4) bytes.writeInt32LE(random.next() | 0, i);
  return bytes;
}

export function linkContract(kind: string, open: () => Promise<Ends>): void {
  const check = (title: string, body: (ends: Ends) => Promise<void>): void =>
    test(`${kind}: ${title}`, async () => {
      await using ends = await open();
      await body(ends);
      expect(ends.listening.bugs).toEqual([]);
    });

  check("what the client sends comes in order, however it is cut", async ({ client, protocol }) => {
    const sent = pattern(300_000, 1);
    let at = 0;
    for (const size of [1, 2, 125, 126, 127, 65_535, 65_536, 100_000]) client.send(sent.subarray(at, (at += size)));
    client.send(sent.subarray(at));
    await until(() => protocol.length === sent.length);
    expect(protocol.bytes.equals(sent)).toBe(true);
  });

  check("what is written in one tick comes in order", async ({ client, protocol }) => {
    const parts = [3, 500, 1, 40_000, 7].map((size, i) => pattern(size, i + 1));
    for (const part of parts) protocol.write(part);
    const all = Buffer.concat(parts);
    await until(() => client.length === all.length);
    expect(client.bytes.equals(all)).toBe(true);
    expect(protocol.link.unsentBytes).toBe(0);
  });

  check("large and small writes keep their order through a client that stops reading", async ({ client, protocol }) => {
    client.pause();
    const large = pattern(6 * MIB, 2);
    const small = pattern(100, 3);
    for (let i = 0; i < 3; i++) {
      protocol.write(small);
      protocol.link.writeLarge(large, 0, large.length);
      protocol.write(small);
    }
    const all = Buffer.concat(Array.from({ length: 3 }, () => [small, large, small]).flat());
    await until(() => protocol.writable.length > 0);
    expect(protocol.writable).toEqual([false]);
    expect(protocol.link.unsentBytes).toBeGreaterThan(256 * 1024);
    client.resume();
    await until(() => client.length === all.length);
    expect(client.bytes.equals(all)).toBe(true);
    await until(() => protocol.writable.length === 2);
    expect(protocol.writable).toEqual([false, true]);
    await until(() => protocol.link.unsentBytes === 0);
    expect(protocol.link.buffer.length).toBe(0); // an idle link owns none
  });

  check("writes tick by tick to a client that stops reading wait for it", async ({ client, protocol }) => {
    client.pause();
    const parts = Array.from({ length: 250 }, (_, i) => pattern(50_000, i));
    for (const part of parts) {
      protocol.write(part);
      await Bun.sleep(0);
    }
    expect(protocol.link.unsentBytes).toBeGreaterThan(0);
    client.resume();
    const all = Buffer.concat(parts);
    await until(() => client.length === all.length);
    expect(client.bytes.equals(all)).toBe(true);
  });

  check("random writes and pauses change no byte", async ({ client, protocol }) => {
    const random = new Random(7);
    const parts: Buffer[] = [];
    for (let i = 0; i < 120; i++) {
      const part = pattern(1 + random.below(random.below(6) === 0 ? 400_000 : 3000), i);
      parts.push(part);
      if (part.length > 100_000) protocol.link.writeLarge(part, 0, part.length);
      else protocol.write(part);
      if (random.below(10) === 0) client.pause();
      if (random.below(5) === 0) await Bun.sleep(0);
      if (random.below(4) === 0) client.resume();
    }
    client.resume();
    const all = Buffer.concat(parts);
    await until(() => client.length === all.length);
    expect(client.bytes.equals(all)).toBe(true);
  });

  check("both directions at once", async ({ client, protocol }) => {
    protocol.onData = (chunk) => protocol.write(chunk);
    const sent = pattern(2 * MIB, 4);
    for (let at = 0; at < sent.length; at += 50_000) client.send(sent.subarray(at, at + 50_000));
    await until(() => client.length === sent.length);
    expect(client.bytes.equals(sent)).toBe(true);
  });

  check("end sends what is unsent, then closes; the protocol hears it once", async ({ client, protocol }) => {
    client.pause();
    const large = pattern(8 * MIB, 5);
    protocol.write(large);
    protocol.link.end();
    protocol.link.end();
    await Bun.sleep(0);
    client.resume();
    await until(() => client.isClosed);
    expect(client.length).toBe(large.length);
    expect(client.bytes.equals(large)).toBe(true);
    client.end();
    await until(() => protocol.closeCount > 0);
    expect(protocol.closeCount).toBe(1);
  });

  check("what comes after end is not handed on", async ({ client, protocol }) => {
    client.send(Buffer.from("a"));
    await until(() => protocol.length === 1);
    client.pause();
    protocol.write(pattern(8 * MIB, 6));
    protocol.link.end();
    client.send(Buffer.from("b"));
    client.resume();
    await until(() => client.isClosed);
    expect(protocol.bytes.toString()).toBe("a");
  });

  check("destroy closes at once; writing and pausing afterwards do nothing", async ({ client, protocol }) => {
    client.pause();
    protocol.write(pattern(8 * MIB, 7));
    await Bun.sleep(0);
    protocol.link.destroy();
    await until(() => protocol.closeCount === 1);
    protocol.link.destroy();
    protocol.link.pause();
    protocol.link.resume();
    protocol.write(Buffer.from("x"));
    protocol.link.writeLarge(Buffer.from("x"), 0, 1);
    client.resume();
    await until(() => client.isClosed);
    expect(protocol.closeCount).toBe(1);
  });

  check("a client that closes is heard of once, after what it said", async ({ client, protocol, listening }) => {
    client.send(Buffer.from("bye"));
    client.end();
    await until(() => protocol.closeCount > 0);
    expect(protocol.bytes.toString()).toBe("bye");
    expect(protocol.closeCount).toBe(1);
    await until(() => listening.listener.connectionCount === 0);
    expect(listening.transport.connectionCount).toBe(0);
  });

  check("a client that cuts is heard of once", async ({ client, protocol }) => {
    client.destroy();
    await until(() => protocol.closeCount > 0);
    expect(protocol.closeCount).toBe(1);
  });

  check("a paused link does not read, and loses nothing", async ({ client, protocol }) => {
    client.send(Buffer.from("a"));
    await until(() => protocol.length === 1);
    protocol.link.pause();
    const sent = pattern(200_000, 8);
    client.send(sent);
    await Bun.sleep(30);
    expect(protocol.length).toBe(1);
    protocol.link.resume();
    await until(() => protocol.length === sent.length + 1);
    expect(protocol.bytes.subarray(1).equals(sent)).toBe(true);
  });

  check("a client that reads nothing is cut", async ({ client, protocol, listening }) => {
    client.pause();
    protocol.write(pattern(12 * MIB, 9));
    await until(() => protocol.link.unsentBytes > 0 && listening.transport.watched.size === 1);
    listening.transport.sweep(1);
    listening.transport.sweep(900);
    expect(protocol.closeCount).toBe(0);
    listening.transport.sweep(2000);
    await until(() => protocol.closeCount === 1);
    expect(listening.metrics.get("connections.closed.stalled")).toBe(1);
  });

  check("a client that never closes its side after end is cut", async ({ client, protocol, listening }) => {
    client.pause();
    protocol.link.end();
    if (protocol.closeCount === 0) {
      listening.transport.sweep(1);
      listening.transport.sweep(6000);
    }
    await until(() => protocol.closeCount === 1);
    expect(listening.metrics.get("connections.closed.stalled")).toBe(0);
  });
}
