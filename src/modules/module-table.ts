/**
 * The modules: plugins that are shipped. A line each, by the key of their options in the configuration; the code of one is loaded
 * when it is started. A new one is its file here, its options in `options.ts`, its line, and its part of docs/modules.md.
 */
import type { PluginDefinition, z } from "#plugins/plugin.ts";
import { presenceOptions, sysOptions } from "./options.ts";

interface Module<S extends z.ZodType> extends PluginDefinition<S> {
  readonly config: S;
  /** Whether these options ask for it. It may be loaded by its name all the same. */
  isOn(options: z.output<S>): boolean;
}

function module<S extends z.ZodType>(entry: Omit<Module<S>, "version">): Module<S> {
  return { version: "1.0.0", ...entry };
}

export const modules = {
  presence: module({
    name: "presence",
    description: "tells who comes and goes on $SYS/brokers/NODE/clients/…",
    config: presenceOptions,
    isOn: ({ enabled }) => enabled,
    start: async (api) => (await import("./presence.ts")).startPresence(api),
  }),
  sys: module({
    name: "sys",
    description: "publishes the broker's figures below $SYS/brokers",
    config: sysOptions,
    isOn: ({ intervalSec }) => intervalSec > 0,
    start: async (api) => (await import("./sys.ts")).startSys(api),
  }),
} as const;
