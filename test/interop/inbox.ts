/** Things that arrive, in order, each awaited once. */
const NEXT_MS = 5000;

export class Inbox<T> {
  readonly #items: T[] = [];
  #wake: (() => void) | undefined;

  push(item: T): void {
    this.#items.push(item);
    this.#wake?.();
  }

  /** The oldest one that nobody took yet. */
  async next(timeoutMs = NEXT_MS): Promise<T> {
    if (this.#items.length === 0) await this.#arrival(timeoutMs);
    return this.#items.shift() as T;
  }

  async take(count: number): Promise<T[]> {
    const taken: T[] = [];
    while (taken.length < count) taken.push(await this.next());
    return taken;
  }

  /** All that is there now. */
  drain(): T[] {
    return this.#items.splice(0);
  }

  #arrival(timeoutMs: number): Promise<void> {
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    const timer = setTimeout(() => reject(new Error(`nothing arrived within ${timeoutMs} ms`)), timeoutMs);
    this.#wake = resolve;
    return promise.finally(() => {
      clearTimeout(timer);
      this.#wake = undefined;
    });
  }
}
