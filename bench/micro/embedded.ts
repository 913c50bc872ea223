/** In one process: from `Broker.publish` to the handler of a subscription, by size and number of handlers. */
import { Broker } from "#broker/embedded-broker.ts";
import { type Recorder, type Suite, sized } from "./recorder.ts";

const ROUND_TRIPS = 1000;
const SAMPLES = 100_000;
const GOAL_NS = 2000;

export const suite: Suite = {
  about: "Broker.publish to its handlers in the same process; an operation is one publish",
  async run(recorder) {
    for (const [payloadBytes, handlers] of [
      [64, 1],
      [64, 10],
      [16 * 1024, 1],
    ] as const)
      await roundTrips(recorder, payloadBytes, handlers);
    await sampled(recorder);
  },
};

async function roundTrips(recorder: Recorder, payloadBytes: number, handlers: number): Promise<void> {
  const broker = await Broker.start();
  const payload = Buffer.alloc(payloadBytes, "x");
  let bytes = 0;
  for (let i = 0; i < handlers; i++) broker.subscribe("bench/+", (message) => (bytes += message.payload.length));
  await recorder.time(`${payloadBytes} bytes, handlers: ${handlers}`, ROUND_TRIPS, () => {
    for (let i = 0; i < ROUND_TRIPS; i++) broker.publish("bench/topic", payload);
    return bytes;
  });
  await broker.close();
}

/** Each round trip by its own clock: from the call to the handler. */
async function sampled(recorder: Recorder): Promise<void> {
  const broker = await Broker.start();
  const count = sized(recorder, SAMPLES);
  const samples = new Float64Array(count);
  let at = 0;
  let startedNs = 0;
  broker.subscribe("bench/+", () => {
    samples[at] = Bun.nanoseconds() - startedNs;
  });
  const payload = Buffer.alloc(64, "x");
  for (let round = 0; round < 2; round++)
    for (at = 0; at < count; at++) {
      startedNs = Bun.nanoseconds();
      broker.publish("bench/topic", payload);
    }
  samples.sort();
  for (const [name, share, max] of [
    ["p50", 0.5, GOAL_NS],
    ["p99", 0.99, undefined],
  ] as const)
    recorder.figure(`64 bytes, publish to handler, ${name}`, {
      value: samples[Math.floor(count * share)],
      unit: "ns",
      ...(max !== undefined && { max }),
    });
  await broker.close();
}
