/** The structures of base/ against a plain twin, under random operations. */
import { test } from "bun:test";
import fc from "fast-check";
import { BlockPool, offsetOf, pageOf } from "#base/block-pool.ts";
import { ByteTable } from "#base/byte-table.ts";
import { hashBytes, isMqttUtf8 } from "#base/bytes.ts";
import { TimerWheel } from "#base/timer-wheel.ts";
import { U16Set } from "#base/u16-set.ts";
import { check } from "#test/support/fuzz.ts";
import { rounds } from "#test/support/level.ts";

function same(what: string, actual: unknown, expected: unknown): void {
  if (actual !== expected) throw new Error(`${what}: ${String(actual)}, expected ${String(expected)}`);
}

test("isMqttUtf8 is the platform's strict decoder without U+0000", () => {
  const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
  const isText = (bytes: Uint8Array): boolean => {
    try {
      return !decoder.decode(bytes).includes("\0");
    } catch {
      return false;
    }
  };
  const byte = fc.oneof(
    fc.integer({ min: 0, max: 255 }),
    fc.constantFrom(0x80, 0xbf, 0xc2, 0xe0, 0xed, 0xf0, 0xf4, 0x9f, 0x61),
  );
  const text = fc.string({ unit: "binary", maxLength: 12 }).map((each) => [...Buffer.from(each)]);
  const mixed = fc.tuple(text, fc.array(byte, { maxLength: 4 }), text).map((parts) => Uint8Array.from(parts.flat()));
  const property = fc.property(mixed, fc.nat(3), (bytes, start) => {
    const from = Math.min(start, bytes.length);
    same("utf8", isMqttUtf8(bytes, from, bytes.length), isText(bytes.subarray(from)));
  });
  check(property, rounds(2000, 50_000, 300_000));
});

test("byte table: a map of keys, also where hashes collide", () => {
  const key = fc.oneof(fc.integer({ min: 0, max: 40 }).map(String), fc.string({ maxLength: 6 }));
  const step = fc.tuple(fc.constantFrom("add", "remove", "find"), key);
  const property = fc.property(
    fc.array(step, { maxLength: 200, size: "max" }),
    fc.constantFrom(0, 1, 0x3f, -1),
    (steps, mask) => {
      const pool = new BlockPool();
      const table = new ByteTable(pool);
      const twin = new Map<string, number>();
      for (const [op, text] of steps) {
        const bytes = Buffer.from(text);
        const hash = hashBytes(bytes, 0, bytes.length, 1) & mask;
        const known = twin.get(text);
        if (op === "add" && known === undefined) twin.set(text, table.add(bytes, 0, bytes.length, hash));
        if (op === "remove" && known !== undefined) {
          table.remove(known);
          twin.delete(text);
        }
        same(`find ${text}`, table.find(bytes, 0, bytes.length, hash), twin.get(text) ?? -1);
        same("count", table.count, twin.size);
      }
      for (const [text, number] of twin) same("key", table.textOf(number), Buffer.from(text).toString());
      same("numbers", new Set(twin.values()).size, twin.size);
      for (const number of twin.values()) table.remove(number);
      same("memory", pool.usedBytes, 0);
    },
  );
  check(property, rounds(200, 2000, 20_000));
});

test("set of packet ids: a set", () => {
  const id = fc.oneof(fc.integer({ min: 1, max: 12 }), fc.integer({ min: 1, max: 65_535 }));
  const property = fc.property(
    fc.array(fc.tuple(fc.constantFrom("add", "delete", "has"), id), { maxLength: 300, size: "max" }),
    (steps) => {
      const set = new U16Set();
      const twin = new Set<number>();
      for (const [op, value] of steps) {
        const isThere = twin.has(value);
        if (op === "add") same("add", set.add(value), !isThere);
        else if (op === "delete") same("delete", set.delete(value), isThere);
        else same("has", set.has(value), isThere);
        if (op === "add") twin.add(value);
        if (op === "delete") twin.delete(value);
        same("count", set.count, twin.size);
      }
      same("values", [...set.values()].toSorted().join(), [...twin].toSorted().join());
    },
  );
  check(property, rounds(300, 3000, 20_000));
});

test("timer wheel: each fires once, never early, at most two ticks late, unless cancelled", () => {
  const delay = fc.oneof(fc.nat(300), fc.nat(10_000), fc.nat(600_000), fc.constantFrom(0, 4096, 262_144, 16_777_216));
  const step = fc.oneof(
    fc.record({ op: fc.constant("arm" as const), value: delay }),
    fc.record({ op: fc.constant("cancel" as const), value: fc.nat(1000) }),
    fc.record({ op: fc.constant("run" as const), value: fc.nat(30_000) }),
    fc.record({ op: fc.constant("jump" as const), value: fc.nat(2_000_000) }),
  );
  const property = fc.property(fc.array(step, { maxLength: 60, size: "max" }), fc.nat(1e9), (steps, startMs) => {
    let nowMs = startMs;
    let previousMs = startMs;
    const twin = new Map<number, { timer: number; deadlineMs: number; armedMs: number }>();
    const wheel = new TimerWheel(nowMs, (_kind, owner) => {
      const armed = twin.get(owner);
      if (!armed) throw new Error(`${owner} fired, but was cancelled or had fired`);
      if (nowMs < armed.deadlineMs) throw new Error(`${owner} fired ${armed.deadlineMs - nowMs} ms early`);
      const dueMs = Math.max(armed.deadlineMs, armed.armedMs, previousMs);
      if (nowMs - dueMs > 128 + (nowMs - previousMs)) throw new Error(`${owner} fired ${nowMs - dueMs} ms late`);
      twin.delete(owner);
    });
    const tickTo = (ms: number): void => {
      previousMs = nowMs;
      nowMs = ms;
      wheel.tick(nowMs);
      const late = [...twin.values()].find(({ deadlineMs, armedMs }) => nowMs - Math.max(deadlineMs, armedMs) > 128);
      if (late) throw new Error(`a deadline of ${late.deadlineMs} has not fired at ${nowMs}`);
    };
    let owner = 0;
    for (const { op, value } of steps) {
      if (op === "arm") {
        twin.set(owner, { timer: wheel.arm(nowMs + value, 1, owner), deadlineMs: nowMs + value, armedMs: nowMs });
        owner++;
      } else if (op === "cancel") {
        const chosen = [...twin.keys()][value % Math.max(1, twin.size)];
        if (chosen !== undefined) wheel.cancel(twin.get(chosen)!.timer);
        twin.delete(chosen ?? -1);
      } else if (op === "jump") {
        tickTo(nowMs + value);
      } else {
        for (const end = nowMs + value; nowMs < end;) tickTo(Math.min(end, nowMs + 64));
      }
      same("count", wheel.count, twin.size);
    }
  });
  check(property, rounds(150, 1500, 10_000));
});

test("block pool: blocks in use never overlap, and everything given comes back", () => {
  const size = fc.oneof(fc.nat(80), fc.nat(3000), fc.integer({ min: 60_000, max: 140_000 }));
  const step = fc.tuple(fc.boolean(), size, fc.nat(1000));
  const property = fc.property(fc.array(step, { maxLength: 120, size: "max" }), (steps) => {
    const pool = new BlockPool();
    const live: { address: number; size: number; mark: number }[] = [];
    const verify = ({ address, size: length, mark }: (typeof live)[number]): void => {
      const part = pool.bytes[pageOf(address)]!.subarray(offsetOf(address), offsetOf(address) + length);
      same("length", part.length, length);
      if (part.some((byte) => byte !== mark)) throw new Error(`block ${address} of ${length} was overwritten`);
    };
    steps.forEach(([isTake, length, choice], i) => {
      if (isTake || live.length === 0) {
        const address = pool.take(length);
        pool.bytes[pageOf(address)]!.fill(i, offsetOf(address), offsetOf(address) + length);
        live.push({ address, size: length, mark: i & 255 });
      } else {
        const [block] = live.splice(choice % live.length, 1);
        verify(block!);
        pool.give(block!.address);
      }
    });
    for (const block of live) verify(block);
    for (const { address } of live) pool.give(address);
    same("used", pool.usedBytes, 0);
  });
  check(property, rounds(40, 300, 2500));
});
