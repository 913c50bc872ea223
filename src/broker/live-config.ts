/**
 * The configuration of a running broker: what is in effect with its origins, a text that may become the next one, and the
 * few values that can change while clients are connected.
 *
 * A changed value goes into the engine's limits, which are read where they are used. It lasts until the broker stops or reads its
 * configuration again (config-reload.ts): the file stays the operator's.
 */
import { MantouError } from "#base/error.ts";
import type { Limits } from "#core/limits.ts";
import { checkAccess } from "./access-check.ts";
import { configSchema, type Config } from "./config-schema.ts";
import { toPlainConfig } from "./config-show.ts";
import { describeFound } from "./config-text.ts";
import { loadConfig, type LoadedConfig } from "./config.ts";
import { type Logger, setLogLevel } from "./log.ts";
import type { LogLevel } from "./log-schema.ts";

/** Read at every use; the rest of the configuration is built into what was made from it. */
const LIVE_SECTIONS = ["mqtt", "session", "retained", "send"] as const;
/** What CONNACK has promised to connected clients: they would be closed for relying on it. */
const PROMISED = ["packetBytesMax", "receiveMax", "topicAliasMax", "qosMax", "retain"].map((key) => `mqtt.${key}`);
const LEVEL = "log.level";
const TEXT_NAME = "the text";

export interface ConfigValue {
  readonly path: string;
  /** Plain JSON; secrets are hidden. */
  readonly value: unknown;
  readonly origin: string;
  readonly isLive: boolean;
  /** A change in the file is in force when the configuration is read again. */
  readonly isReloaded: boolean;
}

export class LiveConfig {
  private readonly changed = new Map<string, unknown>();

  constructor(
    private config: Config,
    private originOf: LoadedConfig["originOf"] | undefined,
    private readonly limits: Limits,
    private readonly log: Logger,
  ) {}

  get node(): string {
    return this.config.node.name;
  }

  /** In force, but for what `set` has changed. Of what waits for a restart it has the old values. */
  get current(): Config {
    return this.config;
  }

  /** Another configuration, checked, is in force from now on: its limits and its log level are. */
  adopt(config: Config, originOf: LoadedConfig["originOf"] | undefined): void {
    this.config = config;
    this.originOf = originOf;
    this.changed.clear();
    for (const section of LIVE_SECTIONS) Object.assign(this.limits[section], config[section]);
    setLogLevel(this.log, config.log.level);
  }

  /** Every value below the sections; a list is one value. */
  values(): ConfigValue[] {
    const rows: ConfigValue[] = [];
    for (const [section, value] of Object.entries(toPlainConfig(this.config))) {
      if (typeof value !== "object" || value === null || Array.isArray(value)) rows.push(this.row(section, value));
      else for (const [key, leaf] of Object.entries(value)) rows.push(this.row(`${section}.${key}`, leaf));
    }
    return rows;
  }

  /** What is wrong with the text of a file, one line a problem; none: it could be started with. */
  problemsOf(text: string): string[] {
    try {
      const { config } = loadConfig({ flags: { config: TEXT_NAME }, env: {}, cwd: "/", readFile: () => text });
      checkAccess(config.access, process.cwd());
      return [];
    } catch (error) {
      if (error instanceof MantouError) return error.message.split("\n");
      throw error;
    }
  }

  /** Changes all of it or, with MantouError `config_invalid`, nothing. */
  set(values: Readonly<Record<string, unknown>>): void {
    const problems: string[] = [];
    const checked = Object.entries(values).map(([path, value]) => [path, this.check(path, value, problems)] as const);
    if (problems.length > 0) throw new MantouError("config_invalid", problems.join("\n"), { problems });
    for (const [path, value] of checked) {
      this.changed.set(path, value);
      if (path === LEVEL) setLogLevel(this.log, value as LogLevel);
      else {
        const [section, key] = path.split(".");
        (this.limits[section as (typeof LIVE_SECTIONS)[number]] as Record<string, unknown>)[key] = value;
      }
      this.log.info({ path, value }, "configuration changed");
    }
  }

  private check(path: string, value: unknown, problems: string[]): unknown {
    const words = (allowed: string): string => `${path}: found ${describeFound(value)}, allowed: ${allowed}`;
    if (!isLiveValue(path) && !this.values().some((row) => row.path === path)) {
      problems.push(words("a key of the configuration, such as session.inflightCountMax"));
      return undefined;
    }
    if (!isLiveValue(path)) {
      problems.push(words(`a change in the file and ${isReloadedValue(path) ? "a reload" : "a restart"}`));
      return undefined;
    }
    const [section, key] = path.split(".") as [keyof Config, string];
    const before = this.config[section] as Record<string, unknown>;
    if (!Object.hasOwn(before, key)) {
      problems.push(words(`the keys ${Object.keys(before).join(", ")}`));
      return undefined;
    }
    const parsed = configSchema.shape[section].safeParse({ ...before, [key]: value });
    if (!parsed.success) problems.push(words(parsed.error.issues[0].message));
    return (parsed.data as Record<string, unknown> | undefined)?.[key];
  }

  private row(path: string, value: unknown): ConfigValue {
    const isChanged = this.changed.has(path);
    return {
      path,
      value: JSON.parse(JSON.stringify((isChanged ? this.changed.get(path) : value) ?? null)),
      origin: isChanged ? "changed while running" : (this.originOf?.(path).where ?? "application"),
      isLive: isLiveValue(path),
      isReloaded: isReloadedValue(path),
    };
  }
}

/** It can be changed by request. */
function isLiveValue(path: string): boolean {
  if (path === LEVEL) return true;
  const [section, , ...more] = path.split(".");
  const isOfLimits = (LIVE_SECTIONS as readonly string[]).includes(section) && path.includes(".") && more.length === 0;
  return isOfLimits && !PROMISED.includes(path);
}

/** A change in the file is in force when the configuration is read again, without a restart. */
export function isReloadedValue(path: string): boolean {
  return /^(listeners|plugins|(access|broker|modules)\..+)$/.test(path) || isLiveValue(path);
}
