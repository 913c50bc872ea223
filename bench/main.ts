/** `bun run bench` lists the benches; `bun run bench NAME …` runs one. Exit codes: 0 done, 1 above a goal or failed, 2 usage. */

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
    usage: "[--from 5000] [--to 15000] [--types] [--check] [--json FILE]",
    run: async (args) => (await import("./idle/idle.ts")).runIdle(args),
  },
};

function usage(): string {
  const lines = Object.entries(benches).map(
    ([name, bench]) => `  ${name.padEnd(8)}${bench.about}\n${" ".repeat(10)}${bench.usage}`,
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
    const isUsage = error instanceof TypeError && "code" in error && String(error.code).startsWith("ERR_PARSE_ARGS");
    process.stderr.write(isUsage ? `${error.message}\n\n${usage()}` : `${Bun.inspect(error)}\n`);
    return isUsage ? 2 : 1;
  }
}

process.exit(await main(process.argv.slice(2)));
