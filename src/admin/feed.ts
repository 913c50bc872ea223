/**
 * The live feed: server-sent events for charts and alarms.
 *
 *   event: history    first, for whoever asks for what was: a list of overviews, the oldest first
 *   event: overview   once a second, the answer of GET /api/v1/overview
 *   event: alarm      an alarm was set, changed or cleared
 *   event: trace      { name, events } of the trace that was asked for; { name, isOver } when there is none of that name any more
 *
 * However many listen, the broker is asked once a second, and every five seconds while nobody does, so that who comes after
 * something went wrong sees the minutes before. A listener that does not read loses overviews first and then its connection;
 * streams are bounded.
 */
import { MantouError } from "#base/error.ts";
import type { Control } from "#broker/control.ts";

const INTERVAL_MS = 1000;
/** Of what is kept, and of what is asked while nobody listens. */
const KEPT_INTERVAL_MS = 5000;
const KEPT_COUNT = 60;
const STREAM_COUNT_MAX = 64;
/** Events that wait for a listener. */
const WAITING_COUNT = 4;
const WAITING_COUNT_MAX = 64;

interface Listener {
  readonly queue: ReadableStreamDefaultController<string>;
  /** Name of a trace that it follows. */
  trace: string | undefined;
}

type Alarm = {
  readonly id: string;
  readonly setMs: number;
  readonly clearedMs?: number | undefined;
  readonly severity: string;
};

export class Feed {
  private readonly listeners = new Set<Listener>();
  private readonly timer: Timer;
  private isAsking = false;
  private askedMs = 0;
  /** Overviews of the last minutes as JSON, the oldest first: 3 KB each, and a little more for each worker. */
  private readonly kept: { readonly atMs: number; readonly text: string }[] = [];
  /** By id, what was told of the alarms; undefined until the first look. */
  private told: Map<string, string> | undefined;

  constructor(
    private readonly control: Control,
    private readonly onFault: (error: unknown) => void,
  ) {
    this.timer = setInterval(() => {
      const isDue = this.listeners.size > 0 || performance.now() - this.askedMs >= KEPT_INTERVAL_MS;
      if (isDue) void this.look();
    }, INTERVAL_MS);
    this.timer.unref();
  }

  /**
   * A stream of its own, with the events of a trace, and with what is kept from a moment on (milliseconds of the wall clock).
   * Throws MantouError `server_busy` when there are too many.
   */
  open({
    trace,
    sinceMs,
  }: { readonly trace?: string | undefined; readonly sinceMs?: number | undefined } = {}): ReadableStream<string> {
    if (this.listeners.size >= STREAM_COUNT_MAX)
      throw new MantouError("server_busy", `found ${STREAM_COUNT_MAX} feeds, allowed: no more`);
    let listener: Listener;
    return new ReadableStream<string>(
      {
        start: (queue) => {
          listener = { queue, trace };
          this.listeners.add(listener);
          queue.enqueue(": mantou\n\n");
          if (sinceMs !== undefined) queue.enqueue(this.historySince(sinceMs));
          void this.look();
        },
        cancel: () => this.leave(listener),
      },
      { highWaterMark: WAITING_COUNT },
    );
  }

  stop(): void {
    clearInterval(this.timer);
    for (const { queue } of this.listeners) queue.close();
    this.listeners.clear();
  }

  private historySince(sinceMs: number): string {
    const overviews = this.kept.filter(({ atMs }) => atMs > sinceMs).map(({ text }) => text);
    return `event: history\ndata: [${overviews.join()}]\n\n`;
  }

  private keep(overview: { readonly nowMs: number }): void {
    const { nowMs: atMs } = overview;
    const sinceMs = atMs - (this.kept.at(-1)?.atMs ?? -Infinity);
    if (sinceMs < 0)
      this.kept.length = 0; // the clock was set back
    // Not quite: a timer may come a little early.
    else if (sinceMs < KEPT_INTERVAL_MS - INTERVAL_MS / 2) return;
    this.kept.push({ atMs, text: JSON.stringify(overview) });
    if (this.kept.length > KEPT_COUNT) this.kept.shift();
  }

  private async look(): Promise<void> {
    if (this.isAsking) return;
    this.isAsking = true;
    this.askedMs = performance.now();
    try {
      const overview = await this.control("overview.read", {});
      this.keep(overview);
      if (this.listeners.size === 0) return;
      const alarms = await this.control("alarms.list", {});
      this.send("overview", overview, true);
      this.tellAlarms([...alarms.active, ...alarms.history]);
      const traces = new Set([...this.listeners].flatMap(({ trace }) => trace ?? []));
      for (const name of traces) await this.tellTrace(name);
    } catch (error) {
      if (this.listeners.size > 0) this.onFault(error);
    } finally {
      this.isAsking = false;
    }
  }

  private tellAlarms(alarms: readonly Alarm[]): void {
    const now = new Map<string, string>();
    for (const alarm of alarms) {
      const key = `${alarm.id} ${alarm.setMs}`;
      const state = `${alarm.severity} ${alarm.clearedMs ?? ""}`;
      if (now.has(key)) continue;
      now.set(key, state);
      if (this.told && this.told.get(key) !== state) this.send("alarm", alarm, false);
    }
    this.told = now;
  }

  private async tellTrace(name: string): Promise<void> {
    const followers = [...this.listeners].filter(({ trace }) => trace === name);
    try {
      const { events } = await this.control("traces.read", { name });
      if (events.length > 0) this.send("trace", { name, events }, false, followers);
    } catch (error) {
      if (!(error instanceof MantouError && error.code === "not_found")) throw error;
      for (const follower of followers) follower.trace = undefined;
      this.send("trace", { name, isOver: true }, false, followers);
    }
  }

  private send(event: string, data: unknown, mayBeLost: boolean, to: Iterable<Listener> = this.listeners): void {
    const text = `event: ${event}\ndata: ${JSON.stringify(data)}\n\n`;
    for (const listener of to) {
      const room = listener.queue.desiredSize ?? 0;
      if (room > 0 || (!mayBeLost && room > -WAITING_COUNT_MAX)) listener.queue.enqueue(text);
      else if (!mayBeLost) {
        listener.queue.close();
        this.leave(listener);
      }
    }
  }

  private leave(listener: Listener): void {
    this.listeners.delete(listener);
    if (this.listeners.size === 0) this.told = undefined;
  }
}
