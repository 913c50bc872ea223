/** The programs of examples/, each run. */
import { afterEach, expect, test } from "bun:test";
import { Broker } from "#broker/embedded-broker.ts";
import { keyOf, startForDevices } from "#examples/custom-auth.ts";
import { filterEdge } from "#examples/edge-filter.ts";
import { runGateway } from "#examples/serial-gateway.ts";
import { harnessOf, tcpTarget } from "#test/support/harness.ts";

const ends: (() => Promise<void> | void)[] = [];
afterEach(async () => {
  for (const end of ends.splice(0).toReversed()) await end();
});

const OPTIONS = {
  listeners: [{ name: "tcp", type: "tcp", bind: "127.0.0.1:0" }],
  broker: { drainSecMax: 0 },
} as const;

test("custom-auth: devices with their key, below their own name", async () => {
  const broker = await startForDevices("master", OPTIONS);
  const harness = harnessOf(tcpTarget(broker.addresses[0]!));
  ends.push(async () => void (await Promise.all([harness.stop(), broker.close()])));
  const stranger = await harness.open();
  expect((await stranger.connect({ username: "lamp", password: keyOf("door", "master") })).reasonCode).toBe(0x86);
  const lamp = await harness.connect({ username: "lamp", password: keyOf("lamp", "master") });
  broker.publish("devices/lamp/commands", "on", { qos: 1 });
  await lamp.expect("publish", { topic: "devices/lamp/commands" });
  const { reasonCodes } = await lamp.subscribe(["devices/door/#", "public/#", "#"], 1);
  expect(reasonCodes).toEqual([0x87, 1, 0x87]);
  expect(await lamp.publish("devices/door/x", "", { qos: 1 })).toMatchObject([{ reasonCode: 0x87 }]);
});

test("serial-gateway: lines become messages, commands lines, and nobody smuggles a second one in", async () => {
  const { readable, writable } = new TransformStream<Uint8Array>();
  const device = writable.getWriter();
  const written: string[] = [];
  const started = Promise.withResolvers<Broker>();
  const line = { input: readable, write: (text: string) => written.push(text) };
  const ended = runGateway(line, OPTIONS, (broker) => started.resolve(broker));
  const broker = await started.promise;
  const harness = harnessOf(tcpTarget(broker.addresses[0]!));
  const client = await harness.connect();
  await client.subscribe("boiler/#", 0);
  for (const part of ["tempera", "ture=21.5\r\nnoise\npres/sure=1\nlevel=", "7\n"])
    await device.write(Buffer.from(part));
  await client.expect("publish", { topic: "boiler/temperature" });
  await client.expect("publish", { topic: "boiler/level" });
  await client.publish("boiler/set/valve", "open", { qos: 1 });
  await client.publish("boiler/set/valve", "open\nshutdown=1", { qos: 1 });
  await client.publish("boiler/set/a b", "x", { qos: 1 });
  expect(written).toEqual(["valve=open\n"]);
  await harness.stop();
  await device.close();
  await ended;
});

test("edge-filter: what has changed goes on, and what has been silent for long", async () => {
  const broker = await Broker.start();
  ends.push(() => broker.close());
  let nowMs = 0;
  const clean: string[] = [];
  filterEdge(broker, { deltaMin: 0.5, silenceMsMax: 1000, nowMs: () => nowMs });
  broker.subscribe("clean/#", ({ topic, payload }) => clean.push(`${topic} ${payload.toString()}`));
  const send = async (topic: string, ...values: string[]): Promise<void> => {
    for (const value of values) broker.publish(topic, value);
    while (broker.publish("turn") === 0 && clean.length === 0) await Bun.sleep(1);
    await Bun.sleep(0);
  };
  await send("raw/a", "21.5", "21.6", "21.9", "22.0", "words", "21.8");
  await send("raw/b", "1");
  nowMs = 1000;
  await send("raw/a", "22.1");
  while (clean.length < 4) await Bun.sleep(1);
  expect(clean).toEqual(["clean/a 21.5", "clean/a 22.0", "clean/b 1", "clean/a 22.1"]);
});

test("thermostat: an application's own test, as users run it", async () => {
  const run = Bun.spawn([process.execPath, "test", "./examples/thermostat.test.ts"], {
    stdout: "ignore",
    stderr: "pipe",
    timeout: 60_000,
  });
  expect(await run.stderr.text()).toContain(" 2 pass\n 0 fail");
  expect(await run.exited).toBe(0);
}, 60_000);
