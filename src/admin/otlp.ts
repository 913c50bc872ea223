/**
 * The same metrics handed to an OpenTelemetry collector: OTLP over HTTP in its JSON form (opentelemetry-proto 1, `/v1/metrics`), every
 * `admin.otlpSec`.
 *
 *   counter ─► sum, cumulative, monotonic     gauge ─► gauge     histogram ─► histogram, cumulative
 *
 * One request at a time; what a collector that is away misses is in the next sums. Headers, an authorization for one, come from
 * `OTEL_EXPORTER_OTLP_HEADERS` as OpenTelemetry has it: `name=value,name=value`, percent-encoded.
 */
import type { Control } from "#broker/control.ts";
import type { Logger } from "#broker/log.ts";
import { VERSION } from "#broker/version.ts";
import { type Family, readMetrics, type Sample } from "./metric-families.ts";

const DEADLINE_MS = 10_000;
const CUMULATIVE = 2;

export interface OtlpOptions {
  readonly url: string;
  readonly everySec: number;
  readonly node: string;
  /** As in `OTEL_EXPORTER_OTLP_HEADERS`. */
  readonly headers: string;
}

export class OtlpExport {
  readonly counts = { sent: 0, failed: 0 };
  private readonly timer: Timer;
  private readonly startNano = nano();
  private isSending = false;
  private isFailing = false;

  constructor(
    private readonly options: OtlpOptions,
    private readonly control: Control,
    private readonly log: Logger,
  ) {
    this.timer = setInterval(() => void this.send(), options.everySec * 1000);
  }

  stop(): void {
    clearInterval(this.timer);
  }

  /** Resolves when the collector has answered; a failure is logged when it begins and when it ends. */
  async send(): Promise<void> {
    if (this.isSending) return;
    this.isSending = true;
    try {
      const { url, headers } = this.options;
      const response = await fetch(url, {
        method: "POST",
        headers: { "Content-Type": "application/json", ...parseHeaders(headers) },
        body: JSON.stringify(this.request(await readMetrics(this.control))),
        signal: AbortSignal.timeout(DEADLINE_MS),
      });
      await response.arrayBuffer();
      if (!response.ok) throw new Error(`it answered ${response.status}`);
      this.counts.sent++;
      if (this.isFailing) this.log.info({ url }, "the OpenTelemetry collector takes metrics again");
      this.isFailing = false;
    } catch (error) {
      this.counts.failed++;
      const { url } = this.options;
      if (!this.isFailing) this.log.warn({ url, fault: String(error) }, "the OpenTelemetry collector takes no metrics");
      this.isFailing = true;
    } finally {
      this.isSending = false;
    }
  }

  private request(families: readonly Family[]): object {
    const attributes = attributesOf({
      "service.name": "mantou",
      "service.instance.id": this.options.node,
      "service.version": VERSION,
    });
    const times = { startTimeUnixNano: this.startNano, timeUnixNano: nano() };
    const metrics = families.map((family) => metricOf(family, times));
    return { resourceMetrics: [{ resource: { attributes }, scopeMetrics: [{ scope: { name: "mantou" }, metrics }] }] };
  }
}

interface Times {
  readonly startTimeUnixNano: string;
  readonly timeUnixNano: string;
}

function metricOf(family: Family, times: Times): object {
  const { name, help: description } = family;
  const points = (values: readonly Sample[]) =>
    values.map(({ value, labels }) => ({ ...times, asDouble: value, attributes: attributesOf(labels) }));
  switch (family.type) {
    case "gauge":
      return { name, description, gauge: { dataPoints: points(family.values) } };
    case "counter": {
      const sum = { dataPoints: points(family.values), aggregationTemporality: CUMULATIVE, isMonotonic: true };
      return { name, description, sum };
    }
    case "histogram": {
      const { bounds, counts, sum, count } = family.histogram;
      // 64-bit numbers are text in the JSON form.
      const point = { ...times, count: String(count), sum, explicitBounds: bounds, bucketCounts: counts.map(String) };
      return { name, description, histogram: { dataPoints: [point], aggregationTemporality: CUMULATIVE } };
    }
  }
}

function attributesOf(labels: Readonly<Record<string, string>>): object[] {
  return Object.entries(labels).map(([key, stringValue]) => ({ key, value: { stringValue } }));
}

function parseHeaders(text: string): Record<string, string> {
  const pairs = text.split(",").map((pair) => pair.trim().split(/=(.*)/s, 2));
  const given = pairs.filter(([name, value]) => name !== "" && value !== undefined);
  return Object.fromEntries(given.map(([name, value]) => [name, decodeURIComponent(value)]));
}

function nano(): string {
  return `${Date.now()}000000`;
}
