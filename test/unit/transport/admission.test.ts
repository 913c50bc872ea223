// Who may come in, how many, how fast.

import { describe, expect, test } from "bun:test";
import { existsSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseAddressBlock, parseAddressRule } from "#transport/address-rules.ts";
import { StreamClient, WebSocketClient } from "./clients.ts";
import { listen, type Listening, type ListeningOptions } from "./listening.ts";
import { until } from "./until.ts";

const at = ({ port }: Listening) => ({ host: "127.0.0.1", port });
const open = (listening: Listening, before?: string) =>
  StreamClient.connect(at(listening), undefined, before === undefined ? undefined : Buffer.from(before));
const openWebSocket = async (listening: Listening, headers?: Record<string, string>) =>
  WebSocketClient.connect(await open(listening), headers && { headers });
const rules = (...texts: string[]) => texts.map((text) => parseAddressRule(text)!);
const webSocket = { path: "/mqtt", origins: [] };
const loopback = [parseAddressBlock("127.0.0.1")!];

describe("the number of connections", () => {
  test("is limited for a listener; a place that is given up is taken again", async () => {
    await using listening = await listen({ connectionsMax: 2 });
    const first = await open(listening);
    await open(listening);
    await until(() => listening.links.length === 2);
    const third = await open(listening);
    await until(() => third.isClosed);
    expect(listening.metrics.get("connections.refused.limit")).toBe(1);
    first.destroy();
    await until(() => listening.listener.connectionCount === 1);
    await open(listening);
    await until(() => listening.links.length === 3);
  });

  test("is limited for the process", async () => {
    await using listening = await listen({ processConnectionsMax: 1 });
    await open(listening);
    await until(() => listening.links.length === 1);
    const second = await open(listening);
    await until(() => second.isClosed);
    expect(listening.metrics.get("connections.refused.limit")).toBe(1);
  });

  test("is limited for WebSockets, which are told", async () => {
    await using listening = await listen({ connectionsMax: 1, webSocket });
    const first = await openWebSocket(listening);
    expect((await openWebSocket(listening)).status).toBe("503");
    expect(listening.metrics.get("connections.refused.limit")).toBe(1);
    first.destroy();
    await until(() => listening.listener.connectionCount === 0);
    expect((await openWebSocket(listening)).status).toBe("101");
  });

  test("counts connections that are no links yet", async () => {
    await using listening = await listen({ connectionsMax: 1, proxyFrom: loopback });
    await open(listening, "PROXY ");
    await until(() => listening.listener.connectionCount === 1);
    const second = await open(listening);
    await until(() => second.isClosed);
    expect(listening.links).toEqual([]);
  });
});

describe("addresses", () => {
  test("that a rule denies are refused", async () => {
    await using denying = await listen({ rules: rules("allow 127.0.0.2", "deny 127.0.0.0/8") });
    const client = await open(denying);
    await until(() => client.isClosed);
    expect(denying.metrics.get("connections.refused.address")).toBe(1);
    expect(denying.links).toEqual([]);
    expect(denying.listener.connectionCount).toBe(0);
    const other = await StreamClient.connect({ ...at(denying), localAddress: "127.0.0.2" });
    await denying.next();
    other.destroy();
  });

  test("over WebSocket get 429", async () => {
    await using listening = await listen({ rules: rules("deny all"), webSocket });
    expect((await openWebSocket(listening)).status).toBe("429");
    expect(listening.metrics.get("connections.refused.address")).toBe(1);
    expect(listening.listener.connectionCount).toBe(0);
  });
});

describe("connections a second", () => {
  test("of one address: more are refused, others are not", async () => {
    await using listening = await listen({ addressRate: 2 });
    const clients = [await open(listening), await open(listening), await open(listening)];
    await until(() => clients.some(({ isClosed }) => isClosed));
    expect(listening.links.length).toBe(2);
    expect(listening.metrics.get("connections.refused.address_rate")).toBe(1);
    await StreamClient.connect({ ...at(listening), localAddress: "127.0.0.2" });
    await until(() => listening.links.length === 3);
  });

  test("of one IPv6 network count together", async () => {
    await using listening = await listen({ addressRate: 1, proxyFrom: loopback });
    const from = (address: string) => open(listening, `PROXY TCP6 ${address} ::1 1 2\r\n`);
    await from("2001:db8:0:1::1");
    await listening.next();
    const same = await from("2001:db8::1:0:0:0:2");
    await until(() => same.isClosed);
    await from("2001:db8:0:2::1");
    await listening.next();
    expect(listening.metrics.get("connections.refused.address_rate")).toBe(1);
  });

  test("of all: more wait their turn, and lose nothing that they said meanwhile", async () => {
    await using listening = await listen({ acceptRate: 20 });
    const startMs = performance.now();
    const clients = await Promise.all(Array.from({ length: 26 }, (_, i) => open(listening, `hello ${i}`)));
    await until(() => listening.links.length === 26 && listening.links.every(({ length }) => length > 0));
    expect(performance.now() - startMs).toBeGreaterThan(250);
    const heard = listening.links.map(({ bytes }) => bytes.toString()).toSorted();
    expect(heard).toEqual(Array.from({ length: 26 }, (_, i) => `hello ${i}`).toSorted());
    expect(listening.metrics.get("connections.delayed.rate")).toBe(6);
    expect(clients.some(({ isClosed }) => isClosed)).toBe(false);
  });

  test("of all: those whose turn is too far away are refused", async () => {
    await using listening = await listen({ acceptRate: 1, handshakeSecMax: 2 });
    const clients = await Promise.all(Array.from({ length: 6 }, () => open(listening)));
    await until(() => clients.filter(({ isClosed }) => isClosed).length === 3);
    expect(listening.metrics.get("connections.refused.rate")).toBe(3);
    expect(listening.metrics.get("connections.delayed.rate")).toBe(2);
    expect(listening.links.length).toBe(1);
    for (const client of clients) client.destroy();
  });

  test("of all, over WebSocket", async () => {
    await using listening = await listen({ acceptRate: 10, webSocket });
    const clients = await Promise.all(Array.from({ length: 12 }, () => openWebSocket(listening)));
    expect(clients.map(({ status }) => status)).toEqual(Array.from({ length: 12 }, () => "101"));
    expect(listening.metrics.get("connections.delayed.rate")).toBe(2);
  });
});

describe("bytes a second", () => {
  const paced: ListeningOptions = { readRateBytes: 100_000, readBurstBytes: 20_000 };

  test("a client that sends more is read at its rate, and loses nothing", async () => {
    await using listening = await listen(paced);
    const client = await open(listening);
    const protocol = await listening.next();
    const startMs = performance.now();
    const sent = Buffer.from(Array.from({ length: 60_000 }, (_, i) => i & 255));
    client.send(sent);
    await until(() => protocol.length === sent.length);
    expect(performance.now() - startMs).toBeGreaterThan(350); // (60,000 − 20,000) / 100,000 s
    expect(protocol.bytes.equals(sent)).toBe(true);
    expect(listening.metrics.get("connections.paused.rate")).toBe(1);
  });

  test("one that sends less is not touched", async () => {
    await using listening = await listen(paced);
    const client = await open(listening);
    const protocol = await listening.next();
    client.send(Buffer.alloc(15_000));
    await until(() => protocol.length === 15_000);
    expect(listening.metrics.get("connections.paused.rate")).toBe(0);
  });

  test("a protocol that pauses meanwhile gets nothing until it resumes", async () => {
    await using listening = await listen(paced);
    const client = await open(listening);
    const protocol = await listening.next();
    client.send(Buffer.alloc(50_000));
    await until(() => protocol.length > 0);
    protocol.link.pause();
    const { length } = protocol;
    await Bun.sleep(250);
    expect(protocol.length).toBe(length);
    protocol.link.resume();
    await until(() => protocol.length === 50_000);
  });

  test("one that sends far more waits in the kernel, not here", async () => {
    await using listening = await listen(paced);
    const client = await open(listening);
    const protocol = await listening.next();
    client.send(Buffer.alloc(30_000_000));
    await until(() => protocol.length > 0);
    protocol.link.pause();
    protocol.link.resume();
    await Bun.sleep(300);
    expect(protocol.length).toBeLessThan(1_000_000);
    expect(client.socket.writableLength).toBeGreaterThan(0);
  });

  test("is told to have held input back until it has asked once after the last of it", async () => {
    await using listening = await listen({ readRateBytes: 20_000, readBurstBytes: 1000 });
    const client = await open(listening);
    const recorder = await listening.next();
    const { link } = recorder;
    expect(link.takeHeldBack!()).toBe(false);
    client.send(Buffer.alloc(4000));
    await until(() => recorder.length > 0);
    expect([link.takeHeldBack!(), link.takeHeldBack!()]).toEqual([true, true]);
    await until(() => recorder.length === 4000);
    expect([link.takeHeldBack!(), link.takeHeldBack!()]).toEqual([true, false]);
  });

  test("what came before the end is handed on, and the end is seen", async () => {
    await using listening = await listen({ readRateBytes: 1000, readBurstBytes: 1000 });
    const client = await open(listening);
    const protocol = await listening.next();
    client.send(Buffer.alloc(1500));
    await until(() => protocol.length >= 1000);
    client.end();
    await until(() => protocol.closeCount === 1);
    expect(protocol.length).toBe(1500);
  });

  test("what came before a cut is handed on at once", async () => {
    await using listening = await listen({ readRateBytes: 10, readBurstBytes: 1000 });
    const client = await open(listening);
    const protocol = await listening.next();
    client.send(Buffer.alloc(1500));
    await until(() => protocol.length >= 1000);
    client.socket.resetAndDestroy();
    await until(() => protocol.closeCount === 1);
    expect(protocol.length).toBe(1500);
  });

  test("a link that ends reads no more, and closes", async () => {
    await using listening = await listen({ readRateBytes: 10, readBurstBytes: 1000 });
    const client = await open(listening);
    const protocol = await listening.next();
    client.send(Buffer.alloc(5000));
    await until(() => protocol.length >= 1000);
    const { length } = protocol;
    protocol.link.end();
    await until(() => protocol.closeCount === 1);
    expect(client.isClosed).toBe(true);
    expect(protocol.length).toBe(length);
  });
});

describe("the PROXY protocol", () => {
  const header = "PROXY TCP4 192.0.2.1 198.51.100.7 56324 1883\r\n";

  test("gives a link its client's address; what follows is MQTT", async () => {
    await using listening = await listen({ proxyFrom: loopback });
    await open(listening, `${header}hello`);
    const protocol = await listening.next();
    expect([protocol.link.remoteAddress, protocol.link.remotePort]).toEqual(["192.0.2.1", 56_324]);
    await until(() => protocol.bytes.toString() === "hello");
  });

  test("may come byte by byte", async () => {
    await using listening = await listen({ proxyFrom: loopback });
    const client = await open(listening);
    for (const byte of Buffer.from(`${header}hello`)) {
      client.send(Buffer.from([byte]));
      await Bun.sleep(0);
    }
    const protocol = await listening.next();
    await until(() => protocol.bytes.toString() === "hello");
    expect(protocol.link.remoteAddress).toBe("192.0.2.1");
  });

  test("comes before TLS, in one segment with the hello or not", async () => {
    const { serverTls } = await import("./listening.ts");
    await using listening = await listen({ proxyFrom: loopback, tls: serverTls });
    const client = await StreamClient.connect(at(listening), {}, Buffer.from(header));
    client.send(Buffer.from("hello"));
    const protocol = await listening.next();
    expect(protocol.link.remoteAddress).toBe("192.0.2.1");
    await until(() => protocol.bytes.toString() === "hello");
  });

  test("is not taken from an address that is not trusted: it is MQTT then, and malformed", async () => {
    await using listening = await listen({ proxyFrom: [parseAddressBlock("10.0.0.0/8")!] });
    await open(listening, `${header}hello`);
    const protocol = await listening.next();
    expect(protocol.link.remoteAddress).toBe("127.0.0.1");
    await until(() => protocol.bytes.toString() === `${header}hello`);
  });

  test("must come from one that is trusted", async () => {
    await using listening = await listen({ proxyFrom: loopback });
    const client = await open(listening, "\x10\x0c\x00\x04MQTT");
    await until(() => client.isClosed);
    expect(listening.metrics.get("connections.refused.proxy")).toBe(1);
    expect(listening.links).toEqual([]);
    await until(() => listening.listener.connectionCount === 0);
  });

  test("decides which rules a client meets: those of its own address", async () => {
    await using listening = await listen({ proxyFrom: loopback, rules: rules("deny 192.0.2.1", "deny 127.0.0.0/8") });
    const denied = await open(listening, header);
    await until(() => denied.isClosed);
    expect(listening.metrics.get("connections.refused.address")).toBe(1);
    await open(listening, header.replace("192.0.2.1", "192.0.2.9"));
    expect((await listening.next()).link.remoteAddress).toBe("192.0.2.9");
  });

  test("of version 2 brings the name in the client's certificate", async () => {
    const name = Buffer.from("device-7");
    const ssl = Buffer.concat([Buffer.from([7, 0, 0, 0, 0, 0x22, 0, name.length]), name]);
    const tlvs = Buffer.concat([Buffer.from([0x20, 0, ssl.length]), ssl]);
    const head = Buffer.from(`0d0a0d0a000d0a515549540a2111${(12 + tlvs.length).toString(16).padStart(4, "0")}`, "hex");
    const bytes = Buffer.concat([head, Buffer.from("c0000201c6336407dc04075b", "hex"), tlvs]);
    await using listening = await listen({ proxyFrom: loopback, identityAs: "username" });
    await StreamClient.connect(at(listening), undefined, bytes);
    const { link } = await listening.next();
    expect(link.identity).toEqual({ username: "device-7" });
    expect(link.remoteAddress).toBe("192.0.2.1");
    await using plain = await listen({ proxyFrom: loopback });
    await StreamClient.connect(at(plain), undefined, bytes);
    expect((await plain.next()).link.identity).toBeUndefined();
  });
});

describe("Unix sockets", () => {
  const folder = mkdtempSync(join(tmpdir(), "mantou-"));

  test("one that a killed process left behind is replaced", async () => {
    const path = join(folder, "stale");
    const script = `Bun.listen({ unix: ${JSON.stringify(path)}, socket: { data() {} } }); console.log("open");`;
    const child = Bun.spawn([process.execPath, "-e", script], { stdout: "pipe" });
    for await (const _ of child.stdout) break;
    child.kill("SIGKILL");
    await child.exited;
    expect(existsSync(path)).toBe(true);
    await using listening = await listen({ bind: { path } });
    const client = await StreamClient.connect({ path });
    expect((await listening.next()).link.remoteAddress).toBe("");
    client.destroy();
  });

  test("one that is listened on is in use, and goes on", async () => {
    const path = join(folder, "used");
    await using first = await listen({ bind: { path } });
    await expect(listen({ bind: { path } })).rejects.toThrow(`${path} is in use by another process`);
    const client = await StreamClient.connect({ path });
    await first.next();
    client.destroy();
  });

  test("a file that is no socket is not touched", async () => {
    const path = join(folder, "file");
    writeFileSync(path, "mine");
    await expect(listen({ bind: { path } })).rejects.toThrow(path);
    expect(await Bun.file(path).text()).toBe("mine");
    rmSync(folder, { recursive: true });
  });
});
