/**
 * Bytes on links to one broker: where they are cut makes no difference, and whatever they are, nothing throws, nothing is
 * left behind, and another client of the same broker does not notice.
 */
import { test } from "bun:test";
import fc from "fast-check";
import { DelayedAccess } from "#test/support/delayed-ports.ts";
import { checkAsync, seed } from "#test/support/fuzz.ts";
import { rounds } from "#test/support/level.ts";
import { type MemoryTarget, startMemoryHarness } from "#test/support/memory-harness.ts";
import {
  arbitraryConnect,
  arbitraryDisconnect,
  arbitraryPacket,
  arbitraryVersion,
  mutated,
} from "#test/support/packet-arbitrary.ts";
import { encodePacket, hex, type PacketInput, toHex, type Version } from "#test/support/packets.ts";
import { connectVectors } from "#test/vectors/connect.ts";
import { otherVectors } from "#test/vectors/others.ts";
import { publishVectors } from "#test/vectors/publish.ts";

/** One link as bytes in and bytes out. The memory link answers within `write`. */
interface Wire {
  write(bytes: Uint8Array): void;
  out: Buffer;
  isClosed: boolean;
  close(): void;
}

async function openWire(target: MemoryTarget): Promise<Wire> {
  const pipe = await target.openPipe();
  const wire: Wire = {
    write: (bytes) => pipe.write(bytes),
    out: Buffer.alloc(0),
    isClosed: false,
    close: () => pipe.close(),
  };
  pipe.onData = (bytes) => void (wire.out = Buffer.concat([wire.out, bytes]));
  pipe.onClose = () => void (wire.isClosed = true);
  return wire;
}

/** Packets as one stream: CONNECT, some of everything, sometimes DISCONNECT. */
const stream = arbitraryVersion.chain((version) => {
  const packets = fc.tuple(
    arbitraryConnect(version),
    fc.array(arbitraryPacket(version), { maxLength: 8, size: "max" }),
    fc.option(arbitraryDisconnect(version), { nil: undefined }),
  );
  return packets.map(([connect, middle, last]) => {
    const all: PacketInput[] = [{ ...connect, clientId: "sender" }, ...middle, ...(last ? [last] : [])];
    return { version, frames: all.map((packet) => encodePacket(packet, version)) };
  });
});

/** What the sender and a watcher of everything are sent, and who is closed. */
async function play(version: Version, chunks: Uint8Array[], access?: DelayedAccess): Promise<string> {
  const target = await startMemoryHarness(access ? { ports: { access } } : {});
  const watcher = await openWire(target);
  watcher.write(encodePacket({ type: "connect", clientId: "watcher" }, 5));
  watcher.write(
    encodePacket(
      { type: "subscribe", packetId: 1, subscriptions: [{ filter: "#", qos: 2, retainAsPublished: true }] },
      5,
    ),
  );
  access?.answerAll();
  const sender = await openWire(target);
  for (const chunk of chunks) sender.write(chunk);
  access?.answerAll();
  target.engine.turn();
  if (target.bugs.length > 0) throw target.bugs[0];
  const packets = target.engine.metrics.get("packets.received");
  return `${version} ${toHex(sender.out)} | ${toHex(watcher.out)} | ${sender.isClosed} ${packets}`;
}

test("a stream cut anywhere, and byte by byte, gives what it gives in one piece", async () => {
  const property = fc.asyncProperty(stream, async ({ version, frames }) => {
    const whole = Buffer.concat(frames);
    const expected = await play(version, [whole]);
    const ways = Array.from({ length: whole.length - 1 }, (_, i) => [whole.subarray(0, i + 1), whole.subarray(i + 1)]);
    ways.push([...whole].map((byte) => Buffer.of(byte)) as never, frames as never);
    for (const chunks of ways) {
      const got = await play(version, chunks);
      if (got !== expected)
        throw new Error(`cut after ${chunks[0]!.length} of ${toHex(whole)}:\n${got}\nin one piece:\n${expected}`);
    }
  });
  await checkAsync(property, rounds(25, 80, 800));
}, 900_000);

test("a stream whose packets wait for verdicts gives the same wherever it is cut", async () => {
  const property = fc.asyncProperty(stream, fc.boolean(), async ({ version, frames }, isDecidedAtOnce) => {
    const ask = (): DelayedAccess => Object.assign(new DelayedAccess(), { isDecidedAtOnce });
    const whole = Buffer.concat(frames);
    const expected = await play(version, [whole], ask());
    for (let at = 1; at < whole.length; at += 3) {
      const got = await play(version, [whole.subarray(0, at), whole.subarray(at)], ask());
      if (got !== expected) throw new Error(`cut after ${at} of ${toHex(whole)}:\n${got}\nin one piece:\n${expected}`);
    }
  });
  await checkAsync(property, rounds(40, 150, 1000));
}, 900_000);

const seeds = [...connectVectors, ...publishVectors, ...otherVectors].map(({ hex: text }) => hex(text));
const junk = fc.uint8Array({ maxLength: 60, size: "max" });
const anyPacket = arbitraryVersion.chain((version) =>
  arbitraryPacket(version).map((packet) => encodePacket(packet, version)),
);
const badFrame = fc.oneof(
  { weight: 1, arbitrary: junk },
  { weight: 3, arbitrary: mutated(fc.constantFrom(...seeds)) },
  { weight: 3, arbitrary: mutated(anyPacket) },
  { weight: 2, arbitrary: fc.constantFrom(...seeds) },
  { weight: 2, arbitrary: anyPacket },
);
const attack = fc.record({
  version: arbitraryVersion,
  isConnected: fc.constantFrom(true, true, true, false),
  frames: fc.array(badFrame, { minLength: 1, maxLength: 8, size: "max" }),
  chunk: fc.constantFrom(1, 3, 7, 1000),
});

const health = encodePacket({ type: "publish", qos: 1, packetId: 3, topic: "health", payload: "ok" }, 4);
const PACKET_ID_AT = 10;
const withoutId = (bytes: Buffer): string => toHex(Buffer.from(bytes).fill(0, PACKET_ID_AT, PACKET_ID_AT + 2));
const healthy = withoutId(Buffer.concat([health, hex("40 02 00 03")]));

/** The second client publishes to itself. The packet ids it is sent ascend, so they are left out. */
function checkHealth(wire: Wire, frames: Uint8Array[]): void {
  wire.out = Buffer.alloc(0);
  wire.write(health);
  const got = withoutId(wire.out);
  wire.write(Uint8Array.from([0x40, 2, ...wire.out.subarray(PACKET_ID_AT, PACKET_ID_AT + 2)]));
  if (wire.isClosed || got !== healthy)
    throw new Error(`the second client got ${got} after ${frames.map(toHex).join(" | ")}`);
}

test("random and mutated bytes: no bug, no harm to another client, and nothing is left of the connection", async () => {
  const target = await startMemoryHarness({ mqtt: { packetBytesMax: 65_536 } });
  const { engine } = target;
  const second = await openWire(target);
  second.write(encodePacket({ type: "connect", clientId: "second" }, 4));
  second.write(encodePacket({ type: "subscribe", packetId: 1, subscriptions: [{ filter: "health", qos: 1 }] }, 4));
  let run = 0;
  const property = fc.asyncProperty(attack, async ({ version, isConnected, frames, chunk }) => {
    const wire = await openWire(target);
    if (isConnected) wire.write(encodePacket({ type: "connect", clientId: `c${seed}-${run++}` }, version));
    const bytes = Buffer.concat(frames);
    for (let at = 0; at < bytes.length; at += chunk) wire.write(bytes.subarray(at, at + chunk));
    engine.turn();
    if (target.bugs.length > 0) throw target.bugs.splice(0)[0];
    checkHealth(second, frames);
    wire.close();
    const opened = engine.metrics.get("connections.opened");
    const closed = engine.metrics.get("connections.closed");
    if (opened - closed !== 1) throw new Error(`${opened} connections were opened, ${closed} closed`);
    const held = engine.sessions.sinks.filter((sink) => sink !== null).length;
    if (held !== 1) throw new Error(`${held} sessions have a sink`);
  });
  await checkAsync(property, rounds(1000, 8000, 80_000));
  if (engine.metrics.get("bugs") > 0) throw new Error("bugs were counted");
  second.close();
}, 900_000);

test("when all sessions have ended no message, subscription, timer or group is left", async () => {
  const property = fc.asyncProperty(stream, fc.boolean(), async ({ version, frames }, isCutOff) => {
    const target = await startMemoryHarness({});
    const wire = await openWire(target);
    wire.write(Buffer.concat(frames));
    if (isCutOff) wire.close();
    const last = await openWire(target);
    last.write(encodePacket({ type: "connect", clientId: "sender", cleanStart: true }, version));
    last.write(encodePacket({ type: "disconnect" }, version));
    last.close();
    wire.close();
    await target.advance(0.2);
    const { sessions, index, groups, messages, retainedIndex } = target.engine;
    const left = [
      sessions.count,
      index.subscriptionCount,
      index.keyCount,
      groups.count,
      messages.count - retainedIndex.count,
    ];
    if (left.some((count) => count !== 0)) throw new Error(`left: ${left.join()}`);
    if (target.bugs.length > 0) throw target.bugs[0];
  });
  await checkAsync(property, rounds(200, 2000, 20_000));
}, 900_000);
