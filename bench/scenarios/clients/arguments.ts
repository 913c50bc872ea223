/** What every bench client is told and says: options in, JSON lines out. */
import { parseArgs } from "node:util";
import type { Outcome } from "#bench/scenarios/scenario.ts";

/** Numbers of the command line by name. An option that `defaults` does not name is an error. */
export function numbers<Name extends string>(defaults: Readonly<Record<Name, number>>): Record<Name, number> {
  const names = Object.keys(defaults) as Name[];
  const options = Object.fromEntries(names.map((name) => [name, { type: "string" as const }]));
  const { values } = parseArgs({ args: process.argv.slice(2), options, strict: true });
  const read = (name: Name): number => {
    const value = Number(values[name] ?? defaults[name]);
    if (!Number.isFinite(value) || value < 0) throw new Error(`--${name} ${values[name]} is not a number`);
    return value;
  };
  return Object.fromEntries(names.map((name) => [name, read(name)])) as Record<Name, number>;
}

/** The line that ends a client's work. */
export function report(outcome: Outcome): void {
  process.stdout.write(`${JSON.stringify(outcome)}\n`);
}

/** A companion is ready, works until SIGTERM, then reports. */
export async function untilTold(finish: () => Promise<Outcome>): Promise<void> {
  const told = new Promise<void>((resolve) => process.once("SIGTERM", resolve));
  process.stdout.write(`${JSON.stringify({ ready: true })}\n`);
  await told;
  report(await finish());
  process.exit(0);
}
