/**
 * The timetable of a paced run: message k of the whole run is due at start + k × interval, and belongs to publisher
 * k mod publishers. It is fixed before the run and never moves: when the broker or the generator is late, messages leave
 * late but none is left out, and latency counts from the due time. That is the correction for coordinated omission.
 *
 * A process holds some of the publishers: `own` are their indexes over the whole run, rising.
 */
export class Schedule {
  /** Own messages whose time has come, as far as `takeDue` has been told. */
  private taken = 0;

  constructor(
    private readonly startNs: number,
    private readonly intervalNs: number,
    private readonly publishers: number,
    private readonly own: readonly number[],
  ) {}

  /** When message `round` (from 0) of publisher `index` is due. */
  dueNs(index: number, round: number): number {
    return this.startNs + this.intervalNs * (index + round * this.publishers);
  }

  /** Messages of publisher `index` that are due. */
  dueCount(index: number, nowNs: number): number {
    const sinceNs = nowNs - this.startNs - this.intervalNs * index;
    if (sinceNs < 0) return 0;
    let count = Math.floor(sinceNs / (this.intervalNs * this.publishers)) + 1;
    // The division may be off by one where the sum in `dueNs` is not.
    while (this.dueNs(index, count) <= nowNs) count++;
    while (count > 0 && this.dueNs(index, count - 1) > nowNs) count--;
    return count;
  }

  /** When the next own message is due. */
  get nextDueNs(): number {
    const { own, taken } = this;
    if (own.length === 0) return Number.POSITIVE_INFINITY;
    return this.dueNs(own[taken % own.length], Math.floor(taken / own.length));
  }

  /** Calls `visit` with the place in `own` of each publisher that has become due, once for each message. */
  takeDue(nowNs: number, visit: (place: number) => void): void {
    while (this.nextDueNs <= nowNs) visit(this.taken++ % this.own.length);
  }
}
