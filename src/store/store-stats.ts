/** What the durable store has done since the start. */

/** Upper bounds of the commit times that are counted apart, in milliseconds; the last count is of those above. */
export const COMMIT_BOUNDS_MS = [0.5, 1, 2, 5, 10, 20, 50, 100, 250, 500, 1000] as const;

export class StoreStats {
  /** Changes written, and messages that their receivers' acknowledgements made unnecessary to write. */
  writtenCount = 0;
  elidedCount = 0;
  /** Batches committed, their bytes, and the sum of their commit times in milliseconds. */
  batchCount = 0;
  batchBytes = 0;
  commitMs = 0;
  /** Batches by commit time, see `COMMIT_BOUNDS_MS`. */
  readonly commitCounts: number[] = Array.from({ length: COMMIT_BOUNDS_MS.length + 1 }, () => 0);
  /** How often writing began to fail. */
  troubleCount = 0;

  addCommit(commitMs: number): void {
    this.commitMs += commitMs;
    const at = COMMIT_BOUNDS_MS.findIndex((bound) => commitMs <= bound);
    this.commitCounts[at < 0 ? COMMIT_BOUNDS_MS.length : at]++;
  }
}
