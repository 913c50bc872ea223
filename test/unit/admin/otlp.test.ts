/** What an OpenTelemetry collector is sent, and what a collector that is away costs. */
import { expect, test } from "bun:test";
import { OtlpExport } from "#admin/otlp.ts";
import type { Control } from "#broker/control.ts";
import { createLog } from "#broker/log.ts";

const control = (async (name: string) => {
  const histogram = { bounds: [1, 10], counts: [2, 1, 4], sum: 57, count: 7 };
  const answers: Record<string, unknown> = {
    "metrics.read": { "messages.dropped.queue_full": 3, "messages.dropped.expired": 1, "bytes.sent": 10 },
    "stats.read": new Proxy({}, { get: () => ({ value: 5, max: 6 }) }),
    "broker.info": { node: "n@h", version: "1", uptimeSec: 9, processes: [], missingWorkers: [] },
    "listeners.list": [{ name: "tcp", connectionCount: 2, isOpen: true }],
    "store.show": { isWritable: true, counts: {} },
    "histograms.read": { lagMs: histogram, payloadBytes: histogram, deliveryMs: histogram, queueMs: histogram },
    "alarms.list": { active: [] },
    "slow.list": [],
    "plugins.metrics": [{ name: "mantou_sessions", help: "not theirs", kind: "gauge", value: -1 }],
  };
  return answers[name];
}) as unknown as Control;

interface Metric {
  readonly name: string;
  readonly sum?: {
    readonly dataPoints: object[];
    readonly isMonotonic: boolean;
    readonly aggregationTemporality: number;
  };
  readonly gauge?: { readonly dataPoints: { readonly asDouble: number }[] };
  readonly histogram?: { readonly dataPoints: object[] };
}

function exportTo(url: string, headers = ""): { otlp: OtlpExport; lines: string[] } {
  const lines: string[] = [];
  const log = createLog({ level: "info", format: "json" }, { write: (line: string) => void lines.push(line) });
  return { otlp: new OtlpExport({ url, everySec: 3600, node: "n@h", headers }, control, log), lines };
}

test("counters, gauges and histograms in the collector's form, with its headers", async () => {
  const got: { headers: Headers; body: unknown }[] = [];
  await using server = Bun.serve({
    port: 0,
    hostname: "127.0.0.1",
    async fetch(request) {
      got.push({ headers: request.headers, body: await request.json() });
      return Response.json({});
    },
  });
  const { otlp } = exportTo(`http://127.0.0.1:${server.port}/v1/metrics`, "authorization=Bearer%20x,x-tenant=a");
  await otlp.send();
  otlp.stop();
  const [{ headers, body }] = got;
  expect([headers.get("authorization"), headers.get("x-tenant")]).toEqual(["Bearer x", "a"]);
  const [{ resource, scopeMetrics }] = (
    body as { resourceMetrics: { resource: object; scopeMetrics: { metrics: Metric[] }[] }[] }
  ).resourceMetrics;
  expect(JSON.stringify(resource)).toContain('{"key":"service.instance.id","value":{"stringValue":"n@h"}}');
  const metrics = new Map(scopeMetrics[0].metrics.map((metric) => [metric.name, metric]));
  const { dataPoints, ...kind } = metrics.get("mantou_messages_dropped_total")!.sum!;
  expect(kind).toEqual({ isMonotonic: true, aggregationTemporality: 2 });
  const reason = (stringValue: string) => [{ key: "reason", value: { stringValue } }];
  expect(dataPoints).toMatchObject([
    { asDouble: 3, attributes: reason("queue_full") },
    { asDouble: 1, attributes: reason("expired") },
  ]);
  expect(metrics.get("mantou_sessions")!.gauge!.dataPoints[0].asDouble).toBe(5);
  expect(metrics.get("mantou_payload_bytes")!.histogram!.dataPoints).toMatchObject([
    { count: "7", sum: 57, explicitBounds: [1, 10], bucketCounts: ["2", "1", "4"] },
  ]);
});

test("a collector that is away is told of once, and so is its return", async () => {
  let status = 503;
  await using server = Bun.serve({ port: 0, hostname: "127.0.0.1", fetch: () => new Response("", { status }) });
  const { otlp, lines } = exportTo(`http://127.0.0.1:${server.port}/`);
  await otlp.send();
  await otlp.send();
  status = 200;
  await otlp.send();
  otlp.stop();
  expect(otlp.counts).toEqual({ sent: 1, failed: 2 });
  expect(lines.map((line) => JSON.parse(line).msg)).toEqual([
    "the OpenTelemetry collector takes no metrics",
    "the OpenTelemetry collector takes metrics again",
  ]);
});
