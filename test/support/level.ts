/**
 * How long the tests may take. `fast` is `bun run test`, `ci` is `bun run test:ci`, `long` is the night's
 * `bun run test:long`; MANTOU_TEST_LEVEL says which, and a wrong value fails instead of quietly running less.
 */
const levels = ["fast", "ci", "long"] as const;

export type Level = (typeof levels)[number];

export function parseLevel(name: string | undefined): Level {
  const found = levels.find((candidate) => candidate === (name ?? "fast"));
  if (found === undefined) throw new Error(`MANTOU_TEST_LEVEL is ${name}; it can be ${levels.join(", ")}`);
  return found;
}

export const level: Level = parseLevel(process.env["MANTOU_TEST_LEVEL"]);

/** Picks the number of rounds (runs, seeds, clients, …) for the level of this run. */
export function rounds(fast: number, ci: number, long: number): number {
  return { fast, ci, long }[level];
}
