/** The broker inside the test's own process, on a real port, so that its metrics, links and log can be looked at. */
import { type RunningBroker, startBroker } from "#broker/broker.ts";
import { type Config, loadConfig } from "#broker/config.ts";
import { createLog } from "#broker/log.ts";
import type { Connection } from "#mqtt/connection.ts";
import { harnessOf, type Harness, tcpTarget } from "#test/support/harness.ts";

export interface BrokerInProcess extends AsyncDisposable {
  readonly broker: RunningBroker;
  readonly engine: RunningBroker["engine"];
  readonly port: number;
  /** Well-behaved clients over TCP; killed at the end. */
  readonly harness: Harness;
  /** Records of the log, oldest first. */
  readonly log: { readonly level: string; readonly msg: string; readonly [field: string]: unknown }[];
  /** The connection of a client that is there now. */
  connectionOf(clientId: string): Connection;
}

/** `set` is as the command line's `--set`; `listener` are keys of its listener. */
export async function startInProcess(
  set: readonly string[] = [],
  listener: Partial<Config["listeners"][number]> = {},
): Promise<BrokerInProcess> {
  const flags = { listen: ["tcp://127.0.0.1:0"], set: ["broker.drainSecMax=0", "store.type=memory", ...set] };
  const { config } = loadConfig({ flags, env: {}, cwd: "/" });
  const listeners: Config["listeners"] = config.listeners.map((each) => ({ ...each, ...listener }));
  const log: BrokerInProcess["log"] = [];
  const output = { write: (line: string) => void log.push(JSON.parse(line)) };
  const broker = await startBroker({ ...config, listeners }, createLog({ level: "info", format: "json" }, output));
  const harness = harnessOf(tcpTarget(broker.addresses[0]));
  const { engine } = broker;
  return {
    broker,
    engine,
    port: Number(new URL(broker.addresses[0]).port),
    harness,
    log,
    connectionOf(clientId) {
      const sink = engine.sessions.sinks[engine.sessions.find(Buffer.from(clientId))];
      if (!sink) throw new Error(`${clientId} is not connected`);
      return sink as Connection;
    },
    async [Symbol.asyncDispose]() {
      await harness.stop();
      await broker.stop();
    },
  };
}
