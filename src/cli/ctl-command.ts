/** `mantou ctl WORDS…` and `mantou status`: opens the way to the running broker, and hands the words to ctl/ctl.ts. */
import { InvalidArgumentError, type Command } from "commander";
import { isAbsolute, join, resolve } from "node:path";
import { MantouError } from "#base/error.ts";
import { type ConfigFlags, loadConfig } from "#broker/config.ts";
import { parseUnit } from "#base/unit.ts";
import type { Control } from "#broker/control.ts";
import type { CtlContext } from "./ctl/ctl.ts";
import type { Host } from "./host.ts";
import { type PasswordInput, readPassword } from "./password-input.ts";

interface CtlFlags extends ConfigFlags {
  readonly json?: boolean;
  readonly socket?: string;
  readonly payload?: CtlContext["payload"];
  readonly for?: number;
}

const API = "http://admin/api/v1";

export function addCtlCommands(
  program: Command,
  { host, input, done }: { host: Host; input: () => PasswordInput; done: (code: number) => void },
): void {
  const run = async (words: readonly string[], flags: CtlFlags): Promise<void> => {
    const { ctlCommands } = await import("./ctl/table.ts");
    const { runCtl } = await import("./ctl/ctl.ts");
    done(await runCtl(ctlCommands, words, await openContext(flags, host, input)));
  };
  withSocketFlags(program.command("ctl").description("question and order the running broker, as emqttd_ctl"))
    .argument("[words...]", "mantou ctl help shows them")
    .option("--payload <form>", "of trace: none, text or hex", parsePayload)
    .option("--for <time>", "of trace and bans: how long, such as 90s, 30m, 12h or 7d", parseTime)
    .action(run);
  withSocketFlags(program.command("status").description("say whether the broker runs")).action((flags: CtlFlags) =>
    run(["status"], flags),
  );
}

function withSocketFlags(command: Command): Command {
  return command
    .option("--json", "as JSON")
    .option("--config <file>", "YAML file (default: ./mantou.yaml when it is there)")
    .option("--data <dir>", "directory of what the broker keeps (default: ./data)")
    .option("--socket <path>", "the broker's admin socket (default: admin.sock in the data directory)");
}

async function openContext(flags: CtlFlags, host: Host, input: () => PasswordInput): Promise<CtlContext> {
  const { socketControl } = await import("#admin/socket-control.ts");
  const path = flags.socket ?? socketOf(flags, host);
  const { promise: interrupted, resolve: interrupt } = Promise.withResolvers<void>();
  const { payload, for: forSec, json: isJson = false } = flags;
  return {
    control: telling(socketControl(path), (text) => host.err(text)),
    rest: (method, resource, body) => rest(path, { method, resource, body }),
    isJson,
    payload,
    forSec,
    out: (text) => host.out(text),
    err: (text) => host.err(text),
    password: async () => {
      const password = await readPassword(input(), (text) => host.err(text));
      return password.toString();
    },
    get interrupted() {
      host.onSignal(() => interrupt());
      return interrupted;
    },
  };
}

/** Says once of each worker that it is away. */
function telling(control: Control, err: (text: string) => void): Control {
  const told = new Set<number>();
  return (name, params) =>
    control(name, params, (node) => {
      if (!told.has(node)) err(`worker ${node} is being started again: what it has is not in this answer\n`);
      told.add(node);
    });
}

function socketOf(flags: CtlFlags, host: Host): string {
  const { config } = loadConfig({ ...host.config, flags });
  const dir = resolve(host.config.cwd ?? ".", config.node.data);
  const { socket } = config.admin;
  if (socket === "")
    throw new MantouError("broker_not_running", "admin.socket is empty: the broker has no socket to be asked by");
  return isAbsolute(socket) ? socket : join(dir, socket);
}

async function rest(
  path: string,
  { method, resource, body }: { method: string; resource: string; body: unknown },
): Promise<unknown> {
  const init =
    body === undefined ? {} : { body: JSON.stringify(body), headers: { "Content-Type": "application/json" } };
  let response: Response;
  try {
    response = await fetch(`${API}${resource}`, { unix: path, method, ...init });
  } catch {
    throw new MantouError("broker_not_running", `no broker listens on ${path}`);
  }
  const answer = (await response.json()) as { error?: { code: string; message: string } };
  if (response.ok) return answer;
  const { code = "bug", message = `the broker answered ${response.status}` } = answer.error ?? {};
  throw new MantouError(code, message);
}

function parsePayload(text: string): CtlContext["payload"] {
  if (text === "none" || text === "text" || text === "hex") return text;
  throw new InvalidArgumentError("Allowed: none, text, hex.");
}

/** Seconds. */
function parseTime(text: string): number {
  const sec = Math.ceil(parseUnit(text, "seconds") ?? 0);
  if (sec >= 1) return sec;
  throw new InvalidArgumentError("Allowed: a number with s, m, h or d, such as 10m.");
}
