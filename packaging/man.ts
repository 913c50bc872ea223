/** The manual page, mantou(1), from the command line's own help: what a command says of itself is written once. */
import type { Command } from "commander";
import { VERSION } from "#broker/version.ts";
import { buildProgram, EXAMPLES } from "#cli/cli.ts";
import { processHost } from "#cli/host.ts";

const FILES = [
  ["/etc/mantou/mantou.yaml", "the configuration that the service reads"],
  ["./mantou.yaml", "the configuration that is read without --config, when it is there"],
  ["./data", "what the broker keeps, without --data"],
] as const;

const EXIT = [
  ["0", "done"],
  ["1", "the configuration or the world is at fault"],
  ["2", "the command line is"],
] as const;

export async function manPage(dateSec: number): Promise<string> {
  const program = buildProgram(
    processHost(),
    () => process.stdin,
    () => {},
  );
  const date = new Date(dateSec * 1000).toISOString().slice(0, 10);
  const lines = [
    `.TH MANTOU 1 ${date} "mantou ${VERSION}" "User Commands"`,
    ".SH NAME",
    `mantou \\- ${escape(program.description().replace(/\.$/, ""))}`,
    ".SH SYNOPSIS",
    ".B mantou",
    "\\fICOMMAND\\fR [\\fIOPTION\\fR]...",
    ".SH DESCRIPTION",
    "mantou is an MQTT broker. Without a configuration it listens on port 1883 and keeps what must survive in",
    ".IR ./data .",
    ".SH COMMANDS",
    ...commandsOf(program),
    ".SH EXIT STATUS",
    ...tagged(EXIT),
    ".SH FILES",
    ...tagged(FILES),
    ".SH ENVIRONMENT",
    ...tagged([
      ["MANTOU__SECTION__KEY", "one value of the configuration, such as MANTOU__SESSION__INFLIGHTCOUNTMAX=50"],
    ]),
    ".SH EXAMPLES",
    ".nf",
    ...EXAMPLES.trim()
      .split("\n")
      .slice(1)
      .map((line) => escape(line.trim())),
    ".fi",
  ];
  return `${lines.join("\n")}\n`;
}

/** What help shows, and nothing that is hidden. */
function commandsOf(command: Command): string[] {
  const help = command.createHelp();
  const commands = help.visibleCommands(command).filter((each) => each.name() !== "help");
  return commands.flatMap((each) => {
    if (each.commands.length > 0) return commandsOf(each);
    const args = each.registeredArguments.map((argument) =>
      argument.required ? argument.name() : `[${argument.name()}]`,
    );
    const options = help.visibleOptions(each).filter(({ long }) => long !== "--help");
    return [
      `.SS "${escape([nameOf(each), ...args].join(" "))}"`,
      escape(each.description()),
      ...tagged(options.map(({ flags, description }) => [flags, description] as const)),
    ];
  });
}

/** With those of the commands above, without the program's. */
function nameOf(command: Command): string {
  const names: string[] = [];
  for (let at: Command | null = command; at?.parent; at = at.parent) names.unshift(at.name());
  return names.join(" ");
}

function tagged(items: readonly (readonly [tag: string, words: string])[]): string[] {
  return items.flatMap(([tag, words]) => [".TP", `.B ${escape(tag)}`, escape(words)]);
}

/** A full stop or an apostrophe at a line's beginning would be a request. */
function escape(text: string): string {
  const plain = text.replaceAll("\\", "\\e").replaceAll("-", "\\-").replaceAll("…", "...").replaceAll("→", "\\->");
  return /^[.']/.test(plain) ? `\\&${plain}` : plain;
}
