/** src/broker/trace.ts: what a PUBLISH and its delivery cost while nobody traces, while others are traced, and when they are. */
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Tracer } from "#broker/trace.ts";
import type { TraceRequest } from "#broker/trace-run.ts";
import { MqttContext } from "#mqtt/context.ts";
import { makeEngine, openClient, publishPacket, subscribePacket } from "./fixture.ts";
import type { Body, Suite } from "./recorder.ts";

const OPS = 300;
const TOPIC = "site/12/line/device4711/state";

export const suite: Suite = {
  about: "a PUBLISH at QoS 0 and its delivery, traced or not (src/broker/trace.ts)",
  async run(recorder) {
    await recorder.compare("publish and deliver", OPS, {
      "nobody traces": publishing([]),
      "nobody traces any more": publishing([{ kind: "client", value: "s" }], true),
      "another client is traced": publishing([{ kind: "client", value: "other" }]),
      "another topic is traced": publishing([{ kind: "topic", value: "other/#" }]),
      "traced, beyond the rate": publishing([{ kind: "client", value: "s", eventsPerSecMax: 1 }]),
    });
  },
};

function publishing(requests: readonly TraceRequest[], isOver = false): Body {
  const context = new MqttContext(makeEngine());
  const subscriber = openClient({ version: 4, context, clientId: "s" });
  const publisher = openClient({ version: 4, context, clientId: "p" });
  subscriber.connection.handleData(subscribePacket(TOPIC, 0, 4));
  const onBug = (error: unknown): never => {
    throw error;
  };
  const tracer = new Tracer(context, { dir: join(tmpdir(), "no-trace-files"), nowMs: () => performance.now(), onBug });
  for (const request of requests) tracer.start(request);
  if (isOver) tracer.stopAll();
  const packet = publishPacket(TOPIC, 64, 0, 4);
  const chunk = Buffer.concat(Array.from({ length: 15 }, () => packet));
  return () => {
    for (let i = 0; i < OPS / 15; i++) publisher.connection.handleData(chunk);
    return subscriber.link.written;
  };
}
