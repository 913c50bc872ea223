import { describe, expect, test } from "bun:test";
import { formatUnit, parseUnit, unitOf, unitPattern, type Unit } from "#base/unit.ts";

describe("units", () => {
  test.each([
    ["packetBytesMax", "bytes"],
    ["bytesMax", "bytes"],
    ["keepAliveSecMax", "seconds"],
    ["stallSec", "seconds"],
    ["countMax", undefined],
    ["secret", undefined],
    ["sectionCount", undefined],
  ])("the unit of %s is %p", (key, unit) => expect(unitOf(key)).toBe(unit as Unit | undefined));

  test.each([
    ["7B", "bytes", 7],
    ["64KiB", "bytes", 65_536],
    ["1MiB", "bytes", 1_048_576],
    ["1.5 KiB", "bytes", 1536],
    ["1GiB", "bytes", 1_073_741_824],
    ["1TiB", "bytes", 1_099_511_627_776],
    ["10s", "seconds", 10],
    ["5m", "seconds", 300],
    ["2h", "seconds", 7200],
    ["1d", "seconds", 86_400],
  ] as const)("%s in %s is %d", (text, unit, value) => {
    expect(parseUnit(text, unit)).toBe(value);
    expect(text).toMatch(new RegExp(unitPattern(unit)));
  });

  test.each([
    ["1MB", "bytes"],
    ["1mib", "bytes"],
    ["MiB", "bytes"],
    ["-1KiB", "bytes"],
    ["1", "bytes"],
    ["1s", "bytes"],
    ["1KiB ", "bytes"],
    ["1M", "seconds"],
    ["1h30m", "seconds"],
    ["", "seconds"],
  ] as const)("%j in %s is no value", (text, unit) => expect(parseUnit(text, unit)).toBeUndefined());

  test.each([
    [0, "bytes", "0"],
    [1000, "bytes", "1000"],
    [1024, "bytes", "1KiB"],
    [1536, "bytes", "1536"],
    [2_097_152, "bytes", "2MiB"],
    [1024 ** 4, "bytes", "1TiB"],
    [3600, "seconds", "3600"],
  ] as const)("%d in %s is written %s", (value, unit, text) => expect(formatUnit(value, unit)).toBe(text));
});
