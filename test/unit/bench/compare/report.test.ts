import { describe, expect, test } from "bun:test";
import { type Head, parseLines, type Section, sectionsOf } from "#bench/compare/report-data.ts";
import { renderHtml } from "#bench/compare/report-html.ts";
import { renderMarkdown } from "#bench/compare/report-markdown.ts";
import type { Recorded } from "#bench/compare/rotation.ts";
import { barChart, escapeHtml, latencyChart } from "#bench/compare/svg.ts";
import { scenarios } from "#bench/scenarios/catalog.ts";

const HOSTILE = `<script>alert("1")</script>|'&\n# x`;
const head: Head = {
  type: "compare",
  startedAt: "2030-01-02T03:04:05Z",
  machine: {
    cpu: "CPU <1>",
    cores: 2,
    memoryBytes: 2 ** 34,
    kernel: "linux 6",
    bun: "1",
    pinning: "pinned",
  },
  brokers: [
    {
      name: "mantou",
      version: "abc",
      isOwn: true,
    },
    {
      name: "flashmq",
      version: "1",
      isOwn: false,
    },
    {
      name: HOSTILE,
      version: HOSTILE,
      isOwn: false,
    },
  ],
  generator: "mqload",
  rounds: 2,
  durationSec: 4,
  warmupSec: 1,
  scenarios: ["pair", "rtt-qos0", "fanin"],
};

function run(broker: string, messagesPerSec: number, rest: Partial<Recorded> = {}): Recorded {
  return {
    scenario: "pair",
    part: "run",
    broker,
    round: 1,
    startedAt: "",
    isDisturbed: false,
    isKept: true,
    faults: [],
    metrics: {
      messagesPerSec,
      brokerUsPerMessage: 1e6 / messagesPerSec,
      p50Us: 50,
      p99Us: 200,
      generatorCpuPct: 50,
    },
    ...rest,
  };
}

const runs: Recorded[] = [
  run("mantou", 3_000_000),
  run("mantou", 3_200_000, { round: 2, isDisturbed: true }),
  run("flashmq", 1_000_000),
  run(HOSTILE, 1, { faults: [`3 lost ${HOSTILE}`] }),
  run("mantou", 20_000, { scenario: "rtt-qos0" }),
];
const sections = sectionsOf({ head, runs }, scenarios);
const html = renderHtml(head, sections);
const markdown = renderMarkdown(head, sections);

test("sections follow the head, without those that have no run", () => {
  expect(sections.map(({ scenario }) => scenario.name)).toEqual(["pair", "rtt-qos0"]);
  const pair = sections[0] as Section;
  expect(
    pair.rows.map(({ broker, runCount, failedCount, disturbedCount }) => [
      broker,
      runCount,
      failedCount,
      disturbedCount,
    ]),
  ).toEqual([
    ["mantou", 2, 0, 1],
    ["flashmq", 1, 0, 0],
    [HOSTILE, 1, 1, 0],
  ]);
  expect(pair.verdicts).toMatchObject([{ broker: "mantou", state: "met", ratio: 3.1 }]);
});

test("JSON lines give the same data back, whatever else is among them", () => {
  const lines = [head, ...runs.map((one) => ({ type: "run", ...one })), { type: "verdict", goal: "x" }];
  const data = parseLines(lines.map((line) => `${JSON.stringify(line)}\n`).join(""));
  expect(renderHtml(data.head, sectionsOf(data, scenarios))).toBe(html);
  expect(() => parseLines(`{"type":"run"}\n`)).toThrow("no line of type compare");
});

describe("HTML", () => {
  test("is one page that loads nothing and runs nothing", () => {
    expect(html).toStartWith("<!doctype html>");
    expect(html).not.toMatch(/<(script|link|img|iframe|object)\b|@import|url\(|https?:|\bon\w+=/i);
    expect(html).toContain("prefers-color-scheme:dark");
    expect(html).toContain('name="viewport"');
  });

  test("elements are balanced", async () => {
    const open: string[] = [];
    for (const [, close, name, rest] of html.matchAll(/<(\/?)([a-z][a-z0-9]*)\b([^>]*)>/gi)) {
      if (/^(meta|br)$/.test(name) || rest.endsWith("/")) continue;
      if (close === "") open.push(name);
      else expect(open.pop()).toBe(name);
    }
    expect(open).toEqual([]);
  });

  test("nothing from outside becomes markup", () => {
    expect(html).not.toContain("<script");
    expect(html).not.toContain("CPU <1>");
    expect(html).toContain("&lt;script&gt;alert(&quot;1&quot;)&lt;/script&gt;");
  });

  test("has its structure: goals, an article a scenario, pictures, figures", () => {
    const count = (pattern: RegExp): number => [...html.matchAll(pattern)].length;
    expect([...html.matchAll(/<section id="([^"]+)"/g)].map(([, id]) => id)).toEqual([
      "goals",
      "overview",
      "pair",
      "rtt-qos0",
    ]);
    expect(html).toContain('<b class="met">1</b> met <b class="missed">0</b> missed <b class="open">1</b> open');
    expect(count(/<figure>/g)).toBe(4);
    expect(count(/class="meter"/g)).toBe(1);
    expect(count(/<details>/g)).toBe(2);
    expect(html).toContain("3.10 M/s");
    expect(html).toContain("does not count");
  });
});

describe("Markdown", () => {
  test("tables are whole, and names cannot break them", () => {
    const rows = markdown.split("\n").filter((line) => line.startsWith("| "));
    const cells = (row: string): number => row.replace(/\\./g, "").split("|").length;
    expect(rows.length).toBeGreaterThan(8);
    for (let i = 1; i < rows.length; i++)
      if (rows[i].startsWith("| ---")) expect(cells(rows[i])).toBe(cells(rows[i - 1]));
    expect(markdown).not.toContain("<script>");
    const hostile = rows.filter((row) => row.includes("script"));
    expect(hostile.length).toBe(2);
    expect(cells(hostile.at(-1)!)).toBe(cells(rows.find((row) => row.startsWith("| mantou"))!));
  });

  test("shows medians with their range, ratios, and what failed", () => {
    expect(markdown).toContain("3.10 M/s (3.00 M/s – 3.20 M/s)");
    expect(markdown).toContain("| met | 3.10 × flashmq by messages/s (3.10 × by CPU per message) |");
    expect(markdown).toMatch(/1, 1 failed: 3 lost/);
    expect(markdown).toContain("2, 1 disturbed");
    expect(markdown).toContain("| **3.10 M/s**; 0.32 µs CPU each; generator 50 % | 1.00 M/s; 1.00 µs CPU each;");
    expect(markdown).toContain("| does not count |");
  });
});

describe("pictures", () => {
  test("bars are in proportion, from zero", () => {
    const bar = { color: 0, text: "t" };
    const svg = barChart("t", [
      { ...bar, name: "a", value: 50, min: 40, max: 60 },
      { ...bar, name: "b", value: 100, min: 100, max: 100 },
    ]);
    const widths = [...svg.matchAll(/class="c0"[^>]*width="([\d.]+)"/g)].map(([, width]) => Number(width));
    expect(widths[1] / widths[0]).toBeCloseTo(2, 1);
    expect([...svg.matchAll(/class="whisker"/g)]).toHaveLength(1);
    expect(svg).not.toContain("NaN");
  });

  test("latency is logarithmic, and one value or zero does not break it", () => {
    const at = (us: number) => [{ name: "a", color: 0, points: [{ label: "p50", us, text: "x" }] }];
    for (const us of [0, 1, 100, 3e6]) expect(latencyChart("t", at(us))).not.toMatch(/NaN|Infinity/);
    const points = [10, 100, 1000].map((us, i) => ({ label: `p${i}`, us, text: "x" }));
    const svg = latencyChart("t", [{ name: "a", color: 0, points }]);
    const [first, second, third] = [...svg.matchAll(/cx="([\d.]+)"/g)].map(([, x]) => Number(x));
    expect(second - first).toBeCloseTo(third - second, 0);
  });

  test("escapes what HTML would read", () => {
    expect(escapeHtml(`<a href="x">'&`)).toBe("&lt;a href=&quot;x&quot;&gt;&#39;&amp;");
  });
});
