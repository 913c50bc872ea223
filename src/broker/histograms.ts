/**
 * How values are spread: the event loop's lag, what clients send, how long messages take through the broker and how long some wait.
 * No message pays for it:
 *
 *   lag        looked at each 50 ms
 *   payload    one PUBLISH each 50 ms stands for the others
 *   delivery   one look at the clock when a tick begins to read and one when its bytes are with the kernel; it counts for all
 *              messages that were sent in the tick
 *   queue      at most one message each 50 ms is followed, from when it could not be sent to a connected client until it was
 */
import { FOLLOW_NEXT, FOLLOW_NONE } from "#core/message.ts";
import { Metric } from "#core/metrics.ts";
import type { MqttContext } from "#mqtt/context.ts";
import type { Flusher } from "#transport/flusher.ts";

const LAG_BOUNDS_MS = [1, 2, 5, 10, 20, 50, 100, 250, 500, 1000, 5000];
const DELIVERY_BOUNDS_MS = [0.1, 0.25, 0.5, 1, 2.5, 5, 10, 25, 50, 100, 250, 500, 1000, 5000];
const QUEUE_BOUNDS_MS = [1, 2.5, 5, 10, 25, 50, 100, 250, 500, 1000, 5000, 10_000, 30_000];
const PAYLOAD_BOUNDS = [16, 64, 256, 1024, 4096, 16_384, 65_536, 262_144, 1_048_576];
/** A message that has waited so long is counted as that, and another is followed. */
const FOLLOW_MS_MAX = 60_000;
const PUBLISH_RECEIVED = Metric["packets.publish.received"];
const [SENT_0, SENT_1, SENT_2] = [
  Metric["messages.qos0.sent"],
  Metric["messages.qos1.sent"],
  Metric["messages.qos2.sent"],
];

export class Histogram {
  readonly counts: number[];
  sum = 0;
  count = 0;

  constructor(readonly bounds: readonly number[]) {
    this.counts = Array.from({ length: bounds.length + 1 }, () => 0);
  }

  /** `times`: so many values are the same. */
  add(value: number, times = 1): void {
    let at = 0;
    while (at < this.bounds.length && value > this.bounds[at]) at++;
    this.counts[at] += times;
    this.sum += value * times;
    this.count += times;
  }

  /** A copy, as plain data. */
  read(): { bounds: number[]; counts: number[]; sum: number; count: number } {
    return { bounds: [...this.bounds], counts: [...this.counts], sum: this.sum, count: this.count };
  }
}

export class Histograms {
  readonly lagMs: Histogram = new Histogram(LAG_BOUNDS_MS);
  readonly payloadBytes: Histogram = new Histogram(PAYLOAD_BOUNDS);
  readonly deliveryMs: Histogram = new Histogram(DELIVERY_BOUNDS_MS);
  readonly queueMs: Histogram = new Histogram(QUEUE_BOUNDS_MS);
  private publishCount = 0;
  private sentCount = 0;
  private followedMs = 0;

  constructor(
    private readonly context: MqttContext,
    flusher: Flusher,
  ) {
    flusher.afterFlush = (startMs) => this.noteFlush(startMs);
    context.engine.delivery.onFollowed = (isSent) => {
      if (isSent) this.queueMs.add(performance.now() - this.followedMs);
      else this.followedMs = performance.now();
    };
  }

  /** Every 50 ms or so. */
  look(nowMs: number, lagMs: number): void {
    this.lagMs.add(lagMs);
    this.lookAtQueue(nowMs);
    const published = this.context.engine.metrics.counts[PUBLISH_RECEIVED];
    if (published === this.publishCount) return;
    this.publishCount = published;
    const { payloadStart, payloadEnd } = this.context.incoming;
    this.payloadBytes.add(payloadEnd - payloadStart);
  }

  private lookAtQueue(nowMs: number): void {
    const { messages } = this.context.engine;
    if (messages.followed === FOLLOW_NONE) messages.followed = FOLLOW_NEXT;
    if (messages.followed < 0 || nowMs - this.followedMs < FOLLOW_MS_MAX) return;
    this.queueMs.add(nowMs - this.followedMs);
    messages.followed = FOLLOW_NEXT;
  }

  /** What was sent before `sys` and others took back what they counted is not counted twice. */
  private noteFlush(startMs: number): void {
    const { counts } = this.context.engine.metrics;
    const sent = counts[SENT_0] + counts[SENT_1] + counts[SENT_2];
    const more = sent - this.sentCount;
    this.sentCount = sent;
    if (more > 0) this.deliveryMs.add(performance.now() - startMs, more);
  }
}
