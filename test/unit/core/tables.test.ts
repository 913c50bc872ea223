import { describe, expect, test } from "bun:test";
import { BlockPool } from "#base/block-pool.ts";
import { limitTable, makeLimits } from "#core/limits.ts";
import { expiryAt, MessagePool, NEVER } from "#core/message.ts";
import { Metric, Metrics } from "#core/metrics.ts";
import { SessionTable } from "#core/session-table.ts";
import { Wills } from "#core/will.ts";
import { viewOf } from "#test/support/test-broker.ts";

describe("limits", () => {
  test("defaults, with some overridden", () => {
    const limits = makeLimits({ mqtt: { receiveMax: 7 }, session: { dropPolicy: "newest" } });
    expect([limits.mqtt.receiveMax, limits.mqtt.qosMax, limits.session.dropPolicy]).toEqual([7, 2, "newest"]);
    expect(makeLimits().mqtt.receiveMax).toBe(limitTable.mqtt.receiveMax.default);
  });

  test("every default lies in its range, and every limit says what happens at it", () => {
    const wrong = Object.values(limitTable).flatMap((section) =>
      Object.entries(section).filter(([, limit]) => {
        if (limit.at === "") return true;
        if ("min" in limit) return limit.default < limit.min || limit.default > limit.max;
        return "choices" in limit && !(limit.choices as readonly string[]).includes(limit.default);
      }),
    );
    expect(wrong).toEqual([]);
  });
});

test("metrics: slots by name, all of them in toObject", () => {
  const metrics = new Metrics();
  metrics.add("bugs");
  metrics.add("bytes.sent", 10);
  metrics.counts[Metric["bytes.sent"]] += 5;
  expect([metrics.get("bugs"), metrics.get("bytes.sent"), metrics.get("bytes.received")]).toEqual([1, 15, 0]);
  const all = metrics.toObject();
  expect([all["bytes.sent"], Object.keys(all).length, new Set(Object.values(Metric)).size]).toEqual([
    15,
    metrics.counts.length,
    metrics.counts.length,
  ]);
});

describe("session table", () => {
  test("a number for a client id, its columns cleared for the next", () => {
    const pool = new BlockPool();
    const sessions = new SessionTable(pool, 1);
    const first = sessions.create(Buffer.from("first"), 100);
    sessions.expirySec[first] = 5;
    sessions.subscriptionCount[first] = 3;
    sessions.receiptsFor(first).add(9);
    expect([sessions.find(Buffer.from("first")), sessions.clientId(first), sessions.isPersistent(first)]).toEqual([
      first,
      "first",
      true,
    ]);
    sessions.remove(first);
    expect([sessions.find(Buffer.from("first")), sessions.count, pool.usedBytes]).toEqual([-1, 0, 0]);
    expect(sessions.create(Buffer.from("second"), 200)).toBe(first);
    expect([sessions.isPersistent(first), sessions.queueOf(first), sessions.subscriptionCount[first]]).toEqual([
      false,
      null,
      0,
    ]);
    expect([sessions.expiryTimer[first], sessions.createdSec[first], sessions.sinks[first]]).toEqual([-1, 200, null]);
  });

  test("grows, and a key is never 0 and the same for the same client id", () => {
    const sessions = new SessionTable(new BlockPool(), 1);
    const all = Array.from({ length: 1000 }, (_, i) => sessions.create(Buffer.from(`c${i}`), i));
    expect(all.filter((session, i) => sessions.createdSec[session] !== i)).toEqual([]);
    const keys = all.map((session) => sessions.keyOf(session));
    expect(keys.includes(0)).toBe(false);
    sessions.remove(all[5]!);
    expect(sessions.keyOf(sessions.create(Buffer.from("c5"), 0))).toBe(keys[5]!);
  });
});

describe("wills", () => {
  const make = (bytesMax: number): { wills: Wills; pool: BlockPool } => {
    const pool = new BlockPool();
    return { pool, wills: new Wills(new MessagePool(pool, bytesMax)) };
  };
  const will = (payload: string, expirySec = NEVER) => ({ view: viewOf("w", payload), delaySec: 3, expirySec });

  test("one a session, replaced or removed with its memory, whose timer is the caller's to cancel", () => {
    const { wills, pool } = make(1e6);
    wills.set(4, will("first"));
    wills.set(4, will("second"));
    wills.get(4)!.timer = 12;
    expect([wills.load(wills.get(4)!, 0).payload().toString(), wills.get(4)!.delaySec]).toEqual(["second", 3]);
    expect([wills.remove(4), wills.remove(4), wills.get(4), pool.usedBytes]).toEqual([12, -1, undefined, 0]);
    wills.set(4, will("third"));
    wills.set(4, undefined);
    expect(wills.get(4)).toBeUndefined();
  });

  test("expire from when they are published", () => {
    const { wills } = make(1e6);
    wills.set(1, will("a", 10));
    wills.set(2, will("b"));
    expect(wills.load(wills.get(1)!, expiryAt(500, 10)).expiryAtSec).toBe(510);
    expect(wills.load(wills.get(2)!, 510).expiryAtSec).toBe(NEVER);
  });

  test("one for which there is no memory is refused", () => {
    const { wills } = make(10);
    expect([wills.set(1, will("x".repeat(50))), wills.get(1)]).toEqual([false, undefined]);
  });
});

test("an expiry beyond what can be counted is as far as can be counted, not for ever", () => {
  expect([expiryAt(100, 5), expiryAt(2_000_000_000, 0xffff_ffff)]).toEqual([105, NEVER - 1]);
});
