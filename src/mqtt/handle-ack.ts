/** PUBACK, PUBREC, PUBCOMP for what we sent; PUBREL for what we received. */
import { Metric } from "#core/metrics.ts";
import { acked, ackLength, decodeAck, encodeAck, isAckReason } from "./codec/ack.ts";
import { PUBACK, PUBCOMP, PUBREC, PUBREL } from "./codec/frame.ts";
import { PACKET_IDENTIFIER_NOT_FOUND, PROTOCOL_ERROR, SUCCESS } from "./codec/reason-code.ts";
import type { Connection } from "./connection.ts";

const PACKETS_SENT = Metric["packets.sent"];
const RECEIVED: number[] = [];
RECEIVED[PUBACK] = Metric["packets.puback.received"];
RECEIVED[PUBREC] = Metric["packets.pubrec.received"];
RECEIVED[PUBREL] = Metric["packets.pubrel.received"];
RECEIVED[PUBCOMP] = Metric["packets.pubcomp.received"];

const ACK_SENT: number[] = [];
ACK_SENT[PUBACK] = Metric["packets.puback.sent"];
ACK_SENT[PUBREC] = Metric["packets.pubrec.sent"];
ACK_SENT[PUBREL] = Metric["packets.pubrel.sent"];
ACK_SENT[PUBCOMP] = Metric["packets.pubcomp.sent"];

/** An acknowledgement of `type` whose body is [body, end). Returns 0 or a reason code. */
export function handleAck(connection: Connection, type: number, bytes: Buffer, body: number, end: number): number {
  const { engine } = connection.context;
  const fault = decodeAck(bytes, body, end, connection.isV5);
  if (fault !== 0) return fault;
  const { packetId, reasonCode } = acked;
  if (!isAckReason(type, reasonCode)) return PROTOCOL_ERROR;
  engine.metrics.counts[RECEIVED[type]]++;
  const { session } = connection;
  switch (type) {
    case PUBACK:
      engine.acknowledge(session, packetId, reasonCode, 1);
      return 0;
    case PUBREC:
      return handlePubrec(connection, packetId, reasonCode);
    case PUBREL: {
      const isKnown = engine.removeReceipt(session, packetId);
      connection.acknowledge(PUBCOMP, packetId, isKnown ? SUCCESS : PACKET_IDENTIFIER_NOT_FOUND); // [MQTT-4.3.3-11]
      return 0;
    }
    default:
      engine.complete(session, packetId);
      return 0;
  }
}

function handlePubrec(connection: Connection, packetId: number, reasonCode: number): number {
  const { engine } = connection.context;
  if (reasonCode >= 0x80) {
    engine.acknowledge(connection.session, packetId, reasonCode, 2); // done, no PUBREL [MQTT-4.3.3-4]
    return 0;
  }
  const isKnown = engine.receive(connection.session, packetId);
  connection.acknowledge(PUBREL, packetId, isKnown ? SUCCESS : PACKET_IDENTIFIER_NOT_FOUND); // [MQTT-4.3.3-4]
  return 0;
}

/** Sends an acknowledgement at once; the reason code must be 0 for 3.x. */
export function sendAck(connection: Connection, type: number, packetId: number, reasonCode: number): void {
  if (ackLength(reasonCode) > connection.packetBytesMax) return; // [MQTT-3.1.2-24]
  const { link, context } = connection;
  const { counts } = context.engine.metrics;
  counts[PACKETS_SENT]++;
  counts[ACK_SENT[type]]++;
  const at = link.reserve(ackLength(reasonCode));
  const end = encodeAck(link.buffer, at, type, packetId, reasonCode);
  if (context.tap !== null) context.tap.sent(connection, link.buffer, at, end);
  link.commit(end);
}
