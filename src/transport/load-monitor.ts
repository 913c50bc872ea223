/**
 * Whether the process has more to do than it can: its event loop comes round late, or its memory is near the end. Then it is busy, and
 * new clients are refused early, which costs little, so that those who are in are served.
 *
 *   tick ── 50 ms ── tick ──── 50 ms + lag ──── tick      busy for a second after each lag beyond the mark, and while memory is beyond its
 *
 * `nowMs` comes from outside; memory is asked for about once a second. What nobody needs any more still counts as memory until it is
 * collected: so beyond the mark a collection is asked for now and then.
 */
import { totalmem } from "node:os";

const BUSY_MS = 1000;
const MEMORY_MS = 1000;
const COLLECT_MS = 30_000;

export interface LoadMarks {
  readonly lagMsMax: number;
  /** Of the resident set; 0: nine tenths of what the machine, or its container, has, or this process's part of that. */
  readonly memoryBytesMax: number;
}

export class LoadMonitor {
  /** Why it is busy, as of the last tick. */
  cause: "lag" | "memory" | undefined = undefined;
  /** Of the last tick. */
  lagMs = 0;
  /** Resident set, at most a second old. */
  memoryBytes = 0;
  private lastMs = -1;
  private isHeld = false;
  private busyUntilMs = -1;
  private memoryAtMs = -Infinity;
  private collectedAtMs = -Infinity;
  private lagMsMax = 0;

  constructor(
    /** May be changed. */
    public marks: LoadMarks,
    private readonly tickMs: number,
    private readonly readMemory: () => number = process.memoryUsage.rss,
    private readonly collect: () => void = () => Bun.gc(false),
    /** Processes that share the machine's memory. */
    private readonly processCount: number = 1,
  ) {}

  /** Beyond it the process is busy. */
  get memoryBytesMax(): number {
    return this.marks.memoryBytesMax > 0 ? this.marks.memoryBytesMax : (0.9 * machineBytes) / this.processCount;
  }

  /** Until `begin` lateness does not count: a start takes what it takes, and nobody is in yet. */
  hold(): void {
    this.isHeld = true;
  }

  begin(): void {
    this.isHeld = false;
    this.lastMs = -1;
  }

  /** To be called every `tickMs`; true when busy. */
  tick(nowMs: number): boolean {
    this.lagMs = this.isHeld || this.lastMs < 0 ? 0 : Math.max(0, nowMs - this.lastMs - this.tickMs);
    this.lastMs = nowMs;
    if (this.lagMs > this.lagMsMax) this.lagMsMax = this.lagMs;
    if (nowMs - this.memoryAtMs >= MEMORY_MS) {
      this.memoryAtMs = nowMs;
      this.memoryBytes = this.readMemory();
    }
    if (this.lagMs > this.marks.lagMsMax) this.busyUntilMs = nowMs + BUSY_MS;
    const isFull = this.memoryBytes > this.memoryBytesMax;
    if (isFull && nowMs - this.collectedAtMs >= COLLECT_MS) {
      this.collectedAtMs = nowMs;
      this.collect();
    }
    this.cause = isFull ? "memory" : nowMs < this.busyUntilMs ? "lag" : undefined;
    return this.cause !== undefined;
  }

  /** Greatest lag since this was last called. */
  takeLagMs(): number {
    const lagMs = this.lagMsMax;
    this.lagMsMax = 0;
    return lagMs;
  }
}

const machineBytes = memoryOfMachine();

function memoryOfMachine(): number {
  const constrained = process.constrainedMemory();
  return constrained > 0 && constrained < totalmem() ? constrained : totalmem();
}
