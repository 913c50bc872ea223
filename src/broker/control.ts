/**
 * Everything that may be asked of a running broker, as named operations: what admin, command line, dashboard and the
 * supervisor of several processes use, and nobody reaches past it.
 *
 *   REST, CLI ─► Control ─┬─ localControl(parts)            the operations of this process's broker
 *                         ├─ a caller over a channel        JSON of { name, params } there, JSON of the result back
 *                         └─ spreadControl(controls, home)  several of either as one, by each operation's `spread`
 *
 * Parameters and results are plain JSON. What the caller or the world is at fault for rejects with MantouError: `not_found`,
 * `params_invalid`, and those that the operations name.
 */
import type { z } from "zod";
import { MantouError } from "#base/error.ts";
import { accessOperations } from "./access-operations.ts";
import { brokerOperations } from "./broker-operations.ts";
import { clientOperations } from "./client-operations.ts";
import { observationOperations } from "./observation-operations.ts";
import type { ControlParts, Operation, Page } from "./operation.ts";
import { pluginOperations } from "./plugin-operations.ts";
import { overviewOperations } from "./overview-operations.ts";
import { topicOperations } from "./topic-operations.ts";

/** A line for each operation; a name is stable. */
export const operations = {
  ...overviewOperations,
  ...brokerOperations,
  ...clientOperations,
  ...topicOperations,
  ...accessOperations,
  ...observationOperations,
  ...pluginOperations,
};

type OperationName = keyof typeof operations;
type ParamsOf<N extends OperationName> = z.input<(typeof operations)[N]["params"]>;
export type ResultOf<N extends OperationName> = z.output<(typeof operations)[N]["result"]>;

export type Control = <N extends OperationName>(name: N, params: ParamsOf<N>) => Promise<ResultOf<N>>;

/** The operations of this process's broker. */
export function localControl(parts: ControlParts): Control {
  const call = async (name: OperationName, params: unknown): Promise<unknown> => {
    const { params: schema, run } = find(name);
    const checked = schema.safeParse(params);
    if (!checked.success) throw paramsFault(checked.error);
    return run(parts, checked.data);
  };
  return call as Control;
}

/**
 * Several brokers' processes as one. `homeOf` says which has a client id. A cursor names the process that the list has come to.
 * Rejects when one that has to be asked does: an answer without it would pass for the whole.
 */
export function spreadControl(controls: readonly Control[], homeOf: (clientId: string) => number): Control {
  const ask = (index: number, name: OperationName, params: unknown): Promise<unknown> =>
    (controls[index] as (name: OperationName, params: unknown) => Promise<unknown>)(name, params);
  const call = async (name: OperationName, params: unknown): Promise<unknown> => {
    const { spread, merge } = find(name);
    switch (spread) {
      case "one":
        return ask(0, name, params);
      case "home":
        return ask(homeOf((params as { clientId: string }).clientId), name, params);
      case "all": {
        const answers = await Promise.all(controls.map((_, index) => ask(index, name, params)));
        return merge!(answers);
      }
      case "walk":
        return walkAll(
          controls.length,
          params as WalkParams,
          (index, own) => ask(index, name, own) as Promise<Page<unknown>>,
        );
    }
  };
  return call as Control;
}

interface WalkParams {
  readonly cursor?: string | undefined;
  readonly limit?: number | string;
}

const LIMIT = 100;

/** `2.817`: go on in the third process, at its own cursor 817. */
async function walkAll(
  count: number,
  params: WalkParams,
  ask: (index: number, params: WalkParams) => Promise<Page<unknown>>,
): Promise<Page<unknown>> {
  const limit = Number(params.limit ?? LIMIT);
  const [at = "0", first = ""] = (params.cursor ?? "").split(".");
  const items: unknown[] = [];
  let cursor = first;
  for (let index = Number(at); index < count; index++) {
    if (items.length >= limit) return { items, cursor: `${index}.` };
    const own = { ...params, limit: limit - items.length, cursor: cursor === "" ? undefined : cursor };
    const page = await ask(index, own);
    items.push(...page.items);
    if (page.cursor !== undefined) return { items, cursor: `${index}.${page.cursor}` };
    cursor = "";
  }
  return { items };
}

function find(name: OperationName): Operation {
  if (!Object.hasOwn(operations, name)) throw new MantouError("not_found", `operation: found ${JSON.stringify(name)}`);
  return operations[name] as unknown as Operation;
}

function paramsFault({ issues }: z.ZodError): MantouError {
  const problems = issues.map(({ path, message }) => `${path.map(String).join(".") || "body"}: ${message}`);
  return new MantouError("params_invalid", problems.join("\n"), { problems });
}
