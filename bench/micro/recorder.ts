/**
 * How a micro bench measures. A suite calls `time`, `compare` and `figure`; what these do is the recorder's affair:
 *
 *   Clock   mitata for single timings; tinybench, in alternating rounds, where two ways are compared
 *   Waste   bytes of JavaScript memory an operation leaves behind: run with the collector switched off, growth of RSS
 *   Smoke   every body runs twice, nothing is measured: does the bench still work?
 *
 * A body does many operations a call, so that the clock's own cost vanishes, and returns a value that is kept from the
 * optimizer. `bytes` comes from a process of its own, because a collector that runs hides what it collects.
 */
import { do_not_optimize, measure } from "mitata";
import { Bench } from "tinybench";

export type Body = () => unknown;

export interface Figure {
  readonly value: number;
  readonly unit: "B" | "MB" | "×" | "ns";
  /** The figure must not be above it. */
  readonly max?: number;
}

export interface Row {
  readonly suite: string;
  readonly name: string;
  /** Median, nanoseconds an operation. */
  nsPerOp?: number;
  /** Half the middle half of the samples, in percent of the median. */
  spreadPercent?: number;
  /** Bytes of garbage an operation makes. */
  bytesPerOp?: number;
  /** Against the first way of the same comparison. */
  ratio?: number;
  /** A comparison's goal for `ratio`, or a figure's for `value`. */
  max?: number;
  value?: number;
  unit?: string;
}

export interface Recorder {
  /** `full` as long as it takes, `quick` for a first look (sizes up to 100,000), `smoke` for a check that it works. */
  readonly scale: "full" | "quick" | "smoke";
  readonly isLarge: boolean;
  readonly rows: Row[];
  /** Times a body that does `ops` operations. */
  time(name: string, ops: number, body: Body): Promise<void>;
  /** Times several bodies that do the same in turns; the first is what the others are compared to. */
  compare(name: string, ops: number, ways: Readonly<Record<string, Body>>, ratioMax?: number): Promise<void>;
  figure(name: string, figure: Figure): void;
}

export interface Suite {
  readonly about: string;
  run(recorder: Recorder): Promise<void>;
}

/** `count`, or what the scale allows of it. */
export function sized(recorder: Recorder, count: number): number {
  return Math.min(count, recorder.scale === "full" ? count : recorder.scale === "quick" ? 100_000 : 200);
}

/** Those of `counts` that the scale allows, at least one. */
export function sizes(recorder: Recorder, ...counts: number[]): number[] {
  return [...new Set(counts.map((count) => sized(recorder, count)))];
}

const WARM_UP_MS = 150;
const ROUNDS = 5;

export class Clock implements Recorder {
  readonly rows: Row[] = [];
  private readonly caseMs: number;

  constructor(
    private readonly suite: string,
    readonly scale: "full" | "quick",
    readonly isLarge: boolean,
  ) {
    this.caseMs = scale === "full" ? 400 : 80;
  }

  async time(name: string, ops: number, body: Body): Promise<void> {
    const kept: Body = () => do_not_optimize(body());
    warmUp(kept, this.scale === "full" ? WARM_UP_MS : WARM_UP_MS / 3);
    // A call of a body is one sample: mitata must not put 4,096 of them into one.
    const { p25, p50, p75 } = await measure(kept, { min_cpu_time: this.caseMs * 1e6, batch_threshold: 0 });
    this.rows.push({ suite: this.suite, name, nsPerOp: p50 / ops, spreadPercent: ((p75 - p25) / 2 / p50) * 100 });
  }

  async compare(name: string, ops: number, ways: Readonly<Record<string, Body>>, ratioMax?: number): Promise<void> {
    const entries = Object.entries(ways);
    const medians = entries.map((): number[] => []);
    for (const [, body] of entries) warmUp(() => do_not_optimize(body()), WARM_UP_MS / 3);
    for (let round = 0; round < ROUNDS; round++) {
      const bench = new Bench({ time: this.caseMs / ROUNDS, iterations: 8, warmup: false, throws: true });
      for (const [way, body] of entries) bench.add(way, () => do_not_optimize(body()), { async: false });
      for (const [i, task] of bench.runSync().entries()) {
        if (task.result.state === "completed") medians[i].push((task.result.latency.p50 * 1e6) / ops);
      }
    }
    entries.forEach(([way], i) => {
      const all = medians[i].sort((a, b) => a - b);
      const nsPerOp = all[all.length >> 1];
      const spreadPercent = ((all[all.length - 1] - all[0]) / 2 / nsPerOp) * 100;
      const row: Row = { suite: this.suite, name: `${name}: ${way}`, nsPerOp, spreadPercent };
      if (i > 0) {
        row.ratio = nsPerOp / this.rows[this.rows.length - i].nsPerOp!;
        if (ratioMax !== undefined) row.max = ratioMax;
      }
      this.rows.push(row);
    });
  }

  figure(name: string, { value, unit, max }: Figure): void {
    const row: Row = { suite: this.suite, name, value, unit };
    if (max !== undefined) row.max = max;
    this.rows.push(row);
  }
}

function warmUp(body: Body, ms: number): void {
  const end = performance.now() + ms;
  for (let i = 0; i < 3 || performance.now() < end; i++) body();
}

/** For a process that was started with the collector off. */
export class Waste implements Recorder {
  readonly rows: Row[] = [];
  readonly isLarge = false;
  readonly scale = "quick";

  constructor(private readonly suite: string) {}

  async time(name: string, ops: number, body: Body): Promise<void> {
    const kept: Body = () => do_not_optimize(body());
    warmUp(kept, 60);
    let least = Infinity;
    for (let round = 0; round < 4; round++) {
      const before = process.memoryUsage.rss();
      const end = performance.now() + 15;
      let calls = 0;
      while (calls * ops < 20_000 || (performance.now() < end && calls * ops < 500_000)) {
        kept();
        calls++;
      }
      least = Math.min(least, (process.memoryUsage.rss() - before) / (calls * ops));
    }
    this.rows.push({ suite: this.suite, name, bytesPerOp: Math.max(0, least) });
  }

  async compare(name: string, ops: number, ways: Readonly<Record<string, Body>>): Promise<void> {
    for (const [way, body] of Object.entries(ways)) await this.time(`${name}: ${way}`, ops, body);
  }

  figure(): void {}
}

/** Runs each body; a bench that throws, or that measures nothing, fails. */
export class Smoke implements Recorder {
  readonly rows: Row[] = [];
  readonly isLarge = false;
  readonly scale = "smoke";

  constructor(private readonly suite: string) {}

  async time(name: string, ops: number, body: Body): Promise<void> {
    if (!(ops > 0)) throw new Error(`${this.suite} ${name}: ${ops} operations`);
    for (let i = 0; i < 2; i++) if (body() === undefined) throw new Error(`${this.suite} ${name}: returns nothing`);
    this.rows.push({ suite: this.suite, name });
  }

  async compare(name: string, ops: number, ways: Readonly<Record<string, Body>>): Promise<void> {
    for (const [way, body] of Object.entries(ways)) await this.time(`${name}: ${way}`, ops, body);
  }

  figure(name: string, { value, unit }: Figure): void {
    if (!Number.isFinite(value)) throw new Error(`${this.suite} ${name}: ${value}`);
    this.rows.push({ suite: this.suite, name, value, unit });
  }
}
