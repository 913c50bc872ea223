// The broker's listeners as a whole: opened, replaced, drained; crowds at the door do not disturb those inside.

import { describe, expect, test } from "bun:test";
import { copyFileSync, existsSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { TLSSocket } from "node:tls";
import { type RunningBroker, startBroker } from "#broker/broker.ts";
import { type Config, loadConfig } from "#broker/config.ts";
import { createLog } from "#broker/log.ts";
import { encodePacket } from "#test/support/packets.ts";
import { frame, StreamClient, WebSocketClient } from "#test/unit/transport/clients.ts";
import { pem } from "#test/unit/transport/listening.ts";
import { until } from "#test/unit/transport/until.ts";

const files = `cert=${pem("server.pem")}&key=${pem("server.key")}`;
const SUCCESS = Buffer.from("20020000", "hex");

function configOf(listen: readonly string[], set: readonly string[] = []): Config {
  const flags = { listen, set: ["broker.drainSecMax=2", "store.type=memory", ...set] };
  return loadConfig({ flags, env: {}, cwd: "/" }).config;
}

interface Started extends AsyncDisposable {
  readonly broker: RunningBroker;
  readonly log: { readonly level: string; readonly msg: string }[];
  port(index: number): number;
}

async function start(listen: readonly string[], set: readonly string[] = []): Promise<Started> {
  const log: Started["log"] = [];
  const output = { write: (line: string) => void log.push(JSON.parse(line)) };
  const broker = await startBroker(configOf(listen, set), createLog({ level: "info", format: "json" }, output));
  return {
    broker,
    log,
    port: (index) => Number(new URL(broker.addresses[index]!).port),
    [Symbol.asyncDispose]: () => broker.stop(),
  };
}

const at = (port: number) => ({ host: "127.0.0.1", port });
const connectPacket = (clientId: string, version: 4 | 5 = 4) =>
  Buffer.from(encodePacket({ type: "connect", clientId, keepAliveSec: 60 } as never, version));

/** Connected and accepted. */
async function client(port: number, clientId: string, tls?: object): Promise<StreamClient> {
  const stream = await StreamClient.connect(at(port), tls);
  stream.send(connectPacket(clientId));
  await until(() => stream.length >= 4);
  expect(stream.take()).toEqual(SUCCESS);
  return stream;
}

async function ping(stream: StreamClient): Promise<number> {
  const startMs = performance.now();
  stream.take();
  stream.send(Buffer.from([0xc0, 0]));
  await until(() => stream.length === 2);
  return performance.now() - startMs;
}

describe("all kinds together", () => {
  test("are told in order, with the ports that were picked; a stop tells the clients and closes", async () => {
    const path = join(mkdtempSync(join(tmpdir(), "mantou-")), "socket");
    const listen = [
      "tcp://[::1]:0",
      `tls://127.0.0.1:0?${files}`,
      "ws://127.0.0.1:0",
      `wss://127.0.0.1:0?${files}&path=/x`,
      `unix://${path}`,
    ];
    const { broker, port } = await start(listen);
    expect(broker.addresses).toEqual([
      `tcp://[::1]:${port(0)}`,
      `tls://127.0.0.1:${port(1)}`,
      `ws://127.0.0.1:${port(2)}/mqtt`,
      `wss://127.0.0.1:${port(3)}/x`,
      `unix://${path}`,
    ]);
    const streams = await Promise.all([
      StreamClient.connect({ host: "::1", port: port(0) }),
      StreamClient.connect(at(port(1)), {}),
      StreamClient.connect({ path }),
    ]);
    const sockets = await Promise.all([
      WebSocketClient.connect(await StreamClient.connect(at(port(2)))),
      WebSocketClient.connect(await StreamClient.connect(at(port(3)), {}), { path: "/x" }),
    ]);
    const all = [...streams, ...sockets];
    all.forEach((each, i) => each.send(connectPacket(`c${i}`, 5)));
    await until(() => all.every(({ length }) => length > 0));
    const stopped = broker.stop();
    await until(() => all.every(({ isClosed }) => isClosed));
    await stopped;
    for (const { bytes } of all) expect(bytes.subarray(-4).toString("hex")).toMatch(/e0028b00$|e0018b$/); // Server shutting down
    expect(sockets.map(({ closeCode }) => closeCode)).toEqual([1000, 1000]);
    expect(existsSync(path)).toBe(false);
  });

  test("one that cannot be opened leaves nothing open", async () => {
    await using first = await start(["tcp://127.0.0.1:0"]);
    const path = join(mkdtempSync(join(tmpdir(), "mantou-")), "socket");
    const taken = `tcp://127.0.0.1:${first.port(0)}`;
    await expect(start([`unix://${path}`, "ws://127.0.0.1:0", taken])).rejects.toThrow("is in use by another process");
    expect(existsSync(path)).toBe(false);
    const missing = `tls://127.0.0.1:0?cert=/nowhere.pem&key=${pem("server.key")}`;
    await expect(start([`unix://${path}`, missing])).rejects.toThrow("/nowhere.pem: cannot be read: ENOENT");
    expect(existsSync(path)).toBe(false);
  });
});

describe("replaced while they are open", () => {
  test("an unchanged one stays, a changed one is opened anew, connections of all live on", async () => {
    await using own = await start(["tcp://127.0.0.1:0?name=a", "tcp://127.0.0.1:0?name=b", "tcp://127.0.0.1:0?name=c"]);
    const { broker, port } = own;
    const [a, b, c] = [port(0), port(1), port(2)];
    const clients = [await client(a, "in-a"), await client(b, "in-b"), await client(c, "in-c")];
    const listeners = configOf([
      "tcp://127.0.0.1:0?name=a",
      `tcp://127.0.0.1:${b}?name=b&connectionsMax=1`,
      "ws://127.0.0.1:0?name=d",
    ]).listeners;
    await broker.applyListeners(listeners);
    expect(broker.addresses.map((address) => address.replace(/\d+(\/|$)/, "$1"))).toEqual([
      "tcp://127.0.0.1:",
      "tcp://127.0.0.1:",
      "ws://127.0.0.1:/mqtt",
    ]);
    expect([port(0), port(1)]).toEqual([a, b]);
    for (const each of clients) await ping(each);
    (await client(a, "new-a")).destroy();
    (await client(b, "new-b")).destroy();
    await expect(StreamClient.connect(at(c))).rejects.toThrow();
    for (const each of clients) each.destroy();
  });

  test("one that cannot be opened is told; the others are there", async () => {
    await using own = await start(["tcp://127.0.0.1:0?name=a"]);
    const port = own.port(0);
    const listeners = configOf([
      `tcp://127.0.0.1:${port}?name=b`,
      "tcp://127.0.0.1:0?name=a",
      "tcp://127.0.0.1:0?name=c",
    ]).listeners;
    await expect(own.broker.applyListeners(listeners)).rejects.toThrow(`listener b: 127.0.0.1:${port} is in use`);
    expect(own.broker.addresses).toHaveLength(2);
    for (const index of [0, 1]) (await client(own.port(index), `new-${index}`)).destroy();
  });

  test("one with a wrong certificate changes nothing", async () => {
    await using own = await start(["tcp://127.0.0.1:0?name=a"]);
    const before = own.broker.addresses;
    const listeners = configOf([`tls://127.0.0.1:0?name=a&cert=/nowhere.pem&key=/nowhere.key`]).listeners;
    await expect(own.broker.applyListeners(listeners)).rejects.toThrow("/nowhere.pem: cannot be read: ENOENT");
    expect(own.broker.addresses).toEqual(before);
    (await client(own.port(0), "new")).destroy();
  });
});

describe("crowds at the door", () => {
  test("certificates change under traffic: no message is lost, new clients see the new one", async () => {
    const folder = mkdtempSync(join(tmpdir(), "mantou-"));
    const [cert, key] = [join(folder, "cert.pem"), join(folder, "key.pem")];
    const put = (name: string): void => {
      copyFileSync(pem(`${name}.pem`), cert);
      copyFileSync(pem(`${name}.key`), key);
    };
    put("server");
    await using own = await start([`tls://127.0.0.1:0?cert=${cert}&key=${key}`]);
    const reader = await client(own.port(0), "reader", {});
    reader.send(encodePacket({ type: "subscribe", packetId: 1, subscriptions: [{ filter: "a", qos: 0 }] } as never, 4));
    await until(() => reader.length === 5);
    reader.take();
    const writer = await client(own.port(0), "writer", {});
    const publish = (i: number) =>
      writer.send(encodePacket({ type: "publish", topic: "a", payload: String(i).padStart(5, "0") }, 4));
    const names: string[] = [];
    for (let i = 0; i < 500; i++) {
      publish(i);
      if (i % 100 !== 50) continue;
      put(names.length % 2 === 0 ? "server-new" : "server");
      await own.broker.reloadCertificates();
      const young = await client(own.port(0), `young-${i}`, {});
      names.push((young.socket as TLSSocket).getPeerCertificate().subject.CN as string);
      young.destroy();
    }
    await until(() => reader.length === 500 * 10);
    const numbers = Array.from({ length: 500 }, (_, i) =>
      Number(reader.bytes.toString("latin1", 10 * i + 5, 10 * i + 10)),
    );
    expect(numbers).toEqual(Array.from({ length: 500 }, (_, i) => i));
    expect(names).toEqual(["localhost new", "localhost", "localhost new", "localhost", "localhost new"]);
    rmSync(folder, { recursive: true });
  });

  test("many that say nothing, or half a word, cost no one else anything, and are cut", async () => {
    const limits = "handshakeSecMax=1";
    await using own = await start([
      "tcp://127.0.0.1:0",
      `tls://127.0.0.1:0?${files}&${limits}`,
      `ws://127.0.0.1:0?proxyFrom=[127.0.0.1]&${limits}`,
    ]);
    const inside = await client(own.port(0), "inside");
    const hello = Buffer.from([22, 3, 1, 2, 0, 1, 0, 1]);
    const mute = await Promise.all(
      Array.from({ length: 150 }, (_, i) =>
        StreamClient.connect(at(own.port(1 + (i % 2))), undefined, i % 4 < 2 ? hello.subarray(0, i % 8) : undefined),
      ),
    );
    for (let i = 0; i < 10; i++) await ping(inside);
    await until(() => mute.every(({ isClosed }) => isClosed));
    await ping(inside);
    const { metrics } = own.broker.engine;
    const refused = metrics.get("connections.refused.handshake_timeout") + metrics.get("connections.refused.proxy");
    expect(refused).toBe(150);
    expect(metrics.get("bugs")).toBe(0);
    const outside = await client(own.port(1), "outside", {});
    outside.destroy();
    inside.destroy();
  });

  test("a reconnect storm is let in at the listener's pace, and everybody comes in", async () => {
    await using own = await start(["tcp://127.0.0.1:0?acceptRate=200"]);
    const startMs = performance.now();
    const crowd = await Promise.all(Array.from({ length: 300 }, (_, i) => client(own.port(0), `storm-${i}`)));
    expect(performance.now() - startMs).toBeGreaterThan(400);
    expect(own.broker.engine.metrics.get("connections.delayed.rate")).toBeGreaterThan(50);
    for (const each of crowd) each.destroy();
  });

  test("a flood of TLS handshakes, half of which are never finished, is served in order, and others meanwhile", async () => {
    await using own = await start([
      `tls://127.0.0.1:0?${files}&handshakesMax=4&handshakeSecMax=2`,
      "tcp://127.0.0.1:0",
    ]);
    const { metrics } = own.broker.engine;
    const inside = await client(own.port(1), "inside");
    const halves = await Promise.all(Array.from({ length: 60 }, () => StreamClient.connect(at(own.port(0)))));
    for (const half of halves) half.send(Buffer.from("16030102000100", "hex")); // the head of a ClientHello
    const whole = Promise.all(Array.from({ length: 60 }, (_, i) => client(own.port(0), `whole-${i}`, {})));
    for (let i = 0; i < 10; i++) await ping(inside);
    for (const each of await whole) each.destroy();
    await until(() => halves.every(({ isClosed }) => isClosed));
    expect(metrics.get("connections.refused.handshake_timeout")).toBe(60);
    await ping(inside);
    inside.destroy();
  });

  test("a publisher that is ten times too fast is slowed to its rate, loses nothing, and keeps its session", async () => {
    await using own = await start(["tcp://127.0.0.1:0?readRateBytes=50000&readBurstBytes=10000", "tcp://127.0.0.1:0"]);
    const reader = await client(own.port(1), "reader");
    reader.send(encodePacket({ type: "subscribe", packetId: 1, subscriptions: [{ filter: "a", qos: 0 }] } as never, 4));
    await until(() => reader.length === 5);
    reader.take();
    const writer = await client(own.port(0), "writer");
    const startMs = performance.now();
    const message = encodePacket({ type: "publish", topic: "a", payload: Buffer.alloc(993) }, 4);
    expect(message.length).toBe(999);
    for (let i = 0; i < 60; i++) writer.send(message);
    await until(() => reader.length === 60 * message.length);
    expect(performance.now() - startMs).toBeGreaterThan(800); // (60,000 − 10,000) / 50,000 s
    expect(own.broker.engine.metrics.get("connections.paused.rate")).toBeGreaterThan(0);
    await ping(writer);
    for (const each of [reader, writer]) each.destroy();
  });
});

test("[MQTT-6.0.0-2] [MQTT3-6.0.0-2] packets split and joined over WebSocket frames are one stream", async () => {
  await using own = await start(["ws://127.0.0.1:0"]);
  const socket = await WebSocketClient.connect(await StreamClient.connect(at(own.port(0))));
  const bytes = Buffer.concat([
    connectPacket("split"),
    encodePacket({ type: "subscribe", packetId: 1, subscriptions: [{ filter: "a", qos: 0 }] } as never, 4),
    encodePacket({ type: "publish", topic: "a", payload: "one" }, 4),
    encodePacket({ type: "publish", topic: "a", payload: "two" }, 4),
  ]);
  for (let start = 0; start < bytes.length; start += 3) socket.stream.send(frame(bytes.subarray(start, start + 3))); // [MQTT-6.0.0-2]
  await until(() => socket.bytes.includes("two"));
  const expected = ["20020000", "9003000100", "3006000161" + "6f6e65", "3006000161" + "74776f"];
  expect(socket.bytes.toString("hex")).toBe(expected.join(""));
});
