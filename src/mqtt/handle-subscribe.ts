/** SUBSCRIBE and UNSUBSCRIBE: judged filter by filter, answered in one packet. */
import { ALLOW, type Verdict } from "#core/ports.ts";
import type { SubscribeItem } from "#core/subscriptions.ts";
import { NO_LOCAL, QOS_MASK, RETAIN_AS_PUBLISHED } from "#core/topic-index.ts";
import { SUBACK, UNSUBACK } from "./codec/frame.ts";
import { NOT_AUTHORIZED, UNSPECIFIED_ERROR } from "./codec/reason-code.ts";
import { decodeSubscribe, decodeUnsubscribe, encodeSuback } from "./codec/subscribe.ts";
import type { Connection } from "./connection.ts";
import { CLOSED } from "./connection-state.ts";
import { askSubscribeHooks, askUnsubscribeHooks } from "./hook-wait.ts";

export function handleSubscribe(connection: Connection, bytes: Buffer, body: number, end: number): number {
  const { engine } = connection.context;
  const packet = decodeSubscribe(bytes, body, end, connection.isV5);
  if (typeof packet === "number") return packet;
  engine.metrics.add("packets.subscribe");
  const items = connection.rare?.isBridge ? packet.items.map(asBridge) : packet.items;
  connection.hold();
  const judged = (verdicts: Verdict[]): void => {
    if (connection.state !== CLOSED) subscribe(connection, packet.packetId, items, verdicts);
  };
  if (engine.access.isOpen) judged(items.map(() => ALLOW));
  else
    engine.access.authorizeSubscribe(
      connection.info(),
      items.map(({ filter }) => engine.hooks.filterPrefixes.rest(filter)),
      judged,
    );
  return 0;
}

/** Mosquitto's bridges must not get back what they sent, and keep the retain flag. */
function asBridge(item: SubscribeItem): SubscribeItem {
  return { ...item, options: item.options | NO_LOCAL | RETAIN_AS_PUBLISHED };
}

function subscribe(
  connection: Connection,
  packetId: number,
  items: readonly SubscribeItem[],
  verdicts: readonly Verdict[],
): void {
  const allowed = items.filter((_, i) => verdicts[i] === ALLOW);
  askSubscribeHooks(connection, allowed, (wanted, refusals) => {
    subscribeWanted(connection, wanted, refusals, (codes) => {
      let next = 0;
      const all = Uint8Array.from(verdicts, (verdict) => (verdict === ALLOW ? codes[next++] : NOT_AUTHORIZED));
      answerSubscribe(connection, packetId, items, all);
    });
  });
}

/** Completes with a code for each that is wanted. */
function subscribeWanted(
  connection: Connection,
  wanted: readonly SubscribeItem[],
  refusals: readonly number[],
  complete: (codes: ArrayLike<number>) => void,
): void {
  const { engine } = connection.context;
  const isRefused = (i: number): boolean => (refusals[i] ?? 0) !== 0;
  const items = wanted.filter((_, i) => !isRefused(i));
  engine.subscribe(connection.session, items, (codes) => {
    if (connection.state === CLOSED) return;
    let next = 0;
    complete(
      items.length === wanted.length ? codes : wanted.map((_, i) => (isRefused(i) ? refusals[i] : codes[next++])),
    );
  });
}

function answerSubscribe(
  connection: Connection,
  packetId: number,
  items: readonly SubscribeItem[],
  all: Uint8Array,
): void {
  const { engine } = connection.context;
  const answer = connection.isV5 ? all : all.map((code, i) => code3(code, items[i], connection.version));
  engine.metrics.add("packets.suback");
  connection.afterCommit(() => connection.send(encodeSuback(SUBACK, packetId, answer, connection.version))); // [MQTT-3.8.4-1] [MQTT-3.8.4-2] [MQTT-3.8.4-6]
  if (connection.session < 0) return; // SUBACK was larger than the client takes
  engine.resumeDelivery(connection.session); // retained messages before what the client sent meanwhile
  connection.unhold();
}

/** 3.1.1 knows one failure code, 3.1 none: there a refused filter looks granted as asked for. */
function code3(code: number, item: SubscribeItem, version: number): number {
  if (code < 0x80) return code;
  return version === 3 ? item.options & QOS_MASK : UNSPECIFIED_ERROR; // [MQTT3-3.9.3-2]
}

export function handleUnsubscribe(connection: Connection, bytes: Buffer, body: number, end: number): number {
  const { engine } = connection.context;
  const packet = decodeUnsubscribe(bytes, body, end, connection.isV5);
  if (typeof packet === "number") return packet;
  engine.metrics.add("packets.unsubscribe");
  askUnsubscribeHooks(connection, packet.filters, (filters) => {
    engine.metrics.add("packets.unsuback");
    const codes = filters
      ? engine.unsubscribe(connection.session, filters)
      : new Uint8Array(packet.filters.length).fill(NOT_AUTHORIZED);
    const answer = connection.isV5 ? codes : new Uint8Array(0);
    connection.afterCommit(() => connection.send(encodeSuback(UNSUBACK, packet.packetId, answer, connection.version))); // [MQTT-3.10.4-4] [MQTT-3.11.3-1]
  });
  return 0;
}
