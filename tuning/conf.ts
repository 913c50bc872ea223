/** The .conf files from the knobs: `bun tuning/conf.ts sysctl 1000000 > tuning/sysctl.conf`, and `limits` likewise. */
import { type Knob, knobs, nofileKnob } from "./knobs.ts";

const WIDTH = 118;

/** For /etc/sysctl.d: the knobs of the broker, and commented out those that only test clients need. */
export function sysctlConf(connections: number): string {
  const sysctls = knobs.filter(({ where }) => where === "sysctl");
  const head = comment(
    `Kernel settings for ${count(connections)} connections to one machine; made from knobs.ts.`,
    "Copied to /etc/sysctl.d/90-mantou.conf as it is, it may also lower what a machine has more of:",
    "tuning/apply.sh writes only what is missing, and can undo it. A line that starts with - may fail.",
  );
  const sections = sysctls.map((knob) => `${about(knob)}\n${setting(knob, connections)}`);
  return `${[head, ...sections].join("\n\n")}\n`;
}

/** For /etc/security/limits.d: only the hard limit, since Bun raises its own soft limit to it. */
export function limitsConf(connections: number): string {
  const knob = nofileKnob();
  const head = comment(
    `Descriptor limit for ${count(connections)} connections to one process; made from knobs.ts.`,
    "For /etc/security/limits.d/90-mantou.conf: logins (PAM) see it, systemd units do not (LimitNOFILE in mantou.service).",
    "Never above fs.nr_open: logins would fail. * is everybody but root. Only the hard limit: Bun raises its soft limit",
    "by itself, and other programs keep the small soft limit that some of them rely on.",
  );
  const value = knob.recommended(connections)[0];
  return `${head}\n\n${about(knob)}\n${limitLines(value!)}`;
}

export function limitLines(value: number): string {
  return ["*   ", "root"].map((who) => `${who} hard nofile ${value}\n`).join("");
}

function about(knob: Knob): string {
  return comment(
    `${knob.name}: ${knob.what}`,
    `unit     ${knob.unit}`,
    `default  ${knob.kernelDefault}`,
    `why      ${knob.why}`,
    `undo     ${knob.undo}`,
    `source   ${knob.source}`,
  );
}

function setting(knob: Knob, connections: number): string {
  const line = `${knob.name} = ${knob.recommended(connections).join(" ")}`;
  if (knob.side === "clients") return `${comment("on a machine with test clients:")}\n# ${line}`;
  return knob.isOptional ? `-${line}` : line;
}

function comment(...lines: readonly string[]): string {
  return lines.flatMap(wrapped).join("\n");
}

/** Long lines go on below, under the text after their first word. */
function wrapped(line: string): string[] {
  const indent = " ".repeat(/^(\w+ {2,})?/.exec(line)![0].length);
  const lines: string[] = [];
  let rest = line;
  while (rest.length > WIDTH) {
    const at = rest.lastIndexOf(" ", WIDTH);
    lines.push(`# ${rest.slice(0, at)}`);
    rest = indent + rest.slice(at + 1);
  }
  return [...lines, `# ${rest}`];
}

function count(n: number): string {
  return n.toLocaleString("en-US");
}

if (import.meta.main) {
  const [kind, connections] = process.argv.slice(2);
  const render = { sysctl: sysctlConf, limits: limitsConf }[kind ?? ""];
  if (!render || !/^[1-9]\d{0,8}$/.test(connections ?? "")) {
    process.stderr.write("Usage: bun tuning/conf.ts sysctl|limits CONNECTIONS\n");
    process.exit(2);
  }
  process.stdout.write(render(Number(connections)));
}
