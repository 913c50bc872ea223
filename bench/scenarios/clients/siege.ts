/**
 * Those who do a broker harm, by intent or not, while others use it. One `--case`:
 *
 *   0 flood       publishers of QoS 0 that send as fast as the kernel takes it, and a subscriber who reads it all
 *   1 window      the same at QoS 1, each with a window of 1,000 messages
 *   2 deaf        a subscriber who reads nothing and one who reads everything of the same topic, 20,000 messages a second
 *   3 loris       connections that say half a CONNECT, half a TLS handshake, half a WebSocket upgrade, a byte a second, or nothing
 *   4 handshakes  TLS handshakes, one after another on each of `--clients` connections at once
 *
 * This process gives way to others on its core, so that those whose latency counts are not late themselves.
 */
import type { Socket } from "bun";
import { dlopen, ptr } from "bun:ffi";
import { connect as connectTls } from "node:tls";
import { numbers, untilTold } from "./arguments.ts";
import { Connection } from "./connection.ts";
import { connectPacket, publishFrame, subscribePacket } from "./packets.ts";

const SCHED_IDLE = 5;
const PAYLOAD_BYTES = 64;
const UNSENT_BYTES_MAX = 256 * 1024;
const WINDOW_COUNT = 1000;
const DEAF_RATE = 20_000;
const TURN_COUNT = 500;
const TICK_MS = 5;
const DRIBBLE_MS = 1000;
const PUBACK = 4;
const given = numbers({ port: 0, "tls-port": 0, "ws-port": 0, case: 0, clients: 1 });
const { port, clients } = given;

giveWay();
let doneCount = 0;
const startMs = performance.now();
await [flood, window, deaf, loris, handshakes][given.case]!();
await untilTold(async () => ({
  metrics: { besiegersPerSec: doneCount / ((performance.now() - startMs) / 1000) },
  faults: doneCount === 0 ? ["the besiegers did nothing"] : [],
}));

/** Whoever else wakes on this core runs at once (sched(7)); by niceness it would wait for the end of a slice, some milliseconds. */
function giveWay(): void {
  const libc = dlopen("libc.so.6", { sched_setscheduler: { args: ["i32", "i32", "ptr"], returns: "i32" } });
  if (libc.symbols.sched_setscheduler(0, SCHED_IDLE, ptr(new Int32Array(1))) !== 0) throw new Error("no SCHED_IDLE");
}

async function flood(): Promise<void> {
  await reader("flood/#", 0);
  const { bytes } = publishFrame("flood/a", { version: 4, qos: 0, payloadBytes: PAYLOAD_BYTES });
  const batch = Buffer.concat(Array.from({ length: TURN_COUNT }, () => bytes));
  for (let i = 0; i < clients; i++) {
    const one = await quiet(`flood${i}`);
    const pump = (): void => {
      while (one.unsentBytes < UNSENT_BYTES_MAX) {
        one.send(batch);
        doneCount += TURN_COUNT;
      }
      setImmediate(pump);
    };
    pump();
  }
}

async function window(): Promise<void> {
  await reader("flood/#", 1);
  const { bytes, packetIdAt } = publishFrame("flood/a", { version: 4, qos: 1, payloadBytes: PAYLOAD_BYTES });
  const publish = (one: Connection, packetId: number): void => {
    bytes.writeUInt16BE(packetId, packetIdAt);
    one.send(bytes);
    doneCount++;
  };
  for (let i = 0; i < clients; i++) {
    const one = await Connection.open({
      port,
      clientId: `window${i}`,
      onPacket: (own, first, packet, from) => first >> 4 === PUBACK && publish(own, packet.readUInt16BE(from)),
    });
    for (let packetId = 1; packetId <= WINDOW_COUNT; packetId++) publish(one, packetId);
  }
}

async function deaf(): Promise<void> {
  await reader("flood/#", 0);
  const socket = await Bun.connect({ hostname: "127.0.0.1", port, socket: { data: () => {} } });
  socket.write(connectPacket({ clientId: "deaf", version: 4 }));
  socket.write(subscribePacket(1, ["flood/#"], { version: 4, qos: 0 }));
  socket.pause();
  const publisher = await quiet("talker");
  const { bytes } = publishFrame("flood/a", { version: 4, qos: 0, payloadBytes: 1024 });
  setInterval(() => {
    const due = ((performance.now() - startMs) / 1000) * DEAF_RATE;
    while (doneCount < due && publisher.unsentBytes < UNSENT_BYTES_MAX) {
      publisher.send(bytes);
      doneCount++;
    }
  }, TICK_MS);
}

function loris(): void {
  const half = connectPacket({ clientId: "loris", version: 4 }).subarray(0, 10);
  // The head of a ClientHello of 512 bytes, and its first few.
  const hello = Buffer.from("16030102000100", "hex");
  const upgrade = Buffer.from("GET /mqtt HTTP/1.1\r\nHost: a\r\nUpgrade: webso");
  const kinds: readonly (readonly [number, Buffer])[] = [
    [port, half],
    [given["tls-port"], hello],
    [given["ws-port"], upgrade],
    [port, Buffer.alloc(0)],
    [port, Buffer.from([0x10])],
  ];
  const open = (index: number): void => {
    const [to, bytes] = kinds[index % kinds.length];
    doneCount++;
    const again = (): void => void setTimeout(open, DRIBBLE_MS, index);
    void Bun.connect({
      hostname: "127.0.0.1",
      port: to,
      socket: { open: (socket) => void dribble(socket, bytes), data: () => {}, close: again },
    }).catch(again);
  };
  for (let i = 0; i < clients; i++) setTimeout(open, (i / clients) * DRIBBLE_MS, i);
}

/** All but the last bytes at once, the others one by one. */
async function dribble(socket: Socket, bytes: Buffer): Promise<void> {
  const sure = Math.max(0, bytes.length - 3);
  socket.write(bytes, 0, sure);
  for (let at = sure; at < bytes.length; at++) {
    await Bun.sleep(DRIBBLE_MS);
    socket.write(bytes, at, 1);
  }
}

function handshakes(): void {
  const open = (): void => {
    const socket = connectTls({ host: "127.0.0.1", port: given["tls-port"], rejectUnauthorized: false }, () => {
      doneCount++;
      socket.destroy();
    });
    socket.on("error", () => {});
    socket.on("close", () => setTimeout(open, 0));
  };
  for (let i = 0; i < clients; i++) open();
}

function quiet(clientId: string): Promise<Connection> {
  return Connection.open({ port, clientId, onPacket: () => {} });
}

async function reader(filter: string, qos: number): Promise<void> {
  const one = await Connection.open({
    port,
    clientId: "reader",
    onPacket: (own, first, bytes, from) => {
      if ((first & 6) === 0 || first >> 4 !== 3) return;
      own.acknowledge(0x40, bytes.readUInt16BE(from + 2 + bytes.readUInt16BE(from)));
    },
  });
  one.send(subscribePacket(1, [filter], { version: 4, qos }));
}
