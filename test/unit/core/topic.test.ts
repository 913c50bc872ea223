import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { isCovered, isShared, isTopicFilter, isTopicName, parseShared } from "#core/topic.ts";

const limits = { topicBytesMax: 20, topicLevelsMax: 5 };
const isName = (text: string): boolean => isTopicName(Buffer.from(text), 0, Buffer.byteLength(text), limits);
const isFilter = (text: string): boolean => isTopicFilter(Buffer.from(text), 0, Buffer.byteLength(text), limits);

test.each(["a", "/", "//", "a/", "/a", " ", "$SYS", "a b/c", "ä/€/😀", "12345678901234567890", "a/b/c/d/e"])(
  "%j is a topic name and a filter",
  (text) => expect([isName(text), isFilter(text)]).toEqual([true, true]),
);

test.each(["", "a\0", "\0", "123456789012345678901", "a/b/c/d/e/f"])("%j is neither", (text) =>
  expect([isName(text), isFilter(text)]).toEqual([false, false]),
);

test.each(["#", "+", "+/+", "/+", "+/", "a/#", "/#", "+/#", "a/+/b", "$SYS/#", "a/+/#"])(
  "%j is a filter only",
  (text) => expect([isName(text), isFilter(text)]).toEqual([false, true]),
);

test.each(["##", "#/a", "a#", "a/#/b", "a/b#", "#+", "+a", "a+", "a/+b", "a/b+/c", "++", "+#"])(
  "[MQTT-4.7.1-1] [MQTT-4.7.1-2] %j is no filter",
  (text) => expect([isName(text), isFilter(text)]).toEqual([false, false]),
);

test("bytes that are not UTF-8, and a range inside other bytes", () => {
  const bytes = Uint8Array.of(0x61, 0xc3, 0x28);
  expect(isTopicName(Buffer.from(bytes), 0, 3, limits)).toBe(false);
  expect(isTopicName(Buffer.from(bytes), 0, 1, limits)).toBe(true);
  expect(isTopicFilter(Buffer.from("#a/+#"), 1, 4, limits)).toBe(true);
});

describe("shared filters", () => {
  const parts = (text: string): string[] | undefined => {
    const shared = parseShared(Buffer.from(text));
    return shared && [shared.share.toString(), shared.filter.toString()];
  };

  test.each([
    ["$share/g/a/b", ["g", "a/b"]],
    ["$share/g/#", ["g", "#"]],
    ["$share/g//", ["g", "/"]],
    ["$share/g/", ["g", ""]],
    ["$queue/a", ["$queue", "a"]],
    ["$queue/", ["$queue", ""]],
  ])("%j", (text, expected) => {
    expect(isShared(Buffer.from(text))).toBe(true);
    expect(parts(text)).toEqual(expected);
  });

  test.each(["$share", "$share/", "$share/g", "$share//a", "$share/+/a", "$share/g#/a"])("%j is malformed", (text) => {
    expect(isShared(Buffer.from(text))).toBe(true);
    expect(parts(text)).toBeUndefined();
  });

  test.each(["$shared/g/a", "$queue", "share/g/a", "/$share/g/a", "$SHARE/g/a", "$"])(
    "%j is an ordinary filter",
    (text) => expect(isShared(Buffer.from(text))).toBe(false),
  );
});

describe("a filter covers a topic", () => {
  /** By the words of the specification, level by level. */
  function covers(filter: readonly string[], topic: readonly string[]): boolean {
    if (filter[0] === "#") return true;
    if (filter.length === 0 || topic.length === 0) return filter.length === topic.length;
    return (filter[0] === "+" || filter[0] === topic[0]) && covers(filter.slice(1), topic.slice(1));
  }

  const level = fc.constantFrom("a", "ab", "", "$x");
  const levels = fc.array(level, { minLength: 1, maxLength: 4 }).filter((all) => all.join("/") !== "");
  const filters = fc
    .tuple(fc.array(fc.oneof(level, fc.constant("+")), { maxLength: 4 }), fc.boolean())
    .map(([all, isOpen]) => (isOpen || all.join("/") === "" ? [...all, "#"] : all));

  test("as the specification says, whatever they are", () => {
    fc.assert(
      fc.property(filters, levels, (filter, topic) => {
        const isHidden = topic[0]!.startsWith("$") && /^[+#]/.test(filter[0]!); // [MQTT-4.7.2-1]
        const bytes = Buffer.from(`xx${topic.join("/")}yy`);
        const isFound = isCovered(Buffer.from(filter.join("/")), bytes, 2, bytes.length - 2);
        expect(isFound).toBe(!isHidden && covers(filter, topic));
      }),
      { numRuns: 2000 },
    );
  });
});
