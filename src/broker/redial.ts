/** How long to wait before a connection is made again that has ended: not at all if it had lasted, else longer each time. */

const PAUSE_MS = 50;
const PAUSE_MS_MAX = 5000;
/** What lasted so long was a success. */
const STEADY_MS = 10_000;

export class Redial {
  private openedMs = -Infinity;
  private pauseMs = 0;

  /** `random`: below 1, from 0. */
  constructor(private readonly random: () => number = Math.random) {}

  noteOpen(nowMs: number): void {
    this.openedMs = nowMs;
  }

  /** Milliseconds, to be asked once for each connection that has ended. Half of it is chance, so that not all come at once. */
  nextPauseMs(nowMs: number): number {
    const isSteady = nowMs - this.openedMs >= STEADY_MS;
    this.pauseMs = isSteady ? 0 : Math.min(Math.max(this.pauseMs * 2, PAUSE_MS), PAUSE_MS_MAX);
    return this.pauseMs * (0.5 + this.random() / 2);
  }
}
