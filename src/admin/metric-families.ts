/**
 * Counters, gauges and histograms of the broker under the names that Prometheus and OpenTelemetry know; docs/metrics.md lists them.
 *
 *   messages.dropped.queue_full ─► mantou_messages_dropped_total{reason="queue_full"}       one rule for each kind of name
 */
import type { Control, ResultOf } from "#broker/control.ts";

export interface Sample {
  readonly value: number;
  readonly labels: Readonly<Record<string, string>>;
}

export type Family =
  | { readonly name: string; readonly help: string; readonly type: "counter" | "gauge"; readonly values: Sample[] }
  | { readonly name: string; readonly help: string; readonly type: "histogram"; readonly histogram: Histogram };

type Plain = Exclude<Family, { type: "histogram" }>;

interface Rule {
  readonly pattern: RegExp;
  readonly name: string;
  readonly help: string;
  readonly label: string;
}

const RULES: readonly Rule[] = [
  {
    pattern: /^messages\.dropped\.(\w+)$/,
    name: "messages_dropped",
    label: "reason",
    help: "Messages that were not delivered, by reason",
  },
  {
    pattern: /^messages\.qos(\d)\.received$/,
    name: "messages_received",
    label: "qos",
    help: "PUBLISH received, by QoS",
  },
  { pattern: /^messages\.qos(\d)\.sent$/, name: "messages_sent", label: "qos", help: "PUBLISH sent, by QoS" },
  {
    pattern: /^packets\.(\w+)\.received$/,
    name: "packets_received_by_type",
    label: "type",
    help: "MQTT packets received, by type",
  },
  {
    pattern: /^packets\.(\w+)\.sent$/,
    name: "packets_sent_by_type",
    label: "type",
    help: "MQTT packets sent, by type",
  },
  {
    pattern: /^packets\.(connect|subscribe|unsubscribe|pingreq)$/,
    name: "packets_received_by_type",
    label: "type",
    help: "MQTT packets received, by type",
  },
  {
    pattern: /^packets\.(connack|suback|unsuback|pingresp)$/,
    name: "packets_sent_by_type",
    label: "type",
    help: "MQTT packets sent, by type",
  },
  {
    pattern: /^connections\.refused\.(\w+)$/,
    name: "connections_refused",
    label: "reason",
    help: "Connections that were not let in, by reason",
  },
  {
    pattern: /^connections\.closed\.(\w+)$/,
    name: "connections_ended",
    label: "reason",
    help: "Connections that the broker ended, by reason",
  },
  {
    pattern: /^retained\.refused\.(\w+)$/,
    name: "retained_refused",
    label: "reason",
    help: "Retained messages that were not kept, by reason",
  },
];

const GAUGES: Readonly<Record<string, readonly [name: string, help: string]>> = {
  connections: ["connections", "Connections with a protocol on them"],
  sessions: ["sessions", "Sessions, connected or away"],
  subscriptions: ["subscriptions", "Subscriptions"],
  topics: ["topics", "Topics and filters with subscribers"],
  shareGroups: ["share_groups", "Share groups"],
  retained: ["retained_messages", "Topics with a retained message"],
  messages: ["messages_kept", "Messages kept in memory for queues, inflight, retained, wills"],
  messageBytes: ["messages_kept_bytes", "Their bytes"],
  unsentBytes: ["unsent_bytes", "Bytes that wait for clients' sockets"],
};

/** Asks the broker. No name is there twice. */
export async function readMetrics(control: Control): Promise<Family[]> {
  const [counters, stats, info, listeners, store, histograms, alarms, slow, plugins] = await Promise.all([
    control("metrics.read", {}),
    control("stats.read", {}),
    control("broker.info", {}),
    control("listeners.list", {}),
    control("store.show", {}),
    control("histograms.read", {}),
    control("alarms.list", {}),
    control("slow.list", {}),
    control("plugins.metrics", {}),
  ]);
  const families: Family[] = [
    ...counterFamilies(counters),
    ...Object.entries(GAUGES).map(([key, [name, help]]) =>
      gauge(name, help, [{ value: stats[key as keyof typeof stats].value, labels: {} }]),
    ),
    gauge("info", "What runs here", [{ value: 1, labels: { node: info.node, version: info.version } }]),
    gauge("uptime_seconds", "Since the broker started", [{ value: info.uptimeSec, labels: {} }]),
    gauge("workers_missing", "Workers that are being started again: what they have is not in these figures", [
      { value: info.missingWorkers.length, labels: {} },
    ]),
    ...processFamilies(info.processes),
    gauge(
      "listener_connections",
      "Connections by listener",
      listeners.map(({ name, connectionCount }) => ({ value: connectionCount, labels: { listener: name } })),
    ),
    gauge(
      "listener_open",
      "1 while the listener takes connections",
      listeners.map(({ name, isOpen }) => ({ value: isOpen ? 1 : 0, labels: { listener: name } })),
    ),
    gauge("store_writable", "1 while the store can write", [{ value: store.isWritable ? 1 : 0, labels: {} }]),
    ...Object.entries(store.counts).map(([key, value]) =>
      (key === "waitingCount" ? gauge : counter)(
        `store_${snake(key.replace(/Count$/, ""))}`,
        "Changes and batches of the store",
        [{ value, labels: {} }],
      ),
    ),
    gauge("slow_subscribers", "Clients that read too slowly, up to 10", [{ value: slow.length, labels: {} }]),
    gauge(
      "alarms_active",
      "Alarms that are active, by severity",
      ["critical", "error", "warning"].map((severity) => ({
        value: alarms.active.filter((alarm) => alarm.severity === severity).length,
        labels: { severity },
      })),
    ),
    ...histogramFamilies(histograms, store.commitMs),
    ...Map.groupBy(plugins, ({ name }) => name)
      .values()
      .map((same): Family => {
        const [{ name, help, kind }] = same as [(typeof same)[0]];
        return { name, help, type: kind, values: same.map(({ value, labels }) => ({ value, labels })) };
      }),
  ];
  // The first of a name: a plugin may not take the broker's.
  return [...new Map(families.toReversed().map((family) => [family.name, family])).values()].toReversed();
}

type Histograms = ResultOf<"histograms.read">;

function histogramFamilies(
  { lagMs, payloadBytes, deliveryMs, queueMs }: Histograms,
  commitMs: Histogram | undefined,
): Family[] {
  const waited = "Waiting for a connected client's window or link, or for the disk, one message in each 50 ms followed";
  return [
    histogram("loop_lag_seconds", "How late the event loop came round, each 50 ms", lagMs, 1000),
    histogram("payload_bytes", "Payload of PUBLISH received, one in each 50 ms looked at", payloadBytes, 1),
    histogram("delivery_seconds", "From reading to handing over to the kernel, of all messages sent", deliveryMs, 1000),
    histogram("queue_wait_seconds", waited, queueMs, 1000),
    ...(commitMs ? [histogram("store_commit_seconds", "Time of a commit with its fsync", commitMs, 1000)] : []),
  ];
}

function counterFamilies(counters: Readonly<Record<string, number>>): Plain[] {
  const families = new Map<string, Plain>();
  for (const [name, value] of Object.entries(counters)) {
    const rule = RULES.find(({ pattern }) => pattern.test(name));
    const label = rule && rule.pattern.exec(name)![1];
    const made = counter(rule?.name ?? snake(name.replaceAll(".", "_")), rule?.help ?? `Counter ${name}`, []);
    const family = families.get(made.name) ?? made;
    families.set(made.name, family);
    family.values.push({ value, labels: rule ? { [rule.label]: label! } : {} });
  }
  return [...families.values()];
}

type Process = ResultOf<"broker.info">["processes"];

function processFamilies(processes: Process): Plain[] {
  const each = (value: (one: Process[number]) => number) =>
    processes.map((one) => ({ value: value(one), labels: { pid: String(one.pid) } }));
  return [
    gauge(
      "process_memory_bytes",
      "Resident memory of a process",
      each(({ memoryBytes }) => memoryBytes),
    ),
    gauge(
      "process_heap_bytes",
      "JavaScript heap in use",
      each(({ heapBytes }) => heapBytes),
    ),
    gauge(
      "process_lag_seconds",
      "How late its event loop came round last",
      each(({ lagMs }) => lagMs / 1000),
    ),
    counter(
      "process_cpu_seconds",
      "Processor time",
      each(({ cpuMs }) => cpuMs / 1000),
    ),
    gauge(
      "process_connections",
      "Connections of a process",
      each(({ connectionCount }) => connectionCount),
    ),
    gauge(
      "process_busy",
      "1 while new clients are refused",
      each(({ isBusy }) => (isBusy ? 1 : 0)),
    ),
  ];
}

/** Not cumulative: `counts` has those up to each bound, and above the last. */
export interface Histogram {
  readonly bounds: readonly number[];
  readonly counts: readonly number[];
  readonly sum: number;
  readonly count: number;
}

function histogram(name: string, help: string, { bounds, counts, sum, count }: Histogram, divisor: number): Family {
  const scaled = { bounds: bounds.map((bound) => bound / divisor), counts, sum: sum / divisor, count };
  return { name: `mantou_${name}`, help, type: "histogram", histogram: scaled };
}

function gauge(name: string, help: string, values: Sample[]): Plain {
  return { name: `mantou_${name}`, help, type: "gauge", values };
}

function counter(name: string, help: string, values: Sample[]): Plain {
  return { name: `mantou_${name}_total`, help, type: "counter", values };
}

function snake(name: string): string {
  return name.replaceAll(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
}
