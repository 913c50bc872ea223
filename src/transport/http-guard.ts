/**
 * Bounds the HTTP connections of a process. Bun's HTTP server accepts by itself, as many as come, and tells nobody: so they are what
 * the process has open besides what it knows of.
 *
 *   open descriptors ─ links ─ OTHERS ─► HTTP connections ─┬─ too many, or too few descriptors left: idle ones are closed
 *                                                          ├─ still: the HTTP listeners rest, others come in as before
 *                                                          └─ fewer than RESUME_SHARE: they listen again
 *
 * At the descriptor limit itself Bun's accept loop would spin, and nothing could be opened any more.
 */
import { statSync } from "node:fs";
import { lowestFree } from "./listen-backlog.ts";

/** Files, pipes, databases, servers of backends: they are not counted as HTTP connections. */
const OTHERS = 128;
/** Descriptors that are left free. */
const FREE_MIN = 128;
const REST_MS_MIN = 1000;
const RESUME_SHARE = 0.9;

export interface Door {
  closeIdle(): void;
  rest(): void;
  /** May throw: the port is taken. */
  resume(): void;
}

export interface HttpGuardOptions {
  /** What the process may open. */
  readonly descriptorsMax: number;
  /** Connections that are counted elsewhere. */
  readonly linkCount: () => number;
  readonly openCount?: () => number;
  /** The listeners rest, or listen again. */
  readonly onChange: (isResting: boolean, connectionCount: number) => void;
  readonly onFault: (error: unknown) => void;
}

export class HttpGuard {
  private readonly doors = new Set<Door>();
  private restingSinceMs = -1;
  private readonly openCount: () => number;

  constructor(
    /** May be changed. */
    public connectionsMax: number,
    private readonly options: HttpGuardOptions,
  ) {
    this.openCount = options.openCount ?? countOpen;
  }

  get isResting(): boolean {
    return this.restingSinceMs >= 0;
  }

  /** Returns how to take it out again. */
  add(door: Door): () => void {
    this.doors.add(door);
    if (this.isResting) door.rest();
    return () => void this.doors.delete(door);
  }

  /** Some times a second. */
  look(nowMs: number): void {
    if (this.doors.size === 0) return;
    if (this.isResting) {
      if (nowMs - this.restingSinceMs >= REST_MS_MIN && !this.isAbove(RESUME_SHARE)) this.resume();
      else for (const door of this.doors) door.closeIdle();
      return;
    }
    if (!this.isAbove(1)) return;
    for (const door of this.doors) door.closeIdle();
    if (!this.isAbove(1)) return;
    this.restingSinceMs = nowMs;
    for (const door of this.doors) door.rest();
    this.options.onChange(true, this.connectionCount());
  }

  private isAbove(share: number): boolean {
    const { descriptorsMax } = this.options;
    const open = this.openCount();
    return open > (descriptorsMax - FREE_MIN) * share || this.connectionCount(open) > this.connectionsMax * share;
  }

  private connectionCount(open: number = this.openCount()): number {
    return Math.max(0, open - this.options.linkCount() - OTHERS);
  }

  private resume(): void {
    try {
      for (const door of this.doors) door.resume();
    } catch (error) {
      return this.options.onFault(error); // tried again with the next look
    }
    this.restingSinceMs = -1;
    this.options.onChange(false, this.connectionCount());
  }
}

/** Open descriptors of the process: Linux tells since 6.2 without listing them. */
function countOpen(): number {
  try {
    const { size } = statSync("/proc/self/fd");
    if (size > 0) return size;
  } catch {
    // no /proc here
  }
  const free = lowestFree();
  return free < 0 ? Number.MAX_SAFE_INTEGER : free; // there are at least as many
}
