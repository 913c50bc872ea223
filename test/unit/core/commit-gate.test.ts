import { expect, test } from "bun:test";
import fc from "fast-check";
import { CommitGate } from "#core/commit-gate.ts";
import { check } from "#test/support/fuzz.ts";

function gateOf(waits: [storeSeq: number, forwardSeq: number][]): { gate: CommitGate; out: number[] } {
  const gate = new CommitGate();
  const out: number[] = [];
  waits.forEach(([storeSeq, forwardSeq], i) => gate.add(storeSeq, forwardSeq, () => out.push(i)));
  return { gate, out };
}

test("lets out what both numbers cover, in order, and keeps the rest", () => {
  const { gate, out } = gateOf([
    [1, 0],
    [2, 5],
    [3, 0],
  ]);
  gate.advance(3, 4);
  expect([out, gate.count]).toEqual([[0], 2]);
  gate.advance(3, 5);
  expect([out, gate.count]).toEqual([[0, 1, 2], 0]);
});

test("what needs nothing waits for what stands before it", () => {
  const { gate, out } = gateOf([
    [7, 0],
    [0, 0],
  ]);
  gate.advance(6, 0);
  expect(out).toEqual([]);
  gate.advance(7, 0);
  expect(out).toEqual([0, 1]);
});

test("a release that adds one sees it released in its turn", () => {
  const gate = new CommitGate();
  const out: string[] = [];
  gate.add(1, 0, () => {
    out.push("first");
    gate.add(1, 0, () => out.push("added"));
    gate.add(2, 0, () => out.push("later"));
  });
  gate.add(1, 0, () => out.push("second"));
  gate.advance(1, 0);
  expect([out, gate.count]).toEqual([["first", "second", "added"], 1]);
});

test("a release within which the numbers move again releases each once", () => {
  const gate = new CommitGate();
  const out: string[] = [];
  gate.add(1, 0, () => {
    out.push("first");
    gate.advance(2, 0);
  });
  gate.add(2, 0, () => out.push("second"));
  gate.advance(1, 0);
  expect([out, gate.count]).toEqual([["first", "second"], 0]);
});

test("acknowledgements and actions are released as a plain list would release them, whatever the rings hold", () => {
  const command = fc.oneof(
    fc.record({ kind: fc.constantFrom("ack", "action"), store: fc.nat({ max: 40 }), forward: fc.nat({ max: 40 }) }),
    fc.record({ kind: fc.constant("advance"), store: fc.nat({ max: 50 }), forward: fc.nat({ max: 50 }) }),
  );
  check(
    fc.property(fc.array(command, { maxLength: 200 }), (commands) => {
      const out: number[] = [];
      const expected: number[] = [];
      const gate = new CommitGate((ack) => out.push(ack));
      const list: { store: number; forward: number; number: number }[] = [];
      let durable = 0;
      let forwarded = 0;
      commands.forEach(({ kind, store, forward }, number) => {
        if (kind === "ack") gate.addAck(store, forward, number);
        else if (kind === "action") gate.add(store, forward, () => out.push(number));
        else {
          durable = Math.max(durable, store);
          forwarded = Math.max(forwarded, forward);
          gate.advance(durable, forwarded);
          while (list.length > 0 && list[0]!.store <= durable && list[0]!.forward <= forwarded) {
            expected.push(list.shift()!.number);
          }
        }
        if (kind !== "advance") list.push({ store, forward, number });
        expect(gate.count).toBe(list.length);
      });
      expect(out).toEqual(expected);
    }),
    200,
  );
});

test("the rings grow with their first anywhere, and keep what no integer of 32 bits holds", () => {
  const out: number[] = [];
  const gate = new CommitGate((ack) => out.push(ack));
  const base = 2 ** 33;
  for (let i = 0; i < 10; i++) gate.addAck(base + i, 0, i);
  gate.advance(base + 8, 0);
  for (let i = 10; i < 300; i++) gate.addAck(base + i, base, i);
  gate.advance(base + 9, base - 1);
  expect(out).toEqual(Array.from({ length: 10 }, (_, i) => i));
  gate.advance(base + 200, base);
  expect([out.length, out.at(-1), gate.count]).toEqual([201, 200, 99]);
});

test("an acknowledgement uses the whole of its 31 bits", () => {
  const out: number[] = [];
  const gate = new CommitGate((ack) => out.push(ack));
  gate.addAck(1, 0, 0x7fff_ffff);
  gate.addAck(1, 0, 0);
  gate.advance(1, 0);
  expect(out).toEqual([0x7fff_ffff, 0]);
});

test("a release that throws is not released again, and what follows is", () => {
  const out: number[] = [];
  const gate = new CommitGate((ack) => {
    out.push(ack);
    if (ack === 1) throw new Error("a bug");
  });
  for (const ack of [1, 2, 3]) gate.addAck(1, 0, ack);
  expect(() => gate.advance(1, 0)).toThrow("a bug");
  gate.advance(1, 0);
  expect(out).toEqual([1, 2, 3]);
});
