/**
 * Assembly: a configuration becomes an engine, its ports, its listeners and a clock. Nothing else knows who implements
 * what.
 *
 *   config ─► Engine ─► MqttContext ─► TcpTransport ─► listeners ─► ready ─► … ─► stop: refuse, tell, drain, close
 */
import { randomInt, randomUUID } from "node:crypto";
import { Pacer } from "#base/pacer.ts";
import { PacerTable } from "#base/pacer-table.ts";
import { Engine } from "#core/engine.ts";
import type { HttpMount, Link, Protocol } from "#core/ports.ts";
import type { BrokerFigures } from "#plugins/plugin.ts";
import { Connection } from "#mqtt/connection.ts";
import { MqttContext, type Reporter } from "#mqtt/context.ts";
import { type ClientRates, limitRates } from "#mqtt/pacing.ts";
import type { DurableStore } from "#store/durable-store.ts";
import type { HttpGuard } from "#transport/http-guard.ts";
import { LoadMonitor } from "#transport/load-monitor.ts";
import { TcpTransport } from "#transport/tcp.ts";
import { AccessSetup } from "./access-setup.ts";
import { Commits } from "./commits.ts";
import { type Config, type ConfigSource, sourceOf } from "./config.ts";
import { ConfigReload, type ReloadReport } from "./config-reload.ts";
import { type Control, localControl } from "./control.ts";
import { logClients, reportTo } from "./client-log.ts";
import { drain, drainForwards } from "./drain.ts";
import { connectionsMaxOfProcess, warmHttpClient } from "./descriptor-limit.ts";
import { Gauges } from "./gauges.ts";
import { makeGuard } from "./guard-setup.ts";
import { Histograms } from "./histograms.ts";
import { httpMounts } from "./http-publish.ts";
import { LimitedLog } from "./limited-log.ts";
import { type Listening, type ListenerSurroundings, OpenListeners } from "./listener-setup.ts";
import { LiveConfig } from "./live-config.ts";
import type { WorkerChanges } from "./live-changes.ts";
import type { Logger } from "./log.ts";
import { Observation } from "./observation.ts";
import { PluginSetup } from "./plugin-setup.ts";
import { figuresOf } from "./stats.ts";
import { type OpenStore, openStore } from "./store-setup.ts";
import { WorkerLinks, type WorkerPart } from "./worker-links.ts";

const TICK_MS = 50;
const SWEEP_MS = 1000;
/** What the store is given at least to write what waits. */
const STORE_CLOSE_MS = 1000;
const FAULT_LINES_PER_SEC = 5;

/** One of several workers, and the directory of its own store. */
export interface BrokerPart extends WorkerPart {
  readonly dataDir: string;
  /** All workers as one; the worker itself knows how to ask. */
  readonly site?: Control;
  /** What the other workers have been told since the start. */
  readonly changes: WorkerChanges;
}

export interface RunningBroker {
  /** Of each listener, in the order of the configuration, such as `tcp://127.0.0.1:1883`. */
  readonly addresses: readonly string[];
  readonly engine: Engine;
  /** The durable store, for its figures; undefined with `store.type: memory`. */
  readonly store: DurableStore | undefined;
  /** Resolves when the broker cannot go on: its store has failed for good. */
  readonly failed: Promise<Error>;
  /** How late the loop is, how much memory there is, and whether that is too much. */
  readonly load: LoadMonitor;
  /** Users, bans, the backends' health. */
  readonly access: AccessSetup;
  /** Alarms, slow subscribers, traces. */
  readonly observation: Observation;
  /** Reads the configuration again, and certificate files: see `ConfigReload.run`. */
  reload(): Promise<ReloadReport>;
  /** Modules and plugins: which there are, what they add; loading and unloading. */
  readonly plugins: PluginSetup;
  /** Looks for changed certificate files now, and not only every few seconds. Connections stay. */
  reloadCertificates(): Promise<void>;
  /** Opens, closes and replaces listeners; connections stay. Throws MantouError `listen_failed` or `certificate_invalid`. */
  applyListeners(listeners: Config["listeners"]): Promise<void>;
  /** Waits for the disk. */
  readonly commits: Commits;
  /** Of HTTP connections to this process. */
  readonly guard: HttpGuard;
  /** What admin and the command line may ask. */
  readonly control: Control;
  /**
   * Stops accepting, tells the clients, and resolves when all links are closed or `drainSecMax` has passed. One of several workers
   * goes on serving the others until these have what is on its way to them and, within the same time, `othersDrained` has resolved.
   */
  stop(othersDrained?: () => Promise<void>): Promise<void>;
}

/**
 * Opens the store and every listener of the configuration. Throws MantouError `listen_failed`, `certificate_invalid`, or
 * one of the store (store-setup.ts), with nothing left open. `source` says where values come from, and reads them again.
 */
export async function startBroker(
  config: Config,
  log: Logger,
  source: ConfigSource = sourceOf(config),
  part?: BrokerPart,
): Promise<RunningBroker> {
  const kept = await openStore(config, log, part);
  const parts = assemble(config, log, kept, part);
  const { engine, context, transport, access, plugins, listeners, load, observation, commits } = parts;
  const live = new LiveConfig(config, source.originOf, engine.limits, log);
  const reload = makeReload(source, live, parts, log);
  hookAlarms(observation, engine);
  if (source.backend) access.addBackend(source.backend, 0);
  load.hold();
  const stopClock = runClock(parts, kept, log);
  const close = async (msMax: number): Promise<void> => {
    listeners.stop();
    parts.links?.stop();
    stopClock();
    observation.stop();
    await plugins.stop();
    await access.stop();
    for (const link of transport.watched.keys()) link.destroy();
    await kept.close(msMax);
  };
  try {
    live.set(part?.changes.values ?? {});
    await open(parts, kept, config.listeners, part?.changes);
    load.begin();
  } catch (error) {
    await close(0);
    throw error;
  }
  logClients(engine, log);
  return {
    get addresses() {
      return listeners.addresses;
    },
    engine,
    store: kept.durable,
    failed: kept.failed,
    load,
    access,
    observation,
    reload: () => reload.run(),
    plugins,
    reloadCertificates: () => listeners.refresh(),
    applyListeners: (configs) => listeners.apply(configs),
    commits,
    guard: parts.guard,
    control: localControl({ ...parts, kept, config: live, reload, startedAtSec: engine.nowSec }),
    async stop(othersDrained) {
      listeners.stop();
      const deadlineMs = performance.now() + live.current.broker.drainSecMax * 1000;
      await drain(context, () => listeners.connectionCount + (parts.links?.remoteCount ?? 0), deadlineMs);
      await plugins.stop(); // some publish a last word
      if (othersDrained) await drainForwards(engine, deadlineMs, othersDrained);
      await close(Math.max(STORE_CLOSE_MS, deadlineMs - performance.now()));
    },
  };
}

type Parts = ReturnType<typeof assemble>;

/** Everything that a broker consists of; nothing of it is open yet but the store. */
function assemble(config: Config, log: Logger, kept: OpenStore, part: BrokerPart | undefined) {
  const faults = new LimitedLog(log, { linesPerSec: FAULT_LINES_PER_SEC, nowMs: () => performance.now() });
  const links = part && new WorkerLinks(part);
  const access = makeAccess(config, log, faults, part);
  const engine = makeEngine(config, kept, { access, links, faults });
  const reporter = reportTo(faults);
  const context = makeContext(config, engine, reporter, links);
  const transport = makeTransport(engine, faults);
  transport.flusher.beforeFlush = () => kept.tick();
  const commits = new Commits(context);
  const ownMounts = httpMounts({ engine, commits, node: config.node.name, isBusy: () => context.isBusy });
  const baseDir = process.cwd();
  const gauges = new Gauges(engine, context, transport);
  const worker = part?.node ?? 0;
  const alarms = () => observation.alarms;
  const plugins = new PluginSetup({
    config,
    engine,
    access,
    log,
    limitedLog: faults,
    readFigures: () => readFigures(engine, gauges, load, part?.site),
    isSubscribedElsewhere: async (clientId, filter) =>
      part?.site !== undefined && (await part.site("subscriptions.has", { clientId, filter })).isSubscribed,
    worker,
    dataDir: part?.dataDir ?? config.node.data,
    commits,
    makeProtocol: (link, listener) => new Connection(context, link, listener),
    alarms,
    baseDir,
    ownMounts,
  });
  const place = { count: part?.count ?? 1, node: worker };
  const guard = makeGuard(config.broker.httpConnectionsMax, { transport, alarms, log: faults });
  const listeners = makeListeners({ config, context, transport, mounts: plugins.mounts, guard, place }, log);
  const load = new LoadMonitor(config.broker, TICK_MS, undefined, undefined, place.count);
  const histograms = new Histograms(context, transport.flusher);
  const observation: Observation = new Observation({
    config,
    context,
    transport,
    load,
    access,
    listeners,
    log: faults,
  });
  const figures = { load, gauges, histograms, observation, guard };
  return { engine, context, transport, reporter, access, plugins, listeners, links, commits, faults, ...figures };
}

/** Of this process, or of all of them. */
async function readFigures(
  { metrics }: Engine,
  gauges: Gauges,
  { memoryBytes, lagMs }: LoadMonitor,
  site: Control | undefined,
): Promise<BrokerFigures> {
  if (!site) {
    const own = { memoryBytes, lagMs, heapBytes: process.memoryUsage().heapUsed };
    return figuresOf(metrics.toObject(), gauges.read(), [own]);
  }
  const asked = [site("metrics.read", {}), site("stats.read", {}), site("broker.info", {})] as const;
  const [counters, stats, { processes }] = await Promise.all(asked);
  return figuresOf(counters, stats, processes);
}

/**
 * Listeners last: whoever comes in is met by all the others; one of several workers first learns what these want. The store is
 * restored when they are open, unless a plugin has a client of its own before.
 */
async function open(
  parts: Parts,
  kept: OpenStore,
  configs: Config["listeners"],
  changes: WorkerChanges | undefined,
): Promise<void> {
  const { access, plugins, engine, context, transport, reporter, listeners, links } = parts;
  access.attach(engine, context);
  await access.start();
  await plugins.start();
  if (changes) await plugins.follow(changes.plugins);
  if (links) {
    listeners.prepare(configs);
    // Of a plugin's clients the listener is none.
    const makeProtocol = (link: Link, name: string): Protocol =>
      name.startsWith("plugin:") ? new Connection(context, link, name) : listeners.makeProtocol(link, name);
    kept.attach(engine);
    void warmHttpClient();
    await links.join({ engine, transport, reporter, makeProtocol });
  }
  const isAwaited = !links && plugins.isAwaited;
  if (isAwaited) kept.attach(engine);
  await plugins.open();
  await listeners.apply(configs, changes?.closedListeners);
  if (!links && !isAwaited) kept.attach(engine);
}

function makeReload(
  source: ConfigSource,
  live: LiveConfig,
  { context, load, guard, listeners, access, plugins }: Parts,
  log: Logger,
): ConfigReload {
  return new ConfigReload({
    live,
    log,
    read: () => source.read(),
    prepareAccess: (config) => access.prepare(config),
    applyListeners: async (configs) => {
      await listeners.apply(configs);
      await listeners.refresh();
    },
    applyMarks: (marks) => {
      load.marks = marks;
      guard.connectionsMax = marks.httpConnectionsMax;
      context.responseInformation = marks.responseInformation;
      context.serverReference = marks.serverReference;
    },
    applyPlugins: (old, next) => plugins.change(old, next),
  });
}

function hookAlarms({ alarms }: Observation, { hooks }: Engine): void {
  alarms.listen(({ id, severity, title, summary, setMs, clearedMs }) => {
    const point = clearedMs === undefined ? hooks.alarmSet : hooks.alarmCleared;
    point.run({ id, severity, title, summary, atMs: clearedMs ?? setMs });
  });
}

/** Moves time on; returns what stops it. */
function runClock(
  { engine, context, transport, load, histograms, guard, access, gauges, observation, faults }: Parts,
  kept: OpenStore,
  log: Logger,
): () => void {
  const clock = setInterval(() => {
    const nowMs = performance.now();
    const isBusy = load.tick(nowMs);
    histograms.look(nowMs, load.lagMs);
    guard.look(nowMs);
    engine.tick(nowMs, Date.now() / 1000);
    if (isBusy !== transport.isBusy) logBusy(load, log);
    transport.isBusy = isBusy;
    context.setBusy(isBusy);
    kept.tick();
  }, TICK_MS);
  const sweep = setInterval(() => {
    const nowMs = performance.now();
    transport.sweep(nowMs);
    access.tick();
    gauges.tick();
    observation.tick(nowMs);
    faults.flush();
  }, SWEEP_MS);
  return () => {
    clearInterval(clock);
    clearInterval(sweep);
  };
}

function makeAccess(config: Config, log: Logger, faults: LimitedLog, part: BrokerPart | undefined): AccessSetup {
  return new AccessSetup({
    config: config.access,
    dataDir: config.node.data,
    baseDir: process.cwd(),
    log,
    limitedLog: faults,
    seed: randomInt(1, 0x7fff_ffff),
    isSpeaker: part === undefined || part.node === 0,
    nowSec: wallSec,
  });
}

interface EngineParts {
  readonly access: AccessSetup;
  readonly links: WorkerLinks | undefined;
  readonly faults: LimitedLog;
}

function makeEngine(config: Config, kept: OpenStore, { access, links, faults }: EngineParts): Engine {
  let isWorkAsked = false;
  const engine: Engine = new Engine({
    limits: config,
    access: access.chain,
    store: kept.store,
    priorities: config.priorities,
    ...(links && { fabric: links.fabric, stamps: links.stamps }),
    seed: kept.seed,
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
  return engine;
}

function makeContext(config: Config, engine: Engine, reporter: Reporter, links: WorkerLinks | undefined): MqttContext {
  const draw = (): string => `mantou_${randomUUID().replaceAll("-", "")}`;
  return new MqttContext(engine, {
    ...config.broker,
    makeClientId: links ? () => links.makeClientId(draw) : draw,
    placement: links && ((connection, clientId) => links.place(connection, clientId)),
    reporter,
  });
}

function makeTransport({ limits, metrics }: Engine, faults: LimitedLog): TcpTransport {
  const reportBug = (error: unknown): void => {
    metrics.add("bugs");
    faults.write("error", "socket", "a socket handler failed", { err: error });
  };
  return new TcpTransport(limits.send, metrics, reportBug, connectionsMaxOfProcess());
}

interface ListenerParts {
  readonly config: Config;
  readonly context: MqttContext;
  readonly transport: TcpTransport;
  readonly mounts: readonly HttpMount[];
  readonly guard: HttpGuard;
  readonly place: ListenerSurroundings["place"];
}

function makeListeners(
  { config, context, transport, mounts, guard, place }: ListenerParts,
  log: Logger,
): OpenListeners {
  return new OpenListeners({
    transport,
    mounts,
    guard,
    noteChange({ name, address }, isOpen) {
      const { listenerOpened, listenerClosed } = context.engine.hooks;
      (isOpen ? listenerOpened : listenerClosed).run({ name, address });
    },
    place,
    packetBytesMax: config.mqtt.packetBytesMax,
    protocolFor: (listener) => {
      const rates = ratesOf(listener);
      return (link) => {
        const connection = new Connection(context, link, listener.name);
        if (rates) limitRates(connection, rates);
        return connection;
      };
    },
    notice: (isProblem, text) => (isProblem ? log.error(text) : log.info(text)),
  });
}

/** Undefined when there are none: connections then pay nothing. */
function ratesOf({ messageRate, messageBurst, clientRate }: Listening): ClientRates | undefined {
  if (messageRate === 0 && clientRate === 0) return undefined;
  const burst = Math.max(messageBurst ?? messageRate, messageRate / 5); // a rest may last 0.15 s longer than asked
  return {
    makePacer: messageRate > 0 ? () => new Pacer(messageRate, burst) : undefined,
    clients: clientRate > 0 ? new PacerTable(clientRate) : undefined,
  };
}

function logBusy({ cause, lagMs, memoryBytes }: LoadMonitor, log: Logger): void {
  const fields = { lagMs: Math.round(lagMs), memoryBytes };
  if (!cause) return log.info(fields, "no longer busy");
  log.warn({ cause, ...fields }, "busy: new clients are refused, QoS 0 is dropped, publishers are slowed");
}

function wallSec(): number {
  return Math.floor(Date.now() / 1000);
}
