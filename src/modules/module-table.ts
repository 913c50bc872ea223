/**
 * The modules: plugins that are shipped. A line each, by the key of their options in the configuration; the code of one is loaded
 * when it is started. A new one is its file here, its options in `options.ts`, its line, and its part of docs/modules.md.
 */
import type { PluginDefinition, z } from "#plugins/plugin.ts";
import {
  auditOptions,
  autoSubscribeOptions,
  delayedOptions,
  exclusiveOptions,
  localOptions,
  presenceOptions,
  retainedPolicyOptions,
  rewriteOptions,
  sysOptions,
  topicMetricsOptions,
} from "./options.ts";
import { webhookOptions } from "./outlet-options.ts";
import { storageOptions } from "./storage-options.ts";

interface Module<S extends z.ZodType> extends PluginDefinition<S> {
  readonly config: S;
  /** Whether these options ask for it. It may be loaded by its name all the same. */
  isOn(options: z.output<S>): boolean;
  /** Reads the files that a start with these options will read, and opens nothing; rejects as the start does. */
  check?(options: z.output<S>): Promise<unknown>;
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
  autoSubscribe: module({
    name: "auto-subscribe",
    description: "subscriptions that clients have without asking",
    config: autoSubscribeOptions,
    isOn: ({ enabled, subscriptions }) => enabled || subscriptions.length > 0,
    start: async (api) => (await import("./auto-subscribe.ts")).startAutoSubscribe(api),
  }),
  rewrite: module({
    name: "rewrite",
    description: "topics that become others",
    config: rewriteOptions,
    isOn: ({ rules }) => rules.length > 0,
    start: async (api) => (await import("./rewrite.ts")).startRewrite(api),
  }),
  exclusive: module({
    name: "exclusive",
    description: "$exclusive/FILTER: for one subscriber at a time",
    config: exclusiveOptions,
    isOn: ({ enabled }) => enabled,
    start: async (api) => (await import("./exclusive.ts")).startExclusive(api),
  }),
  local: module({
    name: "local",
    description: "$local/FILTER: of this machine only",
    config: localOptions,
    isOn: ({ enabled }) => enabled,
    start: async (api) => (await import("./prefixed.ts")).takePrefix(api, "$local/"),
  }),
  delayed: module({
    name: "delayed",
    description: "$delayed/SECONDS/TOPIC: published later",
    config: delayedOptions,
    isOn: ({ enabled }) => enabled,
    start: async (api) => (await import("./delayed.ts")).startDelayed(api),
  }),
  webhook: module({
    name: "webhook",
    description: "events to HTTP services, in batches",
    config: webhookOptions,
    isOn: ({ hooks }) => hooks.length > 0,
    check: async ({ hooks }) => hooks.map((await import("./webhook.ts")).readTls),
    start: async (api) => (await import("./webhook.ts")).startWebhook(api),
  }),
  storage: module({
    name: "storage",
    description: "messages and events to databases, in batches",
    config: storageOptions,
    isOn: ({ targets }) => targets.length > 0,
    check: async ({ targets }) => Promise.all(targets.map((await import("./storage.ts")).checkTarget)),
    start: async (api) => (await import("./storage.ts")).startStorage(api),
  }),
  topicMetrics: module({
    name: "topic-metrics",
    description: "counts what passes for chosen topics",
    config: topicMetricsOptions,
    isOn: ({ filters }) => filters.length > 0,
    start: async (api) => (await import("./topic-metrics.ts")).startTopicMetrics(api),
  }),
  retainedPolicy: module({
    name: "retained-policy",
    description: "which retained messages are kept, and how long",
    config: retainedPolicyOptions,
    isOn: ({ rules }) => rules.length > 0,
    start: async (api) => (await import("./retained-policy.ts")).startRetainedPolicy(api),
  }),
  audit: module({
    name: "audit",
    description: "writes down what is published, and who comes and goes",
    config: auditOptions,
    isOn: ({ filters, clients }) => clients || filters.length > 0,
    start: async (api) => (await import("./audit.ts")).startAudit(api),
  }),
} as const;
