import { expect, test } from "bun:test";
import fc from "fast-check";
import { viewOfCopy } from "#core/hook-message.ts";
import { NEVER } from "#core/message.ts";
import { decodeEvent, encodeEvent } from "#modules/event.ts";
import { decodeMessage, encodeMessage } from "#modules/message-bytes.ts";
import { check } from "#test/support/fuzz.ts";
import { rounds } from "#test/support/level.ts";
import { TestBroker } from "#test/support/test-broker.ts";

const bytes = fc.uint8Array({ maxLength: 300 }).map((array) => Buffer.from(array));
const message = fc.record({
  topic: fc.string({ unit: "grapheme", minLength: 1, maxLength: 50 }),
  payload: bytes,
  qos: fc.constantFrom(0 as const, 1 as const, 2 as const),
  isRetain: fc.boolean(),
  properties: bytes,
  expiryStart: fc.integer({ min: -1, max: 100 }),
  publisher: fc.option(fc.string(), { nil: undefined }),
});

test("a message comes back from disk as it was, and a cut one as none", () => {
  const property = fc.property(message, fc.nat(400), (given, cut) => {
    const body = encodeMessage(given);
    expect(decodeMessage(body)).toEqual(given);
    const headBytes = 4 + Buffer.from(body).readUInt32LE(0);
    if (cut < headBytes) expect(decodeMessage(body.subarray(0, cut))).toBeUndefined();
  });
  check(property, rounds(100, 1000, 10_000));
});

test("an event comes back from disk as it was, and what is none as none", () => {
  const text = fc.option(fc.string({ unit: "grapheme" }), { nil: undefined });
  const event = fc.record({
    id: fc.string({ minLength: 1 }),
    event: fc.constantFrom("message.publish" as const, "client.connected" as const),
    ts: fc.nat(),
    clientid: text,
    topic: text,
    qos: fc.option(fc.nat(2), { nil: undefined }),
    retain: fc.option(fc.boolean(), { nil: undefined }),
    payload: fc.option(bytes, { nil: undefined }),
  });
  check(
    fc.property(event, (given) => expect(decodeEvent(encodeEvent(given))).toEqual(given)),
    rounds(100, 1000, 10_000),
  );
  for (const wrong of ["", "{}", "[1", "null"]) expect(decodeEvent(Buffer.from(wrong))).toBeUndefined();
});

test("what is published again has its properties, its expiry from now on, and its publisher where that is known", () => {
  const { engine } = new TestBroker();
  const properties = Buffer.from([0x01, 1, 0x02, 0, 0, 0, 60]);
  const copy = { topic: "a/ü", payload: Buffer.from("x"), qos: 1, isRetain: true, properties, expiryStart: 3 } as const;
  const view = viewOfCopy({ ...copy, publisher: "nobody" }, engine.sessions, 1000);
  expect([view.topicText(), String(view.payload()), view.qos, view.isRetain, view.isV5]).toEqual([
    "a/ü",
    "x",
    1,
    true,
    true,
  ]);
  expect([view.expiryAtSec, view.publisher, view.publisherKey]).toEqual([1060, -1, 0]);
  expect(view.bytes.subarray(view.propertiesStart, view.propertiesEnd)).toEqual(properties);
  expect(view.bytes.readUInt32BE(view.expiryStart)).toBe(60);
  const plain = viewOfCopy(
    { ...copy, properties: Buffer.alloc(0), expiryStart: -1, publisher: undefined },
    engine.sessions,
    1000,
  );
  expect([plain.expiryAtSec, plain.isV5]).toEqual([NEVER, false]);
});
