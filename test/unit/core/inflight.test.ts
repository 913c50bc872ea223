import { describe, expect, test } from "bun:test";
import { Inflight } from "#core/inflight.ts";
import { DELIVERY, DELIVERY_SENT, GROUP, IDS, MESSAGE, SEQ } from "#core/outbox.ts";

function push(inflight: Inflight, count: number): number[] {
  return Array.from({ length: count }, (_, i) => inflight.push(i, 1, 0, -1));
}

function ack(inflight: Inflight, packetId: number): void {
  const position = inflight.find(packetId);
  if (position < 0) throw new Error(`${packetId} is not awaited`);
  inflight.remove(position);
}

describe("packet ids", () => {
  test("start at 1 and ascend", () => expect(push(new Inflight(), 5)).toEqual([1, 2, 3, 4, 5]));

  test("[MQTT-2.2.1-4] wrap after 65,535 to 1", () => {
    const inflight = new Inflight();
    for (let id = 1; id <= 65_534; id++) ack(inflight, inflight.push(0, 1, 0, -1));
    expect(push(inflight, 3)).toEqual([65_535, 1, 2]);
    for (const id of [1, 65_535, 2]) ack(inflight, id);
    expect(inflight.total).toBe(0);
  });

  test("[MQTT-2.2.1-4] skip those that await PUBACK, PUBREC or PUBCOMP, round after round", () => {
    const inflight = new Inflight();
    push(inflight, 6);
    for (const id of [2, 5]) ack(inflight, id);
    ack(inflight, 4);
    inflight.release(4);
    for (let round = 0; round < 2; round++) {
      const seen = new Set<number>();
      for (let i = 0; i < 65_531; i++) {
        const id = inflight.push(0, 1, 0, -1);
        seen.add(id);
        ack(inflight, id);
      }
      expect([1, 3, 4, 6].filter((id) => seen.has(id))).toEqual([]);
      expect([2, 5, 7, 65_535].filter((id) => !seen.has(id))).toEqual([]);
    }
    expect([1, 3, 6].map((id) => inflight.find(id) >= 0)).toEqual([true, true, true]);
  });

  test("all but one in use: the one is found", () => {
    const inflight = new Inflight();
    push(inflight, 65_535);
    ack(inflight, 30_000);
    expect(inflight.push(9, 1, 0, -1)).toBe(30_000);
    expect(inflight.field(inflight.find(30_000), MESSAGE)).toBe(9);
    expect(inflight.count).toBe(65_535);
  });
});

describe("the window", () => {
  test("entries keep their fields, holes are squeezed out, and order is that of sending", () => {
    const inflight = new Inflight();
    for (let i = 0; i < 40; i++) inflight.push(i, i & 7, i * 3, i - 1);
    for (let id = 2; id <= 40; id += 2) ack(inflight, id);
    for (let i = 40; i < 60; i++) inflight.push(i, i & 7, i * 3, i - 1);
    const seen: number[] = [];
    for (let i = 0; i < inflight.positions; i++) {
      const id = inflight.packetIdAt(i);
      if (id === 0) continue;
      seen.push(id);
      const message = id - 1;
      expect([MESSAGE, DELIVERY, IDS, GROUP].map((field) => inflight.field(i, field as 0 | 1 | 2 | 3))).toEqual([
        message,
        (message & 7) | DELIVERY_SENT,
        message * 3,
        message - 1,
      ]);
    }
    expect(seen).toEqual([
      ...Array.from({ length: 20 }, (_, i) => i * 2 + 1),
      ...Array.from({ length: 20 }, (_, i) => 41 + i),
    ]);
  });

  test("what is used counts what is sent and what is released, until PUBCOMP", () => {
    const inflight = new Inflight();
    push(inflight, 3);
    expect([inflight.used, inflight.total, inflight.oldestId]).toEqual([3, 3, 1]);
    ack(inflight, 1);
    inflight.release(1);
    expect([inflight.used, inflight.total, inflight.oldestId]).toEqual([3, 3, 2]);
    expect([inflight.isReleased(1), inflight.isReleased(2)]).toEqual([true, false]);
    expect(inflight.find(1)).toBe(-1);
    expect([inflight.complete(2), inflight.complete(1), inflight.complete(1)]).toEqual([false, true, false]);
    expect([inflight.used, inflight.total]).toEqual([2, 2]);
  });

  test("PUBCOMP in any order keeps the order of the others", () => {
    const inflight = new Inflight();
    for (const id of [5, 6, 7, 8, 9, 10]) inflight.release(id);
    inflight.complete(5);
    inflight.release(11);
    for (const id of [8, 11, 6]) inflight.complete(id);
    expect(Array.from({ length: inflight.releasedCount }, (_, i) => inflight.releasedAt(i))).toEqual([7, 9, 10]);
  });
});

/** Sends the next one again; its position, or -1. */
function resendNext(inflight: Inflight): number {
  const position = inflight.nextUnsent();
  if (position >= 0) inflight.advance();
  return position;
}

describe("a new connection", () => {
  test("nothing counts as sent, and an acknowledgement of before is not awaited until it is sent again", () => {
    const inflight = new Inflight();
    push(inflight, 4);
    ack(inflight, 2);
    inflight.rewind();
    expect([inflight.sentCount, inflight.count, inflight.used]).toEqual([0, 3, 0]);
    expect(inflight.find(1)).toBe(-1);
    const again = [resendNext(inflight), resendNext(inflight)].map((at) => inflight.packetIdAt(at));
    expect([again, inflight.sentCount]).toEqual([[1, 3], 2]);
    expect(inflight.find(4)).toBe(-1);
    ack(inflight, 1);
    expect(inflight.packetIdAt(resendNext(inflight))).toBe(4);
    expect(resendNext(inflight)).toBe(-1);
    expect([inflight.sentCount, inflight.count]).toEqual([2, 2]);
    expect(inflight.push(9, 1, 0, -1)).toBe(5);
  });

  test("released ids stay", () => {
    const inflight = new Inflight();
    inflight.release(3);
    inflight.rewind();
    expect([inflight.isReleased(3), inflight.used]).toEqual([true, 1]);
  });
});

describe("what is held", () => {
  test("has its packet id at once, counts as sent when it is, and is found only then", () => {
    const inflight = new Inflight();
    push(inflight, 1);
    expect([inflight.hold(7, 2, 0, -1), inflight.hold(8, 2, 0, -1)]).toEqual([2, 3]);
    inflight.setLastSeq(99);
    expect([inflight.sentCount, inflight.count, inflight.used, inflight.total]).toEqual([1, 3, 1, 3]);
    expect(inflight.find(2)).toBe(-1);
    const position = inflight.nextUnsent();
    expect([MESSAGE, DELIVERY].map((field) => inflight.field(position, field as 0 | 1))).toEqual([7, 2]);
    expect(resendNext(inflight)).toBe(position);
    inflight.noteSent(position);
    expect(inflight.field(inflight.find(2), DELIVERY)).toBe(2 | DELIVERY_SENT);
    const last = inflight.nextUnsent();
    expect([inflight.packetIdAt(last), inflight.field(last, SEQ), inflight.field(position, SEQ)]).toEqual([3, 99, 0]);
  });

  test("may leave before it was sent, and what comes later is not mistaken for it", () => {
    const inflight = new Inflight();
    for (let i = 0; i < 4; i++) inflight.hold(i, 2, 0, -1);
    inflight.remove(inflight.nextUnsent());
    expect([inflight.packetIdAt(inflight.nextUnsent()), inflight.sentCount, inflight.count]).toEqual([2, 0, 3]);
    while (resendNext(inflight) >= 0);
    expect([inflight.sentCount, inflight.push(9, 1, 0, -1), inflight.used]).toEqual([3, 5, 4]);
  });

  test("keeps its place when the ring grows around it", () => {
    const inflight = new Inflight();
    push(inflight, 3);
    for (let i = 0; i < 30; i++) inflight.hold(100 + i, 2, 0, -1);
    ack(inflight, 2);
    const seen: number[] = [];
    for (let at = resendNext(inflight); at >= 0; at = resendNext(inflight)) seen.push(inflight.packetIdAt(at));
    expect(seen).toEqual(Array.from({ length: 30 }, (_, i) => 4 + i));
    expect(inflight.sentCount).toBe(32);
  });
});

test("what is restored keeps its packet ids, and new ones skip them", () => {
  const inflight = new Inflight();
  for (const id of [65_534, 65_535, 1, 3]) inflight.restore(id & 15, 1, 0, -1, id);
  inflight.lastId = 65_535;
  expect([inflight.count, inflight.sentCount, inflight.find(1)]).toEqual([4, 0, -1]);
  expect(inflight.hold(0, 1, 0, -1)).toBe(2);
  expect(inflight.hold(0, 1, 0, -1)).toBe(4);
  const seen: number[] = [];
  for (let at = resendNext(inflight); at >= 0; at = resendNext(inflight)) seen.push(inflight.packetIdAt(at));
  expect(seen).toEqual([65_534, 65_535, 1, 3, 2, 4]);
});
