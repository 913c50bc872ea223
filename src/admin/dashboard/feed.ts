/**
 * The live feed: one stream of the broker's overviews, once a second, for all that shows figures. It rests while the page is hidden
 * or nobody has signed in, and comes back by itself.
 *
 *   overview ─► latest     as it came
 *            └► history    columns of the last minutes: rates are differences of counters
 */
import type { Alarm, Overview } from "./answers.ts";
import { API, findSession, session } from "./api.ts";
import { Cell } from "./cell.ts";

const HISTORY_COUNT = 300;
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
  source = new EventSource(`${API}/feed`);
  source.addEventListener("overview", ({ data }: MessageEvent<string>) => take(JSON.parse(data) as Overview));
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

function take(overview: Overview): void {
  link.set("live");
  listenForSilence();
  const before = latest.value;
  latest.set(overview);
  if (before && overview.nowMs > before.nowMs) {
    history.set([...history.value.slice(1 - HISTORY_COUNT), sampleOf(before, overview)]);
  }
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
  };
}

export const DROPPED = "messages.dropped.";
