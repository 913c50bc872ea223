import { describe, expect, test } from "bun:test";
import type { Broker } from "#bench/compare/brokers.ts";
import { cleanerOf, type Run } from "#bench/compare/measure.ts";
import { places, type Recorded, summariesOf } from "#bench/compare/rotation.ts";
import { limitOf } from "#bench/quick.ts";
import { scenarioOf, scenarios } from "#bench/scenarios/catalog.ts";
import { metricKinds } from "#bench/scenarios/scenario.ts";
import { spread } from "#bench/compare/statistics.ts";
import { parseMachine } from "#bench/compare/machine-usage.ts";

const broker = (name: string, isOwn = false): Broker => ({ name, version: "1", isOwn, command: () => [] });
const brokers = [broker("mantou", true), broker("b")];

function run(rest: Partial<Recorded>): Recorded {
  return {
    scenario: "pair",
    part: "run",
    broker: "mantou",
    round: 1,
    startedAt: "",
    isDisturbed: false,
    isKept: true,
    metrics: {},
    faults: [],
    ...rest,
  };
}

describe("order", () => {
  test("A B A B: brokers take turns within each part, rounds repeat all", () => {
    const found = places({ rounds: 2, scenarios: [{ scenario: scenarioOf("churn"), brokers }] });
    const text = found.map((place) => `${place.round}${place.part.name[0]}${place.broker.name[0]}`);
    expect(text).toEqual(["1qm", "1qb", "1cm", "1cb", "2qm", "2qb", "2cm", "2cb"]);
  });

  test("a costly scenario has fewer rounds, and the footprint is our own only", () => {
    const count = (name: string) => places({ rounds: 3, scenarios: [{ scenario: scenarioOf(name), brokers }] }).length;
    expect(count("subs-10m")).toBe(4);
    expect(count("idle")).toBe(9);
  });
});

describe("of two runs", () => {
  const quiet = run({ metrics: { otherCpuPct: 3, stealPct: 1 } });
  const noisy = run({ metrics: { otherCpuPct: 30, stealPct: 1 }, isDisturbed: true });
  test("the less disturbed one counts, unless it failed", () => {
    expect(cleanerOf(noisy, quiet)).toBe(quiet);
    expect(cleanerOf(quiet, noisy)).toBe(quiet);
    const failed: Run = { ...quiet, faults: ["1 lost"] };
    expect(cleanerOf(noisy, failed)).toBe(noisy);
    expect(cleanerOf(failed, noisy)).toBe(noisy);
  });
});

test("medians are of runs that were kept and have no faults", () => {
  const rate = (messagesPerSec: number, rest: Partial<Recorded> = {}) => run({ metrics: { messagesPerSec }, ...rest });
  const runs = [
    rate(10),
    rate(30),
    rate(20),
    rate(1000, { faults: ["1 lost"] }),
    rate(2000, { isKept: false }),
    rate(3000, { broker: "b", faults: ["2 duplicates"] }),
    rate(4000, { scenario: "fanin" }),
  ];
  const summaries = summariesOf(runs, scenarioOf("pair"));
  expect(summaries.get("mantou")?.get("run")?.messagesPerSec).toEqual({ median: 20, min: 10, max: 30, count: 3 });
  expect(summaries.has("b")).toBe(false);
});

describe("the catalog", () => {
  test("names are unique, and fit for a command line and a link", () => {
    const names = scenarios.map(({ name }) => name);
    expect(new Set(names).size).toBe(names.length);
    for (const name of names) expect(name).toMatch(/^[a-z0-9-]+$/);
  });

  test.each(scenarios.map((scenario) => [scenario.name, scenario] as const))("%s is whole", (_, scenario) => {
    const parts = new Set(scenario.parts.map(({ name }) => name));
    expect(parts.size).toBe(scenario.parts.length);
    expect(scenario.purpose).toEndWith(scenario.purpose.includes("?") ? "?" : ".");
    for (const { part, reference, metric } of scenario.goals) {
      expect(parts).toContain(part);
      if (reference.kind === "part") expect(parts).toContain(reference.part);
      if (metric !== "speed") expect(metricKinds).toHaveProperty(metric);
    }
  });

  test("an unknown name is told with those that are", () => {
    expect(() => scenarioOf("pairs")).toThrow(/there is no scenario pairs[^]*fan-in/i);
  });
});

test("the limit is named by what was busy", () => {
  const of = (broker: number, generator: number, other = 0) =>
    limitOf({ brokerCpuPct: spread([broker]), generatorCpuPct: spread([generator]), otherCpuPct: spread([other]) });
  expect(of(99, 40)).toStartWith("the broker's core");
  expect(of(60, 95)).toStartWith("the generator");
  expect(of(97, 95)).toStartWith("both sides");
  expect(of(40, 40)).toStartWith("waiting");
  expect(of(99, 40)).not.toContain("other programs");
  expect(of(99, 40, 50)).toStartWith("other programs, which used 50 %");
});

test("the machine's CPU time: steal apart, idle and waiting left out", () => {
  expect(parseMachine("cpu  100 10 50 9000 70 5 5 30 0 0\ncpu0 1 1 1 1 1 1 1 1\n")).toEqual({
    busySec: 1.7,
    stealSec: 0.3,
  });
});
