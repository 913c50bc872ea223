/**
 * Shell completion: a few lines for each shell, which ask this program what may come next.
 *
 *   mantou completion bash > /etc/bash_completion.d/mantou      the shell then runs `mantou complete -- WORDS…` at each tab
 */
import type { Command } from "commander";
import { ctlCommands } from "./ctl/table.ts";

type Shell = "bash" | "zsh" | "fish";

const SCRIPTS: Readonly<Record<Shell, string>> = {
  bash: `_mantou() {
  local IFS=$'\\n'
  COMPREPLY=($(compgen -W "$("\${COMP_WORDS[0]}" complete -- "\${COMP_WORDS[@]:1:COMP_CWORD-1}" 2>/dev/null)" -- "\${COMP_WORDS[COMP_CWORD]}"))
}
complete -o default -F _mantou mantou
`,
  zsh: `#compdef mantou
_mantou() {
  local -a found
  found=("\${(@f)$("\${words[1]}" complete -- "\${(@)words[2,CURRENT-1]}" 2>/dev/null)}")
  compadd -- $found || _files
}
compdef _mantou mantou
`,
  fish: `complete -c mantou -f -a '(set -l words (commandline -opc); $words[1] complete -- $words[2..-1] 2>/dev/null)'
`,
};

export function completionScript(shell: Shell): string {
  return SCRIPTS[shell];
}

/** What may follow `words`: commands, their words, and their options. */
export function candidates(program: Command, words: readonly string[]): string[] {
  if (words[0] === "ctl") return ctlCandidates(words.slice(1).filter((word) => !word.startsWith("--")));
  let command = program;
  for (const word of words) command = command.commands.find((each) => each.name() === word) ?? command;
  const names = command.commands.map((each) => each.name()).filter((name) => !HIDDEN.has(name));
  const options = command.options.map(({ long }) => long).filter((long) => typeof long === "string");
  return [...names, ...(command === program ? [] : options)];
}

const HIDDEN = new Set(["complete", "worker"]);

/** From the usage lines: a word in angle brackets stands for anything. */
function ctlCandidates([name, ...words]: readonly string[]): string[] {
  if (name === undefined) return [...ctlCommands.map((each) => each.name), "help"];
  const command = ctlCommands.find((each) => each.name === name);
  const found = (command?.usage ?? []).flatMap(([usage]) => {
    const parts = usage.split(" ").filter((part) => part !== "");
    const isFit = words.every((word, i) => parts[i]?.startsWith("<") || parts[i]?.split("|").includes(word));
    const next = isFit ? parts[words.length] : undefined;
    return next === undefined || /^[<[]/.test(next) ? [] : next.split("|");
  });
  return [...new Set(found)];
}
