import { expect, test } from "bun:test";
import { CommitGate } from "#core/commit-gate.ts";

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
