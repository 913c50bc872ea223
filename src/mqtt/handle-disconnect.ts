/** DISCONNECT from a client: the will is dropped unless asked for, the session may get another expiry. */
import { decodeDisconnect } from "./codec/disconnect.ts";
import { PROTOCOL_ERROR, SUCCESS } from "./codec/reason-code.ts";
import type { Connection } from "./connection.ts";
import { OPEN } from "./connection-state.ts";

export function handleDisconnect(connection: Connection, bytes: Buffer, body: number, end: number): number {
  const { engine } = connection.context;
  const packet = decodeDisconnect(bytes, body, end, connection.isV5);
  if (typeof packet === "number") return packet;
  engine.metrics.add("packets.disconnect.received");
  if (connection.state === OPEN) {
    const { sessionExpirySec } = packet.properties;
    if (sessionExpirySec !== undefined) {
      const isEnding = engine.sessions.expirySec[connection.session] === 0;
      if (isEnding && sessionExpirySec > 0) return PROTOCOL_ERROR; // [MQTT-3.1.2-23]
      engine.changeExpiry(connection.session, sessionExpirySec);
    }
    if (packet.reasonCode === SUCCESS) engine.discardWill(connection.session); // [MQTT-3.14.4-3]
  }
  connection.close(packet.reasonCode, "client"); // [MQTT-3.14.4-2]
  return 0;
}
