import { describe, expect, test } from "bun:test";
import { spread, type Summary } from "#bench/compare/statistics.ts";
import { formatMetric, judge, type Summaries, type Verdict } from "#bench/compare/verdict.ts";
import type { Goal, MetricName, Scenario } from "#bench/scenarios/scenario.ts";

/** Medians, or all runs, by metric. */
type Figures = Partial<Record<MetricName, number | number[]>>;

function summary(figures: Figures): Summary {
  return Object.fromEntries(Object.entries(figures).map(([name, value]) => [name, spread([value].flat())]));
}

function verdict(goal: Partial<Goal>, brokers: Record<string, Record<string, Figures>>): Verdict {
  const whole: Goal = {
    text: "goal",
    part: "run",
    metric: "speed",
    bound: "at least",
    factor: 2,
    reference: {
      kind: "peer",
      broker: "flashmq",
    },
    ...goal,
  };
  const scenario: Scenario = {
    name: "s",
    title: "S",
    purpose: "p",
    shows: [],
    parts: [
      {
        name: "run",
        load: {
          kind: "rtt",
          qos: 0,
        },
      },
    ],
    goals: [whole],
  };
  const summaries: Summaries = new Map(
    Object.entries(brokers).map(([name, parts]) => [
      name,
      new Map(Object.entries(parts).map(([part, figures]) => [part, summary(figures)])),
    ]),
  );
  return judge(scenario, "mantou", summaries)[0];
}

const peer = { run: { messagesPerSec: 100, brokerUsPerMessage: 10, generatorCpuPct: 50 } };

describe("speed", () => {
  test("is decided by messages a second while the generator has room", () => {
    const ours = { run: { messagesPerSec: 190, brokerUsPerMessage: 2, generatorCpuPct: 90 } };
    const found = verdict({}, { mantou: ours, FlashMQ: peer });
    expect(found).toMatchObject({ state: "missed", ratio: 1.9, otherRatio: 5, metric: "messagesPerSec" });
    expect(found.text).toBe("1.90 × FlashMQ by messages/s (5.00 × by CPU per message)");
  });

  test.each(["mantou", "flashmq"])("is decided by CPU per message when the generator of %s was the limit", (name) => {
    const brokers = {
      mantou: { run: { messagesPerSec: 190, brokerUsPerMessage: 2, generatorCpuPct: 50 } },
      flashmq: { run: { ...peer.run } },
    };
    brokers[name as "mantou"].run.generatorCpuPct = 91;
    const found = verdict({}, brokers);
    expect(found).toMatchObject({ state: "met", ratio: 5, otherRatio: 1.9, metric: "brokerUsPerMessage" });
  });

  test("against another part of our own", () => {
    const reference = { kind: "part", part: "quiet" } as const;
    const goal = { part: "churn", factor: 0.8, reference };
    const at = (messagesPerSec: number) => verdict(goal, { mantou: { quiet: peer.run, churn: { messagesPerSec } } });
    expect(at(80).state).toBe("met");
    expect(at(79).state).toBe("missed");
  });
});

describe("a figure", () => {
  const goal = { metric: "p99Us", bound: "at most", factor: 0.9 } as const;

  test("at most a share of a peer's, the bound included", () => {
    const at = (p99Us: number) => verdict(goal, { mantou: { run: { p99Us } }, flashmq: { run: { p99Us: 100 } } });
    expect(at(90)).toMatchObject({ state: "met", ratio: 0.9 });
    expect(at(91)).toMatchObject({ state: "missed", ratio: 0.91 });
    expect(at(91).text).toBe("91.0 µs against 100 µs of flashmq: 0.91 ×");
  });

  test("the best peer is the lowest where low is better, and never ourselves", () => {
    const brokers = { mantou: { run: { p99Us: 1 } }, a: { run: { p99Us: 70 } }, b: { run: { p99Us: 50 } } };
    const found = verdict({ ...goal, reference: { kind: "best peer" } }, brokers);
    expect(found).toMatchObject({ state: "met", ratio: 0.02 });
    expect(found.text).toContain("of b");
  });

  test("against a number", () => {
    const bound = { metric: "bytesAboveBare", bound: "at most", factor: 600, reference: { kind: "number" } } as const;
    expect(verdict(bound, { mantou: { run: { bytesAboveBare: 600 } } })).toMatchObject({ state: "met", ratio: 1 });
    expect(verdict(bound, { mantou: { run: { bytesAboveBare: 720 } } })).toMatchObject({ state: "missed", ratio: 1.2 });
  });
});

describe("open", () => {
  test.each<[string, Record<string, Record<string, Figures>>]>([
    ["mantou has no valid run", { flashmq: peer }],
    ["flashmq was not measured", { mantou: peer, mosquitto: peer }],
    ["flashmq has no valid run", { mantou: peer, flashmq: { other: {} } }],
    ["no messages per second", { mantou: { run: {} }, flashmq: peer }],
  ])("%s", (text, brokers) => {
    const found = verdict({}, brokers);
    expect(found.state).toBe("open");
    expect(found.text).toContain(text);
  });
});

test("a verdict is clear only when no pair of runs says otherwise", () => {
  const theirs = { run: { messagesPerSec: [100, 100, 120] } };
  const at = (messagesPerSec: number[]) => verdict({}, { mantou: { run: { messagesPerSec } }, flashmq: theirs });
  expect(at([250, 300, 310])).toMatchObject({ state: "met", isClear: true });
  expect(at([230, 300, 310])).toMatchObject({ state: "met", isClear: false });
  expect(at([150, 180, 230])).toMatchObject({ state: "missed", isClear: false });
});

test("figures are written with three digits and their unit", () => {
  expect(formatMetric("messagesPerSec", 5_812_345)).toBe("5.81 M/s");
  expect(formatMetric("messagesPerSec", 122_000)).toBe("122 k/s");
  expect(formatMetric("brokerUsPerMessage", 0.142)).toBe("0.14 µs");
  expect(formatMetric("p99Us", 43_012)).toBe("43.0 ms");
  expect(formatMetric("maxUs", 2_500_000)).toBe("2.50 s");
  expect(formatMetric("bytesPerClient", 734)).toBe("734 B");
  expect(formatMetric("rssBytes", 1_940_000_000)).toBe("1.94 GB");
  expect(formatMetric("generatorCpuPct", 91.4)).toBe("91 %");
});
