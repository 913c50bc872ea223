import { expect, test } from "bun:test";
import { startBroker } from "#test/support/broker-process.ts";

test("starts on a free port, shows its log, and ends with 0 on SIGTERM", async () => {
  await using broker = await startBroker();
  expect(broker.port).toBeGreaterThan(0);
  expect(broker.addresses).toEqual(new Map([["tcp", `tcp://127.0.0.1:${broker.port}`]]));
  const stopping = broker.line(/stopping/);
  await broker.stop();
  expect(await stopping).toContain("SIGTERM");
  expect(await broker.ended).toBe(0);
});

test("the ready line as a JSON record is understood", async () => {
  await using broker = await startBroker([], { env: { MANTOU__LOG__FORMAT: "json" } });
  expect(broker.url).toBe(`tcp://127.0.0.1:${broker.port}`);
  expect(broker.output()).toStartWith("{");
});

test("a broker that cannot start is an error with what it printed", async () => {
  await expect(startBroker(["--set", "log.format=loud"])).rejects.toThrow('found "loud"');
});

test("kill is SIGKILL, and a stop that does not end with 0 is an error", async () => {
  const broker = await startBroker();
  await broker.kill();
  expect(await broker.ended).toBe("SIGKILL");
  await expect(broker.stop()).rejects.toThrow("ended with SIGKILL");
  await expect(broker.line(/never/)).rejects.toThrow("the broker ended");
});
