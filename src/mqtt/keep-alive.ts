/** The deadline of a connection: for CONNECT at first, then for its keep-alive. One timer, looked at when it is due. */
import { KEEP_ALIVE_TIMEOUT } from "./codec/reason-code.ts";
import type { Connection } from "./connection.ts";
import { OPEN } from "./connection-state.ts";

export function handleDeadline(connection: Connection): void {
  const { context } = connection;
  connection.deadline = -1;
  if (connection.rare?.isOrphan) return connection.leave(0, "link");
  if (connection.state !== OPEN) {
    context.metrics.add("connections.closed.connect_timeout");
    return connection.close(KEEP_ALIVE_TIMEOUT);
  }
  const { rare, link } = connection;
  const isUnheard = connection.holdCount > 0 || (rare?.restTimer ?? -1) >= 0 || link.takeHeldBack?.() === true;
  const silentMs = isUnheard ? 0 : context.engine.nowMs - connection.lastPacketMs;
  if (silentMs >= connection.silenceMaxMs) {
    context.metrics.add("connections.closed.keep_alive");
    return connection.fail(KEEP_ALIVE_TIMEOUT); // [MQTT-3.1.2-22]
  }
  arm(connection, connection.silenceMaxMs - silentMs);
}

/** CONNACK is out: the CONNECT deadline gives way to the keep-alive. */
export function startKeepAlive(connection: Connection): void {
  const { engine } = connection.context;
  if (connection.deadline >= 0) engine.timers.cancel(connection.deadline);
  connection.deadline = -1;
  connection.lastPacketMs = engine.nowMs;
  if (connection.silenceMaxMs > 0) arm(connection, connection.silenceMaxMs);
}

function arm(connection: Connection, afterMs: number): void {
  const { engine, deadlineKind } = connection.context;
  connection.deadline = engine.timers.arm(engine.nowMs + afterMs, deadlineKind, connection.number);
}
