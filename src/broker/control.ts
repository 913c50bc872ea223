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
import { AWAY, awayFault, type ControlParts, type Operation, type Page } from "./operation.ts";
import { pluginOperations } from "./plugin-operations.ts";
import { overviewOperations } from "./overview-operations.ts";
import { topOperations } from "./top-operations.ts";
import { topicOperations } from "./topic-operations.ts";

/** A line for each operation; a name is stable. */
export const operations = {
  ...overviewOperations,
  ...brokerOperations,
  ...clientOperations,
  ...topicOperations,
  ...topOperations,
  ...accessOperations,
  ...observationOperations,
  ...pluginOperations,
};

type OperationName = keyof typeof operations;
export type ParamsOf<N extends OperationName> = z.input<(typeof operations)[N]["params"]>;
export type ResultOf<N extends OperationName> = z.output<(typeof operations)[N]["result"]>;

/** `onMissing` is told the number of each process that is away and whose part the answer lacks. */
export type Control = <N extends OperationName>(
  name: N,
  params: ParamsOf<N>,
  onMissing?: (node: number) => void,
) => Promise<ResultOf<N>>;

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

type OnMissing = (index: number) => void;

/**
 * Several brokers' processes as one. `homeOf` says which has a client id, `isAway` which cannot be asked now. A cursor names the
 * process that the list has come to. What is read is read of those that are there. A question about a client whose process is
 * away, and a change that all must make, reject with `worker_away`. `onDone` is told what some or all have done, with an answer.
 */
export function spreadControl(
  controls: readonly Control[],
  homeOf: (clientId: string) => number,
  isAway: (index: number) => boolean = () => false,
  onDone: (name: string, params: unknown, result: unknown) => void = () => {},
): Control {
  const ask = (index: number, name: OperationName, params: unknown): Promise<unknown> =>
    (controls[index] as (name: OperationName, params: unknown) => Promise<unknown>)(name, params);
  const call = async (name: OperationName, params: unknown, onMissing: OnMissing = () => {}): Promise<unknown> => {
    const { spread, merge, isOneFirst } = find(name);
    switch (spread) {
      case "one": {
        const first = controls.findIndex((_, index) => !isAway(index));
        return ask(Math.max(first, 0), name, params);
      }
      case "home":
        return ask(homeOf((params as { clientId: string }).clientId), name, params);
      case "each": {
        const first = isOneFirst ? controls.findIndex((_, index) => !isAway(index)) : -1;
        const lead = first < 0 ? undefined : ask(first, name, params);
        await lead;
        const asked = controls.map((_, index) => (index === first ? lead! : ask(index, name, params)));
        const { answers, missing } = await gather(asked);
        missing.forEach((index) => onMissing(index));
        const result = merge!(answers, missing);
        onDone(name, params, result);
        return result;
      }
      case "all": {
        const away = controls.findIndex((_, index) => isAway(index));
        if (away >= 0) throw awayFault(away); // before the others have changed anything
        const { answers, missing } = await gather(controls.map((_, index) => ask(index, name, params)));
        onDone(name, params, answers[0]);
        if (missing.length > 0) throw awayFault(missing[0]);
        return merge!(answers, missing);
      }
      case "walk": {
        const page = (index: number, own: WalkParams) => ask(index, name, own) as Promise<Page<unknown>>;
        return walkAll(controls.length, params as WalkParams, page, onMissing);
      }
    }
  };
  return call as Control;
}

/**
 * The answers of those that are there, and who is not. Who does not know what is asked for is passed over if another does. Rejects
 * when nobody answers, and with any other fault.
 */
async function gather(asked: readonly Promise<unknown>[]): Promise<{ answers: unknown[]; missing: number[] }> {
  const settled = await Promise.allSettled(asked);
  const answers: unknown[] = [];
  const missing: number[] = [];
  let fault: unknown;
  for (const [index, outcome] of settled.entries()) {
    if (outcome.status === "fulfilled") answers.push(outcome.value);
    else if (codeOf(outcome.reason) === AWAY) missing.push(index);
    else if (codeOf(fault) === undefined || codeOf(fault) === NOT_FOUND) fault = outcome.reason;
  }
  if (fault !== undefined && !(codeOf(fault) === NOT_FOUND && answers.length > 0)) throw fault;
  if (answers.length === 0) throw awayFault(missing[0]);
  return { answers, missing };
}

function codeOf(error: unknown): string | undefined {
  return error instanceof MantouError ? error.code : undefined;
}

interface WalkParams {
  readonly cursor?: string | undefined;
  readonly limit?: number | string;
}

const LIMIT = 100;
const NOT_FOUND = "not_found";

/** `2.817`: go on in the third process, at its own cursor 817. */
async function walkAll(
  count: number,
  params: WalkParams,
  ask: (index: number, params: WalkParams) => Promise<Page<unknown>>,
  onMissing: OnMissing,
): Promise<Page<unknown>> {
  const limit = Number(params.limit ?? LIMIT);
  const [at = "0", first = ""] = (params.cursor ?? "").split(".");
  const items: unknown[] = [];
  let cursor = first;
  for (let index = Number(at); index < count; index++) {
    if (items.length >= limit) return { items, cursor: `${index}.` };
    const own = { ...params, limit: limit - items.length, cursor: cursor === "" ? undefined : cursor };
    let page: Page<unknown> = { items: [] };
    try {
      page = await ask(index, own);
    } catch (error) {
      if (codeOf(error) !== AWAY) throw error;
      onMissing(index);
    }
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
