/** `bun run bench` lists the benches; `bun run bench NAME …` runs one. Exit codes: 0 done, 1 above a goal or failed, 2 usage. */
import process from "node:process";
import { UsageError } from "./load/options.ts";
import { loadBenches } from "./load/benches.ts";

interface Bench {
  readonly about: string;
  readonly usage: string;
  /** Resolves with the exit code. */
  run(args: readonly string[]): Promise<number>;
}

/** A bench is loaded only when it runs. */
const benches: Readonly<Record<string, Bench>> = {
  idle: {
    about: "memory and CPU of a connected, subscribed, idle client above a bare socket",
    usage: "[--from 5000] [--to 15000] [--warm 20000] [--runs 3] [--types] [--check] [--json FILE]",
    run: async (args) => (await import("./idle/idle.ts")).runIdle(args),
  },
  micro: {
    about: "nanoseconds and bytes of the broker's parts, alone and against others",
    usage: "[NAME…] [--quick] [--large] [--json]",
    run: async (args) => (await import("./micro/micro.ts")).runMicro(args),
  },
  scenario: {
    about: "one scenario against our broker, or another; without a name it lists them",
    usage: "[NAME] [--broker mantou|mosquitto|aedes|NAME=COMMAND] [--generator own|mqload:PATH] [--json]",
    run: async (args) => (await import("./scenarios/catalog.ts")).runScenario(args),
  },
  compare: {
    about: "brokers or commits side by side, with a verdict for each goal and a report; see bench/README.md",
    usage:
      "[goals|guide|durable|access|all|NAME…] [--brokers A,B,NAME=COMMAND] [--commits A,B] [--rounds 3] [--out DIR]",
    run: async (args) => (await import("./compare.ts")).runCompare(args),
  },
  report: {
    about: "the reports of a comparison once more, from its runs",
    usage: "DIR",
    run: async (args) => (await import("./compare.ts")).runReport(args),
  },
  admin: {
    about: "what operators cost a broker with many clients: lists, a scrape, an overview that is looked at",
    usage: "[--clients 10000] [--rounds 10]",
    run: async (args) => (await import("./admin/admin.ts")).runAdmin(args),
  },
  workers: {
    about: "several workers: what a message costs that crosses them (cost), and tens of thousands of clients (crowd)",
    usage: "[cost|crowd] [--rounds 3] [--duration 3] [--clients 60000] [--workers 4] [--hold 45] [--rate 200]",
    run: async (args) => (await import("./workers/workers.ts")).runWorkers(args),
  },
  quick: {
    about: "our broker, and mosquitto if it is installed, in four scenarios: a picture in two minutes",
    usage: "[--generator own|mqload:PATH]",
    run: async (args) => (await import("./quick.ts")).runQuick(args),
  },
  ...loadBenches,
};

function usage(): string {
  const lines = Object.entries(benches).map(
    ([name, bench]) => `  ${name.padEnd(10)}${bench.about}\n${" ".repeat(12)}${bench.usage}`,
  );
  return `Usage: bun run bench NAME [options]\n\nBenches:\n${lines.join("\n")}\n\nHow to read them: bench/README.md\n`;
}

async function main([name, ...args]: readonly string[]): Promise<number> {
  if (name === undefined || name === "--help" || name === "help") {
    process.stdout.write(usage());
    return 0;
  }
  const bench = Object.hasOwn(benches, name) ? benches[name] : undefined;
  if (bench === undefined) {
    process.stderr.write(`there is no bench ${name}\n\n${usage()}`);
    return 2;
  }
  try {
    return await bench.run(args);
  } catch (error) {
    if (error instanceof UsageError) {
      process.stderr.write(`${error.message}\n`);
      return 2;
    }
    const isUsage = error instanceof TypeError && "code" in error && String(error.code).startsWith("ERR_PARSE_ARGS");
    process.stderr.write(isUsage ? `${error.message}\n\n${usage()}` : `${Bun.inspect(error)}\n`);
    return isUsage ? 2 : 1;
  }
}

process.exit(await main(process.argv.slice(2)));
