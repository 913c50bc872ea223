/**
 * Counters as numbered slots: a count is one add to a Float64Array, exact up to 2^53. The names are emqttd's where it had
 * one; the rest follow the same pattern. Gauges are not here: they are read from what they measure.
 */

const metricNames = [
  "bytes.received",
  "bytes.sent",
  "packets.received",
  "packets.sent",
  "packets.connect",
  "packets.connack",
  "packets.publish.received",
  "packets.publish.sent",
  "packets.puback.received",
  "packets.puback.sent",
  "packets.pubrec.received",
  "packets.pubrec.sent",
  "packets.pubrel.received",
  "packets.pubrel.sent",
  "packets.pubcomp.received",
  "packets.pubcomp.sent",
  "packets.subscribe",
  "packets.suback",
  "packets.unsubscribe",
  "packets.unsuback",
  "packets.pingreq",
  "packets.pingresp",
  "packets.disconnect.received",
  "packets.disconnect.sent",
  "packets.auth.received",
  "packets.auth.sent",
  "messages.qos0.received",
  "messages.qos1.received",
  "messages.qos2.received",
  "messages.qos0.sent",
  "messages.qos1.sent",
  "messages.qos2.sent",
  "messages.redispatched",
  "messages.dropped.no_subscriber",
  "messages.dropped.absent",
  "messages.dropped.queue_full",
  "messages.dropped.memory_full",
  "messages.dropped.slow_subscriber",
  "messages.dropped.expired",
  "messages.dropped.packet_too_large",
  "messages.dropped.refused",
  "messages.dropped.session_ended",
  "messages.dropped.stopped_by_hook",
  "messages.dropped.not_authorized",
  "messages.dropped.store_full",
  "messages.dropped.overloaded",
  "messages.slowed.busy",
  "store.messages.lost",
  "retained.refused.retained_full",
  "retained.refused.retained_too_large",
  "retained.refused.memory_full",
  "retained.refused.stopped_by_hook",
  "connections.opened",
  "connections.closed",
  "connections.refused.limit",
  "connections.refused.address",
  "connections.refused.address_rate",
  "connections.refused.client_rate",
  "connections.refused.rate",
  "connections.refused.proxy",
  "connections.refused.handshake",
  "connections.refused.handshake_timeout",
  "connections.refused.identity",
  "connections.refused.upgrade",
  "connections.refused.busy",
  "connections.refused.connect",
  "connections.delayed.rate",
  "connections.paused.rate",
  "connections.paused.message_rate",
  "connections.paused.busy",
  "connections.closed.connect_timeout",
  "connections.closed.keep_alive",
  "connections.closed.stalled",
  "connections.closed.malformed",
  "connections.closed.protocol_error",
  "connections.closed.packet_too_large",
  "connections.closed.taken_over",
  "connections.closed.websocket",
  "sessions.created",
  "sessions.resumed",
  "sessions.ended",
  "sessions.expired",
  "wills.published",
  "http.published",
  "http.refused",
  "http.rested",
  "bugs",
] as const;

export type MetricName = (typeof metricNames)[number];

/** Slot numbers by name: `metrics.counts[Metric["bytes.sent"]]`. Hot paths keep the number in a constant. */
export const Metric = Object.fromEntries(metricNames.map((name, slot) => [name, slot])) as Record<MetricName, number>;

const FIRST_MESSAGE = metricNames.findIndex((name) => name.startsWith("messages."));
const LAST_MESSAGE = metricNames.findLastIndex((name) => name.startsWith("messages."));

/** Why a message was not delivered. Every reason is a counter `messages.dropped.<reason>` and reaches the drop hook. */
export type DropReason =
  | "no_subscriber"
  | "absent"
  | "queue_full"
  | "memory_full"
  | "slow_subscriber"
  | "expired"
  | "packet_too_large"
  | "refused"
  | "session_ended"
  | "stopped_by_hook"
  | "not_authorized"
  | "store_full"
  | "overloaded";

export class Metrics {
  readonly counts = new Float64Array(metricNames.length);

  add(name: MetricName, count = 1): void {
    this.counts[Metric[name]] += count;
  }

  get(name: MetricName): number {
    return this.counts[Metric[name]];
  }

  /** Does what no message is counted for: publishing about the broker itself. */
  withoutMessages<T>(action: () => T): T {
    const before = this.counts.slice(FIRST_MESSAGE, LAST_MESSAGE + 1);
    try {
      return action();
    } finally {
      this.counts.set(before, FIRST_MESSAGE);
    }
  }

  /** All counters with their names. */
  toObject(): Record<MetricName, number> {
    return Object.fromEntries(metricNames.map((name, slot) => [name, this.counts[slot]])) as Record<MetricName, number>;
  }
}
