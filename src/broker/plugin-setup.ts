/** The `plugins` section becomes a host with running plugins. */
import { existsSync } from "node:fs";
import { resolve } from "node:path";
import { MantouError } from "#base/error.ts";
import type { HttpMount, Link, Protocol } from "#core/ports.ts";
import type { Engine } from "#core/engine.ts";
import { PluginHost, type PluginStatus } from "#plugins/host.ts";
import type { AlarmWords, BrokerFigures, PluginLog } from "#plugins/plugin.ts";
import type { AccessSetup } from "./access-setup.ts";
import type { Alarms } from "./alarms.ts";
import type { Commits } from "./commits.ts";
import type { Config } from "./config.ts";
import { ConfiguredPlugins, type PluginChanges } from "./configured-plugins.ts";
import type { WorkerChanges } from "./live-changes.ts";
import type { LimitedLog } from "./limited-log.ts";
import type { Logger } from "./log.ts";
import { findPlugins } from "./plugin-source.ts";
import { republish } from "./publish.ts";
import { VERSION } from "./version.ts";

/** Plugins that may be loaded by the name of their file while the broker runs. */
const FOLDER = "./plugins";

export interface PluginRequest {
  readonly config: Config;
  readonly engine: Engine;
  readonly access: AccessSetup;
  readonly log: Logger;
  readonly limitedLog: LimitedLog;
  readonly commits: Commits;
  alarms(): Alarms;
  /** Of all worker processes together. */
  readFigures(): Promise<BrokerFigures>;
  /** Asks other worker processes. */
  isSubscribedElsewhere(clientId: string, filter: string): Promise<boolean>;
  makeProtocol(link: Link, listener: string): Protocol;
  /** Number of this worker process, and where its data lies. */
  readonly worker: number;
  readonly dataDir: string;
  /** Relative paths in the configuration start here. */
  readonly baseDir: string;
  /** What the broker itself answers over HTTP. */
  readonly ownMounts: readonly HttpMount[];
}

export class PluginSetup {
  /** What the broker and its plugins answer over HTTP, for everybody; the list changes as plugins come and go. */
  readonly mounts: HttpMount[];
  readonly host: PluginHost;
  private readonly configured: ConfiguredPlugins;
  private readonly opening = Promise.withResolvers<void>();
  private isOpen = false;

  constructor(private readonly request: PluginRequest) {
    const { config, engine, access } = request;
    this.mounts = [...request.ownMounts];
    this.host = new PluginHost({
      engine,
      node: config.node.name,
      version: VERSION,
      worker: request.worker,
      dataDir: resolve(request.dataDir, "plugins"),
      nodeDir: resolve(config.node.data, "plugins"),
      sync: config.store.type === "memory" ? "memory" : config.store.sync,
      readFigures: request.readFigures,
      isSubscribedElsewhere: request.isSubscribedElsewhere,
      republish: (message) => republish(request, message),
      setAlarm: (id, words) => setAlarm(request.alarms(), id, words),
      makeProtocol: request.makeProtocol,
      logOf: (plugin) => this.logOf(plugin),
      whenReady: () => (this.isOpen ? undefined : this.opening.promise),
      addBackend: (backend, priority) => access.addBackend(backend, priority),
    });
    this.configured = new ConfiguredPlugins(this.host, request.baseDir, (name, words) => this.note(name, words));
  }

  /** Loads the modules that are on, then what else the configuration names. @throws the first MantouError; what had started is ended again. */
  async start(): Promise<void> {
    try {
      await this.configured.start(this.request.config);
    } catch (error) {
      await this.stop();
      throw error;
    }
    this.mount();
  }

  /** Whether a plugin waits in its start for `open`. */
  get isAwaited(): boolean {
    return this.host.isAwaited;
  }

  /** Clients can be served, those of plugins first. @throws the first MantouError of a start that has waited; all are ended then. */
  async open(): Promise<void> {
    this.isOpen = true;
    this.opening.resolve();
    try {
      await this.host.finishStarts();
    } catch (error) {
      await this.stop();
      throw error;
    }
    this.mount();
  }

  /** From one configuration to the next; what is at fault is left as it was. */
  async change(old: Config, next: Config): Promise<PluginChanges> {
    try {
      return await this.configured.change(old, next);
    } finally {
      this.mount();
    }
  }

  /** Number of this worker process. */
  get worker(): number {
    return this.request.worker;
  }

  list(): PluginStatus[] {
    return this.host.list();
  }

  /** A known plugin, or a file or package below `./plugins`. @throws MantouError, see `PluginHost.load` */
  async load(name: string): Promise<void> {
    const known = this.host.has(name) ? name : await this.find(name);
    try {
      await this.host.load(known);
    } finally {
      this.mount();
    }
    this.note(known, "plugin loaded");
  }

  async unload(name: string): Promise<void> {
    await this.host.unload(name);
    this.mount();
    this.note(name, "plugin unloaded");
  }

  /** As they were loaded and unloaded by hand in other workers. What cannot be had is told, and left. */
  async follow(states: WorkerChanges["plugins"]): Promise<void> {
    for (const { name, isOn } of states) {
      const isRunning = this.list().some((each) => each.name === name && each.state === "running");
      if (isOn === isRunning) continue;
      try {
        await (isOn ? this.load(name) : this.unload(name));
      } catch (error) {
        this.request.log.error({ part: "plugins", plugin: name, fault: (error as Error).message }, "not as elsewhere");
      }
    }
  }

  async reload(name: string): Promise<void> {
    try {
      await this.host.reload(name);
    } finally {
      this.mount();
    }
    this.note(name, "plugin loaded anew");
  }

  async stop(): Promise<void> {
    await this.host.stop();
    this.mount();
  }

  private note(plugin: string, words: string): void {
    this.request.log.info({ part: "plugins", plugin }, words);
  }

  private async find(name: string): Promise<string> {
    const { baseDir } = this.request;
    const paths = /^[A-Za-z0-9-]+$/.test(name)
      ? [`${FOLDER}/${name}.ts`, `${FOLDER}/${name}.js`, `${FOLDER}/${name}`]
      : [];
    const path = paths.find((each) => existsSync(resolve(baseDir, each)));
    if (path === undefined)
      throw new MantouError("plugin_unknown", `there is no plugin ${name}, and no file for it in ${FOLDER}`);
    const [source] = findPlugins(path, undefined, baseDir);
    if (!source) throw new MantouError("plugin_unknown", `${path} has no plugin in it`);
    return this.host.know(source);
  }

  private mount(): void {
    const { ownMounts } = this.request;
    const routes = this.host.contributions().flatMap((contribution) => contribution.routes);
    this.mounts.splice(0, this.mounts.length, ...ownMounts, ...routes);
  }

  private logOf(plugin: string): PluginLog {
    const { limitedLog } = this.request;
    const write =
      (level: "debug" | "info" | "warn" | "error") =>
      (message: string, fields: Record<string, unknown> = {}): void =>
        limitedLog.write(level, `plugin ${plugin} ${message}`, message, { part: plugin, ...fields });
    return { debug: write("debug"), info: write("info"), warn: write("warn"), error: write("error") };
  }
}

function setAlarm(alarms: Alarms, id: string, words: AlarmWords | undefined): void {
  if (words === undefined) alarms.clear(id);
  else alarms.set({ id, ...words });
}
