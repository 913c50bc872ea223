import { describe, expect, test } from "bun:test";
import { equalBytes, grown, hashBytes, isMqttUtf8 } from "#base/bytes.ts";

const isUtf8 = (bytes: Uint8Array): boolean => isMqttUtf8(bytes, 0, bytes.length);

/** What the platform's strict decoder and MQTT's ban of U+0000 say together. */
function isUtf8ByPlatform(bytes: Uint8Array): boolean {
  try {
    return !new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes).includes("\0");
  } catch {
    return false;
  }
}

describe("hashBytes", () => {
  test("depends on content, length and seed, not on where the bytes lie", () => {
    const bytes = Buffer.from("xxsensors/1/temperaturexx");
    const inside = hashBytes(bytes, 2, bytes.length - 2, 7);
    const alone = Buffer.from("sensors/1/temperature");
    expect(inside).toBe(hashBytes(alone, 0, alone.length, 7));
    expect(inside).not.toBe(hashBytes(alone, 0, alone.length, 8));
    expect(inside).not.toBe(hashBytes(alone, 0, alone.length - 1, 7));
    expect(inside | 0).toBe(inside);
  });

  test("a run of zeros hashes by its length", () => {
    const zeros = Buffer.alloc(16);
    const hashes = Array.from({ length: 17 }, (_, length) => hashBytes(zeros, 0, length, 1));
    expect(new Set(hashes).size).toBe(17);
  });

  test("spreads numbered topics over the low bits", () => {
    const buckets = new Uint32Array(64);
    for (let i = 0; i < 6400; i++) {
      const topic = Buffer.from(`site/${i}/value`);
      buckets[hashBytes(topic, 0, topic.length, 99) & 63]!++;
    }
    expect(Math.min(...buckets)).toBeGreaterThan(50);
    expect(Math.max(...buckets)).toBeLessThan(160);
  });
});

test("equalBytes compares ranges", () => {
  const a = Buffer.from("..abc..");
  const b = Buffer.from("abcd");
  expect(equalBytes(a, 2, b, 0, 3)).toBe(true);
  expect(equalBytes(a, 2, b, 0, 4)).toBe(false);
  expect(equalBytes(a, 2, b, 1, 3)).toBe(false);
  expect(equalBytes(a, 2, b, 0, 0)).toBe(true);
});

describe("isMqttUtf8", () => {
  test("every single byte and every pair of bytes, as the platform has it", () => {
    const wrong: string[] = [];
    for (let first = 0; first < 256; first++) {
      if (isUtf8(Uint8Array.of(first)) !== isUtf8ByPlatform(Uint8Array.of(first))) wrong.push(`${first}`);
      for (let second = 0; second < 256; second++) {
        const pair = Uint8Array.of(first, second);
        if (isUtf8(pair) !== isUtf8ByPlatform(pair)) wrong.push(`${first} ${second}`);
      }
    }
    expect(wrong).toEqual([]);
  });

  test("three and four bytes at every border, as the platform has it", () => {
    const borders = [0x00, 0x7f, 0x80, 0x8f, 0x90, 0x9f, 0xa0, 0xbf, 0xc0];
    const wrong: string[] = [];
    for (let first = 0xc0; first < 256; first++)
      for (const b of borders)
        for (const c of borders) {
          for (const d of borders) {
            const four = Uint8Array.of(first, b, c, d);
            if (isUtf8(four) !== isUtf8ByPlatform(four)) wrong.push([...four].join(" "));
          }
          const three = Uint8Array.of(first, b, c);
          if (isUtf8(three) !== isUtf8ByPlatform(three)) wrong.push([...three].join(" "));
        }
    expect(wrong).toEqual([]);
  });

  test("[MQTT-1.5.4-2] U+0000 is refused, also in a long way round", () => {
    expect(isUtf8(Buffer.from("a\0b"))).toBe(false);
    expect(isUtf8(Uint8Array.of(0xc0, 0x80))).toBe(false);
  });

  test("[MQTT-1.5.4-3] U+FEFF is a character like others", () => expect(isUtf8(Buffer.from("\ufeffa"))).toBe(true));

  test("a character cut off by the end of the range is refused though its bytes follow", () => {
    const bytes = Buffer.from("a😀");
    expect(isMqttUtf8(bytes, 0, 5)).toBe(true);
    for (const end of [2, 3, 4]) expect(isMqttUtf8(bytes, 0, end)).toBe(false);
  });
});

test("grown keeps the content, the class and fills the rest", () => {
  const column = Int32Array.of(1, 2);
  expect(grown(column, 4, -1)).toEqual(Int32Array.of(1, 2, -1, -1));
  expect(grown(Uint16Array.of(9), 2)).toEqual(Uint16Array.of(9, 0));
  expect(column).toEqual(Int32Array.of(1, 2));
});
