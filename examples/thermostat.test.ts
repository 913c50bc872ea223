/**
 * How to test an application that speaks MQTT: a broker in the test's own process, on a port of its own, that the test can
 * publish through, listen at and close without waiting for anything.
 *
 *   bun test ./examples/thermostat.test.ts
 */
import { afterEach, beforeEach, expect, test } from "bun:test";
import { Broker } from "mantou";
import type { MqttClient } from "mqtt";
import { startThermostat } from "./thermostat.ts";

let broker: Broker;
let thermostat: MqttClient;

beforeEach(async () => {
  broker = await Broker.start({
    listeners: [{ name: "tcp", type: "tcp", bind: "127.0.0.1:0" }],
    broker: { drainSecMax: 0 },
  });
  thermostat = await startThermostat(broker.addresses[0]!);
});

afterEach(async () => {
  await thermostat.endAsync(true);
  await broker.close();
});

/** The next message of a topic. */
function next(topic: string): Promise<string> {
  return new Promise((resolve) => {
    const end = broker.subscribe(topic, ({ payload }) => {
      end();
      resolve(payload.toString());
    });
  });
}

test("it heats when it is too cold, and stops when it is warm", async () => {
  const first = next("rooms/kitchen/heater");
  broker.publish("rooms/kitchen/target", "20");
  broker.publish("rooms/kitchen/temperature", "18.5");
  expect(await first).toBe("on");
  const second = broker.hooks.messagePublish.add(({ topic }) => void expect(topic).toStartWith("rooms/kitchen/"));
  const off = new Promise((resolve) => {
    broker.subscribe("rooms/kitchen/heater", ({ payload, isRetain }) => isRetain || resolve(payload.toString()));
  });
  broker.publish("rooms/kitchen/temperature", "20.5");
  expect(await off).toBe("off");
  second();
});

test("it does not take one room for another, nor words for a temperature", async () => {
  const heaters: string[] = [];
  broker.subscribe("rooms/+/heater", ({ topic, payload }) => heaters.push(`${topic} ${payload.toString()}`));
  broker.publish("rooms/hall/temperature", "cold");
  broker.publish("rooms/hall/target", "20");
  broker.publish("rooms/attic/temperature", "5");
  const on = next("rooms/cellar/heater");
  broker.publish("rooms/cellar/target", "15");
  broker.publish("rooms/cellar/temperature", "10");
  expect(await on).toBe("on");
  expect(heaters).toEqual(["rooms/cellar/heater on"]);
});
