/**
 * From the configuration in force to the next, while the broker runs.
 *
 *   next ─ differs in ─┬─ access ──────────────► new backends are started           if that fails: nothing has changed
 *                      ├─ listeners ───────────► opened, closed, opened anew        if that fails: nothing has changed
 *                      ├─ what is read live ───► in force from the next packet, connection, message on
 *                      ├─ modules, plugins ────► loaded, unloaded, loaded anew        what is at fault stays as it was
 *                      └─ anything else ───────► named: it needs a restart, and is in force after it
 *
 * What was changed by request since the start (`LiveConfig.set`) is as the file says afterwards.
 */
import { isDeepStrictEqual } from "node:util";
import { marked } from "#access/secret.ts";
import type { MantouError } from "#base/error.ts";
import type { PreparedAccess } from "./access-setup.ts";
import type { Config, LoadedConfig } from "./config.ts";
import type { PluginChanges } from "./configured-plugins.ts";
import { isReloadedValue, type LiveConfig } from "./live-config.ts";
import type { Logger } from "./log.ts";

/** Paths of what is different, such as `session.countMax`; of lists only their own. */
export interface ReloadReport {
  /** In force now. */
  readonly changed: readonly string[];
  /** In force after a restart. */
  readonly waiting: readonly string[];
  /** Modules and plugins that could not be had as it says, a line each: they are as they were. */
  readonly failed: readonly string[];
}

export interface ReloadParts {
  readonly live: LiveConfig;
  readonly log: Logger;
  /** Throws MantouError `config_invalid`. */
  read(): LoadedConfig;
  /** Rejects when something of it can never work. */
  prepareAccess(access: Config["access"]): Promise<PreparedAccess>;
  /** Throws when they cannot all be opened; some may be open then. */
  applyListeners(listeners: Config["listeners"]): Promise<void>;
  /** The section `broker` has changed. */
  applyMarks(broker: Config["broker"]): void;
  applyPlugins(old: Config, next: Config): Promise<PluginChanges>;
}

export class ConfigReload {
  private isRunning = false;

  constructor(private readonly parts: ReloadParts) {}

  /**
   * All or nothing of what can change now, but for modules and plugins. Throws MantouError `config_invalid`, `listen_failed`,
   * `certificate_invalid`, or what a backend of access cannot start for: the old one stays in force. Either is logged.
   */
  async run(): Promise<ReloadReport> {
    const { log } = this.parts;
    if (this.isRunning) {
      log.warn("the configuration is just being read; ask again when that is done");
      throw new Error("the configuration is just being read");
    }
    this.isRunning = true;
    try {
      const report = await this.apply(this.parts.read());
      const { changed, waiting, failed } = report;
      if (failed.length > 0)
        log.error({ problems: failed }, "modules or plugins could not be changed; they are as they were");
      if (waiting.length > 0) log.warn({ waiting }, "the configuration was read again; these keys need a restart");
      log.info({ changed }, changed.length > 0 ? "the configuration has changed" : "the configuration is as it was");
      return report;
    } catch (error) {
      const { problems = [(error as Error).message] } = (error as MantouError).details ?? {};
      log.error({ problems }, "the configuration cannot be applied; the old one stays in force");
      throw error;
    } finally {
      this.isRunning = false;
    }
  }

  private async apply({ config: next, originOf }: LoadedConfig): Promise<ReloadReport> {
    const { live, applyMarks, prepareAccess, applyPlugins } = this.parts;
    const old = live.current;
    const access = await prepareAccess(next.access);
    const ofAccess = access.changed.map((list) => `access.${list}`);
    const paths = [...new Set([...differences(marked(old), marked(next)), ...ofAccess])].filter(
      (path) => !isOfPlugins(path),
    );
    const changed = paths.filter(isReloadedValue);
    try {
      await this.applyListeners(next.listeners); // also when they are as they were: one may have failed, or been stopped
    } catch (error) {
      await access.discard();
      throw error;
    }
    if (changed.some((path) => path.startsWith("access."))) access.commit();
    const plugins = await applyPlugins(old, next);
    live.adopt({ ...withChanges(old, next, changed), ...plugins.inForce }, originOf);
    applyMarks(live.current.broker);
    return {
      changed: [...changed, ...plugins.changed],
      waiting: paths.filter((path) => !isReloadedValue(path)),
      failed: plugins.failed,
    };
  }

  private async applyListeners(listeners: Config["listeners"]): Promise<void> {
    const { parts } = this;
    try {
      await parts.applyListeners(listeners);
    } catch (error) {
      await parts.applyListeners(parts.live.current.listeners).catch(() => {}); // as far as their ports are still free
      throw error;
    }
  }
}

/** What is in force after `next` was read again by a broker that started with `old`; modules and plugins are those of `ofPlugins`. */
export function reloaded(old: Config, next: Config, { modules, plugins }: Config): Config {
  const changed = differences(marked(old), marked(next)).filter((path) => !isOfPlugins(path) && isReloadedValue(path));
  return { ...withChanges(old, next, changed), modules, plugins };
}

function isOfPlugins(path: string): boolean {
  return path === "plugins" || path.startsWith("modules.");
}

function differences(old: unknown, next: unknown, above = ""): string[] {
  if (isDeepStrictEqual(old, next)) return [];
  if (!isMapping(old) || !isMapping(next)) return [above];
  const keys = new Set([...Object.keys(old), ...Object.keys(next)]);
  return [...keys].flatMap((key) => differences(old[key], next[key], above === "" ? key : `${above}.${key}`));
}

function isMapping(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** `old` with the values of `next` at the paths. */
function withChanges(old: Config, next: Config, paths: readonly string[]): Config {
  const changed = new Set(paths);
  const merge = (before: unknown, after: unknown, above: string): unknown => {
    if (changed.has(above)) return after;
    if (!isMapping(before) || !isMapping(after) || !paths.some((path) => path.startsWith(`${above}.`))) return before;
    const keys = new Set([...Object.keys(before), ...Object.keys(after)]);
    return Object.fromEntries([...keys].map((key) => [key, merge(before[key], after[key], `${above}.${key}`)]));
  };
  const sections = Object.keys(old) as (keyof Config)[];
  return Object.fromEntries(sections.map((key) => [key, merge(old[key], next[key], key)])) as Config;
}
