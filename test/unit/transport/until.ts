const WAIT_MS = 10_000;

/** Resolves when `isThere` is true, looked at every few milliseconds; throws after ten seconds. */
export async function until(isThere: () => boolean, what = isThere.toString()): Promise<void> {
  for (const endMs = performance.now() + WAIT_MS; performance.now() < endMs; await Bun.sleep(2)) if (isThere()) return;
  throw new Error(`waited in vain for ${what}`);
}
