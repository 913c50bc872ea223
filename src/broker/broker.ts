/**
 * Assembly: a configuration becomes an engine, its ports, its listeners and a clock. Nothing else knows who implements
 * what.
 *
 *   config ─► Engine ─► MqttContext ─► TcpTransport ─► listeners ─► ready ─► … ─► stop: refuse, tell, drain, close
 */
import { randomInt, randomUUID } from "node:crypto";
import { Engine } from "#core/engine.ts";
import { SERVER_SHUTTING_DOWN, USE_ANOTHER_SERVER } from "#mqtt/codec/reason-code.ts";
import { Connection } from "#mqtt/connection.ts";
import { MqttContext, type Reporter } from "#mqtt/context.ts";
import { listenTcp, type TcpListener, TcpTransport } from "#transport/tcp.ts";
import { formatBind } from "./bind-address.ts";
import type { Config } from "./config.ts";
import type { ListenerConfig } from "./config-schema.ts";
import { connectionsMaxOfProcess } from "./descriptor-limit.ts";
import { LimitedLog } from "./limited-log.ts";
import type { Logger } from "./log.ts";

const TICK_MS = 50;
const SWEEP_MS = 1000;
const DRAIN_POLL_MS = 10;
const FAULT_LINES_PER_SEC = 5;

export interface RunningBroker {
  /** Of each listener, in the order of the configuration, such as `tcp://127.0.0.1:1883`. */
  readonly addresses: readonly string[];
  readonly engine: Engine;
  /** Stops accepting, tells the clients, and resolves when all links are closed or `drainSecMax` has passed. */
  stop(): Promise<void>;
}

/** Opens every listener of the configuration. Throws MantouError `listen_failed`, with nothing left open. */
export async function startBroker(config: Config, log: Logger): Promise<RunningBroker> {
  let isWorkAsked = false;
  const faults = new LimitedLog(log, { linesPerSec: FAULT_LINES_PER_SEC, nowMs: () => performance.now() });
  const engine = new Engine({
    limits: config,
    seed: randomInt(1, 0x7fff_ffff),
    nowMs: performance.now(),
    nowSec: wallSec(),
    onWork: () => {
      if (isWorkAsked) return;
      isWorkAsked = true;
      setImmediate(() => {
        isWorkAsked = false;
        engine.turn();
      });
    },
    onBug: (error) => faults.write("error", "deadline", "a bug: a deadline or a task failed", { err: error }),
  });
  const context = new MqttContext(engine, {
    ...config.broker,
    makeClientId: () => `mantou_${randomUUID().replaceAll("-", "")}`,
    reporter: reportTo(faults),
  });
  const transport = new TcpTransport(engine.limits.send, engine.metrics, (error) => {
    engine.metrics.add("bugs");
    faults.write("error", "socket", "a socket handler failed", { err: error });
  });
  const listeners = openAll(config.listeners, context, transport);
  log.warn("anonymous clients are allowed: anybody who can reach a listener may publish and subscribe");
  if (log.isLevelEnabled("debug")) logClients(engine, log);
  const clock = setInterval(() => engine.tick(performance.now(), wallSec()), TICK_MS);
  const sweep = setInterval(() => {
    transport.sweep(performance.now());
    faults.flush();
  }, SWEEP_MS);
  return {
    addresses: config.listeners.map(({ bind }, i) => `tcp://${formatBind({ ...bind, port: listeners[i].port })}`),
    engine,
    async stop() {
      for (const listener of listeners) listener.stop();
      context.endAll(config.broker.serverReference === "" ? SERVER_SHUTTING_DOWN : USE_ANOTHER_SERVER);
      const deadlineMs = performance.now() + config.broker.drainSecMax * 1000;
      const isOpen = (): boolean => listeners.some((listener) => listener.connectionCount > 0);
      while (isOpen() && performance.now() < deadlineMs) await Bun.sleep(DRAIN_POLL_MS);
      clearInterval(clock);
      clearInterval(sweep);
      for (const link of transport.watched.keys()) link.destroy();
    },
  };
}

function openAll(configs: readonly ListenerConfig[], context: MqttContext, transport: TcpTransport): TcpListener[] {
  const opened: TcpListener[] = [];
  const connectionsMax = connectionsMaxOfProcess();
  try {
    for (const { name, bind, connectionsMax: own } of configs) {
      const options = {
        name,
        host: bind.host,
        port: bind.port,
        connectionsMax: Math.min(own ?? connectionsMax, connectionsMax),
      };
      opened.push(listenTcp(transport, options, (link) => new Connection(context, link, name)));
    }
  } catch (error) {
    for (const listener of opened) listener.stop();
    throw error;
  }
  return opened;
}

/** Faults and bugs as log lines, a few a second of each kind. */
function reportTo(faults: LimitedLog): Reporter {
  return {
    fault(connection, reasonCode, packet) {
      const { clientId, address } = connection.info();
      const fields = { reasonCode: hex(reasonCode), clientId, address, packet: packet.toString("hex", 0, 64) };
      faults.write("info", `fault-${reasonCode}`, "a client broke the protocol; its connection is closed", fields);
    },
    bug(connection, error, packet) {
      const { clientId, address } = connection.info();
      const fields = { err: error, clientId, address, packet: packet.toString("hex", 0, 256) };
      faults.write("error", "bug", "a bug: handling a packet failed; its connection is closed", fields);
    },
  };
}

function logClients(engine: Engine, log: Logger): void {
  engine.hooks.clientConnected.add(({ clientId, address, version }) => {
    log.debug({ clientId, address, version }, "client connected");
  });
  engine.hooks.clientDisconnected.add(({ clientId }, reasonCode) => {
    log.debug({ clientId, reasonCode: hex(reasonCode) }, "client disconnected");
  });
}

function hex(reasonCode: number): string {
  return `0x${reasonCode.toString(16).padStart(2, "0")}`;
}

function wallSec(): number {
  return Math.floor(Date.now() / 1000);
}
