/** Foreign clients on every way in: TLS, client certificates, WebSocket, Unix sockets, and HAProxy in front with PROXY 1 and 2. */
import { afterAll, beforeAll, expect, test } from "bun:test";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { IClientOptions } from "mqtt";
import { pem } from "#test/unit/transport/listening.ts";
import { until } from "#test/unit/transport/until.ts";
import { brokerOfFile, missing, run, unique } from "./fixture.ts";
import { Peer } from "./mqtt-js-client.ts";
import { PassTable, versions } from "./pass-table.ts";

const folder = mkdtempSync(join(tmpdir(), "mantou-listeners-"));
afterAll(() => rmSync(folder, { recursive: true }));

const socketPath = join(folder, "mantou.sock");
const files = `cert=${pem("server.pem")}&key=${pem("server.key")}`;
const mutual = `${files}&ca=${pem("ca.pem")}&crl=${pem("crl.pem")}&verify=required&identityAs=username`;
const LISTENERS = {
  tcp: "tcp://127.0.0.1:0",
  tls: `tls://127.0.0.1:0?${files}`,
  mtls: `tls://127.0.0.1:0?${mutual}`,
  ws: "ws://127.0.0.1:0",
  wss: `wss://127.0.0.1:0?${files}`,
  mwss: `wss://127.0.0.1:0?${mutual.replace("=username", "=clientId")}`,
  unix: `unix://${socketPath}`,
  proxied: "tcp://127.0.0.1:0?proxyFrom=[127.0.0.0/8]",
  proxiedTls: `tls://127.0.0.1:0?${files}&proxyFrom=[127.0.0.0/8]`,
  proxiedWs: "ws://127.0.0.1:0?proxyFrom=[127.0.0.0/8]",
  fromHaproxy: "tcp://127.0.0.1:0?proxyFrom=[127.0.0.0/8]&identityAs=clientId",
};
type Name = keyof typeof LISTENERS;

const listen = Object.entries(LISTENERS).flatMap(([name, url]) => [
  "--listen",
  `${url}${url.includes("?") ? "&" : "?"}name=${name}`,
]);
const broker = brokerOfFile(["--set", "log.level=debug", ...listen]);
const portOf = (name: Name): number => Number(new URL(broker().addresses.get(name)!).port);
const ca = readFileSync(pem("ca.pem"));
const certificate = (name: string) => ({
  cert: readFileSync(pem(`${name}.pem`)),
  key: readFileSync(pem(`${name}.key`)),
});

/** The address that the broker has logged for a client. */
async function addressOf(clientId: string): Promise<string | undefined> {
  const line = await broker().line(new RegExp(`client connected.*clientId=${clientId} `));
  return /address=(\S+)/.exec(line)?.[1];
}

// ---- MQTT.js

const mqttJs = new PassTable("MQTT.js, other transports");

for (const version of versions) {
  const exchange = async (url: string, options: IClientOptions = {}): Promise<void> => {
    await using peer = await Peer.connect(url, version, { ca, ...options });
    const topic = unique("topic");
    await peer.subscribe(topic, 2);
    for (const qos of [0, 1, 2] as const) {
      await peer.publish(topic, `qos ${qos}`, { qos });
      expect(await peer.next()).toMatchObject({ topic, payload: `qos ${qos}`, qos });
    }
    const large = Buffer.alloc(700_000, 7);
    await peer.publish(topic, large, { qos: 1 });
    expect((await peer.next()).bytes.equals(large)).toBe(true);
    await peer.end();
  };
  mqttJs.test(version, "TLS", () => exchange(`mqtts://localhost:${portOf("tls")}`));
  mqttJs.test(version, "TLS with a client certificate", () =>
    exchange(`mqtts://localhost:${portOf("mtls")}`, certificate("client")),
  );
  mqttJs.test(version, "WebSocket over TLS with a client certificate, whose name is the client id", async () => {
    const { length } = broker().output();
    await exchange(`wss://localhost:${portOf("mwss")}/mqtt`, certificate("client"));
    await tells("clientId=device-7 ", length);
  });
  mqttJs.test(version, "WebSocket over TLS is refused without a certificate, and with a revoked one", async () => {
    const url = `wss://localhost:${portOf("mwss")}/mqtt`;
    await expect(exchange(url)).rejects.toThrow();
    await expect(exchange(url, certificate("revoked"))).rejects.toThrow();
  });
  mqttJs.test(version, "WebSocket", () => exchange(`ws://127.0.0.1:${portOf("ws")}/mqtt`));
  mqttJs.test(version, "WebSocket over TLS", () => exchange(`wss://localhost:${portOf("wss")}/mqtt`));
}

// ---- mosquitto

const mosquitto = new PassTable("mosquitto_pub and _sub, TLS");
const withoutMosquitto = missing(["mosquitto_sub", "mosquitto_pub"]);
const names = { "3.1": "mqttv31", "3.1.1": "mqttv311", "5.0": "mqttv5" } as const;

for (const version of versions) {
  const exchange = async (connection: string[]): Promise<void> => {
    const topic = unique("topic");
    const common = ["-V", names[version], "-t", topic, "-q", "1", ...connection];
    await run(["mosquitto_pub", ...common, "-m", "hello", "-r"]);
    expect(await run(["mosquitto_sub", ...common, "-C", "1", "-W", "10"])).toBe("hello\n");
  };
  const to = (name: Name, ...more: string[]): string[] => {
    return ["-h", "localhost", "-p", `${portOf(name)}`, "--cafile", pem("ca.pem"), ...more];
  };
  const cases: [string, () => Promise<void>][] = [
    ["Unix socket", () => exchange(["--unix", socketPath])],
    ["TLS", () => exchange(to("tls"))],
    ["TLS 1.2", () => exchange(to("tls", "--tls-version", "tlsv1.2"))],
    ["TLS with a client certificate", () => exchange(to("mtls", ...filesOf("client")))],
    [
      "refused with a revoked certificate, and without one",
      async () => {
        await expect(exchange(to("mtls", ...filesOf("revoked")))).rejects.toThrow();
        await expect(exchange(to("mtls"))).rejects.toThrow();
      },
    ],
  ];
  for (const [feature, body] of cases) {
    if (withoutMosquitto === undefined) mosquitto.test(version, feature, body);
    else mosquitto.skip(version, feature, withoutMosquitto);
  }
}

function filesOf(name: string): string[] {
  return ["--cert", pem(`${name}.pem`), "--key", pem(`${name}.key`)];
}

// ---- openssl

const withoutOpenssl = missing(["openssl"]);

test.skipIf(withoutOpenssl !== undefined)(
  "openssl s_client: versions, chain, and CONNECT answered by CONNACK",
  async () => {
    const connect = (...more: string[]) => {
      const to = ["-connect", `127.0.0.1:${portOf("tls")}`, "-CAfile", pem("ca.pem"), "-verify_return_error"];
      return ["openssl", "s_client", ...to, "-quiet", ...more];
    };
    for (const version of ["-tls1_2", "-tls1_3"]) {
      const child = Bun.spawn(connect(version), { stdin: "pipe", stdout: "pipe", stderr: "ignore" });
      child.stdin.write(Buffer.from("100f00044d5154540402000000037331" + "31", "hex").subarray(0, 17));
      await child.stdin.flush();
      const { value } = await child.stdout.getReader().read();
      child.kill();
      expect(Buffer.from(value!).toString("hex")).toBe("20020000");
    }
    await expect(run(["openssl", "s_client", "-connect", `127.0.0.1:${portOf("tls")}`, "-tls1_1"])).rejects.toThrow();
  },
);

// ---- HAProxy

const withoutHaproxy = missing(["haproxy", "mosquitto_pub"]);
const haproxy = new PassTable("HAProxy in front");

const FRONTS: [name: string, listener: Name, server: string, bind: string][] = [
  ["v1", "proxied", "send-proxy", ""],
  ["v2", "proxied", "send-proxy-v2", ""],
  ["v2tls", "proxiedTls", "send-proxy-v2", ""],
  ["v2ws", "proxiedWs", "send-proxy-v2", ""],
  [
    "terminated",
    "fromHaproxy",
    "send-proxy-v2-ssl-cn",
    `ssl crt ${join(folder, "both.pem")} ca-file ${pem("ca.pem")} verify required`,
  ],
];

let ports: number[] = [];
let child: Bun.Subprocess | undefined;

beforeAll(async () => {
  if (withoutHaproxy !== undefined) return;
  writeFileSync(
    join(folder, "both.pem"),
    readFileSync(pem("server.pem"), "utf8") + readFileSync(pem("server.key"), "utf8"),
  );
  ports = await freePorts(FRONTS.length);
  const sections = FRONTS.map(
    ([name, listener, server, bind], i) =>
      `listen ${name}\n  bind 127.0.0.1:${ports[i]} ${bind}\n  server mantou 127.0.0.1:${portOf(listener)} ${server}\n`,
  );
  const timeouts = "  mode tcp\n  timeout connect 5s\n  timeout client 60s\n  timeout server 60s\n";
  const config = join(folder, "haproxy.cfg");
  writeFileSync(config, `global\n  maxconn 100\ndefaults\n${timeouts}${sections.join("")}`);
  child = Bun.spawn(["haproxy", "-db", "-f", config], { stdout: "ignore", stderr: "inherit" });
  for (const port of ports) await until(() => child!.exitCode !== null || isListening(port));
  expect(child.exitCode).toBeNull();
});
afterAll(() => child?.kill());

for (const version of versions) {
  const ofFront = (name: string): string => String(ports[FRONTS.findIndex(([front]) => front === name)]);
  /** The address that the broker sees of a client at 127.0.0.77. */
  const seenFrom = async (front: string, connection: string[], host = "127.0.0.1"): Promise<string | undefined> => {
    const clientId = unique("behind");
    const target = ["-h", host, "-p", ofFront(front), "-A", "127.0.0.77", "-V", names[version], "-i", clientId];
    await run(["mosquitto_pub", ...target, ...connection, "-t", unique("topic"), "-m", "hello", "-q", "1"]);
    return addressOf(clientId);
  };
  const secure = ["--cafile", pem("ca.pem")];
  const cases: [string, () => Promise<void>][] = [
    ["PROXY 1", async () => expect(await seenFrom("v1", [])).toBe("127.0.0.77")],
    ["PROXY 2", async () => expect(await seenFrom("v2", [])).toBe("127.0.0.77")],
    ["PROXY 2 before TLS", async () => expect(await seenFrom("v2tls", secure, "localhost")).toBe("127.0.0.77")],
    [
      "PROXY 2 before WebSocket",
      async () => (await Peer.connect(`ws://127.0.0.1:${ofFront("v2ws")}/mqtt`, version)).end(),
    ],
    [
      "TLS ended by HAProxy: its client's name is the client id",
      async () => {
        const { length } = broker().output();
        const target = ["-h", "localhost", "-p", ofFront("terminated"), "-V", names[version], ...secure];
        await run(["mosquitto_pub", ...target, ...filesOf("client"), "-i", "any", "-t", "a", "-m", "hello", "-q", "1"]);
        await tells("clientId=device-7 ", length);
      },
    ],
  ];
  for (const [feature, body] of cases) {
    if (withoutHaproxy === undefined) haproxy.test(version, feature, body);
    else haproxy.skip(version, feature, withoutHaproxy);
  }
}

/** The broker says it after the first `length` characters of its output; a worker's log comes by way of its keeper. */
async function tells(text: string, length: number): Promise<void> {
  const told = (): string => broker().output().slice(length);
  for (let left = 100; left > 0 && !told().includes(text); left--) await Bun.sleep(50);
  expect(told()).toContain(text);
}

async function freePorts(count: number): Promise<number[]> {
  const servers = Array.from({ length: count }, () => createServer());
  for (const server of servers) await new Promise<void>((done) => server.listen(0, "127.0.0.1", done));
  const found = servers.map((server) => (server.address() as { port: number }).port);
  for (const server of servers) await new Promise((done) => server.close(done));
  return found;
}

function isListening(port: number): boolean {
  const hex = `0100007F:${port.toString(16).toUpperCase().padStart(4, "0")}`;
  return readFileSync("/proc/net/tcp", "utf8")
    .split("\n")
    .some((line) => line.includes(` ${hex} `) && line.includes(" 0A "));
}
