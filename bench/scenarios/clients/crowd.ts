/** Clients that are there: connected, subscribed to a topic of their own, and silent. */
import { numbers, untilTold } from "./arguments.ts";
import { Connection, openAll } from "./connection.ts";
import { subscribePacket } from "./packets.ts";

const PENDING_MAX = 200;
const SUBACK = 9;
const { port, clients } = numbers({ port: 0, clients: 1000 });

let closedCount = 0;
await openAll(clients, PENDING_MAX, async (index) => {
  const subscribed = Promise.withResolvers<void>();
  const connection = await Connection.open({
    port,
    clientId: `crowd${index}`,
    onPacket: (_, first) => first >> 4 === SUBACK && subscribed.resolve(),
    onClose: () => closedCount++,
  });
  connection.send(subscribePacket(1, [`crowd/${index}`], { version: 4, qos: 0 }));
  await subscribed.promise;
  return connection;
});
await untilTold(async () => ({
  metrics: {},
  faults: closedCount > 0 ? [`${closedCount} idle clients lost their connection`] : [],
}));
