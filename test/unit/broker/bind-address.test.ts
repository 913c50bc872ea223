import { describe, expect, test } from "bun:test";
import { formatBind, parseBind } from "#broker/bind-address.ts";

describe("bind addresses", () => {
  test.each([
    ["0.0.0.0:1883", "0.0.0.0", 1883],
    ["127.0.0.1:0", "127.0.0.1", 0],
    ["localhost:65535", "localhost", 65_535],
    ["broker-1.example:1883", "broker-1.example", 1883],
    ["[::1]:1883", "::1", 1883],
    ["[::]:1883", "::", 1883],
  ])("%s is read and written back", (text, host, port) => {
    expect(parseBind(text)).toEqual({ host, port });
    expect(formatBind({ host, port })).toBe(text);
  });

  test.each([
    "",
    "1883",
    ":1883",
    "host",
    "host:",
    "host:65536",
    "host:-1",
    "host:1e3",
    "::1:1883",
    "[::1]",
    "[1.2.3.4]:1",
    "999.1.1.1:1",
    "1.2.3:1",
    "a b:1",
    "a/b:1",
    "*:1883",
    "h:1\n",
  ])("%j is none", (text) => expect(parseBind(text)).toBeUndefined());
});
