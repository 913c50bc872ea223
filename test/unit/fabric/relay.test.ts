/** Relays over a trunk whose bytes leave in any portions: each stream's bytes arrive exactly and in order, each end once. */
import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import type { Link, Protocol } from "#core/ports.ts";
import { Trunk, WaitingClient } from "#fabric/relay.ts";
import { check } from "#test/support/fuzz.ts";
import { rounds } from "#test/support/level.ts";

/** One end of a trunk: as a socket it keeps what is unsent in one buffer, moves it to its start when it must, and sends any part. */
class TrunkEnd implements Link {
  protocol!: Protocol;
  readonly remoteAddress = "";
  readonly remotePort = 0;
  buffer: Buffer = Buffer.alloc(64);
  isPaused = false;
  isGone = false;
  private start = 0;
  private limit = 0;

  get unsentBytes(): number {
    return this.limit - this.start;
  }

  reserve(size: number): number {
    if (this.limit + size > this.buffer.length) {
      const next = Buffer.alloc((this.unsentBytes + size) * 2);
      this.buffer.copy(next, 0, this.start, this.limit);
      this.buffer = next;
      this.limit -= this.start;
      this.start = 0;
    }
    return this.limit;
  }

  commit(end: number): void {
    this.limit = end;
  }

  writeLarge(bytes: Buffer, start: number, end: number): void {
    const at = this.reserve(end - start);
    bytes.copy(this.buffer, at, start, end);
    this.commit(at + end - start);
  }

  /** The next `count` bytes, which leave. */
  send(count: number): Buffer {
    const end = Math.min(this.limit, this.start + count);
    const bytes = Buffer.from(this.buffer.subarray(this.start, end));
    this.start = end;
    if (this.start === this.limit) this.start = this.limit = 0;
    return bytes;
  }

  end(): void {}
  destroy(): void {}
  pause(): void {
    this.isPaused = true;
  }
  resume(): void {
    this.isPaused = false;
  }
}

/** The client's socket. */
class ClientLink implements Link {
  protocol!: Protocol;
  readonly remoteAddress = "192.0.2.7";
  readonly remotePort = 1234;
  readonly unsentBytes = 0;
  buffer: Buffer = Buffer.alloc(16);
  isPaused = false;
  isEnded = false;
  isClosed = false;
  sentCount = 0;
  readonly got: number[] = [];

  reserve(size: number): number {
    if (size > this.buffer.length) this.buffer = Buffer.alloc(size);
    return 0;
  }
  commit(end: number): void {
    this.writeLarge(this.buffer, 0, end);
  }
  writeLarge(bytes: Buffer, start: number, end: number): void {
    if (this.isEnded) throw new Error("written to after its end");
    this.got.push(...bytes.subarray(start, end));
  }
  end(): void {
    this.isEnded = true;
  }
  destroy(): void {
    this.isEnded = true;
  }
  pause(): void {
    this.isPaused = true;
  }
  resume(): void {
    this.isPaused = false;
  }
}

/** What speaks where the session is. */
class Far implements Protocol {
  closeCount = 0;
  isWritable = true;
  hasEnded = false;
  isPausing = false;
  sentCount = 0;
  readonly got: number[] = [];

  constructor(
    readonly link: Link,
    readonly listener: string,
  ) {}

  handleData(chunk: Buffer): void {
    if (this.closeCount > 0) throw new Error("data after the end");
    this.got.push(...chunk);
  }
  handleWritable(isWritable: boolean): void {
    if (isWritable === this.isWritable) throw new Error("told twice");
    this.isWritable = isWritable;
  }
  handleClose(): void {
    this.closeCount++;
  }
}

/** Bytes that tell where in their stream they stand. */
function bytesFrom(at: number, count: number): Buffer {
  return Buffer.from(Array.from({ length: count }, (_, i) => ((at + i) * 7 + ((at + i) >> 8)) & 0xff));
}

class Pair {
  readonly near = new TrunkEnd();
  readonly away = new TrunkEnd();
  readonly clients: ClientLink[] = [];
  readonly fars: Far[] = [];
  readonly trunk: Trunk;
  goneCount = 0;
  isLost = false;

  constructor() {
    const handleGone = (): void => void this.goneCount++;
    const nobody = (): never => {
      throw new Error("nobody is relayed this way");
    };
    this.trunk = new Trunk(this.near, { makeProtocol: nobody, handleGone });
    this.near.protocol = this.trunk;
    this.away.protocol = new Trunk(this.away, {
      makeProtocol: (link, listener) => {
        const far = new Far(link, listener);
        this.fars.push(far);
        return far;
      },
      handleGone,
    });
  }

  open(): void {
    const client = new ClientLink();
    client.protocol = this.trunk.relay(client, "tcp");
    this.clients.push(client);
  }

  /** `count` bytes of what is under way arrive, in pieces of `size`. */
  move(isUp: boolean, count: number, size: number): void {
    const [from, to] = isUp ? [this.near, this.away] : [this.away, this.near];
    const bytes = from.send(count);
    for (let at = 0; at < bytes.length && !this.isLost; at += size)
      to.protocol.handleData(bytes.subarray(at, at + size));
  }

  closeClient(client: ClientLink): void {
    if (client.isClosed) return;
    client.isClosed = client.isEnded = true;
    client.protocol.handleClose();
  }

  lose(): void {
    if (this.isLost) return;
    this.isLost = true;
    for (const end of [this.near, this.away]) end.protocol.handleClose();
  }

  settle(): void {
    for (let i = 0; i < 4 && !this.isLost; i++) {
      this.move(true, Infinity, 4096);
      this.move(false, Infinity, 4096);
    }
  }
}

type Step = readonly [kind: number, which: number, amount: number, size: number];

const step: fc.Arbitrary<Step> = fc.tuple(fc.nat(19), fc.nat(5), fc.nat(300), fc.integer({ min: 1, max: 90 }));

/** Something happens to a client or what speaks for it; kinds above these move bytes. */
function take(pair: Pair, [kind, which, amount, size]: Step): void {
  if (pair.isLost) return;
  const client = pair.clients[which % Math.max(1, pair.clients.length)];
  const far = pair.fars[which % Math.max(1, pair.fars.length)];
  switch (kind) {
    case 0:
      return pair.clients.length < 5 ? pair.open() : undefined;
    case 1:
      return client && pair.closeClient(client);
    case 2:
    case 3:
    case 4:
      if (!client || client.isEnded || client.isPaused) return;
      client.protocol.handleData(bytesFrom(client.sentCount, amount));
      client.sentCount += amount;
      return;
    case 5:
    case 6:
    case 7:
      return far && sayBack(far, kind === 7 ? amount * 200 : amount);
    case 8:
      return void (client && !client.isEnded && client.protocol.handleWritable(size % 2 === 0));
    case 9:
      if (!far || far.hasEnded || far.closeCount > 0) return;
      far.isPausing = size % 2 === 0;
      return far.isPausing ? far.link.pause() : far.link.resume();
    case 10:
      if (!far || far.closeCount > 0) return;
      far.hasEnded = true;
      return size % 2 === 0 ? far.link.end() : far.link.destroy();
    case 11:
      return (size % 2 === 0 ? pair.near : pair.away).protocol.handleWritable(amount % 2 === 0);
    case 12:
      return which === 0 && amount < 20 ? pair.lose() : undefined;
    default:
      return pair.move(kind < 16, amount * 3, size);
  }
}

function sayBack(far: Far, count: number): void {
  if (far.hasEnded || far.closeCount > 0) return;
  const bytes = bytesFrom(far.sentCount, count);
  far.sentCount += count;
  if (count > 150) return far.link.writeLarge(bytes, 0, count);
  const at = far.link.reserve(count);
  bytes.copy(far.link.buffer, at);
  far.link.commit(at + count);
}

function judge(pair: Pair): void {
  pair.settle();
  for (const end of [pair.near, pair.away]) if (!pair.isLost) end.protocol.handleWritable(true);
  pair.settle();
  pair.clients.forEach((client, i) => {
    const far = pair.fars[i];
    if (!far) {
      if (!pair.isLost) throw new Error("a client has nobody who speaks for it");
      return;
    }
    expect(far.got).toEqual([...bytesFrom(0, far.got.length)]);
    expect(client.got).toEqual([...bytesFrom(0, client.got.length)]);
    if (pair.isLost) return;
    if (!far.hasEnded) expect(far.got.length).toBe(client.sentCount);
    if (!client.isClosed) expect(client.got.length).toBe(far.sentCount);
    if (!client.isEnded) expect(client.isPaused).toBe(far.isPausing);
    expect(far.closeCount).toBe(client.isClosed ? 1 : 0);
    expect(client.isEnded).toBe(client.isClosed || far.hasEnded);
  });
  for (const client of pair.clients) pair.closeClient(client);
  pair.settle();
  pair.lose();
  expect(pair.fars.every(({ closeCount }) => closeCount === 1)).toBe(true);
  expect(pair.clients.every(({ isEnded }) => isEnded)).toBe(true);
  expect([pair.goneCount, pair.trunk.streamCount]).toEqual([2, 0]);
}

describe("relays", () => {
  test("bytes of each stream arrive exactly and in order, and each end is told once", () => {
    check(
      fc.property(fc.array(step, { maxLength: 120 }), (steps) => {
        const pair = new Pair();
        pair.open();
        for (const each of steps) take(pair, each);
        judge(pair);
      }),
      rounds(400, 3000, 50_000),
    );
  });

  test("who the client is reaches what speaks for it", () => {
    const pair = new Pair();
    pair.open();
    pair.settle();
    const [far] = pair.fars;
    expect([far!.listener, far!.link.remoteAddress, far!.link.remotePort]).toEqual(["tcp", "192.0.2.7", 1234]);
  });

  test("bytes that follow each other on one stream are one frame until a part of it has left", () => {
    const pair = new Pair();
    pair.open();
    const [client] = pair.clients;
    pair.settle();
    client!.protocol.handleData(bytesFrom(0, 10));
    client!.protocol.handleData(bytesFrom(10, 10));
    expect(pair.near.unsentBytes).toBe(9 + 20);
    pair.move(true, 5, 5);
    client!.protocol.handleData(bytesFrom(20, 10));
    expect(pair.near.unsentBytes).toBe(9 + 20 - 5 + 9 + 10);
    pair.settle();
    expect(pair.fars[0]!.got).toEqual([...bytesFrom(0, 30)]);
  });

  test("a client that comes while the trunk is full is read when it has room again", () => {
    const pair = new Pair();
    pair.near.protocol.handleWritable(false);
    pair.open();
    expect(pair.clients[0]!.isPaused).toBe(true);
    pair.near.protocol.handleWritable(true);
    expect(pair.clients[0]!.isPaused).toBe(false);
  });

  test("a client that waits for its worker is read up to a limit, and goes on with all it said", () => {
    const pair = new Pair();
    const client = new ClientLink();
    const waiting = new WaitingClient(client, "tcp", 0);
    for (let at = 0; !client.isPaused; at += 1000) {
      waiting.handleData(bytesFrom(at, 1000));
      client.sentCount += 1000;
    }
    expect(client.sentCount).toBeLessThan(100_000);
    client.protocol = waiting.goOn(pair.trunk);
    expect(client).toMatchObject({ isPaused: false });
    pair.settle();
    expect(pair.fars[0]!.got).toEqual([...bytesFrom(0, client.sentCount)]);
  });
});

describe("what is no frame", () => {
  const head = (bytes: number, kind: number, stream: number): Buffer => {
    const out = Buffer.alloc(9);
    out.writeUInt32LE(bytes, 0);
    out[4] = kind;
    out.writeUInt32LE(stream, 5);
    return out;
  };

  test("ends the trunk with an error, and each of its streams once", () => {
    const frames = fc.oneof(
      fc.uint8Array({ maxLength: 200 }).map((bytes) => Buffer.from(bytes)),
      fc.tuple(fc.nat(300), fc.nat(12), fc.nat(4)).map((fields) => head(...fields)),
      fc.constant(head(1024 * 1024 + 1, 1, 9)),
      fc
        .string({ maxLength: 20 })
        .map((text) => Buffer.concat([head(Buffer.byteLength(text), 1, 9), Buffer.from(text)])),
    );
    check(
      fc.property(fc.array(frames, { maxLength: 12 }), (chunks) => {
        const pair = new Pair();
        pair.open();
        pair.settle();
        try {
          for (const chunk of chunks) pair.away.protocol.handleData(chunk);
        } catch (error) {
          expect(error).toBeInstanceOf(Error);
        }
        pair.lose();
        expect(pair.fars.every(({ closeCount }) => closeCount === 1)).toBe(true);
        expect(pair.goneCount).toBe(2);
      }),
      rounds(400, 2000, 20_000),
    );
  });

  test("is refused before it fills the memory", () => {
    for (const kind of [1, 5]) {
      const pair = new Pair();
      expect(() => pair.away.protocol.handleData(head(1024 * 1024 + 1, kind, 1))).toThrow(RangeError);
    }
  });
});
