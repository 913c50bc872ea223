/**
 * `bun run tuning:check 1000000`: what on this machine would limit so many connections. Changes nothing, needs no root.
 * Exit codes: 0 they fit, 1 they do not, 2 usage.
 */
import { parseArgs } from "node:util";
import { readMachine } from "./machine.ts";
import { assess, count, gigabytes, type Finding, type Verdict } from "./verdict.ts";

const USAGE = `Usage: bun run tuning:check CONNECTIONS [options]

  --clients-here   the test clients run on this machine too: both ends of each connection count
  --pid PID        the limits and cgroup of that process, such as the running broker's; else those of this shell
  --root DIR       look at the machine whose /proc and /sys are in DIR
  --json           the verdict as JSON
`;
const FLAGS = {
  "clients-here": { type: "boolean", default: false },
  pid: { type: "string" },
  root: { type: "string", default: "/" },
  json: { type: "boolean", default: false },
  help: { type: "boolean", default: false },
} as const;
const WIDTH = 118;
const INDENT = " ".repeat(9);

/** Returns the exit code. */
export function runCheck(args: readonly string[], out: (text: string) => void, err: (text: string) => void): number {
  let parsed;
  try {
    parsed = parseArgs({ args: [...args], options: FLAGS, strict: true, allowPositionals: true });
  } catch (error) {
    err(`${(error as Error).message}\n\n${USAGE}`);
    return 2;
  }
  const { values, positionals } = parsed;
  if (values.help) {
    out(USAGE);
    return 0;
  }
  const connections = positionals.length === 1 ? wholeNumber(positionals[0]!) : undefined;
  const pid = values.pid === undefined ? undefined : wholeNumber(values.pid);
  if (connections === undefined || (values.pid !== undefined && pid === undefined)) {
    err(USAGE);
    return 2;
  }
  const machine = readMachine({ root: values.root, ...(pid === undefined ? {} : { pid }) });
  if (pid !== undefined && machine.descriptorsHard === undefined) {
    err(`there is no process ${pid}, or its limits cannot be read\n`);
    return 2;
  }
  const verdict = assess(machine, { connections, clientsHere: values["clients-here"] });
  out(values.json ? `${JSON.stringify(verdict)}\n` : report(verdict, values["clients-here"]));
  return verdict.isFit ? 0 : 1;
}

/** 1 to 999,999,999. */
function wholeNumber(text: string): number | undefined {
  return /^[1-9]\d{0,8}$/.test(text) ? Number(text) : undefined;
}

export function report(verdict: Verdict, clientsHere: boolean): string {
  const where = clientsHere ? "clients on this machine too" : "clients on other machines";
  const lines = verdict.findings.flatMap(lineOf);
  return [
    `${count(verdict.connections)} connections, idle and subscribed, ${where}\n`,
    ...lines,
    `\n${conclusion(verdict)}`,
    "",
  ].join("\n");
}

function lineOf({ name, state, connectionsMax, says, advice }: Finding): string[] {
  const max = connectionsMax === undefined ? "" : `  ${count(connectionsMax)} connections`;
  return [
    `${state.padEnd(9)}${name}${max}`,
    ...wrapped(says),
    ...(advice === undefined ? [] : wrapped(`to change: ${advice}`)),
  ];
}

function wrapped(text: string): string[] {
  const lines: string[] = [];
  let rest = text;
  while (rest.length > WIDTH - INDENT.length) {
    const at = rest.lastIndexOf(" ", WIDTH - INDENT.length);
    if (at <= 0) break;
    lines.push(INDENT + rest.slice(0, at));
    rest = rest.slice(at + 1);
  }
  return [...lines, INDENT + rest];
}

function conclusion({ connections, isFit, connectionsMax, limitedBy, memoryNeededBytes, findings }: Verdict): string {
  const needed = `about ${gigabytes(memoryNeededBytes)} of memory`;
  if (isFit) {
    const slow = findings.filter(({ state }) => state === "slows").map(({ name }) => name);
    const unknown = findings.filter(({ state }) => state === "unknown").map(({ name }) => name);
    const but = [
      ...(slow.length === 0 ? [] : [`slow under load: ${slow.join(", ")}`]),
      ...(unknown.length === 0 ? [] : [`not known: ${unknown.join(", ")}`]),
    ];
    return `Fit for ${count(connections)} connections (${needed}).${but.length === 0 ? "" : ` But ${but.join("; ")}.`}`;
  }
  const all = findings.filter(({ state }) => state === "limits").map(({ name }) => name);
  return (
    `Not fit for ${count(connections)} connections (${needed}): ${limitedBy} ends them at ${count(connectionsMax)}.` +
    (all.length > 1 ? ` Too low: ${all.join(", ")}.` : "")
  );
}

if (import.meta.main) {
  process.exitCode = runCheck(
    process.argv.slice(2),
    (text) => process.stdout.write(text),
    (text) => process.stderr.write(text),
  );
}
