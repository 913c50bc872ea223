/** `bun run bench workers [cost|crowd]`: what several workers cost, and how many clients they carry. */
import { parseArgs } from "node:util";
import { UsageError } from "#bench/load/options.ts";
import { runCost } from "./cost.ts";
import { runCrowd } from "./crowd.ts";

const FLAGS = {
  clients: { type: "string", default: "60000" },
  workers: { type: "string", default: "4" },
  hold: { type: "string", default: "45" },
  rate: { type: "string", default: "200" },
  rounds: { type: "string", default: "3" },
  duration: { type: "string", default: "3" },
} as const;

export async function runWorkers(args: readonly string[]): Promise<number> {
  const { values, positionals } = parseArgs({ args: [...args], options: FLAGS, strict: true, allowPositionals: true });
  const number = (name: keyof typeof FLAGS, max: number): number => {
    const value = Number(values[name]);
    if (!(value >= 1 && value <= max)) throw new UsageError(`--${name} ${values[name]}: 1 to ${max}`);
    return value;
  };
  const [mode = "cost", ...more] = positionals;
  if (more.length > 0 || (mode !== "cost" && mode !== "crowd")) throw new UsageError("cost or crowd");
  if (mode === "cost") return runCost(number("rounds", 20), number("duration", 60));
  return runCrowd({
    clients: number("clients", 1_000_000),
    workers: number("workers", 64),
    holdSec: number("hold", 600),
    publishesPerSec: number("rate", 100_000),
  });
}
