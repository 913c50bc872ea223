/**
 * A chart over the last minutes. The canvas is for the eye; what it shows now stands beside it as text, which is what screen
 * readers read. Under the pointer the text shows the values of that moment.
 */
import { useEffect, useRef, useState } from "preact/hooks";
import uPlot from "uplot";
import { useCell } from "./cell.ts";
import { colours } from "./theme.ts";
import { clock, t } from "./words.ts";

const HEIGHT_PIXELS = 168;
const COLOUR_COUNT = 6;
const SPAN_SEC_MIN = 60;
const BYTE_STEPS = Array.from({ length: 40 }, (_, i) => 2 ** i);

export interface Series {
  readonly label: string;
  /** Null: there was nothing to measure. */
  readonly values: readonly (number | null)[];
}

export interface ChartProps {
  readonly title: string;
  /** Seconds since 1970; all series are as long. */
  readonly times: readonly number[];
  readonly series: readonly Series[];
  readonly format: (value: number) => string;
  /** Values are bytes: the axis counts in powers of two. */
  readonly isBytes?: boolean;
  /** What is said instead while there is nothing to show. */
  readonly nothing?: string;
}

export function Chart({ title, times, series, format, isBytes = false, nothing }: ChartProps) {
  const box = useRef<HTMLDivElement>(null);
  const plot = useRef<uPlot>(undefined);
  const [at, setAt] = useState<number | undefined>(undefined);
  const isDrawn = series.length > 0 && times.length > 1;
  const shape = series.map(({ label }) => label).join("\n");
  const palette = useCell(colours);
  const formatNow = useRef(format);
  formatNow.current = format;
  useEffect(() => {
    const target = box.current!;
    if (!isDrawn) return;
    const own = new uPlot(
      optionsOf(target, { count: series.length, isBytes, format: formatNow, onPoint: setAt }),
      dataOf(times, series),
      target,
    );
    plot.current = own;
    const resizing = new ResizeObserver(() => own.setSize({ width: target.clientWidth, height: HEIGHT_PIXELS }));
    resizing.observe(target);
    return () => {
      resizing.disconnect();
      own.destroy();
      plot.current = undefined;
    };
  }, [shape, palette, isDrawn]);
  useEffect(() => plot.current?.setData(dataOf(times, series)), [times]);
  const shown = at !== undefined && at < times.length ? at : times.length - 1;
  return (
    <figure class="chart">
      <figcaption>
        <span class="chart-title">{title}</span>
        {at !== undefined && times[shown] !== undefined && <span class="chart-time">{clock(times[shown] * 1000)}</span>}
        <span class="legend">
          {series.map(({ label, values }, i) => (
            <span key={label} class="legend-item">
              <i aria-hidden="true" class={`colour-${i % COLOUR_COUNT}`} />
              {label} <b>{textOf(values[shown], format)}</b>
            </span>
          ))}
        </span>
      </figcaption>
      <div class="plot" ref={box} aria-hidden="true">
        {!isDrawn && <p class="plot-nothing">{series.length === 0 ? nothing : t("collecting")}</p>}
        {Array.from({ length: COLOUR_COUNT }, (_, i) => (
          <i key={i} class={`swatch colour-${i}`} />
        ))}
        <i class="swatch colour-grid" />
        <i class="swatch colour-axis" />
      </div>
    </figure>
  );
}

function textOf(value: number | null | undefined, format: (value: number) => string): string {
  return value === undefined || value === null ? "–" : format(value);
}

function dataOf(times: readonly number[], series: readonly Series[]): uPlot.AlignedData {
  return [times as number[], ...series.map(({ values }) => values as (number | null)[])];
}

/** A canvas knows no CSS variables: colours are read from elements that have them. */
function colourOf(target: HTMLElement, name: string): string {
  return getComputedStyle(target.querySelector(`.swatch.colour-${name}`)!).color;
}

function optionsOf(
  target: HTMLElement,
  {
    count,
    isBytes,
    format,
    onPoint,
  }: {
    readonly count: number;
    readonly isBytes: boolean;
    readonly format: { readonly current: (value: number) => string };
    readonly onPoint: (at: number | undefined) => void;
  },
): uPlot.Options {
  const axis = {
    stroke: colourOf(target, "axis"),
    grid: { stroke: colourOf(target, "grid"), width: 1 },
    ticks: { show: false },
    font: "11px system-ui, sans-serif",
  };
  return {
    width: target.clientWidth,
    height: HEIGHT_PIXELS,
    padding: [8, 20, 0, 0],
    legend: { show: false },
    cursor: { y: false, drag: { x: false, y: false }, points: { size: 6 } },
    scales: {
      x: { range: (_, min, max) => windowOf(min, max) },
      y: { range: (_, __, max) => [0, max > 0 ? max * 1.1 : 1] },
    },
    axes: [
      {
        ...axis,
        grid: { show: false },
        size: 26,
        space: 72,
        values: (_, splits) => splits.map((sec) => minuteOf(sec)),
      },
      {
        ...axis,
        size: 64,
        space: 36,
        ...(isBytes && { incrs: BYTE_STEPS }),
        values: (_, splits) => splits.map((value) => format.current(value)),
      },
    ],
    series: [
      {},
      ...Array.from({ length: count }, (_, i) => ({
        stroke: colourOf(target, String(i % COLOUR_COUNT)),
        width: 1.5,
        points: { show: false },
        spanGaps: true,
      })),
    ],
    hooks: { setCursor: [({ cursor }) => onPoint(cursor.idx ?? undefined)] },
  };
}

/** At least a minute, so that the first points do not stand alone. */
function windowOf(min: number | null, max: number | null): [number, number] {
  const end = max ?? Date.now() / 1000;
  return [Math.min(min ?? end, end - SPAN_SEC_MIN), end];
}

function minuteOf(sec: number): string {
  const date = new Date(sec * 1000);
  return [date.getHours(), date.getMinutes(), date.getSeconds()].map((part) => String(part).padStart(2, "0")).join(":");
}
