import { expect, test } from "bun:test";
import fc from "fast-check";
import { DecisionCache, type Decided, UNKNOWN } from "#access/decision-cache.ts";
import { hashBytes } from "#base/bytes.ts";
import { ALLOW, DENY } from "#core/ports.ts";

const SEED = 5;

class Subject {
  constructor(readonly cache: DecisionCache) {}

  find(topic: string, nowSec = 0): Decided | typeof UNKNOWN {
    const bytes = Buffer.from(`xx${topic}y`);
    return this.cache.find(bytes, 2, bytes.length - 1, hashBytes(bytes, 2, bytes.length - 1, SEED), nowSec);
  }

  /** As the match cache would have it: every topic has a stamp of its own, for as long as it stays in a slot. */
  noteStamp(stamp: number): void {
    this.cache.noteStamp(stamp);
  }

  findStamp(stamp: number, nowSec = 0): Decided | typeof UNKNOWN {
    return this.cache.findStamp(stamp, nowSec);
  }

  add(topic: string, verdict: Decided, untilSec = 10): void {
    const bytes = Buffer.from(topic);
    this.cache.add(bytes, hashBytes(bytes, 0, bytes.length, SEED), verdict, untilSec);
  }
}

test("what was added is found until its time", () => {
  const subject = new Subject(new DecisionCache(8));
  subject.add("a", ALLOW, 10);
  subject.add("b", DENY, 20);
  expect([subject.find("a", 9), subject.find("b", 9), subject.find("c", 9)]).toEqual([ALLOW, DENY, UNKNOWN]);
  expect([subject.find("a", 10), subject.find("b", 10)]).toEqual([UNKNOWN, DENY]);
  subject.add("a", DENY, 30);
  expect(subject.find("a", 10)).toBe(DENY);
});

test("it never gives a wrong verdict, keeps the latest, and stays within its bound", () => {
  const op = fc.tuple(fc.integer({ min: 0, max: 200 }), fc.boolean(), fc.boolean());
  fc.assert(
    fc.property(fc.array(op, { maxLength: 400 }), fc.constantFrom(8, 16, 64), (ops, countMax) => {
      const subject = new Subject(new DecisionCache(countMax));
      const truth = new Map<string, Decided>();
      const stamps = new Map<number, string>();
      for (const [number, isAllowed, isFilledAgain] of ops) {
        const topic = `t/${number}`;
        const verdict = isAllowed ? ALLOW : DENY;
        subject.add(topic, verdict, 10);
        truth.set(topic, verdict);
        for (const [stamp, other] of stamps) expect([UNKNOWN, truth.get(other)!]).toContain(subject.findStamp(stamp));
        expect(subject.find(topic)).toBe(verdict);
        const stamp = isFilledAgain ? 1000 + stamps.size * 7 : 2 ** 40 + number;
        subject.noteStamp(stamp);
        stamps.set(stamp, topic);
        expect(subject.findStamp(stamp)).toBe(verdict);
        expect(subject.findStamp(stamp, 10)).toBe(UNKNOWN);
      }
      for (const [topic, verdict] of truth) expect([verdict, UNKNOWN]).toContain(subject.find(topic));
      expect(subject.cache.capacity).toBeLessThanOrEqual(countMax);
      const kept = [...truth.keys()].filter((topic) => subject.find(topic) !== UNKNOWN);
      expect(subject.cache.bytes).toBe(kept.reduce((sum, topic) => sum + topic.length, 0));
    }),
    { numRuns: 50 },
  );
});

test("long topics are kept as far as they do not take too much, and leave room for others", () => {
  const subject = new Subject(new DecisionCache(64));
  const long = (i: number): string => `${i}/`.padEnd(4096, "x");
  let bytesMax = 0;
  for (let i = 0; i < 200; i++) {
    subject.add(long(i), DENY);
    expect(subject.find(long(i))).toBe(DENY);
    bytesMax = Math.max(bytesMax, subject.cache.bytes);
  }
  expect(bytesMax).toBeLessThanOrEqual(64 * 256);
  expect(bytesMax).toBeGreaterThan(8192);
  for (let i = 0; i < 200; i++) subject.add(`${i % 40}`, ALLOW);
  const kept = Array.from({ length: 40 }, (_, i) => subject.find(`${i}`)).filter((verdict) => verdict === ALLOW);
  expect(kept.length).toBeGreaterThan(30);
  subject.add("y".repeat(64 * 256 + 1), DENY);
  expect([subject.find("y".repeat(64 * 256 + 1)), subject.cache.bytes]).toEqual([UNKNOWN, 0]);
});

test("with room for them, nearly all of fifty topics are kept", () => {
  const subject = new Subject(new DecisionCache(256));
  const topics = Array.from({ length: 50 }, (_, i) => `device/${i}/state`);
  for (const topic of topics) subject.add(topic, ALLOW);
  expect(topics.filter((topic) => subject.find(topic) === ALLOW).length).toBe(50);
});
