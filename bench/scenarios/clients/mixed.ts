/**
 * Topics with subscribers at QoS 0, 1 and 2 each, and publishers at QoS 2. With --version 5 every message carries user
 * properties and every subscription an identifier, so that a delivery is encoded for its subscriber; with --version 4 the
 * same messages go without, which is what the cost is compared with.
 */
import { numbers, report } from "./arguments.ts";
import { Connection, openAll } from "./connection.ts";
import { Loop } from "./loop.ts";
import { publishFrame, subscribePacket, type Version } from "./packets.ts";

const SUBACK = 9;
const PUBLISHER_QOS = 2;
const SUBSCRIBER_QOS = [0, 1, 2];
const USER_PROPERTIES = [
  ["source", "line-7/press-12"],
  ["unit", "degC"],
] as const;
const options = numbers({ port: 0, "broker-pid": 0, warmup: 1, duration: 4, version: 5, pairs: 50 });
const { port, pairs } = options;
const version = options.version as Version;

/** Empty until all clients are there. */
const stage: { loop?: Loop } = {};
await openAll(pairs * SUBSCRIBER_QOS.length, pairs, async (index) => {
  const subscribed = Promise.withResolvers<void>();
  const connection = await Connection.open({
    port,
    clientId: `mixed${index}`,
    version,
    onPacket: (link, first, bytes, from) => {
      if (first >> 4 === SUBACK) subscribed.resolve();
      else stage.loop?.toSubscriber(index, link, first, bytes, from);
    },
  });
  const qos = SUBSCRIBER_QOS[Math.floor(index / pairs)];
  const identifier = version === 5 ? index + 1 : 0;
  connection.send(subscribePacket(1, [`mixed/${index % pairs}`], { version, qos, identifier }));
  await subscribed.promise;
  return connection;
});
const publishers = await openAll(pairs, pairs, (index) =>
  Connection.open({
    port,
    clientId: `source${index}`,
    version,
    onPacket: (link, first, bytes, from, to) => stage.loop?.toPublisher(index, link, first, bytes, from, to),
  }),
);
const frames = publishers.map((_, index) =>
  publishFrame(`mixed/${index}`, {
    version,
    qos: PUBLISHER_QOS,
    payloadBytes: 64,
    userProperties: version === 5 ? USER_PROPERTIES : [],
  }),
);
stage.loop = new Loop({
  publishers,
  subscriberCount: pairs * SUBSCRIBER_QOS.length,
  qos: PUBLISHER_QOS,
  windowCount: 20,
  outstandingCount: 5000,
  brokerPid: options["broker-pid"],
  warmupSec: options.warmup,
  durationSec: options.duration,
  next: (publisher) => ({ frame: frames[publisher], copies: SUBSCRIBER_QOS.length }),
});
report(await stage.loop.run());
process.exit(0);
