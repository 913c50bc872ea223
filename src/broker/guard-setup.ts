/** The guard of the process's HTTP connections, and what an operator hears of it. */
import { HttpGuard } from "#transport/http-guard.ts";
import type { TcpTransport } from "#transport/tcp.ts";
import type { Alarms } from "./alarms.ts";
import { descriptorLimit } from "./descriptor-limit.ts";
import type { LimitedLog } from "./limited-log.ts";

export interface GuardParts {
  readonly transport: TcpTransport;
  readonly alarms: () => Alarms;
  readonly log: LimitedLog;
}

const ID = "http_connections_high";

export function makeGuard(connectionsMax: number, { transport, alarms, log }: GuardParts): HttpGuard {
  return new HttpGuard(connectionsMax, {
    descriptorsMax: descriptorLimit(),
    linkCount: () => transport.connectionCount,
    onChange(isResting, count) {
      if (!isResting) return alarms().clear(ID);
      transport.metrics.add("http.rested");
      const summary = `about ${count} HTTP connections; HTTP and WebSocket listeners take no more until there are fewer`;
      alarms().set({ id: ID, severity: "error", title: "too many HTTP connections", summary });
    },
    onFault: (error) =>
      log.write("error", "http", "an HTTP listener cannot be opened again; it is tried again", { err: error }),
  });
}
