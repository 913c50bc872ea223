/**
 * Publishes while others subscribe and unsubscribe: at a million messages a second, 2,000 changes a second are one change
 * every 500 messages. Per message; the changes' own cost is included. The cache keeps what a change does not concern:
 * an exact filter concerns its topic, a wildcard its first level, a leading wildcard everything.
 *
 * Connections on links in memory: sockets are missing, so a ratio here is worse than the broker's own would be.
 */
import type { Engine } from "#core/engine.ts";
import { MqttContext } from "#mqtt/context.ts";
import { makeEngine, openClient, openSink, publishPacket, shapeOf, subscribePacket } from "./fixture.ts";
import type { Body, Suite } from "./recorder.ts";

const TOPICS = 50;
const MESSAGES_PER_CHANGE = 500;

/** Filters of the others. */
const quarrels: Record<string, ((i: number) => string) | undefined> = {
  quiet: undefined,
  "exact filters come and go": (i) => `other/${i}/state`,
  "wildcards elsewhere come and go": (i) => `other/${i}/+`,
  "wildcards over the same topics come and go": (i) => `site/+/line/nobody${i}`,
};

export const suite: Suite = {
  about: "publishing while subscriptions change, 2,000 a second at 1,000,000 messages/s",
  async run(recorder) {
    const ways = Object.fromEntries(Object.entries(quarrels).map(([name, filter]) => [name, bodyFor(filter)]));
    await recorder.compare(`${TOPICS} topics, QoS 0`, MESSAGES_PER_CHANGE * 20, ways, 1.2);
    // Not in the goal: a leading wildcard may match any topic, so that every remembered match is in doubt.
    await recorder.compare(`${TOPICS} topics, leading wildcards`, MESSAGES_PER_CHANGE * 20, {
      quiet: bodyFor(undefined),
      "filters +/… come and go": bodyFor((i) => `+/nobody${i}`),
    });
  },
};

function bodyFor(filter: ((i: number) => string) | undefined): Body {
  const context = new MqttContext(makeEngine());
  const { engine } = context;
  const subscriber = openClient({ version: 4, context, clientId: "subscriber" });
  const publisher = openClient({ version: 4, context, clientId: "publisher" });
  const topics = Array.from({ length: TOPICS }, (_, i) => shapeOf("exact", i).topic);
  for (const topic of topics) subscriber.connection.handleData(subscribePacket(topic, 0, 4));
  const packets = Array.from({ length: MESSAGES_PER_CHANGE }, (_, i) => publishPacket(topics[i % TOPICS], 64, 0, 4));
  const chunk = Buffer.concat(packets);
  const other = openSink(engine, "other").session;
  const filters = Array.from({ length: 1000 }, (_, i) => Buffer.from(filter?.(i) ?? ""));
  let change = 0;
  return () => {
    for (let round = 0; round < 20; round++) {
      if (filter) changeOne(engine, other, filters, change++);
      publisher.connection.handleData(chunk);
    }
    return subscriber.link.written;
  };
}

/** Every other change takes away what the one before brought. */
function changeOne(engine: Engine, session: number, filters: readonly Buffer[], change: number): void {
  const filter = filters[(change >> 1) % filters.length];
  if ((change & 1) === 0) engine.subscribe(session, [{ filter, options: 0, id: 0 }], () => {});
  else engine.unsubscribe(session, [filter]);
}
