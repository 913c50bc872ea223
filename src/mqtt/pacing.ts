/**
 * How fast a client may send, and what is asked of publishers while the process has more to do than it can (`MqttContext.isBusy`).
 *
 *   PUBLISH ─► its listener's message rate: one token each; none left: the client rests until there is one
 *           ─► busy, QoS 0: dropped as `overloaded`, a flood of them: the client is not read for a moment
 *           ─► busy, QoS 1/2: handled; its acknowledgement leaves with others, about three times a second (context.ts)
 *
 * A client that rests is not read, so TCP slows it; what it has sent is not lost, and its keep-alive stands still. A busy broker never
 * stops reading a client that owes acknowledgements, since they are what frees its memory, and always reads again soon.
 */
import type { Pacer } from "#base/pacer.ts";
import type { PacerTable } from "#base/pacer-table.ts";
import type { MessageView } from "#core/message.ts";
import type { Connection } from "./connection.ts";

/** So many QoS 0 messages from one client in a row, within a tick of the clock, are a flood. */
const FLOOD_COUNT = 64;
/** How long a busy broker does not read from it. */
const FLOOD_REST_MS = 500;

/** What a listener allows each client. */
export interface ClientRates {
  /** A bucket of messages for one connection; undefined: any number. */
  readonly makePacer: (() => Pacer) | undefined;
  /** Buckets of connections, by client id; undefined: any number. */
  readonly clients: PacerTable | undefined;
}

/** To be said before the first packet. */
export function limitRates(connection: Connection, { makePacer, clients }: ClientRates): void {
  const { extras } = connection;
  if (makePacer) extras.pacer = makePacer();
  extras.clientRate = clients ?? null;
  if (makePacer) connection.context.notePacer();
}

/** A PUBLISH of a guarded context (`MqttContext.isGuarded`) is at hand; true when it goes no further. */
export function guardPublish(connection: Connection, view: MessageView): boolean {
  const { context, rare } = connection;
  const { engine } = context;
  if (rare?.pacer) {
    rare.pacer.take(engine.nowMs);
    const waitMs = rare.pacer.waitMs(engine.nowMs);
    if (waitMs > 0) rest(connection, waitMs);
  }
  if (!context.isBusy || view.qos > 0) return false;
  engine.dropUnrouted("overloaded", view);
  if (context.noteShed(connection) >= FLOOD_COUNT && !owesAcks(connection)) pause(connection);
  return true;
}

/** Input waits, also what has been read already. */
function rest(connection: Connection, waitMs: number): void {
  const { extras, context } = connection;
  if (extras.restTimer >= 0) return;
  context.engine.metrics.add("connections.paused.message_rate");
  connection.hold();
  extras.isResting = true;
  stopReading(connection, waitMs);
}

/** What has been read is handled, so that it takes no memory; no more is read. */
function pause(connection: Connection): void {
  if (connection.extras.restTimer >= 0) return;
  connection.context.engine.metrics.add("connections.paused.busy");
  stopReading(connection, FLOOD_REST_MS);
}

function stopReading(connection: Connection, ms: number): void {
  const { engine, restKind } = connection.context;
  connection.link.pause();
  connection.extras.restTimer = engine.timers.arm(engine.nowMs + ms, restKind, connection.number);
}

/** The time is over: the client is read again. */
export function endRest(connection: Connection): void {
  const { extras } = connection;
  extras.restTimer = -1;
  connection.lastPacketMs = connection.context.engine.nowMs;
  connection.link.resume();
  if (!extras.isResting) return;
  extras.isResting = false;
  connection.unhold();
}

function owesAcks({ context, session }: Connection): boolean {
  const queue = context.engine.sessions.queueOf(session);
  return queue !== null && queue.inflight.total > 0;
}
