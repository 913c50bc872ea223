/** What the engine relies on in every store. `make` gives a new one, and what may be said of it. */
import { describe, expect, test } from "bun:test";
import type { Store } from "#core/ports.ts";
import { viewOf } from "#test/support/test-broker.ts";

export interface StoreFixture {
  readonly store: Store;
  /** Makes what was noted durable. */
  readonly commit: () => Promise<void> | void;
  /** A session that the store has, a subscription of it, and a message in the pool. */
  readonly session: number;
  readonly subscription: number;
  readonly message: number;
}

/** Fields of an entry: QoS 1, no identifiers, no share group. */
const QOS_1 = 1;
const NO_IDS = 0;
const NO_GROUP = -1;
const LOW_31 = 0x7fff_ffff;

export function storeContract(name: string, make: () => StoreFixture): void {
  describe(`the store contract: ${name}`, () => {
    const enqueue = ({ store, session, message }: StoreFixture, packetId: number): number =>
      store.enqueue(session, message, QOS_1, NO_IDS, NO_GROUP, packetId);

    test("a volatile store asks nobody to wait", () => {
      const { store, session, subscription } = make();
      if (store.isVolatile)
        expect(store.append("subscribed", session, subscription)).toBeLessThanOrEqual(store.durableSeq);
    });

    test("numbers ascend with each change, from 1", () => {
      const made = make();
      const { store, session, subscription, message } = made;
      if (store.isVolatile) return;
      const seqs = [
        store.append("expiry-changed", session, 0),
        enqueue(made, 0),
        store.append("subscribed", session, subscription),
        enqueue(made, 5),
        store.retain(viewOf("a/b", "x", { qos: 1 }), message, 100),
        store.append("receipt-added", session, 9),
      ];
      expect(seqs[0]).toBeGreaterThan(0);
      expect(seqs).toEqual([...new Set(seqs)].sort((a, b) => a - b));
    });

    test("durableSeq never falls, is never ahead of what was noted, and reaches it", async () => {
      const made = make();
      const { store, commit, session, subscription } = made;
      let last = store.durableSeq;
      for (let round = 0; round < 5; round++) {
        let noted = 0;
        for (let i = 0; i < 3; i++) noted = store.append("subscribed", session, subscription);
        expect(store.durableSeq).toBeGreaterThanOrEqual(last);
        expect(store.durableSeq).toBeLessThanOrEqual(Math.max(noted, last));
        await commit();
        expect(store.durableSeq).toBeGreaterThanOrEqual(noted);
        last = store.durableSeq;
      }
    });

    test("onDurable is called after durableSeq has grown, outside append", async () => {
      const { store, commit, session, subscription } = make();
      const seen: number[] = [];
      let isAppending = false;
      store.onDurable = () => {
        expect(isAppending).toBe(false);
        seen.push(store.durableSeq);
      };
      let noted = 0;
      for (let i = 0; i < 4; i++) {
        isAppending = true;
        noted = store.append("subscribed", session, subscription);
        isAppending = false;
        await commit();
      }
      if (store.isVolatile) return;
      expect(seen.at(-1)).toBeGreaterThanOrEqual(noted);
      expect(seen).toEqual(seen.toSorted((a, b) => a - b));
    });

    test("what stands for an entry is safe after the commit that covers it, and not before", async () => {
      const made = make();
      const { store, commit, session, message } = made;
      if (store.isVolatile) return;
      expect(store.isDurable(0)).toBe(true); // the store does not have it
      const waiting = enqueue(made, 0) & LOW_31;
      expect(store.isDurable(waiting)).toBe(false);
      const assigned = store.assign(session, 0, waiting, 7, message, 2);
      expect(store.isDurable(assigned & LOW_31)).toBe(false);
      await commit();
      expect(store.durableSeq).toBeGreaterThanOrEqual(assigned);
      expect([store.isDurable(waiting), store.isDurable(assigned & LOW_31)]).toEqual([true, true]);
      store.settle(session, 7, assigned & LOW_31, message);
      await commit();
      expect(store.isDurable(assigned & LOW_31)).toBe(true);
    });

    test("an acknowledgement, a drop, a move or an end makes nobody wait for ever", async () => {
      const made = make();
      const { store, commit, session, message } = made;
      if (store.isVolatile) return;
      const ends: ((seq: number) => void)[] = [
        (seq) => store.settle(session, 7, seq, message),
        (seq) => store.shift(session, 0, seq, message),
        (seq) => store.withdraw(session, seq, message),
        (seq) => store.forget(seq, message),
      ];
      for (const isCommitted of [false, true]) {
        for (const [i, end] of ends.entries()) {
          const seq = enqueue(made, i === 0 ? 7 : 0);
          if (isCommitted) await commit();
          end(seq & LOW_31);
          await commit();
          expect(store.durableSeq).toBeGreaterThanOrEqual(seq);
        }
      }
    });

    test("it is ready, can write, and has nothing to read for a session that it has just got", () => {
      const { store, session } = make();
      const called: string[] = [];
      store.whenReady(() => called.push("ready"));
      store.fetch(session, () => called.push("fetched"));
      expect([store.isWritable, ...called]).toEqual([true, "ready", "fetched"]);
    });
  });
}
