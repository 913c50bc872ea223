/** A ring of twice the length, unrolled so that the element at `start` comes first. */
export function grownRing<T extends Int32Array | Uint16Array>(ring: T, start: number): T {
  const next = new (ring.constructor as new (n: number) => T)(ring.length * 2);
  next.set(ring.subarray(start));
  next.set(ring.subarray(0, start), ring.length - start);
  return next;
}
