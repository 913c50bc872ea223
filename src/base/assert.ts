/** Stops on a bug of ours. Faults of peers and of the world are values or `MantouError`, never assertions. */
export function assert(condition: boolean, what: string): asserts condition {
  if (!condition) throw new Error(`bug: ${what}`);
}
