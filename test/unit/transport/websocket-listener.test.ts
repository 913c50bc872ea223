// WebSocket listeners, on Bun's server and on our own links: the same to a client.

import { describe, expect, test } from "bun:test";
import { parseAddressBlock } from "#transport/address-rules.ts";
import { frame, StreamClient, type UpgradeWish, WebSocketClient } from "./clients.ts";
import { listen, type Listening, type ListeningOptions, serverTls } from "./listening.ts";
import { until } from "./until.ts";

const HEADER = Buffer.from("PROXY UNKNOWN\r\n");
const webSocket = { path: "/mqtt", origins: [] as string[] };
const kinds: [string, ListeningOptions, Buffer | undefined][] = [
  ["Bun's server", {}, undefined],
  ["our own links", { proxyFrom: [parseAddressBlock("127.0.0.1")!] }, HEADER],
];

describe.each(kinds)("on %s", (_, options, before) => {
  const start = (more: ListeningOptions = {}) => listen({ webSocket, ...options, ...more });
  const stream = ({ port }: Listening) => StreamClient.connect({ host: "127.0.0.1", port }, undefined, before);
  const open = async (listening: Listening, wish?: UpgradeWish) =>
    WebSocketClient.connect(await stream(listening), wish);

  test("[MQTT-6.0.0-4] [MQTT3-6.0.0-4] the subprotocol is answered", async () => {
    await using listening = await start();
    for (const protocols of ["mqtt", "mqttv3.1", "x, mqtt"]) {
      const client = await open(listening, { protocols });
      expect(client.status).toBe("101");
      expect(client.headers).toContain(`sec-websocket-protocol: ${protocols.replace("x, ", "")}\r\n`.trimEnd());
      expect(client.headers).toContain("sec-websocket-accept: ");
      client.destroy();
    }
  });

  test.each([
    ["another subprotocol", 400, { protocols: "stomp" }],
    ["none", 400, { protocols: "" }],
    ["another path", 404, { path: "/other" }],
    ["no upgrade", 426, { headers: { Upgrade: "h2c" } }],
    ["headers beyond 8 KiB", 431, { headers: { Cookie: "a".repeat(8200) } }],
  ] as [string, number, UpgradeWish][])("%s is refused with %d before the upgrade", async (_, status, wish) => {
    await using listening = await start();
    const client = await open(listening, wish);
    expect(client.status).toBe(String(status));
    expect(listening.metrics.get("connections.refused.upgrade")).toBe(1);
    expect(listening.links).toEqual([]);
    client.destroy();
    await until(() => listening.listener.connectionCount === 0);
  });

  test("another origin is refused where origins are listed", async () => {
    await using listening = await start({ webSocket: { path: "/mqtt", origins: ["https://app.example"] } });
    expect((await open(listening, { headers: { Origin: "https://evil.example" } })).status).toBe("403");
    expect((await open(listening, { headers: { Origin: "https://app.example" } })).status).toBe("101");
  });

  test("the headers of the upgrade are kept", async () => {
    await using listening = await start();
    await open(listening, {
      path: "/mqtt?x=1",
      headers: { Cookie: "a=1; b=2", "X-Token": "t", Origin: "https://a.example" },
    });
    const { link } = await listening.next();
    const headers = { host: "localhost", cookie: "a=1; b=2", "x-token": "t", origin: "https://a.example" };
    expect(link.identity).toEqual({ headers });
    expect(link.remoteAddress).toBe("127.0.0.1");
    expect(link.remotePort).toBeGreaterThan(0);
  });

  test("[MQTT-6.0.0-1] [MQTT3-6.0.0-1] a text frame ends with 1003", async () => {
    await using listening = await start();
    const client = await open(listening);
    const protocol = await listening.next();
    client.stream.send(Buffer.concat([frame(Buffer.from("good")), frame(Buffer.from("text"), 0x81)]));
    await until(() => client.isClosed);
    expect(client.closeCode).toBe(1003);
    await until(() => protocol.closeCount === 1);
    expect(protocol.bytes.toString()).toBe("good");
    expect(listening.metrics.get("connections.closed.websocket")).toBe(1);
  });

  test.each([
    ["a frame without mask", Buffer.from([0x82, 1, 1])],
    ["an unknown opcode", frame(Buffer.from("x"), 0x83)],
    ["a reserved bit", frame(Buffer.from("x"), 0xc2)],
  ])("%s closes", async (_, bytes) => {
    await using listening = await start();
    const client = await open(listening);
    const protocol = await listening.next();
    client.stream.send(bytes);
    await until(() => protocol.closeCount === 1);
    expect(protocol.length).toBe(0);
    expect(listening.bugs).toEqual([]);
  });

  test("pings are answered between frames, fragments are joined", async () => {
    await using listening = await start();
    const client = await open(listening);
    const protocol = await listening.next();
    client.stream.send(frame(Buffer.from("ab"), 0x02));
    client.stream.send(frame(Buffer.from("you there?"), 0x89));
    client.stream.send(frame(Buffer.from("cd"), 0x80));
    await until(() => protocol.bytes.toString() === "abcd" && client.pongs.length === 1);
    expect(client.pongs[0]!.toString()).toBe("you there?");
  });

  test("a ping while the client does not read is answered in its place, when it does", async () => {
    await using listening = await start();
    const client = await open(listening);
    const protocol = await listening.next();
    client.pause();
    const large = Buffer.alloc(8 * 1024 * 1024, 1);
    protocol.write(large);
    client.stream.send(frame(Buffer.from("1"), 0x89));
    client.stream.send(frame(Buffer.from("go on")));
    await until(() => protocol.length === 5);
    protocol.write(Buffer.from("end"));
    client.resume();
    await until(() => client.length === large.length + 3 && client.pongs.length === 1);
    expect(client.bytes.subarray(-3).toString()).toBe("end");
  });

  test("a tick's writes are one frame", async () => {
    await using listening = await start();
    const client = await open(listening);
    const protocol = await listening.next();
    for (let i = 0; i < 50; i++) protocol.write(Buffer.from("0123456789"));
    await until(() => client.length === 500);
    expect(client.frameCount).toBe(1);
  });

  test("the broker's end is Close 1000", async () => {
    await using listening = await start();
    const client = await open(listening);
    const protocol = await listening.next();
    protocol.write(Buffer.from("last words"));
    protocol.link.end();
    await until(() => client.isClosed);
    expect(client.closeCode).toBe(1000);
    expect(client.bytes.toString()).toBe("last words");
  });

  test("bytes that come with the upgrade request are not lost", async () => {
    await using listening = await start();
    const raw = await stream(listening);
    const request =
      "GET /mqtt HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n" +
      "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Protocol: mqtt\r\n\r\n";
    raw.send(Buffer.concat([Buffer.from(request), frame(Buffer.from("hello"))]));
    const protocol = await listening.next();
    await until(() => protocol.bytes.toString() === "hello");
  });
});

describe("our own links", () => {
  test("a request that does not end is cut at the deadline, one that is no request at once", async () => {
    await using listening = await listen({ webSocket, proxyFrom: kinds[1]![1].proxyFrom!, handshakeSecMax: 2 });
    const at = { host: "127.0.0.1", port: listening.port };
    const slow = await StreamClient.connect(at, undefined, Buffer.concat([HEADER, Buffer.from("GET /mq")]));
    await until(() => listening.listener.connectionCount === 1);
    listening.transport.sweep(performance.now() + 3000);
    await until(() => slow.isClosed);
    expect(listening.metrics.get("connections.refused.handshake_timeout")).toBe(1);
    const wrong = await StreamClient.connect(at, undefined, Buffer.concat([HEADER, Buffer.from("HELO\r\n\r\n")]));
    await until(() => wrong.isClosed);
    expect(wrong.bytes.toString()).toStartWith("HTTP/1.1 400 Bad Request\r\n");
  });

  test("a client that is refused and does not close is cut", async () => {
    await using listening = await listen({ webSocket, proxyFrom: kinds[1]![1].proxyFrom!, handshakeSecMax: 2 });
    const target = { host: "127.0.0.1", port: listening.port, allowHalfOpen: true };
    const stubborn = await StreamClient.connect(
      target,
      undefined,
      Buffer.concat([HEADER, Buffer.from("HELO\r\n\r\n")]),
    );
    stubborn.pause();
    await until(() => listening.metrics.get("connections.refused.upgrade") === 1);
    if (listening.listener.connectionCount === 1) listening.transport.sweep(performance.now() + 3000);
    await until(() => listening.listener.connectionCount === 0);
    expect(listening.metrics.get("connections.refused.handshake_timeout")).toBe(0);
    stubborn.destroy();
  });

  test("a message larger than any packet is no matter", async () => {
    await using listening = await listen({ webSocket, proxyFrom: kinds[1]![1].proxyFrom!, messageBytesMax: 1000 });
    const client = await WebSocketClient.connect(
      await StreamClient.connect({ host: "127.0.0.1", port: listening.port }, undefined, HEADER),
    );
    const protocol = await listening.next();
    client.send(Buffer.alloc(5000));
    await until(() => protocol.length === 5000);
  });
});

describe("Bun's server", () => {
  test("closes on a message that is too large", async () => {
    await using listening = await listen({ webSocket, messageBytesMax: 1000 });
    const client = await WebSocketClient.connect(
      await StreamClient.connect({ host: "127.0.0.1", port: listening.port }),
    );
    const protocol = await listening.next();
    client.send(Buffer.alloc(1001));
    await until(() => protocol.closeCount === 1);
    expect(protocol.length).toBe(0);
  });

  test.each([
    ["ws", {}, "http"],
    ["wss", { tls: serverTls }, "https"],
  ] as [string, ListeningOptions, string][])("%s: other requests go to what is mounted", async (_, options, scheme) => {
    const mounts = [
      { path: "/mqtt", fetch: () => new Response("beside the WebSocket") },
      { path: "/mqtt/publish", fetch: async (request: Request) => new Response(await request.text(), { status: 201 }) },
      { path: "/fault", fetch: () => Promise.reject(new Error("planted")) },
    ];
    await using listening = await listen({ webSocket, mounts, ...options });
    const ask = (path: string, init: RequestInit = {}) =>
      fetch(`${scheme}://127.0.0.1:${listening.port}${path}`, {
        ...init,
        tls: { rejectUnauthorized: false },
      } as RequestInit);
    const publish = await ask("/mqtt/publish?a=1", { method: "POST", body: "topic=a" });
    expect([publish.status, await publish.text()]).toEqual([201, "topic=a"]);
    expect(await (await ask("/mqtt")).text()).toBe("beside the WebSocket");
    expect(await (await ask("/mqtt/other")).text()).toBe("beside the WebSocket");
    expect((await ask("/mqttx")).status).toBe(404);
    expect((await ask("/fault")).status).toBe(500);
    expect(listening.bugs).toHaveLength(1);
    const tls = options.tls ? {} : undefined;
    const client = await WebSocketClient.connect(
      await StreamClient.connect({ host: "127.0.0.1", port: listening.port }, tls),
    );
    expect(client.status).toBe("101");
  });

  test("a port that somebody has is told, also where ports can be shared", async () => {
    await using first = await listen({ webSocket, tls: serverTls });
    const bind = { host: "127.0.0.1", port: first.port };
    for (const tls of [undefined, serverTls])
      await expect(listen({ webSocket, tls, bind })).rejects.toThrow("is in use by another process");
  });
});
