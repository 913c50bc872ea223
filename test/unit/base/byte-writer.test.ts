import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { ByteReader, ByteWriter, putU16, putU32 } from "#base/byte-writer.ts";
import { check } from "#test/support/fuzz.ts";

const U48_MAX = 2 ** 48 - 1;

type Field =
  | { readonly kind: "u8" | "u16" | "u32" | "u48"; readonly value: number }
  | { readonly kind: "bytes"; readonly value: Uint8Array };

const field: fc.Arbitrary<Field> = fc.oneof(
  fc.record({ kind: fc.constant("u8" as const), value: fc.integer({ min: 0, max: 0xff }) }),
  fc.record({ kind: fc.constant("u16" as const), value: fc.integer({ min: 0, max: 0xffff }) }),
  fc.record({ kind: fc.constant("u32" as const), value: fc.integer({ min: 0, max: 0xffff_ffff }) }),
  fc.record({ kind: fc.constant("u48" as const), value: fc.maxSafeNat().map((n) => n % (U48_MAX + 1)) }),
  fc.record({ kind: fc.constant("bytes" as const), value: fc.uint8Array({ maxLength: 600 }) }),
);

function write(out: ByteWriter, { kind, value }: Field): void {
  if (kind === "bytes") out.bytes(Buffer.from(value));
  else out[kind](value);
}

describe("bytes one after the other", () => {
  test("are read as they were written, whatever the buffer had to grow", () => {
    check(
      fc.property(fc.array(field, { maxLength: 60 }), (fields) => {
        const out = new ByteWriter();
        for (const each of fields) write(out, each);
        const from = new ByteReader(out.take());
        for (const { kind, value } of fields) {
          if (kind === "bytes") expect(Uint8Array.from(from.bytes(value.length))).toEqual(Uint8Array.from(value));
          else expect(from[kind]()).toBe(value);
        }
        expect(from.isAtEnd).toBe(true);
      }),
      200,
    );
  });

  test("stand little-endian, u48 as its low u32 and its high u16", () => {
    const out = new ByteWriter();
    out.u8(0x01);
    out.u16(0x0203);
    out.u32(0x8405_0607);
    out.u48(0x0809_0a0b_0c0d);
    expect(out.take().toString("hex")).toBe("0103020706058" + "40d0c0b0a0908");
    const buffer = Buffer.alloc(8);
    putU16(buffer, 1, 0xfffe);
    putU32(buffer, 3, 0xffff_fffe);
    expect(buffer.toString("hex")).toBe("00fefffeffffff00");
  });

  test("negative numbers are written as their low bits: -1 in a u32 is 0xffffffff", () => {
    const out = new ByteWriter();
    out.u32(-1);
    expect(new ByteReader(out.take()).u32()).toBe(0xffff_ffff);
  });

  test("reserved room is where it was said, also when it made the buffer grow", () => {
    const out = new ByteWriter();
    out.bytes(Buffer.alloc(1020, 7));
    const at = out.reserve(13);
    expect(at).toBe(1020);
    out.buffer.fill(9, at, at + 13);
    out.u8(5);
    const bytes = out.take();
    expect([bytes.length, bytes[1019], bytes[1020], bytes[1032], bytes[1033]]).toEqual([1034, 7, 9, 9, 5]);
  });

  test("what was taken stays as it is when the writer goes on", () => {
    const out = new ByteWriter();
    out.u16(1);
    const taken = out.take();
    out.clear();
    out.u16(2);
    expect([taken.readUInt16LE(), out.length]).toEqual([1, 2]);
  });

  test("a part of a buffer is written alone", () => {
    const out = new ByteWriter();
    out.bytes(Buffer.from("abcdef"), 2, 4);
    expect(out.take().toString()).toBe("cd");
  });

  test("reading past the end throws RangeError and moves nothing", () => {
    const reads: ((from: ByteReader) => unknown)[] = [
      (from) => from.u8(),
      (from) => from.u16(),
      (from) => from.u32(),
      (from) => from.u48(),
      (from) => from.bytes(1),
      (from) => from.skip(0xffff_ffff),
    ];
    for (const read of reads) {
      const from = new ByteReader(Buffer.alloc(10), 5, 5);
      expect(() => read(from)).toThrow(RangeError);
      expect(from.at).toBe(5);
    }
    expect(() => new ByteReader(Buffer.alloc(3)).u32()).toThrow(RangeError);
  });

  test("a reader of a part sees that part alone", () => {
    const from = new ByteReader(Buffer.from("abcdef"), 1, 3);
    expect([from.bytes(2).toString(), from.isAtEnd]).toEqual(["bc", true]);
  });
});
