/**
 * The pictures of the HTML report, as SVG text. Each is drawn 360 units wide, a phone's width, and scales; colours are CSS
 * variables, so light and dark are the page's business. Every string that is not ours goes through `escapeHtml`.
 */

const WIDTH = 360;
const ROW = 40;
const LABEL_AT = 12;
const BAR_AT = 19;
const BAR = 11;

export function escapeHtml(text: string): string {
  const names: Record<string, string> = { "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&#39;" };
  return text.replace(/[&<>"']/g, (c) => names[c]);
}

export interface Bar {
  readonly name: string;
  /** Index of the broker, for its colour. */
  readonly color: number;
  readonly value: number;
  readonly min: number;
  readonly max: number;
  readonly text: string;
  /** Instead of a value: why there is none. */
  readonly fault?: string;
}

/** Horizontal bars from zero, with a line from the smallest to the largest run. */
export function barChart(title: string, bars: readonly Bar[]): string {
  const top = Math.max(...bars.map(({ max }) => max), Number.MIN_VALUE);
  const x = (value: number): number => Math.round((value / top) * (WIDTH - 4) * 10) / 10;
  const rows = bars.map((bar, i) => {
    const y = i * ROW;
    const name = `<text class="name" x="0" y="${y + LABEL_AT}">${escapeHtml(bar.name)}</text>`;
    if (bar.fault !== undefined)
      return `${name}<text class="fault" x="${WIDTH}" y="${y + LABEL_AT}" text-anchor="end">does not count</text><rect class="track" x="0" y="${y + BAR_AT}" width="${WIDTH}" height="${BAR}" rx="3"><title>${escapeHtml(bar.fault)}</title></rect>`;
    const middle = y + BAR_AT + BAR / 2;
    const hasSpread = bar.max > bar.min;
    const whisker = `<path class="whisker" d="M${x(bar.min)} ${middle}H${x(bar.max)}M${x(bar.min)} ${middle - 3}v6M${x(bar.max)} ${middle - 3}v6"/>`;
    return [
      name,
      `<text class="value" x="${WIDTH}" y="${y + LABEL_AT}" text-anchor="end">${escapeHtml(bar.text)}</text>`,
      `<rect class="track" x="0" y="${y + BAR_AT}" width="${WIDTH}" height="${BAR}" rx="3"/>`,
      `<rect class="c${bar.color}" x="0" y="${y + BAR_AT}" width="${Math.max(2, x(bar.value))}" height="${BAR}" rx="3"><title>${escapeHtml(`${bar.name}: ${bar.text}`)}</title></rect>`,
      hasSpread ? whisker : "",
    ].join("");
  });
  return picture(title, bars.length * ROW - 6, rows.join(""));
}

export interface LatencyRow {
  readonly name: string;
  readonly color: number;
  /** p50, p90, p99, p99.9, max in µs, ascending; at most five. */
  readonly points: readonly { readonly label: string; readonly us: number; readonly text: string }[];
}

/** A line for each broker over a logarithmic axis: from the typical message on the left to the latest on the right. */
export function latencyChart(title: string, rows: readonly LatencyRow[]): string {
  const all = rows.flatMap(({ points }) => points.map(({ us }) => Math.max(1, us)));
  const low = Math.floor(Math.log10(Math.min(...all)));
  const high = Math.max(low + 1, Math.ceil(Math.log10(Math.max(...all))));
  const x = (us: number): number =>
    Math.round((8 + ((Math.log10(Math.max(1, us)) - low) / (high - low)) * (WIDTH - 16)) * 10) / 10;
  const bottom = rows.length * ROW;
  const axis = Array.from({ length: high - low + 1 }, (_, i) => {
    const us = 10 ** (low + i);
    const anchor = i === 0 ? "start" : i === high - low ? "end" : "middle";
    const at = i === 0 ? 0 : i === high - low ? WIDTH : x(us);
    return `<path class="grid" d="M${x(us)} 0V${bottom}"/><text class="tick" x="${at}" y="${bottom + 14}" text-anchor="${anchor}">${timeText(us)}</text>`;
  });
  const lines = rows.map(({ name, color, points }, i) => {
    const y = i * ROW + BAR_AT + BAR / 2;
    const said = points.map(({ label, text }) => `${label} ${text}`).join(", ");
    const dots = points.map(
      ({ us, label, text }, k) =>
        `<circle class="dot c${color}" cx="${x(us)}" cy="${y}" r="${[6, 4, 5, 3.5, 3][k]}"><title>${escapeHtml(`${name} ${label}: ${text}`)}</title></circle>`,
    );
    const ends = points.length > 0 ? `M${x(points[0].us)} ${y}H${x(points[points.length - 1].us)}` : "";
    const figures = points
      .filter(({ label }) => label === "p50" || label === "p99")
      .map(({ label, text }) => `${label} ${text}`)
      .join(" · ");
    return `<g><title>${escapeHtml(`${name}: ${said}`)}</title><text class="name" x="0" y="${i * ROW + LABEL_AT}">${escapeHtml(name)}</text><text class="value" x="${WIDTH}" y="${i * ROW + LABEL_AT}" text-anchor="end">${escapeHtml(figures)}</text><path class="line s${color}" d="${ends}"/>${dots.join("")}</g>`;
  });
  return picture(title, bottom + 18, `${axis.join("")}${lines.join("")}`);
}

/** How far a goal is met: 1 is the goal, drawn at the middle; beyond twice or below nothing the end of the scale. */
export function goalMeter(part: number, state: "met" | "missed"): string {
  const width = 100;
  const at = Math.min(1, Math.max(0.02, part / 2)) * width;
  return `<svg class="meter" viewBox="0 0 ${width} 12" role="img" aria-label="${Math.round(part * 100)} per cent of the goal"><rect class="track" x="0" y="3" width="${width}" height="6" rx="3"/><rect class="${state}" x="0" y="3" width="${at.toFixed(1)}" height="6" rx="3"/><path class="mark" d="M${width / 2} 0v12"/></svg>`;
}

function picture(title: string, height: number, body: string): string {
  return `<svg viewBox="0 0 ${WIDTH} ${Math.max(1, height)}" role="img" aria-label="${escapeHtml(title)}">${body}</svg>`;
}

function timeText(us: number): string {
  if (us >= 1e6) return `${us / 1e6} s`;
  return us >= 1000 ? `${us / 1000} ms` : `${us} µs`;
}
