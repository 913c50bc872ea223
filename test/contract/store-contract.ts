/** What the engine relies on in every store. `make` gives a new one, and a way to make what was noted durable. */
import { describe, expect, test } from "bun:test";
import type { Store } from "#core/ports.ts";

export function storeContract(name: string, make: () => { store: Store; commit: () => Promise<void> | void }): void {
  describe(`the store contract: ${name}`, () => {
    test("a volatile store asks nobody to wait", () => {
      const { store } = make();
      if (store.isVolatile) expect(store.append("subscribed", 1, 2)).toBeLessThanOrEqual(store.durableSeq);
    });

    test("numbers ascend with each change, from 1", () => {
      const { store } = make();
      if (store.isVolatile) return;
      const seqs = [
        store.append("session-opened", 1, 0),
        store.enqueue(1, 5, 1, 0, -1, 0),
        store.append("subscribed", 1, 6),
      ];
      expect(seqs[0]).toBeGreaterThan(0);
      expect(seqs[1]).toBeGreaterThan(seqs[0]!);
      expect(seqs[2]).toBeGreaterThan(seqs[1]!);
    });

    test("durableSeq never falls, is never ahead of what was noted, and reaches it", async () => {
      const { store, commit } = make();
      let last = store.durableSeq;
      for (let round = 0; round < 5; round++) {
        let noted = 0;
        for (let i = 0; i < 3; i++) noted = store.append("subscribed", round, i);
        expect(store.durableSeq).toBeGreaterThanOrEqual(last);
        expect(store.durableSeq).toBeLessThanOrEqual(Math.max(noted, last));
        await commit();
        expect(store.durableSeq).toBeGreaterThanOrEqual(noted);
        last = store.durableSeq;
      }
    });

    test("onDurable is called after durableSeq has grown, outside append", async () => {
      const { store, commit } = make();
      const seen: number[] = [];
      let isAppending = false;
      store.onDurable = () => {
        expect(isAppending).toBe(false);
        seen.push(store.durableSeq);
      };
      let noted = 0;
      for (let i = 0; i < 4; i++) {
        isAppending = true;
        noted = store.append("subscribed", 1, i);
        isAppending = false;
        await commit();
      }
      if (store.isVolatile) return;
      expect(seen.at(-1)).toBeGreaterThanOrEqual(noted);
      expect(seen).toEqual(seen.toSorted((a, b) => a - b));
    });
  });
}
