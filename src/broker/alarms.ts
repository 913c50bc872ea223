/**
 * What is wrong now, and what was lately: one entry for each thing that can be wrong, by its id.
 *
 *   set(id) ─► active ─► clear(id) ─► history, the latest `historyCountMax`
 *
 * Setting an alarm that is active brings its summary up to date and tells nobody again. Both tables are bounded: an alarm that finds
 * no room is counted, and told in the log by the caller.
 */

type AlarmSeverity = "warning" | "error" | "critical";

export interface Alarm {
  /** Such as `memory_high` or `queue_high_watermark.<clientid>`. */
  readonly id: string;
  readonly severity: AlarmSeverity;
  readonly title: string;
  /** With the figures of now, for people. */
  readonly summary: string;
  /** Wall clock, milliseconds. */
  readonly setMs: number;
  /** Undefined while it is active. */
  readonly clearedMs?: number;
}

/** Hears of each change; must not throw. `alarm.clearedMs` says which. */
export type AlarmListener = (alarm: Alarm) => void;

export interface AlarmOptions {
  readonly activeCountMax?: number;
  readonly historyCountMax: number;
  /** Wall clock, milliseconds. */
  readonly nowMs: () => number;
}

const ACTIVE_COUNT_MAX = 1000;

export class Alarms {
  /** Alarms that found no room among the active ones. */
  overflowCount = 0;
  private readonly byId = new Map<string, Alarm>();
  private readonly cleared: Alarm[] = [];
  private readonly listeners = new Set<AlarmListener>();
  private readonly activeCountMax: number;

  constructor(private readonly options: AlarmOptions) {
    this.activeCountMax = options.activeCountMax ?? ACTIVE_COUNT_MAX;
  }

  /** Those set first come first. */
  get active(): Alarm[] {
    return [...this.byId.values()];
  }

  /** Those that were cleared, the latest first. */
  get history(): Alarm[] {
    return this.cleared.toReversed();
  }

  isActive(id: string): boolean {
    return this.byId.has(id);
  }

  /** False when there is no room for it. */
  set({ id, severity, title, summary }: Pick<Alarm, "id" | "severity" | "title" | "summary">): boolean {
    const known = this.byId.get(id);
    if (!known && this.byId.size >= this.activeCountMax) {
      this.overflowCount++;
      return false;
    }
    const alarm = { id, severity, title, summary, setMs: known?.setMs ?? this.options.nowMs() };
    this.byId.set(id, alarm);
    if (known?.severity !== severity) this.tell(alarm);
    return true;
  }

  clear(id: string): void {
    const alarm = this.byId.get(id);
    if (!alarm) return;
    this.byId.delete(id);
    const cleared = { ...alarm, clearedMs: this.options.nowMs() };
    this.cleared.push(cleared);
    if (this.cleared.length > this.options.historyCountMax) this.cleared.shift();
    this.tell(cleared);
  }

  /** Calls back at each change from now on; the function returned ends that. */
  listen(listener: AlarmListener): () => void {
    this.listeners.add(listener);
    return () => void this.listeners.delete(listener);
  }

  private tell(alarm: Alarm): void {
    for (const listener of this.listeners) listener(alarm);
  }
}
