// The load generator as users run it: against the broker, through TLS and WebSocket, and against servers that do wrong.

import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { resolve } from "node:path";
import type { Socket } from "bun";
import { readFrame } from "#mqtt/codec/frame.ts";
import { type BrokerProcess, startBroker } from "#test/support/broker-process.ts";

const MAIN = resolve(import.meta.dir, "../../bench/main.ts");
/** Of nobody: self-signed for localhost, made for this test. */
const CERT = `-----BEGIN CERTIFICATE-----
MIIBmzCCAUGgAwIBAgIUe3y3hWX5dcAvOnhN9e5CuZKyde8wCgYIKoZIzj0EAwIw
FDESMBAGA1UEAwwJbG9jYWxob3N0MCAXDTI2MTEyMzAyMTI0MloYDzIxMjYxMDMw
MDIxMjQyWjAUMRIwEAYDVQQDDAlsb2NhbGhvc3QwWTATBgcqhkjOPQIBBggqhkjO
PQMBBwNCAAQX3oau40fkHmIZBIuSZpIh9q/jS7yBRDJEwWna0sQT32+srEBAdvum
XA77rjX05BMNvjz3ES8G1tI9Oz4Sn/iZo28wbTAdBgNVHQ4EFgQUdShnzV37H87/
u4OFxeH2Pr4fh2YwHwYDVR0jBBgwFoAUdShnzV37H87/u4OFxeH2Pr4fh2YwDwYD
VR0TAQH/BAUwAwEB/zAaBgNVHREEEzARgglsb2NhbGhvc3SHBH8AAAEwCgYIKoZI
zj0EAwIDSAAwRQIhAIkK3Z1SK78vG43czQzYSpkLcoGtXDxN2aNztArHyzvpAiAu
oC3YfP+L7N6l2a5IbFyPooz+S58Uo36nQ1graV/Ofw==
-----END CERTIFICATE-----`;
const KEY = `-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgJ/a1OCwQZvUNyBGL
7jfRsbLOGsNO8GevaDPxoXOPyk2hRANCAAQX3oau40fkHmIZBIuSZpIh9q/jS7yB
RDJEwWna0sQT32+srEBAdvumXA77rjX05BMNvjz3ES8G1tI9Oz4Sn/iZ
-----END PRIVATE KEY-----`;

/** One for all: each run has topics of its own. */
let broker: BrokerProcess;
beforeAll(async () => {
  broker = await startBroker();
});
afterAll(() => broker.kill());

/** `whenUp` is called when all clients are connected and subscribed. */
async function bench(line: string, port: number, whenUp: () => void = () => {}) {
  const child = Bun.spawn([process.execPath, MAIN, ...line.split(" "), "-p", String(port), "--json"], {
    stdin: "ignore",
    stdout: "pipe",
    stderr: "pipe",
    timeout: 20_000,
  });
  let text = "";
  const decoder = new TextDecoder();
  const read = async (): Promise<void> => {
    for await (const chunk of child.stderr) {
      text += decoder.decode(chunk, { stream: true });
      if (text.includes("clients up\n")) whenUp();
    }
  };
  const [out] = await Promise.all([child.stdout.text(), read()]);
  const code = await child.exited;
  if (out.trim().split("\n").length !== 1) throw new Error(`not one line of JSON, exit ${code}:\n${out}\n${text}`);
  return { code, text, figures: JSON.parse(out) as { [name: string]: unknown } };
}

const clean = { lost: 0, duplicates: 0, reordered: 0, foreign: 0, wrongQos: 0, damaged: 0, strayAcks: 0, unacked: 0 };

describe.concurrent("against the broker", () => {
  test.each([
    ["pair -t a/%i --pubs 5 --limit 20000", { sent: 20_000, received: 20_000, connected: 10 }],
    ["fanin -t b/%i --pubs 6 --subs 2 --limit 600 -q 1 --processes 2", { sent: 600, received: 1200, processes: 2 }],
    ["fanout -t c/%i --subs 7 --limit 100 -q 2 -V 3.1", { sent: 100, received: 700, version: 3 }],
    ["rtt -t d/%i --limit 50 -q 1", { sent: 50, received: 50 }],
    [
      "pair -t e/%i --pubs 2 --limit 900 -V 5 -q 0:50,1:30,2:20 --user-property a=b --topic-alias --expiry 60 --sub-id 3",
      { sent: 900, received: 900, version: 5 },
    ],
    [
      "pair -t f/%i --pubs 2 --rate 2000 --duration 0.2 --warmup 0.05 --ifaddr 127.0.7.1-127.0.7.3",
      { ratePerSec: 2000, connected: 4 },
    ],
    ["pub -c 3 -i 0 -t g/%i -q 1 --rate 1000 -L 90", { sent: 90, unacked: 0, connected: 3 }],
    ["conn -c 20 -i 1 -t h/%c --duration 0.1", { connected: 20, failed: 0 }],
  ])("%s", async (line, wanted) => {
    const { code, text, figures } = await bench(`${line} --server-pid ${broker.pid}`, broker.port);
    expect({ code, ...figures }, text).toMatchObject({ code: 0, ...clean, ...wanted });
    expect(figures).toMatchObject({ server: { processes: 1 }, connecting: { processes: 1 } });
  });

  test("sub checks what pub sends", async () => {
    const up = Promise.withResolvers<void>();
    const sub = bench("sub -c 2 -i 0 -t i/# --prefix listener -q 1 --limit 100", broker.port, up.resolve);
    await up.promise;
    await bench("pub -c 2 -i 0 -t i/%i -q 1 --rate 1000 -L 50", broker.port);
    expect(await sub).toMatchObject({ code: 0, figures: { received: 100, unstamped: 0, ...clean } });
  });
});

describe.concurrent("TLS and WebSocket", () => {
  test("mqtts", async () => {
    const server = Bun.listen<Bridge>({
      hostname: "127.0.0.1",
      port: 0,
      tls: { cert: CERT, key: KEY },
      socket: {
        open: (socket) => void (socket.data = new Bridge(broker.port, (bytes) => void socket.write(bytes))),
        data: (socket, chunk) => socket.data.send(chunk),
        close: (socket) => socket.data?.end(),
      },
    });
    const run = await bench("pair -t j/%i --pubs 3 --limit 300 -q 1 --ssl", server.port);
    server.stop(true);
    expect(run, run.text).toMatchObject({ code: 0, figures: { received: 300, transport: "mqtts", ...clean } });
  });

  test("ws", async () => {
    const server = Bun.serve<Bridge>({
      hostname: "127.0.0.1",
      port: 0,
      fetch: (request, http) =>
        new URL(request.url).pathname === "/mqtt" &&
        http.upgrade(request, { data: new Bridge(broker.port), headers: { "Sec-WebSocket-Protocol": "mqtt" } })
          ? undefined
          : new Response("no", { status: 400 }),
      websocket: {
        open: (socket) => socket.data.to((bytes) => void socket.sendBinary(bytes)),
        message: (socket, message) => socket.data.send(message as Buffer),
        close: (socket) => socket.data.end(),
      },
    });
    const run = await bench("pair -t k/%i --pubs 3 --limit 300 -q 2 --ws -s 300", server.port!);
    const wrong = await bench("conn -c 1 --ws --ws-path /other --duration 0.1", server.port!);
    await server.stop(true);
    expect(run, run.text).toMatchObject({ code: 0, figures: { received: 300, transport: "ws", ...clean } });
    expect(wrong).toMatchObject({ code: 1, figures: { connected: 0, failed: 1 } });
    expect(wrong.text).toContain("400");
  });
});

describe.concurrent("a server that does wrong is found out", () => {
  test.each([
    ["duplicates", (send: Send, n: number) => (send(), n === 7 && send()), { duplicates: 1, lost: 0, reordered: 0 }],
    ["loses", (send: Send, n: number) => n !== 7 && send(), { duplicates: 0, lost: 1, reordered: 0 }],
    ["reorders", reorder(), { duplicates: 0, lost: 0, reordered: 1 }],
  ] as const)("%s", async (_name, deliver, wanted) => {
    const server = wrongServer(deliver);
    const { code, text, figures } = await bench("pair --pubs 1 --limit 20 --outstanding 30", server.port);
    server.stop(true);
    expect({ code, ...figures }, text).toMatchObject({ code: 3, sent: 20, ...wanted });
    expect(text).toContain("THIS RUN DOES NOT COUNT");
  });

  test("one that is not there", async () => {
    const server = Bun.listen({ hostname: "127.0.0.1", port: 0, socket: { data: () => {} } });
    server.stop(true);
    const { code, figures } = await bench("pair --pubs 1", server.port);
    expect({ code, ...figures }).toMatchObject({ code: 1, failed: 2, sent: 0 });
  });
});

test("bad options end with 2 and say why", async () => {
  const child = Bun.spawn([process.execPath, MAIN, "pair", "--nope"], { stdout: "pipe", stderr: "pipe" });
  expect([await child.exited, await child.stdout.text()]).toEqual([2, ""]);
  expect(await child.stderr.text()).toContain("pair has no option --nope");
});

/** Bytes to and from the broker on TCP, for one client on something else. */
class Bridge {
  private readonly link: Promise<Socket>;
  private out: (bytes: Buffer) => void = () => {};

  constructor(port: number, out?: (bytes: Buffer) => void) {
    if (out !== undefined) this.out = out;
    const socket = { data: (_: Socket, chunk: Buffer) => this.out(chunk) };
    this.link = Bun.connect({ hostname: "127.0.0.1", port, socket });
  }

  to(out: (bytes: Buffer) => void): void {
    this.out = out;
  }

  send(bytes: Buffer): void {
    const copy = Buffer.from(bytes);
    void this.link.then((socket) => socket.write(copy));
  }

  end(): void {
    void this.link.then((socket) => socket.end());
  }
}

type Send = () => unknown;
type Deliver = (send: Send, number: number) => unknown;

/** The seventh goes out after the eighth. */
function reorder(): Deliver {
  let held: Send | undefined;
  return (send, number) => {
    if (number === 7) held = send;
    else send();
    if (number === 8) held!();
  };
}

/** Answers CONNECT and SUBSCRIBE; what it does with the n-th PUBLISH is up to `deliver`. */
function wrongServer(deliver: Deliver) {
  let subscriber: Socket | undefined;
  let count = 0;
  return Bun.listen({
    hostname: "127.0.0.1",
    port: 0,
    socket: {
      data: (socket, chunk) => {
        for (let at = 0; at < chunk.length; at += readFrame(chunk, at, chunk.length)) {
          const packet = Buffer.from(chunk.subarray(at, at + readFrame(chunk, at, chunk.length)));
          if (packet[0]! >> 4 === 1) socket.write(Buffer.from("20020000", "hex"));
          if (packet[0]! >> 4 === 3) deliver(() => subscriber!.write(packet), count++);
          if (packet[0]! >> 4 !== 8) continue;
          subscriber = socket;
          socket.write(Buffer.from("9003000100", "hex"));
        }
      },
    },
  });
}
