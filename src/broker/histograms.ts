/**
 * How values are spread: the event loop's lag, and what clients send. Looked at once a tick, so that no message pays for it: of the
 * messages of a tick the last one stands for all.
 */
import { Metric, type Metrics } from "#core/metrics.ts";
import type { MqttContext } from "#mqtt/context.ts";

const LAG_BOUNDS_MS = [1, 2, 5, 10, 20, 50, 100, 250, 500, 1000, 5000];
const PAYLOAD_BOUNDS = [16, 64, 256, 1024, 4096, 16_384, 65_536, 262_144, 1_048_576];
const PUBLISH_RECEIVED = Metric["packets.publish.received"];

export class Histogram {
  readonly counts: number[];
  sum = 0;
  count = 0;

  constructor(readonly bounds: readonly number[]) {
    this.counts = Array.from({ length: bounds.length + 1 }, () => 0);
  }

  add(value: number): void {
    const at = this.bounds.findIndex((bound) => value <= bound);
    this.counts[at < 0 ? this.bounds.length : at]++;
    this.sum += value;
    this.count++;
  }

  /** A copy, as plain data. */
  read(): { bounds: number[]; counts: number[]; sum: number; count: number } {
    return { bounds: [...this.bounds], counts: [...this.counts], sum: this.sum, count: this.count };
  }
}

export class Histograms {
  readonly lagMs: Histogram = new Histogram(LAG_BOUNDS_MS);
  readonly payloadBytes: Histogram = new Histogram(PAYLOAD_BOUNDS);
  private publishCount = 0;

  constructor(
    private readonly metrics: Metrics,
    private readonly context: MqttContext,
  ) {}

  /** Once a tick. */
  look(lagMs: number): void {
    this.lagMs.add(lagMs);
    const published = this.metrics.counts[PUBLISH_RECEIVED];
    if (published === this.publishCount) return;
    this.publishCount = published;
    const { payloadStart, payloadEnd } = this.context.incoming;
    this.payloadBytes.add(payloadEnd - payloadStart);
  }
}
