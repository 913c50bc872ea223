/**
 * Plugins and modules of a broker: known, loaded, unloaded, loaded anew, one operation after the other.
 *
 *   know(source) ─► load(name) ─► running ─► unload(name) ─► known still, to be loaded again ─► forget(name)
 *                        └─ start failed: everything taken back ─► failed
 *   reload(name): the old one ends, the new one starts; the old one starts again if that fails
 *
 * A module is a plugin that is shipped: its definition is at hand. A plugin's is imported from a file or a package, anew by `reload`.
 * What refuses when it fails (an access backend, an asynchronous hook that asks for it) stays in place until the new one has started: a
 * reload opens no gate for a moment.
 */
import { MantouError } from "#base/error.ts";
import type { Contribution } from "#core/ports.ts";
import { before, wordsOf } from "./call.ts";
import type { PluginDefinition } from "./plugin.ts";
import { type Faults, type PluginGround, Scope, WAITS } from "./scope.ts";

export interface PluginSource {
  readonly kind: "module" | "plugin";
  /** Where it comes from, for people: `mantou`, or the path or package as configured. */
  readonly from: string;
  readonly options: unknown;
  /** Of its file. */
  readonly path?: string;
  /** The definition, or whatever else is there. `isFresh`: read anew. Rejects when there is nothing. */
  read(isFresh: boolean): Promise<unknown>;
}

export interface PluginStatus {
  readonly name: string;
  readonly version: string;
  readonly description: string;
  readonly kind: "module" | "plugin";
  readonly from: string;
  readonly state: "running" | "stopped" | "failed";
  /** What it threw since the broker started, and the last of it; empty for nothing. */
  readonly faultCount: number;
  readonly lastFault: string;
}

interface Known {
  source: PluginSource;
  definition: PluginDefinition;
  state: PluginStatus["state"];
  readonly faults: Faults;
  scope: Scope | undefined;
  stop: (() => unknown) | undefined;
}

const NAME = /^[A-Za-z][A-Za-z0-9-]{0,63}$/;
const START_MS_MAX = 10_000;
const STOP_MS_MAX = 5000;
/** Files that can be read as configuration too: a plugin is an object with these. */
const SHAPE = "an object with name, version, description and start, as its default export (definePlugin makes one)";

export class PluginHost {
  private readonly known = new Map<string, Known>();
  private operation: Promise<unknown> = Promise.resolve();
  /** Starts that wait for the broker. */
  private unfinished: Promise<void>[] = [];

  constructor(private readonly ground: PluginGround) {}

  list(): PluginStatus[] {
    return [...this.known.values()].map(({ source, definition, state, faults }) => ({
      name: definition.name,
      version: definition.version,
      description: definition.description,
      kind: source.kind,
      from: source.from,
      state,
      faultCount: faults.count,
      lastFault: faults.last,
    }));
  }

  /** What the running ones add, as it is now. */
  contributions(): Contribution[] {
    return [...this.known.values()].flatMap(({ scope }) => (scope ? [scope.contribution] : []));
  }

  /** Reads a definition, which may then be loaded by the name that is returned. @throws MantouError `plugin_invalid` */
  know(source: PluginSource): Promise<string> {
    return this.oneByOne(async () => {
      const definition = checkDefinition(await this.read(source, false), source.from);
      if (this.known.has(definition.name))
        throw new MantouError("plugin_invalid", `${source.from}: there is a plugin ${definition.name} already`);
      const faults = { count: 0, last: "" };
      this.known.set(definition.name, {
        source,
        definition,
        state: "stopped",
        faults,
        scope: undefined,
        stop: undefined,
      });
      return definition.name;
    });
  }

  /** Of the plugin that is there now. @throws MantouError `plugin_invalid` */
  async nameOf(source: PluginSource): Promise<string> {
    return checkDefinition(await this.read(source, true), source.from).name;
  }

  /** For its next start. @throws MantouError `plugin_unknown` */
  async replaceSource(name: string, source: PluginSource): Promise<void> {
    this.find(name).source = source;
  }

  has(name: string): boolean {
    return this.known.has(name);
  }

  /** @throws MantouError `plugin_unknown`, `plugin_running`, `plugin_invalid` (options), `plugin_failed` (its start). */
  load(name: string): Promise<void> {
    return this.oneByOne(async () => {
      const known = this.find(name);
      if (known.scope) throw new MantouError("plugin_running", `plugin ${name} is running already`);
      await this.start(known);
    });
  }

  /** @throws MantouError `plugin_unknown`, `plugin_stopped`. */
  unload(name: string): Promise<void> {
    return this.oneByOne(async () => {
      const known = this.find(name);
      if (!known.scope) throw new MantouError("plugin_stopped", `plugin ${name} is not running`);
      await this.end(known);
    });
  }

  /**
   * Reads the definition anew, of another source where one is given, and starts that instead. If it is no plugin any more, or does not
   * start, the old one goes on. @throws as `load`
   */
  reload(name: string, another?: PluginSource): Promise<void> {
    return this.oneByOne(async () => {
      const known = this.find(name);
      const { definition, source, scope } = known;
      const next = await this.readNext(name, another ?? source);
      await this.end(known, true);
      try {
        await this.startInstead(known, next, scope && { definition, source });
      } finally {
        scope?.openGate();
      }
    });
  }

  /** Ends it if it runs, and knows it no more. @throws MantouError `plugin_unknown` */
  forget(name: string): Promise<void> {
    return this.oneByOne(async () => {
      await this.end(this.find(name));
      this.known.delete(name);
    });
  }

  /** A fault that nobody caught: counted and logged as that of the plugin whose file its stack names; false when it names none. */
  blame(error: Error): boolean {
    const { stack = "" } = error;
    const isNamed = ({ source: { path } }: Known): boolean => path !== undefined && stack.includes(`${path}:`);
    const known = [...this.known.values()].find(isNamed);
    if (!known) return false;
    known.faults.count++;
    known.faults.last = wordsOf(error);
    const words = "nobody caught this error of a plugin, in a timer or a promise of its own; the broker goes on";
    this.ground.logOf(known.definition.name).error(words, { err: error });
    return true;
  }

  /** Whether a start waits for the broker. */
  get isAwaited(): boolean {
    return this.unfinished.length > 0;
  }

  /** The broker can serve: starts that have waited for it go on. @throws as `load` */
  async finishStarts(): Promise<void> {
    await Promise.all(this.unfinished.splice(0));
  }

  /** Ends all, the last one first. */
  stop(): Promise<void> {
    return this.oneByOne(async () => {
      for (const known of [...this.known.values()].toReversed()) await this.end(known);
    });
  }

  /** `before` is started again when that fails. @throws as `load`, then too */
  private async startInstead(known: Known, next: Replaced, before: Replaced | undefined): Promise<void> {
    Object.assign(known, next);
    try {
      await this.start(known);
    } catch (error) {
      if (!before) throw error;
      Object.assign(known, before);
      await this.start(known);
      throw new MantouError("plugin_failed", `${(error as Error).message}; the one before goes on`);
    }
  }

  /** Returns early from a start that waits for the broker: see `finishStarts`. */
  private async start(known: Known): Promise<void> {
    const { definition, source, faults } = known;
    const { name } = definition;
    const scope = new Scope(name, checkOptions(definition, source), this.ground, faults);
    const starting = Promise.try(() => definition.start(scope));
    const inTime = <T>(call: () => Promise<T>): Promise<T> => before(this.startMsMax, "it has not started", call);
    const run = async (): Promise<void> => {
      let hasWaited = false;
      try {
        let stop = await inTime(() => Promise.race([starting, scope.waiting]));
        known.scope = scope;
        known.state = "running";
        if (stop === WAITS) {
          hasWaited = true;
          await this.ground.whenReady?.();
          stop = await inTime(() => starting);
        }
        known.stop = typeof stop === "function" ? stop : undefined;
      } catch (error) {
        if (hasWaited && known.scope !== scope) return; // unloaded meanwhile
        known.scope = undefined;
        known.state = "failed";
        faults.count++;
        faults.last = wordsOf(error);
        scope.close();
        void starting.then((stop) => void (stop && scope.guard(stop))).catch(() => {}); // it starts after all
        throw new MantouError("plugin_failed", `plugin ${name} did not start: ${faults.last}`);
      }
    };
    const running = run();
    if ((await Promise.race([running, scope.waiting])) !== WAITS) return;
    known.scope = scope;
    known.state = "running";
    this.unfinished.push(running);
  }

  /** `keepsGate`: what refuses when it fails stays, until `Scope.openGate`. */
  private async end(known: Known, keepsGate = false): Promise<void> {
    const { scope, stop } = known;
    known.scope = known.stop = undefined;
    if (!scope) return;
    known.state = "stopped";
    try {
      if (stop) await before(this.ground.stopMsMax ?? STOP_MS_MAX, "it has not stopped", async () => stop());
    } catch (error) {
      scope.fault(error);
    }
    scope.close(keepsGate);
  }

  /** What is to take the place of a plugin. @throws MantouError `plugin_invalid` */
  private async readNext(name: string, source: PluginSource): Promise<Replaced> {
    const definition = checkDefinition(await this.read(source, true), source.from);
    if (definition.name !== name)
      throw new MantouError("plugin_invalid", `${source.from}: it is now called ${definition.name}, not ${name}`);
    checkOptions(definition, source);
    return { definition, source };
  }

  /** A file may run for long before it has exported anything, or not end at all. */
  private async read(source: PluginSource, isFresh: boolean): Promise<unknown> {
    try {
      return await before(this.startMsMax, "it has not ended", () => source.read(isFresh));
    } catch (error) {
      if (error instanceof MantouError) throw error;
      throw new MantouError("plugin_invalid", `plugin ${source.from} cannot be read: ${firstOf(error)}`);
    }
  }

  private get startMsMax(): number {
    return this.ground.startMsMax ?? START_MS_MAX;
  }

  private find(name: string): Known {
    const known = this.known.get(name);
    if (!known) throw new MantouError("plugin_unknown", `there is no plugin ${name}`);
    return known;
  }

  private oneByOne<T>(action: () => Promise<T>): Promise<T> {
    const result = this.operation.then(action, action);
    this.operation = result.catch(() => {});
    return result;
  }
}

type Replaced = Pick<Known, "definition" | "source">;

/** A file that does not parse has several errors, with their places. */
function firstOf(error: unknown): string {
  const [first = error] = error instanceof AggregateError ? (error.errors as unknown[]) : [];
  const { message = String(first), position } = first as { message?: string; position?: Place | null };
  const place = position ? `${position.file}:${position.line}:${position.column}: ` : "";
  return place + message.split("\n")[0];
}

interface Place {
  readonly file: string;
  readonly line: number;
  readonly column: number;
}

function checkDefinition(value: unknown, from: string): PluginDefinition {
  const invalid = (words: string): MantouError => new MantouError("plugin_invalid", `${from}: ${words}`);
  if (typeof value !== "object" || value === null) throw invalid(`no plugin; allowed: ${SHAPE}`);
  const found = value as Partial<PluginDefinition>;
  for (const key of ["name", "version", "description"] as const)
    if (typeof found[key] !== "string" || found[key] === "")
      throw invalid(
        `${key}: found ${found[key] === undefined ? "nothing" : JSON.stringify(found[key])}, allowed: a text`,
      );
  if (typeof found.start !== "function") throw invalid(`start: found ${typeof found.start}, allowed: a function`);
  if (found.config !== undefined && typeof found.config?.safeParse !== "function")
    throw invalid("config: allowed: a schema, such as z.strictObject({ … })");
  if (!NAME.test(found.name!)) throw invalid(`name: found ${found.name}, allowed: letters, digits, -, at most 64`);
  return found as PluginDefinition;
}

function checkOptions({ name, config }: PluginDefinition, { kind, options }: PluginSource): unknown {
  if (kind === "module") return options; // the configuration is made of its schema
  const given = options ?? {};
  if (!config) {
    const keys = Object.keys(given);
    if (keys.length === 0) return given;
    throw new MantouError("plugin_invalid", `plugin ${name}: found options (${keys.join(", ")}), allowed: none`);
  }
  const invalid = (words: string): MantouError =>
    new MantouError("plugin_invalid", `plugin ${name}: options: ${words}`);
  let checked;
  try {
    checked = config.safeParse(given);
  } catch (error) {
    throw invalid(wordsOf(error)); // the schema's own code
  }
  if (checked.success) return checked.data;
  const words = checked.error.issues.map(({ path, message }) => [path.join("."), message].filter(Boolean).join(": "));
  throw invalid(words.join("; "));
}
