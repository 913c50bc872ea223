/**
 * The report as one HTML page that needs nothing else: no script, no network. Goals first, then for each scenario the
 * pictures that tell it and its figures in full. Reads on a phone, follows the reader's choice of light or dark.
 */
import { type MetricName, metricKinds } from "#bench/scenarios/scenario.ts";
import { machineText } from "./machine.ts";
import { cellNotes, type Head, type OverviewRow, overviewOf, type Row, type Section } from "./report-data.ts";
import { methodText, ratiosOf, runText, shownOf } from "./report-markdown.ts";
import { stylesheet } from "./report-style.ts";
import { type Bar, barChart, escapeHtml, goalMeter, latencyChart, type LatencyRow } from "./svg.ts";
import { formatMetric, times, type Verdict } from "./verdict.ts";

/** As many as the stylesheet has; further brokers begin again. */
const COLORS = 6;
const percentiles: readonly [MetricName, string][] = [
  ["p50Us", "p50"],
  ["p90Us", "p90"],
  ["p99Us", "p99"],
  ["p999Us", "p99.9"],
  ["maxUs", "max"],
];

export function renderHtml(head: Head, sections: readonly Section[]): string {
  const title = `${head.brokers.map(({ name }) => name).join(", ")}: MQTT brokers compared`;
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>${escapeHtml(title)}</title>
<style>${stylesheet}</style>
</head>
<body>
<header>
<h1>MQTT brokers, side by side</h1>
<p class="lead">${escapeHtml(head.startedAt.slice(0, 10))} · ${escapeHtml(machineText(head.machine))}</p>
<ul class="brokers">${head.brokers.map(({ name, version }, i) => `<li><i class="b${i % COLORS}"></i><b>${escapeHtml(name)}</b> ${escapeHtml(version)}</li>`).join("")}</ul>
</header>
<main>
${goals(sections)}
${overview(sections, head)}
${sections.map((section) => article(section, head)).join("\n")}
</main>
<footer><h2>How it was measured</h2><p>${escapeHtml(methodText(head))}</p></footer>
</body>
</html>
`;
}

function goals(sections: readonly Section[]): string {
  const all = sections.flatMap(({ scenario, verdicts }) => verdicts.map((verdict) => ({ scenario, verdict })));
  if (all.length === 0) return "";
  const count = (state: Verdict["state"]): number => all.filter(({ verdict }) => verdict.state === state).length;
  const rows = all.map(({ scenario, verdict }) => {
    const goal = scenario.goals.find(({ text }) => text === verdict.goal);
    const part =
      goal === undefined || verdict.ratio === undefined ? undefined : partOfGoal(verdict.ratio, goal.factor, goal);
    return `<tr><td><a href="#${scenario.name}">${escapeHtml(scenario.title)}</a><small>${escapeHtml(verdict.goal)}</small></td><td>${pill(verdict)}</td><td class="meters">${part === undefined || verdict.state === "open" ? "" : goalMeter(part, verdict.state)}</td><td>${escapeHtml(verdict.text)}${verdict.isClear || verdict.state === "open" ? "" : "<small>the spreads of both sides leave it open</small>"}</td></tr>`;
  });
  return `<section id="goals"><h2>Goals</h2><p class="score"><b class="met">${count("met")}</b> met <b class="missed">${count("missed")}</b> missed <b class="open">${count("open")}</b> open</p><div class="scroll"><table class="goals"><thead><tr><th>goal</th><th></th><th>0 · goal · 2 ×</th><th>measured</th></tr></thead><tbody>${rows.join("")}</tbody></table></div></section>`;
}

function overview(sections: readonly Section[], head: Head): string {
  const rows = overviewOf(sections, head).map(overviewRow);
  if (rows.length === 0) return "";
  const heads = head.brokers.map(({ name }, i) => `<th><i class="b${i % COLORS}"></i>${escapeHtml(name)}</th>`);
  return `<section id="overview"><h2>Side by side</h2><p>Medians; percentages are of one core.</p><div class="scroll"><table class="overview"><thead><tr><th></th>${heads.join("")}</tr></thead><tbody>${rows.join("")}</tbody></table></div></section>`;
}

function overviewRow({ scenario, part, metric, cells }: OverviewRow): string {
  const texts = cells.map((cell) => {
    if (cell === undefined) return "";
    const spread = cell.summary?.[metric];
    if (spread === undefined) return `<span class="bad">does not count</span>`;
    const text = formatMetric(metric, spread.median);
    const notes = cellNotes(cell, metric).map((note) => `<small>${escapeHtml(note)}</small>`);
    return `${cell.isBest ? `<b>${text}</b>` : text}${notes.join("")}`;
  });
  const name = `${scenario.title}${scenario.parts.length > 1 ? `, ${part}` : ""}`;
  return `<tr><th scope="row">${escapeHtml(name)}<small>${escapeHtml(metricKinds[metric].title)}</small></th>${texts.map((text) => `<td>${text}</td>`).join("")}</tr>`;
}

/** 1 is the goal itself, more is better. A ratio against a number already has the bound in it. */
function partOfGoal(ratio: number, factor: number, goal: Section["scenario"]["goals"][number]): number {
  const bound = goal.reference.kind === "number" ? 1 : factor;
  return goal.bound === "at least" ? ratio / bound : bound / Math.max(ratio, 1e-9);
}

function pill({ state }: Verdict): string {
  return `<span class="pill ${state}">${state}</span>`;
}

function article({ scenario, rows }: Section, head: Head): string {
  const pictures = [
    ...scenario.shows.filter((name) => !isLatency(name)).map((name) => bars(name, rows, head)),
    latencies(scenario.shows, rows, head),
  ].filter(Boolean);
  return `<section id="${scenario.name}"><h2>${escapeHtml(scenario.title)}</h2><p>${escapeHtml(scenario.purpose)}</p><div class="grid">${pictures.join("")}</div><details><summary>All figures</summary>${figures(scenario.shows, rows, head)}</details></section>`;
}

function isLatency(name: MetricName): boolean {
  return percentiles.some(([percentile]) => percentile === name);
}

function bars(name: MetricName, rows: readonly Row[], head: Head): string {
  const drawn = rows.flatMap((row): Bar[] => {
    const spread = row.summary?.[name];
    const common = { name: label(row, rows), color: colorOf(row, head) };
    // Of a broker with valid runs, a figure that is not there does not apply.
    if (spread === undefined)
      return row.summary === undefined && row.faults.length > 0
        ? [{ ...common, value: 0, min: 0, max: 0, text: "", fault: row.faults.join("; ") }]
        : [];
    return [
      { ...common, value: spread.median, min: spread.min, max: spread.max, text: formatMetric(name, spread.median) },
    ];
  });
  if (!drawn.some(({ fault }) => fault === undefined)) return "";
  const { title, isLowBetter } = metricKinds[name];
  return figure(title, isLowBetter ? "shorter is better" : "longer is better", barChart(title, drawn));
}

function latencies(shows: readonly MetricName[], rows: readonly Row[], head: Head): string {
  if (!shows.some(isLatency)) return "";
  const shown = percentiles.filter(([name]) => name !== "maxUs" || shows.includes("maxUs"));
  const drawn = rows.flatMap((row): LatencyRow[] => {
    const points = shown.flatMap(([name, text]) => {
      const spread = row.summary?.[name];
      return spread === undefined ? [] : [{ label: text, us: spread.median, text: formatMetric(name, spread.median) }];
    });
    return points.length === 0 ? [] : [{ name: label(row, rows), color: colorOf(row, head), points }];
  });
  if (drawn.length === 0) return "";
  return figure(
    "latency",
    `${shown.map(([, text]) => text).join(", ")}; left is better`,
    latencyChart("latency", drawn),
  );
}

function figure(title: string, hint: string, picture: string): string {
  return `<figure><figcaption>${escapeHtml(title)} <small>${escapeHtml(hint)}</small></figcaption>${picture}</figure>`;
}

/** The part is named where there are several. */
function label({ broker, part }: Row, rows: readonly Row[]): string {
  const hasParts = rows.some((other) => other.part !== part);
  const hasBrokers = rows.some((other) => other.broker !== broker);
  if (!hasParts) return broker;
  return hasBrokers ? `${broker}, ${part}` : part;
}

function colorOf({ broker }: Row, head: Head): number {
  return head.brokers.findIndex(({ name }) => name === broker) % COLORS;
}

function figures(shows: readonly MetricName[], rows: readonly Row[], head: Head): string {
  const names = shownOf(shows, rows);
  const subject = head.brokers[0].name;
  const hasRatios = rows.some(({ broker }) => broker !== subject);
  const ratioHeads = hasRatios ? [`${subject} by messages/s`, `${subject} by CPU`] : [];
  const heads = ["", ...names.map((name) => metricKinds[name].title), ...ratioHeads, "runs"];
  const body = rows.map((row) => {
    const cells = names.map((name) => {
      const spread = row.summary?.[name];
      if (spread === undefined) return "";
      const range =
        spread.count === 1
          ? ""
          : `<small>${formatMetric(name, spread.min)} – ${formatMetric(name, spread.max)}</small>`;
      return `${formatMetric(name, spread.median)}${range}`;
    });
    const { rate, cpu } = ratiosOf(row, rows, subject);
    const ratios = hasRatios ? [rate, cpu].map((ratio) => (ratio === undefined ? "" : times(ratio))) : [];
    const all = [...cells, ...ratios, escapeHtml(runText(row))];
    return `<tr><th scope="row">${escapeHtml(label(row, rows))}</th>${all.map((cell) => `<td>${cell}</td>`).join("")}</tr>`;
  });
  return `<div class="scroll"><table class="figures"><thead><tr>${heads.map((text) => `<th>${escapeHtml(text)}</th>`).join("")}</tr></thead><tbody>${body.join("")}</tbody></table></div>`;
}
