/** Operations on modules and plugins, and the commands that they add to the command line. */
import { isDeepStrictEqual } from "node:util";
import { z } from "zod";
import type { Command } from "#core/ports.ts";
import { answerRoute, routeAnswer, routeRequest } from "./plugin-routes.ts";
import { type ControlParts, done, nothing, notFound, operation, sumDone } from "./operation.ts";

const plugin = z.object({
  name: z.string(),
  version: z.string(),
  description: z.string(),
  kind: z.enum(["module", "plugin"]),
  from: z.string().meta({ description: "mantou, or the path or package as configured" }),
  state: z.enum(["running", "stopped", "failed"]),
  faultCount: z.int().meta({ description: "what it threw since the broker started" }),
  lastFault: z.string().meta({ description: "the last of it; empty for nothing" }),
});

const metric = z.object({
  name: z.string(),
  help: z.string(),
  kind: z.enum(["counter", "gauge"]),
  labels: z.record(z.string(), z.string()),
  value: z.number(),
});
const named = z.object({ name: z.string().min(1).max(256) });
const ARGS_MAX = 100;

export const pluginOperations = {
  "plugins.list": operation({
    about: "modules and plugins, and how they fare",
    spread: "each",
    params: nothing,
    result: z.array(plugin),
    merge: ([first, ...others]) =>
      first.map((each) => {
        const all = [each, ...others.flatMap((rows) => rows.filter(({ name }) => name === each.name))];
        const worst = all.find(({ state }) => state === "failed") ?? each;
        return { ...worst, faultCount: all.reduce((sum, { faultCount }) => sum + faultCount, 0) };
      }),
    run: ({ plugins }) => plugins.list(),
  }),
  "plugins.load": operation({
    about: "starts a module or plugin that is not running, or a plugin of the plugins folder",
    spread: "all",
    params: named,
    result: done,
    merge: sumDone,
    async run({ plugins }, { name }) {
      await plugins.load(name);
      return { count: 1 };
    },
  }),
  "plugins.unload": operation({
    about: "ends a module or plugin, until it is loaded again or the broker restarts",
    spread: "all",
    params: named,
    result: done,
    merge: sumDone,
    async run({ plugins }, { name }) {
      await plugins.unload(name);
      return { count: 1 };
    },
  }),
  "plugins.reload": operation({
    about: "reads a plugin's code anew and starts that instead",
    spread: "all",
    params: named,
    result: done,
    merge: sumDone,
    async run({ plugins }, { name }) {
      await plugins.reload(name);
      return { count: 1 };
    },
  }),
  "plugins.metrics": operation({
    about: "values that plugins measure",
    spread: "each",
    params: nothing,
    result: z.array(metric),
    merge: ([first, ...others]) =>
      first.map((each) => {
        const same = others.map((rows) => rows.find((row) => isSame(row, each))?.value ?? 0);
        return { ...each, value: same.reduce((sum, value) => sum + value, each.value) };
      }),
    run({ plugins }) {
      const all = plugins.host.contributions().flatMap(({ metrics }) => metrics);
      const rows = all.map((source) => ({
        name: source.name,
        help: source.help,
        kind: source.kind,
        labels: { ...source.labels },
        value: source.read(),
      }));
      return rows.filter(({ value }) => Number.isFinite(value));
    },
  }),
  "routes.fetch": operation({
    about: "asks a plugin's route for administrators, of one process",
    spread: "one",
    params: routeRequest,
    result: routeAnswer,
    run: ({ plugins }, request) =>
      answerRoute(
        plugins.host.contributions().flatMap(({ adminRoutes }) => adminRoutes),
        request,
      ),
  }),
  "commands.list": operation({
    about: "commands that plugins add to the command line",
    spread: "one",
    params: nothing,
    result: z.array(z.object({ name: z.string(), usage: z.string(), description: z.string() })),
    run: (parts) => commandsOf(parts).map(({ name, usage, description }) => ({ name, usage, description })),
  }),
  "commands.run": operation({
    about: "runs a command of a plugin",
    spread: "all",
    params: named.extend({ args: z.array(z.string().max(65_535)).max(ARGS_MAX) }),
    result: z.object({ answer: z.unknown().meta({ description: "text to be printed, or a value" }) }),
    merge: (answers) => ({ answer: answers.map(({ answer }) => answer).reduce(joined) ?? null }),
    async run(parts, { name, args }) {
      const command = commandsOf(parts).find((each) => each.name === name);
      if (!command) throw notFound("command", name);
      if (command.isEverywhere !== true && parts.plugins.worker !== 0) return { answer: null };
      return { answer: (await command.run(args)) ?? null };
    },
  }),
};

/** Two workers' answers as one. */
function joined(a: unknown, b: unknown): unknown {
  if (a === null || b === null) return a ?? b;
  if (Array.isArray(a) && Array.isArray(b)) return [...(a as unknown[]), ...(b as unknown[])];
  if (typeof a === "number" && typeof b === "number") return a + b;
  if (typeof a === "boolean" && typeof b === "boolean") return a || b;
  if (typeof a !== "object" || typeof b !== "object") return a;
  const other = b as Record<string, unknown>;
  const both = Object.entries(a).map(([key, value]) => [key, joined(value, other[key] ?? null)]);
  return { ...other, ...Object.fromEntries(both) };
}

function isSame(a: z.output<typeof metric>, b: z.output<typeof metric>): boolean {
  return a.name === b.name && isDeepStrictEqual(a.labels, b.labels);
}

function commandsOf({ plugins }: ControlParts): Command[] {
  return plugins.host.contributions().flatMap(({ commands }) => commands);
}
