// Topics, QoS mixes, source addresses, stamps, /proc: the small parts of the load generator.

import { describe, expect, test } from "bun:test";
import { parseQosMix } from "#bench/load/qos-mix.ts";
import { parseStat, serverProcesses, usageOf } from "#bench/load/server-usage.ts";
import { parseSources } from "#bench/load/source-address.ts";
import { hasStamp, readTime, readUint32, SENDER_AT, TIME_AT, writeStamp, writeTime } from "#bench/load/stamp.ts";
import { expand, filterOver, topicFault } from "#bench/load/topic-template.ts";

describe("topic templates", () => {
  const values = { number: 42, clientId: "c1", username: "ann" };

  test("places are filled in wherever they are, and nothing else is", () => {
    expect(expand("%u/%c/%i/%i", values)).toBe("ann/c1/42/42");
    expect(expand("100%/%d/i", values)).toBe("100%/%d/i");
    expect(expand("%c", { ...values, clientId: "$&%i" })).toBe("$&%i");
  });

  test("the filter over a template matches all that it becomes", () => {
    expect(filterOver("bench/%i")).toBe("bench/#");
    expect(filterOver("a/b%i/c")).toBe("a/#");
    expect(filterOver("%i/a")).toBe("#");
    expect(filterOver("plain/topic")).toBe("plain/topic");
  });

  test("faults", () => {
    for (const good of ["a", "/", "a/+/b", "#", "+/+/#", "$share/g/a"]) expect(topicFault(good, true)).toBeUndefined();
    for (const bad of ["", "a+", "#/a", "a\0b"]) expect(topicFault(bad, true)).toBeDefined();
    expect(topicFault("a/+", false)).toBeDefined();
    expect(topicFault("x".repeat(65_536), false)).toBeDefined();
  });
});

describe("QoS mixes", () => {
  test("one QoS, and a mix with exact shares spread over the cycle", () => {
    expect(parseQosMix("2")).toEqual([2]);
    const cycle = parseQosMix("0:50,1:30,2:20");
    expect(cycle).toHaveLength(10);
    expect([0, 1, 2].map((qos) => cycle.filter((each) => each === qos).length)).toEqual([5, 3, 2]);
    expect(cycle.join("")).not.toContain("000");
    expect(parseQosMix("0,1")).toHaveLength(2);
    expect(parseQosMix("1:1000000")).toEqual([1]);
  });

  test.each(["", "3", "0:", "a", "0:50,", "0:-1", "0:0", "0:1,1:999999"])("%j is refused", (text) => {
    expect(() => parseQosMix(text)).toThrow(RangeError);
  });
});

describe("source addresses", () => {
  test("single ones, ranges over a byte's end, networks without their ends", () => {
    expect(parseSources("127.0.0.2, 127.0.3.4")).toEqual(["127.0.0.2", "127.0.3.4"]);
    expect(parseSources("127.0.1.254-127.0.2.1")).toEqual(["127.0.1.254", "127.0.1.255", "127.0.2.0", "127.0.2.1"]);
    expect(parseSources("127.0.8.0/30")).toEqual(["127.0.8.1", "127.0.8.2"]);
    expect(parseSources("127.0.8.5/32")).toEqual(["127.0.8.5"]);
    expect(parseSources("127.0.8.77/24")).toHaveLength(254);
    expect(parseSources("255.255.255.255")).toEqual(["255.255.255.255"]);
  });

  test.each([
    "",
    "127.0.0.2,",
    "127.0.0",
    "127.0.0.256",
    "127.0.0.1.2",
    "localhost",
    "127.0.0.9-127.0.0.2",
    "127.0.0.1-2",
    "127.0.0.1-127.0.0.2-127.0.0.3",
    "127.0.0.0/33",
    "127.0.0.0/7",
    "127.0.0.0/",
    "127.0.0.0/24/1",
    "127.0.0.0/8",
    "::1",
  ])("%j is refused", (list) => {
    expect(() => parseSources(list)).toThrow(RangeError);
  });
});

test("a stamp keeps run, sender and times above 2³² ns", () => {
  const bytes = Buffer.alloc(40, 0xff);
  writeStamp(bytes, 8, 0xfedc_ba98, 0x8000_0003);
  writeTime(bytes, 8 + TIME_AT, 123_456_789_012_345);
  expect(hasStamp(bytes, 8, 40)).toBe(true);
  expect(hasStamp(bytes, 8, 31)).toBe(false);
  expect(hasStamp(bytes, 7, 40)).toBe(false);
  expect(readUint32(bytes, 12)).toBe(0xfedc_ba98);
  expect(readUint32(bytes, 8 + SENDER_AT)).toBe(0x8000_0003);
  expect(readTime(bytes, 8 + TIME_AT)).toBe(123_456_789_012_345);
});

describe("server usage", () => {
  test("a process whose name has spaces and parentheses", () => {
    const stat = "77 (a) b (c) S 12 77 77 0 -1 4194560 1 2 3 4 250 50 0 0 20 0 1 0 123 8192 100 184467 1";
    expect(parseStat(stat)).toEqual({ parent: 12, cpuSec: 3, rssBytes: 409_600 });
  });

  test("counts a process and its children, and refuses one that is not there", () => {
    const child = Bun.spawn(["sleep", "5"]);
    expect(serverProcesses(process.pid)).toContain(child.pid);
    expect(usageOf([process.pid]).rssBytes).toBeGreaterThan(1e6);
    child.kill();
    expect(() => serverProcesses(2 ** 30)).toThrow("no such process");
  });
});
