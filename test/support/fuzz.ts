/**
 * Property tests under one seed for the whole run, which is said at its start and again by each failure:
 * MANTOU_TEST_SEED=<seed> repeats the run.
 */
import fc from "fast-check";

const given = process.env["MANTOU_TEST_SEED"];

export const seed: number = given === undefined ? (Date.now() ^ (process.pid << 16)) | 0 : Number(given) | 0;

process.stderr.write(`fuzz: MANTOU_TEST_SEED=${seed} repeats this run\n`);

/** Holds for `runs` random cases, or throws with the smallest case found and the seed. */
export function check<T>(property: fc.IRawProperty<T>, runs: number): void {
  try {
    fc.assert(property as fc.IProperty<T>, { seed, numRuns: runs });
  } catch (error) {
    (error as Error).message = `MANTOU_TEST_SEED=${seed}\n${(error as Error).message}`;
    throw error;
  }
}

/** As `check`, for a property that awaits. */
export async function checkAsync<T>(property: fc.IAsyncProperty<T>, runs: number): Promise<void> {
  try {
    await fc.assert(property, { seed, numRuns: runs });
  } catch (error) {
    (error as Error).message = `MANTOU_TEST_SEED=${seed}\n${(error as Error).message}`;
    throw error;
  }
}
