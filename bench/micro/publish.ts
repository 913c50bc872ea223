/** Engine.publish with sinks that only count: routing and the sessions' bookkeeping, without MQTT. */
import type { Engine } from "#core/engine.ts";
import type { MessageView } from "#core/message.ts";
import { type CountingSink, makeEngine, openSink, publishPacket, viewOf } from "./fixture.ts";
import { type Recorder, type Suite, sized } from "./recorder.ts";

const TOPIC = "site/12/line/device4711/state";

export const suite: Suite = {
  about: "Engine.publish to counting sinks; an operation is one delivery, its acknowledgements included",
  async run(recorder) {
    for (const qos of [0, 1, 2] as const) {
      for (const subscribers of [1, 10, 500]) await deliveries(recorder, qos, sized(recorder, subscribers));
    }
    await overlapping(recorder);
  },
};

async function deliveries(recorder: Recorder, qos: 0 | 1 | 2, subscribers: number): Promise<void> {
  const engine = makeEngine();
  const sinks = Array.from({ length: subscribers }, (_, i) => openSink(engine, `subscriber-${i}`));
  for (const { session } of sinks) {
    engine.subscribe(session, [{ filter: Buffer.from(TOPIC), options: qos, id: 0 }], () => {});
  }
  const view = viewOf(publishPacket(TOPIC, 64, qos, 4), 4);
  const publishes = Math.max(2, Math.round(1000 / subscribers));
  await recorder.time(`QoS ${qos}, ${subscribers} subscribers`, publishes * subscribers, () =>
    publishAndAck(engine, view, sinks, publishes, qos),
  );
}

/** Windows of 20 publishes, as clients with that window would have. */
function publishAndAck(
  engine: Engine,
  view: MessageView,
  sinks: readonly CountingSink[],
  publishes: number,
  qos: number,
): number {
  let reached = 0;
  for (let done = 0; done < publishes;) {
    const end = Math.min(publishes, done + 20);
    for (; done < end; done++) {
      view.slot = -1; // a connection looks the topic up for every packet
      reached += engine.publish(view);
    }
    if (qos > 0) for (const sink of sinks) acknowledgeAll(engine, sink, qos);
  }
  return reached;
}

function acknowledgeAll(engine: Engine, { session, owed }: CountingSink, qos: number): void {
  const { ids, count } = owed;
  owed.count = 0;
  for (let i = 0; i < count; i++) {
    if (qos === 1) engine.acknowledge(session, ids[i], 0, 1);
    else engine.receive(session, ids[i]);
  }
  if (qos === 2) for (let i = 0; i < count; i++) engine.complete(session, ids[i]);
}

/** 5.0: three filters of one session match, each with an identifier. */
async function overlapping(recorder: Recorder): Promise<void> {
  const engine = makeEngine();
  const sink = openSink(engine, "overlapping");
  const items = [TOPIC, "site/+/line/device4711/state", "site/#"].map((filter, i) => ({
    filter: Buffer.from(filter),
    options: 0,
    id: i + 1,
  }));
  engine.subscribe(sink.session, items, () => {});
  const view = viewOf(publishPacket(TOPIC, 64, 0, 5), 5);
  await recorder.time("QoS 0, one subscriber by 3 filters with identifiers", 1000, () =>
    publishAndAck(engine, view, [sink], 1000, 0),
  );
}
