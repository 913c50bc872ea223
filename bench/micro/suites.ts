/** The micro benches by name; one is loaded only when it runs. The file of a suite has its name. */
import type { Suite } from "./recorder.ts";

export const suites: Readonly<Record<string, () => Promise<Suite>>> = {
  bytes: async () => (await import("./bytes.ts")).suite,
  "block-pool": async () => (await import("./block-pool.ts")).suite,
  "byte-table": async () => (await import("./byte-table.ts")).suite,
  "timer-wheel": async () => (await import("./timer-wheel.ts")).suite,
  codec: async () => (await import("./codec.ts")).suite,
  frame: async () => (await import("./frame.ts")).suite,
  "topic-index": async () => (await import("./topic-index.ts")).suite,
  "match-cache": async () => (await import("./match-cache.ts")).suite,
  queue: async () => (await import("./queue.ts")).suite,
  "share-group": async () => (await import("./share-group.ts")).suite,
  publish: async () => (await import("./publish.ts")).suite,
  deliver: async () => (await import("./deliver.ts")).suite,
  connection: async () => (await import("./connection.ts")).suite,
  churn: async () => (await import("./churn.ts")).suite,
  access: async () => (await import("./access.ts")).suite,
  embedded: async () => (await import("./embedded.ts")).suite,
  hooks: async () => (await import("./hooks.ts")).suite,
  trace: async () => (await import("./trace.ts")).suite,
  scale: async () => (await import("./scale.ts")).suite,
};
