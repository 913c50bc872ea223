/** MQTT.js inside a page of a real browser, over ws and wss, and which pages may come in at all. */
import { afterAll, beforeAll, expect, test } from "bun:test";
import { type Browser, chromium, type Page } from "playwright-core";
import { pem } from "#test/unit/transport/listening.ts";
import { brokerOfFile, missing, unique } from "./fixture.ts";
import { PassTable, versions } from "./pass-table.ts";

const BUNDLE = Bun.resolveSync("mqtt/dist/mqtt.min.js", import.meta.dir);
const files = `cert=${pem("server.pem")}&key=${pem("server.key")}`;
const absent = missing(["chromium"]);
const table = new PassTable("MQTT.js in Chromium");

/** The pages' own server; its origin is what the broker allows. */
const pages = Bun.serve({
  port: 0,
  hostname: "127.0.0.1",
  fetch: () => new Response("<!doctype html><title>page</title>", { headers: { "Content-Type": "text/html" } }),
});
const origin = `http://127.0.0.1:${pages.port}`;
const broker = brokerOfFile([
  "--listen",
  `ws://127.0.0.1:0?name=ws&origins=["${origin}"]`,
  "--listen",
  `wss://127.0.0.1:0?name=wss&${files}`,
]);

let browser: Browser;
beforeAll(async () => {
  if (absent !== undefined) return;
  browser = await chromium.launch({
    executablePath: Bun.which("chromium")!,
    args: ["--no-sandbox", "--ignore-certificate-errors"],
  });
}, 60_000);
afterAll(async () => {
  await browser?.close();
  await pages.stop(true);
});

async function openPage(url: string): Promise<Page> {
  const page = await browser.newPage();
  await page.goto(url);
  await page.addScriptTag({ path: BUNDLE });
  return page;
}

/** Runs in the page: subscribes, publishes at each QoS and returns what came. */
const exchange = async ({
  url,
  version,
  topic,
}: {
  url: string;
  version: number;
  topic: string;
}): Promise<string[]> => {
  interface Client {
    subscribeAsync(topic: string, options: object): Promise<unknown>;
    publishAsync(topic: string, payload: string, options: object): Promise<unknown>;
    endAsync(): Promise<void>;
    on(event: "message", handler: (topic: string, payload: Uint8Array) => void): void;
  }
  const { mqtt } = globalThis as unknown as { mqtt: { connectAsync(url: string, options: object): Promise<Client> } };
  const options = {
    protocolVersion: version,
    protocolId: version === 3 ? "MQIsdp" : "MQTT",
    reconnectPeriod: 0,
    connectTimeout: 5000,
  };
  const client = await mqtt.connectAsync(url, options);
  const seen: string[] = [];
  const all = new Promise<void>((resolve) => {
    client.on("message", (_, payload) => {
      const text = new TextDecoder().decode(payload);
      if (seen.push(text.length > 20 ? `${text.length} bytes` : text) === 4) resolve();
    });
  });
  await client.subscribeAsync(topic, { qos: 2 });
  for (const qos of [0, 1, 2]) await client.publishAsync(topic, `qos ${qos}`, { qos });
  await client.publishAsync(topic, "x".repeat(600_000), { qos: 1 });
  await all;
  await client.endAsync();
  return seen;
};

const expected = ["qos 0", "qos 1", "qos 2", "600000 bytes"];
const levels = { "3.1": 3, "3.1.1": 4, "5.0": 5 } as const;

for (const version of versions) {
  const run = async (name: "ws" | "wss"): Promise<void> => {
    const page = await openPage(origin);
    const url = broker().addresses.get(name)!;
    expect(await page.evaluate(exchange, { url, version: levels[version], topic: unique("page") })).toEqual(expected);
    await page.close();
  };
  for (const name of ["ws", "wss"] as const) {
    if (absent === undefined) table.test(version, name, () => run(name));
    else table.skip(version, name, absent);
  }
}

test.skipIf(absent !== undefined)("a page of another origin does not come in", async () => {
  const knock = (url: string): Promise<string> =>
    new Promise((resolve) => {
      const socket = new WebSocket(url, "mqtt");
      socket.addEventListener("open", () => resolve("open"));
      socket.addEventListener("close", () => resolve("closed"));
    });
  const url = broker().addresses.get("ws")!;
  for (const [from, outcome] of [
    [origin, "open"],
    [origin.replace("127.0.0.1", "localhost"), "closed"],
  ] as const) {
    const page = await openPage(from);
    expect(await page.evaluate(knock, url)).toBe(outcome);
    await page.close();
  }
});
