/**
 * `bun run bench micro`: costs of the broker's parts in nanoseconds and bytes. Each suite runs in a process of its own, so
 * that one suite's types do not slow down another's compiled code; a second process without collector counts the garbage.
 */
import { parseArgs } from "node:util";
import { Clock, type Row, Waste } from "./recorder.ts";
import { suites } from "./suites.ts";

const FLAGS = {
  json: { type: "boolean", default: false },
  quick: { type: "boolean", default: false },
  large: { type: "boolean", default: false },
  // Between this process and those it starts.
  pass: { type: "string" },
} as const;

export async function runMicro(args: readonly string[]): Promise<number> {
  const { values, positionals } = parseArgs({ args: [...args], options: FLAGS, strict: true, allowPositionals: true });
  const unknown = positionals.filter((name) => !Object.hasOwn(suites, name));
  if (unknown.length > 0) {
    process.stderr.write(
      `there is no micro bench ${unknown.join(", ")}; there are ${Object.keys(suites).join(", ")}\n`,
    );
    return 2;
  }
  const names = positionals.length > 0 ? positionals : Object.keys(suites);
  const options = { isQuick: values.quick, isLarge: values.large };
  if (values.pass !== undefined) return runPass(names[0], values.pass, options);
  let missed = 0;
  for (const name of names) {
    const suite = await suites[name]();
    if (!values.json) process.stdout.write(`\n${name}: ${suite.about}\n`);
    const rows = merged(await rowsOf(name, "time", options), await rowsOf(name, "bytes", options));
    missed += rows.filter(isMissed).length;
    process.stdout.write(values.json ? rows.map((row) => `${JSON.stringify(row)}\n`).join("") : table(rows));
  }
  if (!values.json) process.stdout.write(missed === 0 ? "\n" : `\n${missed} goals missed, marked with !\n`);
  return 0;
}

interface PassOptions {
  readonly isQuick: boolean;
  readonly isLarge: boolean;
}

/** In the process started for it: one suite, its rows as one JSON line. */
async function runPass(name: string, pass: string, options: PassOptions): Promise<number> {
  const recorder =
    pass === "bytes" ? new Waste(name) : new Clock(name, options.isQuick ? "quick" : "full", options.isLarge);
  await (await suites[name]()).run(recorder);
  process.stdout.write(`${JSON.stringify(recorder.rows)}\n`);
  return 0;
}

async function rowsOf(name: string, pass: "time" | "bytes", options: PassOptions): Promise<Row[]> {
  const main = new URL("../main.ts", import.meta.url).pathname;
  const flags = [...(options.isQuick ? ["--quick"] : []), ...(options.isLarge ? ["--large"] : [])];
  const child = Bun.spawn([process.execPath, main, "micro", name, "--pass", pass, ...flags], {
    stdio: ["ignore", "pipe", "inherit"],
    env: pass === "bytes" ? { ...process.env, BUN_JSC_useGC: "0" } : process.env,
  });
  const text = await child.stdout.text();
  if ((await child.exited) !== 0) throw new Error(`micro ${name} failed in its ${pass} pass`);
  return JSON.parse(text) as Row[];
}

/** The garbage pass uses smaller sizes: a row without a namesake there shows no bytes. */
function merged(rows: Row[], wasted: readonly Row[]): Row[] {
  const bytes = new Map(wasted.map((row) => [row.name, row.bytesPerOp]));
  for (const row of rows) {
    const found = bytes.get(row.name);
    if (found !== undefined) row.bytesPerOp = found;
  }
  return rows;
}

function isMissed(row: Row): boolean {
  return row.max !== undefined && (row.ratio ?? row.value ?? 0) > row.max;
}

function table(rows: readonly Row[]): string {
  const width = Math.max(20, ...rows.map((row) => row.name.length));
  const head = `  ${"".padEnd(width)}${"ns/op".padStart(11)}${"±%".padStart(6)}${"B/op".padStart(8)}${"ratio".padStart(9)}${"goal".padStart(9)}\n`;
  return head + rows.map((row) => `${isMissed(row) ? "!" : " "} ${row.name.padEnd(width)}${cells(row)}\n`).join("");
}

function cells(row: Row): string {
  const goal = row.max === undefined ? "" : `≤ ${row.max}`;
  if (row.value !== undefined) return `${short(row.value)} ${row.unit}`.padStart(34) + goal.padStart(9);
  const ratio = row.ratio === undefined ? "" : `${row.ratio.toFixed(2)} ×`;
  const bytes = row.bytesPerOp === undefined ? "" : row.bytesPerOp < 1 ? "0" : row.bytesPerOp.toFixed(0);
  const spread = row.spreadPercent === undefined ? "" : row.spreadPercent.toFixed(0);
  return `${short(row.nsPerOp!).padStart(11)}${spread.padStart(6)}${bytes.padStart(8)}${ratio.padStart(9)}${goal.padStart(9)}`;
}

function short(value: number): string {
  return value >= 1000 ? Math.round(value).toLocaleString("en") : value >= 100 ? value.toFixed(0) : value.toFixed(1);
}
