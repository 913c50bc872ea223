/**
 * The `modules` and `plugins` sections, from one configuration to the next while the broker runs.
 *
 *   next ─ differs in ─┬─ a module's options ─► loaded, unloaded, or loaded anew        by `isOn` of its options
 *                      └─ an entry of plugins ─► the same, by the path of its file, or by the name of the plugin in another file
 *
 * What is at fault is left as it was, the others go on. What was loaded and unloaded by hand stays so, unless its part of the
 * configuration has changed; what had failed is tried again.
 */
import { isDeepStrictEqual } from "node:util";
import { marked } from "#access/secret.ts";
import { MantouError } from "#base/error.ts";
import { modules } from "#modules/module-table.ts";
import type { PluginHost, PluginSource, PluginStatus } from "#plugins/host.ts";
import type { Config } from "./config.ts";
import { findPlugins, type PluginFile } from "./plugin-source.ts";

type Sections = Pick<Config, "modules" | "plugins">;
type ModuleKey = keyof typeof modules;
type Entry = Config["plugins"][number];

/** What came of a new configuration. */
export interface PluginChanges {
  /** The sections as they are in force now: of what failed they have the old. */
  readonly inForce: Sections;
  /** `modules.NAME`, `plugins`. */
  readonly changed: readonly string[];
  /** What could not be done, a line each. */
  readonly failed: readonly string[];
}

interface Wanted {
  readonly entry: Entry;
  readonly file: PluginFile;
}

/** A plugin that the configuration names. */
interface Named extends Wanted {
  readonly name: string;
}

/** False, and the fault is noted, when the action fails as the world does. */
type Attempt = (action: () => Promise<unknown>) => Promise<boolean>;

export class ConfiguredPlugins {
  private named: Named[] = [];
  /** The modules' options that are in force, and what their secrets were. */
  private readonly marks = new Map<ModuleKey, unknown>();

  constructor(
    private readonly host: PluginHost,
    private readonly baseDir: string,
    /** Told of each that was loaded or unloaded. */
    private readonly note: (name: string, words: string) => void,
  ) {}

  /** Loads the modules that are on, then what else the configuration names. @throws the first MantouError */
  async start(sections: Sections): Promise<void> {
    for (const key of Object.keys(modules) as ModuleKey[]) {
      this.marks.set(key, marked(sections.modules[key]));
      const name = await this.host.know(moduleSource(key, sections));
      if (isOn(key, sections)) await this.host.load(name);
    }
    for (const entry of sections.plugins)
      for (const file of findPlugins(entry.from, entry.options, this.baseDir)) {
        const name = await this.host.know(file);
        this.named.push({ name, entry, file });
        await this.host.load(name);
        this.note(name, "plugin loaded");
      }
  }

  async change(old: Sections, next: Sections): Promise<PluginChanges> {
    const failed: string[] = [];
    const attempt: Attempt = async (action) => {
      try {
        await action();
        return true;
      } catch (error) {
        if (!(error instanceof MantouError)) throw error;
        failed.push(error.message);
        return false;
      }
    };
    const inForce = { ...old.modules } as Record<ModuleKey, unknown>;
    const changed: string[] = [];
    for (const key of Object.keys(modules) as ModuleKey[]) {
      const mark = marked(next.modules[key]);
      const isSame = isDeepStrictEqual(this.marks.get(key), mark);
      if (isSame && !this.hasFailed(modules[key].name)) continue;
      if (!(await attempt(() => this.changeModule(key, old, next))) || isSame) continue;
      inForce[key] = next.modules[key];
      this.marks.set(key, mark);
      changed.push(`modules.${key}`);
    }
    const plugins = await this.changePlugins(next.plugins, attempt);
    if (!isDeepStrictEqual(old.plugins, plugins)) changed.push("plugins");
    return { inForce: { modules: inForce as Config["modules"], plugins }, changed, failed };
  }

  private async changeModule(key: ModuleKey, old: Sections, next: Sections): Promise<void> {
    const { host } = this;
    const { name } = modules[key];
    const source = moduleSource(key, next);
    if (isOn(key, next)) return this.anew(name, source);
    if (isOn(key, old) && this.stateOf(name) === "running") {
      await host.unload(name);
      this.note(name, "plugin unloaded");
    }
    // Was it loaded by hand, it goes on with its new options.
    return this.stateOf(name) === "running" ? this.anew(name, source) : host.replaceSource(name, source);
  }

  /** Returns the entries that are in force. */
  private async changePlugins(entries: readonly Entry[], attempt: Attempt): Promise<Entry[]> {
    const { wanted, missing } = await this.find(entries, attempt);
    const inForce = this.named.filter(({ entry }) => missing.has(entry.from));
    const left = new Map(this.named.filter((each) => !inForce.includes(each)).map((each) => [each.file.path, each]));
    const fresh: Wanted[] = [];
    for (const each of wanted) {
      const before = left.get(each.file.path);
      if (!before) {
        fresh.push(each);
        continue;
      }
      left.delete(each.file.path);
      const isSame = isDeepStrictEqual(before.entry.options, each.entry.options) && !this.hasFailed(before.name);
      const isDone = isSame || (await attempt(() => this.anew(before.name, each.file)));
      inForce.push(isDone ? { ...each, name: before.name } : before);
    }
    for (const each of fresh) {
      let before: Named | undefined;
      const isDone = await attempt(async () => {
        const name = await this.host.nameOf(each.file);
        before = [...left.values()].find((one) => one.name === name);
        if (before) left.delete(before.file.path);
        const isTaken = inForce.some((one) => one.name === name);
        await this.put(each.file, name, isTaken);
        inForce.push({ ...each, name });
      });
      if (!isDone && before) inForce.push(before);
    }
    for (const { name } of left.values()) {
      await this.host.forget(name);
      this.note(name, "plugin unloaded");
    }
    this.named = inForce;
    return entriesOf(inForce, entries);
  }

  private async find(entries: readonly Entry[], attempt: Attempt) {
    const wanted: Wanted[] = [];
    const missing = new Set<string>();
    for (const entry of entries) {
      const isFound = await attempt(async () => {
        for (const file of findPlugins(entry.from, entry.options, this.baseDir)) wanted.push({ entry, file });
      });
      if (!isFound) missing.add(entry.from);
    }
    return { wanted, missing };
  }

  /** In the place of the plugin of this name, where there is one: what was loaded by hand is the configuration's from now on. */
  private async put(file: PluginFile, name: string, isTaken: boolean): Promise<void> {
    const { host } = this;
    if (!isTaken && host.list().some((each) => each.name === name && each.kind === "plugin"))
      return this.anew(name, file);
    await host.know(file);
    try {
      await host.load(name);
    } catch (error) {
      await host.forget(name);
      throw error;
    }
    this.note(name, "plugin loaded");
  }

  private async anew(name: string, source: PluginSource): Promise<void> {
    const wasRunning = this.stateOf(name) === "running";
    await this.host.reload(name, source);
    this.note(name, wasRunning ? "plugin loaded anew" : "plugin loaded");
  }

  private stateOf(name: string): PluginStatus["state"] | undefined {
    return this.host.list().find((each) => each.name === name)?.state;
  }

  private hasFailed(name: string): boolean {
    return this.stateOf(name) === "failed";
  }
}

function isOn(key: ModuleKey, sections: Sections): boolean {
  return modules[key].isOn(sections.modules[key] as never);
}

function moduleSource(key: ModuleKey, sections: Sections): PluginSource {
  return { kind: "module", from: "mantou", options: sections.modules[key], read: async () => modules[key] };
}

/** In the order of the configuration, each once; an entry that is at fault has the old one in its place. */
function entriesOf(named: readonly Named[], order: readonly Entry[]): Entry[] {
  const entries = new Set(named.map(({ entry }) => entry));
  const inPlace = order.flatMap((entry) =>
    entries.has(entry) ? [entry] : [...entries].filter(({ from }) => from === entry.from),
  );
  return [...new Set([...inPlace, ...entries])];
}
