/**
 * The live feed: one stream of the broker's overviews, once a second, for all that shows figures. It rests while the page is hidden
 * or nobody has signed in, and comes back by itself; what was missed, or was before, comes first, an overview every five seconds.
 *
 *   overview ─► latest     as it came
 *            └► history    columns of the last minutes: rates are differences of counters
 */
import type { Alarm, Histogram, Overview } from "./answers.ts";
import { API, findSession, session } from "./api.ts";
import { Cell } from "./cell.ts";

const HISTORY_SEC = 300;
const RETRY_MS = 3000;
/** Overviews come each second: when none has for so long, the connection is lost, whatever the browser thinks. */
const SILENCE_MS = 10_000;

export interface Sample {
  readonly atSec: number;
  readonly connections: number;
  readonly receivedPerSec: number;
  readonly sentPerSec: number;
  readonly bytesInPerSec: number;
  readonly bytesOutPerSec: number;
  readonly droppedPerSec: Readonly<Record<string, number>>;
  readonly lagMs: Readonly<Record<string, number>>;
  readonly memoryBytes: Readonly<Record<string, number>>;
  /** Of one core, by process id. */
  readonly cpuPercent: Readonly<Record<string, number>>;
  /** Milliseconds of what was sent, of what had waited, of what was committed since the sample before; null: nothing was. */
  readonly deliveryMs: { readonly median: number; readonly most: number } | null;
  readonly queueMs: number | null;
  readonly commitMs: number | null;
}

export const latest = new Cell<Overview | undefined>(undefined);
export const history = new Cell<readonly Sample[]>([]);
export const link = new Cell<"connecting" | "live" | "lost" | "paused">("connecting");
export const alarmNews = new Cell<Alarm | undefined>(undefined);

let source: EventSource | undefined;
let retry: ReturnType<typeof setTimeout> | undefined;
let silence: ReturnType<typeof setTimeout> | undefined;

/** Follows the session and whether the page can be seen, for as long as the page lives. */
export function startFeed(): void {
  session.follow(adjust);
  document.addEventListener("visibilitychange", adjust);
  adjust();
}

function adjust(): void {
  const isWanted = Boolean(session.value) && !document.hidden;
  if (isWanted && !source) open();
  if (isWanted) return;
  close();
  if (document.hidden) link.set("paused");
  else {
    latest.set(undefined);
    history.set([]);
  }
}

function open(): void {
  clearTimeout(retry);
  if (link.value !== "lost") link.set("connecting");
  source = new EventSource(`${API}/feed?since=${latest.value?.nowMs ?? 0}`);
  source.addEventListener("history", ({ data }: MessageEvent<string>) => take(JSON.parse(data) as Overview[]));
  source.addEventListener("overview", ({ data }: MessageEvent<string>) => take([JSON.parse(data) as Overview]));
  source.addEventListener("alarm", ({ data }: MessageEvent<string>) => alarmNews.set(JSON.parse(data) as Alarm));
  source.addEventListener("error", lose);
  listenForSilence();
}

function close(): void {
  clearTimeout(retry);
  clearTimeout(silence);
  source?.close();
  source = undefined;
}

function listenForSilence(): void {
  clearTimeout(silence);
  silence = setTimeout(lose, SILENCE_MS);
}

function lose(): void {
  close();
  link.set("lost");
  retry = setTimeout(() => {
    // Whether it is the network or the session that has ended shows when somebody asks.
    findSession().then(adjust, lose);
  }, RETRY_MS);
}

function take(overviews: readonly Overview[]): void {
  link.set("live");
  listenForSilence();
  const samples = [...history.value];
  let before = latest.value;
  for (const overview of overviews) {
    if (before && overview.nowMs > before.nowMs) samples.push(sampleOf(before, overview));
    before = overview;
  }
  if (!before) return;
  const fromSec = before.nowMs / 1000 - HISTORY_SEC;
  latest.set(before);
  history.set(samples.filter(({ atSec }) => atSec >= fromSec));
}

function sampleOf(before: Overview, now: Overview): Sample {
  const sec = (now.nowMs - before.nowMs) / 1000;
  const rate = (name: string): number => Math.max(0, ((now.counters[name] ?? 0) - (before.counters[name] ?? 0)) / sec);
  const sum = (way: string): number => [0, 1, 2].reduce((total, qos) => total + rate(`messages.qos${qos}.${way}`), 0);
  const { processes } = now.info;
  const dropped = Object.keys(now.counters).filter((name) => name.startsWith(DROPPED));
  const cpuOf = (pid: number): number => before.info.processes.find((each) => each.pid === pid)?.cpuMs ?? NaN;
  return {
    atSec: now.nowMs / 1000,
    connections: now.stats.connections.value,
    receivedPerSec: sum("received"),
    sentPerSec: sum("sent"),
    bytesInPerSec: rate("bytes.received"),
    bytesOutPerSec: rate("bytes.sent"),
    droppedPerSec: Object.fromEntries(dropped.map((name) => [name.slice(DROPPED.length), rate(name)])),
    lagMs: Object.fromEntries(processes.map(({ pid, lagMs }) => [pid, lagMs])),
    memoryBytes: Object.fromEntries(processes.map(({ pid, memoryBytes }) => [pid, memoryBytes])),
    cpuPercent: Object.fromEntries(processes.map(({ pid, cpuMs }) => [pid, (cpuMs - cpuOf(pid)) / (sec * 10)])),
    ...timesOf(before.histograms, now.histograms),
  };
}

function timesOf(
  before: Overview["histograms"],
  now: Overview["histograms"],
): Pick<Sample, "deliveryMs" | "queueMs" | "commitMs"> {
  const delivery = difference(before.deliveryMs, now.deliveryMs);
  return {
    deliveryMs: delivery && { median: quantile(delivery, 0.5), most: quantile(delivery, 0.99) },
    queueMs: meanOf(difference(before.queueMs, now.queueMs)),
    commitMs: before.commitMs && now.commitMs ? meanOf(difference(before.commitMs, now.commitMs)) : null,
  };
}

/** What came in between; null: nothing, or a process has started again. */
function difference(before: Histogram, { bounds, counts, sum, count }: Histogram): Histogram | null {
  const more = counts.map((each, i) => each - before.counts[i]!);
  if (count <= before.count || more.some((each) => each < 0)) return null;
  return { bounds, counts: more, sum: sum - before.sum, count: count - before.count };
}

function meanOf(histogram: Histogram | null): number | null {
  return histogram && histogram.sum / histogram.count;
}

/** Within a bucket values count as evenly spread; those above the last bound as that bound. */
function quantile({ bounds, counts, count }: Histogram, share: number): number {
  let left = share * count;
  for (const [i, bound] of bounds.entries()) {
    if (left <= counts[i]!) {
      const from = bounds[i - 1] ?? 0;
      return from + ((bound - from) * left) / counts[i]!;
    }
    left -= counts[i]!;
  }
  return bounds.at(-1)!;
}

export const DROPPED = "messages.dropped.";
