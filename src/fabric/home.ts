/**
 * Which of a machine's worker processes a client belongs to. It follows from the client id alone: so a session never moves,
 * its take-overs happen inside one process, and nobody has to be asked.
 */
import { hashBytes } from "#base/bytes.ts";

export interface Homes {
  /** This worker's number, from 0. */
  readonly node: number;
  readonly count: number;
  /** The same in all workers, and as long as there is data: a session must be found again. */
  readonly seed: number;
}

/** By the upper end of the hash: a worker's own tables go by the lower end of the same one. */
export function homeOf(clientId: Uint8Array, { count, seed }: Pick<Homes, "count" | "seed">): number {
  const hash = hashBytes(clientId, 0, clientId.length, seed) >>> 0;
  return Math.floor((hash * count) / 2 ** 32);
}
