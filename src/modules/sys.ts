/**
 * `$SYS/brokers/…` as emqttd published it, values as text. Worker 0 speaks for the node; all figures are sums over the workers.
 *
 *   each second     uptime, datetime
 *   each interval   $SYS/brokers, version, sysdescr (these retained), stats/…, metrics/…, vm/…
 *   at once         alarms/ID/alert, alarms/ID/clear, sysmon/…
 *
 * What a Bun broker has instead of Erlang's monitors: `sysmon/long_schedule` is a late event loop, `sysmon/large_heap` the alarm about
 * memory.
 */
import fastJson from "fast-json-stringify";
import { type AlarmNote, type BrokerFigures, MantouError, type PluginApi, type z } from "#plugins/plugin.ts";
import type { sysOptions } from "./options.ts";

const DESCRIPTION = "mantou MQTT broker";
/** emqttd's `long_schedule`. */
const LAG_MS = 240;
const SEC_MS = 1000;

const alertJson = fastJson({
  type: "object",
  properties: {
    id: { type: "string" },
    severity: { type: "string" },
    title: { type: "string" },
    summary: { type: "string" },
    ts: { type: "integer" },
  },
});

const clearJson = fastJson({ type: "object", properties: { id: { type: "string" }, ts: { type: "integer" } } });

/** emqttd's names below `metrics/`, and how they are made of ours. */
const METRICS: Readonly<Record<string, string | ((count: (name: string) => number) => number)>> = {
  "bytes/received": "bytes.received",
  "bytes/sent": "bytes.sent",
  "packets/received": "packets.received",
  "packets/sent": "packets.sent",
  "packets/connect": "packets.connect",
  "packets/connack": "packets.connack",
  ...bothWays("publish", "puback", "pubrec", "pubrel", "pubcomp"),
  "packets/subscribe": "packets.subscribe",
  "packets/suback": "packets.suback",
  "packets/unsubscribe": "packets.unsubscribe",
  "packets/unsuback": "packets.unsuback",
  "packets/pingreq": "packets.pingreq",
  "packets/pingresp": "packets.pingresp",
  "packets/disconnect": "packets.disconnect.received",
  "messages/received": (count) => [0, 1, 2].reduce((sum, qos) => sum + count(`messages.qos${qos}.received`), 0),
  "messages/sent": (count) => [0, 1, 2].reduce((sum, qos) => sum + count(`messages.qos${qos}.sent`), 0),
  ...Object.fromEntries(
    [0, 1, 2].flatMap((qos) =>
      ["received", "sent"].map((way) => [`messages/qos${qos}/${way}`, `messages.qos${qos}.${way}`]),
    ),
  ),
};

function bothWays(...packets: string[]): Record<string, string> {
  const ways = packets.flatMap((packet) => ["received", "sent"].map((way) => [packet, way] as const));
  return Object.fromEntries(ways.map(([packet, way]) => [`packets/${packet}/${way}`, `packets.${packet}.${way}`]));
}

export function startSys(api: PluginApi<z.output<typeof sysOptions>>): void | (() => void) {
  const publish = publisher(api);
  followAlarms(api, publish);
  if (api.broker.worker !== 0) return;
  tellTime(api, publish);
  const tellNames = (node: string, version: string, description: string): void => {
    api.publish("$SYS/brokers", node, { isRetain: true });
    publish("version", version, true);
    publish("sysdescr", description, true);
  };
  const { node, version } = api.broker;
  const tell = async (): Promise<void> => {
    tellNames(node, version, DESCRIPTION);
    try {
      for (const [name, value] of figures(await api.readFigures())) publish(name, String(value));
    } catch (error) {
      if (!(error instanceof MantouError)) throw error;
      api.log.info("no figures this time", { why: error.message }); // a worker is being started again
    }
  };
  tellNames(node, version, DESCRIPTION);
  const { intervalSec } = api.config;
  if (intervalSec > 0) api.setInterval(tell, intervalSec * SEC_MS);
  return () => tellNames("", "", ""); // they are retained no longer
}

function tellTime(api: PluginApi, publish: Publish): void {
  const startMs = performance.now();
  let lastMs = startMs;
  api.setInterval(() => {
    const nowMs = performance.now();
    publish("uptime", uptimeText((nowMs - startMs) / SEC_MS));
    publish("datetime", datetimeText(new Date()));
    const lagMs = nowMs - lastMs - SEC_MS;
    lastMs = nowMs;
    if (lagMs >= LAG_MS) publish("sysmon/long_schedule", `the event loop came ${Math.round(lagMs)} ms late`);
  }, SEC_MS);
}

type Publish = (name: string, text: string, isRetain?: boolean) => void;

function publisher(api: PluginApi): Publish {
  const prefix = `$SYS/brokers/${api.broker.node}/`;
  return (name, text, isRetain = false) => void api.publish(prefix + name, text, { isRetain });
}

/** `stats/clients/count` and so on, with their values. */
function* figures({ stats, counters, processes }: BrokerFigures): Generator<[string, number]> {
  const count = (name: string): number => counters[name] ?? 0;
  for (const [name, { count: value, max }] of Object.entries(stats)) {
    yield [`stats/${name}/count`, value];
    yield [`stats/${name}/max`, max];
  }
  for (const [name, from] of Object.entries(METRICS))
    yield [`metrics/${name}`, typeof from === "string" ? count(from) : from(count)];
  yield ["metrics/messages/retained", stats.retained.count];
  const dropped = Object.entries(counters).filter(([name]) => name.startsWith("messages.dropped."));
  yield ["metrics/messages/dropped", dropped.reduce((sum, [, value]) => sum + value, 0)];
  for (const [name, value] of dropped) yield [`metrics/${name.replaceAll(".", "/")}`, value];
  const sum = (of: "memoryBytes" | "heapBytes"): number => processes.reduce((all, each) => all + each[of], 0);
  yield ["vm/memory/rss", sum("memoryBytes")];
  yield ["vm/memory/heap", sum("heapBytes")];
  yield ["vm/lag", Math.round(Math.max(0, ...processes.map(({ lagMs }) => lagMs)))];
  yield ["vm/workers", processes.length];
}

function followAlarms(api: PluginApi, publish: Publish): void {
  const topic = (id: string): string => `alarms/${id.replaceAll("+", "%2B").replaceAll("#", "%23")}`;
  const ts = (ms: number): number => Math.floor(ms / SEC_MS);
  api.on("alarm.set", ({ id, severity, title, summary, atMs }: AlarmNote) => {
    publish(`${topic(id)}/alert`, alertJson({ id, severity, title, summary, ts: ts(atMs) }));
    if (id === "memory_high") publish("sysmon/large_heap", summary);
  });
  api.on("alarm.cleared", ({ id, atMs }) => publish(`${topic(id)}/clear`, clearJson({ id, ts: ts(atMs) })));
}

/** `1 hours, 25 minutes, 24 seconds`: parts that are 0 from the left on are left out. */
export function uptimeText(sec: number): string {
  const whole = Math.floor(sec);
  const parts = [
    [Math.floor(whole / 86_400), "days"],
    [Math.floor(whole / 3600) % 24, "hours"],
    [Math.floor(whole / 60) % 60, "minutes"],
    [whole % 60, "seconds"],
  ] as const;
  const first = Math.max(
    0,
    parts.findIndex(([count], i) => count > 0 || i === parts.length - 1),
  );
  return parts
    .slice(first)
    .map(([count, unit]) => `${count} ${unit}`)
    .join(", ");
}

/** `2026-11-23 10:00:00`, local time. */
export function datetimeText(time: Date): string {
  const two = (value: number): string => String(value).padStart(2, "0");
  const date = `${time.getFullYear()}-${two(time.getMonth() + 1)}-${two(time.getDate())}`;
  return `${date} ${two(time.getHours())}:${two(time.getMinutes())}:${two(time.getSeconds())}`;
}
