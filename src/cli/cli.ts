/**
 * The command line. Exit codes: 0 done, 1 the configuration or the world is at fault, 2 the command line is.
 */
import { Argument, Command, CommanderError, InvalidArgumentError } from "commander";
import { MantouError } from "#base/error.ts";
import { addAccessCommands } from "./access-command.ts";
import type { ConfigFlags } from "#broker/config.ts";
import { checkConfig, showConfig, showConfigSchema } from "./config-command.ts";
import { addCtlCommands } from "./ctl-command.ts";
import { startDetached, stop } from "./daemon.ts";
import { type Host, WORKER_COMMAND } from "./host.ts";
import type { PasswordInput } from "./password-input.ts";
import { addPluginCommands } from "./plugin-command.ts";
import { start } from "./start.ts";
import { addStoreCommands } from "./store-command.ts";
import { VERSION } from "#broker/version.ts";

export const EXAMPLES = `
Examples:
  mantou start                                          MQTT on 0.0.0.0:1883, or what ./mantou.yaml says
  mantou start --listen tcp://127.0.0.1:2883            only this listener; port 0 picks a free one
  mantou start --config site.yaml --set log.format=json
  mantou start --detach                                 in the background; mantou stop ends it
  mantou doctor                                         what on this machine would hurt
  mantou ctl clients list                               questions to the running broker; mantou ctl help
  mantou plugin new my-plugin                           a folder with a plugin and its test
  mantou config check --config site.yaml                says ok, or every problem with its place
  mantou config show                                    each value and where it comes from
  mantou store check --data ./data                      what is kept, and whether it is whole
  mantou users add alice                                asks for the password; a broker may run meanwhile
  mantou bans add --address 192.0.2.0/24 --for 1h
  MANTOU__SESSION__INFLIGHTCOUNTMAX=50 mantou start
`;

const EXIT_FAULT = 1;
const EXIT_USAGE = 2;

/** Runs the command in `args` (without program names) and resolves with the exit code; `input` is what passwords come from. */
export async function runCli(
  args: readonly string[],
  host: Host,
  input: () => PasswordInput = () => process.stdin,
): Promise<number> {
  let code = 0;
  const program = buildProgram(host, input, (done) => {
    code = done;
  });
  try {
    await program.parseAsync([...args], { from: "user" });
    return code;
  } catch (error) {
    // Help that was asked for also arrives here, with exit code 0.
    if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : EXIT_USAGE;
    if (error instanceof MantouError) host.err(`${error.message}\n`);
    else host.err(`a bug: ${error instanceof Error ? error.stack : String(error)}\n`);
    return EXIT_FAULT;
  }
}

export function buildProgram(host: Host, input: () => PasswordInput, done: (code: number) => void): Command {
  const program = new Command("mantou")
    .description("An MQTT broker: 3.1, 3.1.1 and 5.0.")
    .version(`mantou ${VERSION}`)
    .exitOverride()
    .configureOutput({ writeOut: (text) => host.out(text), writeErr: (text) => host.err(text) })
    .showHelpAfterError("(mantou --help shows what there is)")
    .addHelpText("after", EXAMPLES);

  withConfigFlags(program.command("start").description("run the broker, in the foreground"))
    .option("--detach", "in the background, with log files unless log.to says otherwise; mantou stop ends it")
    .action(async (flags: ConfigFlags & { detach?: boolean }) =>
      done(await (flags.detach ? startDetached(flags, host) : start(flags, host))),
    );
  withDataFlags(program.command("stop").description("drain and end the broker of the data directory")).action(
    async (flags: ConfigFlags) => done(await stop(flags, host)),
  );
  withConfigFlags(program.command("doctor").description("say what on this machine would hurt a broker"))
    .option("--connections <n>", "how many connections are to be held (default: 10000)", parseCount)
    .option("--json", "as JSON")
    .action(async (flags) => done(await (await import("./doctor.ts")).doctor(flags, host)));

  program.command(WORKER_COMMAND, { hidden: true }).action(() => host.runWorker());

  const config = program.command("config").description("check or show the configuration");
  withConfigFlags(config.command("check").description("say ok, or every problem")).action(async (flags) =>
    done(await checkConfig(flags, host)),
  );
  withConfigFlags(config.command("show").description("the configuration in effect, with the origin of each value"))
    .option("--json", "as JSON, without origins")
    .action((flags) => done(showConfig(flags, host)));
  config
    .command("schema")
    .description("JSON Schema of the configuration file, for editors")
    .action(() => done(showConfigSchema(host)));

  addPluginCommands(program, host);
  addStoreCommands(program, host, done);
  addAccessCommands(program, host, input);
  addCtlCommands(program, { host, input, done });

  program
    .command("completion")
    .description("print what makes a shell complete the words of mantou")
    .addArgument(new Argument("<shell>").choices(["bash", "zsh", "fish"]))
    .action(async (shell: "bash" | "zsh" | "fish") => {
      const { completionScript } = await import("./completion.ts");
      host.out(completionScript(shell));
    });
  program
    .command("complete", { hidden: true })
    .argument("[words...]")
    .action(async (words: string[]) => {
      const { candidates } = await import("./completion.ts");
      host.out(
        candidates(program, words)
          .map((word) => `${word}\n`)
          .join(""),
      );
    });
  program
    .command("version")
    .description("print the version")
    .action(() => host.out(`mantou ${VERSION} (bun ${Bun.version}, ${process.platform} ${process.arch})\n`));
  return program;
}

/** 1 to 999,999,999. */
function parseCount(text: string): number {
  if (/^[1-9]\d{0,8}$/.test(text)) return Number(text);
  throw new InvalidArgumentError("Allowed: a whole number from 1 to 999999999.");
}

function withDataFlags(command: Command): Command {
  return command
    .option("--config <file>", "YAML file (default: ./mantou.yaml when it is there)")
    .option("--data <dir>", "directory of what the broker keeps (default: ./data)");
}

function withConfigFlags(command: Command): Command {
  const collect = (value: string, before: string[] = []) => [...before, value];
  return withDataFlags(command)
    .option("--workers <n>", "processes that share the ports, or auto: one for each processor (default: 1)")
    .option("--set <key=value>", "set one value, such as session.inflightCountMax=50; repeatable", collect)
    .option("--listen <url>", "listen here and nowhere else, such as tcp://127.0.0.1:2883; repeatable", collect);
}
