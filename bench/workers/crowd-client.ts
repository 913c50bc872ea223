/**
 * Some of the crowd: clients that connect, subscribe to a topic of their own, answer for being there every 20 seconds, and now
 * and then publish to one of the crowd.
 */
import { serveQuestions } from "#bench/idle/child.ts";
import { Connection, openAll } from "#bench/scenarios/clients/connection.ts";
import { publishFrame, subscribePacket } from "#bench/scenarios/clients/packets.ts";

const PENDING_MAX = 100;
const PING_SEC = 20;
const PINGREQ = Buffer.from([0xc0, 0]);
const SUBACK = 9;
const PUBLISH = 3;
const TURN_MS = 100;

export interface CrowdOrder {
  readonly port: number;
  readonly host: string;
  readonly first: number;
  readonly count: number;
  /** All clients of the crowd. */
  readonly total: number;
  readonly publishesPerSec: number;
}

export interface CrowdState {
  readonly connected: number;
  readonly closed: number;
  readonly published: number;
  readonly received: number;
}

let connections: Connection[] = [];
let closed = 0;
let published = 0;
let received = 0;

function topicOf(client: number): string {
  return `crowd/${client}`;
}

async function fill({ port, host, first, count }: CrowdOrder): Promise<void> {
  connections = await openAll(count, PENDING_MAX, async (index) => {
    const subscribed = Promise.withResolvers<void>();
    const connection = await Connection.open({
      port,
      host,
      clientId: `crowd${first + index}`,
      onPacket: (_, head) => {
        if (head >> 4 === SUBACK) subscribed.resolve();
        else if (head >> 4 === PUBLISH) received++;
      },
      onClose: () => closed++,
    });
    connection.send(subscribePacket(1, [topicOf(first + index)], { version: 4, qos: 0 }));
    await subscribed.promise;
    return connection;
  });
}

/** A tenth of a second's part of pings and publishes, evenly over the clients. */
function live({ total, publishesPerSec }: CrowdOrder): void {
  let at = 0;
  let owed = 0;
  setInterval(() => {
    const pings = Math.ceil((connections.length * TURN_MS) / (PING_SEC * 1000));
    for (let i = 0; i < pings; i++, at = (at + 1) % connections.length) connections[at].send(PINGREQ);
    for (owed += (publishesPerSec * TURN_MS) / 1000; owed >= 1; owed--) {
      const topic = topicOf(Math.floor(Math.random() * total));
      connections[at].send(publishFrame(topic, { version: 4, qos: 0, payloadBytes: 32 }).bytes);
      published++;
    }
  }, TURN_MS);
}

serveQuestions<CrowdOrder | { state: true }>(async (question): Promise<CrowdState> => {
  if ("port" in question) {
    await fill(question);
    live(question);
  }
  return { connected: connections.length, closed, published, received };
});
