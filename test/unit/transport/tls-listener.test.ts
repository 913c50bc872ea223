// TLS listeners: which certificate, which clients, what becomes of those who dawdle.

import { describe, expect, test } from "bun:test";
import { copyFileSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { connect as connectPlain } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type ConnectionOptions, type TLSSocket } from "node:tls";
import type { PeerIdentity } from "#core/ports.ts";
import type { TlsOptions } from "#transport/tls-credentials.ts";
import { StreamClient, WebSocketClient } from "./clients.ts";
import { listen, type Listening, type ListeningOptions, pem, serverTls } from "./listening.ts";
import { until } from "./until.ts";

const ca = pem("ca.pem");
const of = (name: string) => ({ cert: readFileSync(pem(`${name}.pem`)), key: readFileSync(pem(`${name}.key`)) });
const at = ({ port }: Listening) => ({ host: "127.0.0.1", port });
const tls = (more: Partial<TlsOptions> = {}): TlsOptions => ({ ...serverTls, ...more });

const connect = (listening: Listening, options: ConnectionOptions = {}) => StreamClient.connect(at(listening), options);
const nameOf = ({ socket }: StreamClient): string => (socket as TLSSocket).getPeerCertificate().subject.CN as string;

/** What the listener knows of a client with this certificate; undefined when it is refused. */
async function identityOf(
  listening: Listening,
  options: ConnectionOptions,
): Promise<PeerIdentity | undefined | "refused"> {
  const client = await connect(listening, options).catch(() => undefined);
  if (!client) return "refused";
  const before = listening.links.length;
  await until(() => client.isClosed || listening.links.length > before || listening.links.length > 0);
  const link = listening.links.pop()?.link;
  client.destroy();
  return link ? link.identity : "refused";
}

describe("certificates by name", () => {
  const certificates = [...serverTls.certificates, { cert: pem("two.pem"), key: pem("two.key") }];
  const cases: [string | undefined, string][] = [
    ["localhost", "localhost"],
    ["two.example", "two"],
    ["TWO.example", "two"],
    ["a.two.example", "two"],
    ["a.b.two.example", "localhost"],
    ["three.example", "localhost"],
    [undefined, "localhost"],
  ];
  test.each(cases)("tls: a client that asks for %j gets that of %s", async (servername, name) => {
    await using listening = await listen({ tls: tls({ certificates }) });
    const client = await connect(listening, servername === undefined ? {} : { servername });
    expect(nameOf(client)).toBe(name);
    client.destroy();
  });

  test.each(cases.filter(([name]) => name !== "TWO.example"))(
    "wss: a client that asks for %j gets that of %s",
    async (servername, name) => {
      await using listening = await listen({ tls: tls({ certificates }), webSocket: { path: "/mqtt", origins: [] } });
      const client = await connect(listening, servername === undefined ? {} : { servername });
      expect(nameOf(client)).toBe(name);
      client.destroy();
    },
  );
});

describe("versions and ciphers", () => {
  const kinds: [string, ListeningOptions][] = [
    ["tls", {}],
    ["wss", { webSocket: { path: "/mqtt", origins: [] } }],
  ];
  test.each(kinds)("%s: an older TLS than allowed is refused", async (_, kind) => {
    await using strict = await listen({ ...kind, tls: tls({ versionMin: "1.3" }) });
    await expect(connect(strict, { maxVersion: "TLSv1.2" })).rejects.toThrow();
    (await connect(strict)).destroy();
    await using usual = await listen({ ...kind, tls: tls() });
    (await connect(usual, { maxVersion: "TLSv1.2" })).destroy();
    await expect(connect(usual, { minVersion: "TLSv1.1", maxVersion: "TLSv1.1" })).rejects.toThrow();
  });

  test.each(kinds)("%s: only the ciphers that are listed", async (_, kind) => {
    await using listening = await listen({ ...kind, tls: tls({ ciphers: "ECDHE-ECDSA-AES256-GCM-SHA384" }) });
    const client = await connect(listening, { maxVersion: "TLSv1.2" });
    expect((client.socket as TLSSocket).getCipher().name).toBe("ECDHE-ECDSA-AES256-GCM-SHA384");
    client.destroy();
    const other = { maxVersion: "TLSv1.2", ciphers: "ECDHE-ECDSA-AES128-GCM-SHA256" } as const;
    await expect(connect(listening, other)).rejects.toThrow();
  });
});

describe("client certificates", () => {
  const certificate = {
    commonName: "device-7",
    subject: "C=DE,O=Example\\, Inc,CN=device-7",
    alternativeNames: ["DNS:device-7.example", "URI:urn:device:7"],
    fingerprint: expect.stringMatching(/^[0-9a-f]{64}$/),
  };

  test("none: not asked for", async () => {
    await using listening = await listen({ tls: tls() });
    expect(await identityOf(listening, of("client"))).toBeUndefined();
  });

  test("required: known ones only", async () => {
    await using listening = await listen({ tls: tls({ ca, verify: "required" }) });
    expect(await identityOf(listening, of("client"))).toEqual({ certificate });
    expect(await identityOf(listening, of("revoked"))).toMatchObject({ certificate: { commonName: "revoked" } });
    expect(await identityOf(listening, of("stranger"))).toBe("refused");
    expect(await identityOf(listening, {})).toBe("refused");
    expect(listening.metrics.get("connections.refused.handshake")).toBe(2);
    expect(listening.bugs).toEqual([]);
  });

  test("optional: known ones or none", async () => {
    await using listening = await listen({ tls: tls({ ca, verify: "optional" }) });
    expect(await identityOf(listening, of("client"))).toEqual({ certificate });
    expect(await identityOf(listening, {})).toBeUndefined();
    expect(await identityOf(listening, of("stranger"))).toBe("refused");
  });

  test("a revoked one is refused", async () => {
    await using listening = await listen({ tls: tls({ ca, crl: pem("crl.pem"), verify: "required" }) });
    expect(await identityOf(listening, of("revoked"))).toBe("refused");
    expect(await identityOf(listening, of("client"))).toEqual({ certificate });
  });

  test("TLS 1.2 clients too", async () => {
    await using listening = await listen({ tls: tls({ ca, verify: "required" }) });
    expect(await identityOf(listening, { ...of("client"), maxVersion: "TLSv1.2" })).toEqual({ certificate });
    expect(await identityOf(listening, { maxVersion: "TLSv1.2" })).toBe("refused");
  });

  test.each([
    ["commonName", "device-7"],
    ["subject", "C=DE,O=Example\\, Inc,CN=device-7"],
    ["alternativeName", "device-7.example"],
  ] as const)("its %s stands for the client", async (identityFrom, name) => {
    const options = { tls: tls({ ca, verify: "required" }), identityFrom } as const;
    await using asUser = await listen({ ...options, identityAs: "username" });
    expect(await identityOf(asUser, of("client"))).toEqual({ certificate, username: name });
    await using asClient = await listen({ ...options, identityAs: "clientId" });
    expect(await identityOf(asClient, of("client"))).toEqual({ certificate, clientId: name });
  });

  test("over WebSocket, with the headers of the upgrade", async () => {
    const webSocket = { path: "/mqtt", origins: [] };
    await using listening = await listen({ tls: tls({ ca, verify: "required" }), webSocket, identityAs: "username" });
    const stream = await connect(listening, of("client"));
    const client = await WebSocketClient.connect(stream, { headers: { Cookie: "a=1" } });
    const { link } = await listening.next();
    expect(link.identity).toMatchObject({
      certificate,
      username: "device-7",
      headers: { cookie: "a=1", host: "localhost" },
    });
    client.destroy();
    listening.links.length = 0;
    expect(await identityOf(listening, of("stranger"))).toBe("refused");
  });
});

describe("certificates that are replaced", () => {
  const kinds: [string, ListeningOptions][] = [
    ["tls", {}],
    ["wss", { webSocket: { path: "/mqtt", origins: [] } }],
  ];
  test.each(kinds)("%s: new connections see the new one, the old ones go on", async (kind, options) => {
    const folder = mkdtempSync(join(tmpdir(), "mantou-"));
    const [cert, key] = [join(folder, "cert.pem"), join(folder, "key.pem")];
    copyFileSync(pem("server.pem"), cert);
    copyFileSync(pem("server.key"), key);
    await using listening = await listen({ ...options, tls: tls({ certificates: [{ cert, key }] }) });
    const open = async () => {
      const stream = await connect(listening);
      return kind === "wss" ? ([stream, await WebSocketClient.connect(stream)] as const) : ([stream, stream] as const);
    };
    const [oldStream, old] = await open();
    expect(nameOf(oldStream)).toBe("localhost");
    const { link } = await listening.next();

    copyFileSync(pem("server-new.pem"), cert); // its key is still the old one
    await listening.listener.refresh();
    expect(listening.notices.at(-1)).toContain("keeps its old certificates");
    expect(listening.notices.at(-1)).toContain("the key does not belong to the certificate");
    const [between] = await open();
    expect(nameOf(between)).toBe("localhost");
    between.destroy();

    copyFileSync(pem("server-new.key"), key);
    await listening.listener.refresh();
    expect(listening.notices.at(-1)).toContain("are in use");
    const [newStream, young] = await open();
    expect(nameOf(newStream)).toBe("localhost new");
    old.send(Buffer.from("still here"));
    await until(() => listening.links[0]!.length === 10);
    listening.links[0]!.write(Buffer.from("so am I"));
    await until(() => old.length === 7);
    expect(link.unsentBytes).toBe(0);
    const count = listening.notices.length;
    await listening.listener.refresh();
    expect(listening.notices.length).toBe(count); // nothing has changed
    for (const client of [old, young]) client.destroy();
    rmSync(folder, { recursive: true });
  });

  test("a file that is gone for a while changes nothing", async () => {
    const folder = mkdtempSync(join(tmpdir(), "mantou-"));
    const cert = join(folder, "cert.pem");
    copyFileSync(pem("server.pem"), cert);
    await using listening = await listen({ tls: tls({ certificates: [{ cert, key: pem("server.key") }] }) });
    rmSync(folder, { recursive: true });
    await listening.listener.refresh();
    expect(listening.notices.at(-1)).toContain("cannot be read: ENOENT");
    (await connect(listening)).destroy();
  });
});

describe("wrong files", () => {
  const folder = mkdtempSync(join(tmpdir(), "mantou-"));
  const junk = join(folder, "junk.pem");
  writeFileSync(junk, "junk");
  const [{ cert, key }] = serverTls.certificates as [{ cert: string; key: string }];
  test.each([
    ["no such file", { certificates: [{ cert: "/nowhere.pem", key }] }, "/nowhere.pem: cannot be read: ENOENT"],
    ["no certificate", { certificates: [{ cert: junk, key }] }, "found no certificate"],
    ["no key", { certificates: [{ cert, key: junk }] }, "found no PEM text"],
    [
      "another's key",
      { certificates: [{ cert, key: pem("client.key") }] },
      "the key does not belong to the certificate",
    ],
    ["unknown ciphers", { ciphers: "NOPE" }, "ciphers names none that is known"],
  ])("%s stop the start", async (_, more, words) => {
    const problem = await listen({ tls: tls(more) }).catch((error: unknown) => error);
    expect(problem).toMatchObject({ code: "certificate_invalid", message: expect.stringContaining(words) });
  });
});

describe("whoever does not shake hands", () => {
  const plain = (listening: Listening, bytes: Uint8Array) => StreamClient.connect(at(listening), undefined, bytes);

  test.each([
    ["nothing", Buffer.alloc(0)],
    ["half a hello", Buffer.from([22, 3, 1, 1, 0, 1, 0])],
  ])("a client that sends %s is cut at the deadline", async (_, bytes) => {
    await using listening = await listen({ tls: tls(), handshakeSecMax: 2 });
    const client = await plain(listening, bytes);
    await until(() => listening.listener.connectionCount === 1);
    listening.transport.sweep(performance.now() + 1000);
    await Bun.sleep(10);
    expect(client.isClosed).toBe(false);
    listening.transport.sweep(performance.now() + 3000);
    await until(() => client.isClosed);
    await until(() => listening.listener.connectionCount === 0);
    expect(listening.metrics.get("connections.refused.handshake_timeout")).toBe(1);
    expect(listening.links).toEqual([]);
  });

  test("one that begins and goes no further is cut too, and gives its place in the queue back", async () => {
    const hello = await helloBytes();
    await using listening = await listen({ tls: tls(), handshakeSecMax: 2, handshakesMax: 1 });
    const stuck = await plain(listening, hello);
    await until(() => stuck.length > 0); // ServerHello
    const waiting = await plain(listening, hello);
    await Bun.sleep(30);
    expect(waiting.length).toBe(0);
    listening.transport.sweep(performance.now() + 3000); // both are past their deadline
    await until(() => stuck.isClosed && waiting.isClosed);
    expect(listening.metrics.get("connections.refused.handshake_timeout")).toBe(2);
    const client = await connect(listening);
    await listening.next();
    client.destroy();
  });

  test("one that closes while it waits for its turn is forgotten", async () => {
    const hello = await helloBytes();
    await using listening = await listen({ tls: tls(), handshakeSecMax: 2, handshakesMax: 1 });
    const stuck = await plain(listening, hello);
    await until(() => stuck.length > 0);
    const waiting = [await plain(listening, hello), await plain(listening, hello)];
    await until(() => listening.listener.connectionCount === 3);
    for (const client of waiting) client.destroy();
    await until(() => listening.listener.connectionCount === 1);
    stuck.destroy();
    const client = await connect(listening);
    await listening.next();
    client.destroy();
    expect(listening.bugs).toEqual([]);
  });

  test("one that closes in the middle gives its place back", async () => {
    const hello = await helloBytes();
    await using listening = await listen({ tls: tls(), handshakesMax: 2 });
    for (let i = 0; i < 6; i++) {
      const client = await plain(listening, hello);
      await until(() => client.length > 0);
      client.destroy();
    }
    await until(() => listening.listener.connectionCount === 0);
    const client = await connect(listening);
    await listening.next();
    client.destroy();
    expect(listening.bugs).toEqual([]);
  });

  test.each([
    ["MQTT without TLS", Buffer.from("\x10\x0c\x00\x04MQTT\x04\x02\x00\x00\x00\x00", "latin1")],
    ["HTTP", Buffer.from("GET / HTTP/1.1\r\n\r\n")],
    ["a broken hello", Buffer.concat([Buffer.from([22, 3, 1, 0, 60, 1, 0, 0, 56]), Buffer.alloc(56, 255)])],
  ])("%s is refused and counted", async (_, bytes) => {
    await using listening = await listen({ tls: tls() });
    const client = await plain(listening, bytes);
    await until(() => client.isClosed);
    expect(listening.metrics.get("connections.refused.handshake")).toBe(1);
    expect(listening.bugs).toEqual([]);
    await until(() => listening.listener.connectionCount === 0);
  });

  test("one that floods before the handshake is cut", async () => {
    await using listening = await listen({ tls: tls() });
    const flood = Buffer.alloc(60_000);
    for (let start = 0; start < flood.length; start += 6) flood.set([22, 3, 1, 0, 1, start === 0 ? 1 : 0], start); // a byte a record
    flood.set([22, 3, 1, 0, 1, 0x00, 22, 3, 1, 0, 1, 0x30], 6);
    const client = await plain(listening, flood);
    await until(() => client.isClosed);
    expect(listening.metrics.get("connections.refused.handshake")).toBe(1);
  });

  test("a listener that stops waits for none of them", async () => {
    const hello = await helloBytes();
    await using listening = await listen({ tls: tls() });
    const inside = await connect(listening);
    const protocol = await listening.next();
    const clients = [await plain(listening, hello), await plain(listening, Buffer.alloc(0))];
    await until(() => clients[0]!.length > 0 && listening.listener.connectionCount === 3);
    listening.listener.stop();
    await until(() => listening.listener.connectionCount === 1 && clients.every(({ isClosed }) => isClosed));
    protocol.write(Buffer.from("still there"));
    await until(() => inside.length === 11);
    inside.destroy();
  });

  test("many at once all come in, a few at a time", async () => {
    await using listening = await listen({ tls: tls(), handshakesMax: 3 });
    const clients = await Promise.all(Array.from({ length: 60 }, () => connect(listening)));
    await until(() => listening.links.length === 60);
    for (const client of clients) client.destroy();
    await until(() => listening.listener.connectionCount === 0);
    expect(listening.transport.connectionCount).toBe(0);
  });
});

/** A ClientHello as a real client sends it. */
async function helloBytes(): Promise<Buffer> {
  const { promise, resolve } = Promise.withResolvers<Buffer>();
  const server = Bun.listen({
    hostname: "127.0.0.1",
    port: 0,
    socket: { data: (_, bytes) => resolve(Buffer.from(bytes)) },
  });
  const socket = connectPlain({ host: "127.0.0.1", port: server.port });
  const { connect: connectTls } = await import("node:tls");
  connectTls({ socket, rejectUnauthorized: false }).on("error", () => {});
  const hello = await promise;
  socket.destroy();
  server.stop(true);
  return hello;
}
