/** What the durable store has done since the start. */

const COMMIT_BOUNDS_MS = [0.5, 1, 2, 5, 10, 20, 50, 100, 250, 500, 1000] as const;

export class StoreStats {
  /** Changes written, and messages that their receivers' acknowledgements made unnecessary to write. */
  writtenCount = 0;
  elidedCount = 0;
  /** Batches committed, their bytes, and the sum of their commit times in milliseconds. */
  batchCount = 0;
  batchBytes = 0;
  commitMs = 0;
  /** Upper bounds of the commit times that are counted apart, in milliseconds. */
  readonly commitBoundsMs: readonly number[] = COMMIT_BOUNDS_MS;
  /** Batches by commit time: up to each bound, and above the last. */
  readonly commitCounts: number[] = Array.from({ length: COMMIT_BOUNDS_MS.length + 1 }, () => 0);
  /** How often writing began to fail. */
  troubleCount = 0;

  addCommit(commitMs: number): void {
    this.commitMs += commitMs;
    const at = COMMIT_BOUNDS_MS.findIndex((bound) => commitMs <= bound);
    this.commitCounts[at < 0 ? COMMIT_BOUNDS_MS.length : at]++;
  }
}
