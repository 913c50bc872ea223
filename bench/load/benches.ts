/** The load generator's commands as benches of bench/main.ts. The generator itself is loaded only when one runs. */
import type { Command } from "./plan.ts";

const abouts: Readonly<Record<Command, string>> = {
  conn: "opens many clients and holds them",
  pub: "publishes on a timetable",
  sub: "subscribes, counts and checks what comes",
  pair: "each publisher with its own topic and subscriber",
  fanin: "many publishers, a wildcard subscriber",
  fanout: "one publisher, many subscribers of one topic",
  rtt: "one message at a time, there and back",
};

export const loadBenches = Object.fromEntries(
  Object.entries(abouts).map(([name, about]) => [
    name,
    {
      about: `load: ${about}`,
      usage: "-h HOST -p PORT …; --help shows all options",
      run: async (args: readonly string[]) => (await import("./load.ts")).runLoad(name as Command, args),
    },
  ]),
);
