import { describe, expect, test } from "bun:test";
import { BlockPool } from "#base/block-pool.ts";
import { MessagePool, MessageView, NEVER } from "#core/message.ts";
import { decodePublish } from "#mqtt/codec/publish.ts";
import { encodePacket } from "#test/support/packets.ts";
import { viewOf } from "#test/support/test-broker.ts";

function loaded(pool: MessagePool, message: number): MessageView {
  const view = new MessageView();
  view.publisher = 3;
  view.slot = 5;
  pool.load(message, view);
  return view;
}

test("a message without frame is kept as a copy", () => {
  const messages = new MessagePool(new BlockPool(), 1e6);
  const view = viewOf("a/b", "body", { qos: 2, isRetain: true, expiryAtSec: 99 });
  const message = messages.keep(view);
  view.bytes.fill(0);
  const back = loaded(messages, message);
  expect([back.topicText(), back.payload().toString()]).toEqual(["a/b", "body"]);
  expect([back.qos, back.isRetain, back.expiryAtSec, back.isV5, back.frameStart]).toEqual([2, true, 99, false, -1]);
  expect([back.publisher, back.slot, back.expiryStart]).toEqual([-1, -1, -1]);
  expect([messages.bytesOf(message), messages.qosOf(message)]).toEqual([7, 2]);
});

test("a received frame is kept whole, with the places of its parts", () => {
  const messages = new MessagePool(new BlockPool(), 1e6);
  const frame = encodePacket(
    {
      type: "publish",
      qos: 1,
      topic: "t",
      packetId: 7,
      properties: [
        ["contentType", "x"],
        ["messageExpiryIntervalSec", 60],
      ],
      payload: "p",
    },
    5,
  );
  const chunk = Buffer.concat([Buffer.from("...."), frame, Buffer.from("....")]);
  const view = new MessageView();
  expect(decodePublish(chunk, 4, 6, 4 + frame.length, true, view)).toBe(0);
  const back = loaded(messages, messages.keep(view));
  expect(back.bytes.subarray(back.frameStart, back.payloadEnd).equals(frame)).toBe(true);
  expect([back.topicText(), back.payload().toString(), back.isV5]).toEqual(["t", "p", true]);
  expect(back.bytes.readUInt16BE(back.packetIdStart)).toBe(7);
  expect(back.bytes.readUInt32BE(back.expiryStart)).toBe(60);
  expect(back.propertiesEnd - back.propertiesStart).toBe(9);
});

describe("references", () => {
  test("the last one frees the body and the number", () => {
    const pool = new BlockPool();
    const messages = new MessagePool(pool, 1e6);
    const first = messages.keep(viewOf("t", "first"));
    messages.addReference(first);
    messages.release(first);
    expect([messages.count, loaded(messages, first).payload().toString()]).toEqual([1, "first"]);
    messages.release(first);
    expect([messages.count, pool.usedBytes]).toEqual([0, 0]);
    expect(messages.keep(viewOf("t", "second"))).toBe(first);
    expect(loaded(messages, first).expiryAtSec).toBe(NEVER);
  });

  test("thousands of messages keep their own columns", () => {
    const messages = new MessagePool(new BlockPool(), 1e7);
    const all = Array.from({ length: 2000 }, (_, i) => messages.keep(viewOf(`t/${i}`, `${i}`, { qos: i % 3 })));
    const wrong = all.filter((message, i) => {
      const view = loaded(messages, message);
      return view.topicText() !== `t/${i}` || view.payload().toString() !== `${i}` || view.qos !== i % 3;
    });
    expect(wrong).toEqual([]);
  });
});

test("beyond its bytes nothing more is kept, until some are released", () => {
  const messages = new MessagePool(new BlockPool(), 1000);
  const first = messages.keep(viewOf("t", "x".repeat(600)));
  expect(messages.keep(viewOf("t", "x".repeat(600)))).toBe(-1);
  messages.release(first);
  expect(messages.keep(viewOf("t", "x".repeat(600)))).toBe(first);
});

test("tens of thousands of messages keep what is theirs while they come and go", () => {
  const messages = new MessagePool(new BlockPool(), 1e9);
  const kept = new Map<number, string>();
  for (let i = 0; i < 20_000; i++) {
    const message = messages.keep(viewOf(`t/${i}`, `body ${i}`, { qos: 1, expiryAtSec: 0xffff_0000 + (i % 60_000) }));
    messages.setBodyNumber(message, 2 ** 40 + i);
    kept.set(message, `${i}`);
    if (i % 3 !== 0) continue;
    const [oldest] = kept.keys();
    messages.release(oldest!);
    kept.delete(oldest!);
  }
  expect(messages.count).toBe(kept.size);
  for (const [message, number] of kept) {
    const view = loaded(messages, message);
    expect([view.topicText(), view.payload().toString()]).toEqual([`t/${number}`, `body ${number}`]);
    expect([view.expiryAtSec, messages.expiryOf(message)]).toEqual(
      Array(2).fill(0xffff_0000 + (Number(number) % 60_000)),
    );
    expect(messages.bodyNumberOf(message)).toBe(2 ** 40 + Number(number));
    messages.release(message);
  }
  expect([messages.count, messages.bodyBytes]).toEqual([0, 0]);
});
