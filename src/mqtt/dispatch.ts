/** A packet other than PUBLISH, by its type and the connection's state. */
import { Metric } from "#core/metrics.ts";
import {
  AUTH,
  CONNECT,
  DISCONNECT,
  PINGREQ,
  PUBACK,
  PUBCOMP,
  PUBREC,
  PUBREL,
  SUBSCRIBE,
  UNSUBSCRIBE,
} from "./codec/frame.ts";
import { MALFORMED_PACKET, PROTOCOL_ERROR } from "./codec/reason-code.ts";
import type { Connection } from "./connection.ts";
import { AWAITING_CONNECT, OPEN } from "./connection-state.ts";
import { handleAck } from "./handle-ack.ts";
import { handleAuth, handleConnect } from "./handle-connect.ts";
import { handleDisconnect } from "./handle-disconnect.ts";
import { handleSubscribe, handleUnsubscribe } from "./handle-subscribe.ts";

const PINGREQ_RECEIVED = Metric["packets.pingreq"];
const PINGRESP_SENT = Metric["packets.pingresp"];
const PACKETS_SENT = Metric["packets.sent"];
const PINGRESP_BYTES = 0xd000;

/** The packet in [start, end), its fixed header ending at `body`. Returns 0, a reason code, or HANDLE_AGAIN. tidy: dispatch */
export function dispatch(
  connection: Connection,
  type: number,
  bytes: Buffer,
  start: number,
  body: number,
  end: number,
): number {
  if (connection.state !== OPEN) return dispatchEarly(connection, type, bytes, start, body, end);
  const flags = bytes[start] & 15;
  const needed = type === PUBREL || type === SUBSCRIBE || type === UNSUBSCRIBE ? 2 : 0;
  // 3.1 sets DUP on packets it sends again; 3.1.1 and 5.0 reserve the bits. [MQTT-2.1.3-1] [MQTT-3.8.1-1] [MQTT-3.10.1-1] [MQTT-3.6.1-1]
  if (flags !== needed && !(connection.version === 3 && (flags & ~8) === needed)) return MALFORMED_PACKET;
  switch (type) {
    case PUBACK:
    case PUBREC:
    case PUBREL:
    case PUBCOMP:
      return handleAck(connection, type, bytes, body, end);
    case SUBSCRIBE:
      return handleSubscribe(connection, bytes, body, end);
    case UNSUBSCRIBE:
      return handleUnsubscribe(connection, bytes, body, end);
    case PINGREQ:
      return handlePing(connection, body, end);
    case DISCONNECT:
      return handleDisconnect(connection, bytes, body, end);
    case AUTH:
      return handleAuth(connection, bytes, body, end);
    default:
      return PROTOCOL_ERROR; // a second CONNECT [MQTT-3.1.0-2], what only a server sends, type 0
  }
}

/** Before CONNACK there is CONNECT, then AUTH and DISCONNECT. [MQTT-3.1.0-1] [MQTT-3.1.2-30] */
function dispatchEarly(
  connection: Connection,
  type: number,
  bytes: Buffer,
  start: number,
  body: number,
  end: number,
): number {
  const isFirst = connection.state === AWAITING_CONNECT;
  if (isFirst && type === CONNECT) {
    return (bytes[start] & 15) === 0 ? handleConnect(connection, bytes, body, end) : MALFORMED_PACKET;
  }
  if (isFirst || (type !== AUTH && type !== DISCONNECT)) return PROTOCOL_ERROR;
  if ((bytes[start] & 15) !== 0) return MALFORMED_PACKET; // [MQTT-3.15.1-1]
  return type === AUTH ? handleAuth(connection, bytes, body, end) : handleDisconnect(connection, bytes, body, end);
}

function handlePing(connection: Connection, body: number, end: number): number {
  if (body !== end) return MALFORMED_PACKET;
  const { engine, tap } = connection.context;
  const { counts } = engine.metrics;
  counts[PINGREQ_RECEIVED]++;
  counts[PINGRESP_SENT]++;
  counts[PACKETS_SENT]++;
  const at = connection.link.reserve(2);
  connection.link.buffer.writeUInt16BE(PINGRESP_BYTES, at); // [MQTT-3.12.4-1]
  if (tap !== null) tap.sent(connection, connection.link.buffer, at, at + 2);
  connection.link.commit(at + 2);
  return 0;
}
