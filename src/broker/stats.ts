/** The broker's figures under emqttd's names, for `$SYS` and whoever else shows them. Those of several processes are added up before. */
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

type Read = ReturnType<Gauges["read"]>;

export function figuresOf(
  counters: BrokerFigures["counters"],
  read: Pick<Read, (typeof NAMES)[keyof typeof NAMES]>,
  processes: BrokerFigures["processes"],
): BrokerFigures {
  const stats = Object.entries(NAMES).map(([name, gauge]) => [
    name,
    { count: read[gauge].value, max: read[gauge].max },
  ]);
  return { stats: Object.fromEntries(stats) as BrokerFigures["stats"], counters, processes };
}
