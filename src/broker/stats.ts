/** A process's figures under emqttd's names, for `$SYS` and whoever else shows them. Over several processes they are added up. */
import type { Engine } from "#core/engine.ts";
import type { BrokerFigures } from "#plugins/plugin.ts";
import type { GaugeName, Gauges } from "./gauges.ts";

const NAMES = {
  clients: "connections",
  sessions: "sessions",
  routes: "topics", // a route is a filter that a node wants: of one node there are as many as filters
  topics: "topics",
  subscribers: "subscribers",
  subscriptions: "subscriptions",
  retained: "retained",
} as const satisfies Record<keyof BrokerFigures["stats"], GaugeName>;

export function figuresOf(engine: Engine, gauges: Gauges): BrokerFigures {
  const read = gauges.read();
  const stats = Object.entries(NAMES).map(([name, gauge]) => [
    name,
    { count: read[gauge].value, max: read[gauge].max },
  ]);
  return { stats: Object.fromEntries(stats) as BrokerFigures["stats"], counters: engine.metrics.toObject() };
}
