/**
 * A log for what clients can cause as often as they like: so many lines per second and key, the rest counted.
 *
 * Keys are few at a time. A flood that brings a new key with each line shares one allowance when the table is full, so
 * the total is at most `(keyCountMax + 1) * linesPerSec` lines a second whatever clients do. The count of what was left
 * out stands in the next line of that key, or in a line of its own when `flush` finds the key quiet: call it now and then.
 */
import type { Logger } from "./log.ts";

export interface LimitedLogOptions {
  readonly linesPerSec: number;
  /** Milliseconds of a clock that never goes back. */
  readonly nowMs: () => number;
  readonly keyCountMax?: number;
}

type Level = "debug" | "info" | "warn" | "error" | "fatal";

interface Window {
  startMs: number;
  lineCount: number;
  suppressedCount: number;
  level: Level;
  message: string;
}

const WINDOW_MS = 1000;
/** Stands for all keys that found no room; no caller's key is a symbol. */
const OTHERS = Symbol("others");

export class LimitedLog {
  readonly #log: Logger;
  readonly #linesPerSec: number;
  readonly #nowMs: () => number;
  readonly #keyCountMax: number;
  readonly #windows = new Map<string | symbol, Window>();
  #sweptMs = -Infinity;

  constructor(log: Logger, { linesPerSec, nowMs, keyCountMax = 64 }: LimitedLogOptions) {
    this.#log = log;
    this.#linesPerSec = linesPerSec;
    this.#nowMs = nowMs;
    this.#keyCountMax = keyCountMax;
  }

  /** `key` says which lines are repeats of each other. Fields are only read when the line is written. */
  write(level: Level, key: string, message: string, fields: Record<string, unknown> = {}): void {
    if (!this.#log.isLevelEnabled(level)) return;
    const now = this.#nowMs();
    const window = this.#windowOf(key, now);
    if (now - window.startMs >= WINDOW_MS) {
      window.startMs = now;
      window.lineCount = 0;
    }
    window.level = level;
    window.message = message;
    if (window.lineCount >= this.#linesPerSec) {
      window.suppressedCount++;
      return;
    }
    window.lineCount++;
    const { suppressedCount } = window;
    window.suppressedCount = 0;
    this.#log[level](suppressedCount > 0 ? { ...fields, suppressedCount } : fields, message);
  }

  /** Tells what was left out of keys that have been quiet since, and forgets them. */
  flush(): void {
    this.#sweep(this.#nowMs());
  }

  get keyCount(): number {
    return this.#windows.size;
  }

  #windowOf(key: string, now: number): Window {
    const known = this.#windows.get(key);
    if (known) return known;
    // Once a window is enough: until then nothing more can have grown old.
    if (this.#windows.size >= this.#keyCountMax && now - this.#sweptMs >= WINDOW_MS) this.#sweep(now);
    const id = this.#windows.size < this.#keyCountMax ? key : OTHERS;
    const window = this.#windows.get(id) ?? {
      startMs: now,
      lineCount: 0,
      suppressedCount: 0,
      level: "info",
      message: "",
    };
    this.#windows.set(id, window);
    return window;
  }

  #sweep(now: number): void {
    this.#sweptMs = now;
    for (const [key, { startMs, suppressedCount, level, message }] of this.#windows) {
      if (now - startMs < WINDOW_MS) continue;
      this.#windows.delete(key);
      if (suppressedCount > 0) this.#log[level]({ suppressedCount }, `${message} (more of the same were left out)`);
    }
  }
}
