/** Webhooks of a whole broker: to a service that takes, fails, hangs, refuses, goes away and comes back. */
import { describe, expect, test } from "bun:test";
import { createHmac } from "node:crypto";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { certify } from "#test/interop/access/servers/certificate.ts";
import { rounds } from "#test/support/level.ts";
import { type BrokerInProcess, startInProcess } from "./broker-in-process.ts";

interface Event {
  readonly id: string;
  readonly event: string;
  readonly clientid?: string;
  readonly topic?: string;
  readonly payload?: string;
  readonly [key: string]: unknown;
}

/** A service that is as it is told to be. */
class Service implements Disposable {
  mode: "takes" | "fails" | "hangs" = "takes";
  isRefused: (event: Event) => boolean = () => false;
  readonly batches: Event[][] = [];
  readonly requests: { readonly headers: Headers; readonly body: string }[] = [];
  private server: Bun.Server<undefined>;
  readonly port: number;

  constructor(private readonly tls?: Bun.TLSOptions) {
    this.server = this.listen(0);
    this.port = this.server.port!;
  }

  get url(): string {
    return `http://127.0.0.1:${this.port}/in?a=1`;
  }

  get events(): Event[] {
    return this.batches.flat();
  }

  stop(): void {
    void this.server.stop(true);
  }

  start(): void {
    this.server = this.listen(this.port);
  }

  [Symbol.dispose](): void {
    this.stop();
  }

  private listen(port: number): Bun.Server<undefined> {
    return Bun.serve({
      hostname: "127.0.0.1",
      port,
      ...(this.tls && { tls: this.tls }),
      fetch: async (request) => {
        const body = await request.text();
        if (this.mode === "hangs") return new Promise<Response>(() => {});
        if (this.mode === "fails") return new Response("later", { status: 503 });
        const { events } = JSON.parse(body) as { events: Event[] };
        if (events.some(this.isRefused)) return new Response("no", { status: 422 });
        this.requests.push({ headers: request.headers, body });
        this.batches.push(events);
        return new Response(null, { status: 204 });
      },
    });
  }
}

function start(service: Service, options: object = {}, queue: object = {}): Promise<BrokerInProcess> {
  const fast = { lingerMs: 5, spillMs: 20, deadlineMs: 300, retryMsMax: 50, ...queue };
  const hook = { name: "h", url: service.url, queue: fast, ...options };
  return startInProcess([`modules.webhook.hooks=${JSON.stringify([hook])}`]);
}

async function until(isTrue: () => boolean | Promise<boolean>): Promise<void> {
  while (!(await isTrue())) await Bun.sleep(2);
}

const numbers = (service: Service): number[] => [...new Set(service.events.map(({ payload }) => Number(payload)))];
const range = (count: number): number[] => Array.from({ length: count }, (_, i) => i);

interface Status {
  readonly answer: { readonly targets: readonly { readonly [key: string]: unknown }[] };
}

async function statusOf({ broker }: BrokerInProcess): Promise<Record<string, unknown>> {
  const { answer } = (await broker.control("commands.run", { name: "webhook", args: ["status"] })) as Status;
  return answer.targets[0]!;
}

describe("a webhook", () => {
  test("gets the events it asks for, of the topics it asks for, in order, signed", async () => {
    using service = new Service();
    const events = [
      "client.connected",
      "client.disconnected",
      "session.subscribed",
      "message.publish",
      "message.acked",
    ];
    await using world = await start(service, { events, filters: ["a/+"], secret: "key", headers: { "x-realm": "r" } });
    const client = await world.harness.connect({ version: 5, clientId: "c1", username: "ann" });
    await client.subscribe("a/#", 1);
    await client.subscribe("a/+", 1);
    await client.publish("a/1", "one", { qos: 1, retain: true });
    await client.ack(await client.take("publish"));
    await client.publish("b/1", "not asked for");
    await client.ping();
    await client.disconnect();
    await until(() => service.events.length >= 6);
    const common = { clientid: "c1" };
    expect(service.events.map(({ id: _id, ts: _ts, ...rest }) => rest as unknown)).toEqual([
      { event: "client.connected", ...common, username: "ann", ipaddress: "127.0.0.1" },
      { event: "session.subscribed", ...common, topic: "a/#", qos: 1 },
      { event: "session.subscribed", ...common, topic: "a/+", qos: 1 },
      {
        event: "message.publish",
        ...common,
        username: "ann",
        ipaddress: "127.0.0.1",
        topic: "a/1",
        qos: 1,
        retain: true,
        payload: "one",
      },
      { event: "message.acked", ...common, topic: "a/1", qos: 1, retain: true, payload: "one" },
      { event: "client.disconnected", ...common, username: "ann", ipaddress: "127.0.0.1", reason: "0" },
    ]);
    expect(new Set(service.events.map(({ id }) => id)).size).toBe(6);
    for (const { headers, body } of service.requests) {
      const [, sec, mac] = /^t=(\d+),v1=([0-9a-f]{64})$/.exec(headers.get("x-mantou-signature")!)!;
      expect(mac!).toBe(createHmac("sha256", "key").update(`${sec}.POST /in?a=1.${body}`).digest("hex"));
      expect([headers.get("content-type"), headers.get("x-realm")]).toEqual(["application/json", "r"]);
      expect(JSON.parse(body)).toMatchObject({ node: "mantou@127.0.0.1", worker: 0 });
    }
  });

  test.if(Bun.which("openssl") !== null)(
    "over TLS only to whom the CA file knows; the broker shows its own certificate",
    async () => {
      const folder = mkdtempSync(join(tmpdir(), "mantou-webhook-"));
      const run = async (command: readonly string[]): Promise<void> =>
        void (await Bun.spawn([...command], { stdout: "ignore", stderr: "ignore" }).exited);
      await certify(folder, run);
      const [cert, key] = ["cert.pem", "key.pem"].map((name) => join(folder, name));
      using service = new Service({
        cert: Bun.file(cert!),
        key: Bun.file(key!),
        ca: Bun.file(cert!),
        requestCert: true,
      });
      const url = service.url.replace("http:", "https:");
      await using world = await start(service, { url, caFile: cert, certFile: cert, keyFile: key });
      await (await world.harness.connect()).publish("t", "over TLS", { qos: 1 });
      await until(() => service.events.length === 1);
      await using other = await start(service, { url });
      await (await other.harness.connect()).publish("t", "to a stranger", { qos: 1 });
      await until(async () => (await statusOf(other))["state"] === "down");
      expect((await statusOf(other))["fault"]).toMatch(/certificate/i);
      expect(service.events.map(({ payload }) => payload)).toEqual(["over TLS"]);
      rmSync(folder, { recursive: true });
    },
  );

  test("payloads as base64, or left out", async () => {
    using service = new Service();
    await using world = await start(service, { payload: "base64" });
    const client = await world.harness.connect();
    await client.publish("t", Buffer.from([0xff, 0, 1]), { qos: 1 });
    await until(() => service.events.length === 1);
    expect(service.events[0]!.payload).toBe("/wAB");
    using other = new Service();
    await using quiet = await start(other, { payload: "none" });
    await (await quiet.harness.connect()).publish("t", "secret", { qos: 1 });
    await until(() => other.events.length === 1);
    expect(other.events[0]).not.toContainKey("payload");
  });

  test("that fails, hangs, is stopped and comes back gets everything, in order; publishers do not notice", async () => {
    using service = new Service();
    await using world = await start(service, {}, { countMax: 100_000 });
    const client = await world.harness.connect({ version: 5 });
    let next = 0;
    const publish = async (): Promise<void> => {
      const count = rounds(100, 200, 5000);
      for (let i = 0; i < count; i++) client.send({ type: "publish", topic: "t", payload: `${next++}`, qos: 0 });
      await client.ping();
    };
    await publish();
    for (const mode of ["fails", "hangs", "takes"] as const) {
      service.mode = mode;
      await publish();
      await Bun.sleep(50);
    }
    service.stop();
    await publish();
    await until(async () => (await statusOf(world))["state"] === "down");
    expect(await statusOf(world)).toMatchObject({ name: "h", worker: 0, lostCount: 0 });
    service.start();
    await publish();
    await until(() => service.events.at(-1)?.payload === `${next - 1}`);
    expect(numbers(service)).toEqual(range(next));
    await until(async () => (await statusOf(world))["diskCount"] === 0);
    expect(await statusOf(world)).toMatchObject({ state: "up", memoryCount: 0, lostCount: 0, fault: "" });
  }, 30_000);

  test("an event that is refused is lost and counted, the others arrive; a full queue loses and says so", async () => {
    using service = new Service();
    service.isRefused = ({ payload }) => payload === "7" || payload === "8";
    await using world = await start(service, {}, { countMax: 50, diskBytesMax: 0, retryMsMax: 10 });
    const client = await world.harness.connect();
    for (const i of range(20)) await client.publish("t", `${i}`);
    await client.ping();
    await until(async () => (await statusOf(world))["sentCount"] === 18);
    expect(numbers(service)).toEqual(range(20).filter((i) => i !== 7 && i !== 8));
    service.mode = "fails";
    for (const i of range(60)) await client.publish("t", `${i + 100}`);
    await client.ping();
    const metrics = await world.broker.control("plugins.metrics", {});
    const lost = metrics.filter(({ name }) => name === "mantou_webhook_lost_total");
    expect(lost.map(({ labels, value }) => [labels!["reason"], value])).toEqual([
      ["queue_full", 10],
      ["refused", 2],
      ["unreadable", 0],
      ["not_written", 0],
    ]);
    await until(() => world.engine.nowSec > 0 && world.broker.observation.alarms.isActive("webhook.h.lost"));
    service.mode = "takes";
  });

  test("options that cannot be are refused with what is allowed; secrets are not shown", async () => {
    using service = new Service();
    const failureOf = (hook: object): Promise<string> =>
      startInProcess([`modules.webhook.hooks=${JSON.stringify([{ name: "h", url: service.url, ...hook }])}`]).then(
        async (world) => {
          await world[Symbol.asyncDispose]();
          return "none";
        },
        (error: unknown) => (error as Error).message,
      );
    expect(await failureOf({ url: "ftp://x" })).toMatch(/http:\/\/ or https:\/\//);
    expect(await failureOf({ url: "http://u:p@h/" })).toMatch(/without user name/);
    expect(await failureOf({ name: "a b" })).toMatch(/letters, digits/);
    expect(await failureOf({ events: ["message.eaten"] })).toMatch(/message\.publish/);
    expect(await failureOf({ headers: { "content-length": "1" } })).toMatch(/names of headers/);
    expect(await failureOf({ certFile: "/none" })).toMatch(/one of certFile, keyFile/);
    expect(await failureOf({ caFile: "/none" })).toMatch(/\/none: ENOENT/);
    expect(await failureOf({ secret: "env:MANTOU_NO_SUCH" })).toMatch(/MANTOU_NO_SUCH: not set/);
    await using world = await start(service, { secret: "very secret", authorization: "Bearer hidden" });
    const shown = JSON.stringify(await world.broker.control("config.show", {}));
    expect(shown).toContain('"h"');
    expect(shown).not.toMatch(/very secret|hidden/);
  });
});
