import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { ELIDED, Pending } from "#store/pending.ts";
import { Change } from "#store/session-log.ts";
import { check } from "#test/support/fuzz.ts";

const LOW_31 = 0x7fff_ffff;
const TWO_31 = 2 ** 31;

interface Known {
  readonly seq: number;
  readonly message: number;
  readonly isAwaited: boolean;
  isElided: boolean;
}

/** The ring beside a plain list of what was noted since the last clear. */
class Twin {
  readonly pending = new Pending();
  readonly list: Known[] = [];

  constructor(first: number) {
    this.pending.first = this.pending.next = first;
  }

  take(message: number, isAwaited: boolean): void {
    const { pending } = this;
    const place = pending.take(Change.enqueued, message + 1, message + 2, isAwaited);
    pending.message[place] = message;
    pending.packetId[place] = message & 0xffff;
    pending.delivery[place] = message & 0xff;
    pending.ids[place] = -message;
    pending.group[place] = message * 2;
    pending.encoded[place] = message % 3 === 0 ? Buffer.from(String(message)) : null;
    const seq = pending.next - 1;
    expect(seq & LOW_31).not.toBe(0);
    expect(pending.placeOf(seq)).toBe(place);
    this.list.push({ seq, message, isAwaited, isElided: false });
  }

  elide(at: number): void {
    const live = this.list.filter(({ isElided, isAwaited }) => !isElided && isAwaited);
    const known = live[at % live.length];
    if (!known) return;
    const place = this.pending.find(known.seq & LOW_31, known.message);
    expect(place).toBe(this.pending.placeOf(known.seq));
    this.pending.elide(place);
    known.isElided = true;
  }

  trim(): void {
    this.pending.trim();
    while (this.list[0]?.isElided) this.list.shift();
  }

  clear(): void {
    this.pending.clear();
    this.list.length = 0;
  }

  check(): void {
    const { pending, list } = this;
    expect(pending.liveCount).toBe(list.filter(({ isElided }) => !isElided).length);
    if (list.length > 0) expect(pending.first).toBeLessThanOrEqual(list[0]!.seq);
    for (const { seq, message, isAwaited, isElided } of list) {
      const place = pending.placeOf(seq);
      expect(pending.find(seq & LOW_31, message)).toBe(isElided ? -1 : place);
      expect(pending.find(seq & LOW_31, message + 1)).toBe(-1);
      if (isElided) {
        expect(pending.kind[place]).toBe(ELIDED);
        continue;
      }
      const fields = [pending.kind, pending.isAwaited, pending.session, pending.stored, pending.message].map(
        (c) => c[place],
      );
      expect(fields).toEqual([Change.enqueued, isAwaited ? 1 : 0, message + 1, message + 2, message]);
      const rest = [pending.packetId, pending.delivery, pending.ids, pending.group].map((column) => column[place]!);
      expect(rest).toEqual([message & 0xffff, message & 0xff, 0 - message, message * 2]);
      expect(pending.encoded[place]?.toString()).toBe(message % 3 === 0 ? String(message) : undefined);
    }
    expect(pending.find(pending.next & LOW_31, list.at(-1)?.message ?? 0)).toBe(-1);
    expect(pending.find((pending.first - 1) & LOW_31, list[0]?.message ?? 0)).toBe(-1);
  }
}

const command = fc.oneof(
  { weight: 6, arbitrary: fc.record({ kind: fc.constant("take"), n: fc.integer({ min: 1, max: 9 }) }) },
  { weight: 6, arbitrary: fc.record({ kind: fc.constant("elide"), n: fc.nat({ max: 5000 }) }) },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant("trim"), n: fc.constant(0) }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant("clear"), n: fc.constant(0) }) },
);

describe("changes that are noted and not yet written", () => {
  const starts = [1, TWO_31 - 3, TWO_31 + 1_000_003, 2 * TWO_31 - 3, 2 ** 40 - 2];

  test.each(starts)("are found, elided and forgotten as a list would do it, from number %d", (start) => {
    check(
      fc.property(fc.array(command, { maxLength: 60 }), (commands) => {
        const twin = new Twin(start);
        let message = 1;
        for (const { kind, n } of commands) {
          if (kind === "take") for (let i = 0; i < n; i++, message++) twin.take(message, message % 4 !== 0);
          else if (kind === "elide") twin.elide(n);
          else if (kind === "trim") twin.trim();
          else twin.clear();
        }
        twin.check();
      }),
      60,
    );
  });

  test.each(starts)("keep their fields when the ring grows, wherever its first stands, from number %d", (start) => {
    const twin = new Twin(start);
    for (let message = 1; message <= 700; message++) twin.take(message, true);
    for (let i = 0; i < 700; i++) twin.elide(0);
    twin.trim();
    expect(twin.pending.first).toBe(twin.pending.next);
    for (let message = 1001; message <= 4000; message++) twin.take(message, message % 5 > 0);
    expect(twin.pending.kind.length).toBe(4096);
    twin.check();
  });

  test("a number whose low half says none is skipped, and counts as elided", () => {
    for (const start of [TWO_31, 2 * TWO_31]) {
      const twin = new Twin(start);
      twin.take(5, true);
      expect(twin.list[0]!.seq).toBe(start + 1);
      expect(twin.pending.kind[twin.pending.placeOf(start)]).toBe(ELIDED);
      expect(twin.pending.liveCount).toBe(1);
      twin.check();
    }
  });

  test("a full ring that skips a number grows for both", () => {
    const twin = new Twin(TWO_31 - 1024);
    for (let message = 1; message <= 1025; message++) twin.take(message, true);
    expect(twin.pending.next).toBe(TWO_31 + 2);
    twin.check();
  });

  test("what was handed over is found no more, though its place is not used again yet", () => {
    const twin = new Twin(1);
    twin.take(7, true);
    twin.clear();
    expect(twin.pending.find(1, 7)).toBe(-1);
    twin.take(7, true);
    expect(twin.pending.find(1, 7)).toBe(-1);
    expect(twin.pending.find(2, 7)).toBe(twin.pending.placeOf(2));
  });

  test("nothing is found under 0, which means that the store does not have it", () => {
    const twin = new Twin(1);
    twin.take(7, true);
    expect(twin.pending.find(0, 7)).toBe(-1);
  });
});
