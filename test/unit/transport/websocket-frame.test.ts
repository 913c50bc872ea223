import { describe, expect, test } from "bun:test";
import { Random } from "#base/random.ts";
import { FrameReader, putFrameHead } from "#transport/websocket-frame.ts";
import { frame } from "./clients.ts";

/** All payload bytes, read in pieces of `step` bytes. */
function readAll(reader: FrameReader, bytes: Buffer, step = bytes.length): Buffer {
  const out: Buffer[] = [];
  for (let at = 0; at < bytes.length; at += step) {
    const chunk = Buffer.from(bytes.subarray(at, at + step));
    out.push(Buffer.from(chunk.subarray(0, reader.read(chunk))));
  }
  return Buffer.concat(out);
}

const faultOf = (...frames: Buffer[]): number => {
  const reader = new FrameReader();
  readAll(reader, Buffer.concat(frames));
  return reader.fault;
};

const some = Buffer.from("payload");
const none = Buffer.alloc(0);

describe("what a client sends", () => {
  test("frames of every length form, cut anywhere, give their payloads", () => {
    const payloads = [0, 1, 125, 126, 300, 65_535, 65_536, 70_000].map((size) => Buffer.alloc(size, size & 255));
    const bytes = Buffer.concat(payloads.map((payload, i) => frame(payload, 0x82, [i, 255, 7 * i, 1])));
    for (const step of [1, 2, 3, 5, 13, 14, 15, 1000, bytes.length]) {
      const reader = new FrameReader();
      expect(readAll(reader, bytes, step).equals(Buffer.concat(payloads))).toBe(true);
      expect(reader.fault).toBe(0);
    }
  });

  test("fragments with control frames between them are one stream", () => {
    const reader = new FrameReader();
    const frames = [
      frame(Buffer.from("ab"), 0x02),
      frame(Buffer.from("!"), 0x89),
      frame(Buffer.from("cd"), 0x00),
      frame(Buffer.from("e"), 0x80),
    ];
    expect(readAll(reader, Buffer.concat(frames), 1).toString()).toBe("abcde");
    expect(reader.fault).toBe(0);
    expect(reader.ping?.toString()).toBe("!");
  });

  test("the last ping is the one to answer; pongs are ignored", () => {
    const reader = new FrameReader();
    readAll(
      reader,
      Buffer.concat([frame(Buffer.from("1"), 0x89), frame(Buffer.alloc(125, 2), 0x89), frame(some, 0x8a)]),
    );
    expect(reader.ping).toEqual(Buffer.alloc(125, 2));
  });

  test("after Close nothing is read", () => {
    const reader = new FrameReader();
    const bytes = Buffer.concat([frame(some), frame(Buffer.from([3, 232]), 0x88), frame(some)]);
    expect(readAll(reader, bytes).toString()).toBe("payload");
    expect(reader.isClosed).toBe(true);
    expect(faultOf(frame(none, 0x88))).toBe(0);
  });

  const unmasked = (first: number) => Buffer.concat([Buffer.from([first, some.length]), some]);
  test.each([
    ["text", 1003, [frame(some, 0x81)]],
    ["the beginning of a text", 1003, [frame(some, 0x01)]],
    ["no mask", 1002, [unmasked(0x82)]],
    ["a reserved bit: compression was not agreed on", 1002, [frame(some, 0xc2)]],
    ["an unknown data opcode", 1002, [frame(some, 0x83)]],
    ["an unknown control opcode", 1002, [frame(some, 0x8b)]],
    ["a continuation of nothing", 1002, [frame(some, 0x80)]],
    ["a new frame within a fragmented message", 1002, [frame(some, 0x02), frame(some, 0x82)]],
    ["a ping in fragments", 1002, [frame(some, 0x09)]],
    ["a ping of 126 bytes", 1002, [frame(Buffer.alloc(126), 0x89)]],
    ["Close with half a code", 1002, [frame(Buffer.from([3]), 0x88)]],
    ["a length beyond 2^48", 1009, [Buffer.from("82ff0001000000000000" + "00000000", "hex")]],
  ])("%s is answered with %d", (_, code, frames) => {
    expect(faultOf(...frames)).toBe(code);
    expect(faultOf(frame(some), ...frames, frame(some))).toBe(code);
  });

  test("a wrong frame is found at its first two bytes", () => {
    const reader = new FrameReader();
    reader.read(Buffer.from([0x81]));
    expect(reader.fault).toBe(0);
    reader.read(Buffer.from([0x81]));
    expect(reader.fault).toBe(1003);
  });

  test("random frames in random pieces are what went in", () => {
    for (let seed = 1; seed <= 60; seed++) {
      const random = new Random(seed);
      const payloads: Buffer[] = [];
      const frames: Buffer[] = [];
      let isFragmented = false;
      for (let i = 0; i < 30; i++) {
        if (random.below(4) === 0) {
          frames.push(frame(Buffer.alloc(random.below(126), i), random.below(2) === 0 ? 0x89 : 0x8a, [i, 2, 3, 4]));
          continue;
        }
        const payload = Buffer.from(
          Array.from({ length: random.below(random.below(5) === 0 ? 2000 : 140) }, () => random.below(256)),
        );
        const isLast = random.below(2) === 0;
        frames.push(
          frame(payload, (isLast ? 0x80 : 0) | (isFragmented ? 0 : 2), [random.below(256), 0, 9, random.below(256)]),
        );
        isFragmented = !isLast;
        payloads.push(payload);
      }
      const bytes = Buffer.concat(frames);
      const reader = new FrameReader();
      const out: Buffer[] = [];
      for (let at = 0; at < bytes.length;) {
        const size = 1 + random.below(random.below(3) === 0 ? 3 : 500);
        const chunk = Buffer.from(bytes.subarray(at, at + size));
        out.push(Buffer.from(chunk.subarray(0, reader.read(chunk))));
        at += size;
      }
      expect({ seed, fault: reader.fault, bytes: Buffer.concat(out) }).toEqual({
        seed,
        fault: 0,
        bytes: Buffer.concat(payloads),
      });
    }
  });

  test("random bytes never throw, and give no more than came", () => {
    const random = new Random(9);
    for (let i = 0; i < 5000; i++) {
      const reader = new FrameReader();
      for (let n = 0; n < 5; n++) {
        const chunk = Buffer.from(Array.from({ length: random.below(60) }, () => random.below(256)));
        if (chunk.length > 0 && random.below(2) === 0) chunk[0] = 0x82;
        const { length } = chunk;
        expect(reader.read(chunk)).toBeLessThanOrEqual(length);
      }
    }
  });
});

test("what goes out has the shortest head", () => {
  const head = Buffer.alloc(10);
  const hex = (size: number) => head.toString("hex", 0, putFrameHead(head, size));
  expect([0, 125, 126, 65_535, 65_536].map(hex)).toEqual([
    "8200",
    "827d",
    "827e007e",
    "827effff",
    "827f0000000000010000",
  ]);
});
