/** What the engine relies on in every fabric. `settle` lets everything asked for so far complete. */
import { describe, expect, test } from "bun:test";
import type { Fabric } from "#core/ports.ts";
import { viewOf } from "#test/support/test-broker.ts";

export function fabricContract(name: string, make: () => { fabric: Fabric; settle: () => Promise<void> | void }): void {
  const id = Buffer.from("client");

  describe(`the fabric contract: ${name}`, () => {
    test("each claim of a client id completes once, with an epoch greater than any before", async () => {
      const { fabric, settle } = make();
      const epochs: number[] = [];
      for (let i = 0; i < 5; i++) fabric.claim(id, (epoch) => epochs.push(epoch));
      await settle();
      await settle();
      expect(epochs).toHaveLength(5);
      expect(epochs).toEqual([...new Set(epochs)].toSorted((a, b) => a - b));
    });

    test("the bytes of a client id and of a filter are borrowed", async () => {
      const { fabric, settle } = make();
      const bytes = Buffer.from("a/b");
      let count = 0;
      fabric.claim(bytes, () => count++);
      fabric.announce(bytes, true, () => count++);
      bytes.fill(0);
      await settle();
      fabric.withdraw(Buffer.from("a/b"));
      expect(count).toBe(2);
    });

    test("each announce completes once, also of a filter that is known already", async () => {
      const { fabric, settle } = make();
      let count = 0;
      for (const filter of ["a/+", "a/+", "b"]) fabric.announce(Buffer.from(filter), true, () => count++);
      await settle();
      expect(count).toBe(3);
    });

    test("numbers of forwards ascend, and forwardedSeq reaches them and tells", async () => {
      const { fabric, settle } = make();
      const { forwarding } = fabric;
      if (fabric.isLocal) expect(forwarding).toBeNull();
      if (forwarding === null) return;
      let told = 0;
      forwarding.onForwarded = () => void (told = forwarding.forwardedSeq);
      const first = forwarding.forward(viewOf("t", "1"));
      const second = forwarding.forward(viewOf("t", "2"));
      expect(second).toBeGreaterThanOrEqual(first);
      await settle();
      expect(forwarding.forwardedSeq).toBeGreaterThanOrEqual(second);
      if (second > 0) expect(told).toBeGreaterThanOrEqual(second);
    });
  });
}
