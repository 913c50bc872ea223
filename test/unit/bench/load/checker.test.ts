// Planted faults: each must be found, counted as what it is, and nothing else.

import { describe, expect, test } from "bun:test";
import { Inbox } from "#bench/load/inbox.ts";
import { parsePlan } from "#bench/load/options.ts";
import type { Command, Plan } from "#bench/load/plan.ts";
import { NUMBER_AT, TIME_AT, writeStamp, writeTime, writeUint32 } from "#bench/load/stamp.ts";
import { DUPLICATE, FRESH, LATE, OpenStreams, StreamCheck } from "#bench/load/stream-check.ts";
import { Tally } from "#bench/load/tally.ts";

describe("streams", () => {
  const faults = (numbers: readonly number[]) => {
    const check = new StreamCheck(2);
    const verdicts = numbers.map((number) => check.accept(1, number));
    return { verdicts, missing: check.missing, duplicates: check.duplicates, reordered: check.reordered };
  };

  test("in order", () => {
    expect(faults([0, 1, 2, 3])).toMatchObject({ missing: 0, duplicates: 0, reordered: 0 });
  });
  test("lost", () => {
    expect(faults([0, 3, 4, 9])).toEqual({
      verdicts: [FRESH, FRESH, FRESH, FRESH],
      missing: 6,
      duplicates: 0,
      reordered: 0,
    });
  });
  test("late is not lost, and not a duplicate", () => {
    expect(faults([0, 2, 1, 3])).toEqual({
      verdicts: [FRESH, FRESH, LATE, FRESH],
      missing: 0,
      duplicates: 0,
      reordered: 1,
    });
  });
  test("late by thousands", () => {
    const numbers = Array.from({ length: 5000 }, (_, i) => i + 1);
    expect(faults([...numbers, 0])).toMatchObject({ missing: 0, duplicates: 0, reordered: 1 });
  });
  test("twice, at once and long after, also of a late one", () => {
    expect(faults([0, 0, 1, 3, 0, 2, 2])).toEqual({
      verdicts: [FRESH, DUPLICATE, FRESH, FRESH, DUPLICATE, LATE, DUPLICATE],
      missing: 0,
      duplicates: 3,
      reordered: 1,
    });
  });
  test("the gap is what the last fresh one passed over", () => {
    const check = new StreamCheck(1);
    check.accept(0, 4);
    expect(check.gap).toBe(4);
    check.accept(0, 5);
    expect(check.gap).toBe(0);
  });
  test("random shuffles, losses and copies agree with a naive count", () => {
    let seed = 99;
    const random = (below: number): number => (seed = (seed * 48_271) % 2_147_483_647) % below;
    for (let round = 0; round < 50; round++) {
      const sent = Array.from({ length: 200 }, (_, i) => i);
      const arrived: number[] = [];
      for (const number of sent) {
        if (random(10) === 0) continue;
        arrived.splice(arrived.length - random(Math.min(4, arrived.length + 1)), 0, number);
        if (random(20) === 0) arrived.push(number);
      }
      const seen = new Set<number>();
      let duplicates = 0;
      let reordered = 0;
      let highest = -1;
      for (const number of arrived) {
        if (seen.has(number)) duplicates++;
        else if (number < highest) reordered++;
        seen.add(number);
        highest = Math.max(highest, number);
      }
      expect(faults(arrived)).toMatchObject({ missing: highest + 1 - seen.size, duplicates, reordered });
    }
  });
  test("streams that are not known before start where they are first heard, apart from each other", () => {
    const streams = new OpenStreams();
    for (let source = 0; source < 200; source++) expect(streams.accept(1, source, 1000 + source)).toBe(FRESH);
    expect(streams.accept(2, 5, 3)).toBe(FRESH);
    expect(streams.accept(1, 5, 1005)).toBe(DUPLICATE);
    expect(streams.accept(1, 6, 1009)).toBe(FRESH);
    expect(streams.check).toMatchObject({ missing: 2, duplicates: 1, reordered: 0 });
  });
});

describe("the inbox", () => {
  const RUN = 77;

  class Bed {
    readonly tally = new Tally();
    readonly credits: [number, number][] = [];
    readonly plan: Plan;
    private readonly inbox: Inbox;

    constructor(line: string) {
      const [command, ...args] = line.split(" ");
      this.plan = parsePlan(command as Command, args)!;
      this.inbox = new Inbox(this.plan, RUN, this.tally, (publisher, count) => this.credits.push([publisher, count]));
      this.tally.open(1000);
    }

    /** A message of `publisher` for subscriber `index`. */
    take(index: number, publisher: number, number: number, more: { [name: string]: number } = {}): void {
      const { run = RUN, qos = 0, sentQos = qos, bytes = 64, retain = 0, dueNs = 1500, nowNs = 2500 } = more;
      const payload = Buffer.alloc(bytes);
      if (bytes >= 24) {
        writeStamp(payload, 0, run, publisher * 4 + sentQos);
        writeUint32(payload, NUMBER_AT, number);
        writeTime(payload, TIME_AT, dueNs);
      }
      this.inbox.accept(index, 0x30 | (qos << 1) | retain, payload, 0, bytes, nowNs);
      this.inbox.copyFaults();
    }

    get counts(): Record<string, number> {
      return Object.fromEntries(Object.entries(this.tally.counts).filter(([, count]) => count > 0));
    }
  }

  test("a good message is counted, timed from its due time, and credited", () => {
    const bed = new Bed("pair --pubs 3");
    bed.take(2, 2, 0);
    expect(bed.counts).toEqual({ delivered: 1, measuredDelivered: 1, measuredBytes: 64 });
    expect(bed.tally.latency.max).toBe(1000);
    expect(bed.credits).toEqual([[2, 1]]);
  });

  test("latency is that of messages due in the window, whenever they come", () => {
    const bed = new Bed("pair --pubs 1");
    bed.take(0, 0, 0, { dueNs: 900 });
    expect(bed.tally.latency.count).toBe(0);
    bed.tally.close(3000);
    bed.take(0, 0, 1, { dueNs: 2999, nowNs: 9999 });
    bed.take(0, 0, 2, { dueNs: 3000, nowNs: 9999 });
    expect([bed.tally.latency.count, bed.tally.latency.max]).toEqual([1, 7000]);
    expect(bed.counts["measuredDelivered"]).toBe(1);
  });

  test("what does not belong here is foreign: another run, publisher, pair, or no stamp", () => {
    const bed = new Bed("pair --pubs 3");
    bed.take(0, 0, 0, { run: 78 });
    bed.take(0, 3, 0);
    bed.take(0, 1, 0);
    bed.take(0, 0, 0, { bytes: 10 });
    expect(bed.counts).toEqual({ foreign: 4 });
  });

  test("old retained messages are told from foreign ones", () => {
    const bed = new Bed("pair --pubs 3");
    bed.take(0, 0, 0, { run: 78, retain: 1 });
    expect(bed.counts).toEqual({ retained: 1 });
  });

  test("duplicates, reordered and missing ones; what was passed over is credited once", () => {
    const bed = new Bed("fanin --pubs 2");
    for (const number of [0, 2, 1, 1, 5]) bed.take(0, 1, number);
    bed.take(0, 0, 0);
    expect(bed.counts).toMatchObject({ delivered: 5, duplicates: 1, reordered: 1, missing: 2 });
    expect(bed.credits).toEqual([
      [1, 1],
      [1, 2],
      [1, 3],
      [0, 1],
    ]);
  });

  test("each QoS of a publisher is a stream of its own", () => {
    const bed = new Bed("pair --pubs 1 --qos 0:1,1:1");
    bed.take(0, 0, 0);
    bed.take(0, 0, 0, { qos: 1 });
    expect(bed.counts).toMatchObject({ delivered: 2 });
    expect(bed.counts["duplicates"]).toBeUndefined();
  });

  test("a QoS that is not the lower of both, and a payload that is not as long", () => {
    const bed = new Bed("pair --pubs 1 --qos 2 --sub-qos 1");
    bed.take(0, 0, 0, { qos: 1, sentQos: 2 });
    expect(bed.counts["wrongQos"]).toBeUndefined();
    bed.take(0, 0, 1, { qos: 2, sentQos: 2 });
    expect(bed.counts["wrongQos"]).toBe(1);
    bed.take(0, 0, 2, { qos: 1, sentQos: 2, bytes: 65 });
    expect(bed.counts["damaged"]).toBe(1);
  });

  test("sub takes from whoever publishes: checks what has a stamp, counts the rest", () => {
    const bed = new Bed("sub -t # -c 2");
    bed.take(0, 900, 41, { run: 5 });
    bed.take(1, 900, 41, { run: 5 });
    bed.take(0, 900, 43, { run: 5 });
    bed.take(0, 900, 43, { run: 5 });
    bed.take(0, 0, 0, { bytes: 3 });
    bed.take(0, 900, 7, { run: 5, retain: 1 });
    expect(bed.counts).toMatchObject({ delivered: 4, duplicates: 1, missing: 1, unstamped: 1, retained: 1 });
    expect(bed.tally.latency.count).toBe(0);
  });

  test("a member of a shared subscription gets any part of a stream", () => {
    const bed = new Bed("sub -t $share/g/# -c 2");
    for (const number of [0, 7, 3]) bed.take(0, 1, number);
    expect(bed.counts).toMatchObject({ delivered: 3 });
    expect(bed.counts["missing"]).toBeUndefined();
  });
});
