/** What one run of a plugin adds to the broker's routes, commands and metrics: checked when it comes, guarded when it is used. */
import { isDeepStrictEqual } from "node:util";
import { MantouError } from "#base/error.ts";
import type { Command, HttpMount, HttpPeer, MetricSource } from "#core/ports.ts";
import { before, wordsOf, wrong } from "./call.ts";
import type { Undo } from "./plugin.ts";

const METRIC_NAME = /^[a-z][a-z0-9_]{0,63}$/;
/** As Prometheus has it. */
const LABEL_NAME = /^[a-zA-Z_][a-zA-Z0-9_]*$/;
const COMMAND_NAME = /^[a-z][a-z0-9-]{0,31}$/;
const PATH = /^\/[A-Za-z0-9._~/-]*$/;
const COMMAND_MS_MAX = 30_000;
/** Of routes, admin routes, commands and metrics each: every request and scrape goes through them. */
const COUNT_MAX = 1000;

export class Contributions {
  readonly routes: HttpMount[] = [];
  readonly adminRoutes: HttpMount[] = [];
  readonly commands: Command[] = [];
  readonly metrics: MetricSource[] = [];

  constructor(
    private readonly plugin: string,
    private readonly fault: (error: unknown) => void,
  ) {}

  clear(): void {
    for (const list of [this.routes, this.adminRoutes, this.commands, this.metrics]) list.length = 0;
  }

  /** `metric.name` is the plugin's own word for it. */
  declare(metric: MetricSource): Undo {
    const { name, labels = {} } = metric;
    if (!METRIC_NAME.test(name)) throw wrong(`${name} is no name of a metric: lower case, digits, _`);
    for (const label of Object.keys(labels))
      if (!LABEL_NAME.test(label)) throw wrong(`${label} is no name of a label: letters, digits, _`);
    const whole = `mantou_${this.plugin.replaceAll("-", "_")}_${name}`;
    const isSame = (other: MetricSource): boolean =>
      other.name === whole && isDeepStrictEqual(other.labels, metric.labels);
    if (this.metrics.some(isSame)) throw wrong(`it has two metrics ${whole}`);
    return put(this.metrics, { ...metric, name: whole });
  }

  mount(list: HttpMount[], path: string, fetch: HttpMount["fetch"]): Undo {
    if (!PATH.test(path)) throw wrong(`${path} is no path: it starts with /`);
    const whole = `/plugins/${this.plugin}${path === "/" ? "" : path}`;
    if (list.some((mount) => mount.path === whole)) throw wrong(`it has two routes ${whole}`);
    const guarded = async (request: Request, peer: HttpPeer): Promise<Response> => {
      try {
        const answer: unknown = await fetch(request, peer);
        if (answer instanceof Response) return answer;
        throw new Error(`its route ${path} has answered no Response`);
      } catch (error) {
        this.fault(error);
        return new Response("Internal Server Error", { status: 500 });
      }
    };
    return put(list, { path: whole, fetch: guarded });
  }

  command(command: Command): Undo {
    if (!COMMAND_NAME.test(command.name)) throw wrong(`${command.name} is no name of a command`);
    if (this.commands.some(({ name }) => name === command.name)) throw wrong(`it has two commands ${command.name}`);
    const { name, usage, description, isEverywhere = false } = command;
    const run = (args: readonly string[]): Promise<unknown> => this.runCommand(command, args);
    return put(this.commands, { name, usage, description, isEverywhere, run });
  }

  private async runCommand({ name, run }: Command, args: readonly string[]): Promise<unknown> {
    try {
      const answer = await before(COMMAND_MS_MAX, `${name} has not ended`, async () => run(args));
      JSON.stringify(answer); // what cannot be told to who asked is the plugin's fault
      return answer;
    } catch (error) {
      if (error instanceof MantouError) throw error;
      this.fault(error);
      throw new MantouError("plugin_failed", `plugin ${this.plugin}: ${wordsOf(error)}`);
    }
  }
}

function put<T>(list: T[], item: T): Undo {
  if (list.length >= COUNT_MAX) throw wrong(`it adds more than ${COUNT_MAX} of a kind`);
  list.push(item);
  return () => {
    const at = list.indexOf(item);
    if (at >= 0) list.splice(at, 1);
  };
}
