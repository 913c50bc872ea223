import { describe, expect, test } from "bun:test";
import { createHash } from "node:crypto";
import { FRAME_HEAD_MAX, putFrameHead, WebSocketReader } from "#bench/load/websocket.ts";

function reader() {
  const seen = { payload: [] as number[], sent: [] as string[], faults: [] as string[], openCount: 0 };
  const made = new WebSocketReader({
    handleBytes: (bytes, start, end) => seen.payload.push(...bytes.subarray(start, end)),
    handleOpen: () => seen.openCount++,
    send: (bytes) => seen.sent.push(bytes.toString("hex")),
    fail: (why) => seen.faults.push(why),
  });
  const request = made.request("127.0.0.1", 8083, "/mqtt").toString();
  const key = /Sec-WebSocket-Key: (.*)\r\n/.exec(request)![1]!;
  const accept = createHash("sha1").update(`${key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11`).digest("base64");
  const answer = (protocol = "mqtt", proof = accept): Buffer =>
    Buffer.from(
      `HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: ${proof}\r\n` +
        `Sec-WebSocket-Protocol: ${protocol}\r\n\r\n`,
    );
  return { made, seen, request, answer };
}

const frame = (payload: Buffer, first = 0x82): Buffer => {
  const { length } = payload;
  const head = [first, length < 126 ? length : length < 65_536 ? 126 : 127];
  if (length >= 65_536) head.push(0, 0, 0, 0, length >>> 24, (length >> 16) & 255);
  if (length >= 126) head.push((length >> 8) & 255, length & 255);
  return Buffer.concat([Buffer.from(head), payload]);
};

describe("what comes in", () => {
  test("frames of every length form, cut anywhere, give their payloads", () => {
    const payloads = [0, 1, 125, 126, 300, 65_535, 65_536, 70_000].map((size) => Buffer.alloc(size, size & 255));
    const stream = (answer: Buffer): Buffer => Buffer.concat([answer, ...payloads.map((each) => frame(each))]);
    for (const step of [1, 3, 1000, 1e9]) {
      const { made, seen, answer } = reader();
      const bytes = stream(answer());
      for (let at = 0; at < bytes.length; at += step) made.read(Buffer.from(bytes.subarray(at, at + step)));
      expect([seen.openCount, seen.faults]).toEqual([1, []]);
      expect(Buffer.from(seen.payload).equals(Buffer.concat(payloads))).toBe(true);
    }
  });

  test("a ping is answered, between the parts of a packet too; a close ends it", () => {
    const { made, seen, answer } = reader();
    made.read(answer());
    made.read(
      Buffer.concat([frame(Buffer.from([1, 2])), frame(Buffer.from("hi"), 0x89), frame(Buffer.from([3]), 0x80)]),
    );
    expect(seen.payload).toEqual([1, 2, 3]);
    expect(seen.sent).toEqual(["8a82000000006869"]);
    made.read(frame(Buffer.alloc(0), 0x88));
    expect(seen.faults).toHaveLength(1);
  });

  test("another sub-protocol, a wrong proof or no upgrade is no WebSocket", () => {
    for (const bad of [
      (each: ReturnType<typeof reader>) => each.answer("stomp"),
      (each: ReturnType<typeof reader>) => each.answer("mqtt", "x"),
      () => Buffer.from("HTTP/1.1 404 Not Found\r\n\r\n"),
    ]) {
      const each = reader();
      each.made.read(bad(each));
      expect([each.seen.openCount, each.seen.faults.length]).toEqual([0, 1]);
    }
  });
});

test("what goes out: a head of the shortest form, masked with 0, right before the payload", () => {
  for (const [length, head] of [
    [5, "828500000000"],
    [125, "82fd00000000"],
    [126, "82fe007e00000000"],
    [65_535, "82feffff00000000"],
    [65_536, "82ff000000000001000000000000"],
  ] as const) {
    const bytes = Buffer.alloc(FRAME_HEAD_MAX + length, 0xee);
    const from = putFrameHead(bytes, FRAME_HEAD_MAX, FRAME_HEAD_MAX + length);
    expect(bytes.toString("hex", from, FRAME_HEAD_MAX)).toBe(head);
  }
});
