/**
 * Subscribes and unsubscribes at a steady rate, exact and wildcard filters in turn, under the first level that the
 * measured load uses: there a change costs the broker's caches most. None of the filters matches the load's topics.
 */
import { numbers, untilTold } from "./arguments.ts";
import { Connection, openAll } from "./connection.ts";
import { subscribePacket, unsubscribePacket } from "./packets.ts";

const TICK_MS = 5;
const ACKS_MS = 2000;
const SUBACK = 9;
const UNSUBACK = 11;
const { port, rate, connections } = numbers({ port: 0, rate: 2000, connections: 20 });

let ackedCount = 0;
let refusedCount = 0;
let closedCount = 0;
const clients = await openAll(connections, connections, (index) =>
  Connection.open({
    port,
    clientId: `churn${index}`,
    onPacket: (_, first, bytes, __, to) => {
      const type = first >> 4;
      if (type === SUBACK && bytes[to - 1] >= 0x80) refusedCount++;
      if (type === SUBACK || type === UNSUBACK) ackedCount++;
    },
    onClose: () => closedCount++,
  }),
);

/** Change number n: a client subscribes, and with its next change leaves the same filter. */
function change(n: number): void {
  const pair = Math.floor(n / (2 * connections));
  const client = n % connections;
  const filter = filterOf(pair % 500, client);
  const packetId = (n % 65_535) + 1;
  const isSubscribe = Math.floor(n / connections) % 2 === 0;
  clients[client].send(
    isSubscribe ? subscribePacket(packetId, [filter], { version: 4, qos: 0 }) : unsubscribePacket(packetId, filter, 4),
  );
}

function filterOf(pair: number, client: number): string {
  const shapes = [`bench/churn/${client}/${pair}`, `bench/+/churn/${pair}`, `bench/churn/${pair}/#`];
  return pair % 2 === 0 ? shapes[0] : shapes[1 + (client % 2)];
}

const startMs = performance.now();
let sentCount = 0;
const timer = setInterval(() => {
  const dueCount = ((performance.now() - startMs) / 1000) * rate;
  while (sentCount < dueCount) change(sentCount++);
}, TICK_MS);

await untilTold(async () => {
  clearInterval(timer);
  const sec = (performance.now() - startMs) / 1000;
  for (const end = performance.now() + ACKS_MS; ackedCount < sentCount && performance.now() < end;) await Bun.sleep(10);
  const changesPerSec = ackedCount / sec;
  const faults: [number, string][] = [
    [refusedCount, "subscriptions refused"],
    [closedCount, "churning clients lost their connection"],
    [changesPerSec < rate * 0.95 ? Math.round(changesPerSec) : 0, `changes/s acknowledged, not ${rate}`],
  ];
  return {
    metrics: { changesPerSec },
    faults: faults.filter(([count]) => count > 0).map(([count, what]) => `${count} ${what}`),
  };
});
