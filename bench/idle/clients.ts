/**
 * Holds the clients. Each sends CONNECT (3.1.1, clean session, keep-alive 60, short id), and after CONNACK a SUBSCRIBE to a
 * topic of its own, QoS 0; it counts when SUBACK has come. Then it is silent: a run is shorter than its keep-alive.
 */
import type { Socket } from "bun";
import { serveQuestions } from "./child.ts";

const KEEP_ALIVE_SEC = 60;
/** At once under way: fewer than the listen backlog. */
const CONNECTING_MAX = 200;
const CHURNING_MAX = 50;
const CONNACK_TYPE = 2;

interface Client {
  readonly id: string;
  readonly ready: () => void;
  readonly isLeaving?: boolean;
}

const sockets: Socket<Client>[] = [];
let closedCount = 0;

/** Clients that come and go, few at a time. */
async function churn(count: number, port: number): Promise<void> {
  for (let done = 0; done < count; done += CHURNING_MAX) {
    await grow(CHURNING_MAX, port);
    for (const socket of sockets.splice(0)) {
      socket.data = { ...socket.data, isLeaving: true };
      socket.terminate();
    }
  }
}

async function grow(count: number, port: number): Promise<void> {
  while (sockets.length < count) {
    const batch = Math.min(CONNECTING_MAX, count - sockets.length);
    await Promise.all(Array.from({ length: batch }, (_, i) => connect(`c${sockets.length + i}`, port)));
  }
}

async function connect(id: string, port: number): Promise<void> {
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  const socket = await Bun.connect<Client>({
    hostname: "127.0.0.1",
    port,
    data: { id, ready: resolve },
    socket: {
      open: (link) => void link.write(connectPacket(link.data.id)),
      data: (link, chunk) => {
        if (chunk[0]! >> 4 === CONNACK_TYPE) link.write(subscribePacket(`bench/idle/${link.data.id}`));
        else link.data.ready();
      },
      close: (link) => {
        if (link.data.isLeaving) return;
        closedCount++;
        reject(new Error(`${id}: closed by the server`));
      },
    },
  });
  await promise;
  sockets.push(socket);
}

function connectPacket(clientId: string): Buffer {
  const head = Buffer.from([0, 4, ..."MQTT".split("").map((c) => c.charCodeAt(0)), 4, 2, 0, KEEP_ALIVE_SEC]);
  return packet(0x10, Buffer.concat([head, text(clientId)]));
}

function subscribePacket(filter: string): Buffer {
  return packet(0x82, Buffer.concat([Buffer.from([0, 1]), text(filter), Buffer.from([0])]));
}

/** Bodies here are short: one byte of length. */
function packet(first: number, body: Buffer): Buffer {
  return Buffer.concat([Buffer.from([first, body.length]), body]);
}

function text(value: string): Buffer {
  return Buffer.concat([Buffer.from([0, value.length]), Buffer.from(value)]);
}

serveQuestions<{ churn: number; port: number } | { grow: number; port: number } | { check: true }>(async (question) => {
  if ("churn" in question) await churn(question.churn, question.port);
  if ("grow" in question) await grow(question.grow, question.port);
  return { closedCount };
});
